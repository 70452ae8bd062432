"""A reader's browser: what they do on the case page, and what went wrong or was asked of others meanwhile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from delineate.editing.runs import wire_view
from delineate.geometry import Grid

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000
# Of the pane, when a picture is shown as a whole.
FITTED = 0.94
_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"""


class Tab:
    """A page in a browser of its own. `problems`: errors, and requests to other servers than `origin`."""

    def __init__(self, browser: Any, origin: str) -> None:
        self.origin = origin
        self.context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(_VIOLATIONS)
        self.problems: list[str] = []
        self.context.on("request", self._asked)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._said)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.origin}/", f"blob:{self.origin}", "data:")):
            self.problems.append(f"asked {request.url}")

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=re.compile(f"^{name}"))

    def sign_in(self, name: str, password: str) -> None:
        self.page.goto(self.origin)
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", password)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("heading", name="Worklist").wait_for()
        # The browser tells of the answer to its first question, whether somebody is signed in.
        self.problems[:] = [said for said in self.problems if "401" not in said]

    def open_case(self, patient: str) -> str:
        """From the worklist, by a patient's name, until all of it has arrived; the case's key."""
        self.page.evaluate("location.hash = '#/'")
        self.page.get_by_role("row", name=re.compile(patient, re.IGNORECASE)).get_by_role("link").click()
        self.page.locator(".saving", has_text="All saved").wait_for()
        self.page.locator(".view-bar progress").wait_for(state="detached")
        self.page.get_by_label("Layout").select_option("axial")
        return unquote(self.page.url.rpartition("/")[2])

    def choose(self, structure: str) -> None:
        self.page.locator(".structure-name", has_text=structure).click()

    def tool(self, name: str, *, radius_mm: float | None = None) -> None:
        self.page.get_by_role("group", name="Tools").get_by_role("button", name=re.compile(f"^{name}")).click()
        if radius_mm is not None:
            self.page.get_by_role("slider", name="Radius").fill(str(radius_mm))

    def show_slice(self, k: int, slices: int) -> None:
        """Of the axial pictures, whose slices rise with the array's in these series."""
        from playwright.sync_api import expect

        top = self._picture()
        top.press("Home")
        expect(top).to_have_attribute("aria-label", re.compile(rf"slice {slices} of {slices}\D"))
        for _ in range(slices - 1 - k):
            top.press("PageDown")
        expect(top).to_have_attribute("aria-label", re.compile(rf"slice {k + 1} of {slices}\D"))

    def place(self, grid: Grid, i: float, j: float) -> tuple[float, float]:
        """Where on the screen a voxel of an axial picture is that is shown as a whole."""
        box = self._picture().bounding_box()
        sizes = np.array(grid.shape[:2]) * grid.spacing_mm[:2]
        scale = min(box["width"] / sizes[0], box["height"] / sizes[1]) * FITTED
        offset = (np.array([i, j]) - (np.array(grid.shape[:2]) - 1) / 2) * grid.spacing_mm[:2] * scale
        return box["x"] + box["width"] / 2 + offset[0], box["y"] + box["height"] / 2 + offset[1]

    def drag(self, grid: Grid, *points: tuple[float, float]) -> None:
        mouse = self.page.mouse
        for n, point in enumerate(points):
            mouse.move(*self.place(grid, *point), steps=4)
            if n == 0:
                mouse.down()
        mouse.up()

    def saved(self) -> None:
        self.page.locator(".saving", has_text="All saved").wait_for()

    def fetch(self, path: str) -> Any:
        """What the server answers this reader, as JSON."""
        answer = self.context.request.get(f"{self.origin}/api{path}")
        assert answer.ok, answer.text()
        return answer.json()

    def labels(self, key: str) -> Any:
        """What the server holds at the head, (I, J, K)."""
        detail = self.fetch(f"/cases/{key}")
        i, j, k = detail["geometry"]["shape"]
        answer = self.context.request.get(f"{self.origin}/api/cases/{key}/labels?from=0&to={k}")
        return wire_view(np.frombuffer(answer.body(), detail["labelType"]).reshape(k, j, i))

    def download(self, link: str, folder: Path) -> Path:
        with self.page.expect_download() as started:
            self.page.get_by_role("link", name=link).click()
        target: Path = folder / started.value.suggested_filename
        started.value.save_as(target)
        return target

    def _picture(self) -> Any:
        return self.page.locator("[data-plane=axial]:not([hidden]) .viewer-top").first

    def close(self) -> None:
        self.context.close()
