"""Probability maps that `predict --probabilities` wrote beside a label map, against a reference."""

from __future__ import annotations

from pathlib import Path

from delineate import formats
from delineate.errors import DelineateError, GeometryMismatch
from delineate.geometry import Grid, aligned, largest_distance_mm
from delineate.metrics.calibration import BINS, WITHIN_MM, Calibration, calibrate_structure
from delineate.volume import Array, Segmentation, reorient
from delineate.workflow.results import probability_path


def calibrate_result(
    prediction: Path,
    reference: Segmentation,
    predicted: Segmentation | None = None,
    *,
    within_mm: float | None = WITHIN_MM,
    bins: int = BINS,
) -> dict[str, Calibration]:
    """The calibration of each structure of the reference whose probabilities lie beside a prediction.

    `predicted`: the prediction itself on the reference's grid, because of several labels the most probable may have
    less than one half; without it, what has half or more is taken to be predicted. One map is in memory at a time. No
    maps give nothing; see `calibrate_structure` for the rest. Raises `GeometryMismatch` for a map that lies elsewhere
    than the reference, `InputError` for values that are no probabilities, and what `formats.read_volume` raises; all
    name the file.
    """
    paths = {name: probability_path(prediction, name) for name in reference.labels.names}
    found = {}
    for name, path in paths.items():
        if path.is_file():
            probability = _read(path, reference.grid)
            try:
                found[name] = calibrate_structure(
                    reference.mask(name),
                    probability,
                    reference.grid.spacing_mm,
                    predicted=None if predicted is None else predicted.mask(name),
                    within_mm=within_mm,
                    bins=bins,
                )
            except DelineateError as error:
                raise error.at(path) from error
    return found


def _read(path: Path, grid: Grid) -> Array:
    volume = reorient(formats.read_volume(path), grid.orientation)
    if not aligned(volume.grid, grid):
        same_shape = volume.grid.shape == grid.shape
        distance_mm = largest_distance_mm(volume.grid, grid)
        raise GeometryMismatch(
            "probabilities and reference do not lie in the same place",
            expected=f"shape {grid.shape}, voxels within a tenth of a voxel",
            got=f"voxels up to {distance_mm:.3g} mm apart" if same_shape else f"shape {volume.grid.shape}",
            path=path,
        )
    first: Array = volume.array[0]
    return first
