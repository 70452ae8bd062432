"""Fingerprints of datasets that were never measured."""

from __future__ import annotations

from collections.abc import Sequence

from delineate.fingerprint import CaseFingerprint, Fingerprint, Intensities
from delineate.geometry import Triple, TripleMM
from delineate.volume import Kind

POOLED = Intensities(
    mean=90.0,
    std=40.0,
    percentile_00_5=-50.0,
    median=95.0,
    percentile_99_5=210.0,
    minimum=-900.0,
    maximum=1500.0,
)


def fingerprint(
    kind: Kind = Kind.MR,
    *,
    shape: Triple = (36, 51, 36),
    spacing_mm: TripleMM = (1.0, 1.0, 1.0),
    pairs: tuple[tuple[str, str], ...] = (),
    peaks: tuple[float, ...] = (),
) -> Fingerprint:
    """Two equal scans of two structures."""
    return fingerprint_of([spacing_mm] * 2, kinds=(kind,), shape=shape, pairs=pairs, peaks=peaks)


def fingerprint_of(
    spacings: Sequence[TripleMM],
    *,
    kinds: tuple[Kind, ...] = (Kind.MR,),
    shape: Triple = (36, 51, 36),
    pairs: tuple[tuple[str, str], ...] = (),
    peaks: tuple[float, ...] = (),
) -> Fingerprint:
    """A scan for each spacing, with a channel for each kind."""
    cases = [
        CaseFingerprint(
            id=f"case {n}",
            shape=shape,
            spacing_mm=spacing,
            foreground_shape=shape,
            label_voxels=(9000, 5000),
            peaks=peaks,
        )
        for n, spacing in enumerate(spacings)
    ]
    return Fingerprint(
        dataset="d",
        channels=tuple(kind.value for kind in kinds),
        kinds=kinds,
        labels=("left_kidney", "right_kidney") if pairs else ("core", "rim"),
        pairs=pairs,
        intensities=(POOLED,) * len(kinds),
        cases=tuple(cases),
    )
