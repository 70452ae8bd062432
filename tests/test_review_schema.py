"""The server's answers are those that its OpenAPI schema promises, whatever it is sent; none is its own failure."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from review_site import BASE, Site, make_site
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from delineate.review.server.routes import ROUTES, Route

PROMISES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
EXAMPLES = 14
SLOW = {"/api/cases/{key}/uploads": 3, "/api/cases/{key}/proposals": 6}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = make_site(tmp_path_factory.mktemp("schema"), logins_a_minute=10_000, upload_seconds=10)
    yield site
    site.store.close()


@pytest.fixture(scope="module")
def promised(site: Site) -> Any:
    return schemathesis.openapi.from_dict(site.app.openapi())


def answer_to(site: Site, case: Any, who: str) -> httpx.Response:
    """What the server answers to a made-up request of somebody whose session has just begun."""
    made = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
    headers = {name: value for name, value in made.headers.items() if name.lower() != "accept-encoding"}
    body = made.body.encode(errors="replace") if isinstance(made.body, str) else made.body
    return site.visitor(who).ask(str(made.method), made.path_url, content=body, headers=headers)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_answers_are_those_that_the_schema_promises(site: Site, promised: Any, route: Route) -> None:
    operation = promised[route.path][route.method]
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    made = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))
    checks = CHECKS.get_by_names(list(PROMISES))

    @settings(
        max_examples=SLOW.get(route.path, EXAMPLES),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
        database=None,
    )
    @given(case=made, key=st.sampled_from(["one", "two", None]), who=st.sampled_from(["ada", "ada", "rita"]))
    def run(case: Any, key: str | None, who: str) -> None:
        if key is not None and "key" in (case.path_parameters or {}):
            case.path_parameters["key"] = key
        case.validate_response(answer_to(site, case, who), checks=checks)

    run()


def test_the_schema_is_whole(site: Site) -> None:
    described = site.app.openapi()["paths"]
    assert {(route.method.lower(), route.path) for route in ROUTES} == {
        (method, path) for path, methods in described.items() for method in methods
    }
