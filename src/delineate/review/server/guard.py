"""What every request passes before the routes, and every answer after them: host, origin, headers, log, last errors."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delineate.review.server.options import ServerOptions
from delineate.review.server.problems import problem_response

log = logging.getLogger("delineate.review")

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


class Guard:
    """ASGI middleware around everything that the server answers."""

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        said: list[int] = []

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                said.append(message["status"])
                self._add_headers(message)
            await send(message)

        refused = self._refusal(scope)
        try:
            await (refused or self._app)(scope, receive, send_guarded)
        except Exception as error:
            log.error("%s failed: %s", route_name(scope), sanitised(error))
            if not said:
                await problem_response(500, "The server failed; its log says where")(scope, receive, send_guarded)
        finally:
            status, seconds = (said or [0])[0], time.perf_counter() - began
            log.info("%s %s %s %.0f ms", scope["method"], route_name(scope), status, seconds * 1000)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if not self._is_known_host(headers.get("host", "")):
            return problem_response(421, "This server does not answer to that name", "Use the address that it printed")
        if _FORBIDDEN.search(scope["path"]):
            return problem_response(400, "The address holds characters that no address of this server has")
        if scope["method"] not in _SAFE and not _is_own_origin(headers, secure=self._options.secure):
            return problem_response(403, "This request comes from another page", "Use the page of this server")
        return None

    def _is_known_host(self, host: str) -> bool:
        # A page of the internet whose name is made to point to this machine still sends its own name.
        hosts = self._options.hosts
        return hosts is None or re.sub(r":\d+$", "", host).lower() in hosts

    def _add_headers(self, message: MutableMapping[str, Any]) -> None:
        headers = MutableHeaders(raw=message.setdefault("headers", []))
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("Cache-Control", "no-store")
        if self._options.secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def _is_own_origin(headers: Headers, *, secure: bool) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    scheme = "https" if secure else "http"
    return parts.scheme == scheme and parts.netloc.lower() == headers.get("host", "").lower()


def route_name(scope: Scope) -> str:
    """A request's route as it is written in the code: the address itself may name a patient or hold a token."""
    return str(getattr(scope.get("route"), "path", "(no route)"))


def sanitised(error: BaseException) -> str:
    """What failed and where in the code; not the error's text, which may name a patient or a folder."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
    return f"{type(error).__name__} at {' > '.join(places)}"
