"""Where a case goes when somebody does something with it. Pure."""

from __future__ import annotations

from enum import Enum

from delineate.errors import InputError
from delineate.review.records import State, Verdict


class Act(Enum):
    """What is done with a whole case."""

    TAKE = "take"
    GIVE_BACK = "give back"
    EDIT = "correct"
    DECIDE_PART = "decide on a structure of"
    APPROVE = "approve"
    REJECT = "reject"
    ESCALATE = "escalate"
    ASK_SECOND = "ask a second reader for"
    REOPEN = "reopen"


VERDICT_ACTS = {Verdict.APPROVE: Act.APPROVE, Verdict.REJECT: Act.REJECT, Verdict.ESCALATE: Act.ESCALATE}

APPROVED = (State.APPROVED, State.APPROVED_WITH_EDITS)
OPEN = (State.UNREVIEWED, State.IN_REVIEW, State.ESCALATED, State.AWAITING_SECOND)
DECIDED = (*APPROVED, State.REJECTED)


def next_state(state: State, act: Act, *, edited: bool = False, asks_second: bool = False) -> State:
    """The state after an act.

    `edited`: whether the labels differ from the model's by edits that stand. `asks_second`: whether a second reader is
    named. An approval by the first reader then waits for them; in `AWAITING_SECOND` an act is the second reader's.
    Raises `InputError` for what cannot be done in this state: what is decided must be reopened first.
    """
    approved = State.APPROVED_WITH_EDITS if edited else State.APPROVED
    if act is Act.REOPEN:
        return _after_reopening(state)
    if act is Act.ASK_SECOND and state in APPROVED:
        return State.AWAITING_SECOND
    if state in DECIDED:
        remedy = "Reopen the case first."
        raise InputError(f"nobody can {act.value} a case that is decided", got=state.value, remedy=remedy)
    if act is Act.APPROVE:
        waits = asks_second and state is not State.AWAITING_SECOND
        return State.AWAITING_SECOND if waits else approved
    if act in (Act.REJECT, Act.ESCALATE):
        return State.REJECTED if act is Act.REJECT else State.ESCALATED
    if act is Act.GIVE_BACK and state is State.IN_REVIEW:
        return State.IN_REVIEW if edited else State.UNREVIEWED
    if act in (Act.TAKE, Act.EDIT, Act.DECIDE_PART) and state is State.UNREVIEWED:
        return State.IN_REVIEW
    return state


def _after_reopening(state: State) -> State:
    if state in (State.UNREVIEWED, State.IN_REVIEW):
        raise InputError("the case is open already", got=state.value)
    return State.IN_REVIEW
