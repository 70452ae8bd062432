"""The viewer in a real browser, on oblique, anisotropic volumes with an asymmetric patient."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from review_page_viewer import CHROMIUM_ARGUMENTS, build, missing_tools, oblique, served

pytestmark = pytest.mark.skipif(missing_tools() != "", reason=f"needs {missing_tools()}")
FLIPS = list(product((1, -1), repeat=3))


@pytest.fixture(scope="module")
def browser_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("viewer")
    build(folder)
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
        page.goto(address)
        page.wait_for_function("Boolean(globalThis.harness)")
        yield page
        assert problems == []
        browser.close()


def open_case(page: Any, geometry: dict[str, object], **options: object) -> None:
    page.evaluate("options => harness.open(options)", {"geometry": geometry, **options})


def mark_index(page: Any, geometry: dict[str, object]) -> np.ndarray:
    world = np.array([*page.evaluate("harness.mark"), 1.0])
    return np.linalg.solve(np.array(geometry["affine"]), world)[:3]


def aim(page: Any, plane: str) -> tuple[float, float]:
    """Where on the page the middle of a picture's only bright spot is."""
    across, down = page.evaluate("plane => harness.brightest(plane)", plane)
    box = page.evaluate("plane => harness.box(plane).toJSON()", plane)
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def show_mark(page: Any, index: np.ndarray) -> None:
    page.evaluate("index => harness.view.setCrosshair(index)", [round(at) for at in index])
    page.evaluate("harness.view.setStyle({ crosshair: false, opacity: 0 })")
    page.evaluate("harness.view.setWindow({ lower: 400, upper: 900 })")
    page.evaluate("harness.frames(3)")


@pytest.mark.parametrize("flips", FLIPS)
def test_tool_gets_the_index_of_a_known_world_point_to_half_a_voxel(
    browser_page: Any, flips: tuple[int, int, int]
) -> None:
    geometry = oblique(flips)
    open_case(browser_page, geometry)
    expected = mark_index(browser_page, geometry)
    show_mark(browser_page, expected)
    for across, plane in enumerate(["sagittal", "coronal", "axial"]):
        browser_page.evaluate("plane => { harness.view.setLayout(plane); harness.listen(); }", plane)
        browser_page.evaluate("harness.frames(3)")
        browser_page.mouse.click(*aim(browser_page, plane))
        tap = json.loads(browser_page.evaluate("harness.taps.find((tap) => tap.includes('down'))"))
        assert tap["index"][across] == round(expected[across])
        assert np.abs(np.array(tap["index"]) - expected).max() < 0.5


@pytest.mark.parametrize("flips", FLIPS)
def test_click_puts_the_crosshair_on_the_voxel_of_a_known_world_point(
    browser_page: Any, flips: tuple[int, int, int]
) -> None:
    geometry = oblique(flips)
    open_case(browser_page, geometry)
    expected = mark_index(browser_page, geometry)
    show_mark(browser_page, expected)
    start = [round(expected[0]) + 3, round(expected[1]) - 2, round(expected[2])]
    browser_page.evaluate("index => { harness.view.setLayout('axial'); harness.view.setCrosshair(index); }", start)
    browser_page.evaluate("harness.frames(3)")
    browser_page.mouse.click(*aim(browser_page, "axial"))
    assert browser_page.evaluate("harness.view.crosshair") == [round(at) for at in expected]


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_pictures_are_the_same_however_the_array_is_stored(browser_page: Any, order: tuple[int, int, int]) -> None:
    def pictures(geometry: dict[str, object], at: list[int]) -> list[float]:
        open_case(browser_page, geometry)
        browser_page.evaluate("index => harness.view.setCrosshair(index)", at)
        browser_page.evaluate("harness.view.setStyle({ crosshair: false }); harness.frames(3)")
        return list(browser_page.evaluate("harness.compare()"))

    shape, flips, at = np.array([90, 68, 36]), np.array([-1, 1, -1]), np.array([55, 25, 20])
    pictures(oblique((1, 1, 1)), at.tolist())
    stored = np.where(flips < 0, shape - 1 - at, at)[list(order)]
    differing, spread = pictures(oblique(flips[list(order)].tolist(), order=order), stored.tolist())
    assert spread > 30
    assert differing < 0.05


def test_keys_step_move_and_zoom_and_the_picture_tells_where_it_is(browser_page: Any) -> None:
    open_case(browser_page, oblique((-1, 1, 1)))
    top = browser_page.locator("[data-plane=axial]:not([hidden]) .viewer-top")
    top.focus()
    browser_page.keyboard.press("PageUp")
    browser_page.keyboard.press("Shift+ArrowRight")
    browser_page.evaluate("harness.frames(2)")
    # The array's first axis runs to the patient's right, so that right in the picture is against it.
    assert browser_page.evaluate("harness.view.crosshair") == [34, 33, 18]
    assert top.get_attribute("aria-label").startswith("Axial, slice 19 of 36, L ")


def test_wheel_goes_through_slices_and_zooms_with_control(browser_page: Any) -> None:
    open_case(browser_page, oblique((1, 1, 1)))
    box = browser_page.evaluate("harness.box('axial').toJSON()")
    browser_page.mouse.move(box["x"] + 90, box["y"] + 90)
    browser_page.mouse.wheel(0, 120)
    browser_page.evaluate("harness.frames(2)")
    assert browser_page.evaluate("harness.view.crosshair[2]") == 16
    before = browser_page.evaluate("harness.view.window()")
    browser_page.mouse.down(button="right")
    browser_page.mouse.move(box["x"] + 140, box["y"] + 90)
    browser_page.mouse.up(button="right")
    after = browser_page.evaluate("harness.view.window()")
    assert after["upper"] - after["lower"] > 1.1 * (before["upper"] - before["lower"])


def test_a_line_is_measured_in_mm_along_the_world(browser_page: Any) -> None:
    geometry = oblique((1, -1, 1))
    open_case(browser_page, geometry)
    browser_page.evaluate("harness.view.setTool(harness.view.measureTool('distance'))")
    box = browser_page.evaluate("harness.box('axial').toJSON()")
    browser_page.mouse.move(box["x"] + 200, box["y"] + 150)
    browser_page.mouse.down()
    browser_page.mouse.move(box["x"] + 260, box["y"] + 230, steps=4)
    browser_page.mouse.up()
    (measured,) = browser_page.evaluate("harness.view.measurements()")
    way = np.array(geometry["affine"])[:3, :3] @ (np.array(measured["to"]) - np.array(measured["from"]))
    assert float(measured["text"].removesuffix(" mm")) == pytest.approx(np.linalg.norm(way), abs=0.051)
    assert np.linalg.norm(way) > 10


def test_paint_is_seen_in_the_next_frame(browser_page: Any) -> None:
    open_case(browser_page, oblique((1, 1, -1)))
    script = """async () => {
        const view = harness.view;
        view.setLayout("axial");
        view.setStyle({ opacity: 1, crosshair: false });
        await harness.frames(2);
        const base = document.querySelector("[data-plane=axial]:not([hidden]) .viewer-base");
        const green = () => { const { data } = base.getContext("2d").getImageData(0, 0, base.width, base.height);
            let n = 0; for (let at = 0; at < data.length; at += 4) n += data[at + 1] > data[at] + 40; return n; };
        const before = green();
        const [i, j, k] = view.crosshair;
        const offsets = Uint32Array.from({ length: 12 }, (_, n) => i + n + 90 * (j + 68 * k));
        view.labels.paint(offsets, 2);
        await harness.frames(2);
        return [before, green()];
    }"""
    before, after = browser_page.evaluate(script)
    assert before == 0
    assert after > 100


def test_surfaces_are_drawn_under_the_content_policy(browser_page: Any) -> None:
    open_case(browser_page, oblique((1, 1, 1)), surfaces=True)
    canvas = browser_page.locator(".viewer-3d canvas")
    assert browser_page.evaluate("harness.surfaced('right nodule')")
    picture = canvas.screenshot()
    browser_page.evaluate("harness.view.setStyle({ hidden: new Set([1, 2]) })")
    browser_page.evaluate("harness.frames(3)")
    assert canvas.screenshot() != picture
    assert "nothing" in canvas.get_attribute("aria-label")


def test_pictures_beside_each_other_stay_linked(browser_page: Any) -> None:
    open_case(browser_page, oblique((1, 1, 1)))
    browser_page.evaluate("harness.view.setLayout('side-by-side'); harness.frames(3)")
    differing = """() => { const bases = document.querySelectorAll('.viewer-pane:not([hidden]) .viewer-base');
        const [one, other] = [...bases].map((base) =>
            base.getContext('2d').getImageData(0, 0, base.width, base.height).data);
        return one.reduce((count, value, at) => count + (value !== other[at] ? 1 : 0), 0); }"""
    browser_page.evaluate("harness.view.setCrosshair([30, 26, 21]); harness.frames(3)")
    assert browser_page.evaluate(differing) > 500, "the reference differs from the labels"
    browser_page.evaluate("harness.view.setStyle({ opacity: 0 })")
    box = browser_page.locator(".viewer-pane:not([hidden]) .viewer-top").last.bounding_box()
    browser_page.mouse.move(box["x"] + 200, box["y"] + 300)
    browser_page.mouse.wheel(0, -120)
    browser_page.keyboard.down("Control")
    browser_page.mouse.wheel(0, -200)
    browser_page.keyboard.up("Control")
    browser_page.evaluate("harness.frames(4)")
    assert browser_page.evaluate("harness.view.crosshair[2]") == 22
    assert browser_page.evaluate(differing) == 0


def test_what_could_not_be_fetched_is_told_and_fetched_again(browser_page: Any) -> None:
    open_case(browser_page, oblique((1, 1, 1)), refusals=1)
    script = """async () => { let told = null; const off = harness.view.onProgress((progress) => (told = progress));
        await harness.frames(10); off(); const before = told; harness.view.retryLoading();
        await harness.view.loaded(); harness.view.onProgress((progress) => (told = progress));
        return [before, told]; }"""
    before, after = browser_page.evaluate(script)
    assert before["problem"] == "You may not see this."
    assert before["share"] < 1
    assert after == {"share": 1, "problem": None}
