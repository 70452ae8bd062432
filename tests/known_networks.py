"""Networks whose right answer is known at every voxel, and models of them, for scans of `anatomy.blob_case`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import torch
from anatomy import LABELS, blob_case, tiny_plan
from test_model import PROVENANCE
from torch import Tensor, nn

from delineate.engines import ENGINES, EngineChoice
from delineate.geometry import Triple
from delineate.inference import Runners
from delineate.model import Model
from delineate.planning import Plan, Window
from delineate.volume import Kind, Segmentation, Volume

PLAN = tiny_plan(normalisation=(Window(lower=0, upper=300, to_upper=3),), spacing_mm=(0.9, 1.2, 2.5))


class Nearest(nn.Module):
    """The class whose intensity is closest: 100 times `background`, or 100 times each of `levels`."""

    def __init__(self, levels: Sequence[float] = (2.5, 1.6), *, background: float = 1.0) -> None:
        super().__init__()
        self.levels = (background, *levels)

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([-(image[:, 0] - level).abs() for level in self.levels], dim=1)


class Above(nn.Module):
    """Regions: one for each level, wherever the intensity is above it."""

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([image[:, 0] - level for level in self.levels], dim=1)


class Masked(nn.Module):
    """The stage before's masks and nothing else: input channel 1 + n is class 1 + n."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([torch.full_like(image[:, :1], 0.5), image[:, 1:]], dim=1)


def plan_with(**changes: object) -> Plan:
    return msgspec.structs.replace(PLAN, **changes)


def known_model(plan: Plan = PLAN, **parts: object) -> Model:
    """A model without weights: `known_runners` runs it."""
    return Model({}, plan, **({"labels": LABELS, "provenance": PROVENANCE} | parts))  # type: ignore[arg-type]


def known_runners(plan: Plan, *networks: nn.Module, stages: Mapping[str, Runners] | None = None) -> Runners:
    folds = [ENGINES["torch"](network, plan, EngineChoice(), ()) for network in networks or (Nearest(),)]
    return Runners(tuple(folds), stages or {})


def clean_case(seed: int = 0, *, shape: Triple = (20, 16, 12)) -> tuple[Volume, Segmentation]:
    """Without noise: background 100, rim 160, core 250."""
    volume, reference = blob_case(seed, shape=shape)
    image = np.choose(reference.array, [100, 250, 160]).astype(np.float32)
    return Volume(image[None], volume.grid, Kind.MR), reference
