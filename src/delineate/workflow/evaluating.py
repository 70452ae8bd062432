"""`delineate evaluate`: predictions on disk against references on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from delineate import evaluation
from delineate.errors import InputError, LabelError
from delineate.evaluation import CaseScores, Details, Evaluation, SideConfusion
from delineate.evaluation.comparison_output import GROUP_DEFINITIONS, group_json, group_rows
from delineate.evaluation.intervals import FEW_PATIENTS
from delineate.evaluation.subgroups import GroupScore
from delineate.evaluation.worst import WorstCase
from delineate.files import write_csv, write_text
from delineate.labels import Colour, LabelSet
from delineate.metrics.definitions import METRICS
from delineate.reports.score_tables import ScoreRow
from delineate.settings import Settings
from delineate.workflow.evaluation_records import (
    calibration_json,
    files_json,
    labels_json,
    provenance_json,
    sides_json,
)
from delineate.workflow.examining import Examination, examine_worst
from delineate.workflow.group_tables import GroupOptions, GroupTable, part_cases
from delineate.workflow.header_groups import header_table
from delineate.workflow.naming import Names, find_names
from delineate.workflow.pairing import CaseChoice, Pair, pair_up
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.scoring import ScoredPair, ScoreOptions, score_pairs

SEED = 0  # of the bootstrap: the same cases give the same intervals


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """`tolerance_mm`: of surface Dice and boundary IoU; `tolerances_mm`: of single structures, by name.

    `choice`: which cases count. `resample`: bring predictions of another grid onto the reference's; they are failures
    otherwise. `lesions`, `tubes`: structures that are also scored lesion by lesion, or by their centre lines; lesions
    below `smallest_lesion_mm3` are ignored. `worst`: so many of the worst cases are looked at. `groups`: which
    groups of cases are compared with each other.
    """

    tolerance_mm: float = 2.0
    tolerances_mm: Mapping[str, float] = field(default_factory=dict)
    choice: CaseChoice = CaseChoice()  # noqa: RUF009 - nothing in it changes
    resample: bool = False
    lesions: tuple[str, ...] = ()
    tubes: tuple[str, ...] = ()
    smallest_lesion_mm3: float = 0.0
    worst: int = 10
    groups: GroupOptions = GroupOptions()  # noqa: RUF009 - nothing in it changes

    def for_labels(self, labels: LabelSet) -> ScoreOptions:
        """The options for these structures. Raises `LabelError` for one that is named and not there."""
        unknown = [name for name in self.tolerances_mm if name not in labels.names]
        if unknown:
            raise LabelError("a tolerance for structures that are not there", expected=list(labels.names), got=unknown)
        details = Details(self.lesions, self.tubes, shapes=True, smallest_mm3=self.smallest_lesion_mm3)
        details.check(labels)
        tolerances = {name: self.tolerances_mm.get(name, self.tolerance_mm) for name in labels.names}
        return ScoreOptions(tolerances, resample=self.resample, details=details)


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation found and wrote.

    `pairs`: the files of each case that was scored, in the order of `evaluation.cases`. `rows`: for the table. `swaps`:
    left and right taken for each other, over all cases. `worst`: the worst cases, the worst first. `problems`: what
    could not be scored; `remarks`: what was left out or done otherwise; sentences both. `scores`, `table`: the files.
    `groups`: scores of the groups that were asked for.
    """

    evaluation: Evaluation
    labels: LabelSet
    pairs: tuple[Pair, ...]
    rows: tuple[ScoreRow, ...]
    swaps: tuple[SideConfusion, ...]
    worst: tuple[WorstCase, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    scores: Path
    table: Path
    groups: tuple[GroupScore, ...] = ()

    @property
    def cases(self) -> int:
        return len(self.evaluation.cases)

    @property
    def note(self) -> str | None:
        """A sentence on what the intervals are worth, if that is little."""
        if self.evaluation.patients >= FEW_PATIENTS:
            return None
        if self.evaluation.patients == 1:
            return "Of 1 patient there are no intervals."
        return f"With {self.evaluation.patients} patients the intervals say little."

    @property
    def failures(self) -> Mapping[str, str]:
        """Why a case has no usable prediction. Such cases are scored as ones in which nothing was found."""
        return {case.case_id: case.failed for case in self.evaluation.failures}

    @property
    def case_dice(self) -> Mapping[str, float]:
        """The mean Dice over each case's structures; NaN where it has none."""
        return {case.case_id: evaluation.mean_of_case(case, METRICS[0]) for case in self.evaluation.cases}


def evaluate(
    references: Path,
    predictions: Path,
    *,
    output: Path | None = None,
    options: EvaluationOptions = EvaluationOptions(),
    settings: Settings,
    watch: Watch = nobody,
) -> EvaluationResult:
    """Score every case that counts (see `pair_up`); write scores.json and scores.csv into `output`.

    A case whose prediction is not there or cannot be used is scored as one in which nothing was found. A prediction
    without reference, or whose reference cannot be read, is a problem that is reported. Raises `InputError` if no case
    can be scored, `LabelError` for a tolerance of a structure that is not there, and what `pair_up` raises.
    """
    pairing = pair_up(references, predictions, options.choice)
    names = find_names(references, pairing)
    score_options = options.for_labels(names.labels)
    outcomes = score_pairs(pairing, names, score_options, settings=settings, watch=watch)
    problems = (*pairing.problems, *(outcome.problem for outcome in outcomes if outcome.problem))
    scored = [outcome for outcome in outcomes if outcome.scores is not None]
    if all(outcome.scores.failed for outcome in scored if outcome.scores):
        reasons = [*problems, *(f"{o.pair.case}: {o.scores.failed}" for o in scored if o.scores)]
        raise InputError("no case could be scored", got="; ".join(reasons[:5]), path=predictions)
    folder = output or (predictions if predictions.is_dir() else predictions.parent)
    cases = [outcome.scores for outcome in scored if outcome.scores]
    headers = _headers(references, cases, options.groups, settings=settings, watch=watch)
    parted = part_cases(cases, options.groups, np.random.default_rng(SEED), headers=headers)
    summary = evaluation.summarise(parted.cases, generator=np.random.default_rng(SEED))
    examination = Examination({outcome.pair.case: outcome.pair for outcome in scored}, names, score_options)
    worst = examine_worst(summary, examination, most=options.worst, settings=settings, watch=watch)
    remarks = (*pairing.remarks, *parted.remarks, *_without_repeats(scored))
    pairs, swaps = tuple(outcome.pair for outcome in scored), _swaps(summary, names)
    about = {
        "worst": [evaluation.worst_json(one) for one in worst],
        "files": files_json(pairs, names),
        "labels": labels_json(names.labels, names.regions),
        "sides": sides_json(swaps),
        "calibration": calibration_json(scored),
        "provenance": provenance_json(references, predictions, pairs, kind=names.kind, resample=options.resample),
        "subgroups": {"definitions": GROUP_DEFINITIONS, "scores": [group_json(one) for one in parted.scores]},
        "problems": list(problems),
        "remarks": list(remarks),
    }
    return EvaluationResult(
        evaluation=summary,
        labels=names.labels,
        pairs=pairs,
        rows=tuple(_score_row(label.name, summary, label.colour) for label in names.labels),
        swaps=swaps,
        worst=worst,
        problems=problems,
        remarks=remarks,
        scores=_write_scores(folder, {**evaluation.to_json(summary), **about}),
        table=_write_table(folder, summary, parted.scores),
        groups=parted.scores,
    )


def _headers(
    references: Path, cases: Sequence[CaseScores], options: GroupOptions, *, settings: Settings, watch: Watch
) -> GroupTable | None:
    if options.dicom is None:
        return None
    return header_table(
        references,
        [case.case_id for case in cases],
        options.dicom,
        key_file=options.key_file,
        settings=settings,
        watch=watch,
    )


def read_tolerances(path: Path) -> dict[str, float]:
    """Tolerances in mm by structure, of a JSON file {"liver": 3}. Raises `InputError` for anything else."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Annotated[float, msgspec.Meta(ge=0)]])
    except msgspec.DecodeError as error:
        raise InputError(
            "not a file of tolerances", expected='JSON such as {"liver": 3, "spleen": 2}', got=str(error), path=path
        ) from error
    return found


def _without_repeats(outcomes: Sequence[ScoredPair]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(remark for outcome in outcomes for remark in outcome.remarks))


def _write_scores(folder: Path, content: Mapping[str, object]) -> Path:
    path = folder / "scores.json"
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _write_table(folder: Path, summary: Evaluation, groups: Sequence[GroupScore]) -> Path:
    path = folder / "scores.csv"
    write_csv(path, evaluation.csv_rows(summary))
    if groups:
        write_csv(folder / "subgroups.csv", group_rows(groups))
    return path


def _swaps(summary: Evaluation, names: Names) -> tuple[SideConfusion, ...]:
    return () if summary.confusion is None else evaluation.side_confusions(summary.confusion, names.labels)


def _score_row(name: str, summary: Evaluation, colour: Colour) -> ScoreRow:
    structure = summary.structures[name]
    dice, hd95 = structure.metrics["dice"], structure.metrics["hd95_mm"]
    return ScoreRow(
        name,
        structure.cases - structure.absent,
        dice.mean,
        interval=dice.interval,
        surface_dice=structure.metrics["surface_dice"].mean,
        hd95_mm=hd95.median,
        mean_hd95_mm=hd95.mean,
        missed=structure.missed,
        spurious=structure.spurious,
        colour=colour,
    )
