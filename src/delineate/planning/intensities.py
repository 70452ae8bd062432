"""How each channel's intensities are brought to the range a network expects."""

from __future__ import annotations

from delineate.fingerprint import Fingerprint, Intensities
from delineate.planning.options import PlanOptions
from delineate.planning.plan import ClipZScore, Normalisation, Window, ZScore
from delineate.volume import Kind


def choose_normalisation(fingerprint: Fingerprint, options: PlanOptions) -> tuple[Normalisation, ...]:
    """One a channel."""
    if options.window is not None:
        low, high, to_low, to_high = options.window
        return (Window(lower=low, upper=high, to_lower=to_low, to_upper=to_high),) * len(fingerprint.channels)
    pairs = zip(fingerprint.kinds, fingerprint.intensities, strict=True)
    return tuple(_clip_zscore(pooled) if kind is Kind.CT else ZScore() for kind, pooled in pairs)


def _clip_zscore(pooled: Intensities) -> ClipZScore:
    return ClipZScore(
        lower=round(pooled.percentile_00_5, 2),
        upper=round(max(pooled.percentile_99_5, pooled.percentile_00_5 + 1), 2),
        mean=round(pooled.mean, 4),
        std=round(max(pooled.std, 1e-3), 4),
    )
