"""A review's server as the page uses it: voxels, edits, conflicts, tools, proposals, decisions, exports, accounts."""

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from review_site import NAMES, PASSWORD, SHAPE, Site, edit, make_site, stroke

from delineate import formats
from delineate.editing.prompts.pointing import Pointing
from delineate.editing.runs import put_runs, unpack, wire_view
from delineate.errors import ResourceError
from delineate.geometry import box_of
from delineate.labels import label_set
from delineate.review.records import Role
from delineate.review.server.kept import Kept
from delineate.review.server.proposal_routes import as_change
from delineate.review.server.turns import AccountTurns, Turns
from delineate.review.store import verify_export
from delineate.volume import Segmentation

ONE, TWO = "/api/cases/one", "/api/cases/two"
AT = (2, 3, 1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path)
    yield site
    site.store.close()


def slab(content: bytes, kind: str = "u1", slices: int = SHAPE[2]) -> Any:
    return np.frombuffer(content, kind).reshape(slices, SHAPE[1], SHAPE[0]).transpose(2, 1, 0)


def other_value(site: Site, at: tuple[int, int, int] = AT) -> int:
    return 2 if site.labels[at] != 2 else 1


def applied(labels: Any, runs: str) -> Any:
    array = np.ascontiguousarray(wire_view(labels))
    put_runs(array, unpack(base64.b64decode(runs), array.size))
    return wire_view(array)


def test_voxels_travel_as_they_lie(site: Site) -> None:
    vera = site.visitor("vera")
    assert np.array_equal(slab(vera.get(f"{ONE}/image?from=1&to=3").content, "<i2", 2), site.scan[:, :, 1:3])
    assert np.array_equal(slab(vera.get(f"{ONE}/labels?from=0&to=4").content), site.labels)
    reference = np.where(site.labels == 1, 0, site.labels)
    assert np.array_equal(slab(vera.get(f"{ONE}/reference?from=3&to=4").content, "u1", 1), reference[:, :, 3:])


def test_voxels_are_compressed_for_those_who_take_it(site: Site) -> None:
    vera = site.visitor("vera")
    packed = vera.get(f"{ONE}/labels?from=0&to=4")
    plain = vera.get(f"{ONE}/labels?from=0&to=4", headers={"Accept-Encoding": "identity"})
    assert (packed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert packed.content == plain.content


@pytest.mark.parametrize("query", ["from=0&to=5", "from=2&to=2", "from=3&to=1", "from=-1&to=2", "from=a&to=2", "to=1"])
def test_slices_that_are_not_there_are_refused(site: Site, query: str) -> None:
    for what in ("image", "labels", "reference"):
        assert site.visitor("vera").get(f"{ONE}/{what}?{query}").status_code in (400, 422)


def test_more_slices_than_one_request_may_ask_for_are_refused(tmp_path: Path) -> None:
    site = make_site(tmp_path, slab_bytes=2 * 7 * 5 * 2)
    answer = site.visitor("vera").get(f"{ONE}/image?from=0&to=3")
    assert (answer.status_code, "too many slices" in answer.text) == (400, True)
    site.store.close()


def test_a_case_tells_what_its_page_begins_with(site: Site) -> None:
    case = site.visitor("rita").get(ONE).json()
    assert case["geometry"]["shape"] == list(SHAPE)
    assert np.allclose(case["geometry"]["affine"][2], [0.1, -0.2, 4.0, 5])
    assert [(part["value"], part["name"]) for part in case["structures"]] == list(NAMES.items())
    assert (case["layers"], case["labelType"], case["hasReference"], case["editable"]) == ([0], "uint8", True, True)
    assert not site.visitor("vera").get(ONE).json()["editable"]


def test_a_case_tells_in_which_formats_it_can_be_exported_and_why_not_now(site: Site) -> None:
    told = {who: site.visitor(who).get(ONE).json()["exportProblem"] for who in ("vera", "rita", "ada")}
    reasons = {"vera": "not export it", "rita": "name the patient", "ada": "Approve the case first"}
    assert [who for who, reason in reasons.items() if reason not in told[who]] == []
    ada = site.visitor("ada")
    case = ada.get(TWO).json()
    assert [one["format"] for one in case["formats"] if one["problem"] is None] == ["nifti", "glb", "stl", "report"]
    signing = {"verdict": "approve", "signature": "Ada", "revision": 0, "seen": case["seen"]}
    assert ada.post(f"{TWO}/decisions", signing).status_code == 200
    assert ada.get(TWO).json()["exportProblem"] is None
    assert ada.post(f"{TWO}/exports", {"formats": ["nifti"]}).status_code == 200
    refused = ada.post(f"{TWO}/exports", {"formats": ["nifti", "seg"]}).json()
    assert (refused["remedy"], "NIfTI" in refused["problem"]) == ("Choose among nifti, glb, stl, report.", True)


def test_an_edit_is_seen_undone_and_redone(site: Site) -> None:
    rita = site.visitor("rita")
    runs, after = stroke(site.labels, at=AT, value=other_value(site))
    before = rita.get(ONE).json()["seen"]
    assert rita.post(f"{ONE}/edits", edit(runs)).json()["revision"] == 1
    head = rita.get(f"{ONE}/labels?from=0&to=4")
    assert (np.array_equal(slab(head.content), after), head.headers["x-revision"]) == (True, "1")
    assert np.array_equal(slab(rita.get(f"{ONE}/model?from=0&to=4").content), site.labels)
    undone = rita.post(f"{ONE}/undo", {"baseRevision": 1}).json()
    assert (undone["revision"], undone["canUndo"], undone["canRedo"]) == (2, False, True)
    assert np.array_equal(applied(after, undone["runs"]), site.labels)
    assert rita.get(ONE).json()["seen"] == before
    assert rita.post(f"{ONE}/redo", {"baseRevision": 2}).json()["revision"] == 3
    assert np.array_equal(slab(rita.get(f"{ONE}/labels?from=0&to=4").content), after)
    told = rita.get(f"{ONE}/edits?after=1").json()["edits"]
    assert [(one["revision"], one["tool"], one["person"]) for one in told] == [(2, "undo", "rita"), (3, "redo", "rita")]


def test_of_two_at_one_case_the_second_is_told_and_nothing_is_lost(site: Site) -> None:
    rita, ada = site.visitor("rita"), site.visitor("ada")
    first, after = stroke(site.labels, at=AT, value=other_value(site))
    second, _ = stroke(site.labels, at=(0, 0, 3), value=other_value(site, (0, 0, 3)))
    assert rita.post(f"{ONE}/edits", edit(first)).status_code == 200
    refused = ada.post(f"{ONE}/edits", edit(second))
    assert (refused.status_code, refused.json()["revision"]) == (409, 1)
    assert np.array_equal(slab(ada.get(f"{ONE}/labels?from=0&to=4").content), after)
    assert ada.post(f"{ONE}/edits", edit(second, base=1)).json()["revision"] == 2
    both = slab(rita.get(f"{ONE}/labels?from=0&to=4").content)
    assert (both[AT], both[0, 0, 3]) == (other_value(site), other_value(site, (0, 0, 3)))


def test_of_many_who_draw_at_once_one_wins(site: Site) -> None:
    runs, _ = stroke(site.labels, at=AT, value=other_value(site))
    visitors = [site.visitor(name) for name in ("rita", "ada", "rita", "ada")]
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: codes.append(one.post(f"{ONE}/edits", edit(runs)).status_code))
        for one in visitors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 409, 409, 409]


def test_people_at_a_case_know_of_each_other(site: Site) -> None:
    rita, ada = site.visitor("rita"), site.visitor("ada")
    rita.post(f"{ONE}/presence", {"seconds": 15})
    told = ada.post(f"{ONE}/presence", {"seconds": 15}).json()
    assert [one["name"] for one in told["present"]] == ["ada", "rita"]
    rita.ask("DELETE", f"{ONE}/presence")
    assert [one["name"] for one in ada.get(ONE).json()["present"]] == ["ada"]
    assert ada.get(ONE).json()["seconds"] == 30


def test_who_only_looks_spends_no_time_on_a_case(site: Site) -> None:
    site.visitor("vera").post(f"{ONE}/presence", {"seconds": 15})
    assert site.visitor("vera").get(ONE).json()["seconds"] == 0


@pytest.mark.parametrize(
    "runs", ["!", "AAAA", base64.b64encode(b"\0" * 12).decode(), base64.b64encode(b"\xff" * 12).decode()]
)
def test_runs_that_are_none_are_refused(site: Site, runs: str) -> None:
    assert site.visitor("rita").post(f"{ONE}/edits", edit(runs)).status_code in (400, 422)


def test_an_edit_of_what_is_not_there_is_a_conflict(site: Site) -> None:
    wrong = site.labels.copy()
    wrong[AT] = other_value(site)
    runs, _ = stroke(wrong, at=AT, value=0)
    answer = site.visitor("rita").post(f"{ONE}/edits", edit(runs))
    assert (answer.status_code, answer.json()["revision"]) == (409, 0)


def test_a_tool_changes_the_labels_and_tells_what(site: Site) -> None:
    rita = site.visitor("rita")
    use = {"baseRevision": 0, "layer": 0, "structure": 1, "parameters": {"to": 2}}
    told = rita.post(f"{TWO}/tools/relabel", use).json()
    expected = np.where(site.labels == 1, 2, site.labels)
    assert np.array_equal(applied(site.labels, told["runs"]), expected)
    assert np.array_equal(slab(rita.get(f"{TWO}/labels?from=0&to=4").content), expected)
    assert rita.post(f"{TWO}/tools/relabel", use).status_code == 409
    assert rita.post(f"{TWO}/tools/none", use | {"baseRevision": 1}).status_code == 400
    assert rita.post(f"{TWO}/tools/relabel", use | {"baseRevision": 1, "parameters": {"to": 9}}).status_code == 400
    assert rita.post(f"{TWO}/tools/grow", use | {"baseRevision": 1, "structure": 7}).status_code == 404


def test_a_tool_that_changes_nothing_stores_nothing(site: Site) -> None:
    use = {"baseRevision": 0, "layer": 0, "structure": 1, "parameters": {"mm": 0.01}}
    told = site.visitor("rita").post(f"{TWO}/tools/grow", use).json()
    assert (told["revision"], told["runs"], told["note"]) == (0, "", "The tool changed nothing.")


def test_a_proposal_is_stored_by_nobody_but_who_accepts_it(site: Site) -> None:
    rita = site.visitor("rita")
    asked = {"structure": 1, "layer": 0, "points": [{"index": AT, "positive": True}], "baseRevision": 0}
    told = rita.post(f"{TWO}/proposals", asked).json()
    assert told["revision"] == rita.get(TWO).json()["revision"] == 0
    assert applied(site.labels, told["runs"])[AT] == 1
    assert rita.post(f"{TWO}/edits", edit(told["runs"])).json()["revision"] == 1
    assert rita.post(f"{TWO}/proposals", asked | {"baseRevision": 1, "method": "model"}).status_code == 400
    assert rita.post(f"{TWO}/proposals", asked | {"baseRevision": 1, "points": []}).status_code == 400


def test_a_proposal_takes_from_background_and_from_what_was_pointed_at() -> None:
    labels = np.array([0, 1, 2, 3], np.uint8).reshape(4, 1, 1)
    box, mask = box_of([(0, 4), (0, 1), (0, 1)]), np.ones((4, 1, 1), bool)
    change = as_change(labels, box, mask, value=1, pointed=Pointing(np.array([[2.0, 0, 0]])))
    assert change.after.ravel().tolist() == [1, 1, 1, 3]


def test_a_negative_point_on_a_structure_takes_away_what_is_not_proposed() -> None:
    labels = np.array([1, 1, 0, 1], np.uint8).reshape(4, 1, 1)
    box, mask = box_of([(0, 3), (0, 1), (0, 1)]), np.array([True, False, True]).reshape(3, 1, 1)
    kept = as_change(labels, box, mask, value=1, pointed=Pointing(np.array([[0.0, 0, 0]])))
    drawn = as_change(labels, box, mask, value=1, pointed=Pointing(np.zeros((1, 3)), np.array([[1.0, 0, 0]])))
    assert (kept.after.ravel().tolist(), drawn.after.ravel().tolist()) == ([1, 1, 1], [1, 0, 1])


def test_an_upload_is_an_edit(site: Site, tmp_path: Path) -> None:
    rita = site.visitor("rita")
    _, after = stroke(site.labels, at=AT, value=other_value(site))
    grid = formats.read_grid(tmp_path / "two" / "scan.nii.gz")
    formats.write_segmentation(tmp_path / "mine.nii.gz", Segmentation(after, grid, label_set(NAMES)))
    sent = {"file": ("mine.nii.gz", (tmp_path / "mine.nii.gz").read_bytes())}
    assert rita.post(f"{TWO}/uploads", data={"baseRevision": "0"}, files=sent).json() == {"revision": 1}
    assert np.array_equal(slab(rita.get(f"{TWO}/labels?from=0&to=4").content), after)
    assert rita.get(f"{TWO}/edits").json()["edits"][0]["tool"] == "upload"
    assert rita.post(f"{TWO}/uploads", data={"baseRevision": "0"}, files=sent).status_code == 409


def signed(case: Any, **changes: Any) -> dict[str, Any]:
    words = {"verdict": "approve", "revision": case["revision"], "seen": case["seen"], "signature": "Ada"}
    return words | changes


def test_what_is_signed_is_what_was_seen(site: Site) -> None:
    ada = site.visitor("ada")
    case = ada.get(TWO).json()
    assert ada.post(f"{TWO}/decisions", signed(case, seen="0" * 64)).status_code == 403
    assert ada.post(f"{TWO}/decisions", signed(case, verdict="reject")).status_code == 400
    told = ada.post(f"{TWO}/decisions", signed(case)).json()
    assert (told["state"], told["decision"]["seen"]) == ("approved", case["seen"])
    assert ada.get(TWO).json()["decisions"] == [told["decision"]]
    runs, _ = stroke(site.labels, at=AT, value=other_value(site))
    assert ada.post(f"{TWO}/edits", edit(runs)).status_code == 400
    assert ada.post(f"{TWO}/reopen", {"reason": "too early"}).json() == {"state": "in_review"}
    assert ada.post(f"{TWO}/edits", edit(runs)).json()["revision"] == 1
    stale = ada.post(f"{TWO}/decisions", signed(case))
    assert (stale.status_code, stale.json()["revision"]) == (409, 1)


def test_what_was_exported_is_handed_out_while_its_approval_stands(site: Site) -> None:
    ada = site.visitor("ada")

    def handed_out() -> list[str]:
        return [file["name"] for file in ada.get(f"{TWO}/exports").json()["files"]]

    case = ada.get(TWO).json()
    assert ada.post(f"{TWO}/decisions", signed(case)).status_code == 200
    files = ada.post(f"{TWO}/exports", {"formats": ["nifti"]}).json()["files"]
    names = [file["name"] for file in files]
    one = f"{TWO}/exports/{names[0]}"
    assert (handed_out(), ada.get(one).status_code) == (names, 200)
    ada.post(f"{TWO}/reopen", {"reason": "a vessel is missing"})
    refused = ada.get(one)
    assert (handed_out(), refused.status_code) == ([], 403)
    assert "opened again" in refused.text
    # The same voxels, but another signature than that in the files.
    assert ada.post(f"{TWO}/decisions", signed(case)).status_code == 200
    assert (handed_out(), ada.get(one).status_code) == ([], 403)
    assert ada.post(f"{TWO}/exports", {"formats": ["nifti"]}).status_code == 200
    assert (handed_out(), ada.get(one).status_code) == (names, 200)


def test_those_with_a_password_sign_with_it(site: Site) -> None:
    site.store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    dora = site.visitor("dora")
    case = dora.get(TWO).json()
    refused = dora.post(f"{TWO}/decisions", signed(case, signature="Dora", password="wrong"))
    assert (refused.status_code, "password" in refused.text) == (403, True)
    assert dora.post(f"{TWO}/decisions", signed(case, signature="Dora", password=PASSWORD)).status_code == 200


def test_a_second_reader_confirms(site: Site) -> None:
    ada = site.visitor("ada")
    assert ada.post(f"{TWO}/second", {"name": "rita"}).json() == {"state": "unreviewed"}
    told = ada.post(f"{TWO}/decisions", signed(ada.get(TWO).json())).json()
    assert told["state"] == "awaiting_second"
    assert ada.get("/api/cases?state=awaiting_second").json()["cases"][0]["secondReader"] == "rita"


def test_surfaces_and_findings_are_of_the_head(site: Site) -> None:
    rita = site.visitor("rita")
    assert rita.get(f"{TWO}/surface/1").headers["x-revision"] == "0"
    assert rita.get(f"{TWO}/surface/7").status_code == 404
    before = rita.get(f"{TWO}/findings").json()["findings"]
    use = {"baseRevision": 0, "layer": 0, "structure": 1, "parameters": {"to": 2}}
    rita.post(f"{TWO}/tools/relabel", use)
    after = rita.get(f"{TWO}/findings").json()["findings"]
    volumes = [
        {one["structure"]: one["value"] for one in found if "olume" in one["quantity"]} for found in (before, after)
    ]
    assert volumes[0]["liver"] > volumes[1]["liver"] == 0


def test_what_is_done_is_in_the_cases_history_and_the_trail(site: Site, tmp_path: Path) -> None:
    rita, ada = site.visitor("rita"), site.visitor("ada")
    runs, _ = stroke(site.labels, at=AT, value=other_value(site))
    rita.post(f"{ONE}/edits", edit(runs))
    events = rita.get(f"{ONE}/history").json()["events"]
    assert [event["person"] for event in events if event["facts"].get("tool") == "brush"] == ["rita"]
    verified = ada.get("/api/audit/verify").json()
    assert (verified["problems"], verified["events"]) == ([], len(ada.get("/api/audit?limit=1000").json()["events"]))
    (tmp_path / "trail.jsonl").write_bytes(ada.get("/api/audit/export").content)
    assert verify_export(tmp_path / "trail.jsonl") == ()
    assert not [path for path in site.places.exports.iterdir() if "audit" in path.name]


def test_accounts_are_added_and_changed(site: Site) -> None:
    ada = site.visitor("ada")
    new = {"name": "dora", "fullName": "Dora D.", "role": "viewer", "password": PASSWORD, "collections": ["south"]}
    assert ada.post("/api/people", new).json()["collections"] == ["south"]
    assert ada.post("/api/people", new).status_code == 400
    changed = ada.ask("PATCH", "/api/people/dora", {"role": "reviewer"}).json()
    assert (changed["role"], changed["collections"]) == ("reviewer", ["south"])
    assert ada.ask("PATCH", "/api/people/dora", {"collections": None}).json()["collections"] is None
    assert "password" not in ada.get("/api/people").text
    assert site.visitor().post("/api/session", {"name": "dora", "password": PASSWORD}).status_code == 200


def test_dashboard_and_suggestions_are_of_what_one_may_see(site: Site) -> None:
    rolf = site.visitor("rolf")
    assert [one["key"] for one in rolf.get("/api/suggestions?count=5").json()["cases"]] == ["two"]
    assert rolf.get("/api/dashboard").json()["total"]["cases"] == 0


def test_nobody_waits_for_a_turn_without_end() -> None:
    turns = Turns(at_once=2, seconds=0.05)
    with turns.of(1), turns.one():
        began = time.monotonic()
        with pytest.raises(ResourceError, match="too much to do"), turns.of(1):
            pass
        with pytest.raises(ResourceError, match="too much to do"), turns.one():
            pass
        assert time.monotonic() - began < 5
    with turns.of(1), turns.of(2):
        pass


def test_no_account_gets_all_turns_at_being_answered() -> None:
    turns, answered = AccountTurns(at_once=2, waiting=1), list[str]()

    async def ask(account: str) -> None:
        async with turns.of(account):
            answered.append(account)
            await anyio.sleep(0.2)

    async def all_ask() -> None:
        async with anyio.create_task_group() as group:
            for account in ("ada", "ada", "ada", "rita"):
                group.start_soon(ask, account)
            await anyio.sleep(0.1)
            assert sorted(answered) == ["ada", "ada", "rita"]
            with pytest.raises(ResourceError, match="under way"):
                await ask("ada")
        assert sorted(answered) == ["ada", "ada", "ada", "rita"]
        await ask("ada")

    anyio.run(all_ask)


def test_who_floods_the_server_keeps_nobody_else_out(site: Site) -> None:
    parts, (ada, rita) = site.app.state.parts, map(site.visitor, ("ada", "rita"))
    turns = AccountTurns(at_once=1, waiting=0)
    site.app.state.parts = replace(parts, account_turns=turns)

    async def status(visitor: Any) -> int:
        answer = await anyio.to_thread.run_sync(visitor.get, "/api/cases")
        return int(answer.status_code)

    async def ask_both() -> tuple[int, int]:
        async with turns.of("ada"):
            return await status(ada), await status(rita)

    assert anyio.run(ask_both) == (503, 200)
    assert ada.get("/api/cases").status_code == 200


def test_what_several_ask_for_at_once_is_made_once() -> None:
    kept, made, go = Kept(1000), list[int](), threading.Event()

    def make() -> bytes:
        made.append(1)
        go.wait(10)
        return b"x"

    threads = [threading.Thread(target=kept.get, args=("key", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_kept_answers_stay_within_their_bytes() -> None:
    kept, made = Kept(40), list[int]()

    def make(key: int) -> bytes:
        return kept.get(key, lambda: made.append(key) or b"x" * 10)  # type: ignore[func-returns-value]

    assert [len(make(key)) for key in (1, 2, 3, 4, 1, 5, 1, 2)] == [10] * 8
    assert made == [1, 2, 3, 4, 5, 2]
