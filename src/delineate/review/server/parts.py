"""What the routes work with, and how they get at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from delineate.review.live import LiveLabels
from delineate.review.reading_facts import Dashboards
from delineate.review.records import Person, ReviewCase
from delineate.review.server.idleness import Idleness
from delineate.review.server.kept import Kept
from delineate.review.server.options import ServerOptions
from delineate.review.server.tokens import Attempts, KnownBrowsers, OneTimeToken
from delineate.review.server.turns import AccountTurns, Turns
from delineate.review.store import Store
from delineate.review.suggestions import Suggestions
from delineate.review.volumes import DisplayVolumes

if TYPE_CHECKING:
    from delineate.review.proposing import ModelProposer  # imports torch


@dataclass(frozen=True, slots=True)
class Parts:
    """A server's parts.

    `turns`: at what people wait for; `slow_turns`: at what takes many seconds. `kept`: answers that are asked for
    again. `account_turns`: at being answered at all. `token`: of the address that was printed. `attempts`: to sign in,
    by address; `guesses`: at one's own password, by who is known; `browsers`: in which somebody signed in before.
    `idleness`: of sessions. `proposer`: a promptable model, if there is one.
    """

    store: Store
    live: LiveLabels
    volumes: DisplayVolumes
    options: ServerOptions
    token: OneTimeToken
    attempts: Attempts
    guesses: Attempts
    browsers: KnownBrowsers
    idleness: Idleness
    turns: Turns
    slow_turns: Turns
    account_turns: AccountTurns
    kept: Kept
    dashboards: Dashboards
    suggestions: Suggestions
    proposer: ModelProposer | None = None


async def parts_of(request: Request) -> Parts:
    """The server that a request came to."""
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


async def person_of(request: Request) -> Person:
    """Who asks. Only of routes that ask for a session."""
    person = request.state.person
    assert isinstance(person, Person)
    return person


async def case_of(request: Request) -> ReviewCase:
    """The case that is asked for, which this person may see. Only of routes with a case's key in their path."""
    case = request.state.case
    assert isinstance(case, ReviewCase)
    return case


Here = Annotated[Parts, Depends(parts_of)]
Visitor = Annotated[Person, Depends(person_of)]
Asked = Annotated[ReviewCase, Depends(case_of)]
