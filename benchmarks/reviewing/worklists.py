"""Pages of a worklist of ten thousand cases, asked for over HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import numpy as np
from review_store import make_cases

from delineate.review.keeping import open_review
from delineate.review.places import places_in
from reviewing.cases import make_small_cases
from reviewing.serving import server

QUERIES = {
    "what most needs eyes first": "",
    "page 150": "offset=7450",
    "one structure": "structure=spleen",
    "two states, by site": "state=unreviewed&state=in_review&order=site",
    "one site, one model, by time spent": "site=site 3&model=organs&order=-seconds",
    "search for a pseudonym": "search=p-0123",
    "search that finds nothing": "search=nobody",
    "by reader": "order=reader",
}
REPEATS = 40


def measure_worklists(folder: Path, database: str | None, *, cases: int) -> list[tuple[str, ...]]:
    """Rows: the query, median and 95 % in ms. The folder must be new or empty."""
    make_small_cases(folder, 1)
    store = open_review(places_in(folder / "results"), database)
    store.add_cases(make_cases(cases))
    store.close()
    rows: list[tuple[str, ...]] = []
    with server(folder, database=database) as there, httpx.Client(base_url=there.base, timeout=60) as browser:
        browser.get(there.entrance)
        for what, query in QUERIES.items():
            rows.append((what, *_told(browser, f"/api/cases?limit=50&{query}")))
        rows.append(("what can be filtered by", *_told(browser, "/api/filters")))
    return rows


def _told(browser: httpx.Client, path: str) -> tuple[str, str]:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        browser.get(path).raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return f"{np.median(times):.0f}", f"{np.percentile(times, 95):.0f}"
