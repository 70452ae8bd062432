"""The case page for everybody: axe on each of its dialogues, and a whole review by keyboard alone."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from review_site import Site, make_site
from review_tabs import STATIC, Tab, chromium, missing, serving

pytestmark = pytest.mark.skipif(missing() != "", reason=f"needs {missing()}")
TOOLS = {
    "b": "Brush",
    "e": "Eraser",
    "t": "Threshold",
    "l": "Lasso",
    "p": "Click",
    "o": "Box",
    "s": "Scribble",
    "m": "Distance",
    "i": "Intensity",
    "v": "Look",
}
# Elements that Tab should come to, as the page says that they take the focus.
_STOPS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, [tabindex='0']")]
    .filter((each) => !each.disabled && each.tabIndex >= 0 && each.checkVisibility({ visibilityProperty: true }))
    .map((each, n) => (each.dataset.stop = String(n)))"""
_FOCUS = """() => {
    const here = document.activeElement;
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(here);
    const { top, bottom, width, height } = here.getBoundingClientRect();
    const marked = (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1.5) || boxShadow !== "none";
    const seen = width > 0 && height > 0 && bottom > 0 && top < innerHeight;
    return [here.dataset.stop ?? null, marked && seen, here.outerHTML.slice(0, 120)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--disable-3d-apis") as started:
        yield started


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site", page=STATIC)


@pytest.fixture
def tab(browser: Any, site: Site) -> Iterator[Tab]:
    with serving(site.app) as address:
        opened = Tab(browser, site.store, address, name="ada", viewport={"width": 1366, "height": 768})
        yield opened
        opened.context.close()
    assert opened.problems == []


def open_case(tab: Tab, key: str = "one") -> None:
    tab.page.goto(f"{tab.address}#/case/{key}")
    tab.page.locator(".saving", has_text="All saved").wait_for()
    tab.page.locator(".view-bar progress").wait_for(state="detached")


def keys(tab: Tab, pressed: str) -> None:
    for key in pressed.split():
        tab.page.keyboard.press(key)


def button(tab: Tab, name: str) -> Any:
    return tab.page.get_by_role("button", name=re.compile(f"^{name}"))


def tab_to(tab: Tab, name: str | re.Pattern[str], *, role: str = "button") -> None:
    """Press Tab until a control has the focus."""
    wanted = tab.page.get_by_role(role, name=name, exact=True)
    wanted.wait_for()
    come_to = []
    for _ in range(80):
        if wanted.evaluate("each => each === document.activeElement"):
            return
        tab.page.keyboard.press("Tab")
        come_to.append(tab.page.evaluate("document.activeElement.textContent.slice(0, 20)"))
    raise AssertionError(f"Tab does not come to {name}, but to {come_to}")


def use_theme(tab: Tab, theme: str) -> None:
    tab.page.add_init_script(f"localStorage.setItem('delineate.theme', '{theme}')")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_dialogue_of_a_case_has_a_serious_fault(tab: Tab, theme: str) -> None:
    use_theme(tab, theme)
    open_case(tab)
    assert tab.offences() == []
    for key in "tp":
        keys(tab, key)
        assert tab.offences(".case-bars") == []
    for panel in ("Warnings", "History", "Measurements"):
        tab.page.get_by_role("tab", name=panel).click()
        assert tab.offences(".case-right") == [], panel
    for opener in ("Keys", "Second reader", "Upload", "Export", "Decide…"):
        button(tab, opener).first.click()
        tab.page.locator("dialog [role=status]", has_text="Waiting").wait_for(state="detached")
        assert tab.offences("dialog") == [], opener
        if opener != "Decide…":
            keys(tab, "Escape")
            assert tab.page.locator("dialog").count() == 0
    button(tab, "Sign: approve").click()
    button(tab, "Stay here").wait_for()
    assert tab.offences("dialog") == []
    button(tab, "Stay here").click()
    button(tab, "Reopen").click()
    assert tab.offences("dialog") == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_signing_in_and_again_has_no_serious_fault(browser: Any, tmp_path: Path, theme: str) -> None:
    site = make_site(tmp_path / "site", page=STATIC, local=None)
    with serving(site.app) as address:
        stranger, rita = (Tab(browser, site.store, address, name=name) for name in (None, "rita"))
        use_theme(stranger, theme)
        stranger.page.goto(address)
        stranger.page.locator("[name=password]").wait_for()
        assert stranger.offences() == []
        use_theme(rita, theme)
        open_case(rita)
        rita.context.clear_cookies()
        rita.page.get_by_role("tab", name="History").click()
        rita.page.locator("dialog [name=password]").wait_for()
        assert rita.offences("dialog") == []
        for tab in (stranger, rita):
            tab.context.close()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_dialogues_about_people_have_no_serious_fault(tab: Tab, theme: str) -> None:
    use_theme(tab, theme)
    tab.open("/people")
    for opener in ("Add a person", "Change rita"):
        button(tab, opener).click()
        tab.page.locator("dialog[open]").wait_for()
        assert tab.offences("dialog") == [], opener
        keys(tab, "Escape")


def test_a_whole_review_is_done_by_keyboard_alone(tab: Tab, site: Site) -> None:
    tab.open("/")
    tab.page.locator(".case-link").first.wait_for()
    keys(tab, "j")
    key = tab.page.evaluate("document.activeElement.textContent").removeprefix("P-")
    other = {"one": "two", "two": "one"}[key]
    keys(tab, "Enter")
    tab.page.locator(".saving", has_text="All saved").wait_for()
    tab.page.locator(".view-bar progress").wait_for(state="detached")

    def stands_at(revision: int) -> None:
        tab.page.wait_for_function("() => document.querySelector('.saving').textContent === 'All saved'")
        case = site.store.case(key)
        assert case is not None
        assert case.revision == revision

    keys(tab, "2 g u b")
    assert button(tab, "spleen").get_attribute("aria-pressed") == "true"
    assert button(tab, "Brush").get_attribute("aria-pressed") == "true"
    keys(tab, "d")
    stands_at(1)
    keys(tab, "z")
    stands_at(2)
    keys(tab, "Shift+Z")
    stands_at(3)
    keys(tab, "e y PageUp d")
    stands_at(4)

    assert tab.page.evaluate("document.activeElement.tagName") == "CANVAS"
    keys(tab, "a")
    tab.page.get_by_role("combobox", name="About").wait_for()
    tab_to(tab, "Sign: approve")
    keys(tab, "Enter")
    tab_to(tab, "Stay here")
    keys(tab, "Enter")
    tab.page.wait_for_function("() => document.activeElement.tagName === 'CANVAS'")
    tab.page.locator(".chip", has_text="Approved with edits").wait_for()

    tab_to(tab, "Export…")
    keys(tab, "Enter")
    tab.page.get_by_role("checkbox", name="NIfTI label map").wait_for()
    tab_to(tab, "Report (HTML)", role="checkbox")
    keys(tab, "Space")
    tab_to(tab, "Export")
    keys(tab, "Enter")
    tab.page.get_by_text("Written and read back.").wait_for()
    tab_to(tab, re.compile("nii.gz$"), role="link")
    keys(tab, "Escape")
    tab.page.wait_for_function("() => document.activeElement.textContent === 'Export…'")
    keys(tab, "n")
    tab.page.wait_for_url(f"**/#/case/{other}")


def test_tab_comes_to_every_control_shows_where_it_is_and_goes_on(tab: Tab) -> None:
    open_case(tab)
    keys(tab, "b")
    stops = set(tab.page.evaluate(_STOPS))
    come_to, hidden = set(), []
    for _ in range(len(stops) + 5):
        keys(tab, "Tab")
        stop, shown, what = tab.page.evaluate(_FOCUS)
        come_to.add(stop)
        if stop is not None and not shown:
            hidden.append(what)
    assert hidden == []
    missed = stops - come_to
    assert [tab.page.locator(f"[data-stop='{stop}']").evaluate("each => each.outerHTML") for stop in missed] == []


def test_every_tool_works_at_the_crosshair(tab: Tab, site: Site) -> None:
    open_case(tab)
    chosen = tab.page.get_by_role("group", name="Tools").locator("[aria-pressed=true]")
    for key, name in TOOLS.items():
        keys(tab, key)
        assert chosen.inner_text().startswith(name)
    keys(tab, "u p d")
    tab.page.locator(".proposal", has_text="voxel").wait_for()
    keys(tab, "Escape o d ArrowRight ArrowDown d")
    tab.page.locator(".proposal", has_text="voxel").wait_for()
    keys(tab, "Escape m d ArrowRight d i d d")
    tab.page.get_by_role("tab", name="Measurements").click()
    distance, intensity = tab.page.locator("[role=tabpanel] .finding").all_inner_texts()
    assert distance.endswith(" mm")
    assert intensity.endswith(" HU")
