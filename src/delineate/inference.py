"""A trained network over a whole scan: windows, blended by a Gaussian, then back into the scan's own grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from delineate.geometry import Triple
from delineate.model import Model
from delineate.planning import Plan, Tiling
from delineate.preprocessing import FloatImage, prepare, restore_logits, restore_probabilities
from delineate.volume import Segmentation, Volume

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Progress = Callable[[float], None]
"""Told the share of the windows done, 0..1."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """`segmentation` in the scan's own grid; `probabilities` (C, I, J, K) there too if they were asked for."""

    segmentation: Segmentation
    probabilities: FloatImage | None = None


def segment(
    model: Model,
    volume: Volume,
    *,
    device: str = "cpu",
    with_probabilities: bool = False,
    progress: Progress | None = None,
    network: nn.Module | None = None,
) -> Prediction:
    """Segment one scan. `network`: the model's network, where it is already on the device.

    Raises `PlanError` if the scan has other channels than the model was trained on, `InputError` for NaN.
    """
    network = place(model.network() if network is None else network, device)
    prepared = prepare("", volume, None, model.plan)
    logits = predict_logits(network, prepared.image, model.plan, device=device, progress=progress)
    values = np.array((0, *(model.labels.named(name).value for name in model.plan.labels)))
    values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
    labels = restore_logits(logits, prepared.trace)
    probabilities = None
    if with_probabilities:
        probabilities = restore_probabilities(torch.from_numpy(logits).softmax(0).numpy(), prepared.trace)
    segmentation = Segmentation(values[labels], volume.grid, model.labels, source=volume.source, author=model.digest)
    return Prediction(segmentation, probabilities)


def place(network: nn.Module, device: str) -> nn.Module:
    """The network on a device, in the memory layout its convolutions are fastest in."""
    placed = network.to(device)
    if any(parameter.ndim == 5 for parameter in placed.parameters()):
        return placed.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
    return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def run_network(network: nn.Module, images: Tensor, plan: Plan) -> Tensor | tuple[Tensor, ...]:
    """Outputs (B, classes, I, J, K) of images (B, C, I, J, K); a 2D network sees the one slice without its axis K."""
    if plan.dimensions == 3:
        outputs: Tensor | tuple[Tensor, ...] = network(images.contiguous(memory_format=torch.channels_last_3d))
        return outputs
    flat = network(images.squeeze(-1).contiguous(memory_format=torch.channels_last))
    return tuple(out.unsqueeze(-1) for out in flat) if isinstance(flat, tuple) else flat.unsqueeze(-1)


@torch.inference_mode()
def predict_logits(
    network: nn.Module, image: FloatImage, plan: Plan, *, device: str = "cpu", progress: Progress | None = None
) -> FloatImage:
    """Logits (classes, I, J, K), float32, of a prepared image (C, I, J, K). The network must be on `device`."""
    network.eval()
    shape, patch = image.shape[1:], plan.patch_size
    padded = _pad(torch.tensor(np.ascontiguousarray(image)), patch)
    size: Triple = (padded.shape[1], padded.shape[2], padded.shape[3])
    weight = gaussian_weight(patch) if plan.tiling.gaussian else torch.ones(patch)
    total, weights = torch.zeros((plan.classes, *size)), torch.zeros(size)
    starts = list(window_starts(size, patch, plan.tiling.overlap))
    mirrors = list(_mirrors(plan.tiling))
    for done, group in enumerate(_grouped(starts, plan.tiling.batch_size), start=1):
        slices = [tuple(slice(a, a + n) for a, n in zip(start, patch, strict=True)) for start in group]
        windows = torch.stack([padded[(slice(None), *where)] for where in slices]).to(device)
        logits = _mean_over_mirrors(network, windows, plan, mirrors).float().cpu()
        for where, window in zip(slices, logits, strict=True):
            total[(slice(None), *where)] += window * weight
            weights[where] += weight
        if progress is not None:
            progress(min(1.0, done * plan.tiling.batch_size / len(starts)))
    total /= weights
    before = _padding(shape, patch)
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


def _mirrors(tiling: Tiling) -> Iterator[tuple[int, ...]]:
    """Every combination of mirrored axes, as dimensions of a batch (B, C, I, J, K); () is none."""
    for count in range(len(tiling.mirror_axes) + 1):
        for axes in itertools.combinations(tiling.mirror_axes, count):
            yield tuple(2 + axis for axis in axes)


def window_starts(size: Triple, patch: Triple, overlap: float) -> Iterator[Triple]:
    """Where windows start: evenly spread, neighbours sharing at least `overlap` of the patch, the ends covered."""
    ranges = []
    for n, width in zip(size, patch, strict=True):
        steps = math.ceil((n - width) / max(1.0, width * (1 - overlap)))
        ranges.append([round(i * (n - width) / steps) for i in range(steps + 1)] if steps else [0])
    yield from itertools.product(*ranges)


def gaussian_weight(patch: Triple) -> Tensor:
    """Weights of a window's voxels: a Gaussian with standard deviation 1/8 of the patch, at least 1e-3 of its peak.

    Near its border a window sees little context (Isensee et al. 2021), so its centre counts more.
    """
    weight = torch.ones(1)
    for n in patch:
        axis = torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
        weight = weight.unsqueeze(-1) * axis
    return weight[0].clamp(min=1e-3)


def _grouped(starts: Sequence[Triple], size: int) -> Iterator[Sequence[Triple]]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]


def _padding(shape: Sequence[int], patch: Triple) -> list[tuple[int, int]]:
    short = [max(0, width - n) for n, width in zip(shape, patch, strict=True)]
    return [(n // 2, n - n // 2) for n in short]


def _pad(image: Tensor, patch: Triple) -> Tensor:
    """At least as large as a patch: the rest is each channel's lowest value, as in training."""
    (a, b), (c, d), (e, f) = _padding(image.shape[1:], patch)
    if not any((a, b, c, d, e, f)):
        return image
    lowest = image.flatten(1).amin(1).reshape(-1, 1, 1, 1)
    return torch.nn.functional.pad(image - lowest, (e, f, c, d, a, b)) + lowest


def dice_per_label(prediction: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], classes: int) -> FloatImage:
    """(classes - 1,) Dice of each structure on the prepared grid; NaN where a structure is absent from both."""
    pairs = np.bincount(prediction.ravel().astype(np.int64) * classes + target.ravel(), minlength=classes**2)
    counts = pairs.reshape(classes, classes).astype(np.float64)
    hits, sizes = np.diag(counts), counts.sum(0) + counts.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray((2 * hits / sizes)[1:], dtype=np.float32)
