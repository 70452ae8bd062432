"""Readers compared: shares, times and Dice by hand, and the same from a real store with real edits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reviewed_cases import approval, new_case

from delineate.editing.runs import difference
from delineate.evaluation.intervals import wilson_interval
from delineate.labels import label_set
from delineate.review.live import LiveLabels
from delineate.review.readers import CaseReading, StructureReading, dashboard
from delineate.review.reading_facts import Dashboards, approvals, compare_labels
from delineate.review.records import Person, ReviewCase, Role, State, Verdict
from delineate.review.remembering import Remembered, scope_of
from delineate.review.store import Store, open_store


def reading(key: str, state: State = State.APPROVED, *, reader: str = "weiss", **facts: object) -> CaseReading:
    return CaseReading(key, state, model="liver", site="North", reader=reader, **facts)  # type: ignore[arg-type]


def test_wilson_by_hand() -> None:
    # 8 of 10 with z = 1.96: centre 0.717, half 0.226.
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert all(map(math.isnan, wilson_interval(0, 0)))
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


@given(of=st.integers(1, 500), data=st.data())
def test_wilson_holds_the_share_and_mirrors(of: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, of))
    lower, upper = wilson_interval(count, of)
    assert 0 <= lower <= count / of <= upper <= 1
    mirrored = wilson_interval(of - count, of)
    assert mirrored == pytest.approx((1 - upper, 1 - lower))


def test_shares_are_of_all_that_was_decided() -> None:
    readings = [
        reading("a"),
        reading("b", State.APPROVED_WITH_EDITS),
        reading("c", State.REJECTED, reasons=("Wrong  scan",)),
        reading("d", State.IN_REVIEW),
        reading("e", State.REJECTED, reader="klein", reasons=("wrong scan",)),
    ]
    board = dashboard(readings)
    assert (board.total.cases, board.total.unedited.count, board.total.unedited.of) == (4, 1, 4)
    assert (board.total.rejected, [(one.reason, one.count) for one in board.total.reasons]) == (2, [("Wrong scan", 2)])
    assert [(group.name, group.cases) for group in board.readers] == [("klein", 1), ("weiss", 3)]


def test_times_are_of_cases_whose_time_is_known() -> None:
    board = dashboard([reading(str(n), seconds=s) for n, s in enumerate([0.0, 60.0, 100.0, 140.0, 500.0])])
    seconds = board.total.seconds
    assert (seconds.count, seconds.lower, seconds.median, seconds.upper) == (4, 90.0, 120.0, 230.0)


def test_dice_is_the_mean_of_a_case_and_its_own_for_structures() -> None:
    first = (StructureReading("core", edited=True, dice=0.5), StructureReading("rim", dice=1.0))
    second = (StructureReading("core", dice=0.9), StructureReading("rim"))
    board = dashboard(
        [reading("a", State.APPROVED_WITH_EDITS, structures=first), reading("b", structures=second, second="klein")]
    )
    assert board.total.dice.median == pytest.approx((0.75 + 0.9) / 2)
    core, rim = board.structures
    assert (core.dice.median, core.unedited.count, rim.unedited.count, rim.dice.count) == (0.7, 1, 2, 1)
    assert [(pair.first, pair.second, pair.cases) for pair in board.pairs] == [("weiss", "klein", 1)]


def test_nothing_decided_is_no_number() -> None:
    content = msgspec.json.decode(msgspec.json.encode(dashboard([], pending=2)))
    assert content["total"]["unedited"] == {"count": 0, "of": 0, "value": None, "lower": None, "upper": None}
    assert (content["models"], content["pending"]) == ([], 2)


def test_labels_are_compared_by_name(tmp_path: Path) -> None:
    _, one = new_case(tmp_path, dicom=False)
    array = one.array.copy()
    array[one.array == 2] = 0
    masks = np.stack([array == 1, array == 2])
    other = replace(one, array=masks, labels=label_set({1: "core", 2: "rim"}, overlaps=True))
    found = compare_labels(one, other)
    assert (found.dice, found.edited) == ({"core": 1.0, "rim": 0.0}, ["rim"])
    assert compare_labels(one, replace(one, array=array)) == found
    assert compare_labels(other, other).dice == {"core": 1.0, "rim": None}


def test_a_second_approval_is_of_the_first_before_it() -> None:
    first, second = approval(), replace(approval("klein", minutes=5), second=True)
    assert approvals([second, first]) == (first, second)
    assert approvals([first, second, approval(minutes=9)]) == (approval(minutes=9), None)
    assert approvals([first, replace(second, verdict=Verdict.REJECT)]) == (None, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/review.sqlite")


def person(store: Store, name: str, role: Role = Role.REVIEWER) -> Person:
    return store.add_person(name, f"Dr. {name.title()}", role, None, by="test")


def decide(
    store: Store, live: LiveLabels, case: ReviewCase, who: Person, *, verdict: Verdict = Verdict.APPROVE
) -> None:
    revision, seen = live.digest(case)
    reason = "leaks" if verdict is Verdict.REJECT else ""
    store.decide(case.id, who, verdict, revision=revision, seen=seen, signature=who.full_name, reason=reason)


def paint(live: LiveLabels, case: ReviewCase, who: Person, *, value: int = 1) -> None:
    """A rectangle of 4 x 2 voxels in the first slice, from i = value."""
    now = live.segmentation(case).array
    after = now.copy()
    after[value : value + 4, 2:4, 0] = value
    base = live.digest(case)[0]
    live.edit(case, who, base_revision=base, layer=0, runs=difference(now, after), tool="brush", parameters="{}")


def test_the_store_tells_what_two_readers_did(tmp_path: Path, store: Store) -> None:
    new, model = new_case(tmp_path, dicom=False)
    other, _ = new_case(tmp_path, key="p2", seed=6, dicom=False)
    store.add_cases([new, other], by="test")
    weiss, klein = person(store, "weiss"), person(store, "klein")
    live = LiveLabels(store, memory_bytes=1 << 26)
    case, rejected = store.case("p1"), store.case("p2")
    assert case is not None
    assert rejected is not None
    store.assign_second(case, "klein", by=weiss)
    paint(live, case, weiss)
    decide(store, live, case, weiss)
    paint(live, case, klein, value=2)
    decide(store, live, case, klein)
    decide(store, live, rejected, weiss, verdict=Verdict.REJECT)

    waits = Dashboards(store, live, tmp_path / "cache", budget_seconds=-1).read(klein)
    assert (waits.pending, waits.total.cases, waits.total.dice.count) == (1, 2, 0)
    board = Dashboards(store, live, tmp_path / "cache").read(klein)
    assert (board.pending, board.total.rejected, board.total.edits.median) == (0, 1, 1.0)
    (pair,) = board.pairs
    assert (pair.first, pair.second) == ("weiss", "klein")
    # 8 voxels of core, of which the second reader's 8 of rim took 6.
    core, rim = (int(np.count_nonzero(model.mask(name))) for name in ("core", "rim"))
    own = [2 * core / (2 * core + 2), 2 * rim / (2 * rim + 8)]
    between = [2 * (core + 2) / (2 * core + 10), 2 * rim / (2 * rim + 8)]
    assert board.total.dice.median == pytest.approx(np.mean(own))
    assert pair.dice.median == pytest.approx(np.mean(between))
    # What was compared is on disk: no time is needed for it.
    again = Dashboards(store, live, tmp_path / "cache", budget_seconds=-1).read(klein)
    assert again == board


def test_who_may_not_see_cases_sees_nothing_of_them(tmp_path: Path, store: Store) -> None:
    new, _ = new_case(tmp_path, dicom=False)
    store.add_cases([new], by="test")
    weiss = person(store, "weiss")
    guest = store.add_person("guest", "A Guest", Role.VIEWER, None, collections=("other",), by="test")
    live = LiveLabels(store, memory_bytes=1 << 26)
    case = store.case("p1")
    assert case is not None
    decide(store, live, case, weiss)
    boards = Dashboards(store, live, tmp_path / "cache")
    assert boards.read(guest) == dashboard([])
    group = boards.read(weiss).total
    assert (group.unedited.count, group.dice.median, group.edits.median) == (1, 1.0, 0.0)


def test_what_took_long_is_given_again_for_a_while() -> None:
    now, made = [100.0], []
    answers: Remembered[int] = Remembered(clock=lambda: now[0])

    def make() -> int:
        now[0] += 2
        made.append(now[0])
        return len(made)

    assert (answers.get("a", make), answers.get("a", make)) == (1, 1)
    now[0] += 19.9
    assert answers.get("a", make) == 1
    assert answers.get("b", make, whole=lambda answer: False) == 2
    assert answers.get("b", make) == 3
    assert answers.get("a", make) == 4


def test_people_who_see_the_same_share_an_answer() -> None:
    weiss = Person(1, "weiss", "Anna Weiss", Role.REVIEWER, collections=("b", "a"))
    assert scope_of(weiss) == scope_of(replace(weiss, id=2, name="klein", collections=("a", "b")))
    assert scope_of(replace(weiss, role=Role.ADMIN)) is None
    assert scope_of(replace(weiss, collections=())) != scope_of(None)
