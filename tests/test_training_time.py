"""Runs of given minutes, on a clock that is set by hand."""

from dataclasses import dataclass
from itertools import pairwise

import msgspec
import pytest
from anatomy import tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate import training
from delineate.training import Facts, Phase, TrainingState, extend, learning_rate, refit
from delineate.training.pace import Pace, fitting_steps
from delineate.workflow.training_time import Timekeeper

PLAN = tiny_plan()
PEAK = PLAN.training.learning_rate


@dataclass(slots=True)
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def state_of(seconds: float) -> TrainingState:
    phase = Phase(first=0, last=10_000, start=0.0, peak=PEAK)
    state = training.start(PLAN)
    state.facts = Facts(phases=(phase,), deadline_seconds=seconds)
    return state


def run(
    state: TrainingState, step_seconds: "list[tuple[float, float]]", *, validation_seconds: float = 0.0, stop: int = 0
) -> list[float]:
    """The rates of a run whose steps take so long from a second on; stopped after `stop` steps, or never."""
    clock, rates = Clock(), []
    began = clock.now - state.facts.seconds
    keeper = Timekeeper(state, began, 4 if validation_seconds else 0, 1.0 if validation_seconds else 0.0, clock)
    while state.facts.step < state.facts.last_step:
        rates.append(learning_rate(state.facts.phases, state.facts.step, PLAN.training))
        since = clock.now - began
        clock.now += next(seconds for start, seconds in reversed(step_seconds) if since >= start)
        state.facts.step += 1
        keeper.step_taken()
        phase, ended = state.facts.phases[-1], state.facts.step >= state.facts.last_step
        if validation_seconds and (ended or phase.is_due(state.facts.step, keeper.times)):
            clock.now += validation_seconds
            keeper.validated(validation_seconds)
        if state.facts.step == stop:
            return rates
        keeper.next_step()
    return rates


def largest_jump(rates: list[float], state: TrainingState) -> float:
    """Of the rate between two steps, in steps of the plan's warm-up."""
    phase = state.facts.phases[-1]
    assert phase.moved is not None
    rest = (1 - phase.share) / (phase.last - phase.moved)
    return max(abs(a - b) for a, b in pairwise(rates)) / (PEAK * rest / PLAN.training.warmup_fraction)


@pytest.mark.parametrize("later", [0.1 / 3, 0.1, 0.3, 2.0])
def test_a_machine_that_changes_its_pace_half_way_keeps_the_time(later: float) -> None:
    state = state_of(150)
    rates = run(state, [(0, 0.1), (75, later)])
    assert state.facts.seconds == pytest.approx(150, rel=0.05)
    assert rates[-1] < 0.01 * PEAK
    assert max(rates) == pytest.approx(PEAK, rel=0.01)
    assert max(abs(a - b) for a, b in pairwise(rates)) < PEAK / 12  # 0.04 of 75 to 1,500 steps warm up


@settings(max_examples=40, deadline=None)
@given(
    seconds=st.floats(60, 400),
    fastest=st.floats(0.1, 0.5),
    slower=st.lists(st.floats(1, 3), min_size=1, max_size=5),
    validation=st.sampled_from([0.0, 0.3]),
)
def test_up_to_three_times_as_slow_or_fast_the_run_ends_in_time_with_the_rate_at_zero(
    seconds: float, fastest: float, slower: list[float], validation: float
) -> None:
    state = state_of(seconds)
    marks = [(seconds * n / len(slower), fastest * times) for n, times in enumerate(slower)]
    rates = run(state, marks, validation_seconds=validation)
    assert 0.9 * seconds < state.facts.seconds < 1.02 * seconds
    assert rates[-1] <= max(0.02, 3 / len(rates)) * PEAK


def test_a_machine_that_hangs_lands_in_a_few_steps() -> None:
    state = state_of(100)
    rates = run(state, [(0, 0.1), (60, 50.0), (65, 0.1)])
    assert state.facts.seconds < 115
    assert rates[-1] < 0.2 * PEAK


def test_one_step_that_hung_hardly_changes_the_pace() -> None:
    pace = Pace(span_seconds=2.0)
    for seconds in [0.1] * 10 + [9.0] + [0.1] * 9:
        pace.add(seconds)
    assert pace.step_seconds == pytest.approx(0.1, rel=0.3)
    for _ in range(20):
        pace.add(0.4)
    assert pace.step_seconds == pytest.approx(0.4)


def test_a_resumed_run_keeps_the_time_too() -> None:
    state = state_of(100)
    run(state, [(0, 0.1)], stop=400)
    state.facts = msgspec.json.decode(msgspec.json.encode(state.facts), type=Facts)
    state.facts.seconds += 20  # lost with the process, and spent on preparing again
    rates = run(state, [(0, 0.3)])
    assert state.facts.seconds == pytest.approx(100, rel=0.05)
    assert rates[-1] < 0.01 * PEAK


def test_validations_are_fewer_where_they_would_take_much_of_the_time() -> None:
    state = state_of(100)
    run(state, [(0, 0.1)], validation_seconds=5.0)
    assert state.facts.stage_seconds["validation"] == pytest.approx(15.0)  # one of 4 before its price was known, then 2
    assert state.facts.seconds == pytest.approx(100, rel=0.05)


def test_what_is_done_beside_the_steps_takes_its_share_of_the_time_left() -> None:
    state, clock = state_of(100), Clock()
    keeper = Timekeeper(state, clock.now, clock=clock)
    for step in range(1, 17):
        clock.now += 0.1
        state.facts.step = step
        keeper.step_taken()
        if step == 8:
            clock.now += 5.0
            keeper.validated(5.0)
        clock.now += 0.1
        keeper.next_step()
    left = 100 - 16 * 0.2 - 5.0 - 2.0  # to save and draw at the end
    assert state.facts.last_step - 16 == pytest.approx(left / 0.2, rel=0.05)


def test_fitting_steps_by_hand() -> None:
    assert fitting_steps(10.0, 0.3, taken=0, share=0.0) == 33
    assert fitting_steps(-5.0, 0.3, taken=1000, share=0.5) == 15
    assert fitting_steps(-5.0, 0.3, taken=1000, share=1.0) == 1


@given(
    step=st.integers(1, 399),
    last=st.integers(401, 4000),
    decay=st.sampled_from(["cosine", "poly"]),
)
def test_moving_the_end_moves_no_rate(step: int, last: int, decay: str) -> None:
    plan = msgspec.structs.replace(PLAN.training, decay=decay)
    facts = Facts(step=step, phases=(Phase(first=0, last=400, start=0.0, peak=PEAK),))
    moved = refit(facts, last)
    before, after = (learning_rate(f.phases, step, plan) for f in (facts, moved))
    assert after == pytest.approx(before, abs=PEAK / (plan.warmup_fraction * min(400, last)))
    assert learning_rate(moved.phases, last, plan) == pytest.approx(0.0)
    assert refit(moved, 400).phases[-1].progress(step) == pytest.approx(step / 400)


def test_moments_are_neither_lost_nor_doubled_when_the_end_moves() -> None:
    facts = Facts(step=0, phases=(Phase(first=0, last=100, start=0.0, peak=PEAK),))
    due = 0
    while facts.step < facts.last_step:
        facts.step += 1
        due += facts.phases[-1].is_due(facts.step, 7)
        if facts.step in (13, 40, 41, 90):
            facts = refit(facts, facts.step + 37)
    assert due == 7


def test_a_run_whose_end_was_moved_is_extended_from_where_it_ended() -> None:
    facts = refit(Facts(step=30, phases=(Phase(first=0, last=100, start=0.0, peak=PEAK),)), 60)
    facts.step = 60
    longer = extend(facts, 200, PLAN.training)
    rates = [learning_rate(longer.phases, step, PLAN.training) for step in range(30, 201)]
    assert rates[30] < 0.25 * PEAK
    assert rates[-1] == pytest.approx(0)
