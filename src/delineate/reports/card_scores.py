"""The parts of a model card that scores fill: how well it works, for whom, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delineate.metrics.definitions import METRICS
from delineate.reports.about import MODEL_FIELDS
from delineate.reports.charts import ForestRow, forest_plot
from delineate.reports.documents import Answer, Section, Table, recorded, stated
from delineate.reports.drawing import Chart
from delineate.reports.evaluation_figures import mean_of
from delineate.reports.evaluation_groups import group_kinds, group_sheet
from delineate.reports.score_records import (
    ScoresRecord,
    Standing,
    Standings,
    StructureRecord,
    number,
)
from delineate.reports.tables import show_number

_SHOWN = ("dice", "surface_dice", "hd95_mm")
_MOST_WORST = 10


@dataclass(frozen=True, slots=True)
class ScoreFacts:
    """One scores.json. `name`: what it is called by. `doubts`: what speaks against reading it as this model's."""

    name: str
    record: ScoresRecord
    standings: Standings
    doubts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.standings.standing.value} ({self.name})"

    @property
    def mean_words(self) -> str:
        low, high = self.record.mean_interval.get("dice", (None, None))
        mean = show_number(number(self.record.mean.get("dice")), 3)
        if low is None or high is None:
            return f"{mean} (no interval)"
        return f"{mean} (95 % interval {show_number(number(low), 3)} to {show_number(number(high), 3)})"


def performance_section(scores: Sequence[ScoreFacts], about: Mapping[str, str]) -> Section:
    """Every structure's scores with their intervals, then the groups; what is no test score is said not to be one."""
    metrics = {metric.name: metric for metric in METRICS}
    shown = [f"{metrics[name].title}: {metrics[name].definition}" for name in _SHOWN if name in metrics]
    tests = [facts for facts in scores if facts.standings.standing is Standing.TEST]
    figures = "; ".join(f"{facts.title}: mean Dice {facts.mean_words}" for facts in scores)
    answers = (
        recorded("scores", "Mean over structures", figures),
        recorded("metrics", "Figures", ". ".join(shown) if scores else ""),
        recorded(
            "uncertainty",
            "Intervals",
            "95 %, bootstrap over patients with all their cases. A missed or spurious structure counts as 0 in "
            "overlaps, as the scan's diagonal in distances"
            if scores
            else "",
        ),
        recorded("internal_test", "Internal test", " ".join(facts.standings.words for facts in tests)),
        *stated(about, MODEL_FIELDS, ("external_data", "diagnostic_performance")),
    )
    warnings = [f"{f.name}: {f.standings.words}" for f in scores if f.standings.standing is not Standing.TEST]
    warnings += [f"{facts.name}: {doubt}" for facts in scores for doubt in facts.doubts]
    return Section(
        "performance",
        "Performance",
        warnings=tuple(warnings) if scores else ("No scores were given (--scores).",),
        answers=answers,
        tables=tuple(table for facts in scores for table in (_structures(facts), *_groups(facts))),
        charts=tuple(_forest(facts) for facts in scores),
    )


def _structures(facts: ScoreFacts) -> Table:
    rows = [_row(name.replace("_", " "), row) for name, row in facts.record.structures.items()]
    tolerances = {row.tolerance_mm for row in facts.record.structures.values() if row.tolerance_mm is not None}
    mm = ", ".join(f"{value:g}" for value in sorted(tolerances))
    return Table(
        f"{facts.title}: {len(facts.record.cases)} cases of {facts.record.patients} patients",
        ("Structure", "Patients", "Dice", "Surface Dice", "HD95 mm", "Median HD95 mm", "Missed", "Spurious"),
        tuple(rows),
        note=f"Means with 95 % intervals; misses count. Tolerance of surface Dice: {mm} mm." if mm else "",
    )


def _row(name: str, row: StructureRecord) -> tuple[str, ...]:
    dice, surface, distance = (row.metrics.get(metric) for metric in _SHOWN)
    measured = zip(_SHOWN, (dice, surface, distance), (3, 3, 1), strict=True)
    shown = [str(mean_of(figure, metric, digits)) for figure, metric, digits in measured]
    median = show_number(number(None if distance is None else distance.median), 1)
    return (
        name,
        f"{row.patients}{' (few)' if row.few_patients else ''}",
        *shown,
        median,
        str(row.missed),
        str(row.spurious),
    )


def _forest(facts: ScoreFacts) -> Chart:
    rows = []
    for name, row in facts.record.structures.items():
        dice = row.metrics.get("dice")
        if dice is not None and dice.mean is not None:
            low, high = dice.interval or (None, None)
            rows.append(
                ForestRow(name, dice.mean, number(low), number(high), count=row.patients, small=row.few_patients)
            )
    mean = facts.record.mean.get("dice")
    return forest_plot(rows, axis=f"Dice, {facts.name}", reference=mean, reference_name="mean", limits=(0, 1))


def _groups(facts: ScoreFacts) -> tuple[Table, ...]:
    """Mean Dice of the cases of each group, for every kind of group that has more than one."""
    kinds = [group_sheet(kind) for kind in group_kinds(facts.record)]
    return tuple(
        Table(
            f"{facts.name} {sheet.caption[:1].lower()}{sheet.caption[1:]}",
            sheet.columns,
            tuple(tuple(map(str, row)) for row in sheet.rows),
            note=sheet.note,
        )
        for sheet in kinds
    )


def failures_section(scores: Sequence[ScoreFacts]) -> Section:
    """The worst cases of every set of scores, with what was missed or found where there is nothing."""
    lost = [
        f"{facts.name}: {row.missed} of {row.cases} cases without {name.replace('_', ' ')} that have it"
        for facts in scores
        for name, row in facts.record.structures.items()
        if row.missed
    ]
    failed = [
        f"{facts.name}: {case_id}: {case.failed}"
        for facts in scores
        for case_id, case in facts.record.cases.items()
        if case.failed
    ]
    answers: tuple[Answer, ...] = ()
    if scores:
        answers = (
            recorded("failures", "Missed structures", "; ".join(lost) or "none in the cases that were scored"),
            recorded("failed_cases", "Cases without a usable result", "; ".join(failed) or "none"),
        )
    tables = tuple(_worst(facts) for facts in scores if facts.record.lowest)
    said = () if scores else ("None are known, because there are no scores of this model here.",)
    return Section("failures", "Known failures", paragraphs=said, answers=answers, tables=tables)


def _worst(facts: ScoreFacts) -> Table:
    rows = tuple(
        (
            case_id,
            show_number(number(case.mean.get("dice")), 3),
            _names(case.missed),
            _names(case.spurious),
            case.failed or facts.record.reasons(case_id) or "–",
        )
        for case_id, case in facts.record.lowest[:_MOST_WORST]
    )
    header = ("Case", "Mean Dice", "Missed", "Spurious", "Reasons, guessed from what was measured")
    return Table(f"{facts.name}: the worst cases", header, rows, words=True)


def _names(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names) or "–"
