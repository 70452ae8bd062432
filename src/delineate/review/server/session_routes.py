"""Signing in and out."""

from __future__ import annotations

import time

from fastapi import Request, Response

from delineate.review.records import Person, Session
from delineate.review.server.admission import cookie_name, session_of, session_token
from delineate.review.server.options import ServerOptions
from delineate.review.server.parts import Here, Parts, Visitor
from delineate.review.server.problems import NotSignedIn, TooMany
from delineate.review.server.tokens import neighbourhood
from delineate.review.server.wire import SessionAnswer, SessionPerson, SignIn

BROWSER_COOKIE = "delineate_browser"
_BROWSER_SECONDS = 365 * 24 * 3600


def sign_in(request: Request, response: Response, body: SignIn, here: Here) -> SessionAnswer:
    """Begin a session by name and password, or by the one-time token."""
    began = time.monotonic()
    address = neighbourhood(request.client.host if request.client else "")
    if not here.attempts.allow(address):
        raise TooMany("there were too many attempts to sign in", remedy="Wait a minute")
    if body.token:
        session, person = begin_local(here, body.token), here.options.local
        if session is None or person is None:
            raise NotSignedIn("this token was used before, or is of another server", remedy="Start the server again")
    else:
        found = _by_password(request, here, body)
        if found is None:
            time.sleep(max(began + here.options.refusal_seconds - time.monotonic(), 0.0))
            raise NotSignedIn("name and password do not fit", remedy="Try again, or ask who manages the accounts")
        person, session = found, here.store.begin_session(found, seconds=here.options.session_seconds)
        _remember(request, response, here, person)
    here.attempts.forgive(address)
    set_cookie(response, session, here.options)
    return _answer(here, person, session.csrf)


def _by_password(request: Request, here: Parts, body: SignIn) -> Person | None:
    mark = request.cookies.get(BROWSER_COOKIE, "")
    trusted = here.browsers.knows(mark, body.name) and here.guesses.allow(f"browser {mark}")
    found = here.store.check_password(body.name, body.password, trusted=trusted) if body.name else None
    if found is not None and trusted:
        here.guesses.forgive(f"browser {mark}")
    return found


def _remember(request: Request, response: Response, here: Parts, person: Person) -> None:
    if here.browsers.knows(request.cookies.get(BROWSER_COOKIE, ""), person.name):
        return
    response.set_cookie(
        BROWSER_COOKIE,
        here.browsers.mark(person.name),
        max_age=_BROWSER_SECONDS,
        httponly=True,
        samesite="strict",
        secure=here.options.secure,
        path="/api/session",
    )


def who(request: Request, here: Here) -> SessionAnswer:
    """Who is signed in."""
    session = session_of(request)
    if session is None:
        raise NotSignedIn("you are not signed in")
    return _answer(here, *session)


def sign_out(request: Request, response: Response, here: Here, person: Visitor) -> None:
    """End the session."""
    here.store.end_session(session_token(request))
    name = cookie_name(here.options)
    response.delete_cookie(name, path="/", secure=here.options.secure, httponly=True, samesite="strict")


def begin_local(here: Parts, token: str) -> Session | None:
    """A session for this machine's user, if the token is the one that was printed and was not used."""
    person = here.options.local
    if person is None or not here.token.redeem(token):
        return None
    return here.store.begin_session(person, seconds=here.options.session_seconds)


def set_cookie(response: Response, session: Session, options: ServerOptions) -> None:
    """Hand the session to the browser, for this server's own pages only and out of reach of scripts."""
    name = cookie_name(options)
    response.set_cookie(name, session.token, httponly=True, samesite="strict", secure=options.secure, path="/")


def _answer(here: Parts, person: Person, csrf: str) -> SessionAnswer:
    shown = SessionPerson(name=person.name, full_name=person.full_name, role=person.role, sees_names=person.sees_names)
    return SessionAnswer(
        person=shown,
        csrf=csrf,
        local=here.options.local is not None,
        version=here.options.version,
        idle_seconds=here.options.idle_seconds,
    )
