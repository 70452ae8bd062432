"""The models that nnU-Net trains for the comparison, and where everything of it lies. Both sides read this; it imports
neither of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("DELINEATE_REAL_DATA", ROOT.parent / "shared" / "data"))
FOLDER = Path(os.environ.get("NNUNET_BENCH", ROOT / ".nnunet"))
RAW, PREPROCESSED, RESULTS = FOLDER / "raw", FOLDER / "preprocessed", FOLDER / "results"
INPUTS, MASKS, TIMES = FOLDER / "inputs", FOLDER / "masks", FOLDER / "times"

PLAIN, RESIDUAL = "nnUNetPlans", "nnUNetResEncUNetMPlans"
SGD, ADAM = "nnUNetTrainer", "nnUNetTrainerAdam1en3"


@dataclass(frozen=True, slots=True)
class Data:
    """A dataset of nnU-Net's made from one in MSD layout. `labels`: in nnU-Net's terms; empty: as in the source.

    Training takes the first `training` cases by name, prediction the last `held_out`. `thin`: only every n-th sagittal
    slice is kept, so that the slices are several times as thick as their pixels, along nnU-Net's last axis.
    """

    id: int
    name: str
    source: str
    channel: str
    training: int
    held_out: int
    labels: tuple[tuple[str, int | tuple[int, ...]], ...] = ()
    regions_class_order: tuple[int, ...] = ()
    thin: int = 1

    @property
    def folder(self) -> str:
        return f"Dataset{self.id}_{self.name}"


@dataclass(frozen=True, slots=True)
class Trained:
    """A model: a configuration of a plan, trained on some folds for `epochs` of `steps`; `patch` in the plan's axes,
    () leaves nnU-Net's own. `after`: the model whose masks it sees (a cascade). Both trainers are nnU-Net's;
    with Adam fewer steps do."""

    name: str
    data: Data
    configuration: str
    patch: tuple[int, ...] = ()
    plans: str = PLAIN
    trainer: str = ADAM
    folds: tuple[int | str, ...] = ("all",)
    epochs: int = 16
    steps: int = 25
    batch: int = 2
    after: str = ""

    @property
    def folder(self) -> Path:
        """The trained-model folder that nnU-Net leaves."""
        return RESULTS / self.data.folder / f"{self.trainer}__{self.plans}__{self.configuration}"


HIPPOCAMPUS = Data(101, "Hippocampus", "hippocampus", "MRI", 160, 40)
REGIONS = Data(
    102,
    "HippocampusRegions",
    "hippocampus",
    "MRI",
    160,
    40,
    labels=(("background", 0), ("whole", (1, 2)), ("posterior", (2,))),
    regions_class_order=(1, 2),
)
HEADNECK = Data(103, "HeadNeck", "headneck", "CT", 40, 4)
SAGITTAL = Data(104, "HeadNeckSagittal", "headneck", "CT", 40, 4, thin=4)
DATA = (HIPPOCAMPUS, REGIONS, HEADNECK, SAGITTAL)

MODELS = (
    Trained("hippocampus_2d", HIPPOCAMPUS, "2d", trainer=SGD, batch=12, epochs=30),
    Trained("hippocampus_3d", HIPPOCAMPUS, "3d_fullres"),
    Trained("hippocampus_residual", HIPPOCAMPUS, "3d_fullres", plans=RESIDUAL, folds=(0, 1)),
    Trained("hippocampus_regions", REGIONS, "3d_fullres"),
    Trained("hippocampus_lowres", HIPPOCAMPUS, "3d_lowres", patch=(24, 32, 24)),
    Trained("hippocampus_cascade", HIPPOCAMPUS, "3d_cascade_fullres", after="hippocampus_lowres"),
    Trained("headneck_3d", HEADNECK, "3d_fullres", patch=(32, 56, 56), epochs=30),
    Trained("headneck_sagittal", SAGITTAL, "3d_fullres", patch=(16, 64, 64), epochs=30),
)


def by_name(name: str) -> Trained:
    return next(model for model in MODELS if model.name == name)
