"""The memory that a whole model takes on a scan that has not been read yet."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from delineate.engines import EngineChoice
from delineate.geometry import Box, Grid, change_axes
from delineate.inference.memory import Demand, MemoryEstimate, fit, stage_demand
from delineate.inference.predicting import InferenceOptions
from delineate.model import Model
from delineate.planning import Plan
from delineate.preprocessing import label_type, prepare_bytes
from delineate.preprocessing.traces import Trace, trace_scan, turn

COMPONENT_BYTES = 8
"""A voxel, while the components of a structure are looked for: its mask twice, their numbers, a copy of the map."""


def foresee(
    model: Model,
    grid: Grid,
    choice: EngineChoice,
    *,
    options: InferenceOptions,
    held_bytes: int,
    volume_bytes: int = 0,
    other_bytes: int = 0,
) -> MemoryEstimate:
    """The memory that a model takes on a scan: of all its stages, that of the one that takes most.

    `held_bytes`: what the process holds before the scan is read, the runners' weights included (`process_bytes`).
    `volume_bytes`: of the scan, 0 if it will be mapped. `other_bytes`: as in `Demand`. Depends on its arguments only:
    air around the patient, and `--locate`, make it less. Raises `ResourceError` if nothing fits
    `options.memory_bytes`.
    """
    estimates = []
    for stage, maps in _stages(model):
        together = bool(model.partners) and (stage is model or any(stage is partner for partner in model.partners))
        wanted = replace(options, with_probabilities=True) if together else options
        demand = scan_demand(grid, stage.plan, choice, folds=len(stage.folds), options=wanted)
        demand = replace(
            demand,
            held_bytes=held_bytes,
            volume_bytes=volume_bytes,
            other_bytes=other_bytes + maps * demand.labels_bytes + together * _sum_bytes(stage.plan, grid),
            postprocessing_bytes=_postprocessing_bytes(stage, grid),
        )
        estimates.append(fit(demand, stage.plan, options.memory_bytes)[1])
    return max(estimates, key=lambda estimate: estimate.total)


def scan_demand(grid: Grid, plan: Plan, choice: EngineChoice, *, folds: int, options: InferenceOptions) -> Demand:
    """What one plan is to do on a scan that has not been read, all of which is taken for foreground."""
    trace = _whole(grid, plan)
    image = 4 * plan.inputs * math.prod(trace.prepared.shape)
    labels = np.dtype(label_type(plan)).itemsize * math.prod(grid.shape)
    return replace(
        stage_demand(trace, plan, choice, folds=folds),
        prepared_bytes=options.held(image),
        preparation_bytes=prepare_bytes(grid, plan) - image + options.held(image),
        labels_bytes=options.held(labels),
        probabilities=options.with_probabilities,
    )


def _whole(grid: Grid, plan: Plan) -> Trace:
    change = turn(grid, plan)
    return trace_scan(grid, change, Box((0, 0, 0), change_axes(grid, change).shape), plan)


def _stages(model: Model) -> Iterator[tuple[Model, int]]:
    """All networks of a model, and how many label maps of the scan are held beside the one that each makes."""
    before = int(model.previous is not None)
    yield model, before
    for stage in model.stages.values():
        held = before + 1 if any(stage is overlay for overlay in model.overlays) else 0
        yield from ((part, maps + held) for part, maps in _stages(stage))


def _sum_bytes(plan: Plan, grid: Grid) -> int:
    """The probabilities of the models so far, where several are averaged."""
    return 4 * plan.classes * math.prod(grid.shape)


def _postprocessing_bytes(model: Model, grid: Grid) -> int:
    """Masks of regions, and what looking for components takes."""
    a_voxel = len(model.plan.regions) + (COMPONENT_BYTES if model.postprocessing else 0)
    return a_voxel * math.prod(grid.shape)
