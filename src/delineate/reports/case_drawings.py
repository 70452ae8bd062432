"""The pictures of a case report: structures in 3D, lesions and organs in three planes, and all others at a glance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.errors import DelineateError
from delineate.findings import VOLUME
from delineate.geometry import Grid
from delineate.labels import Label
from delineate.measurement.cropping import Cropped, crop_structure
from delineate.measurement.diameters import Diameter
from delineate.measurement.lesions import Lesion
from delineate.measurement.scan_findings import ScanFindings
from delineate.reports.case_tables import length, lesion_name, lies_in, plain_name, volume
from delineate.reports.contours import MeasuredLine, structure_slices
from delineate.reports.display import View, turn, zoom
from delineate.reports.drawing import png_drawing, short
from delineate.reports.renders import structures_render
from delineate.reports.slices import fill, outline, show_slice
from delineate.volume import Segmentation, Volume, structure_boxes

MOST_LESIONS = 6
"""That are shown one by one; a table has all."""

MOST_FIGURES = 2
"""In three planes, unless there are more lesions or more are asked for: with all the rest they fit on two pages."""

MOST_BYTES = 3_300_000
"""Of all pictures: as text in a page they need a third more, and the page stays below 5 MB."""

_NEAREST = 3  # structures that a lesion's caption names
_DPI = 110
_WIDTH, _COLUMNS = 9.4, 5  # inches
_MOST_SMALL = 30  # small pictures


@dataclass(frozen=True, slots=True)
class CasePicture:
    """A PNG with its title, a note below, and what is seen in words. `tall`: of several rows, to be printed larger."""

    title: str
    png: bytes
    alt: str
    note: str = ""
    tall: bool = False


@dataclass(frozen=True, slots=True)
class CasePictures:
    """`render`: in 3D; `figures`: lesions first; `remarks`: what is not shown, and why."""

    render: CasePicture | None
    figures: tuple[CasePicture, ...]
    remarks: tuple[str, ...]


def draw_case(
    scan: Volume | None,
    segmentation: Segmentation,
    measured: ScanFindings,
    *,
    lesions: Sequence[Label] = (),
    chosen: Sequence[str] = (),
) -> CasePictures:
    """All pictures of a case, on one grid. `lesions`: the structures that are lesions; `chosen`: those to be shown in
    three planes; without it the largest ones.

    Without a scan there are no slices; what cannot be drawn is said. Raises `LabelError` for an unknown name,
    `GeometryMismatch` for a segmentation of other voxels.
    """
    for name in chosen:
        segmentation.labels.named(name)
    volumes = _volumes_ml(measured)
    render, remarks = _render(segmentation, volumes)
    if scan is None:
        return CasePictures(render, (), (*remarks, "No scan was given, so there are no slices."))
    sick = {label.name for label in lesions}
    shown = sorted(measured.lesions, key=lambda one: -one.volume_ml)[:MOST_LESIONS]
    if len(measured.lesions) > len(shown):
        remarks.append(f"Shown are the largest {len(shown)} of {len(measured.lesions)} lesions; the tables have all.")
    sound = [name for name, ml in sorted(volumes.items(), key=lambda one: -one[1]) if ml and name not in sick]
    large = [name for name in chosen if volumes.get(name)] or sound[: max(0, MOST_FIGURES - len(shown))]
    small = [name for name in segmentation.labels.names if name in sound and name not in large]
    figures = [_lesion_figure(scan, segmentation, lesion) for lesion in shown]
    figures += [_structure_figure(scan, segmentation, name, volumes[name]) for name in large]
    if small:
        figures.append(_small_pictures(scan, segmentation, small[:_MOST_SMALL], volumes))
    if len(small) > _MOST_SMALL:
        remarks.append(f"{len(small) - _MOST_SMALL} of {len(volumes)} structures are in the table only.")
    return _within_limit(render, figures, remarks)


def _within_limit(render: CasePicture | None, figures: Sequence[CasePicture], remarks: list[str]) -> CasePictures:
    left = MOST_BYTES - (0 if render is None else len(render.png))
    kept: list[CasePicture] = []
    for figure in figures:
        if len(figure.png) <= left:
            kept.append(figure)
            left -= len(figure.png)
        else:
            remarks.append(f"{figure.title}: left out, so that the file does not become too large.")
    return CasePictures(render, tuple(kept), tuple(remarks))


def _volumes_ml(measured: ScanFindings) -> dict[str, float]:
    found = [one for one in measured.findings if one.quantity == VOLUME and one.component is None]
    return {one.label.name: one.value for one in found}


def _render(segmentation: Segmentation, volumes: dict[str, float]) -> tuple[CasePicture | None, list[str]]:
    measured = [name for name, ml in volumes.items() if ml]
    try:
        png = structures_render(segmentation, structures=measured)
    except DelineateError as error:
        return None, [f"No 3D picture: {error.problem}."]
    words = ", ".join(f"{plain_name(name)} {volume(volumes[name])} ml" for name in measured)
    alt = f"Structures in 3D from the front, from the patient's left and from above: {words}."
    return CasePicture("From three sides", png, alt, "For orientation, not for measuring: surfaces are smoothed."), []


def _lesion_figure(scan: Volume, segmentation: Segmentation, lesion: Lesion) -> CasePicture:
    long, short_ = lesion.axial.long, lesion.axial.short
    png = structure_slices(
        scan, segmentation, lesion.label.name, part=lesion.part.box, lines=[_line(long), _line(short_)]
    )
    name = lesion_name(lesion)
    sizes = f"{length(long.value_mm)} × {length(short_.value_mm)} mm in its axial slice, {volume(lesion.volume_ml)} ml"
    nearest = sorted(lesion.neighbours, key=lambda one: one.gap.value_mm)[:_NEAREST]
    near = ", ".join(f"{plain_name(one.label.name)} {_apart(one.gap.value_mm)}" for one in nearest)
    note = sizes if lesion.host is None else f"{sizes}, in {lies_in(lesion)}"
    note += f"; nearest: {near}" if near else ""
    alt = f"Axial, coronal and sagittal slice through {name}, with the outlines of all structures: {note}."
    return CasePicture(name, png, alt, note)


def _apart(mm: float) -> str:
    return f"{length(mm)} mm" if mm else "touches"


def _line(diameter: Diameter) -> MeasuredLine:
    return MeasuredLine(diameter.start_mm, diameter.stop_mm, f"{length(diameter.value_mm)} mm")


def _structure_figure(scan: Volume, segmentation: Segmentation, name: str, ml: float) -> CasePicture:
    png = structure_slices(scan, segmentation, name)
    words, title = f"{volume(ml)} ml", plain_name(name)
    alt = f"Axial, coronal and sagittal slice where {title} is largest, with the outlines of all structures: {words}."
    return CasePicture(title, png, alt, words)


def _small_pictures(
    scan: Volume, segmentation: Segmentation, names: Sequence[str], volumes: dict[str, float]
) -> CasePicture:
    image, (drawn,) = turn(scan, segmentation)
    if drawn is None:
        raise ValueError("nothing was turned")
    views = list(_axial_views(drawn, names))
    columns = min(_COLUMNS, max(len(views), 3))
    rows = math.ceil(len(views) / columns)
    with png_drawing(width=_WIDTH, height=rows * (_WIDTH / columns + 0.12), dpi=_DPI) as (figure, png):
        panes = figure.subplots(rows, columns, squeeze=False).flat
        for (name, view), pane in zip(views, panes, strict=False):  # takes no pane more
            show_slice(pane, view, image)
            fill(pane, drawn, view, alpha=0.3, only=name)
            outline(pane, drawn, view)
            pane.set_title(short(name, 22), fontsize=8)
        for pane in list(panes):
            pane.set_axis_off()
    seen = "; ".join(f"{plain_name(name)}, {volume(volumes[name])} ml, slice {view.index + 1}" for name, view in views)
    title = "Other structures" if len(names) > 1 else plain_name(names[0])
    alt = f"The axial slice with most of each structure, of {image.grid.shape[2]} slices: {seen}."
    return CasePicture(title, png.getvalue(), alt, "each in the axial slice with most of it", tall=rows > 1)


def _axial_views(drawn: Segmentation, names: Sequence[str]) -> Iterator[tuple[str, View]]:
    for label, box in zip(drawn.labels, structure_boxes(drawn), strict=True):
        if label.name in names and box is not None:
            yield label.name, _axial_view(crop_structure(drawn, label, box), drawn.grid)


def _axial_view(found: Cropped, grid: Grid) -> View:
    most = int(np.count_nonzero(found.mask, axis=(0, 1)).argmax())
    return View("axial", found.box.start[2] + most, zoom(found.box, grid))
