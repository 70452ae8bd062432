"""Several readers of one scan: how far they agree, and whether a model stands among them or apart.

Nobody's reading is the truth. A model is compared as each reader is: with the other readers, one by one, and with the
consensus of the others, so that neither a reader nor the model is ever part of what it is compared with.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.evaluation.cases import CaseScores, counted, nanmean, score_case
from delineate.evaluation.consensus import Method, consensus
from delineate.evaluation.intervals import Interval, bootstrap_means
from delineate.metrics import Status
from delineate.metrics.definitions import METRICS, Better, Metric
from delineate.volume import Segmentation

MODEL = "model"

_ONE_WAY = ("precision", "recall")
SYMMETRIC: tuple[Metric, ...] = tuple(
    metric for metric in METRICS if metric.better is not Better.NEITHER and metric.name not in _ONE_WAY
)
"""The figures that do not depend on who of two is called the reference."""


class Against(Enum):
    """What a reader, or the model, is compared with."""

    READERS = "readers"  # each of the others, and then the mean
    MAJORITY = "majority"  # what more than half of the others drew
    STAPLE = "staple"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`who` (a reader, or `MODEL`) against `others`: one reader, or those of which the consensus was made.

    `scores`: with `others` as the reference and `who` as the prediction.
    """

    who: str
    against: Against
    others: tuple[str, ...]
    scores: CaseScores


@dataclass(frozen=True, slots=True)
class CaseAgreement:
    """All comparisons of one case. `has_model`: whether a model's prediction was compared."""

    case_id: str
    patient_id: str
    readers: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    has_model: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where readers and model stand in one structure and figure, over the cases in which anybody has the structure.

    `reader_means`: of each reader against the others, over the cases that this reader read; `readers`: of all of them,
    a case at a time. `model`: of the model against the same others. `difference`: model minus readers, its 95 %
    `interval` from drawing patients. `percentile`: 0 to 100, of how many readers the model is at least as good (ties
    count half); 50 is in their middle. NaN without a model, or where there is nothing to compare.
    """

    structure: str
    metric: Metric
    against: Against
    cases: int
    patients: int
    reader_means: Mapping[str, float]
    readers: float
    model: float
    difference: float
    interval: Interval
    percentile: float

    @property
    def within_readers(self) -> bool | None:
        """Whether the model's mean is at least as good as the worst reader's; None without either."""
        means = [mean for mean in self.reader_means.values() if not math.isnan(mean)]
        if not means or math.isnan(self.model):
            return None
        return self.model >= min(means) if self.metric.better is Better.HIGHER else self.model <= max(means)


def compare_readers(
    case_id: str,
    readers: Mapping[str, Segmentation],
    prediction: Segmentation | None = None,
    *,
    tolerance_mm: float | Mapping[str, float] = 2.0,
    patient_id: str | None = None,
    threads: int = 1,
) -> CaseAgreement:
    """Each reader against every other and, of three or more, against the consensus of the others, by both methods.

    `prediction`: the model's, against all of the same; a model that gave nothing is given as an empty one, so that it
    counts as having missed everything. See `score_case` for the rest. Raises as `score_case`; `InputError` for fewer
    than two readers, or for one called "model".
    """
    if len(readers) < 2 or MODEL in readers:
        raise InputError(
            "agreement is between readers",
            expected=f"two or more, none called {MODEL!r}",
            got=list(readers),
            case=case_id,
        )

    def score(reference: Segmentation, other: Segmentation) -> CaseScores:
        return score_case(case_id, reference, other, tolerance_mm=tolerance_mm, patient_id=patient_id, threads=threads)

    found = [
        Comparison(other, Against.READERS, (one,), score(readers[one], readers[other]))
        for one, other in itertools.combinations(readers, 2)
    ]
    if prediction is not None:
        found += [Comparison(MODEL, Against.READERS, (one,), score(readers[one], prediction)) for one in readers]
    for left_out, against, others, reference in _consensuses(readers):
        found.append(Comparison(left_out, against, others, score(reference, readers[left_out])))
        if prediction is not None:
            found.append(Comparison(MODEL, against, others, score(reference, prediction)))
    return CaseAgreement(case_id, patient_id or case_id, tuple(readers), tuple(found), prediction is not None)


def places(
    cases: Sequence[CaseAgreement], generator: np.random.Generator, *, against: Against = Against.READERS
) -> tuple[Place, ...]:
    """Where readers and model stand over all cases, for each structure and each of `SYMMETRIC`.

    Where two agree that a structure is not there they agree perfectly (1, or 0 mm); where one has it and the other has
    not, the figure counts as its worst (see `counted`). Cases in which nobody has the structure are left out. Cases
    that were not compared with what is asked for are left out too (the consensus of fewer than two others). No cases
    give no places.
    """
    usable = [case for case in cases if any(c.against is against for c in case.comparisons)]
    if not usable:
        return ()
    names = tuple(usable[0].comparisons[0].scores.scores)
    duels = [_Duels.of(case, names, against) for case in usable]
    table = np.array([duel.differences for duel in duels])
    patients = [case.patient_id for case in usable]
    limits = bootstrap_means(table, patients, generator).of_columns
    return tuple(
        _place(name, metric, against, duels, (s, m), limits[s, m])
        for s, name in enumerate(names)
        for m, metric in enumerate(SYMMETRIC)
    )


Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Duels:
    """One case: each reader and the model against the same others, (R, S, M) of readers, structures and metrics.

    NaN where nobody has the structure; `model` is NaN where there is none.
    """

    patient_id: str
    readers: tuple[str, ...]
    reader: Table
    model: Table

    @classmethod
    def of(cls, case: CaseAgreement, names: Sequence[str], against: Against) -> _Duels:
        reader, model = np.full((2, len(case.readers), len(names), len(SYMMETRIC)), math.nan)
        for n, who in enumerate(case.readers):
            for table, scores in ((reader, _of_reader(case, who, against)), (model, _of_model(case, who, against))):
                if scores:
                    table[n] = np.mean([_values(each, names) for each in scores], axis=0)
        nobody = [all(c.scores.scores[name].status is Status.ABSENT for c in case.comparisons) for name in names]
        reader[:, nobody], model[:, nobody] = math.nan, math.nan
        return cls(case.patient_id, case.readers, reader, model)

    @property
    def differences(self) -> Table:
        """(S, M) model minus readers."""
        difference: Table = (self.model - self.reader).mean(axis=0)
        return difference


def _place(
    name: str, metric: Metric, against: Against, duels: Sequence[_Duels], at: tuple[int, int], limits: Table
) -> Place:
    column = (slice(None), *at)
    some = [duel for duel in duels if not np.isnan(duel.reader[column]).all()]
    values: dict[str, list[float]] = {}
    for duel in some:
        for reader, value in zip(duel.readers, duel.reader[column].tolist(), strict=True):
            values.setdefault(reader, []).append(value)
    return Place(
        structure=name,
        metric=metric,
        against=against,
        cases=len(some),
        patients=len({duel.patient_id for duel in some}),
        reader_means={reader: nanmean(found) for reader, found in sorted(values.items())},
        readers=nanmean([float(duel.reader[column].mean()) for duel in some]),
        model=nanmean([float(duel.model[column].mean()) for duel in some]),
        difference=nanmean([float(duel.differences[at]) for duel in some]),
        interval=(float(limits[0]), float(limits[1])),
        percentile=nanmean([_percentile(duel.reader[column], duel.model[column], metric) for duel in some]),
    )


def _percentile(readers: Table, model: Table, metric: Metric) -> float:
    """(R,) each reader, and the model against the same others."""
    if np.isnan(model).any():
        return math.nan
    ahead = model - readers if metric.better is Better.HIGHER else readers - model
    return float(100 * ((ahead > 0) + 0.5 * (ahead == 0)).mean())


def _values(scores: CaseScores, names: Sequence[str]) -> Table:
    """(S, M) what counts; perfect where both have nothing."""
    return np.array([[_value(scores, name, metric) for metric in SYMMETRIC] for name in names])


def _value(scores: CaseScores, name: str, metric: Metric) -> float:
    if scores.scores[name].status is Status.ABSENT:
        return 1.0 if metric.better is Better.HIGHER else 0.0
    return counted(scores, name, metric)


def _of_reader(case: CaseAgreement, reader: str, against: Against) -> list[CaseScores]:
    """A reader against the others: which of two is the reference does not matter to symmetric figures."""
    return [
        c.scores
        for c in case.comparisons
        if c.against is against
        and c.who != MODEL
        and (c.who == reader or (against is Against.READERS and reader in c.others))
    ]


def _of_model(case: CaseAgreement, left_out: str, against: Against) -> list[CaseScores]:
    """The model against those whom this reader is compared with."""
    return [c.scores for c in case.comparisons if c.against is against and c.who == MODEL and left_out not in c.others]


def _consensuses(readers: Mapping[str, Segmentation]) -> Iterator[tuple[str, Against, tuple[str, ...], Segmentation]]:
    if len(readers) < 3:
        return
    for left_out, method in itertools.product(readers, Method):
        others = tuple(reader for reader in readers if reader != left_out)
        yield left_out, Against(method.value), others, consensus([readers[other] for other in others], method)
