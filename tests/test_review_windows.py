"""Two windows of one person on one case, in a real browser: what waits in one is not sent by the other meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from review_site import make_site
from review_tabs import STATIC, Tab, chromium, missing, serving

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")


def _saving(page: Any, text: str) -> None:
    page.locator(".saving", has_text=text).wait_for()


def test_a_stroke_that_waits_is_sent_by_another_window_once_its_own_is_gone(tmp_path_factory: Any) -> None:
    site = make_site(tmp_path_factory.mktemp("site"), page=STATIC)
    case = next(one for one in site.store.cases() if not one.new.overlaps)
    with serving(site.app) as address, chromium() as browser:
        tab = Tab(browser, site.store, address, name="ada")
        first, second = tab.page, tab.context.new_page()
        first.route("**/edits", lambda route: route.abort())
        tab.open(f"/case/{case.new.key}")
        _saving(first, "All saved")
        first.locator(".view-bar progress").wait_for(state="detached")
        first.keyboard.press("e")
        first.keyboard.press("d")
        first.keyboard.press("b")
        first.keyboard.press("d")
        _saving(first, "waiting")
        second.goto(f"{address}#/case/{case.new.key}")
        second.locator(".view-bar progress").wait_for(state="detached")
        _saving(second, "All saved")
        assert site.store.revision(case.id) == 0
        first.close(run_before_unload=False)
        second.reload()
        second.get_by_text("that an earlier visit left unsaved").wait_for()
        second.locator(".view-bar progress").wait_for(state="detached")
        _saving(second, "All saved")
        assert site.store.revision(case.id) > 0
        tab.context.close()
