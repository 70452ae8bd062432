"""The tables of an evaluation's page on what not every evaluation has: lesions, centre lines, sides, probabilities."""

from __future__ import annotations

import math

from delineate.metrics.definitions import Better
from delineate.reports.charts.words import count
from delineate.reports.evaluation_figures import FIGURES, Cell, Figure, Row, Sheet, count_of, mean_of, words_of
from delineate.reports.score_parts import SideRecord
from delineate.reports.score_records import ScoresRecord, number
from delineate.reports.tables import show_number

_LESIONS = ("lesion_sensitivity", "lesion_f1", "lesion_mean_dice")
_TUBES = ("cldice", "topology_sensitivity", "topology_precision")


def lesions_sheet(scores: ScoresRecord) -> Sheet | None:
    """Sensitivity and false positives side by side: either alone can be had for nothing."""
    rows = []
    for name, row in scores.structures.items():
        if row.lesions is not None:
            found = row.lesions
            numbers: list[Cell] = [mean_of(metric, row.metrics.get(metric), 3) for metric in _LESIONS]
            wrong = show_number(number(found.false_positives_a_case), 2)
            rows.append((
                words_of(name), str(found.lesions), Figure(str(found.found), (found.found,), Better.HIGHER),
                count_of(found.missed), numbers[0], wrong, *numbers[1:],
            ))  # fmt: skip
    if not rows:
        return None
    columns = ("Structure", "Lesions", "Found", "Missed", "Sensitivity", "False a case", "F1", "Lesion Dice")
    return Sheet(
        "Lesion by lesion: counts over all cases, means over cases",
        columns,
        tuple(rows),
        note="Read false positives beside the sensitivity: a prediction of nothing has none. Lesion Dice: mean of the "
        "Dice of every lesion, 0 for a missed one.",
    )


def tubes_sheet(scores: ScoresRecord) -> Sheet | None:
    """Centre lines, of structures for which they were asked."""
    rows: tuple[Row, ...] = tuple(
        (words_of(name), *(mean_of(metric, row.metrics.get(metric), 3) for metric in _TUBES))
        for name, row in scores.structures.items()
        if "cldice" in row.metrics
    )
    columns = ("Structure", *(FIGURES[metric].title for metric in _TUBES))
    return Sheet("Centre lines of tubes, means over cases", columns, rows) if rows else None


def sides_sheet(scores: ScoresRecord) -> Sheet | None:
    """Left taken for right, the most first, beside how much was found at all; None without pairs.

    All pairs are in it: one that is never confused may be one that is never found.
    """
    rows: list[Row] = []
    for pair in sorted(scores.sides, key=lambda pair: -pair.left_as_right - pair.right_as_left):
        found = [_found(share) for share in found_shares(scores, pair)]
        rows.append((f"{words_of(pair.left)}, {words_of(pair.right)}", *found, *side_words(scores, pair)))
    columns = ("Pair", "Left found", "Right found", "Left labelled right, voxels", "Right labelled left, voxels")
    note = (
        "Found: the share of the reference's voxels that got either side's label; in brackets, how many of these got "
        "the wrong one. Read both: what is not found cannot be taken for the other side."
    )
    return Sheet("Left and right taken for each other", columns, tuple(rows), note=note) if rows else None


def _found(share: float) -> Figure:
    return Figure("–" if math.isnan(share) else f"{100 * share:.1f} %", (share,), Better.HIGHER)


def side_words(scores: ScoresRecord, pair: SideRecord) -> tuple[str, str]:
    """Voxels of the left that were called right, and the other way round, with their shares of those found."""
    left, _ = _sided(scores, pair.left, pair.right)
    right, _ = _sided(scores, pair.right, pair.left)
    return _share_words(pair.left_as_right, left), _share_words(pair.right_as_left, right)


def _share_words(wrong: int, found: int) -> str:
    return f"{wrong:,} ({100 * wrong / found:.1f} % of found)" if found else f"{wrong:,}"


def found_shares(scores: ScoresRecord, pair: SideRecord) -> tuple[float, float]:
    """The shares of the left's and of the right's voxels that got either side's label; NaN where there are none."""
    left, left_all = _sided(scores, pair.left, pair.right)
    right, right_all = _sided(scores, pair.right, pair.left)
    return left / left_all if left_all else math.nan, right / right_all if right_all else math.nan


def _sided(scores: ScoresRecord, name: str, other: str) -> tuple[int, int]:
    """Voxels of a structure that got its own or the other side's label, and all of them; zeros if not counted."""
    counts = scores.confusion
    if counts is None or not {name, other} <= set(counts.structures):
        return 0, 0
    row = counts.voxels[counts.structures.index(name)]
    return sum(row[counts.structures.index(label)] for label in (name, other)), sum(row)


def calibration_sheet(scores: ScoresRecord) -> Sheet | None:
    """How well probabilities are calibrated."""
    rows = tuple(
        (
            words_of(name),
            f"{found.cases} of {len(scores.cases)}",
            f"{found.voxels:,}",
            show_number(number(found.expected_error), 4),
            f"{number(found.overconfidence):+.4f}",
            show_number(number(found.brier), 4),
        )
        for name, found in scores.calibration.items()
    )
    if not rows:
        return None
    near = {found.within_mm for found in scores.calibration.values() if found.within_mm is not None}
    where = f" Voxels within {min(near):g} mm of the reference or the prediction count." if near else ""
    return Sheet(
        "Calibration of the probabilities, over all cases",
        ("Structure", "Cases", "Voxels", "ECE", "Promised minus kept", "Brier"),
        rows,
        note=f"{_without_maps(scores)} ECE: the mean difference between probability and how often it comes true. "
        f"Promised minus kept: above 0, the model is too sure.{where} None of these says how good a segmentation is.",
    )


def _without_maps(scores: ScoresRecord) -> str:
    """In how many cases there was no probability map to use, structure by structure if it differs."""
    lacking: dict[int, list[str]] = {}
    for name, found in scores.calibration.items():
        lacking.setdefault(len(scores.cases) - found.cases, []).append(words_of(name))
    if set(lacking) == {0}:
        return "All cases have probability maps."
    if len(lacking) == 1:
        (n,) = lacking
        return f"Probability maps of {count(n, 'case')} were missing or of no use; these do not count here."
    said = "; ".join(f"{', '.join(names)}: {n}" for n, names in lacking.items() if n)
    return f"Cases whose probability maps were missing or of no use, which do not count here: {said}."
