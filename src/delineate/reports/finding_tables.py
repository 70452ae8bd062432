"""Findings for the terminal: structures, pairs, lesions, what a resection leaves. Returned; the command line prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.findings import Finding
from delineate.labels import Code, Colour
from delineate.measurement.quantities import (
    COMPONENTS,
    CONTACT_SHARE,
    DIAMETER_3D,
    DISTANCE,
    EXTENT_FRONT_BACK,
    EXTENT_HEAD_FOOT,
    EXTENT_LEFT_RIGHT,
    FUNCTIONAL_VOLUME,
    LONG_AXIS,
    MARGIN,
    MEAN,
    NO_UNITS,
    ORGAN_SHARE,
    SHORT_AXIS,
    STANDARD_DEVIATION,
    SUV_BODY_WEIGHT,
    VOLUME,
    VOLUME_DIFFERENCE,
    VOLUME_RATIO,
)
from delineate.reports.tables import plain_table, plain_text, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

_NEAREST = 4  # structures whose distance is shown; the files have all
_ANY_WIDTH = 10_000
_SURE = 50.0  # percent of a lesion that speaks for "in" rather than "at" an organ
_LEAST = 0.01  # ml; what is less is not shown as nothing
_NOTHING = "–"

_UNITS = {NO_UNITS: "", SUV_BODY_WEIGHT: " SUV"}  # as people say them

Row = Mapping[tuple[Code, Code | None], Finding]


@dataclass(frozen=True, slots=True)
class _ByWidth:
    """One table for terminals that have the columns for all its numbers, another for narrower ones."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        needed = self.wide.__rich_measure__(console, options.update(max_width=_ANY_WIDTH)).minimum
        yield self.wide if options.max_width >= needed else self.narrow


def findings_tables(findings: Sequence[Finding], *, title: str) -> tuple[RenderableType, ...]:
    """The tables of one scan that have something to say: structures, pairs, lesions, resection, in this order.

    Sizes are in ml and mm. Where a finding has a spread, its lowest and highest values stand in brackets. An axial size
    is the longest diameter in a slice by the longest across it.
    """
    structures = _rows(one for one in findings if one.component is None and one.other is None)
    sized = {key: row for key, row in structures.items() if (VOLUME, None) in row}
    lesions = _rows(one for one in findings if one.component is not None)
    tables: list[RenderableType] = []
    if sized:
        tables.append(_structures(list(sized.values()), title))
    tables += _pairs(findings)
    if lesions:
        distances = [one for one in findings if one.component is not None and one.quantity == DISTANCE]
        tables.append(_lesions(lesions, distances))
    tables += _resection(findings)
    return tuple(tables)


def _rows(findings: Iterator[Finding]) -> Mapping[tuple[str, int | None], Row]:
    rows: dict[tuple[str, int | None], dict[tuple[Code, Code | None], Finding]] = {}
    for one in findings:
        rows.setdefault((one.label.name, one.component), {})[one.quantity, one.derivation] = one
    return rows


def _structures(rows: Sequence[Row], title: str) -> _ByWidth:
    shown = any(_mean(row) != _NOTHING for row in rows)
    wide = _table(title, ["volume ml", "axial mm", "3D mm", "L-R x A-P x S-I mm", "parts", *(["mean ± SD"] * shown)])
    narrow = _table(title, ["volume ml", "axial mm", "3D mm", *(["mean ± SD"] * shown)])
    for row in rows:
        volume = row[VOLUME, None]
        name = _coloured(volume.label.name, volume.label.colour)
        first = (_amount(volume), _axial(row), _length(row, DIAMETER_3D))
        parts = row.get((COMPONENTS, None))
        mean = [_mean(row)] * shown
        wide.add_row(name, *first, _extent(row), _NOTHING if parts is None else f"{parts.value:.0f}", *mean)
        narrow.add_row(name, *first, *mean)
    return _ByWidth(_unbroken(wide), _unbroken(narrow))


def _pairs(findings: Sequence[Finding]) -> Iterator[Table]:
    volumes = {one.label.name: one for one in findings if one.quantity == VOLUME and one.component is None}
    ratios = {one.label.name: one for one in findings if one.quantity == VOLUME_RATIO}
    differences = [one for one in findings if one.quantity == VOLUME_DIFFERENCE and one.other is not None]
    if not differences:
        return
    table = _table("Left and right", ["left ml", "right ml", "left - right ml", "left / right"])
    for one in differences:
        sides = [volumes.get(name) for name in (one.label.name, one.other.name if one.other else "")]
        ratio = ratios.get(one.label.name)
        table.add_row(
            plain_text(printable(" / ".join([one.label.name, *([one.other.name] if one.other else [])]))),
            *(_NOTHING if side is None else _amount(side) for side in sides),
            f"{one.value:+.3g}",
            _NOTHING if ratio is None else f"{ratio.value:.2f}",
        )
    yield table


def _lesions(rows: Mapping[tuple[str, int | None], Row], distances: Sequence[Finding]) -> _ByWidth:
    shown = any(_mean(row) != _NOTHING for row in rows.values())
    columns = ["volume ml", "axial mm", "3D mm", "lies", "margin mm", "of organ", *(["mean ± SD"] * shown)]
    wide = _table("Lesions", columns)
    wide.add_column("nearest, mm", overflow="fold", min_width=24, ratio=1)
    narrow = _table("Lesions", ["size"])
    narrow.add_column("where", overflow="fold", ratio=1)
    for (name, number), row in rows.items():
        volume = row[VOLUME, None]
        title = _coloured(f"{name} {number}", volume.label.colour)
        near = _nearest([one for one in distances if (one.label.name, one.component) == (name, number)])
        sizes = (_amount(volume), _axial(row), _length(row, DIAMETER_3D))
        place, gap, share = _place(row), _length(row, MARGIN), _percent(row, ORGAN_SHARE)
        wide.add_row(title, *sizes, place, gap, share, *([_mean(row)] * shown), plain_text(near or _NOTHING))
        size = [_with_unit(sizes[0], "ml"), _with_unit(sizes[1], "mm"), "3D " + _with_unit(sizes[2], "mm")]
        size += [_mean(row)] * shown
        where = [place]
        where += ["margin " + _with_unit(gap, "mm")] if gap != _NOTHING else []
        where += [f"{share} of the organ"] if share != _NOTHING else []
        where += [near] if near else []
        narrow.add_row(title, plain_text("\n".join(size)), plain_text("\n".join(where)))
        narrow.add_section()
    return _ByWidth(_unbroken(wide), _unbroken(narrow))


def _resection(findings: Sequence[Finding]) -> Iterator[Table]:
    first = next((n for n, one in enumerate(findings) if one.quantity == FUNCTIONAL_VOLUME), None)
    if first is None:
        return
    table = plain_table(f"Planned resection: {printable(findings[first].label.name)}")
    table.add_column("quantity", min_width=24)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("how", overflow="fold", ratio=1)
    for one in findings[first:]:
        unit = one.unit.meaning
        table.add_row(
            plain_text(one.meaning), plain_text(_with_unit(_amount(one), unit)), plain_text(printable(one.note))
        )
    yield table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = plain_table(printable(title))
    table.add_column("structure" if title != "Lesions" else "lesion", overflow="fold", min_width=12)
    for column in columns:
        table.add_column(column, justify="left" if column in ("lies", "size") else "right", no_wrap=True)
    return table


def _unbroken(table: Table) -> Table:
    """The table with columns of numbers that are never cut off: what is left of a number is another number."""
    for column in table.columns:
        if column.no_wrap:
            lines = [line for cell in (column.header, *column.cells) for line in str(cell).split("\n")]
            column.min_width = max(map(len, lines))
    return table


def _coloured(name: str, colour: Colour) -> Text:
    text = plain_text("■ " + printable(name))
    text.stylize("rgb({},{},{})".format(*colour), 0, 1)
    return text


def _amount(one: Finding) -> str:
    """The value, and below it, if results differ, the lowest and the highest one."""
    tiny = 0 < one.value < _LEAST
    return (f"<{_LEAST:g}" if tiny else _rounded(one.value)) + _below(one, _rounded)


def _below(one: Finding | None, shown: Callable[[float], str]) -> str:
    if one is None or one.spread is None:
        return ""
    ends = shown(one.spread.lowest), shown(one.spread.highest)
    return "" if ends[0] == ends[1] else "\n({}–{})".format(*ends)


def _with_unit(text: str, unit: str) -> str:
    value, *spread = text.split("\n")
    return " ".join([value, unit, *spread])


def _rounded(value: float) -> str:
    """Three digits that count, but never less than the whole number."""
    size = abs(value)
    return f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _length(row: Row, quantity: Code) -> str:
    one = row.get((quantity, None))
    return _NOTHING if one is None else _tenths(one.value) + _below(one, _tenths)


def _percent(row: Row, quantity: Code) -> str:
    one = row.get((quantity, None))
    if one is None:
        return _NOTHING
    return "<0.1 %" if 0 < one.value < 0.1 else f"{one.value:.{0 if one.value >= 9.95 else 1}f} %"


def _axial(row: Row) -> str:
    """The longest diameter by the one across it; below it the spread of the longest."""
    long, short = row.get((LONG_AXIS, None)), row.get((SHORT_AXIS, None))
    if long is None or short is None:
        return _NOTHING
    return f"{_tenths(long.value)} x {_tenths(short.value)}" + _below(long, _tenths)


def _extent(row: Row) -> str:
    sides = [row.get((one, None)) for one in (EXTENT_LEFT_RIGHT, EXTENT_FRONT_BACK, EXTENT_HEAD_FOOT)]
    return " x ".join(_NOTHING if one is None else _tenths(one.value) for one in sides) if any(sides) else _NOTHING


def _mean(row: Row) -> str:
    """What the scan shows inside: its unit is named unless there is none."""
    mean = next((one for (_, derivation), one in row.items() if derivation == MEAN), None)
    if mean is None:
        return _NOTHING
    deviation = row.get((mean.quantity, STANDARD_DEVIATION))
    size = deviation.value if deviation is not None and deviation.value else abs(mean.value)
    digits = 0 if size >= 9.95 else 1 if size >= 0.995 else 3
    text = f"{mean.value:.{digits}f}" + ("" if deviation is None else f" ± {deviation.value:.{digits}f}")
    return text + _UNITS.get(mean.unit, f" {mean.unit.meaning}")


def _place(row: Row) -> str:
    share = row.get((CONTACT_SHARE, None))
    if share is None or share.other is None:
        return "in no organ"
    place = f"{'in' if share.value >= _SURE else 'at'} {printable(share.other.name)}"
    return place + ("" if share.value >= 99.5 else f" ({share.value:.0f} %)")


def _nearest(distances: Sequence[Finding]) -> str:
    """The nearest structures by name, and how many more there are."""
    near = sorted((one for one in distances if one.other is not None), key=lambda one: one.value)
    named = [f"{printable(one.other.name)} {_distance(one)}" for one in near[:_NEAREST] if one.other is not None]
    more = f", {len(near) - _NEAREST} more" if len(near) > _NEAREST else ""
    return ", ".join(named) + more


def _distance(one: Finding) -> str:
    return "touches" if one.value == 0 else f"{one.value:.1f}"
