"""Who is let in, kept out and remembered by the server, whatever strangers do meanwhile."""

import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from argon2 import PasswordHasher
from review_site import PASSWORD, Site, edit, make_site, stroke

from delineate.review.records import NotAllowed, PersonChange, Role
from delineate.review.server import admission
from delineate.review.server.idleness import Idleness
from delineate.review.server.tokens import KnownBrowsers, kept_secret, neighbourhood
from delineate.review.store import people

TWO = "/api/cases/two"
DORA = {"name": "dora", "password": PASSWORD}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    quick = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(people, "_hasher", lambda: quick)
    site = make_site(tmp_path, local=None, refusal_seconds=0.0)
    site.store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    yield site
    site.store.close()


def lock(site: Site, name: str) -> None:
    for _ in range(6):
        site.visitor(client="10.0.0.9").post("/api/session", {"name": name, "password": "guess"})


def test_strangers_who_guess_lock_out_themselves_and_not_who_was_here_before(site: Site) -> None:
    browser, strange = site.visitor(), site.visitor()
    assert browser.post("/api/session", DORA).status_code == 200
    lock(site, "dora")
    assert strange.post("/api/session", DORA).status_code == 401
    assert browser.post("/api/session", DORA).status_code == 200
    assert browser.get("/api/session").json()["person"]["name"] == "dora"


def test_a_browser_that_is_known_cannot_guess_without_end(site: Site) -> None:
    browser = site.visitor()
    browser.post("/api/session", DORA)
    for _ in range(5):
        assert browser.post("/api/session", DORA | {"password": "guess"}).status_code == 401
    assert browser.post("/api/session", DORA).status_code == 401


def test_strangers_who_guess_keep_nobody_from_signing(site: Site) -> None:
    dora = site.visitor("dora")
    lock(site, "dora")
    case = dora.get(TWO).json()
    signed = {"verdict": "approve", "revision": 0, "seen": case["seen"], "signature": "Dora", "password": PASSWORD}
    assert dora.post(f"{TWO}/decisions", signed).status_code == 200


def test_a_mark_is_of_one_name_and_one_review(tmp_path: Path) -> None:
    path = tmp_path / "made" / "key"
    browsers = KnownBrowsers(kept_secret(path))
    mark = browsers.mark("dora")
    assert KnownBrowsers(kept_secret(path)).knows(mark, "dora")
    assert path.stat().st_mode & 0o777 == 0o600
    others = [(mark, "ada"), ("", "dora"), (".", "dora"), ("é.\ud800", "dora"), (f"x{mark}", "dora")]
    assert not any(browsers.knows(*other) for other in others)
    assert not KnownBrowsers(bytes(32)).knows(mark, "dora")


def test_a_refusal_takes_as_long_for_names_that_there_are(tmp_path: Path) -> None:
    site = make_site(tmp_path, local=None, refusal_seconds=1.0)
    site.store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    for name in ("dora", "nobody", ""):
        began = time.monotonic()
        assert site.visitor().post("/api/session", {"name": name, "password": "guess"}).status_code == 401
        assert time.monotonic() - began >= 1.0
    site.store.close()


@pytest.mark.parametrize(
    ("address", "counted"),
    [("10.0.0.9", "10.0.0.9"), ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"), ("", ""), ("unix", "unix")],
)
def test_a_network_of_version_6_is_one_visitor(address: str, counted: str) -> None:
    assert neighbourhood(address) == counted


def test_two_reviews_on_one_machine_have_sessions_of_their_own(tmp_path: Path) -> None:
    one, two = make_site(tmp_path / "a"), make_site(tmp_path / "b")
    browser = one.visitor()
    browser.get(f"/?token={one.token}")
    other = two.visitor()
    other.cookies = browser.cookies
    other.get(f"/?token={two.token}")
    browser.cookies = other.cookies
    assert (browser.get("/api/session").status_code, other.get("/api/session").status_code) == (200, 200)
    one.store.close()
    two.store.close()


def test_under_tls_the_session_is_of_this_very_host(tmp_path: Path) -> None:
    site = make_site(tmp_path, local=None, hosts=None, secure=True)
    site.store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    browser = site.visitor(base="https://review.example")
    cookies = browser.post("/api/session", DORA).headers.get_list("set-cookie")
    assert any(cookie.startswith("__Host-delineate_session=") and "Domain" not in cookie for cookie in cookies)
    token = next(cookie.value for cookie in browser.cookies.jar if "session" in cookie.name)
    planted = site.visitor(base="https://review.example")
    planted.cookies.set("delineate_session", str(token))
    assert (browser.get("/api/session").status_code, planted.get("/api/session").status_code) == (200, 401)
    site.store.close()


def slowly(site: Site, then: Callable[[], object], body: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        yield body[:5]
        await anyio.to_thread.run_sync(then)
        yield body[5:]

    return pieces


@pytest.mark.parametrize("change", [PersonChange(active=False), PersonChange(role=Role.VIEWER)])
def test_who_is_shut_out_while_they_send_changes_nothing(site: Site, change: PersonChange) -> None:
    dora = site.visitor("dora")
    runs, _ = stroke(site.labels, at=(1, 2, 3), value=2 - int(site.labels[1, 2, 3] == 2))
    body = httpx.Request("POST", "http://x", json=edit(runs)).content
    pieces = slowly(site, lambda: site.store.change_person("dora", change), body)
    answer = dora.ask("POST", f"{TWO}/edits", content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, site.store.count_cases()) == (403, 2)
    case = site.store.case("two")
    assert case is not None
    assert case.revision == 0


def test_an_administrator_of_yesterday_adds_nobody(site: Site) -> None:
    ada = site.store.person("ada")
    assert ada is not None
    site.store.change_person("dora", PersonChange(role=Role.ADMIN), by=ada)
    site.store.change_person("ada", PersonChange(role=Role.REVIEWER), by="dora")
    with pytest.raises(NotAllowed, match="may not manage accounts"):
        site.store.add_person("eve", "Eve", Role.ADMIN, PASSWORD, by=ada)
    with pytest.raises(NotAllowed, match="may not manage accounts"):
        site.store.change_person("ada", PersonChange(role=Role.ADMIN), by=ada)


def test_a_body_that_does_not_come_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_BODY_SECONDS", 0.2)
    monkeypatch.setattr(admission, "_SLOWEST_BYTES", 1 << 40)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep(20)

    sent: dict[str, Any] = {"content": never(), "headers": {"Content-Type": "application/json"}}
    answer = site.visitor("rita").ask("POST", f"{TWO}/undo", **sent)
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")


def test_a_signature_for_a_revision_that_just_came_is_not_taken_unseen(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dora, live = site.visitor("dora"), site.app.state.parts.live
    runs, _ = stroke(site.labels, at=(1, 2, 3), value=2 - int(site.labels[1, 2, 3] == 2))
    digest = live.digest

    def digest_then_edit(case: Any) -> Any:
        found = digest(case)
        assert site.visitor("rita").post(f"{TWO}/edits", edit(runs)).status_code == 200
        return found

    monkeypatch.setattr(live, "digest", digest_then_edit)
    signed = {"verdict": "approve", "revision": 1, "seen": "0" * 64, "signature": "Dora", "password": PASSWORD}
    assert dora.post(f"{TWO}/decisions", signed).status_code == 409
    monkeypatch.undo()
    assert dora.get(TWO).json()["decisions"] == []


def test_many_large_edits_are_told_in_several_answers(tmp_path: Path) -> None:
    site = make_site(tmp_path, slab_bytes=30)
    rita, labels = site.visitor("rita"), site.labels
    for revision in range(5):
        runs, labels = stroke(labels, at=(revision, 1, 2), value=(int(labels[revision, 1, 2]) + 1) % 3)
        assert rita.post(f"{TWO}/edits", edit(runs, base=revision)).status_code == 200
    told = [rita.get(f"{TWO}/edits?after={after}").json() for after in (0, 2, 4, 5)]
    assert [[one["revision"] for one in answer["edits"]] for answer in told] == [[1, 2], [3, 4], [5], []]
    assert [answer["more"] for answer in told] == [True, True, False, False]
    site.store.close()


def idle_site(folder: Path, clock: Callable[[], float]) -> Site:
    """Half an hour without a touch ends a session, by this clock."""
    site = make_site(folder, local=None, refusal_seconds=0.0)
    site.store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    idleness = Idleness(1800.0, kept_seconds=43_200.0, clock=clock)
    site.app.state.parts = dataclasses.replace(site.app.state.parts, idleness=idleness)
    return site


def asked(visitor: Any, idle: object) -> int:
    status = visitor.ask("GET", TWO, headers={"X-Idle-Seconds": str(idle)}).status_code
    assert isinstance(status, int)
    return status


def test_who_touches_nothing_is_signed_out_however_often_the_page_asks(tmp_path: Path) -> None:
    now = 1000.0
    site = idle_site(tmp_path, lambda: now)
    dora = site.visitor("dora")
    for idle in range(0, 1800, 15):
        now = 1000.0 + idle
        assert asked(dora, idle) == 200
    now = 2800.0
    assert asked(dora, 0) == 401
    last = site.store.events()[-1]
    assert (last.person, last.action, last.facts) == ("dora", "signed_out", '{"why":"idle"}')
    assert dora.post("/api/session", DORA).status_code == 200
    assert asked(dora, 5) == 200


def test_a_touch_in_any_window_counts(tmp_path: Path) -> None:
    now = 0.0
    dora = idle_site(tmp_path, lambda: now).visitor("dora")
    assert asked(dora, 0) == 200
    now += 1700
    assert asked(dora, 100) == 200
    assert asked(dora, 1700) == 200
    now += 1699
    assert asked(dora, 1799) == 200
    now += 1
    assert asked(dora, 0) == 401


@pytest.mark.parametrize("told", ["-5", "1e9", "nan", "9" * 40, "٣", ""])
def test_what_a_window_says_without_sense_counts_as_a_touch(tmp_path: Path, told: str) -> None:
    now = 0.0
    dora = idle_site(tmp_path, lambda: now).visitor("dora")
    for _ in range(3):
        now += 1000
        sent = {"X-Idle-Seconds": told.encode()}
        assert dora.ask("GET", TWO, headers=sent).status_code == 200


def test_sessions_that_nobody_asks_for_are_forgotten() -> None:
    now = 0.0
    idleness = Idleness(100.0, kept_seconds=1000.0, clock=lambda: now)
    for _ in range(50):
        now += 100
        assert idleness.goes_on(f"{now}", idle=0)
    assert len(idleness._touched) == 10
