"""The tools by name, as a page asks for them: one more tool is one more function here and a line in `TOOLS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy.typing as npt

from delineate.editing.between import fill_between
from delineate.editing.boxes import checked_box, whole
from delineate.editing.changes import Change, Labels, Over, value_at
from delineate.editing.drawing import Region, box_region, threshold, threshold_out
from delineate.editing.pieces import keep_largest, relabel, relabel_component, remove_component, remove_islands
from delineate.editing.shaping import fill_holes, grow, shrink, smooth
from delineate.errors import InputError
from delineate.geometry import Triple, TripleMM


class ToolParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How a tool is used; which of them it needs says its function, and others are left out.

    `mm`: how far to grow or shrink, the radius of smoothing. `axis`, `slices`: across which axis, and which slices
    count as drawn. `index`: a voxel of a piece. `to`: a value. `start`, `stop`: a box, half open. `lower`, `upper`:
    a window of intensities. `inside`: values that may be painted. `outside`: take away what is not in the window.
    `ml`: the smallest piece to keep. `over`: "background" or "all".
    """

    mm: float | None = None
    axis: int | None = None
    slices: tuple[int, ...] | None = None
    index: Triple | None = None
    to: int | None = None
    start: Triple | None = None
    stop: Triple | None = None
    lower: float | None = None
    upper: float | None = None
    inside: tuple[int, ...] | None = None
    outside: bool = False
    ml: float | None = None
    over: Over = "background"


@dataclass(frozen=True, slots=True, eq=False)
class ToolUse:
    """A tool on one structure: `value` in the layer; `image` gives the intensities (I, J, K), asked for if needed."""

    value: int
    spacing_mm: TripleMM
    parameters: ToolParameters
    image: Callable[[], npt.NDArray[Any]]

    def need(self, name: str) -> Any:
        """A parameter that must be given. Raises `InputError` if it is not."""
        given = getattr(self.parameters, name)
        if given is None:
            raise InputError(f"this tool needs the parameter {name!r}", got="none")
        return given


Tool = Callable[[Labels, ToolUse], Change]


def use_tool(name: str, labels: Labels, use: ToolUse) -> Change:
    """The change that a tool makes of an (I, J, K) label array.

    Raises `InputError` for an unknown tool, a parameter missing or out of range, `LabelError` without the structure.
    """
    if name not in TOOLS:
        raise InputError("there is no such tool", expected=f"one of {', '.join(sorted(TOOLS))}", got=name)
    return TOOLS[name](labels, use)


def _fill_between(labels: Labels, use: ToolUse) -> Change:
    given = use.parameters
    return fill_between(
        labels, use.value, axis=use.need("axis"), spacing_mm=use.spacing_mm, drawn=given.slices, over=given.over
    )


def _smooth(labels: Labels, use: ToolUse) -> Change:
    over = use.parameters.over
    return smooth(labels, use.value, radius_mm=use.need("mm"), spacing_mm=use.spacing_mm, over=over)


def _grow(labels: Labels, use: ToolUse) -> Change:
    over = use.parameters.over
    return grow(labels, use.value, distance_mm=use.need("mm"), spacing_mm=use.spacing_mm, over=over)


def _shrink(labels: Labels, use: ToolUse) -> Change:
    return shrink(labels, use.value, distance_mm=use.need("mm"), spacing_mm=use.spacing_mm)


def _threshold(labels: Labels, use: ToolUse) -> Change:
    given, window = use.parameters, (use.need("lower"), use.need("upper"))
    region = _region(labels, use)
    if given.outside:
        return threshold_out(labels, use.image(), region, value=use.value, window=window)
    return threshold(labels, use.image(), region, value=use.value, window=window, inside=given.inside)


def _region(labels: Labels, use: ToolUse) -> Region:
    given = use.parameters
    if given.start is None and given.stop is None:
        return box_region(whole(labels.shape))
    return box_region(checked_box(use.need("start"), use.need("stop"), labels.shape))


def _remove_component(labels: Labels, use: ToolUse) -> Change:
    _same_structure(labels, use)
    return remove_component(labels, use.need("index"))


def _relabel(labels: Labels, use: ToolUse) -> Change:
    if use.parameters.index is None:
        return relabel(labels, use.value, to=use.need("to"))
    _same_structure(labels, use)
    return relabel_component(labels, use.parameters.index, to=use.need("to"))


def _same_structure(labels: Labels, use: ToolUse) -> None:
    found = value_at(labels, use.need("index"))
    if found != use.value:
        raise InputError("another structure is at this point", expected=f"value {use.value}", got=f"value {found}")


def _keep_largest(labels: Labels, use: ToolUse) -> Change:
    return keep_largest(labels, use.value)


def _remove_islands(labels: Labels, use: ToolUse) -> Change:
    return remove_islands(labels, use.value, smaller_ml=use.need("ml"), spacing_mm=use.spacing_mm)


def _fill_holes(labels: Labels, use: ToolUse) -> Change:
    return fill_holes(labels, use.value, axis=use.parameters.axis, over=use.parameters.over)


TOOLS: dict[str, Tool] = {
    "fill_between": _fill_between,
    "smooth": _smooth,
    "grow": _grow,
    "shrink": _shrink,
    "threshold": _threshold,
    "remove_component": _remove_component,
    "keep_largest": _keep_largest,
    "remove_islands": _remove_islands,
    "fill_holes": _fill_holes,
    "relabel": _relabel,
}
