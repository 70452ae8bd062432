"""Texts of others (file names, DICOM headers, reasons, names of people) are text in the page, never markup."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from review_site import Site, make_site
from review_tabs import STATIC, Tab, chromium, missing, serving

from delineate.review.records import Role, Verdict

HOSTILE = '<img src=x onerror="window.hit=1">'
PAGES = ("/", "/case/evil", "/people", "/audit", "/dashboard")

pytestmark = pytest.mark.skipif(missing() != "", reason=f"needs {missing()}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path, page=STATIC)
    fill(site)
    yield site
    site.store.close()


def fill(site: Site) -> None:
    """A case, a person and an event that consist of nothing else."""
    store, two, ada = site.store, site.store.case("two"), site.store.person("ada")
    assert two is not None
    assert ada is not None
    told: dict[str, Any] = dict.fromkeys(
        ("collection", "pseudonym", "patient_name", "model", "site", "scanner", "date"), HOSTILE
    )
    liver, spleen = two.new.structures
    parts = replace(liver, name=HOSTILE), spleen
    store.add_cases(
        [replace(two.new, **told, key="evil", warnings=(HOSTILE,), priority_reasons=(HOSTILE,), structures=parts)]
    )
    case = store.case("evil")
    assert case is not None
    store.add_person(HOSTILE, HOSTILE, Role.REVIEWER, None, collections=(HOSTILE,), by=ada)
    for structure in (1, None):
        verdict = Verdict.REJECT if structure else Verdict.ESCALATE
        seen = "0" * 64
        store.decide(case.id, ada, verdict, revision=0, seen=seen, signature="Ada", structure=structure, reason=HOSTILE)
    store.audit(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: HOSTILE})


def test_markup_in_texts_is_shown_as_text_also_without_the_content_policy(site: Site) -> None:
    with serving(site.app) as address, chromium() as browser:
        tab = Tab(browser, site.store, address, name="ada", bypass_csp=True)
        shown = 0
        for path in PAGES:
            tab.open(path)
            tab.page.wait_for_timeout(1500)
            shown += tab.page.inner_text("body").count("<img src=x")
            assert tab.page.evaluate("window.hit") is None, path
            assert tab.page.locator('img[src="x"]').count() == 0, path
        assert shown > 10
        tab.context.close()
