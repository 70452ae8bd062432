"""The page of one case, for the surgeon: who and what, pictures, findings, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from delineate.findings import VOLUME
from delineate.geometry import Grid
from delineate.labels import Label
from delineate.measurement.quantities import COMPONENTS, LARGEST_COMPONENT_SHARE
from delineate.measurement.scan_findings import ScanFindings
from delineate.reports.case_drawings import CasePictures
from delineate.reports.case_tables import (
    CUT,
    definitions_of,
    distance_tables,
    length,
    lesion_table,
    pair_table,
    plain_name,
    remnant_table,
    structure_table,
)
from delineate.reports.html import render_template
from delineate.reports.pages import Pairs

THICK_MM = 3.0
"""Slices farther apart are named: small lesions and vessels may lie between them."""

_WHOLE = 99.5  # percent: what else there is, is a few stray voxels


@dataclass(frozen=True, slots=True)
class Review:
    """Who has looked at the case, and on which day, YYYY-MM-DD; nobody has without a name.

    `decision`: in words, such as "Approved with edits"; `seen`: SHA-256 of what was seen, where that was recorded.
    """

    by: str = ""
    on: str = ""
    decision: str = ""
    seen: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said below who and when; nothing where nobody has."""
        seen = f"What was seen has SHA-256 {self.seen}." if self.seen else ""
        return tuple(filter(None, (f"{self.decision}." if self.decision else "", seen))) if self.by else ()


@dataclass(frozen=True, slots=True)
class CasePage:
    """What the page says. `title`: the case; `facts`: who and what; `identified`: whether that tells who it is.

    `lesions`: the structures that are lesions; `doubts`: about the result, from its record; `provenance`: what made it.
    """

    title: str
    facts: Pairs
    grid: Grid
    measured: ScanFindings
    pictures: CasePictures
    lesions: tuple[Label, ...] = ()
    identified: bool = False
    review: Review = Review()
    doubts: tuple[str, ...] = ()
    provenance: Pairs = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be known before the numbers are used: doubts, the scan, structures, lesions; each once."""
        remarks = (*self.doubts, *scan_remarks(self.grid), *_gathered_remarks(self))
        return tuple(dict.fromkeys(map(_sentence, remarks)))


def render_case(page: CasePage) -> str:
    """One self-contained HTML file."""
    measured = page.measured
    return render_template(
        "case.html",
        page=page,
        tiles=_tiles(page),
        lesions=lesion_table(measured),
        distances=distance_tables(measured),
        remnant=remnant_table(measured),
        structures=structure_table(measured, page.lesions),
        pairs=pair_table(measured),
        definitions=definitions_of(measured),
    )


def scan_remarks(grid: Grid) -> tuple[str, ...]:
    """What the scan's voxels keep from being seen; () for thin slices."""
    thickest, finest = max(grid.spacing_mm), min(grid.spacing_mm)
    if thickest <= THICK_MM:
        return ()
    what = f"voxels are {thickest:.3g} mm long" if thickest < 1.2 * finest else f"slices are {thickest:.3g} mm apart"
    return (f"{what}: what is smaller may be missed, and no length across them is known better than that",)


def _gathered_remarks(page: CasePage) -> Iterator[str]:
    """Those of structures in a line each kind, since most scans cut some; the others as they are."""
    sick = {label.name for label in page.lesions}
    whole = [one for one in page.measured.findings if one.component is None and one.label.name not in sick]
    cut = [one.label.name for one in whole if one.quantity == VOLUME and CUT in one.note]
    if cut:
        yield f"cut by the scan's border, and larger than measured: {', '.join(cut)}"
    numbers = {one.label.name: round(one.value) for one in whole if one.quantity == COMPONENTS}
    shares = {one.label.name: one.value for one in whole if one.quantity == LARGEST_COMPONENT_SHARE}
    parted = [name for name, number in numbers.items() if number > 1 and shares.get(name, 100.0) < _WHOLE]
    if parted:
        words = ", ".join(f"{name} ({numbers[name]}, the largest with {shares[name]:.0f} %)" for name in parted)
        yield f"in several parts, of which diameters are of the largest: {words}"
    said = [*(f"{name}: touches {CUT}" for name in cut), *(f"{name}: in {numbers[name]} parts" for name in numbers)]
    yield from (remark for remark in page.measured.remarks if not remark.startswith(tuple(said)))


def _sentence(words: str) -> str:
    """With a capital and a full stop, and the names of structures as they are elsewhere on the page."""
    plain = plain_name(words).strip()
    return f"{plain[:1].upper()}{plain[1:]}" + ("" if plain.endswith((".", "!", "?")) else ".")


def _tiles(page: CasePage) -> list[tuple[str, str]]:
    """The few numbers that matter; none where lesions were not looked for."""
    lesions = page.measured.lesions
    if not page.lesions:
        return []
    tiles = [("lesion listed" if len(lesions) == 1 else "lesions listed", str(len(lesions)))]
    if lesions:
        largest = max(lesions, key=lambda one: one.axial.long.value_mm)
        tiles.append(("longest axial diameter", f"{length(largest.axial.long.value_mm)} mm"))
        gaps = [one.gap.value_mm for lesion in lesions for one in lesion.neighbours]
        margins = [lesion.margin.value_mm for lesion in lesions if lesion.margin is not None]
        tiles += [("smallest margin in an organ", f"{length(min(margins))} mm")] if margins else []
        tiles += [("nearest other structure", f"{length(min(gaps))} mm")] if gaps else []
    return tiles
