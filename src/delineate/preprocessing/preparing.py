"""`prepare` turns a scan into what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError, LabelError, PlanError
from delineate.geometry import Box, change_axes
from delineate.planning import Normalisation, Plan, Unchanged
from delineate.preprocessing.boxes import Mask, chunks, find_box, memory_order, outline
from delineate.preprocessing.intensities import (
    FloatImage,
    Statistics,
    blank_values,
    is_masked,
    measure,
    needs_statistics,
    scale,
    value_range,
)
from delineate.preprocessing.targets import IGNORE, encode
from delineate.preprocessing.traces import (
    Focus,
    Trace,
    image_matrices,
    image_slice_axis,
    label_matrices,
    of_whole,
    overshoots,
    trace_scan,
    turn,
)
from delineate.resampling import blend_slices, blend_windows, contiguous, vote_matrices
from delineate.volume import Allocate, Array, Kind, Segmentation, Volume, align, change_array_axes, cut


@dataclass(frozen=True, slots=True, eq=False)
class PreparedCase:
    """`image`: (C, I, J, K) float32, normalised; `target`: label map (I, J, K) of uint8, or None.

    The target's values are 0 (background), 1.. in the order of the plan's labels (of its `parts`, if it has regions),
    and `IGNORE`. `others`: the targets of further readers.
    """

    id: str
    image: FloatImage
    target: npt.NDArray[np.uint8] | None
    trace: Trace
    others: tuple[npt.NDArray[np.uint8], ...] = ()


def prepare(
    case_id: str,
    image: Volume,
    reference: Segmentation | None,
    plan: Plan,
    *,
    previous: Segmentation | None = None,
    region: Box | Focus | None = None,
    allocate: Allocate = np.empty,
) -> PreparedCase:
    """Orient, crop to the foreground, resample, normalise; in the plan's order.

    The target's values are 1.. in the order of the plan's labels (or parts, see `Plan.parts`), whatever values the
    reference uses, and `IGNORE` where it says nothing.
    `previous`: what the cascade's stage before found; the masks of the plan's `previous` follow the channels.
    `region`: a box in the scan's own indices. Only what its voxels depend on is prepared (or more, see `Focus`), to the
    values that it has in the whole. `allocate` makes the prepared image. Beside scan, image and target little memory is
    needed, see `prepare_bytes`.
    A channel that is absent is filled with its blank value, see `blank_values`.
    Raises `PlanError` if the image has other channels than the plan, a stage before is missing, or a reference is given
    for more than 254 labels, see `encode`; `InputError` for NaN or infinite voxels, for a channel that is absent and
    the network cannot do without, or a region without a voxel of the foreground; `GeometryMismatch` if the reference or
    the stage before is not on the image; `LabelError` if one lacks a label.
    """
    _check_image(case_id, image, plan)
    previous = _checked_previous(case_id, image, previous, plan)
    change = turn(image.grid, plan)
    turned = replace(image, array=change_array_axes(image.array, change), grid=change_axes(image.grid, change))
    box = find_box(turned, plan)
    trace = trace_scan(image.grid, change, box, plan, region)
    array = cut(turned.array, box)
    inside = outline(array) if plan.previous or any(map(is_masked, plan.normalisation)) else None
    if inside is not None and previous is not None:
        _include_found(inside, previous, trace, plan)
    prepared = allocate((plan.prepared_channels, *trace.part.shape), np.float32)
    for n, (channel, how, out) in enumerate(zip(array, plan.normalisation, prepared, strict=False)):
        if n in image.absent:
            out[...] = blank_values(plan)[n]
        else:
            _prepare_channel(channel, how, out, trace, plan, inside)
    if previous is not None:
        _prepare_previous(previous, prepared[len(plan.channels) :], trace, plan, inside)
    target = None if reference is None else _prepare_target(align(reference, image.grid), trace, plan)
    return PreparedCase(case_id, prepared, target, trace)


def with_readers(prepared: PreparedCase, references: Sequence[Segmentation], plan: Plan) -> PreparedCase:
    """The case with the targets of further readers beside its own.

    Raises `GeometryMismatch` for a reference that is not on the scan, `LabelError` for one that lacks a label.
    """
    trace = prepared.trace
    others = tuple(_prepare_target(align(reference, trace.original), trace, plan) for reference in references)
    return replace(prepared, others=others)


def _prepare_channel(
    channel: Array, how: Normalisation, out: FloatImage, trace: Trace, plan: Plan, inside: Mask | None
) -> None:
    """Resample and normalise one channel (I, J, K) of the crop into `out`."""
    if plan.preparation.normalise_first:
        _resample(_Source(channel, how, measure(channel, how, inside=inside), inside), out, trace, plan)
        return
    raw = _Source(channel, Unchanged(), Statistics())
    if trace.part.shape != trace.whole.shape and needs_statistics(how):
        everything = np.empty(trace.whole.shape, dtype=np.float32)
        _resample(raw, everything, of_whole(trace), plan)
        seen = measure(everything, how)
        out[...] = everything[trace.part.slices]
    else:
        _resample(raw, out, trace, plan)
        seen = measure(out, how)
    for chunk in chunks(out):
        out[chunk] = scale(out[chunk], how, seen)


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A channel (I, J, K) of the crop that is normalised while it is read."""

    channel: Array
    how: Normalisation
    seen: Statistics
    inside: Mask | None = None

    def transpose(self, order: Sequence[int]) -> _Source:
        inside = None if self.inside is None else self.inside.transpose(order)
        return replace(self, channel=self.channel.transpose(order), inside=inside)

    def read(self, window: tuple[slice, slice, slice]) -> FloatImage:
        values = contiguous(self.channel[window])
        if isinstance(self.how, Unchanged):
            return values
        out = np.empty_like(values)
        for n in range(len(values)):  # plane by plane, in the cache
            inside = None if self.inside is None else self.inside[window][n]
            out[n] = scale(values[n], self.how, self.seen, inside=inside)
        return out

    def limits(self) -> tuple[float, float]:
        """The range of the normalised channel."""
        inside = self.inside if is_masked(self.how) else None
        raw = self.seen.ends or value_range(self.channel, inside=inside)
        ends = scale(np.array(raw, dtype=np.float32), self.how, self.seen)
        outside = [] if inside is None else [0.0]
        return min(*map(float, ends), *outside), max(*map(float, ends), *outside)


def _resample(source: _Source, out: FloatImage, trace: Trace, plan: Plan) -> None:
    matrices, slices = image_matrices(trace, plan), image_slice_axis(trace, plan)
    if plan.preparation.resampling != "delineate":
        # Along the axis that is slowest in memory, or on disk, so that the scan is read once from its start to its end.
        order = memory_order(source.channel)
        i, j, k = (matrices[axis] for axis in order)
        source, out, matrices = source.transpose(order), out.transpose(order), (i, j, k)
        slices = None if slices is None else order.index(slices)
    if not overshoots(trace, plan):
        blend_windows(source.read, matrices, out)
    elif slices is None:
        blend_windows(source.read, matrices, out, limits=source.limits())
    else:
        blend_slices(source.read, matrices, out, axis=slices, clip=True)


def _prepare_target(reference: Segmentation, trace: Trace, plan: Plan) -> npt.NDArray[np.uint8]:
    labels = encode(_cropped(reference.array, trace), reference.labels, plan)
    if reference.ignored is not None:
        labels[_cropped(reference.ignored, trace)] = IGNORE
    if plan.preparation.resampling == "delineate":
        nearest = label_matrices(trace, plan)[1]
        return np.ascontiguousarray(labels[np.ix_(*(matrix.first for matrix in nearest))])
    return _voted(labels, trace, plan)


def _voted(labels: Array, trace: Trace, plan: Plan) -> Array:
    """A label map as nnU-Net resamples it: at a tie its torch function takes the lowest, its other the closest."""
    linear, nearest = label_matrices(trace, plan)
    return vote_matrices(labels, linear, None if plan.preparation.resampling == "nnunet_torch" else nearest)


def _include_found(inside: Mask, previous: Segmentation, trace: Trace, plan: Plan) -> None:
    """As in nnU-Net what the stage before found is inside, even where the scan is 0."""
    is_found = np.zeros(max(previous.labels.values, default=0) + 1, dtype=bool)
    is_found[[previous.labels.named(name).value for name in plan.previous]] = True
    for plane, found in zip(inside, _cropped(previous.array, trace), strict=True):
        plane |= is_found[found]


def _prepare_previous(previous: Segmentation, masks: FloatImage, trace: Trace, plan: Plan, inside: Mask | None) -> None:
    """What the stage before found, as `masks` (labels, I, J, K) of 0 and 1.

    As in nnU-Net what lies outside the scan's outline is something else than background: a label of its own, 0 here.
    """
    dtype = np.uint8 if len(plan.previous) < 254 else np.uint16
    lookup = np.ones(max(previous.labels.values, default=0) + 1, dtype=dtype)
    for index, name in enumerate(plan.previous, start=2):
        lookup[previous.labels.named(name).value] = index
    labels = lookup[_cropped(previous.array, trace)]
    if inside is not None:
        for plane, plane_inside in zip(labels, inside, strict=True):
            plane[(plane == 1) & ~plane_inside] = 0
    found = _voted(labels, trace, plan)
    for index, mask in enumerate(masks, start=2):
        np.equal(found, index, out=mask, casting="unsafe")


def _cropped(array: Array, trace: Trace) -> Array:
    return cut(change_array_axes(array, trace.change), trace.crop)


def _checked_previous(case_id: str, image: Volume, previous: Segmentation | None, plan: Plan) -> Segmentation | None:
    if not plan.previous:
        return None
    if previous is None:
        raise PlanError(
            "the model is the second stage of a cascade and needs what the first found",
            expected=f"a segmentation with {', '.join(plan.previous)}",
            case=case_id,
            remedy="Segment the scan with the cascade's first stage before.",
        )
    if previous.labels.overlaps:
        raise LabelError("the stage before must give a label map, not overlapping masks", case=case_id)
    return align(previous, image.grid)


def _check_image(case_id: str, image: Volume, plan: Plan) -> None:
    if image.channels != len(plan.channels):
        raise PlanError(
            "the image has other channels than the plan",
            expected=f"{len(plan.channels)} ({', '.join(plan.channels)})",
            got=image.channels,
            case=case_id,
            path=image.source.path,
        )
    if any(map(is_masked, plan.normalisation)) and not plan.preparation.normalise_first:
        raise PlanError(
            "a masked Z-score is taken of the scan's own voxels",
            expected="preparation.normalise_first",
            remedy="Set it in plan.json, or masked to false.",
        )
    check_absent(image.absent, plan, case_id=case_id, path=image.source.path)
    kind = plan.kinds[0]
    if len(set(plan.kinds)) == 1 and Kind.OTHER not in (kind, image.kind) and image.kind is not kind:
        raise InputError(
            "the image is of another kind than the model was made for",
            expected=kind.value,
            got=image.kind.value,
            case=case_id,
            path=image.source.path,
        )
    wrong = _count_not_finite(image.array)
    if wrong:
        raise InputError(
            "the image has voxels that are not numbers",
            expected="finite intensities",
            got=f"{wrong} NaN or infinite voxels",
            case=case_id,
            path=image.source.path,
            remedy="Export the image again, or replace those voxels.",
        )


def check_absent(absent: Sequence[int], plan: Plan, *, case_id: str | None = None, path: Path | None = None) -> None:
    """Raises `InputError` if channels are absent and the plan does not make a network that does without."""
    if absent and plan.augmentation.channel_dropout == 0:
        raise InputError(
            "a channel is not there, and the network is not made to do without",
            expected=", ".join(plan.channels),
            got=f"no {', no '.join(plan.channels[n] for n in absent)}",
            case=case_id,
            path=path,
            remedy="Add the channel, or train with channel dropout (--channel-dropout 0.2).",
        )


def _count_not_finite(array: Array) -> int:
    if array.dtype.kind != "f":
        return 0
    return sum(int(np.count_nonzero(~np.isfinite(channel[chunk]))) for channel in array for chunk in chunks(channel))
