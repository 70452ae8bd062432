"""How large a network and a step may be, so that enough steps fit into the time there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from delineate.planning.options import Machine, PlanOptions, Preset, Speed
from delineate.planning.plan import Plan
from delineate.planning.work import step_seconds

PRESET_MINUTES: dict[Preset, float] = {"quick": 10.0, "balanced": 60.0, "best": 720.0}
_STEPPING = 0.9  # of the time; the rest is reading, preparing, validating
_MOST_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Effort:
    """`patch_voxels`: of one patch, at most. `step_voxels`: of a batch, about: it keeps a step short enough to take
    thousands of them. `base_features`: of the highest level, doubled at each further one up to `most_features`.
    `worth_steps`: how many steps it must get, or a smaller effort learns more. `least_batch`: of any patch."""

    patch_voxels: int
    step_voxels: int
    base_features: int
    most_features: int
    steps: int = 0
    worth_steps: int = 0
    least_batch: int = 2


_USUAL = {
    "cpu": Effort(200_000, 200_000, 16, 128, 2_000),
    "cuda": Effort(2_100_000, 4_200_000, 32, 320, 25_000),
    "mps": Effort(500_000, 1_000_000, 32, 256, 10_000),
}
# First steps, then width: see docs/decisions/0011.
_LADDER = (
    Effort(100_000, 100_000, 16, 128, least_batch=1),
    Effort(200_000, 200_000, 16, 128, worth_steps=1_000),
    Effort(200_000, 200_000, 24, 192, worth_steps=6_000),
    Effort(400_000, 400_000, 32, 256, worth_steps=8_000),
    Effort(1_000_000, 1_000_000, 32, 320, worth_steps=8_000),
    Effort(2_100_000, 2_100_000, 32, 320, worth_steps=8_000),
    Effort(2_100_000, 4_200_000, 32, 320, worth_steps=10_000),
)
# What machines of a kind reach where nobody measured: 2 CPU cores; one GPU for servers; a notebook's chip.
_ASSUMED = {"cpu": Speed(1.2e-9, 2.5e-11), "cuda": Speed(1.5e-11, 2.5e-13), "mps": Speed(1.0e-10, 3.0e-12)}


def minutes_of(options: PlanOptions) -> float | None:
    """The minutes of training that the options ask for: given, or those of a preset; None if neither is."""
    return options.minutes or (None if options.preset is None else PRESET_MINUTES[options.preset])


def choose_effort(machine: Machine, options: PlanOptions, plan_with: Callable[[Effort], Plan]) -> tuple[Effort, str]:
    """The effort for the time there is, and why; what is usual on such a device where nobody says how long.

    `plan_with` makes the plan of an effort: only it knows patch, batch and network, and so what a step takes. The
    largest effort is chosen that still gets as many steps as it is worth.
    """
    minutes = minutes_of(options)
    if minutes is None:
        usual = _USUAL[machine.kind]
        return usual, f"time: not given; {usual.steps:,} steps, as usual on this kind of device"
    speed = machine.speed or _ASSUMED[machine.kind]
    chosen, steps, seconds = _LADDER[0], 1, 0.0
    for effort in _LADDER:
        a_step = step_seconds(plan_with(effort), speed)
        possible = int(60 * minutes * _STEPPING / a_step)
        if effort is _LADDER[0] or possible >= effort.worth_steps:
            chosen, steps, seconds = effort, possible, a_step
    asked = f"{minutes:g} minutes" if options.minutes else f'{minutes:g} minutes, the preset "{options.preset}"'
    how = "measured" if machine.speed is not None else "assumed, not measured,"
    reason = f"time: {asked}: about {steps:,} steps of {seconds:.2g} s at the {how} speed of this device"
    larger = next_effort(chosen)
    if larger is not None:
        reason += f"; a larger network or step would pay from {larger.worth_steps:,} steps on"
    return replace(chosen, steps=max(1, min(_MOST_STEPS, steps))), reason


def next_effort(effort: Effort) -> Effort | None:
    """The next larger one of those that time is turned into; None for the largest, and for others."""
    return dict(pairwise(_LADDER)).get(effort)
