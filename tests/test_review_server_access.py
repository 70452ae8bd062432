"""Who may do what: every route for every role, cases by collection, CSRF, cookies, headers, and names of patients."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from review_site import PATIENT, SHAPE, Site, edit, make_site, stroke

from delineate.review.records import PersonChange

CASE = "/api/cases/{key}"
LEAST = {
    ("POST", "/api/session"): "nobody",
    ("GET", "/api/session"): "viewer",
    ("DELETE", "/api/session"): "viewer",
    ("GET", "/api/openapi.json"): "viewer",
    ("GET", "/api/cases"): "viewer",
    ("GET", "/api/filters"): "viewer",
    ("GET", "/api/dashboard"): "viewer",
    ("GET", "/api/suggestions"): "viewer",
    ("GET", CASE): "viewer",
    ("GET", f"{CASE}/image"): "viewer",
    ("GET", f"{CASE}/labels"): "viewer",
    ("GET", f"{CASE}/model"): "viewer",
    ("GET", f"{CASE}/reference"): "viewer",
    ("GET", f"{CASE}/surface/{{value}}"): "viewer",
    ("GET", f"{CASE}/findings"): "viewer",
    ("GET", f"{CASE}/history"): "viewer",
    ("GET", f"{CASE}/edits"): "viewer",
    ("GET", f"{CASE}/exports"): "viewer",
    ("GET", f"{CASE}/exports/{{name}}"): "viewer",
    ("POST", f"{CASE}/presence"): "viewer",
    ("DELETE", f"{CASE}/presence"): "viewer",
    ("POST", f"{CASE}/edits"): "reviewer",
    ("POST", f"{CASE}/undo"): "reviewer",
    ("POST", f"{CASE}/redo"): "reviewer",
    ("POST", f"{CASE}/tools/{{tool}}"): "reviewer",
    ("POST", f"{CASE}/proposals"): "reviewer",
    ("POST", f"{CASE}/uploads"): "reviewer",
    ("POST", f"{CASE}/decisions"): "reviewer",
    ("POST", f"{CASE}/reopen"): "reviewer",
    ("POST", f"{CASE}/second"): "reviewer",
    ("POST", f"{CASE}/exports"): "reviewer",
    ("GET", "/api/people"): "admin",
    ("POST", "/api/people"): "admin",
    ("PATCH", "/api/people/{name}"): "admin",
    ("GET", "/api/audit"): "admin",
    ("GET", "/api/audit/verify"): "admin",
    ("GET", "/api/audit/export"): "admin",
}
ROLES = ["nobody", "viewer", "reviewer", "admin"]
NAMES = {"viewer": "vera", "reviewer": "rita", "admin": "ada"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = make_site(tmp_path_factory.mktemp("site"))
    yield site
    site.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path)
    yield site
    site.store.close()


def routes_of(site: Site) -> list[tuple[str, str]]:
    api = [route for route in site.app.routes if isinstance(route, APIRoute)]
    return [(method, route.path) for route in api for method in sorted(route.methods or ())]


def address(path: str, key: str = "one") -> str:
    for name, value in {"key": key, "value": "1", "name": "nobody", "tool": "grow"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def test_every_route_says_who_may_use_it(shared: Site) -> None:
    assert set(routes_of(shared)) == set(LEAST)


@pytest.mark.parametrize("role", ROLES)
def test_a_route_lets_in_its_role_and_those_above(site: Site, role: str) -> None:
    for method, path in routes_of(site):
        visitor = site.visitor(NAMES.get(role))
        answer = visitor.ask(method, address(path), {} if method in ("POST", "PATCH") else None)
        refused = answer.status_code == 401 or "expected the role" in answer.text
        if (method, path) == ("POST", "/api/session"):
            continue  # what is wrong there is the password
        assert refused == (ROLES.index(role) < ROLES.index(LEAST[method, path])), (method, path, answer.text)


def test_a_case_of_another_collection_does_not_exist(shared: Site) -> None:
    for method, path in routes_of(shared):
        if "{key}" in path:
            body: dict[str, str] | None = {} if method == "POST" else None
            hidden = shared.visitor("rolf").ask(method, address(path), body)
            missing = shared.visitor("rolf").ask(method, address(path, "none"), body)
            assert (hidden.status_code, hidden.text) == (404, missing.text), path


def test_the_worklist_holds_cases_of_ones_collections_only(shared: Site) -> None:
    assert [row["key"] for row in shared.visitor("rolf").get("/api/cases").json()["cases"]] == ["two"]
    assert shared.visitor("rolf").get("/api/filters").json()["collections"] == ["south"]


@pytest.mark.parametrize("csrf", ["", "wrong", "é"])
def test_nothing_changes_without_the_sessions_csrf_token(shared: Site, csrf: str) -> None:
    rita = shared.visitor("rita")
    body = edit(stroke(shared.labels, at=(1, 1, 1), value=1 if shared.labels[1, 1, 1] != 1 else 2)[0])
    answer = rita.post("/api/cases/one/edits", body, headers={"X-CSRF-Token": csrf.encode()})
    assert answer.status_code == 403
    assert rita.get("/api/cases/one/edits").json()["edits"] == []


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_other_pages_change_nothing(shared: Site, headers: dict[str, str]) -> None:
    rita = shared.visitor("rita")
    assert rita.ask("DELETE", "/api/session", headers=headers).status_code == 403
    assert rita.get("/api/session").status_code == 200


def test_the_pages_own_origin_may_change_things(shared: Site) -> None:
    rita = shared.visitor("rita")
    own = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}
    assert rita.post("/api/cases/one/presence", {"seconds": 1}, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 503),
        ("GET", "/api/session", 401),
        ("GET", "/api/none", 404),
        ("GET", "/none", 404),
        ("PUT", "/api/cases", 405),
        ("POST", "/api/session", 422),
        ("GET", "/?token=wrong", 401),
    ],
)
def test_every_answer_carries_the_headers_of_safety(shared: Site, method: str, path: str, status: int) -> None:
    answer = shared.visitor().ask(method, path)
    assert answer.status_code == status
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"


def test_answers_after_a_failure_carry_them_too(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(shared.store), "filters", _fail)
    answer = shared.visitor("ada").get("/api/filters")
    assert answer.status_code == 500
    assert "Content-Security-Policy" in answer.headers
    assert answer.json() == {"problem": "The server failed; its log says where.", "remedy": None}


def _fail(*_: object) -> None:
    raise RuntimeError(f"{PATIENT} in /home/clinic/scan.nii.gz")


def test_names_and_folders_are_never_logged(
    shared: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ada = shared.visitor("ada")
    ada.get(f"/api/cases?search={PATIENT}")
    ada.get("/api/cases/one")
    ada.get(f"/api/cases/{PATIENT}")
    ada.get("/?token=secret")
    monkeypatch.setattr(type(shared.store), "filters", _fail)
    ada.get("/api/filters")
    own = [record for record in caplog.records if record.name.split(".")[0] != "httpx"]  # the client's
    said = "\n".join(record.getMessage() + (record.exc_text or "") for record in own)
    assert "GET /api/cases/{key} 200" in said
    assert "RuntimeError at" in said
    for secret in ("Muster", "/home/clinic", "secret", "P-one", "one/"):
        assert secret not in said


def test_patients_names_are_for_those_who_may_see_them(shared: Site) -> None:
    ada, rita = (shared.visitor(name).get("/api/cases/one").json()["patientName"] for name in ("ada", "rita"))
    assert (ada, rita) == (PATIENT, None)
    routes = [address(path) for method, path in routes_of(shared) if method == "GET" and "{key}" in path]
    for path in routes:
        assert PATIENT.encode() not in shared.visitor("rita").get(f"{path}?from=0&to={SHAPE[2]}").content


def test_searching_tells_nothing_of_names_that_one_may_not_see(shared: Site) -> None:
    totals = [shared.visitor(who).get("/api/cases?search=muster").json()["total"] for who in ("ada", "rita")]
    assert totals == [1, 0]


def test_exports_of_a_case_with_a_name_are_for_those_who_may_see_it(shared: Site) -> None:
    answer = shared.visitor("rita").post("/api/cases/one/exports", {"formats": ["nifti"]})
    assert answer.status_code == 403
    assert re.search("name the patient", answer.text)


def test_who_is_shut_out_is_out_at_once(site: Site) -> None:
    rita = site.visitor("rita")
    assert rita.get("/api/cases").status_code == 200
    site.store.change_person("rita", PersonChange(active=False))
    assert rita.get("/api/cases").status_code == 401
