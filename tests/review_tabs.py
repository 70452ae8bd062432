"""A browser and its tabs, on a review's server in this process, for tests of its pages."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from delineate.review.store import Store

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "src/delineate/review/static"
AXE = ROOT / "page/node_modules/axe-core/axe.min.js"
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


def missing() -> str:
    """What tests of the pages need and this machine lacks; empty where all is there."""
    if CHROMIUM is None:
        return "chromium"
    lacks = not AXE.is_file() or not (STATIC / "index.html").is_file()
    return "the page built with its packages (make page)" if lacks else ""


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve on loopback; gives the address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(10)


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        yield started
        started.close()


class Tab:
    """A browser's page with a session of its own, and what went wrong or was asked of other servers meanwhile."""

    def __init__(self, browser: Any, store: Store, address: str, *, name: str | None, **looks: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 720}} | looks))
        if name is not None:
            person = store.person(name)
            assert person is not None
            token = store.begin_session(person, seconds=600).token
            self.context.add_cookies([{"name": "delineate_session", "value": token, "url": address}])
        self.page = self.context.new_page()
        self.address = address
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda asked: self._asked(asked.url))

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "blob:", "data:")):
            self.problems.append(f"asked {url}")

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}#{path}")
        self.page.wait_for_selector("h1, h2")
        self.page.locator("main").filter(has_not_text=re.compile("Loading|Comparing")).wait_for()

    def offences(self, within: str = "html") -> list[str]:
        """What axe finds that is serious."""
        # As a script of the page it would offend the content policy, which must hold here as well.
        if not self.page.evaluate("() => Boolean(globalThis.axe)"):
            self.page.evaluate(f"() => {{ const module = undefined, define = undefined; {AXE.read_text()} }}")
        found = self.page.evaluate("async (within) => (await axe.run(within)).violations", within)
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in serious]
