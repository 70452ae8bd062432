"""A whole review in a real browser, from a server that runs as its users start it: look, correct, sign, hand on."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from review_browser.serving import ReviewServer
from review_browser.tab import ARGUMENTS, Tab
from review_browser.workspace import LIVER, RIGHT_KIDNEY, Patient, make_workspace

from delineate.formats.dicom_results.seg import read_seg
from delineate.geometry import Grid
from delineate.review.keeping import open_review
from delineate.review.places import places_in
from delineate.review.records import Role
from delineate.review.seen import scan_digest, seen_digest, slice_digests

CHROMIUM = shutil.which("chromium")
STATIC = Path(__file__).resolve().parents[1] / "src/delineate/review/static"
PASSWORD = "a long password"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or not (STATIC / "index.html").is_file(), reason="needs chromium, and the page built (make page)"
)


@dataclass(frozen=True)
class Review:
    """A server, its patients, and this machine's user in a browser: `local`."""

    server: ReviewServer
    patients: dict[str, Patient]
    browser: Any
    local: Tab


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Review]:
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("workspace")
    patients = make_workspace(folder)
    store = open_review(places_in(folder))
    store.add_person("nora", "Nora Berg", Role.REVIEWER, PASSWORD, sees_names=True, collections=None)
    store.close()
    server = ReviewServer(folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            local = Tab(browser, server.origin)
            local.page.goto(server.start())
            yield Review(server, patients, browser, local)
        finally:
            server.kill()
            browser.close()


def test_a_case_is_corrected_signed_and_exported_exactly_as_it_was_seen(review: Review, tmp_path: Path) -> None:
    tab, case = review.local, review.patients["anna"]
    i, j, k = case.bite
    key = tab.open_case("anna")
    tab.show_slice(k, case.grid.shape[2])
    tab.choose("liver")
    tab.tool("Brush", radius_mm=14)
    tab.drag(case.grid, (i - 1, j - 1), (i + 1, j - 1), (i + 1, j + 1), (i - 1, j + 1))
    tab.saved()
    assert tab.labels(key)[i, j, k] == LIVER
    tab.button("Undo").click()
    tab.saved()
    np.testing.assert_array_equal(tab.labels(key), case.model)
    tab.button("Redo").click()
    tab.saved()
    tab.choose("spleen")
    tab.tool("Eraser", radius_mm=25)
    tab.drag(case.grid, case.blob[:2])
    tab.saved()
    propose_kidney(tab, case)
    labels = tab.labels(key)
    assert (labels[case.bite], labels[case.blob]) == (LIVER, 0)
    assert dice(labels == RIGHT_KIDNEY, case.reference == RIGHT_KIDNEY) > 0.7
    sign(tab)
    export_seg(tab, key, case, tmp_path)
    assert tab.problems == []


def propose_kidney(tab: Tab, case: Patient) -> None:
    """One click into the kidney that the model has missed, and the proposal taken."""
    i, j, k = (round(float(at.mean())) for at in np.nonzero(case.reference == RIGHT_KIDNEY))
    tab.show_slice(k, case.grid.shape[2])
    tab.choose("right kidney")
    tab.tool("Click")
    tab.drag(case.grid, (i, j))
    tab.button("Accept").click()
    tab.saved()


def sign(tab: Tab) -> None:
    tab.button("Decide…").first.click()
    tab.button("Sign: approve").click()
    tab.page.get_by_role("heading", name="The case is approved.").wait_for()
    tab.button("Stay here").click()
    tab.page.locator(".top-bar .chip", has_text="Approved with edits").wait_for()


def export_seg(tab: Tab, key: str, case: Patient, folder: Path) -> None:
    """From the page; what is read back has the digest that the server says was signed."""
    tab.button("Export…").click()
    tab.page.get_by_label("Report").uncheck()
    tab.page.get_by_role("dialog").get_by_role("button", name="Export").click()
    tab.page.get_by_text("Written and read back").wait_for()
    found = read_seg(tab.download(f"{key}.seg.dcm", folder)).segmentation
    tab.button("Close").click()
    voxels = placed(found.array, found.grid, case)
    np.testing.assert_array_equal(voxels, tab.labels(key))
    seen = tab.fetch(f"/cases/{key}")["decisions"][-1]["seen"]
    slices = {0: (1, slice_digests(np.ascontiguousarray(voxels.transpose(2, 1, 0))))}
    assert seen == seen_digest(scan_digest(case.scan), case.grid, slices)


def placed(array: Any, grid: Grid, case: Patient) -> Any:
    """Voxels in the case's own array: the object leaves out slices without structures."""
    whole = np.zeros(case.grid.shape, np.uint8)
    first = np.rint(np.linalg.solve(case.grid.affine, grid.affine[:, 3])[:3]).astype(int)
    whole[tuple(slice(start, start + size) for start, size in zip(first, array.shape, strict=True))] = array
    return whole


def dice(one: Any, other: Any) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_nothing_drawn_is_lost_when_the_server_is_killed(review: Review) -> None:
    tab, case = review.local, review.patients["bert"]
    i, j, k = case.blob
    dabs = [(i - 3, j, k), (i, j + 3, k), (i + 3, j, k), (i, j - 3, k)]
    key = tab.open_case("bert")
    revision = tab.fetch(f"/cases/{key}")["revision"]
    tab.show_slice(k, case.grid.shape[2])
    tab.choose("liver")
    tab.tool("Brush", radius_mm=4)
    tab.drag(case.grid, dabs[0][:2])
    tab.saved()
    tab.page.mouse.move(*tab.place(case.grid, *dabs[1][:2]))
    tab.page.mouse.down()
    with review.server.down():
        tab.page.mouse.up()
        for dab in dabs[2:]:
            tab.drag(case.grid, dab[:2])
        tab.page.locator(".saving", has_text="Offline, 3 strokes waiting").wait_for()
    tab.saved()
    labels = tab.labels(key)
    assert [int(labels[dab]) for dab in dabs] == [LIVER] * len(dabs)
    assert [one["tool"] for one in tab.fetch(f"/cases/{key}/edits?after={revision}")["edits"]] == ["brush"] * len(dabs)
    assert [said for said in tab.problems if not said.startswith("Failed to load resource: net::ERR_")] == []
    assert tab.fetch("/audit/verify")["problems"] == []
    tab.problems.clear()


def test_two_people_on_one_case_are_told_and_both_are_kept(review: Review) -> None:
    first, case = review.local, review.patients["bert"]
    second = Tab(review.browser, review.server.origin)
    second.sign_in("nora", PASSWORD)
    key = first.open_case("bert")
    second.open_case("bert")
    before, revision = first.labels(key), first.fetch(f"/cases/{key}")["revision"]
    second.page.get_by_text(re.compile("Also here: ")).wait_for()
    i, j, k = case.bite
    for tab, structure in ((second, "liver"), (first, "aorta")):
        tab.show_slice(k, case.grid.shape[2])
        tab.choose(structure)
        tab.tool("Brush", radius_mm=4)
    second.drag(case.grid, (i, j))
    second.saved()
    # The first has not heard of it yet: what they draw is of an older revision.
    first.drag(case.grid, (i + 2, j))
    first.page.get_by_text("nora changed the labels meanwhile").wait_for()
    first.saved()
    labels = first.labels(key)
    changed = labels != before
    assert (int(labels[i, j, k]), int(labels[i + 2, j, k])) == (LIVER, 5)
    assert set(np.unique(labels[changed]).tolist()) == {LIVER, 5}
    edits = first.fetch(f"/cases/{key}/edits?after={revision}")["edits"]
    assert [one["person"] for one in edits] == ["nora", first.fetch("/session")["person"]["name"]]
    second.close()
    assert second.problems == []
    assert [said for said in first.problems if "409" not in said] == []
