"""Signing in and out."""

from __future__ import annotations

from fastapi import Request, Response

from delineate.review.records import Person, Session
from delineate.review.server.admission import COOKIE, session_of
from delineate.review.server.parts import Here, Parts, Visitor
from delineate.review.server.problems import NotSignedIn, TooMany
from delineate.review.server.wire import SessionAnswer, SessionPerson, SignIn


def sign_in(request: Request, response: Response, body: SignIn, here: Here) -> SessionAnswer:
    """Begin a session by name and password, or by the one-time token."""
    address = request.client.host if request.client else ""
    if not here.attempts.allow(address):
        raise TooMany("there were too many attempts to sign in", remedy="Wait a minute")
    if body.token:
        session, person = begin_local(here, body.token), here.options.local
        if session is None or person is None:
            raise NotSignedIn("this token was used before, or is of another server", remedy="Start the server again")
    else:
        found = here.store.check_password(body.name, body.password) if body.name else None
        if found is None:
            raise NotSignedIn("name and password do not fit", remedy="Try again, or ask who manages the accounts")
        person, session = found, here.store.begin_session(found, seconds=here.options.session_seconds)
    here.attempts.forgive(address)
    set_cookie(response, session, secure=here.options.secure)
    return _answer(here, person, session.csrf)


def who(request: Request, here: Here) -> SessionAnswer:
    """Who is signed in."""
    session = session_of(request)
    if session is None:
        raise NotSignedIn("you are not signed in")
    return _answer(here, *session)


def sign_out(request: Request, response: Response, here: Here, person: Visitor) -> None:
    """End the session."""
    here.store.end_session(request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE, path="/", secure=here.options.secure, httponly=True, samesite="strict")


def begin_local(here: Parts, token: str) -> Session | None:
    """A session for this machine's user, if the token is the one that was printed and was not used."""
    person = here.options.local
    if person is None or not here.token.redeem(token):
        return None
    return here.store.begin_session(person, seconds=here.options.session_seconds)


def set_cookie(response: Response, session: Session, *, secure: bool) -> None:
    """Hand the session to the browser, for this server's own pages only and out of reach of scripts."""
    response.set_cookie(COOKIE, session.token, httponly=True, samesite="strict", secure=secure, path="/")


def _answer(here: Parts, person: Person, csrf: str) -> SessionAnswer:
    shown = SessionPerson(name=person.name, full_name=person.full_name, role=person.role, sees_names=person.sees_names)
    return SessionAnswer(person=shown, csrf=csrf, local=here.options.local is not None, version=here.options.version)
