"""All decided cases at a glance, and which to look at next."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse

from delineate.review.server.parts import Here, Visitor
from delineate.review.server.wire import SuggestedCase, Suggestions


def dashboard(here: Here, person: Visitor) -> Response:
    """Readers, models and sites compared: of the cases that this person may see."""
    return Response(msgspec.json.encode(here.dashboards.read(person)), media_type="application/json")


def suggestions(here: Here, person: Visitor, count: Annotated[int, Query(ge=1, le=200)] = 10) -> Suggestions:
    """The cases from which a model would learn most, of those that nobody has looked at."""
    found = here.suggestions.next(person, count)
    return Suggestions(cases=[SuggestedCase(key=one.key, reason=one.reason, score=one.score) for one in found])


def schema(request: Request, person: Visitor) -> Response:
    """All routes, what they take and what they give, as OpenAPI."""
    return JSONResponse(request.app.openapi())
