"""The server, put together of its parts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI

from delineate.review.live import LiveLabels
from delineate.review.reading_facts import Dashboards
from delineate.review.server.admission import Admitted, Rule
from delineate.review.server.guard import Guard
from delineate.review.server.idleness import Idleness
from delineate.review.server.kept import Kept
from delineate.review.server.options import ServerOptions
from delineate.review.server.page import page_routes
from delineate.review.server.parts import Parts
from delineate.review.server.problems import add_handlers
from delineate.review.server.routes import ROUTES, Route
from delineate.review.server.tokens import Attempts, KnownBrowsers, OneTimeToken, kept_secret
from delineate.review.server.turns import AccountTurns, Turns
from delineate.review.server.wire import Problem
from delineate.review.store import Store
from delineate.review.suggestions import Suggestions
from delineate.review.volumes import DisplayVolumes

if TYPE_CHECKING:
    from delineate.review.proposing import ModelProposer

_GUESSES, _GUESSES_SECONDS = 5, 600.0  # of somebody who is known; after them a name's lock holds for them, too
_ANSWERED, _WAITING = 12, 200  # requests of one account; a browser has 6 under way, and a window more is usual
_EACH = (400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 500, 503)


def make_app(
    store: Store,
    live: LiveLabels,
    volumes: DisplayVolumes,
    options: ServerOptions,
    *,
    proposer: ModelProposer | None = None,
) -> FastAPI:
    """The server of a store of cases. `app.state.parts.token` is the one-time token of a server on loopback.

    `proposer`: a promptable model to ask before the classical methods.
    """
    app = FastAPI(
        title="delineate review", version=options.version, openapi_url=None, docs_url=None, redoc_url=None, debug=False
    )
    cpus = os.cpu_count() or 1
    app.state.parts = Parts(
        store=store,
        live=live,
        volumes=volumes,
        options=options,
        token=OneTimeToken(),
        attempts=Attempts(options.logins_a_minute),
        guesses=Attempts(_GUESSES, seconds=_GUESSES_SECONDS),
        browsers=KnownBrowsers(kept_secret(options.places.browsers)),
        idleness=Idleness(options.idle_seconds, kept_seconds=options.session_seconds),
        turns=Turns(at_once=max(2, cpus), seconds=options.busy_seconds),
        slow_turns=Turns(at_once=max(1, cpus // 2), seconds=options.busy_seconds),
        account_turns=AccountTurns(at_once=_ANSWERED, waiting=_WAITING),
        kept=Kept(options.memory_bytes),
        dashboards=Dashboards(store, live, options.places.cache),
        suggestions=Suggestions(store, options.places.cache),
        proposer=proposer,
    )
    app.state.rules = {(route.method, route.path): _rule(route, options) for route in ROUTES}
    for route in ROUTES:
        _add(app, route)
    app.router.routes.extend(page_routes(options.page))
    app.router.redirect_slashes = False
    add_handlers(app)
    app.add_middleware(Guard, options=options)
    return app


def _rule(route: Route, options: ServerOptions) -> Rule:
    return Rule(route.least, options.upload_bytes if route.is_upload else route.body_bytes, is_json=not route.is_upload)


def _add(app: FastAPI, route: Route) -> None:
    problems: dict[int | str, dict[str, object]] = {
        status: {"model": Problem, "description": _DESCRIPTIONS[status]} for status in _EACH
    }
    app.router.add_api_route(
        route.path,
        route.endpoint,
        methods=[route.method],
        response_model=route.answer,
        response_class=route.response,
        status_code=route.status,
        responses=problems | dict(route.also),
        route_class_override=Admitted,
        operation_id=f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '')}",
        tags=[route.path.split("/")[2]],
    )


_DESCRIPTIONS = {
    400: "What was sent cannot be used",
    401: "No session",
    403: "Not allowed",
    404: "Does not exist, or not for this person",
    408: "Took too long to arrive",
    409: "Made upon a revision that is not the head",
    413: "Larger than the server takes",
    421: "Asked by a name that is not this server's",
    422: "Not what this route takes",
    429: "Too many attempts",
    500: "The server failed",
    503: "The server has too much to do",
}
