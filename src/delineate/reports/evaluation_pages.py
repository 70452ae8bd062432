"""The page of an evaluation: what to believe of a model, failures and misses first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from delineate.evaluation.intervals import FEW_PATIENTS
from delineate.metrics.definitions import Better
from delineate.reports.charts.words import count, listed
from delineate.reports.evaluation_charts import (
    BOXES,
    box_charts,
    calibration_chart,
    confusion_chart,
    size_chart,
    volume_charts,
)
from delineate.reports.evaluation_details import (
    calibration_sheet,
    lesions_sheet,
    side_words,
    sides_sheet,
    tubes_sheet,
)
from delineate.reports.evaluation_figures import (
    FIGURES,
    Figure,
    Sheet,
    Spread,
    count_of,
    plain,
    spread,
    words_of,
    worst_first,
)
from delineate.reports.evaluation_groups import (
    GroupKind,
    group_chart,
    group_kinds,
    group_sheet,
    sizes_sheet,
    structure_sheets,
    unshown_kinds,
)
from delineate.reports.evaluation_tables import (
    advice_sheet,
    cases_sheet,
    definitions_sheet,
    failed_sheet,
    lost_sheet,
    named_cases,
    structures_sheet,
)
from delineate.reports.html import render_template
from delineate.reports.pages import Pairs
from delineate.reports.score_records import CaseRecord, ReasonRecord, ScoresRecord, WorstRecord, number
from delineate.reports.tables import show_number

MOST_WORST = 10
"""Worst cases with what may be behind them, and their pictures."""
_MOST_ERRORS = 8  # structures of one case whose errors are told


@dataclass(frozen=True, slots=True)
class WorstView:
    """One of the worst cases: guessed `reasons` in words, `errors` by structure, and its picture if there is one.

    `examined`: evaluation looked into it, so that no reasons mean that nothing stands out.
    """

    case: str
    dice: Figure
    examined: bool
    reasons: tuple[str, ...]
    errors: Sheet | None
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """All that the page shows, charts aside, which are drawn of `spreads`, `groups` and the scores.

    `verdict`: sentences; `lost`: of them, those about failures and misses. `sheets`: by section; None leaves it out.
    """

    title: str
    tiles: tuple[tuple[str, Figure, bool], ...]
    lost: tuple[str, ...]
    verdict: tuple[str, ...]
    sheets: Mapping[str, Sheet | None]
    spreads: Mapping[str, tuple[Spread, ...]]
    groups: tuple[GroupKind, ...]
    ungrouped: tuple[str, ...]
    worst: tuple[WorstView, ...]
    provenance: Pairs

    def figures(self) -> Iterator[tuple[str, Better, float]]:
        """Every number that is shown and has a better direction, with a name that tells where it stands."""
        shown = [(f"tile {name}", figure) for name, figure, _ in self.tiles]
        shown += [(f"worst {worst.case}", worst.dice) for worst in self.worst]
        sheets = [*self.sheets.items(), *((f"group {kind.name}", group_sheet(kind)) for kind in self.groups)]
        for name, sheet in sheets:
            if sheet is None:
                continue
            for row in (*sheet.rows, *([sheet.foot] if sheet.foot else [])):
                columns = zip(sheet.columns, row, strict=True)
                shown += [(f"{name} {row[0]} {column}", cell) for column, cell in columns if isinstance(cell, Figure)]
        for name, figure in shown:
            if figure.better is not Better.NEITHER:
                yield from ((f"{name} {n}", figure.better, value) for n, value in enumerate(figure.values))
        for metric, spreads in self.spreads.items():
            for one in spreads:
                yield from _ranks(metric, one)


def _ranks(metric: str, one: Spread) -> Iterator[tuple[str, Better, float]]:
    """The values of a box from the worst on; what was lost ranks worst."""
    better = FIGURES[metric].better
    worst = -math.inf if better is Better.HIGHER else math.inf
    ranked = sorted([*one.values, *[worst] * (one.missed + one.spurious)], reverse=better is Better.LOWER)
    yield from ((f"box {metric} {one.name} {n}", better, value) for n, value in enumerate(ranked))


def view_evaluation(scores: ScoresRecord, title: str, pictures: Mapping[str, bytes]) -> EvaluationView:
    """What the page shows of scores; `pictures`: PNG of some of the worst cases."""
    sheets: dict[str, Sheet | None] = {
        "structures": structures_sheet(scores),
        "failed": failed_sheet(scores),
        "lost": lost_sheet(scores),
        "advice": advice_sheet(scores),
        "sizes": sizes_sheet(scores),
        "lesions": lesions_sheet(scores),
        "tubes": tubes_sheet(scores),
        "sides": sides_sheet(scores),
        "calibration": calibration_sheet(scores),
        "cases": cases_sheet(scores),
        "definitions": definitions_sheet(scores),
        **{f"structures by {kind}": sheet for kind, sheet in structure_sheets(scores).items()},
    }
    return EvaluationView(
        title=title,
        tiles=_tiles(scores),
        lost=tuple(_lost(scores)),
        verdict=tuple(_verdict(scores)),
        sheets=sheets,
        spreads={metric: spread(scores, metric) for metric in BOXES},
        groups=group_kinds(scores),
        ungrouped=unshown_kinds(scores),
        worst=tuple(_worst(scores, pictures)),
        provenance=_provenance(scores),
    )


def render_evaluation(scores: ScoresRecord, title: str, pictures: Mapping[str, bytes], unpictured: str = "") -> str:
    """One self-contained HTML file; `unpictured`: why not all of the worst cases have a picture, or ""."""
    view = view_evaluation(scores, title, pictures)
    return render_template(
        "evaluation.html",
        view=view,
        scores=scores,
        few=FEW_PATIENTS,
        unpictured=unpictured,
        boxes=[(FIGURES[metric].title, box_charts(metric, spreads)) for metric, spreads in view.spreads.items()],
        volumes=volume_charts(scores),
        sizes=size_chart(scores),
        confusion=confusion_chart(scores),
        groups=[
            (
                group_sheet(kind),
                group_chart(kind, _mean_of_cases(scores)),
                view.sheets.get(f"structures by {kind.name}"),
            )
            for kind in view.groups
        ],
        calibration=calibration_chart(scores),
    )


def _tiles(scores: ScoresRecord) -> tuple[tuple[str, Figure, bool], ...]:
    rows = scores.structures.values()
    failed = count_of(sum(bool(case.failed) for case in scores.cases.values()))
    missed, spurious = (count_of(sum(getattr(row, what) for row in rows)) for what in ("missed", "spurious"))
    return (
        ("failed cases", failed, failed.bad),
        ("structures missed", missed, missed.bad),
        ("spurious", spurious, spurious.bad),
        ("mean Dice", plain("dice", scores.mean.get("dice"), 3), False),
        ("mean surface Dice", plain("surface_dice", scores.mean.get("surface_dice"), 3), False),
        (f"cases of {count(scores.patients, 'patient')}", Figure(str(len(scores.cases))), False),
    )


def _lost(scores: ScoresRecord) -> Iterator[str]:
    """Failures and misses, in sentences."""
    failed = [case_id for case_id, case in scores.cases.items() if case.failed]
    if failed:
        yield f"{count(len(failed), 'case')} without usable prediction: {named_cases(failed)}."
    missed = {words_of(name): row.missed - row.failed for name, row in scores.structures.items()}
    cases = sum(bool(case.missed) for case in scores.cases.values() if not case.failed)
    if cases:
        most = sorted(((n, name) for name, n in missed.items() if n), reverse=True)
        said = listed([f"{name} {n}" for n, name in most], most=6)
        where = count(cases, "other case" if failed else "case")
        yield f"{count(sum(missed.values()), 'structure')} missed in {where} ({said})."
    spurious = sum(row.spurious for row in scores.structures.values())
    if spurious:
        yield f"{count(spurious, 'structure')} found where there is none."
    for pair in scores.sides:
        if pair.left_as_right or pair.right_as_left:
            left, right = side_words(scores, pair)
            yield (
                f"Sides swapped, {words_of(pair.left)} and {words_of(pair.right)}, in voxels: {left} left as right, "
                f"{right} right as left."
            )


def _verdict(scores: ScoresRecord) -> Iterator[str]:
    rows = scores.structures.values()
    patients = f"{count(len(scores.cases), 'case')} of {count(scores.patients, 'patient')}"
    found = sum(not case.failed and not case.missed and not case.spurious for case in scores.cases.values())
    yield f"{patients}; in {found} of them every structure was found, and none where there is nothing."
    low, high = (number(limit) for limit in scores.mean_interval.get("dice", (None, None)))
    interval = f", 95 % interval {low:.2f} to {high:.2f} by patient" if not math.isnan(low + high) else ""
    over = f" over {len(scores.structures)} structures" if len(scores.structures) > 1 else ""
    yield f"Mean Dice{over}: {show_number(number(scores.mean.get('dice')), 3)}{interval}; misses count as 0."
    known = [
        (row.metrics["dice"].mean, words_of(name))
        for name, row in scores.structures.items()
        if "dice" in row.metrics and row.metrics["dice"].mean is not None
    ]
    if len(known) > 1:
        (worst, lowest), (best, highest) = min(known), max(known)
        yield f"Lowest: {lowest} ({worst:.3f}); highest: {highest} ({best:.3f})."
    if scores.patients == 1:
        yield "Of 1 patient there are no intervals."
    elif scores.patients < FEW_PATIENTS:
        yield f"With {count(scores.patients, 'patient')} the intervals say little."
    few = [words_of(name) for name, row in scores.structures.items() if row.few_patients]
    if few and scores.patients >= FEW_PATIENTS:
        yield f"In fewer than {FEW_PATIENTS} patients, so that their intervals say little: {', '.join(few)}."
    doubtful = [words_of(n) for n, row in scores.structures.items() if row.advice and "dice" in row.advice.distrusted]
    if doubtful:
        yield f"Dice says little about {', '.join(doubtful)}: see Which figures to trust."
    elif rows and all(row.advice is not None and not row.advice.distrusted for row in rows):
        yield "Nothing in the structures' sizes, shapes and voxels speaks against these figures."


def _mean_of_cases(scores: ScoresRecord) -> float:
    known = [dice for case in scores.cases.values() if (dice := case.mean.get("dice")) is not None]
    return sum(known) / len(known) if known else math.nan


def _worst(scores: ScoresRecord, pictures: Mapping[str, bytes]) -> Iterator[WorstView]:
    """The worst cases that have a score or failed; what evaluation has not looked into has no reasons."""
    examined = {worst.case: worst for worst in scores.worst}
    known = [
        (case_id, case) for case_id, case in worst_first(scores) if case.failed or case.mean.get("dice") is not None
    ]
    for case_id, case in known[:MOST_WORST]:
        found = examined.get(case_id, WorstRecord(case_id))
        reasons = tuple(_reason(reason) for reason in found.reasons)
        dice = plain("dice", case.mean.get("dice"), 3)
        yield WorstView(case_id, dice, case_id in examined, reasons, _errors(found, case), pictures.get(case_id))


def _reason(reason: ReasonRecord) -> str:
    where = f"{words_of(reason.structure)}: " if reason.structure else ""
    return f"{where}{reason.cause}{': ' if not where else ', '}{reason.words}"


def _errors(worst: WorstRecord, case: CaseRecord) -> Sheet | None:
    """Where the wrong voxels lie, the structures with the most of them first."""
    found = [
        (name, errors) for name, errors in worst.errors.items() if errors.false_positive_ml or errors.false_negative_ml
    ]
    found.sort(key=lambda item: -number(item[1].false_positive_ml) - number(item[1].false_negative_ml))
    rows = []
    for name, errors in found[:_MOST_ERRORS]:
        wrong, missing, near = (
            number(x) for x in (errors.false_positive_ml, errors.false_negative_ml, errors.boundary_ml)
        )
        share = f"{100 * near / (wrong + missing):.0f} % within {number(errors.near_mm):.2g} mm"
        dice = number(case.structures[name].get("dice"))
        rows.append((words_of(name), show_number(dice, 3), f"{missing:.3g}", f"{wrong:.3g}", share))
    columns = ("Structure", "Dice", "Missing ml", "Made up ml", "Near the surface")
    return Sheet(f"Where the errors of {worst.case} lie", columns, tuple(rows)) if rows else None


def _provenance(scores: ScoresRecord) -> Pairs:
    known = scores.provenance
    models = [f"{digest} ({count(n, 'case')})" for digest, n in known.models.items()]
    models += [f"not recorded ({count(known.without_record, 'case')})"] if known.without_record else []
    tolerances: dict[str, list[str]] = {}
    for name, row in scores.structures.items():
        if row.tolerance_mm is not None:
            tolerances.setdefault(f"{row.tolerance_mm:g} mm", []).append(words_of(name))
    shown = [mm if len(tolerances) == 1 else f"{mm}: {listed(names)}" for mm, names in tolerances.items()]
    pairs = (
        ("Models", "; ".join(models)),
        ("References", known.references),
        ("Predictions", known.predictions + (", resampled where their grid differed" if known.resampled else "")),
        ("Tolerance of surface Dice", "; ".join(shown)),
        ("Scored", known.written),
        ("Made with", f"delineate {known.delineate}" if known.delineate else ""),
    )
    return tuple((what, value) for what, value in pairs if value)
