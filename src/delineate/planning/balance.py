"""How often rare structures are drawn, and where in a patch tiny ones lie."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.fingerprint import CaseFingerprint, Fingerprint
from delineate.geometry import Triple, TripleMM
from delineate.planning.options import PlanOptions
from delineate.planning.plan import TrainingPlan

RARE = 0.8  # of the cases have a structure that is rarer than others
TINY = 1e-3  # of a patch is a structure that a turn or a shift may lose


def balance_training(
    training: TrainingPlan,
    fingerprint: Fingerprint,
    patch: Triple,
    spacing_mm: TripleMM,
    *,
    options: PlanOptions,
    reasons: list[str],
) -> TrainingPlan:
    """The same training with a choice of `balance` and `off_centre`; a reason for each that is made."""
    balance = _choose_balance(fingerprint, options, reasons) if options.balance is None else options.balance
    off_centre = options.off_centre
    if off_centre is None:
        off_centre = _choose_off_centre(fingerprint, patch, spacing_mm, reasons)
    return msgspec.structs.replace(training, balance=balance, off_centre=off_centre)


def _choose_balance(fingerprint: Fingerprint, options: PlanOptions, reasons: list[str]) -> float:
    """Half way where a rare structure is absent from the other patients, because a network that sees it too often finds
    it where it is not; all the way where it was merely not drawn in the others."""
    name, share = _rarest(fingerprint)
    if share >= RARE:
        return 0.0
    unknown = options.missing_labels == "unknown"
    reasons.append(
        f"balance: {name} is in {100 * share:.0f} % of the cases: patches show each structure "
        + ("equally often" if unknown else "more evenly often than cases have it")
    )
    return 1.0 if unknown else 0.5


def _choose_off_centre(fingerprint: Fingerprint, patch: Triple, spacing_mm: TripleMM, reasons: list[str]) -> float:
    name, volume_mm3 = _smallest(fingerprint)
    if volume_mm3 >= TINY * math.prod(patch) * math.prod(spacing_mm):
        return 0.0
    reasons.append(
        f"off centre: {name} ({volume_mm3 / 1000:.2g} ml) is less than {TINY:.1%} of a patch, so patches show it "
        "anywhere in their middle half and never lose it"
    )
    return 0.5


def _rarest(fingerprint: Fingerprint) -> tuple[str, float]:
    """A structure that some case has, and the share of the cases that have it; 1 if there is none."""
    has = _voxels(fingerprint) > 0
    shares = [(float(share), name) for name, share in zip(fingerprint.labels, has.mean(axis=0), strict=True) if share]
    share, name = min(shares, default=(1.0, ""))
    return name, share


def _smallest(fingerprint: Fingerprint) -> tuple[str, float]:
    """A structure, and its median volume where there is any of it; infinite if there is none."""
    sizes = _voxels(fingerprint) * np.array([math.prod(case.spacing_mm) for case in _drawn(fingerprint)])[:, None]
    volumes = [
        (float(np.median(column[column > 0])), name)
        for name, column in zip(fingerprint.labels, sizes.T, strict=True)
        if column.any()
    ]
    volume, name = min(volumes, default=(math.inf, ""))
    return name, volume


def _drawn(fingerprint: Fingerprint) -> list[CaseFingerprint]:
    return [case for case in fingerprint.cases if case.label_voxels]


def _voxels(fingerprint: Fingerprint) -> npt.NDArray[np.float64]:
    """(cases with a reference, labels)."""
    rows = [case.label_voxels for case in _drawn(fingerprint)]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), len(fingerprint.labels))
