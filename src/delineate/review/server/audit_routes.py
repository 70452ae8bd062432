"""The audit trail, for administrators; readers compared, and what to look at next."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from delineate.files import check_writable, remove, temporary_name
from delineate.review.server.parts import Here, Visitor
from delineate.review.server.showing import event_answer
from delineate.review.server.wire import MOST, Events, Verification


def events(
    here: Here,
    person: Visitor,
    after: Annotated[int, Query(ge=0, le=MOST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Events:
    """Events after a number."""
    found = [event_answer(event) for event in here.store.events(after, limit)]
    return Events(events=found, total=here.store.count_events())


def verify(here: Here, person: Visitor) -> Verification:
    """What is wrong with the trail and with what it speaks of; nothing, if all is as it was written."""
    return Verification(problems=list(here.store.verify()), events=here.store.count_events())


def export(here: Here, person: Visitor) -> Response:
    """The whole trail as JSON lines."""
    check_writable(here.options.places.exports)
    path = temporary_name(here.options.places.exports / "audit.jsonl")
    here.store.export(path)
    return FileResponse(
        path,
        media_type="application/jsonl",
        headers={"Content-Disposition": 'attachment; filename="audit.jsonl"'},
        background=BackgroundTask(remove, path),
    )
