"""Findings of one scan as the tables that a surgeon reads: rounded to what they are worth, with their spread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from delineate.findings import Finding, Spread
from delineate.labels import Code, Label
from delineate.measurement import quantities as q
from delineate.measurement.definitions import DEFINITIONS
from delineate.measurement.lesions import Lesion
from delineate.measurement.scan_findings import ScanFindings
from delineate.reports.tables import printable

NOTHING = "–"
CUT = "the scan's border"
"""What a finding's note says of a structure that may go on outside."""

MOST_COLUMNS = 5
"""Lesions beside each other in a table of distances, so that it fits on A4."""

MOST_ROWS = 12
"""Structures in such a table: the nearest ones, where there are more."""

REMNANT = (
    q.FUNCTIONAL_VOLUME,
    q.REMNANT_VOLUME,
    q.REMNANT_SHARE,
    q.BODY_SURFACE_AREA,
    q.ESTIMATED_VOLUME,
    q.STANDARDISED_REMNANT,
)
_SURE = 0.9  # of a lesion's surface in contact with its organ
_SCALES = tuple(scale.quantity for scale in q.SCALES.values())
_SHOWN = {
    *(q.VOLUME, q.EXTENT_LEFT_RIGHT, q.EXTENT_FRONT_BACK, q.EXTENT_HEAD_FOOT, q.DIAMETER_3D, q.COMPONENTS),
    *(q.LONG_AXIS, q.SHORT_AXIS, q.MARGIN, q.ORGAN_SHARE, q.CONTACT_SHARE, q.DISTANCE, *_SCALES),
}
_UNITS = {q.MILLILITRE: "ml", q.MILLIMETRE: "mm", q.PERCENT: "%", q.SQUARE_METRE: "m²", q.HOUNSFIELD: "HU"}


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, the columns' names, and as many cells a row; the first cell names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Key:
    label: str
    quantity: Code
    component: int | None = None
    other: str | None = None
    derivation: Code | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """Findings by what they are about."""

    findings: Mapping[_Key, Finding]

    def get(
        self, label: Label, quantity: Code, component: int | None = None, *, other: str | None = None
    ) -> Finding | None:
        return self.findings.get(_Key(label.name, quantity, component, other))

    def scale(self, label: Label, component: int | None, derivation: Code) -> Finding | None:
        keys = (_Key(label.name, scale, component, derivation=derivation) for scale in _SCALES)
        return next((self.findings[key] for key in keys if key in self.findings), None)


def plain_name(name: str) -> str:
    """A structure's name for people: blanks for underscores, nothing that cannot be shown."""
    return printable(name.replace("_", " "))


def lesion_name(lesion: Lesion) -> str:
    """With its number, which stays on the same line."""
    return f"{plain_name(lesion.label.name)}\N{NO-BREAK SPACE}{lesion.number}"


def structure_table(measured: ScanFindings, lesions: Sequence[Label] = ()) -> Table:
    """Every structure that was measured, those of `lesions` first: volume, extents, longest diameter, intensity."""
    known = _known(measured.findings)
    volumes = {one.label.name: one for one in measured.findings if one.quantity == q.VOLUME and one.component is None}
    sick = {label.name for label in lesions}
    ordered = sorted(volumes.values(), key=lambda one: one.label.name not in sick)
    rows = tuple(_structure_row(known, one, is_lesion=one.label.name in sick) for one in ordered)
    columns = (
        *("Structure", "Volume ml", "Left–right × front–back × head–foot mm", "Longest diameter mm", "Parts"),
        f"{_scale_name(measured.findings)}, mean ± SD",
    )
    cut = "; cut: touches the scan's border, and may be larger" if any("(cut)" in row[0] for row in rows) else ""
    return _without_empty(Table(f"Sizes{spread_words(measured.findings)}{cut}", columns, rows))


def _structure_row(known: _Known, volume: Finding, *, is_lesion: bool) -> tuple[str, ...]:
    label = volume.label
    name = f"{plain_name(label.name)}, all" if is_lesion else plain_name(label.name)
    if not volume.value:
        return (f"{name} (not found)", "0", *[NOTHING] * 4)
    extents = [known.get(label, one) for one in (q.EXTENT_LEFT_RIGHT, q.EXTENT_FRONT_BACK, q.EXTENT_HEAD_FOOT)]
    across = " × ".join(length(one.value) for one in extents if one is not None)
    parts, share = known.get(label, q.COMPONENTS), known.get(label, q.LARGEST_COMPONENT_SHARE)
    shown = NOTHING if parts is None else f"{parts.value:.0f}"
    if parts is not None and parts.value > 1 and share is not None:
        shown += f", one {_share(share.value)}"
    at_border = CUT in volume.note
    return (
        f"{name} (cut)" if at_border else name,
        ("≥ " if at_border else "") + _shown(volume),
        _together(across) or NOTHING,
        _shown(known.get(label, q.DIAMETER_3D)),
        _together(shown),
        _intensity(known, label, None),
    )


def lesion_table(measured: ScanFindings) -> Table | None:
    """A row a lesion, as numbered in the pictures; None without lesions."""
    if not measured.lesions:
        return None
    known = _known(measured.findings)
    columns = (
        *("Lesion", "Lies in", "Volume ml", "Axial, long × short mm", "Longest mm", "Margin in organ mm"),
        *("Share of organ", f"{_scale_name(measured.findings)}, mean ± SD"),
    )
    rows = tuple(_lesion_row(known, lesion) for lesion in measured.lesions)
    return _without_empty(
        Table(f"Lesions, the largest of a structure first{spread_words(measured.findings)}", columns, rows)
    )


def _without_empty(table: Table) -> Table:
    """Without columns that say nothing, as intensities do where there was no scan."""
    said = [n for n in range(len(table.columns)) if n == 0 or any(row[n] != NOTHING for row in table.rows)]
    rows = tuple(tuple(row[n] for n in said) for row in table.rows)
    return Table(table.caption, tuple(table.columns[n] for n in said), rows)


def _lesion_row(known: _Known, lesion: Lesion) -> tuple[str, ...]:
    label, number = lesion.label, lesion.number
    host = None if lesion.host is None else lesion.host.label.name
    margin = None if host is None else known.get(label, q.MARGIN, number, other=host)
    share = None if host is None else known.get(label, q.ORGAN_SHARE, number, other=host)
    long, short = known.get(label, q.LONG_AXIS, number), known.get(label, q.SHORT_AXIS, number)
    return (
        lesion_name(lesion),
        lies_in(lesion),
        _shown(known.get(label, q.VOLUME, number)),
        _shown(long) + _together(" × ") + _shown(short),
        _shown(known.get(label, q.DIAMETER_3D, number)),
        _shown(margin, zero="0, at its surface"),
        _shown(share, unit=" %"),
        _intensity(known, label, number),
    )


def lies_in(lesion: Lesion) -> str:
    """The organ, and how sure that is where it is not."""
    if lesion.host is None:
        return "no structure"
    name, share = plain_name(lesion.host.label.name), lesion.host.share
    if share >= _SURE:
        return name
    return f"{name} ({share:.0%} of its {'volume' if lesion.host.overlaps else 'surface'})"


def distance_tables(measured: ScanFindings) -> tuple[Table, ...]:
    """From every lesion to the other structures, the nearest ones first; a table for each few lesions.

    A structure that a lesion lies in has no distance there. Captions say what was left out.
    """
    known = _known(measured.findings)
    with_others = [lesion for lesion in measured.lesions if lesion.neighbours]
    groups = [with_others[n : n + MOST_COLUMNS] for n in range(0, len(with_others), MOST_COLUMNS)]
    return tuple(_distance_table(known, group, spread_words(measured.findings)) for group in groups)


def _distance_table(known: _Known, lesions: Sequence[Lesion], spread: str) -> Table:
    nearest: dict[str, float] = {}
    for lesion in lesions:
        for one in lesion.neighbours:
            name = one.label.name
            nearest[name] = min(one.gap.value_mm, nearest.get(name, one.gap.value_mm))

    def cell(lesion: Lesion, name: str) -> str:
        if lesion.host is not None and lesion.host.label.name == name:
            return "lies in it"
        return _shown(known.get(lesion.label, q.DISTANCE, lesion.number, other=name), zero="0, touches")

    ordered = sorted(nearest, key=nearest.__getitem__)
    shown, farther = ordered[:MOST_ROWS], ordered[MOST_ROWS:]
    rows = tuple((plain_name(name), *(cell(lesion, name) for lesion in lesions)) for name in shown)
    columns = ("Structure", *(lesion_name(lesion) for lesion in lesions))
    more = f"; {len(farther)} more are farther, all {length(nearest[farther[0]])} mm or more" if farther else ""
    return Table(
        f"Smallest distance from lesions to other structures, in mm, the nearest first{spread}{more}", columns, rows
    )


def pair_table(measured: ScanFindings) -> Table | None:
    """Paired organs, left against right; None without pairs."""
    known = _known(measured.findings)
    pairs = [one for one in measured.findings if one.quantity == q.VOLUME_DIFFERENCE and one.other is not None]
    rows = tuple(_pair_row(known, one, one.other) for one in pairs if one.other is not None)
    columns = ("Left and right", "Left ml", "Right ml", "Left less right ml", "Left / right")
    return Table(f"Paired organs{spread_words(measured.findings)}", columns, rows) if rows else None


def _pair_row(known: _Known, difference: Finding, right: Label) -> tuple[str, ...]:
    left = difference.label
    return (
        f"{plain_name(left.name)}, {plain_name(right.name)}",
        _shown(known.get(left, q.VOLUME)),
        _shown(known.get(right, q.VOLUME)),
        _shown(difference),
        _shown(known.get(left, q.VOLUME_RATIO, other=right.name), words=lambda value: f"{value:.2f}"),
    )


def remnant_table(measured: ScanFindings) -> Table | None:
    """What a planned resection leaves, with formulas and sources; None where none was planned."""
    found = [one for one in measured.findings if one.quantity in REMNANT]
    rows = tuple((_of_organ(one), with_unit(one), one.note) for one in found)
    return Table(f"What the resection leaves{spread_words(found)}", ("What", "Value", "How"), rows) if rows else None


def _of_organ(finding: Finding) -> str:
    of_body = finding.quantity == q.BODY_SURFACE_AREA
    return finding.quantity.meaning if of_body else f"{finding.quantity.meaning} ({plain_name(finding.label.name)})"


def definitions_of(measured: ScanFindings) -> tuple[tuple[str, str], ...]:
    """How each quantity in the tables is measured, if they do not say it: (name, words), in the findings' order."""
    axes = () if measured.lesions else (q.LONG_AXIS, q.SHORT_AXIS)
    used = dict.fromkeys(one.quantity for one in measured.findings if one.quantity in _SHOWN - set(axes))
    alike: dict[str, list[str]] = {}
    for one in used:
        alike.setdefault(DEFINITIONS[one], []).append(one.meaning)
    return tuple((", ".join(names), words) for words, names in alike.items())


def spread_words(findings: Sequence[Finding]) -> str:
    """What the brackets hold; "" where no finding has a spread."""
    over = [one.spread.over for one in findings if one.spread is not None]
    return f"; in brackets the lowest and the highest of {max(over, key=over.count)}" if over else ""


def volume(ml: float) -> str:
    """Three digits where they are worth it."""
    size = abs(ml)
    return _signed(ml, 0 if size >= 100 else 1 if size >= 10 else 2)


def length(mm: float) -> str:
    """Whole millimetres from 20 on; below, tenths."""
    return _signed(mm, 0 if abs(mm) >= 20 or not mm else 1)


def with_unit(finding: Finding) -> str:
    """A value as the tables show it, with its unit and its spread."""
    return _shown(finding, unit=f" {_UNITS.get(finding.unit, '')}".rstrip())


def _known(findings: Sequence[Finding]) -> _Known:
    return _Known(dict(_keyed(findings)))


def _keyed(findings: Sequence[Finding]) -> Iterator[tuple[_Key, Finding]]:
    for one in findings:
        # Where a difference or a share has a second structure, a volume has none.
        other = None if one.other is None else one.other.name
        yield _Key(one.label.name, one.quantity, one.component, other, one.derivation), one


def _shown(
    finding: Finding | None, *, unit: str = "", zero: str = "", words: Callable[[float], str] | None = None
) -> str:
    if finding is None:
        return NOTHING
    write = words or _writer(finding.unit)
    value = zero if zero and not finding.value else _together(f"{write(finding.value)}{unit}")
    return value if finding.spread is None else f"{value} {_bracket(finding.spread, write)}"


def _together(words: str) -> str:
    """On one line: cells break elsewhere."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _bracket(spread: Spread, write: Callable[[float], str]) -> str:
    return _together(f"[{write(spread.lowest)} to {write(spread.highest)}]")


def _writer(unit: Code) -> Callable[[float], str]:
    if unit == q.MILLIMETRE:
        return length
    if unit == q.PERCENT:
        return lambda value: _share(value).removesuffix(" %")
    if unit == q.HOUNSFIELD:
        return lambda value: _signed(value, 0)
    return volume


def _share(percent: float) -> str:
    """Never 100 % of what is not all, never 0 % of what is something."""
    digits = 0 if 1 <= percent <= 99 or percent in (0, 100) else 2 if percent < 0.1 else 1
    shown = f"{percent:.{digits}f}"
    if percent < 100 and float(shown) == 100:
        return "> 99.9 %"
    return "< 0.01 %" if percent > 0 and float(shown) == 0 else f"{shown} %"


def _signed(value: float, digits: int) -> str:
    shown = f"{value:,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"\N{MINUS SIGN}{shown[1:]}" if shown.startswith("-") and float(f"{value:.{digits}f}") else shown.lstrip("-")


def _intensity(known: _Known, label: Label, component: int | None) -> str:
    mean, deviation = (known.scale(label, component, one) for one in (q.MEAN, q.STANDARD_DEVIATION))
    if mean is None or deviation is None:
        return NOTHING
    write = _writer(mean.unit)
    deviates = _together(f" ± {write(deviation.value)}")
    return f"{_shown(mean)}{deviates}"


def _scale_name(findings: Sequence[Finding]) -> str:
    names = {q.ATTENUATION: "HU", q.UPTAKE: "SUV", q.MR_SIGNAL: "MR signal"}
    return next((names.get(one.quantity, "Intensity") for one in findings if one.quantity in _SCALES), "Intensity")
