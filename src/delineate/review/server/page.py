"""The page itself: files that are read once, when the server starts. No address reaches the disk."""

from __future__ import annotations

import gzip
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from delineate.review.server.admission import session_of
from delineate.review.server.problems import problem_response
from delineate.review.server.session_routes import begin_local, set_cookie

_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".svg": "image/svg+xml"}
_NO_PAGE = (
    "<!doctype html><html lang=en><title>Review</title><p>The page is not built: run <code>make page</code> in the "
    "source tree, or install delineate as a wheel, which holds it."
)
_USED = (
    "<!doctype html><html lang=en><title>Review</title><p>This address was used before, or is of a server that ended. "
    "Start <code>delineate review</code> again for a new one."
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page. `zipped`: by gzip, where that is smaller, else None."""

    plain: bytes
    zipped: bytes | None
    media_type: str


def read_page(folder: Path) -> Mapping[str, PageFile]:
    """The files of a built page by their address without the leading slash; links are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[path.relative_to(folder).as_posix()] = _page_file(path)
    return found


def _page_file(path: Path) -> PageFile:
    plain = path.read_bytes()
    zipped = gzip.compress(plain, 6, mtime=0)
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return PageFile(plain, zipped if len(zipped) < 0.9 * len(plain) else None, media_type)


def page_routes(folder: Path | None) -> tuple[Route, ...]:
    """Routes of the page: `/` (which takes the one-time token), and every file by its own address."""
    files = {} if folder is None else read_page(folder)

    async def index(request: Request) -> Response:
        if "token" in request.query_params:
            return await run_in_threadpool(_let_in, request)
        if "index.html" not in files:
            return HTMLResponse(_NO_PAGE, 503)
        return _sent(files["index.html"], request, kept="no-cache")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files or name == "index.html":
            return problem_response(404, "This does not exist, or you may not see it")
        return _sent(files[name], request, kept=_FOREVER if name.startswith("assets/") else "no-cache")

    return Route("/", index, methods=["GET"]), Route("/{name:path}", file, methods=["GET"])


def _sent(file: PageFile, request: Request, *, kept: str) -> Response:
    headers = {"Cache-Control": kept, "Vary": "Accept-Encoding"}
    if file.zipped is not None and accepts_gzip(request):
        return Response(file.zipped, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.plain, headers=headers, media_type=file.media_type)


def accepts_gzip(request: Request) -> bool:
    """Whether who asks can take answers that are compressed by gzip."""
    offered = request.headers.get("accept-encoding", "").replace(" ", "").lower().split(",")
    return any(one in ("gzip", "*") or (one.startswith("gzip;") and one[5:] not in ("q=0", "q=0.0")) for one in offered)


def _let_in(request: Request) -> Response:
    """Turn the one-time token into a session; the token leaves the address bar with the redirect."""
    session = begin_local(request.app.state.parts, request.query_params["token"])
    if session is None and session_of(request) is None:
        return HTMLResponse(_USED, 401)
    answer = RedirectResponse("/", 303)
    if session is not None:
        set_cookie(answer, session, request.app.state.parts.options)
    return answer
