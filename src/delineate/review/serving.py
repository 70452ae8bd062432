"""From folders to a server that runs: cases into the worklist, who may come in, the address, and a clean end."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from logging.handlers import RotatingFileHandler
from pathlib import Path
from shutil import rmtree
from typing import IO, TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from delineate.editing.prompts.proposing import warm_up
from delineate.errors import InputError, ResourceError
from delineate.files import exclusive, sweep
from delineate.review.keeping import Sources, add_found, local_person, open_review
from delineate.review.live import LiveLabels
from delineate.review.memory import return_freed_memory, shares_of
from delineate.review.places import Places
from delineate.review.server.app import make_app
from delineate.review.server.options import LOOPBACK_NAMES, ServerOptions
from delineate.review.store import Store
from delineate.review.volumes import DisplayVolumes
from delineate.workflow.progress import Watch, nobody

if TYPE_CHECKING:
    from delineate.review.proposing import ModelProposer

FIRST_PORT, PORTS = 8765, 100
_LOG_BYTES, _OLD_LOGS = 5 << 20, 3
_END_SECONDS = 5
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 need no choice


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `port`: None for the first free one from 8765. `certificate`, `key`: PEM files of TLS."""

    host: str = "127.0.0.1"
    port: int | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.certificate is not None


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """A review to be served. `database`: a URL, None for SQLite among the `places`; `memory_bytes`: for the server
    and all that it keeps; `full_name`: of this machine's user, as they sign; `promptable`: the folder
    of a model that is asked for proposals, on `device`. `idle_minutes`: after which somebody who touched nothing is
    signed out, of those who come from elsewhere; this machine's user has no password to sign in with again."""

    sources: Sources
    places: Places
    address: Address
    memory_bytes: int
    database: str | None = None
    full_name: str = ""
    promptable: Path | None = None
    device: str = "cpu"
    idle_minutes: float = 30.0


def check_address(address: Address, store: Store) -> None:
    """Raises `InputError` if others could reach the server without TLS, or no one could sign in."""
    if (address.certificate is None) != (address.key is None):
        raise InputError("TLS needs a certificate and its key", remedy="Give both --tls-cert and --tls-key")
    for path in (address.certificate, address.key):
        if path is not None and not path.is_file():
            raise InputError("there is no such file", path=path)
    if address.is_loopback:
        return
    if not address.is_secure:
        raise InputError(
            "others can reach this address, so it needs TLS",
            got=f"host {address.host}",
            remedy="Give --tls-cert and --tls-key, or leave --host away to serve this machine alone",
        )
    if not store.can_somebody_sign_in():
        raise InputError(
            "nobody could sign in: there is no account with a password",
            remedy="Add one first: delineate review-people add WORKSPACE NAME --role admin",
        )


def serve(
    request: ReviewRequest,
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None],
    open_browser: bool = False,
    watch: Watch = nobody,
) -> None:
    """Serve a review until somebody ends it by Ctrl-C or SIGTERM.

    Raises `InputError` for an address that is not safe, or nothing to review; `ResourceError` if another server has
    the folder, or the port is taken; and what the store raises.
    """
    return_freed_memory()
    proposer = _proposer(request)
    with ExitStack() as stack:
        stack.enter_context(_kept_if_used(request.places))
        stack.enter_context(_alone(request.places.folder))
        _clear(request.places)
        if is_open_to_others(request.places.folder):
            warn(f"others on this machine can read {request.places.folder}, which names patients: chmod 700 it")
        store = open_review(request.places, request.database)
        stack.callback(store.close)
        check_address(request.address, store)
        listening = stack.enter_context(_listen(request.address))
        for line in add_found(store, request.sources, watch=watch):
            warn(line)
        app = app_of(request, store, proposer)
        stack.enter_context(_logging_to(request.places.log))
        url = _url(request.address, listening.getsockname()[1])
        say(f"{store.count_cases()} cases; what people do is kept in {request.places.folder}")

        def ready() -> None:
            token = app.state.parts.token.text if request.address.is_loopback else ""
            say(f"Listening on {url}{f'/?token={token}' if token else ''}")
            if token:
                say("The address is good for one visit, by this machine's user. Ctrl-C ends the server.")
            if open_browser:
                _open_browser(f"{url}/?token={token}" if token else url)
            # Beside the first visits: who points first must not wait for a compiler. Not a daemon: a clean end waits.
            threading.Thread(target=warm_up, name="warming up").start()

        _run(app, listening, request.address, ready)
        say("Ended. The same command goes on from here.")


@contextmanager
def _kept_if_used(places: Places) -> Iterator[None]:
    """The folder of a review; one that is new goes again if there turns out to be nothing to review.

    Raises `ResourceError` if nothing can be written there.
    """
    new = not places.folder.exists()
    try:
        places.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ResourceError(
            "what people do cannot be kept there",
            got=error.strerror,
            path=places.folder,
            remedy="Name a folder that can be written to by --workspace",
        ) from error
    try:
        yield
    except InputError:
        if new:
            rmtree(places.folder, ignore_errors=True)
        raise


def is_open_to_others(folder: Path) -> bool:
    """Whether others than its owner may read a folder or list it; False where the system knows no such thing."""
    return os.name == "posix" and bool(folder.stat().st_mode & 0o077)


def _clear(places: Places) -> None:
    """Remove what a server that was killed left half read or half written; this one is alone here."""
    rmtree(places.uploads, ignore_errors=True)
    sweep(places.exports)


def app_of(request: ReviewRequest, store: Store, proposer: ModelProposer | None = None) -> FastAPI:
    """The server's app over a store."""
    shares = shares_of(request.memory_bytes)
    options = ServerOptions(
        places=request.places,
        page=page_folder(),
        local=local_person(store, request.full_name) if request.address.is_loopback else None,
        hosts=LOOPBACK_NAMES | {request.address.host} if request.address.is_loopback else None,
        secure=request.address.is_secure,
        version=version("delineate"),
        memory_bytes=shares.answers,
        idle_seconds=None if request.address.is_loopback else 60 * request.idle_minutes,
    )
    live = LiveLabels(store, memory_bytes=shares.labels)
    volumes = DisplayVolumes(request.places.cache, memory_bytes=shares.scans)
    return make_app(store, live, volumes, options, proposer=proposer)


def _proposer(request: ReviewRequest) -> ModelProposer | None:
    if request.promptable is None:
        return None
    from delineate.review.proposing import open_proposer

    return open_proposer(request.promptable, device=request.device, memory_bytes=request.memory_bytes // 4)


def page_folder() -> Path | None:
    """The built page, None where it was not built."""
    folder = Path(str(files("delineate.review") / "static"))
    return folder if (folder / "index.html").is_file() else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = exclusive(folder)
    try:
        lock.__enter__()
    except ResourceError as error:
        raise ResourceError(
            "another server of this review runs already",
            path=folder,
            remedy="Use the address that it printed, or end it first",
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextmanager
def _listen(address: Address) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if address.port is None else (address.port,)
    # asyncio sends small answers at once (TCP_NODELAY) only where a socket says that it is one of TCP: else each waits
    # 40 ms for the browser's acknowledgement of its headers.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in ports:
            try:
                listening.bind((address.host, port))
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            yield listening
            return
        raise ResourceError(
            "the server cannot listen there",
            got=f"{address.host}, port {ports[0]}: {reason}",
            remedy="Give another --port",
        )


def _url(address: Address, port: int) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'https' if address.is_secure else 'http'}://{host}:{port}"


class _OwnersLog(RotatingFileHandler):
    def _open(self) -> IO[str]:  # type: ignore[override]
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=_opened_by_owner)


def _opened_by_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    log = logging.getLogger("delineate.review")
    handler = _OwnersLog(path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _run(app: FastAPI, listening: socket.socket, address: Address, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        app,
        http="h11",  # the other one takes headers without end
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        ssl_ciphers=CIPHERS,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    # uvicorn ends in order at either signal, and then sends it again to who was there before.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _Server(config, ready).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _open_browser(url: str) -> None:
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:  # those draw in this terminal
        threading.Thread(target=browser.open, args=(url,), daemon=True).start()
