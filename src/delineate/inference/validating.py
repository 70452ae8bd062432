"""What training needs of inference: the logits of a whole prepared scan, and how good they are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from delineate.geometry import Triple
from delineate.inference.running import PRECISIONS, run_network
from delineate.inference.windows import Progress, gaussian_weight, mirrors, pad, padding, window_starts
from delineate.planning import Plan
from delineate.preprocessing import FloatImage


@torch.inference_mode()
def predict_logits(
    network: nn.Module, image: FloatImage, plan: Plan, *, device: str = "cpu", progress: Progress | None = None
) -> FloatImage:
    """Logits (classes, I, J, K), float32, of a prepared image (C, I, J, K). The network must be on `device`."""
    network.eval()
    shape, patch = image.shape[1:], plan.patch_size
    padded = pad(torch.tensor(np.ascontiguousarray(image)), patch)
    size: Triple = (padded.shape[1], padded.shape[2], padded.shape[3])
    weight = gaussian_weight(patch) if plan.tiling.gaussian else torch.ones(patch)
    total, weights = torch.zeros((plan.classes, *size)), torch.zeros(size)
    starts = list(window_starts(size, patch, plan.tiling.overlap))
    combinations = list(mirrors(plan.tiling))
    for done, group in enumerate(_grouped(starts, plan.tiling.batch_size), start=1):
        slices = [tuple(slice(a, a + n) for a, n in zip(start, patch, strict=True)) for start in group]
        windows = torch.stack([padded[(slice(None), *where)] for where in slices]).to(device)
        logits = _mean_over_mirrors(network, windows, plan, combinations).float().cpu()
        for where, window in zip(slices, logits, strict=True):
            total[(slice(None), *where)] += window * weight
            weights[where] += weight
        if progress is not None:
            progress(min(1.0, done * plan.tiling.batch_size / len(starts)))
    total /= weights
    before = padding(shape, patch)
    inside = tuple(slice(b, b + n) for (b, _), n in zip(before, shape, strict=True))
    return np.ascontiguousarray(total[(slice(None), *inside)].numpy())


def _mean_over_mirrors(network: nn.Module, windows: Tensor, plan: Plan, mirrors: Sequence[tuple[int, ...]]) -> Tensor:
    device = windows.device.type
    dtype = PRECISIONS[plan.training.precision]
    total: Tensor | None = None
    with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
        for axes in mirrors:
            flipped = run_network(network, windows.flip(axes) if axes else windows, plan)
            assert isinstance(flipped, Tensor)
            logits = (flipped.flip(axes) if axes else flipped).float()
            total = logits if total is None else total + logits
    assert total is not None
    return total / len(mirrors)


def _grouped(starts: Sequence[Triple], size: int) -> Iterator[Sequence[Triple]]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def dice_per_label(prediction: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], classes: int) -> FloatImage:
    """(classes - 1,) Dice of each structure on the prepared grid; NaN where a structure is absent from both."""
    pairs = np.bincount(prediction.ravel().astype(np.int64) * classes + target.ravel(), minlength=classes**2)
    counts = pairs.reshape(classes, classes).astype(np.float64)
    hits, sizes = np.diag(counts), counts.sum(0) + counts.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((2 * hits / sizes)[1:], dtype=np.float32)
