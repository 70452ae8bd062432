"""A plan whose network can begin with another model's weights: what those weights demand is taken from their plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from delineate.errors import LabelError, PlanError
from delineate.labels import label_set
from delineate.planning.options import PlanOptions
from delineate.planning.plan import STORED, Normalisation, Plan
from delineate.planning.plan_json import check_plan
from delineate.roi_names import default_table, match_rois

BACKGROUND = "background"
NO_NAMES: Mapping[str, str] = MappingProxyType({})
ORDERED = "RAS"  # what axes are turned to where weights took them as they were stored


@dataclass(frozen=True, slots=True)
class Matching:
    """Where a network's outputs and inputs come from among another's.

    `outputs`: of each output, the number of the other's; None starts anew. `inputs`: of each input, the numbers of the
    other's that are averaged: one where the channel is the same; none starts at zero.
    """

    outputs: tuple[int | None, ...]
    inputs: tuple[tuple[int, ...], ...]

    @property
    def keeps_inputs(self) -> bool:
        """Whether the inputs are the other's, in their order."""
        return self.inputs == tuple((n,) for n in range(len(self.inputs)))


def adopting_options(options: PlanOptions, source: Plan) -> PlanOptions:
    """The options by which to plan a dataset for weights of `source`; what a person chose stays."""
    wanted = {
        "architecture": source.network.architecture,
        "dimensions": source.dimensions,
        "orientation": ORDERED if source.orientation == STORED else source.orientation,
        "spacing_mm": options.spacing_mm or source.spacing_mm,
        "resize_to": options.resize_to or source.resize_to,
        "patch_size": options.patch_size or source.patch_size,
        "features": source.network.features,
        "conventions": "delineate",
        "crop_foreground": source.crop_foreground,
    }
    return msgspec.structs.replace(options, **wanted)


def adopt(base: Plan, source: Plan, options: PlanOptions) -> Plan:
    """A dataset's plan `base`, with the network, the preparation and the normalisation of `source`.

    `options`: what a person chose: a patch, a spacing or a window of his own stays. `base` was made by
    `adopting_options`. Raises `PlanError` if the patch does not fit the network.
    """
    matching = match_plans(source, base)
    normalisation = base.normalisation
    if options.window is None:
        normalisation = tuple(
            _normalisation(source, numbers, own)
            for numbers, own in zip(matching.inputs, base.normalisation, strict=False)
        )
    kept_padding = {"centre": source.tiling.centre, "padding": source.tiling.padding}
    flips = _flips(base, source)
    adopted = msgspec.structs.replace(
        base,
        orientation=source.orientation,
        spacing_mm=options.spacing_mm or source.spacing_mm,
        resize_to=options.resize_to or source.resize_to,
        crop_foreground=source.crop_foreground,
        normalisation=normalisation,
        patch_size=options.patch_size or source.patch_size,
        network=source.network,
        preparation=source.preparation,
        augmentation=msgspec.structs.replace(base.augmentation, flip_axes=flips),
        tiling=msgspec.structs.replace(base.tiling, mirror_axes=flips if options.mirror else (), **kept_padding),
    )
    check_plan(adopted)
    return adopted


def match_plans(source: Plan, target: Plan, names: Mapping[str, str] = NO_NAMES) -> Matching:
    """Which outputs and inputs of a network for `target` those of one for `source` serve.

    A structure is the same by its name, whatever its case, the order of its words or their usual synonyms; background
    is background. Between networks with regions and without, and after pretraining, no output is the same. A channel is
    the same by its name, else if it is of the same kind and no other is; what is left gets the mean of all channels.
    `names`: what `source` calls structures of `target`, where that is something else. Raises `LabelError` for names
    that are not there.
    """
    return Matching(_match_outputs(source, target, names), _match_inputs(source, target))


def output_names(plan: Plan) -> tuple[str, ...]:
    """The network's outputs in words."""
    if plan.pretraining is not None:
        return plan.channels
    if plan.regions:
        return tuple(region.name for region in plan.regions)
    return (BACKGROUND, *plan.labels)


def _match_outputs(source: Plan, target: Plan, names: Mapping[str, str]) -> tuple[int | None, ...]:
    theirs, ours = output_names(source), output_names(target)
    for name, plan in (*((name, target) for name in names), *((name, source) for name in names.values())):
        if name not in plan.labels:
            raise LabelError("no such structure", expected=f"one of {', '.join(plan.labels)}", got=name)
    if source.pretraining is not None or source.prompting is not None or bool(source.regions) != bool(target.regions):
        return (None,) * len(ours)
    named = dict(enumerate((name for name in theirs if name != BACKGROUND or source.regions), start=1))
    if not named:
        return tuple(0 if name == BACKGROUND else None for name in ours)
    mapped = match_rois(ours, default_table(label_set(named))).mapped
    numbers = {name: theirs.index(name) for name in named.values()}
    found = [numbers.get(names.get(name) or mapped.get(name, "")) for name in ours]
    if not source.regions:
        found[0] = 0
    # Two structures of ours that are one of theirs: the first has it by a better right than any other.
    return tuple(n if n is not None and n not in found[:place] else None for place, n in enumerate(found))


def _match_inputs(source: Plan, target: Plan) -> tuple[tuple[int, ...], ...]:
    every = tuple(range(len(source.channels)))
    found: list[tuple[int, ...]] = []
    for channel, kind in zip(target.channels, target.kinds, strict=True):
        same = [n for n in every if source.channels[n].casefold() == channel.casefold()]
        alike = [n for n in every if source.kinds[n] == kind and target.kinds.count(kind) == 1]
        if same or len(alike) == 1:
            found.append(((same or alike)[0],))
        else:
            found.append(every)
    return (*found, *((),) * len(target.previous))


def _normalisation(source: Plan, numbers: Sequence[int], own: Normalisation) -> Normalisation:
    return source.normalisation[numbers[0]] if len(numbers) == 1 else own


def _flips(base: Plan, source: Plan) -> tuple[int, ...]:
    """Axes that the dataset allows to be flipped. As stored, an axis means nothing: then what the weights have seen."""
    if source.orientation == STORED and base.augmentation.flip_axes:
        return source.augmentation.flip_axes
    return base.augmentation.flip_axes


def transfer_reason(source: Plan, digest: str) -> str:
    """Why a plan is as it is, for one whose weights begin with those of a model."""
    what = "masked scans" if source.pretraining is not None else f"{len(source.labels)} structures"
    return (
        f"network, axes and intensities as those of the model {digest[:12]}, which learnt {what} of "
        f"{source.dataset}: its weights are begun with"
    )


def check_adopted(plan: Plan, source: Plan) -> None:
    """Raises `PlanError` if a plan made by hand does not have the network that the weights are of."""
    ours, theirs = plan.network, source.network
    for field in ("architecture", "features", "strides", "kernels", "convolutions", "decoder_convolutions", "norm"):
        if getattr(ours, field) != getattr(theirs, field):
            raise PlanError(
                f"the plan has another network than the model whose weights it is to begin with: {field}",
                expected=getattr(theirs, field),
                got=getattr(ours, field),
                remedy="Take `network` from the model's plan.json, or leave --plan out.",
            )
