"""The rules of review without a database: where a case goes, and what undo and redo take back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import InputError
from delineate.review.records import State, Verdict
from delineate.review.store.decisions import open_rejections
from delineate.review.store.history import history_of
from delineate.review.store.states import DECIDED, OPEN, Act, next_state


@pytest.mark.parametrize(
    ("state", "act", "after"),
    [
        (State.UNREVIEWED, Act.TAKE, State.IN_REVIEW),
        (State.UNREVIEWED, Act.EDIT, State.IN_REVIEW),
        (State.ESCALATED, Act.TAKE, State.ESCALATED),
        (State.IN_REVIEW, Act.GIVE_BACK, State.UNREVIEWED),
        (State.IN_REVIEW, Act.REJECT, State.REJECTED),
        (State.AWAITING_SECOND, Act.REJECT, State.REJECTED),
        (State.AWAITING_SECOND, Act.ESCALATE, State.ESCALATED),
        (State.APPROVED, Act.ASK_SECOND, State.AWAITING_SECOND),
        (State.APPROVED_WITH_EDITS, Act.REOPEN, State.IN_REVIEW),
        (State.AWAITING_SECOND, Act.REOPEN, State.IN_REVIEW),
    ],
)
def test_a_case_goes_where_it_should(state: State, act: Act, after: State) -> None:
    assert next_state(state, act) is after


@pytest.mark.parametrize("state", OPEN)
def test_an_approval_waits_for_a_second_reader_only_once(state: State) -> None:
    waits = State.APPROVED_WITH_EDITS if state is State.AWAITING_SECOND else State.AWAITING_SECOND
    assert next_state(state, Act.APPROVE, edited=True, asks_second=True) is waits
    assert next_state(state, Act.APPROVE) is State.APPROVED
    assert next_state(state, Act.APPROVE, edited=True) is State.APPROVED_WITH_EDITS


@pytest.mark.parametrize("state", DECIDED)
@pytest.mark.parametrize("act", [act for act in Act if act not in (Act.REOPEN, Act.ASK_SECOND)])
def test_what_is_decided_must_be_reopened_first(state: State, act: Act) -> None:
    with pytest.raises(InputError, match="decided"):
        next_state(state, act)


@pytest.mark.parametrize("state", [State.UNREVIEWED, State.IN_REVIEW])
def test_what_is_open_cannot_be_reopened(state: State) -> None:
    with pytest.raises(InputError, match="open already"):
        next_state(state, Act.REOPEN)


def test_a_rejection_is_open_until_the_structure_is_approved() -> None:
    said = [(1, Verdict.REJECT), (2, Verdict.REJECT), (None, Verdict.REJECT), (1, Verdict.APPROVE)]
    assert open_rejections(said) == (2,)
    assert open_rejections([]) == ()


@given(st.lists(st.sampled_from(["edit", "undo", "redo"]), max_size=60))
def test_undo_and_redo_are_those_of_two_piles(acts: list[str]) -> None:
    edits: list[tuple[int, int | None]] = []
    pile: list[str] = []
    aside: list[str] = []
    named: dict[int, str] = {}
    for act in acts:
        history, revision = history_of(edits), len(edits) + 1
        assert [named[n] for n in history.standing] == pile
        if act == "edit":
            edits.append((revision, None))
            named[revision] = f"edit {revision}"
            pile.append(named[revision])
            aside.clear()
        elif act == "undo" and (target := history.undo_target) is not None:
            edits.append((revision, target))
            named[revision] = named[target]
            aside.append(pile.pop())
        elif act == "redo" and (target := history.redo_target) is not None:
            edits.append((revision, target))
            named[revision] = named[target]
            pile.append(aside.pop())
        assert (history_of(edits).redo_target is None) == (aside == [])


def test_only_the_last_can_be_taken_back() -> None:
    with pytest.raises(InputError, match="only the last edit"):
        history_of([(1, None), (2, None), (3, 1)])
    with pytest.raises(InputError, match="only the last edit"):
        history_of([(1, None), (2, 1), (3, None), (4, 2)])
