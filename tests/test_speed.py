"""The machine's speed: what a moment of other work must not change."""

import pytest

from delineate.planning import PlanOptions
from delineate.settings import detect
from delineate.workflow.speed import fastest_seconds, machine_of, speed_from


class Clock:
    """A machine on which a step takes `seconds`, ten times as long until `busy_until`."""

    def __init__(self, busy_until: float = 0.0) -> None:
        self.now, self.busy_until = 0.0, busy_until

    def step(self, seconds: float) -> None:
        self.now += seconds * (10 if self.now < self.busy_until else 1)

    def rest(self, seconds: float) -> None:
        self.now += seconds


def fastest(clock: Clock) -> list[float]:
    steps = [lambda: clock.step(0.01), lambda: clock.step(0.03)]
    return fastest_seconds(steps, clock=lambda: clock.now, rest=clock.rest)


def test_a_machine_that_is_busy_for_a_moment_is_as_fast_as_ever() -> None:
    assert fastest(Clock(busy_until=1.2)) == pytest.approx([0.01, 0.03])


def test_a_machine_that_is_busy_all_the_time_is_slower_and_measured_as_quickly() -> None:
    clock = Clock(busy_until=100)
    assert fastest(clock) == pytest.approx([0.1, 0.3])
    assert clock.now < 5


def test_the_measuring_is_spread_over_a_second_or_two() -> None:
    clock = Clock()
    fastest(clock)
    assert 1.5 < clock.now < 3


def test_two_blocks_give_what_values_and_products_take() -> None:
    # Of each voxel and feature: 2 ns, and 3 ps for each of 27 weights of each input, of which there are 16 and 64.
    speed = speed_from(2e-9 + 16 * 27 * 3e-12, 2e-9 + 64 * 27 * 3e-12)
    assert (speed.feature_seconds, speed.product_seconds) == pytest.approx((2e-9, 3e-12))


@pytest.mark.parametrize(("narrow", "wide"), [(2e-9, 1e-9), (1e-9, 9e-9)])
def test_nothing_is_for_nothing_whatever_was_measured(narrow: float, wide: float) -> None:
    speed = speed_from(narrow, wide)
    assert min(speed.feature_seconds, speed.product_seconds) > 0


def test_only_a_plan_for_minutes_is_worth_a_measurement() -> None:
    settings = detect("cpu", threads=1)
    assert machine_of(settings, PlanOptions()).speed is None
    assert machine_of(settings, PlanOptions(minutes=0.5)).speed is None


def test_a_preset_measures_this_machine() -> None:
    speed = machine_of(detect("cpu", threads=1), PlanOptions(preset="quick")).speed
    assert speed is not None
    # From a thousandth of a core of 2020 to a thousand of them.
    assert 1e-14 < speed.product_seconds < 1e-7
