"""The worklist, a case, its voxels, surfaces and findings."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from fastapi import Query, Request, Response

from delineate.review import case_findings, surfaces
from delineate.review.records import ReviewCase, Role, State, WorklistQuery
from delineate.review.server.export_choices import export_problem, format_choices
from delineate.review.server.parts import Asked, Here, Parts, Visitor
from delineate.review.server.problems import NotFound
from delineate.review.server.showing import case_row, decision_answer, event_answer, present
from delineate.review.server.slabs import (
    check_slab,
    label_type,
    layer_of,
    reference_layer,
    sent,
    wire_bytes,
)
from delineate.review.server.wire import (
    MOST,
    CaseDetail,
    CaseFindings,
    Events,
    Filters,
    Geometry,
    Line,
    Picture,
    WindowPreset,
    Worklist,
)

From = Annotated[int, Query(alias="from", ge=0, le=65535)]
To = Annotated[int, Query(alias="to", ge=0, le=65536)]
Layer = Annotated[int, Query(ge=0, le=65535)]
Revision = Annotated[int | None, Query(ge=0, le=MOST)]
_MOST_EVENTS = 5000
States = Annotated[list[State] | None, Query(alias="state")]


def worklist(
    here: Here,
    person: Visitor,
    states: States = None,
    structure: Line = "",
    model: Line = "",
    site: Line = "",
    reader: Line = "",
    search: Line = "",
    order: Line = "-priority",
    offset: Annotated[int, Query(ge=0, le=MOST)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Worklist:
    """A page of the worklist: only cases that this person may see."""
    query = WorklistQuery(
        states=tuple(states or ()),
        structure=structure,
        model=model,
        site=site,
        reader=reader,
        search=search,
        order=order,
        offset=offset,
        limit=limit,
    )
    page = here.store.worklist(query, person)
    return Worklist(
        total=page.total, by_state=dict(page.by_state), cases=[case_row(case, person) for case in page.cases]
    )


def filters(here: Here, person: Visitor) -> Filters:
    """What the worklist can be filtered by, for this person."""
    found = here.store.filters(person)
    return Filters(
        structures=list(found.structures),
        models=list(found.models),
        sites=list(found.sites),
        readers=list(found.readers),
        collections=list(found.collections),
    )


def detail(here: Here, person: Visitor, case: Asked) -> CaseDetail:
    """A case with everything that its page begins with."""
    with here.turns.one():
        here.volumes.begin(case)  # which goes on while the labels are read
        revision, seen = here.live.digest(case)
        about = here.volumes.about(case)
        layers = [layer for layer, _ in here.live.layers(case)]
    # Somebody may have drawn since the case was looked up: what is told belongs to one revision.
    case = here.store.case_by_id(case.id) if revision != case.revision else case
    return CaseDetail(
        **case_row(case, person).model_dump(),
        geometry=Geometry(
            shape=list(about.grid.shape),
            affine=np.asarray(about.grid.affine).tolist(),
            spacing_mm=[float(side) for side in about.grid.spacing_mm],
        ),
        image=_picture(here, case),
        layers=layers,
        label_type="uint8" if label_type(case) == "uint8" else "uint16",
        has_reference=case.new.reference is not None,
        seen=seen,
        scan=here.live.scan_digest(case),
        decisions=[decision_answer(decision) for decision in here.store.decisions(case.id)],
        present=present(here.store.presence(case)),
        editable=person.role is not Role.VIEWER,
        can_undo=here.store.undo_target(case.id) is not None,
        can_redo=here.store.redo_target(case.id) is not None,
        formats=format_choices(case),
        export_problem=export_problem(case, person),
        promptable=here.proposer is not None and here.proposer.misfit(about.kind, about.channels) is None,
    )


def _picture(here: Parts, case: ReviewCase) -> Picture:
    about = here.volumes.about(case)
    windows = [WindowPreset(name=one.name, lower=one.lower, upper=one.upper) for one in about.windows]
    return Picture(
        kind=about.kind.value, slope=about.slope, intercept=about.intercept, windows=windows, unit=about.unit
    )


def image(request: Request, here: Here, person: Visitor, case: Asked, start: From, stop: To) -> Response:
    """Slices of the scan as int16, see the case's slope and intercept."""
    check_slab(here.volumes.about(case).grid.shape, 2, start, stop, most=here.options.slab_bytes)
    return sent(request, here, ("image", case.id, start, stop), lambda: here.volumes.slab(case, start, stop))


def labels(
    request: Request,
    here: Here,
    person: Visitor,
    case: Asked,
    start: From,
    stop: To,
    layer: Layer = 0,
    revision: Revision = None,
) -> Response:
    """Slices of the labels, at the head or as they were; X-Revision says at which revision."""
    wanted = case.revision if revision is None else revision
    if wanted > case.revision:
        raise NotFound("this case has no such revision", expected=f"up to {case.revision}", got=wanted)
    return _labels_at(request, here, case, (start, stop), layer=layer, revision=wanted)


def model(
    request: Request, here: Here, person: Visitor, case: Asked, start: From, stop: To, layer: Layer = 0
) -> Response:
    """Slices of the model's own result, whatever was edited since."""
    return _labels_at(request, here, case, (start, stop), layer=layer, revision=0)


def _labels_at(
    request: Request, here: Parts, case: ReviewCase, slices: tuple[int, int], *, layer: int, revision: int
) -> Response:
    kind = label_type(case)
    check_slab(_shape(here, case), np.dtype(kind).itemsize, *slices, most=here.options.slab_bytes)

    def make() -> bytes:
        layers = dict(here.live.at(case, revision))
        return wire_bytes(layer_of(layers, layer)[slice(*slices)], kind)

    return sent(request, here, ("labels", case.id, revision, layer, *slices), make, revision=revision)


def reference(
    request: Request, here: Here, person: Visitor, case: Asked, start: From, stop: To, layer: Layer = 0
) -> Response:
    """Slices of the reference."""
    kind, shape = label_type(case), _shape(here, case)
    check_slab(shape, np.dtype(kind).itemsize, start, stop, most=here.options.slab_bytes)
    size = shape[0] * shape[1] * np.dtype(kind).itemsize

    def make() -> bytes:
        with here.turns.one():
            return reference_layer(here, case, layer)[start * size : stop * size]

    return sent(request, here, ("reference slab", case.id, layer, start, stop), make)


def _shape(here: Parts, case: ReviewCase) -> tuple[int, int, int]:
    shape: tuple[int, int, int] = here.volumes.about(case).grid.shape
    return shape


def surface(here: Here, person: Visitor, case: Asked, value: int) -> Response:
    """A structure's surface at the head as MZ3, vertices in RAS mm."""
    if value not in {one.value for one in case.new.structures}:
        raise NotFound("this case has no such structure")

    def make() -> bytes:
        with here.slow_turns.one():
            return surfaces.mz3(here.live.segmentation(case, case.revision), value)

    packed = here.kept.get(("surface", case.id, case.revision, value), make)
    return Response(packed, media_type="application/octet-stream", headers={"X-Revision": str(case.revision)})


def findings(here: Here, person: Visitor, case: Asked) -> CaseFindings:
    """What is measured of the structures at the head, with places to jump to."""

    def make() -> bytes:
        with here.slow_turns.one():
            found = case_findings.findings(here.live.segmentation(case, case.revision), case.new.scan)
            return msgspec.json.encode(found)

    return CaseFindings.model_validate_json(here.kept.get(("findings", case.id, case.revision), make))


def history(here: Here, person: Visitor, case: Asked) -> Events:
    """What happened to a case, from the audit trail."""
    return Events(events=[event_answer(event) for event in here.store.events(0, _MOST_EVENTS, case=case.new.key)])
