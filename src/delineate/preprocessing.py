"""`prepare` turns a scan into what a network sees; `restore` puts what the network says back, exactly there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError, PlanError
from delineate.fingerprint import foreground_mask
from delineate.geometry import (
    Box,
    Grid,
    axis_change,
    change_axes,
    crop_grid,
    foreground_box,
    reshape_grid,
    respace_grid,
)
from delineate.planning import ClipZScore, Normalisation, Plan, Rescale, Unchanged, Window, ZScore
from delineate.resampling import Interpolation, resample, resample_argmax, resample_labels
from delineate.volume import Array, Kind, Segmentation, Volume, align, change_array_axes, crop, cut, read_only, reorient

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trace:
    """The way back: the scan's own grid, the orientation and the crop box (in oriented indices), the prepared grid."""

    original: Grid
    orientation: str
    box: Box
    prepared: Grid


@dataclass(frozen=True, slots=True, eq=False)
class PreparedCase:
    """`image`: (C, I, J, K) float32, normalised; `target`: label map (I, J, K) of uint8, or None."""

    id: str
    image: FloatImage
    target: npt.NDArray[np.uint8] | None
    trace: Trace


def prepare(case_id: str, image: Volume, reference: Segmentation | None, plan: Plan) -> PreparedCase:
    """Orient, crop to the foreground, resample, normalise.

    The target's values are 1.. in the order of the plan's labels, whatever values the reference uses.
    Raises `PlanError` if the image has other channels than the plan, `InputError` for NaN or infinite voxels,
    `GeometryMismatch` if the reference does not lie on the image.
    """
    _check_image(case_id, image, plan)
    turned = reorient(image, plan.orientation)
    box = find_box(turned, plan)
    cropped = crop(turned, box)
    grid = prepared_grid(cropped.grid, plan)
    array = np.stack(
        [
            normalise(
                resample(np.asarray(channel, np.float32), cropped.grid, grid, interpolation=Interpolation.CUBIC), how
            )
            for channel, how in zip(cropped.array, plan.normalisation, strict=True)
        ]
    )
    target = None
    if reference is not None:
        labels = crop(align(reference, turned.grid), box)
        target = resample_labels(_label_indices(labels, plan.labels), cropped.grid, grid)
    trace = Trace(original=image.grid, orientation=plan.orientation, box=box, prepared=grid)
    return PreparedCase(case_id, array.astype(np.float32, copy=False), target, trace)


def restore_labels(labels: npt.NDArray[np.uint8], trace: Trace) -> npt.NDArray[np.uint8]:
    """A prepared label map (I, J, K) back in the scan's own grid, by nearest neighbour; 0 outside the crop box."""
    cropped = crop_grid(_turned_grid(trace), trace.box)
    return _uncrop(resample_labels(labels, trace.prepared, cropped), trace)


def restore_logits(logits: FloatImage, trace: Trace) -> npt.NDArray[np.uint8]:
    """The likeliest class (I, J, K) in the scan's own grid, of prepared logits (C, I, J, K).

    Logits are interpolated linearly and reduced slab by slab: memory does not grow with the classes.
    """
    cropped = crop_grid(_turned_grid(trace), trace.box)
    return _uncrop(resample_argmax(logits, trace.prepared, cropped), trace)


def restore_probabilities(probabilities: FloatImage, trace: Trace) -> FloatImage:
    """Prepared probabilities (C, I, J, K) in the scan's own grid; outside the crop box all is background."""
    cropped = crop_grid(_turned_grid(trace), trace.box)
    values = np.clip(resample(probabilities, trace.prepared, cropped, interpolation=Interpolation.LINEAR), 0, 1)
    background = _uncrop(values[:1], trace, fill=1.0)
    return np.concatenate([background, _uncrop(values[1:], trace)])


def find_box(image: Volume, plan: Plan) -> Box:
    """The foreground's box in the image's own indices; the whole image if the plan says so, or all is air."""
    whole = Box((0, 0, 0), image.grid.shape)
    if not plan.crop_foreground:
        return whole
    return foreground_box(foreground_mask(image.array, plan.kinds)) or whole


def prepared_grid(grid: Grid, plan: Plan) -> Grid:
    """The grid that a crop with the given grid is resampled onto."""
    if plan.resize_to is not None:
        return reshape_grid(grid, plan.resize_to)
    return respace_grid(grid, plan.spacing_mm)


def normalise(channel: FloatImage, how: Normalisation) -> FloatImage:
    """One channel (I, J, K) brought to the range the network expects. A constant channel becomes 0."""
    if isinstance(how, ClipZScore):
        return np.asarray((np.clip(channel, how.lower, how.upper) - how.mean) / how.std, dtype=np.float32)
    if isinstance(how, Window):
        share = (np.clip(channel, how.lower, how.upper) - how.lower) / (how.upper - how.lower)
        return np.asarray(share * (how.to_upper - how.to_lower) + how.to_lower, dtype=np.float32)
    if isinstance(how, Rescale):
        low, high = float(channel.min()), float(channel.max())
        return np.asarray((channel - low) / max(high - low, 1e-8), dtype=np.float32)
    if isinstance(how, Unchanged):
        return np.asarray(channel, dtype=np.float32)
    return _zscore(channel, how)


def _zscore(channel: FloatImage, how: ZScore) -> FloatImage:
    if how.lower_percentile > 0 or how.upper_percentile < 100:
        channel = np.clip(channel, *np.percentile(channel, [how.lower_percentile, how.upper_percentile]))
    mean, std = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
    return np.asarray((channel - mean) / (std if std > 1e-8 * max(1.0, abs(mean)) else 1.0), dtype=np.float32)


def _check_image(case_id: str, image: Volume, plan: Plan) -> None:
    if image.channels != len(plan.channels):
        raise PlanError(
            "the image has other channels than the plan",
            expected=f"{len(plan.channels)} ({', '.join(plan.channels)})",
            got=image.channels,
            case=case_id,
            path=image.source.path,
        )
    kind = plan.kinds[0]
    if len(set(plan.kinds)) == 1 and Kind.OTHER not in (kind, image.kind) and image.kind is not kind:
        raise InputError(
            "the image is of another kind than the model was made for",
            expected=kind.value,
            got=image.kind.value,
            case=case_id,
            path=image.source.path,
        )
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        raise InputError(
            "the image has voxels that are not numbers",
            expected="finite intensities",
            got=f"{int((~np.isfinite(image.array)).sum())} NaN or infinite voxels",
            case=case_id,
            path=image.source.path,
            remedy="Export the image again, or replace those voxels.",
        )


def _label_indices(reference: Segmentation, names: Sequence[str]) -> npt.NDArray[np.uint8]:
    lookup = np.zeros(max(reference.labels.values, default=0) + 1, dtype=np.uint8)
    for index, name in enumerate(names, start=1):
        lookup[reference.labels.named(name).value] = index
    return np.asarray(lookup[reference.array])


def _turned_grid(trace: Trace) -> Grid:
    return change_axes(trace.original, axis_change(trace.original.orientation, trace.orientation))


def _uncrop(array: Array, trace: Trace, *, fill: float = 0) -> Array:
    """From the crop box to the scan's own grid: pad, then undo the change of axes."""
    change = axis_change(trace.original.orientation, trace.orientation)
    shape = _turned_grid(trace).shape
    start, stop = trace.box.start, trace.box.stop
    outside = Box((-start[0], -start[1], -start[2]), tuple(n - a for n, a in zip(shape, start, strict=True)))  # type: ignore[arg-type]
    assert stop[0] - start[0] == array.shape[-3]
    return read_only(np.ascontiguousarray(change_array_axes(cut(array, outside, fill=fill), change.inverse)))
