"""What a model found in a scan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from delineate.geometry import Box
from delineate.inference.regions import painted, region_masks, translate
from delineate.inference.streaming import WindowCount
from delineate.labels import LabelSet
from delineate.planning import Plan
from delineate.postprocessing import Rule, apply_rules
from delineate.preprocessing import FloatImage
from delineate.volume import Array, Segmentation

NO_WINDOWS = WindowCount(run=0, skipped=0, total=0)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model finds in a scan, in the scan's own grid.

    `segmentation`: the label map, or a mask a structure where structures overlap (regions). `label_map`: always one
    map (I, J, K); regions are painted in it, in the plan's order. `probabilities`, if asked for: of background and
    structures (1 + n, I, J, K), or of regions (n, I, J, K), in the order of `segmentation.labels`. `windows`: of all
    stages together. `region`: the box of the scan that the model's own network was run in, None for all of it. `cut`:
    structures that reach an end of that box which is none of the scan's, so that there may be more of them. `notes`:
    what was done otherwise than asked for, in sentences.
    """

    segmentation: Segmentation
    label_map: Array
    probabilities: FloatImage | None = None
    windows: WindowCount = NO_WINDOWS
    region: Box | None = None
    cut: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def added_windows(first: WindowCount, second: WindowCount) -> WindowCount:
    """The windows of two runs together."""
    return WindowCount(first.run + second.run, first.skipped + second.skipped, first.total + second.total)


def apply_rules_to(prediction: Prediction, rules: Sequence[Rule], plan: Plan) -> Prediction:
    """The prediction with what the rules forbid set to background, in the masks and in the label map alike.

    A voxel taken from one region still belongs to the others that hold it. Raises `LabelError` for an unknown
    structure.
    """
    if not rules:
        return prediction
    segmentation = apply_rules(prediction.segmentation, rules)
    if not plan.regions:
        return replace(prediction, segmentation=segmentation, label_map=segmentation.array)
    label_map = painted(segmentation, plan.regions, prediction.label_map.dtype)
    masks = replace(segmentation, array=region_masks(label_map, segmentation.labels, plan.regions))
    return replace(prediction, segmentation=masks, label_map=label_map)


def restrict(prediction: Prediction, names: Collection[str], plan: Plan) -> Prediction:
    """The prediction of some of the structures, as if the model knew no others; of all if `names` is empty."""
    whole = prediction.segmentation
    kept = [n for n, name in enumerate(whole.labels.names) if name in names]
    if not names or len(kept) == len(whole.labels):
        return prediction
    labels = LabelSet(tuple(whole.labels.labels[n] for n in kept), overlaps=whole.labels.overlaps)
    probabilities = prediction.probabilities
    if probabilities is not None:
        probabilities = probabilities[kept] if plan.regions else probabilities[[0, *(1 + n for n in kept)]]
    if plan.regions:
        segmentation = replace(whole, array=whole.array[kept], labels=labels)
        label_map = painted(segmentation, plan.regions, prediction.label_map.dtype)
    else:
        label_map = translate(whole.array, {value: value for value in labels.values}, dtype=whole.array.dtype)
        segmentation = replace(whole, array=label_map, labels=labels)
    return replace(prediction, segmentation=segmentation, label_map=label_map, probabilities=probabilities)
