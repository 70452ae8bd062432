"""Tools that the server works out: they change the labels at once, and tell what they changed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.editing.changes import runs_of
from delineate.editing.runs import wire_view
from delineate.editing.tools import ToolParameters, ToolUse, use_tool
from delineate.errors import InputError
from delineate.geometry import TripleMM
from delineate.review.records import EditRecord, Person, ReviewCase, StaleRevision
from delineate.review.server.editing_routes import edit_result, parameters_text
from delineate.review.server.parts import Asked, Here, Parts, Visitor
from delineate.review.server.problems import NotFound
from delineate.review.server.slabs import layer_of
from delineate.review.server.wire import ToolRequest, ToolResult


def use(here: Here, person: Visitor, case: Asked, tool: str, body: ToolRequest) -> ToolResult:
    """Use a tool on a structure at the head. 409 if the head is another revision by now."""
    with here.turns.one():
        edit = _used(here, person, case, tool, body)
    if edit is None:
        return ToolResult(
            revision=body.base_revision,
            layer=body.layer,
            runs="",
            can_undo=here.store.undo_target(case.id) is not None,
            can_redo=here.store.redo_target(case.id) is not None,
            note="The tool changed nothing.",
        )
    return ToolResult(**edit_result(here, edit).model_dump(), note=None)


def _used(here: Parts, person: Person, case: ReviewCase, tool: str, body: ToolRequest) -> EditRecord | None:
    labels = wire_view(layer_of(dict(layers_at_head(here, case, body.base_revision)), body.layer))
    value = value_in(case, structure=body.structure, layer=body.layer)
    parameters = _parameters(case, body)
    spacing: TripleMM = here.volumes.about(case).grid.spacing_mm
    change = use_tool(tool, labels, ToolUse(value, spacing, parameters, lambda: intensities(here, case)))
    runs = runs_of(labels, change)
    if len(runs) == 0:
        return None
    given = {"structure": body.structure, **body.parameters}
    return here.live.edit(
        case,
        person,
        base_revision=body.base_revision,
        layer=body.layer,
        runs=runs,
        tool=tool,
        parameters=parameters_text(given),
    )


def layers_at_head(here: Parts, case: ReviewCase, base_revision: int) -> tuple[tuple[int, npt.NDArray[Any]], ...]:
    """All layers at the head, which must be the revision that was asked upon. Raises `StaleRevision` if not."""
    head = here.store.case_by_id(case.id).revision
    if head != base_revision:
        raise StaleRevision(
            "somebody changed the case meanwhile", revision=head, remedy="Load what is new, and try again"
        )
    layers: tuple[tuple[int, npt.NDArray[Any]], ...] = here.live.at(case, head)
    return layers


def value_in(case: ReviewCase, *, structure: int, layer: int) -> int:
    """What a structure is in its layer. Raises `NotFound` if the case has no such structure there."""
    if structure not in {one.value for one in case.new.structures}:
        raise NotFound("this case has no such structure", got=structure)
    if layer not in (0, structure) or (layer == 0) == case.new.overlaps:
        raise InputError("this structure is in another layer", got=layer)
    return structure if layer == 0 else 1


def _parameters(case: ReviewCase, body: ToolRequest) -> ToolParameters:
    try:
        parameters = msgspec.convert(body.parameters, ToolParameters)
    except msgspec.ValidationError as error:
        raise InputError("a parameter of the tool is wrong", got=str(error)) from error
    known = {0, *(one.value for one in case.new.structures)}
    if parameters.to is not None and (body.layer or parameters.to not in known):
        raise InputError("nothing can be given to this structure", got=parameters.to)
    return parameters


def intensities(here: Parts, case: ReviewCase, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
    """Slices of the scan as (I, J, K) in its unit."""
    about = here.volumes.about(case)
    size_i, size_j, size_k = about.grid.shape
    stop = size_k if stop is None else stop
    stored = np.frombuffer(here.volumes.slab(case, start, stop), "<i2").reshape(stop - start, size_j, size_i)
    scaled: npt.NDArray[np.float32] = stored.astype(np.float32) * np.float32(about.slope) + np.float32(about.intercept)
    return wire_view(scaled)
