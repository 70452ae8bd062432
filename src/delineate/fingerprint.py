"""What a dataset looks like: shapes, spacings, intensities, label sizes. Numbers only, no voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.dataset import channel_kind
from delineate.errors import DatasetError
from delineate.geometry import Triple, TripleMM, foreground_box
from delineate.labels import Region
from delineate.volume import Array, Kind, Segmentation, Volume, align, reorient

FOREGROUND_ABOVE = {Kind.CT: -400.0, Kind.MR: 0.0, Kind.PET: 0.0, Kind.OTHER: 0.0}
"""Voxels above this are patient rather than air: CT in HU between fat and lung; others, not zero."""

_SPREAD = 200_000  # voxels of a scan, evenly spread, are enough for its percentiles
_NEARLY_ALL = 99.9  # per cent
SAMPLES = 5000  # intensities drawn from a case: enough for percentiles pooled over a dataset


class Intensities(msgspec.Struct, frozen=True, kw_only=True):
    """One channel's values inside the labelled structures, pooled over all cases."""

    mean: float
    std: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    minimum: float
    maximum: float


class CaseFingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """One case, its array axes turned to RAS. `label_voxels` is in the order of the dataset's labels.

    `peaks`: of each channel, how many times as far from the median its highest voxel lies as nearly all others do, and
    as nearly all of the structures do; empty if nobody measured it.
    """

    id: str
    shape: Triple
    spacing_mm: TripleMM
    foreground_shape: Triple
    label_voxels: tuple[int, ...]
    peaks: tuple[float, ...] = ()


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is made from. `pairs`: (left, right) names of structures that both sides have.

    `regions`: where structures overlap, what each consists of, in the order in which they are painted.
    """

    dataset: str
    channels: tuple[str, ...]
    kinds: tuple[Kind, ...]
    labels: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    intensities: tuple[Intensities, ...]
    cases: tuple[CaseFingerprint, ...]
    regions: tuple[Region, ...] = ()

    @property
    def median_spacing_mm(self) -> TripleMM:
        return _median([case.spacing_mm for case in self.cases])

    @property
    def median_extent_mm(self) -> TripleMM:
        """Median size of the patient's part of a scan."""
        return _median(
            [tuple(n * s for n, s in zip(c.foreground_shape, c.spacing_mm, strict=True)) for c in self.cases]
        )


@dataclass(frozen=True, slots=True)
class CaseMeasurements:
    """A case's fingerprint and `samples` (C, n) of its intensities inside the structures."""

    fingerprint: CaseFingerprint
    samples: npt.NDArray[np.float32]


def measure_case(
    case_id: str, image: Volume, reference: Segmentation | None, kinds: Sequence[Kind]
) -> CaseMeasurements:
    """Measure one case. Without structures the whole foreground gives the intensities.

    Raises `GeometryMismatch` if the reference does not lie on the image.
    """
    turned = reorient(image, "RAS")
    recorded = [n for n in range(turned.channels) if n not in turned.absent]
    present = foreground_mask(turned.array[recorded] if turned.absent else turned.array, [kinds[n] for n in recorded])
    box = foreground_box(present)
    labelled = None if reference is None else align(reference, turned.grid).array
    if labelled is not None and labelled.ndim == 4:
        labelled = np.asarray(labelled.any(axis=0))
    inside = present if labelled is None or not labelled.any() else labelled > 0
    samples = _sampled(turned, inside)
    return CaseMeasurements(
        CaseFingerprint(
            id=case_id,
            shape=turned.grid.shape,
            spacing_mm=turned.grid.spacing_mm,
            foreground_shape=turned.grid.shape if box is None else box.shape,
            label_voxels=() if reference is None else _label_voxels(reference),
            peaks=tuple(_peak(*pair) for pair in zip(turned.array, samples, strict=True)),
        ),
        samples,
    )


def _peak(channel: Array, inside: npt.NDArray[np.float32]) -> float:
    """How far the highest voxel of (I, J, K) is from the median, where 1 is as far as nearly all of the channel and
    nearly all of the structures are; 1 for a channel that is constant or was not recorded."""
    step = max(1, math.ceil((channel.size / _SPREAD) ** (1 / 3)))
    spread = np.asarray(channel[::step, ::step, ::step], dtype=np.float64)
    median, most = np.percentile(spread, [50, _NEARLY_ALL])
    most = np.nanmax([most, np.nanpercentile(inside, _NEARLY_ALL) if np.isfinite(inside).any() else most])
    highest = float(channel.max())
    usual = float(most - median)
    return (highest - float(median)) / usual if np.isfinite(usual) and usual > 0 else 1.0


def _sampled(image: Volume, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Of a channel that was not recorded NaN, which is not pooled."""
    samples = _sample(image.array, mask)
    samples[list(image.absent)] = np.nan
    return samples


def foreground_mask(array: Array, kinds: Sequence[Kind]) -> npt.NDArray[np.bool_]:
    """(I, J, K) of a (C, I, J, K) array: where any channel is above what air or background measures."""
    mask = np.zeros(array.shape[1:], dtype=bool)
    for channel, kind in zip(array, kinds, strict=True):
        mask |= channel > FOREGROUND_ABOVE[kind]
    return mask


def summarise(
    dataset: str,
    measurements: Sequence[CaseMeasurements],
    *,
    channels: Sequence[str],
    labels: Sequence[str],
    pairs: Sequence[tuple[str, str]] = (),
    regions: Sequence[Region] = (),
) -> Fingerprint:
    """Pool the cases of a dataset. Raises `DatasetError` if there are none."""
    if not measurements:
        raise DatasetError("no case to learn from", remedy="Check the dataset with `delineate check`.")
    return Fingerprint(
        dataset=dataset,
        channels=tuple(channels),
        kinds=tuple(channel_kind(name) for name in channels),
        labels=tuple(labels),
        pairs=tuple(pairs),
        intensities=tuple(
            _pool(np.concatenate([m.samples[c] for m in measurements])) for c in range(len(tuple(channels)))
        ),
        cases=tuple(m.fingerprint for m in measurements),
        regions=tuple(regions),
    )


def _label_voxels(reference: Segmentation) -> tuple[int, ...]:
    if reference.labels.overlaps:
        return tuple(int(mask.sum()) for mask in reference.array)
    counts = np.bincount(reference.array.ravel(order="K"), minlength=max(reference.labels.values, default=0) + 1)
    return tuple(int(counts[value]) for value in reference.labels.values)


def _sample(array: Array, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    where = np.flatnonzero(mask)
    if where.size == 0:
        where = np.arange(mask.size)
    # Evenly spread and without chance, so that a plan does not depend on a seed.
    where = where[np.linspace(0, where.size - 1, min(SAMPLES, where.size)).astype(np.int64)]
    # By index: to reshape an array whose axes lie in another order would copy all of it.
    i, j, k = np.unravel_index(where, array.shape[1:])
    return array[:, i, j, k].astype(np.float32)


def _pool(values: npt.NDArray[np.float32]) -> Intensities:
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        raise DatasetError("no finite intensity in any case", remedy="Check the dataset with `delineate check`.")
    low, median, high = np.percentile(finite, [0.5, 50, 99.5])
    return Intensities(
        mean=float(finite.mean()),
        std=float(finite.std()),
        percentile_00_5=float(low),
        median=float(median),
        percentile_99_5=float(high),
        minimum=float(finite.min()),
        maximum=float(finite.max()),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all are not above, between two of them interpolated."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), percent))


def _median(rows: Sequence[Sequence[float]]) -> TripleMM:
    i, j, k = np.median(np.asarray(rows, dtype=np.float64), axis=0)
    return float(i), float(j), float(k)
