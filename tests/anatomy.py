"""Small scans for tests: anisotropic, oblique, asymmetric, so that a flip or a transpose shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delineate import formats
from delineate.dataset import Case, Dataset, write_dataset_json
from delineate.geometry import Grid, Triple, TripleMM, compose_affine
from delineate.labels import LabelSet, label_set
from delineate.planning import AugmentationPlan, NetworkPlan, Plan, Tiling, TrainingPlan, ZScore
from delineate.volume import Kind, Segmentation, Volume

LABELS = label_set({1: "core", 2: "rim"})


def oblique_grid(shape: Triple = (20, 16, 12), spacing_mm: TripleMM = (0.9, 1.2, 2.5), *, degrees: float = 12) -> Grid:
    """Turned about the body axis, away from the origin, in DICOM's usual orientation."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return Grid(shape, compose_affine(rotation * np.asarray(spacing_mm), (-31.0, 14.5, 207.25)))


def blob_case(seed: int, *, shape: Triple = (20, 16, 12)) -> tuple[Volume, Segmentation]:
    """A bright core in a darker rim off the centre, on a noisy background above 0; MR-like."""
    rng = np.random.default_rng(seed)
    grid = oblique_grid(shape)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    centre = np.asarray(shape) * (0.4, 0.55, 0.5) + rng.uniform(-1, 1, 3)
    distance = np.linalg.norm((index - centre) * (1.0, 1.2, 1.6), axis=-1)
    labels = np.where(distance < 3, 1, np.where(distance < 5.5, 2, 0)).astype(np.uint8)
    image = 100 + 60 * (labels == 2) + 150 * (labels == 1) + rng.normal(0, 8, shape)
    volume = Volume(image[None].astype(np.float32), grid, Kind.MR)
    return volume, Segmentation(labels, grid, LABELS)


def write_blobs(folder: Path, count: int, *, labels: LabelSet = LABELS) -> Dataset:
    """A dataset of `blob_case`s on disk."""
    cases = []
    for seed in range(count):
        volume, reference = blob_case(seed)
        image = folder / "imagesTr" / f"blob_{seed}_0000.nii.gz"
        target = folder / "labelsTr" / f"blob_{seed}.nii.gz"
        formats.write_volume(image, volume)
        formats.write_segmentation(target, reference)
        cases.append(Case(f"blob_{seed}", f"blob_{seed}", (image,), target))
    dataset = Dataset("blobs", ("MR",), labels, tuple(cases))
    write_dataset_json(folder, dataset)
    return dataset


def tiny_plan(**changes: object) -> Plan:
    """A plan that trains in seconds."""
    values: dict[str, object] = {
        "dataset": "blobs",
        "channels": ("MR",),
        "kinds": (Kind.MR,),
        "labels": ("core", "rim"),
        "spacing_mm": (1.2, 1.2, 2.0),
        "normalisation": (ZScore(),),
        "patch_size": (16, 16, 8),
        "network": NetworkPlan(
            architecture="nnunet",
            features=(8, 16),
            strides=((1, 1, 1), (2, 2, 2)),
            kernels=((3, 3, 3), (3, 3, 3)),
        ),
        "training": TrainingPlan(batch_size=2, steps=6, learning_rate=1e-2, precision="float32", validations=2),
        "augmentation": AugmentationPlan(),
        "tiling": Tiling(),
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]
