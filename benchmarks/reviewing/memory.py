"""How much memory a server takes while many large cases are open."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import httpx

from reviewing.cases import copy_case
from reviewing.serving import server

SLICES, SLAB = 300, 16


def measure_memory(
    source: Path, folder: Path, name: str, *, memory_gb: float, cases: int = 12
) -> list[tuple[str, ...]]:
    """Rows: what was done, memory in MB after it, the most until then. `source`: as `pictures.make_cases` made it."""
    names = copy_case(source, folder, name, cases)
    rows: list[tuple[str, ...]] = []
    with server(folder, more=("--memory-gb", str(memory_gb))) as there, httpx.Client(base_url=there.base) as browser:
        browser.timeout = 300
        browser.get(there.entrance)

        def note(what: str) -> None:
            rows.append((what, f"{there.memory_bytes() / 1e6:.0f}", f"{there.peak_bytes() / 1e6:.0f}"))

        note("started")
        for key in names[:1]:
            _read(browser, key)
        note("1 case read")
        for key in names[1:]:
            _read(browser, key)
        note(f"{cases} cases read, one after the other")
        threads = [threading.Thread(target=_read, args=(browser, key)) for key in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        note(f"{cases} cases at once")
        for key in names[:3]:
            browser.get(f"/api/cases/{key}/findings").raise_for_status()
            browser.get(f"/api/cases/{key}/surface/1").raise_for_status()
        note("findings and a surface of 3")
    return rows


def _read(browser: httpx.Client, key: str) -> None:
    browser.get(f"/api/cases/{key}").raise_for_status()
    for start, stop in pairwise((*range(0, SLICES, SLAB), SLICES)):
        for what in ("image", "labels"):
            browser.get(f"/api/cases/{key}/{what}", params={"from": start, "to": stop}).raise_for_status()
