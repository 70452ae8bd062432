"""The tables of an evaluation's page, from what scores.json holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from delineate.metrics.definitions import Better
from delineate.reports.charts.words import count, listed
from delineate.reports.evaluation_figures import (
    FIGURES,
    Figure,
    Row,
    Sheet,
    count_of,
    mean_of,
    plain,
    ranked_median,
    with_interval,
    words_of,
    worst_first,
)
from delineate.reports.score_parts import AdviceRecord
from delineate.reports.score_records import CaseRecord, ScoresRecord, StructureRecord, number

_MOST_NAMED = 12  # cases in one cell
_DISTRUSTED = "\N{DAGGER}"
_OPTIONS = {"cldice": "--tubes", "lesion_f1": "--lesions"}


def structures_sheet(scores: ScoresRecord) -> Sheet:
    """The means with intervals; † where the figure says little about the structure."""
    low, high = scores.mean_interval.get("dice", (None, None))
    lost = [(row.missed, row.spurious) for row in scores.structures.values()]
    foot: Row = (
        "Mean",
        "",
        with_interval("dice", number(scores.mean.get("dice")), number(low), number(high), 3),
        plain("surface_dice", scores.mean.get("surface_dice"), 3),
        plain("hd95_mm", scores.mean.get("hd95_mm"), 1),
        "",
        "",
        count_of(sum(missed for missed, _ in lost)),
        count_of(sum(spurious for _, spurious in lost)),
    )
    note = (
        "Means with 95 % intervals. Missed and spurious structures count as the worst value in every figure: 0 in "
        "overlaps, the scan's diagonal in distances; of volume errors, the median of their sizes, a lost structure "
        "ranks last. Missed: only the reference has it; spurious: only the prediction."
    )
    doubtful = any(row.advice is not None and row.advice.distrusted for row in scores.structures.values())
    return Sheet(
        "Scores by structure" + tolerance_words(scores),
        ("Structure", "Cases", "Dice", "Surface Dice", "HD95 mm", "HD95 median", "Volume error", "Missed", "Spurious"),
        tuple(_structure_row(name, row, scores) for name, row in scores.structures.items()),
        foot=foot if len(scores.structures) > 1 else (),
        note=note + (f" {_DISTRUSTED}: says little here, see Which figures to trust." if doubtful else ""),
    )


def tolerance_words(scores: ScoresRecord) -> str:
    """At which tolerances surface Dice was measured."""
    found = sorted({row.tolerance_mm for row in scores.structures.values() if row.tolerance_mm is not None})
    return f"; surface Dice within {', '.join(f'{mm:g}' for mm in found)} mm" if found else ""


def _structure_row(name: str, row: StructureRecord, scores: ScoresRecord) -> Row:
    dice, surface, hd95 = (row.metrics.get(metric) for metric in ("dice", "surface_dice", "hd95_mm"))
    errors = [number(case.structures[name].get("volume_error_percent")) for case in _having(name, scores, "scored")]
    off = ranked_median(errors, row.missed + row.spurious)
    off_words = "–" if math.isnan(off) else "lost" if math.isinf(off) else f"{off:.1f} %"
    counted_cases = row.scored + row.missed + row.spurious
    few = " (few)" if row.few_patients else ""
    if row.few_patients and row.patients != counted_cases:
        few = f" of {count(row.patients, 'patient')}"
    marked = _marker(row.advice)
    return (
        words_of(name),
        f"{counted_cases}{few}",
        marked("dice", mean_of("dice", dice, 3)),
        marked("surface_dice", mean_of("surface_dice", surface, 3)),
        marked("hd95_mm", mean_of("hd95_mm", hd95, 1)),
        plain("hd95_mm", None if hd95 is None else hd95.median, 1),
        marked("volume_error_percent", Figure(off_words, (off,), Better.LOWER)),
        count_of(row.missed),
        count_of(row.spurious),
    )


def _marker(advice: AdviceRecord | None) -> Callable[[str, Figure], Figure]:
    distrusted = () if advice is None else advice.distrusted

    def mark(metric: str, figure: Figure) -> Figure:
        if metric not in distrusted or not figure.values:
            return figure
        return Figure(f"{figure.text} {_DISTRUSTED}", figure.values, figure.better, bad=figure.bad)

    return mark


def _having(name: str, scores: ScoresRecord, status: str) -> list[CaseRecord]:
    return [case for case in scores.cases.values() if case.structures.get(name, {}).get("status") == status]


def failed_sheet(scores: ScoresRecord) -> Sheet | None:
    """Cases without usable prediction, and why."""
    rows = tuple((case_id, case.failed) for case_id, case in scores.cases.items() if case.failed)
    if not rows:
        return None
    caption = "Cases without usable prediction: all of their structures count as missed"
    return Sheet(caption, ("Case", "Why"), rows, words=True)


def lost_sheet(scores: ScoresRecord) -> Sheet | None:
    """Structures that were missed, or found where there are none, with the cases, most often lost first."""
    rows = []
    for name, row in sorted(scores.structures.items(), key=lambda item: -item[1].missed - item[1].spurious):
        if row.missed or row.spurious:
            lost = [_named(name, scores, status) for status in ("missed", "spurious")]
            rows.append((words_of(name), f"{row.missed} of {row.scored + row.missed}", *lost))
    if not rows:
        return None
    columns = ("Structure", "Missed", "Missed in", "Spurious in")
    caption = "Structures that were missed, or found where there are none"
    # A dataset may have a structure drawn in some of its patients only.
    spurious = any(row.spurious for row in scores.structures.values())
    note = "Spurious may also mean that a reference was not drawn there: look." if spurious else ""
    return Sheet(caption, columns, tuple(rows), note=note, words=True)


def _named(name: str, scores: ScoresRecord, status: str) -> str:
    cases = [
        case_id
        for case_id, case in scores.cases.items()
        if case.structures.get(name, {}).get("status") == status and not case.failed
    ]
    failed = sum(bool(case.failed) for case in _having(name, scores, status))
    shown = [*cases[:_MOST_NAMED]] + ([f"{len(cases) - _MOST_NAMED} more"] if len(cases) > _MOST_NAMED else [])
    shown += [f"{failed} without usable prediction"] if failed else []
    return ", ".join(shown) or "–"


def advice_sheet(scores: ScoresRecord) -> Sheet | None:
    """What to doubt, structure by structure, and why; None if there is nothing, or nobody looked.

    Structures of which the same is to be said share a row.
    """
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, row in scores.structures.items():
        if row.advice is not None and row.advice.reasons:
            why = ". ".join(_sentence(reason.words) for reason in row.advice.reasons)
            doubtful = ", ".join(dict.fromkeys(title_of(metric) for metric in row.advice.distrusted))
            alike.setdefault((f"{why}.", doubtful or "none", _ask_for(name, row)), []).append(words_of(name))
    if not alike:
        return None
    rows = tuple((", ".join(names), *said) for said, names in alike.items())
    columns = ("Structure", "Why", "Says little", "Measure it with")
    caption = "Figures that say little about a structure, given its size, shape and voxels"
    return Sheet(caption, columns, rows, words=True)


def _ask_for(name: str, row: StructureRecord) -> str:
    """Options that would measure what says more and was not asked for."""
    wanted = () if row.advice is None else row.advice.trusted
    options = [option for metric, option in _OPTIONS.items() if metric in wanted and metric not in row.metrics]
    return ", ".join(f"{option} {name}" for option in options) or "–"


def title_of(metric: str) -> str:
    """A figure's title; its name where it is not known."""
    return FIGURES[metric].title if metric in FIGURES else metric


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def cases_sheet(scores: ScoresRecord) -> Sheet:
    """All cases, the worst first."""
    rows = tuple(
        (
            case_id,
            case.patient,
            plain("dice", case.mean.get("dice"), 3),
            plain("surface_dice", case.mean.get("surface_dice"), 3),
            plain("hd95_mm", case.mean.get("hd95_mm"), 1),
            listed([words_of(name) for name in case.missed], most=4) or "–",
            listed([words_of(name) for name in case.spurious], most=4) or "–",
            "failed" if case.failed else "",
        )
        for case_id, case in worst_first(scores)
    )
    columns = ("Case", "Patient", "Mean Dice", "Surface Dice", "HD95 mm", "Missed", "Spurious", "")
    return Sheet("All cases, the worst first; means over the structures of each", columns, rows)


def definitions_sheet(scores: ScoresRecord) -> Sheet | None:
    """Every figure that was measured, with its source."""
    rows = tuple(
        (
            f"{one.title}{f' ({one.unit})' if one.unit else ''}",
            one.definition,
            one.miss,
            {"higher": "higher", "lower": "lower"}.get(one.better, "–"),
            one.source or "–",
        )
        for one in scores.definitions.metrics.values()
    )
    columns = ("Figure", "Definition", "A miss counts as", "Better", "Source")
    caption = "R: voxels of the reference, P: of the prediction"
    return Sheet(caption, columns, rows, words=True) if rows else None


def named_cases(cases: Sequence[str], most: int = 5) -> str:
    """Names with commas; of many the first ones, and how many more."""
    more = f" and {len(cases) - most} more" if len(cases) > most else ""
    return ", ".join(cases[:most]) + more
