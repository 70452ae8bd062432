"""How large a network and a step may be, so that enough steps fit into the time there is."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.planning.options import Machine, PlanOptions


@dataclass(frozen=True, slots=True)
class Effort:
    """`patch_voxels`: of one patch, at most. `step_voxels`: of a batch, about: it keeps a step short enough to take
    thousands of them. `base_features`: of the highest level, doubled at each further one up to `most_features`."""

    patch_voxels: int
    step_voxels: int
    base_features: int
    most_features: int
    steps: int


_USUAL = {
    "cpu": Effort(200_000, 200_000, 16, 128, 2_000),
    "cuda": Effort(2_100_000, 4_200_000, 32, 320, 25_000),
    "mps": Effort(500_000, 1_000_000, 32, 256, 10_000),
}


def usual_effort(machine: Machine, options: PlanOptions) -> Effort:
    """What is sensible on a kind of device, whatever the time."""
    return _USUAL[machine.kind]
