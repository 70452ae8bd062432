"""The worst cases first, and what may be behind them, guessed from what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from delineate.evaluation.cases import CaseScores, mean_of_case
from delineate.evaluation.errors import ErrorVolumes
from delineate.evaluation.summaries import Evaluation
from delineate.labels import LabelSet
from delineate.metrics import Status
from delineate.metrics.definitions import METRICS

TAKEN_FOR_ANOTHER = 0.2  # share of a structure's voxels that got another one's label
OFF_BY_PERCENT = 30.0  # volume error from which on a structure is over-grown or under-segmented
APART = 0.05  # share of the volume in pieces apart that is worth a word
CUT_SHARE = 0.3  # share of the errors beside the scan's border
SHIFT_GAIN = 0.1  # Dice that moving the prediction back would bring
ALONG_BOUNDARY = 0.8  # share of the errors near the surface
FAIR_DICE = 0.9  # below it, errors along the boundary are worth a word

DICE = next(metric for metric in METRICS if metric.name == "dice")


class Cause(Enum):
    """What may be behind a bad score."""

    FAILED = "no usable prediction"
    SWAPPED_SIDE = "swapped side"
    MISTAKEN = "taken for another structure"
    MISSED = "missed"
    SPURIOUS = "nothing there"
    WRONG_PLACE = "wrong place"
    SHIFTED = "shifted"
    OVER_GROWN = "over-grown"
    UNDER_SEGMENTED = "under-segmented"
    CUT = "cut by the image's border"
    FRAGMENTS = "fragments elsewhere"
    PIECES_MISSED = "pieces missed"
    BOUNDARY = "along the boundary"


@dataclass(frozen=True, slots=True)
class Reason:
    """A guess: `words` say what was measured, `value` and `unit` are the figure behind it.

    `structure`: empty where the whole case is meant.
    """

    structure: str
    cause: Cause
    words: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A case with where its errors lie, by structure (empty without usable prediction), and the guessed reasons."""

    case: CaseScores
    mean_dice: float
    errors: Mapping[str, ErrorVolumes]
    reasons: tuple[Reason, ...]


def worst_first(evaluation: Evaluation) -> tuple[CaseScores, ...]:
    """The cases by the mean Dice over their structures, those without usable prediction first.

    Cases in which no structure is, neither in the reference nor in the prediction, are left out.
    """
    means = {case.case_id: mean_of_case(case, DICE) for case in evaluation.cases}
    known = [case for case in evaluation.cases if not math.isnan(means[case.case_id]) or case.failed]
    return tuple(sorted(known, key=lambda case: (not case.failed, means[case.case_id], case.case_id)))


def explain(case: CaseScores, errors: Mapping[str, ErrorVolumes], labels: LabelSet) -> tuple[Reason, ...]:
    """Reasons for a case's errors, the worst structures first; `errors` as `locate_errors` gives them.

    Confusion with other structures is known for label maps alone. Nothing that stands out gives no reason.
    """
    if case.failed:
        return (Reason("", Cause.FAILED, case.failed, mean_of_case(case, DICE), "Dice"),)
    dice = {name: scores.dice for name, scores in case.scores.items() if scores.status is not Status.ABSENT}
    return tuple(
        reason for name in sorted(dice, key=lambda name: dice[name]) for reason in _reasons(case, name, errors, labels)
    )


def _reasons(case: CaseScores, name: str, errors: Mapping[str, ErrorVolumes], labels: LabelSet) -> Iterator[Reason]:
    scores = case.scores[name]
    taken = tuple(_taken_for_another(case, name, labels))
    yield from taken
    if scores.status is Status.MISSED:
        words = f"{_few_digits(scores.reference_ml)} ml of the reference, nothing predicted"
        yield Reason(name, Cause.MISSED, words, scores.reference_ml, "ml")
    elif scores.status is Status.SPURIOUS:
        instead = _instead_of(case, name, labels)
        words = f"{_few_digits(scores.prediction_ml)} ml predicted, nothing in the reference{instead}"
        yield Reason(name, Cause.SPURIOUS, words, scores.prediction_ml, "ml")
    else:
        measured = (*_place(case, name, errors[name]), *_size(case, name), *_parts(case, name, errors[name]))
        yield from measured
        if not taken and not measured:
            yield from _boundary(case, name, errors[name])


def _taken_for_another(case: CaseScores, name: str, labels: LabelSet) -> Iterator[Reason]:
    if case.confusion is None:
        return
    row = case.confusion[1 + labels.names.index(name)]
    for n, other in enumerate(labels.names, start=1):
        share = float(row[n] / row.sum()) if row.sum() else 0.0
        if other != name and share >= TAKEN_FOR_ANOTHER:
            paired = (name, other) in labels.pairs or (other, name) in labels.pairs
            cause = Cause.SWAPPED_SIDE if paired else Cause.MISTAKEN
            yield Reason(name, cause, f"{100 * share:.0f} % of it labelled {other}", 100 * share, "%")


def _instead_of(case: CaseScores, name: str, labels: LabelSet) -> str:
    """What the reference has where most of a spurious structure was predicted."""
    if case.confusion is None:
        return ""
    column = case.confusion[1:, 1 + labels.names.index(name)]
    share = float(column.max() / case.confusion[:, 1 + labels.names.index(name)].sum())
    return f"; {100 * share:.0f} % of it is {labels.names[int(column.argmax())]}" if share >= TAKEN_FOR_ANOTHER else ""


def _place(case: CaseScores, name: str, errors: ErrorVolumes) -> Iterator[Reason]:
    scores = case.scores[name]
    away_mm, gain = scores.centroid_distance_mm, errors.moved_dice - scores.dice
    if scores.dice == 0:
        words = f"no voxel in common, centres {away_mm:.1f} mm apart"
        yield Reason(name, Cause.WRONG_PLACE, words, away_mm, "mm")
    elif gain >= SHIFT_GAIN:
        words = f"{away_mm:.1f} mm off: moved back, its Dice would be {errors.moved_dice:.2f} and not {scores.dice:.2f}"
        yield Reason(name, Cause.SHIFTED, words, away_mm, "mm")


def _size(case: CaseScores, name: str) -> Iterator[Reason]:
    percent = case.scores[name].volume_error_percent
    if abs(percent) >= OFF_BY_PERCENT:
        cause = Cause.OVER_GROWN if percent > 0 else Cause.UNDER_SEGMENTED
        words = f"{_few_digits(1 + percent / 100, 2)} times the reference's volume"
        yield Reason(name, cause, words, percent, "%")


def _parts(case: CaseScores, name: str, errors: ErrorVolumes) -> Iterator[Reason]:
    scores = case.scores[name]
    if scores.dice > 0 and errors.stray_ml >= APART * scores.prediction_ml:
        words = f"{_pieces(errors.stray_pieces)} predicted apart from it, {_few_digits(errors.stray_ml)} ml"
        yield Reason(name, Cause.FRAGMENTS, words, errors.stray_ml, "ml")
    if scores.dice > 0 and errors.lost_ml >= APART * scores.reference_ml:
        words = f"{_pieces(errors.lost_pieces)} of it not found at all, {_few_digits(errors.lost_ml)} ml"
        yield Reason(name, Cause.PIECES_MISSED, words, errors.lost_ml, "ml")
    if errors.cut_ml >= CUT_SHARE * errors.total_ml > 0:
        share = 100 * errors.cut_ml / errors.total_ml
        words = f"the scan's border cuts it, and {share:.0f} % of the errors lie there"
        yield Reason(name, Cause.CUT, words, share, "%")


def _boundary(case: CaseScores, name: str, errors: ErrorVolumes) -> Iterator[Reason]:
    if case.scores[name].dice < FAIR_DICE and errors.boundary_ml >= ALONG_BOUNDARY * errors.total_ml:
        share = 100 * errors.boundary_ml / errors.total_ml
        words = f"{share:.0f} % of the errors lie within {errors.near_mm:.2g} mm of its surface"
        yield Reason(name, Cause.BOUNDARY, words, share, "%")


def _few_digits(value: float, digits: int = 3) -> str:
    """So many digits that count, without an exponent."""
    return f"{value:.{digits}g}" if value < 10**digits else f"{value:.0f}"


def _pieces(count: int) -> str:
    return "1 piece" if count == 1 else f"{count} pieces"
