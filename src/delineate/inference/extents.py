"""How a plan lies on a scan, before anything is prepared: its voxels, and how much its network has to do."""

from __future__ import annotations

import math

from delineate.geometry import Grid, TripleMM, change_axes
from delineate.inference.windows import layout, mirrors
from delineate.model import Model
from delineate.planning import Plan
from delineate.preprocessing import prepared_grid
from delineate.preprocessing.traces import turn


def spacing_on(grid: Grid, plan: Plan) -> TripleMM:
    """The spacing that a scan is prepared with, in the order of its own array axes."""
    order, spacing = turn(grid, plan).order, _prepared(grid, plan).spacing_mm
    i, j, k = (spacing[order.index(axis)] for axis in range(3))
    return i, j, k


def network_voxels(model: Model, grid: Grid) -> int:
    """Voxels that a model's own network goes through in a scan: all windows, mirrored, in every fold.

    The scan counts as a whole; where it is cropped there is less to do.
    """
    plan = model.plan
    windows = layout(_prepared(grid, plan).shape, plan).count
    return windows * math.prod(plan.patch_size) * len(list(mirrors(plan.tiling))) * len(model.folds)


def all_network_voxels(model: Model, grid: Grid) -> int:
    """The same of a model and all its stages."""
    return network_voxels(model, grid) + sum(all_network_voxels(stage, grid) for stage in model.stages.values())


def _prepared(grid: Grid, plan: Plan) -> Grid:
    return prepared_grid(change_axes(grid, turn(grid, plan)), plan)
