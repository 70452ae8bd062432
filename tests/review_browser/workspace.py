"""A workspace of two synthetic patients as DICOM series, with results as `predict` writes them: the reference with
mistakes that a reader has to find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delineate import formats
from delineate.geometry import Grid
from delineate.phantom import make_synthetic
from delineate.volume import Segmentation, align
from delineate.workflow.results import ResultRecord, write_record

Labels = npt.NDArray[np.uint8]
LIVER, SPLEEN, RIGHT_KIDNEY = 1, 2, 3
SEEDS = {"anna": 1001, "bert": 1004}


@dataclass(frozen=True)
class Patient:
    """`scan`: its folder. `model`, `reference`: labels (I, J, K) on `grid`. `bite`: the middle of what the model left
    out of the liver; `blob`: the middle of what it added to the spleen, outside of it; `slice`: k of both."""

    key: str
    scan: Path
    grid: Grid
    model: Labels
    reference: Labels
    bite: tuple[int, int, int]
    blob: tuple[int, int, int]


def make_workspace(folder: Path) -> dict[str, Patient]:
    """Scans and results of the patients, by name. The model has missed the right kidney of each."""
    return {name: _make_patient(folder, name, seed) for name, seed in SEEDS.items()}


def _make_patient(folder: Path, name: str, seed: int) -> Patient:
    made = make_synthetic("abdomen", seed, coarse=2.0)
    scan = folder / "scans" / name
    formats.write_dicom_series(
        scan, made.image, patient_id=name.upper(), patient_name=f"Test^{name.title()}", seed=name
    )
    stack = formats.stack_at(scan)
    reference = align(made.reference, stack.grid)
    truth = np.asarray(reference.array, np.uint8)
    bite, blob = _middle(truth == LIVER), _empty_place(truth)
    model = np.where(truth == RIGHT_KIDNEY, 0, truth)
    model[_around(bite, 2)] = 0
    model[_around(blob, 1)] = SPLEEN
    _write_result(folder / "results" / f"{name}.nii.gz", Segmentation(model, stack.grid, reference.labels), stack)
    return Patient(name, scan, stack.grid, model, truth, bite, blob)


def _write_result(path: Path, result: Segmentation, stack: formats.Stack) -> None:
    formats.write_segmentation(path, result)
    record = ResultRecord(
        case=formats.image_stem(path),
        labels={label.name: label.value for label in result.labels},
        volumes_ml={},
        model="5e" * 32,
        series_uid=stack.facts.series_uid,
        seconds=1.0,
        recipe="browser",
    )
    write_record(path, record)


def _middle(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """The voxel of the mask's largest slice that is deepest inside."""
    from scipy.ndimage import distance_transform_edt

    k = int(mask.sum(axis=(0, 1)).argmax())
    depth = distance_transform_edt(mask[:, :, k])
    i, j = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(i), int(j), k


def _empty_place(truth: Labels) -> tuple[int, int, int]:
    """Farthest from all structures, in the slice of the bite."""
    from scipy.ndimage import distance_transform_edt

    k = _middle(truth == LIVER)[2]
    inside = np.zeros(truth.shape[:2], bool)
    inside[4:-4, 4:-4] = True
    far = distance_transform_edt(truth[:, :, k] == 0) * inside
    i, j = np.unravel_index(int(far.argmax()), far.shape)
    return int(i), int(j), k


def _around(at: tuple[int, int, int], radius: int) -> tuple[slice, slice, slice]:
    i, j, k = at
    return slice(i - radius, i + radius + 1), slice(j - radius, j + radius + 1), slice(k, k + 1)
