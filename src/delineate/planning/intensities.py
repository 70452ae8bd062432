"""How each channel's intensities are brought to the range a network expects."""

from __future__ import annotations

import msgspec

from delineate.fingerprint import Fingerprint, Intensities
from delineate.planning.options import PlanOptions
from delineate.planning.plan import ClipZScore, Normalisation, Window, ZScore
from delineate.volume import Kind

WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
    "lung": (-1350.0, 150.0),
    "mediastinum": (-125.0, 225.0),
}
"""Radiologists' usual windows of CT, lowest and highest HU."""

_MOST_SUV = 200.0  # more is an activity that nobody divided by dose and weight
_LEAST_SUV = 5.0  # below which not even a faint lesion is clipped
_EXTREME = 20.0  # times as far from the median as 99.9 % of a scan lie: metal, a wrong voxel; vessels come to 6
_CLIPPED = 99.9  # per cent of a scan stay as they are


def choose_normalisation(
    fingerprint: Fingerprint, options: PlanOptions, reasons: list[str]
) -> tuple[Normalisation, ...]:
    """One a channel, by its kind. A window that a person chose is for CT, or for all channels where none is CT."""
    windowed = {Kind.CT} if Kind.CT in fingerprint.kinds else set(fingerprint.kinds)
    found: list[Normalisation] = []
    for n, (name, kind) in enumerate(zip(fingerprint.channels, fingerprint.kinds, strict=True)):
        if options.window is not None and kind in windowed:
            low, high, to_low, to_high = options.window
            found.append(Window(lower=low, upper=high, to_lower=to_low, to_upper=to_high))
            continue
        how, why = _by_kind(n, kind, fingerprint)
        found.append(how)
        reasons.append(f"normalisation of {name}: {why}")
    return tuple(found)


def _by_kind(n: int, kind: Kind, fingerprint: Fingerprint) -> tuple[Normalisation, str]:
    pooled = fingerprint.intensities[n]
    if kind is Kind.CT:
        return _clip_zscore(pooled), "CT numbers mean the same in every scan: clipped to what the structures have"
    if kind is Kind.PET and 0 < pooled.percentile_99_5 < _MOST_SUV:
        clipped = _clip_zscore(pooled)
        suv = msgspec.structs.replace(clipped, lower=0.0, upper=max(clipped.upper, _LEAST_SUV))
        return suv, "uptake (SUV) means the same in every scan: clipped to what the structures have"
    extreme = sum(case.peaks[n] > _EXTREME for case in fingerprint.cases if case.peaks)
    if extreme:
        count = f"{extreme} of {len(fingerprint.cases)} scans have"
        return ZScore(upper_percentile=_CLIPPED), f"each scan's own scale; {count} few voxels far above all others"
    return ZScore(), "each scan's own scale: the same tissue measures something else in the next scan"


def _clip_zscore(pooled: Intensities) -> ClipZScore:
    return ClipZScore(
        lower=round(pooled.percentile_00_5, 2),
        upper=round(max(pooled.percentile_99_5, pooled.percentile_00_5 + 1), 2),
        mean=round(pooled.mean, 4),
        std=round(max(pooled.std, 1e-3), 4),
    )
