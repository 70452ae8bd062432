"""Who comes in: before a byte of a request's body is read, its session, its role, its case and its CSRF token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive

from delineate.review.records import NotAllowed, Person, ReviewCase, Role
from delineate.review.server.idleness import idle_seconds
from delineate.review.server.options import ServerOptions
from delineate.review.server.parts import Parts
from delineate.review.server.problems import NotFound, NotSignedIn, TooLarge

COOKIE = "delineate_session"
_RANK = {Role.VIEWER: 0, Role.REVIEWER: 1, Role.ADMIN: 2}
_BODY_SECONDS, _SLOWEST_BYTES = 30.0, 256 << 10  # how long a body may take, and for how many bytes a second more
_MOST_PARTS, _SIGNS = 200_000, (b",", b"[", b"{")  # of JSON; the runs of an edit are one part, however many they are
_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a route: those of role `least` and above, None for everybody; and how much they may send.

    `is_json`: whether it is read as JSON, whose parts are counted as well: nobody else is answered while it is read.
    """

    least: Role | None
    body_bytes: int
    is_json: bool = True


class Admitted(APIRoute):
    """A route that looks at its visitor first. FastAPI reads the body before it looks at anything else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def admit_and_answer(request: Request) -> Response:
            rule = request.app.state.rules.get((request.method, self.path))
            if not isinstance(rule, Rule):
                raise NotAllowed("this route has no rule of who may use it")
            if rule.least is None:
                return await answer_bounded(request, rule)
            person, case = await run_in_threadpool(_admitted, request, rule.least)
            request.state.person, request.state.case = person, case
            parts: Parts = request.app.state.parts
            async with parts.account_turns.of(person.name):
                return await answer_bounded(request, rule)

        async def answer_bounded(request: Request, rule: Rule) -> Response:
            _check_length(request, rule.body_bytes)
            return await answer(Request(request.scope, _bounded(request.receive, rule)))

        return admit_and_answer


def session_of(request: Request) -> tuple[Person, str] | None:
    """Who a request's cookie stands for, and their CSRF token; None without a session that still holds."""
    parts: Parts = request.app.state.parts
    token = session_token(request)
    found = parts.store.session(token) if token else None
    if found is None or not found[0].active:
        return None
    if not parts.idleness.goes_on(token, idle=idle_seconds(request)):
        parts.store.end_session(token, why="idle")
        return None
    return found


def cookie_name(options: ServerOptions) -> str:
    """What the session's cookie is called: under TLS so that browsers take it from this very host alone, and on
    loopback, where browsers do not tell ports apart, so that two reviews do not end each other's sessions."""
    if options.secure:
        return f"__Host-{COOKIE}"
    return f"{COOKIE}_{hashlib.sha256(str(options.places.folder.absolute()).encode()).hexdigest()[:8]}"


def session_token(request: Request) -> str:
    """The session's token as a request's cookie has it; "" without one."""
    options: ServerOptions = request.app.state.parts.options
    plain = "" if options.secure else request.cookies.get(COOKIE, "")
    return request.cookies.get(cookie_name(options), plain)


def _admitted(request: Request, least: Role) -> tuple[Person, ReviewCase | None]:
    session = session_of(request)
    if session is None:
        raise NotSignedIn("you are not signed in", remedy="Sign in, or open the address that the server printed")
    person, csrf = session
    key = request.path_params.get("key")
    case = None if key is None else visible_case(request.app.state.parts, person, key)
    if _RANK[person.role] < _RANK[least]:
        raise NotAllowed("you may not do this", expected=f"the role {least.value}", got=person.role.value)
    if request.method not in _SAFE:
        sent = request.headers.get("x-csrf-token", "")
        if not hmac.compare_digest(sent.encode(), csrf.encode()):
            raise NotAllowed("the request does not come from this session's page", remedy="Load the page again")
    return person, case


def visible_case(parts: Parts, person: Person, key: str) -> ReviewCase:
    """A case by its key. Raises `NotFound` alike if there is none and if this person may not see it."""
    case = parts.store.case(key)
    if case is None or not parts.store.may_see(person, case):
        raise NotFound("this case does not exist, or you may not see it")
    return case


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("the request is larger than the server takes", expected=f"up to {limit / 1e6:g} MB")


def _bounded(receive: Receive, rule: Rule) -> Receive:
    taken, parts, is_whole = 0, 0, False
    until = anyio.current_time() + _BODY_SECONDS + rule.body_bytes / _SLOWEST_BYTES

    async def receive_bounded() -> Message:
        nonlocal taken, parts, is_whole
        try:
            with anyio.fail_after(None if is_whole else max(until - anyio.current_time(), 0.0)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408) from None
        is_whole = not message.get("more_body", False)
        body = message.get("body", b"")
        taken += len(body)
        parts += sum(body.count(sign) for sign in _SIGNS) if rule.is_json else 0
        if taken > rule.body_bytes or parts > _MOST_PARTS:
            # Of all errors, FastAPI lets only this one through while it reads a body.
            raise HTTPException(413)
        return message

    return receive_bounded
