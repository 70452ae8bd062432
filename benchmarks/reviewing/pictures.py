"""The page in a browser: until the first picture of a large CT is there, and how fast its slices scroll.

Chromium draws without a graphics card here: pictures by the CPU, in software.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from delineate import formats
from delineate.labels import label_set
from delineate.volume import Segmentation
from reviewing.serving import Server, server

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from review_page_viewer import CHROMIUM_ARGUMENTS
from review_volumes import GRID, body, write_scans

NAMES = {n: f"organ_{n}" for n in range(1, 9)}
SECONDS = 60_000  # in ms, for Playwright
# Whether the axial picture has anything to see is looked at in every frame.
_OPEN = """async (key) => {
    const shown = () => {
        const canvas = document.querySelector("[data-plane=axial]:not([hidden]) .viewer-base");
        if (!canvas || canvas.width < 50 || canvas.height < 50) return false;
        const { data } = canvas.getContext("2d").getImageData(0, canvas.height >> 1, canvas.width, 1);
        for (let at = 0; at < data.length; at += 4) if (data[at] > 40 && data[at + 3] > 0) return true;
        return false;
    };
    const began = performance.now();
    location.hash = `#/case/${key}`;
    while (!shown()) {
        if (performance.now() - began > 60000) throw new Error("no picture within a minute");
        await new Promise((done) => requestAnimationFrame(done));
    }
    return performance.now() - began;
}"""
_SCROLL = """async (slices) => {
    const top = document.querySelector("[data-plane=axial]:not([hidden]) .viewer-top");
    top.focus();
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    await frame();
    const times = [performance.now()];
    const shown = new Set();
    for (let n = 0; n < slices; n++) {
        const key = n % 80 < 40 ? "PageUp" : "PageDown";
        top.dispatchEvent(new KeyboardEvent("keydown", { key, code: key, bubbles: true, cancelable: true }));
        await frame();
        times.push(performance.now());
        shown.add(top.getAttribute("aria-label"));
    }
    return { times, shown: shown.size };
}"""


def make_cases(folder: Path) -> tuple[str, ...]:
    """FOLDER/scans and FOLDER/results: one CT of 512x512x300 as NIfTI, DICOM and DICOM RLE; the names of the cases."""
    scan, labels = body()
    made = write_scans(folder, scan)
    names = tuple(kind.lower().replace(",", "").replace(" ", "-") for kind, _ in made)
    for name in ("scans", "results"):
        (folder / name).mkdir()
    for name, (_, path) in zip(names, made, strict=True):
        path.rename(folder / "scans" / (name + ("" if path.is_dir() else ".nii.gz")))
        result = Segmentation(np.ascontiguousarray(labels), GRID, label_set(NAMES))
        formats.write_segmentation(folder / "results" / f"{name}.nii.gz", result)
    return names


@contextmanager
def page_of(there: Server) -> Iterator[Any]:
    """A browser's page with the worklist of a server."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(there.entrance, timeout=SECONDS)
        page.wait_for_selector("table tbody tr", timeout=SECONDS)
        yield page
        browser.close()


def first_picture_ms(page: Any, key: str) -> float:
    """From asking for a case in the worklist until its axial picture is seen; back at the worklist after."""
    took = float(page.evaluate(_OPEN, key))
    page.evaluate("location.hash = '#/'")
    page.wait_for_selector("table tbody tr", timeout=SECONDS)
    return took


def measure_pictures(folder: Path, *, repeats: int) -> list[tuple[str, ...]]:
    """Rows: the case, whether it was seen before, median and slowest seconds. `folder`: as `make_cases` made it."""
    rows: list[tuple[str, ...]] = []
    for name in sorted(path.name.removesuffix(".nii.gz") for path in (folder / "results").glob("*.nii.gz")):
        cold, warm = [], []
        for _ in range(repeats):
            shutil.rmtree(folder / "results" / "review" / "cache", ignore_errors=True)
            with server(folder) as there, page_of(there) as page:
                key = case_of(page, name)
                cold.append(first_picture_ms(page, key))
                page.wait_for_timeout(4000)  # all of it is made ready meanwhile
                warm.append(first_picture_ms(page, key))
        rows += [(name, before, *_told(times)) for before, times in (("no", cold), ("yes", warm))]
    return rows


def case_of(page: Any, name: str) -> str:
    """The key of the case whose result has a name."""
    keys = page.evaluate("async () => (await (await fetch('/api/cases')).json()).cases.map((row) => row.key)")
    return next(str(key) for key in keys if key == name or key.endswith(f"/{name}"))


def _told(times: list[float]) -> tuple[str, str]:
    return f"{statistics.median(times) / 1000:.1f}", f"{max(times) / 1000:.1f}"


def measure_scrolling(folder: Path, key: str, *, slices: int = 200) -> list[tuple[str, ...]]:
    """Rows: the layout, slices a second, 95 % within so many ms. Of a case that `make_cases` made."""
    rows: list[tuple[str, ...]] = []
    with server(folder) as there, page_of(there) as page:
        page.evaluate(_OPEN, case_of(page, key))
        page.wait_for_load_state("networkidle", timeout=SECONDS)
        page.wait_for_timeout(2000)
        for key, layout in (("1", "four pictures"), ("2", "axial alone")):
            page.keyboard.press(f"Shift+Digit{key}")
            page.wait_for_timeout(500)
            found = page.evaluate(_SCROLL, slices)
            if found["shown"] < 40:
                raise SystemExit(f"only {found['shown']} slices were shown")
            times = np.diff(found["times"])
            rows.append((layout, f"{1000 / times.mean():.0f}", f"{np.percentile(times, 95):.0f}"))
    return rows
