"""Several models on the same cases: lined up case by case, so that what one of them lacks counts against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError, LabelError
from delineate.evaluation.cases import LESION_FIGURES, CaseScores, counted
from delineate.metrics import Status, StructureScores
from delineate.metrics.definitions import METRICS, Better, Metric, Miss
from delineate.metrics.tubes import TUBE_METRICS

Table = npt.NDArray[np.float64]

COMPARED: tuple[Metric, ...] = tuple(
    metric
    for metric in (*METRICS, *TUBE_METRICS, *LESION_FIGURES)
    # Of a prediction of nothing, lesions have no precision.
    if metric.better is not Better.NEITHER and metric.name != "lesion_precision"
)
"""The figures by which models can be compared."""
MAIN: tuple[Metric, ...] = tuple(
    metric for metric in COMPARED if metric.name in ("dice", "surface_dice", "hd95_mm", "cldice", "lesion_f1")
)
"""Those by which they are unless others are asked for: with each one more, more differ by chance."""

_NOT_GIVEN = "not given"


@dataclass(frozen=True, slots=True)
class Rivals:
    """The cases of two or more models by the models' names, in one order. `lacking`: ids of those a model was not
    given with, which count as failures of it."""

    models: Mapping[str, tuple[CaseScores, ...]]
    lacking: Mapping[str, tuple[str, ...]]

    @property
    def structures(self) -> tuple[str, ...]:
        return tuple(next(iter(self.models.values()))[0].scores)

    @property
    def patients(self) -> tuple[str, ...]:
        """Of each case."""
        return tuple(case.patient_id for case in next(iter(self.models.values())))

    @property
    def failures(self) -> Mapping[str, int]:
        """How many cases of each model have no usable prediction, those it was not given with among them."""
        return {name: sum(bool(case.failed) for case in cases) for name, cases in self.models.items()}

    def only(self, *names: str) -> Rivals:
        """Some of them, on the same cases."""
        return Rivals({name: self.models[name] for name in names}, {name: self.lacking[name] for name in names})


def line_up(models: Mapping[str, Sequence[CaseScores]]) -> Rivals:
    """The models' cases in one order. A case that only some have counts as a failure of the others.

    Raises `InputError` for fewer than two models, no cases, one that is given twice, or one whose patient or scan
    differs from model to model; `LabelError` if structures or tolerances differ.
    """
    if len(models) < 2 or not any(models.values()):
        raise InputError("a comparison is between models", expected="two or more, and their cases", got=list(models))
    by_id = {name: {case.case_id: case for case in cases} for name, cases in models.items()}
    for name, cases in models.items():
        if len(by_id[name]) < len(cases):
            raise InputError(f"{name} has a case twice", got=sorted(case.case_id for case in cases))
    order = dict.fromkeys(case_id for cases in by_id.values() for case_id in cases)
    witnesses = {case_id: next(found[case_id] for found in by_id.values() if case_id in found) for case_id in order}
    _check(by_id, witnesses)
    lined = {
        name: tuple(found.get(case_id) or _failure(witnesses[case_id]) for case_id in order)
        for name, found in by_id.items()
    }
    return Rivals(lined, {name: tuple(c for c in order if c not in found) for name, found in by_id.items()})


def value_table(rivals: Rivals, metric: Metric) -> Table:
    """What counts of each model, case and structure: (models, cases, structures).

    As `counted` says, and where the reference has nothing but one of the models found something, the others are right:
    they count as perfect (1, or 0 mm). NaN where there was nothing to find for any, or the figure was not asked for.
    """
    names = rivals.structures
    values = np.array(
        [[[_value(case, name, metric) for name in names] for case in cases] for cases in rivals.models.values()]
    )
    undefined = np.isnan(values)
    perfect = 1.0 if metric.better is Better.HIGHER else 0.0
    filled: Table = np.where(undefined & ~undefined.all(axis=0), perfect, values)
    return filled


def case_means(table: Table) -> Table:
    """(models, cases): means over the structures of a `value_table`; NaN where there is none."""
    known = ~np.isnan(table)
    counts = known.sum(axis=2)
    empty = np.full(counts.shape, math.nan)
    means: Table = np.divide(np.nan_to_num(table).sum(axis=2), counts, out=empty, where=counts > 0)
    return means


def _value(case: CaseScores, structure: str, metric: Metric) -> float:
    """As counted; the worst where a reference's structure has no value for any reason."""
    value = counted(case, structure, metric)
    asked = (metric not in TUBE_METRICS or structure in case.tubes) and metric not in LESION_FIGURES
    if not math.isnan(value) or case.scores[structure].status is Status.ABSENT or not asked:
        return value
    return case.diagonal_mm if metric.miss is Miss.SCAN else 0.0


def _check(by_id: Mapping[str, Mapping[str, CaseScores]], witnesses: Mapping[str, CaseScores]) -> None:
    first = next(iter(witnesses.values()))
    for name, cases in by_id.items():
        for case_id, case in cases.items():
            witness = witnesses[case_id]
            if set(case.scores) != set(first.scores) or dict(case.tolerance_mm) != dict(first.tolerance_mm):
                raise LabelError(
                    "the models' structures or tolerances differ",
                    expected=dict(first.tolerance_mm),
                    got=f"{dict(case.tolerance_mm)} of {name}",
                    case=case_id,
                    remedy="Score all models with the same labels and tolerances.",
                )
            if case.patient_id != witness.patient_id or not math.isclose(case.diagonal_mm, witness.diagonal_mm):
                raise InputError(
                    "the models were not scored on the same case",
                    expected=f"patient {witness.patient_id}, a scan of {witness.diagonal_mm:.1f} mm",
                    got=f"patient {case.patient_id}, {case.diagonal_mm:.1f} mm, of {name}",
                    case=case_id,
                )


def _failure(witness: CaseScores) -> CaseScores:
    """The same case with nothing found in it."""
    scores = {name: _nothing(one) for name, one in witness.scores.items()}
    lesions = {
        name: replace(
            one,
            lesions=tuple(replace(lesion, dice=0.0, found=False, merged=False) for lesion in one.lesions),
            wrong=(),
            fragments=0,
        )
        for name, one in witness.lesions.items()
    }
    return replace(witness, scores=scores, failed=_NOT_GIVEN, confusion=None, lesions=lesions)


def _nothing(other: StructureScores) -> StructureScores:
    there = other.status in (Status.SCORED, Status.MISSED)
    nan, overlap = math.nan, 0.0 if there else math.nan
    return StructureScores(
        dice=overlap,
        iou=overlap,
        precision=nan,
        recall=overlap,
        volume_similarity=overlap,
        surface_dice=overlap,
        boundary_iou=overlap,
        hd95_mm=nan,
        hd_mm=nan,
        mean_surface_distance_mm=nan,
        masd_mm=nan,
        centroid_distance_mm=nan,
        volume_error_ml=-other.reference_ml if there else 0.0,
        volume_error_percent=-100.0 if there else nan,
        reference_ml=other.reference_ml,
        prediction_ml=0.0,
        status=Status.MISSED if there else Status.ABSENT,
    )
