"""How large a network and a step may be, so that enough steps fit into the time there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from delineate.errors import PlanError
from delineate.planning.options import Machine, PlanOptions, Preset, Speed
from delineate.planning.plan import Plan
from delineate.planning.work import step_operations, step_seconds

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

    `plan_with` makes the plan of an effort, made to fit the memory: only it knows patch, batch and network, and so what
    a step takes. The largest effort is chosen that still gets as many steps as it is worth, and does not pay for its
    width with smaller steps because memory is short. Raises what `plan_with` raises for the smallest effort.
    """
    minutes = minutes_of(options)
    if minutes is None:
        usual = _USUAL[machine.kind]
        return usual, f"time: not given; {usual.steps:,} steps, as usual on this kind of device"
    speed = machine.speed or _ASSUMED[machine.kind]
    chosen, plan = _LADDER[0], plan_with(_LADDER[0])
    for effort in _LADDER[1:]:
        try:
            larger = plan_with(effort)
        except PlanError:  # it does not fit the memory, nor will a larger one
            break
        possible = _steps(minutes, step_seconds(larger, speed))
        if possible >= effort.worth_steps and _voxels_a_step(larger) >= _voxels_a_step(plan):
            chosen, plan = effort, larger
    steps = _steps(minutes, step_seconds(plan, speed))
    reason = f"time: {_asked(options)}: about {steps:,} steps of {_pace(plan, machine)}"
    if chosen is not _LADDER[-1]:
        needed = _LADDER[_LADDER.index(chosen) + 1].worth_steps
        reason += f"; a larger network or step would pay if there were time for {needed:,} of its steps"
    return replace(chosen, steps=steps), reason


def _asked(options: PlanOptions) -> str:
    preset = "" if options.preset is None else f', the preset "{options.preset}"'
    return f"{minutes_of(options):g} minutes{preset}"


def _pace(plan: Plan, machine: Machine) -> str:
    seconds = step_seconds(plan, machine.speed or _ASSUMED[machine.kind])
    rate = 1e-9 * step_operations(plan) / seconds
    how = "assumed, not measured" if machine.speed is None else "measured"
    return f"{seconds:.2g} s, at {rate:,.{0 if rate >= 10 else 2}f} GFLOP/s of this device ({how})"


def _voxels_a_step(plan: Plan) -> int:
    return plan.training.batch_size * math.prod(plan.patch_size)


def _steps(minutes: float, seconds: float) -> int:
    return max(1, min(_MOST_STEPS, int(60 * minutes * _STEPPING / seconds)))
