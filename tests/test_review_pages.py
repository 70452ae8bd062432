"""The pages around a case in a real browser, from a real server: axe, keyboard, zoom, and nothing from elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest
from review_site import Site, make_site
from review_tabs import STATIC, Tab, chromium, missing, serving

PAGES = ("/", "/dashboard", "/people", "/audit", "/nowhere")

pytestmark = pytest.mark.skipif(missing() != "", reason=f"needs {missing()}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = make_site(tmp_path_factory.mktemp("site"), page=STATIC)
    ada = made.store.person("ada")
    assert ada is not None
    made.store.add_person("paul", "Paul Ek", ada.role, "a long password", sees_names=True, collections=None, by=ada)
    return made


@pytest.fixture(scope="module")
def address(site: Site) -> Iterator[str]:
    with serving(site.app) as at:
        yield at


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Any, site: Site, address: str) -> Iterator[Tab]:
    opened = Tab(browser, site.store, address, name="ada")
    yield opened
    opened.context.close()
    assert opened.problems == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_no_page_has_a_serious_fault_of_accessibility_or_asks_elsewhere(tab: Tab, theme: str) -> None:
    tab.page.add_init_script(f"localStorage.setItem('delineate.theme', '{theme}')")
    for path in PAGES:
        tab.open(path)
        assert tab.page.evaluate("document.documentElement.dataset.theme") == theme
        assert tab.offences() == [], path


def test_case_is_reached_by_keyboard_alone(tab: Tab) -> None:
    tab.open("/")
    tab.page.keyboard.press("j")
    tab.page.keyboard.press("j")
    second = tab.page.evaluate("document.activeElement.textContent")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url(f"**/#/case/{second.removeprefix('P-')}")


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_cut_off_on_a_small_screen_at_twice_the_size(
    browser: Any, site: Site, address: str, path: str
) -> None:
    tab = Tab(browser, site.store, address, name="ada", viewport={"width": 640, "height": 360}, device_scale_factor=2)
    tab.open(path)
    assert tab.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.page.get_by_role("link", name="Worklist", exact=True).is_visible()
    tab.context.close()


def test_one_time_address_lets_in_once_and_leaves_no_token_behind(browser: Any, site: Site, address: str) -> None:
    first, later = (Tab(browser, site.store, address, name=None) for _ in range(2))
    for tab in (first, later):
        tab.page.goto(f"{address}?token={site.token}")
    first.page.wait_for_selector(".case-link")
    assert first.page.url.rstrip("#/") == address.rstrip("/")
    assert "used before" in later.page.inner_text("body")
    first.context.close()
    later.context.close()


def test_person_signs_in_with_a_password(browser: Any, site: Site, address: str) -> None:
    tab = Tab(browser, site.store, address, name=None)
    tab.page.goto(address)
    tab.page.fill("[name=name]", "paul")
    tab.page.fill("[name=password]", "a wrong password")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("[role=alert]")
    assert tab.offences() == []
    tab.page.fill("[name=password]", "a long password")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector(".case-link")
    assert "Mustermann, Max" in tab.page.inner_text("main")
    tab.context.close()


def test_added_person_stands_in_the_list_and_in_the_audit_trail(tab: Tab, site: Site) -> None:
    tab.open("/people")
    tab.page.get_by_role("button", name="Add a person").click()
    tab.page.get_by_label("Name to sign in with").fill("nora")
    tab.page.get_by_label("Full name").fill("Nora Berg")
    tab.page.get_by_label("Password").fill("another long one")
    tab.page.get_by_label("Collections").fill("south")
    assert tab.offences() == []
    tab.page.get_by_role("button", name="Add", exact=True).click()
    tab.page.get_by_role("button", name="Change nora").wait_for()
    added = site.store.person("nora")
    assert added is not None
    assert (added.full_name, added.collections) == ("Nora Berg", ("south",))
    tab.open("/audit")
    tab.page.get_by_text("nora").first.wait_for()
    tab.page.get_by_role("button", name="Verify everything").click()
    tab.page.get_by_text("are as they were written").wait_for()


def test_reader_sees_their_own_cases_without_names_and_no_page_of_administrators(
    browser: Any, site: Site, address: str
) -> None:
    tab = Tab(browser, site.store, address, name="rolf")
    tab.open("/")
    assert [link.inner_text() for link in tab.page.query_selector_all(".case-link")] == ["P-two"]
    assert "Mustermann" not in tab.page.content()
    assert not tab.page.get_by_role("link", name="Audit trail").is_visible()
    tab.open("/audit")
    assert "for administrators" in tab.page.inner_text("main")
    tab.context.close()
    assert tab.problems == []
