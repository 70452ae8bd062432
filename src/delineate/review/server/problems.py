"""Errors as the page gets them: a sentence, what to do, and facts; no paths, no stack traces."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from delineate.errors import DelineateError, ResourceError
from delineate.review.records import DamagedStore, NotAllowed, StaleRevision

log = logging.getLogger("delineate.review")

# Folders may have blanks in their names, as patients do; so may a file with a suffix.
_PATH = re.compile(
    r"(?<=['\"])(?:[A-Za-z]:)?[/\\][^'\"\n]*[/\\][^'\"\n]*"
    r"|(?<![\w/.<])(?:[A-Za-z]:)?(?:[/\\][^/\\'\",;:()\n]+)+(?<!\s)[/\\]"
    r"(?:[^/\\'\",;:()\n]*\.\w+|[^/\\\s'\",;:()]*)"
)


class NotFound(DelineateError):
    """Nothing of that name, or nothing that this visitor may know of."""


class NotSignedIn(DelineateError):
    """A request without a session that is known."""


class TooLarge(DelineateError):
    """More bytes than this server takes."""


class TooMany(DelineateError):
    """More attempts than this server takes."""


class Busy(ResourceError):
    """The server has too much to do just now."""


_STATUS: tuple[tuple[type[DelineateError], int], ...] = (
    (StaleRevision, 409),
    (NotSignedIn, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (TooLarge, 413),
    (TooMany, 429),
    (DamagedStore, 500),
    (ResourceError, 503),
)


def problem_response(
    status: int, problem: str, remedy: str | None = None, *, facts: dict[str, object] | None = None
) -> Response:
    """A JSON answer of status `status` that says what is wrong."""
    body = {"problem": sentence(problem), "remedy": sentence(remedy) if remedy else None, **(facts or {})}
    answer = Response(json.dumps(body), status, media_type="application/json")
    if status in (408, 413):
        answer.headers["Connection"] = "close"  # whatever is still being sent
    if status in (429, 503):
        answer.headers["Retry-After"] = "5" if status == 503 else "60"
    return answer


def response_of(error: DelineateError) -> Response:
    """The answer that an error of delineate is told by."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    facts: dict[str, object] = {"revision": error.revision} if isinstance(error, StaleRevision) else {}
    # What a database or a disk said of itself is not for visitors.
    told = (None, None) if status >= 500 else (error.expected, error.got)
    problem = DelineateError(error.problem, expected=told[0], got=told[1])
    return problem_response(status, without_paths(str(problem)), without_paths(error.remedy or ""), facts=facts)


def without_paths(text: str) -> str:
    """A text in which no folder of the server is named."""
    return _PATH.sub("(a file)", text)


def sentence(text: str) -> str:
    """A clause as a sentence: a capital, and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def add_handlers(app: FastAPI) -> None:
    """Make an app tell all of its errors in this way."""

    def of_delineate(request: Request, error: Exception) -> Response:
        assert isinstance(error, DelineateError)
        answer = response_of(error)
        if answer.status_code >= 500:
            log.error("%s: %s", type(error).__name__, without_paths(error.problem))
        return answer

    def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = problem_response(error.status_code, _PLAIN.get(error.status_code, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    def of_body(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # What was sent is not told back: it may be a password.
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return problem_response(422, f"the request is not as expected: {wrong}")

    handlers: tuple[tuple[type[Exception], Callable[[Request, Exception], Response]], ...] = (
        (DelineateError, of_delineate),
        (HTTPException, of_http),
        (RequestValidationError, of_body),
    )
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)


_PLAIN = {
    400: "The request could not be read",
    404: "This does not exist, or you may not see it",
    408: "This took too long to arrive",
    405: "This address does not take that method",
    413: "This is larger than the server takes",
}
