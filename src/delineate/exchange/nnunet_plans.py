"""nnU-Net's plans as a `Plan`: axes, spacing, preparation, normalisation.

nnU-Net's arrays are (z, y, x), reordered by `transpose_forward`; ours are those with their axes reversed, so that the
usual order needs no reordering at all. Everything here that has axes is reversed accordingly.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import msgspec

from delineate.dataset import channel_kind
from delineate.errors import ModelError, PlanError
from delineate.exchange.nnunet_json import (
    DATASET,
    PLANS,
    Configuration,
    DatasetFile,
    PlansFile,
    Resampling,
    channel_intensities,
)
from delineate.exchange.nnunet_labels import Structures, structures_of
from delineate.geometry import ORIENTATIONS, Triple, TripleMM
from delineate.labels import LabelSet
from delineate.planning import (
    STORED,
    AugmentationPlan,
    ClipZScore,
    NetworkPlan,
    Normalisation,
    Plan,
    Preparation,
    Rescale,
    Tiling,
    TrainingPlan,
    Unchanged,
    Window,
    ZScore,
    check_plan,
)

STEPS_PER_EPOCH = 250  # nnU-Net's

_AS_STORED = ("SimpleITKIO", "NibabelIO", "Tiff3DIO", "NaturalImage2DIO")
_REORIENTING = {"NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
_RESAMPLING: dict[str, Literal["nnunet", "nnunet_torch"]] = {
    "resample_data_or_seg_to_shape": "nnunet",
    "resample_torch_fornnunet": "nnunet_torch",
}
_SLICE_WISE: dict[bool | None, Literal["never", "auto", "always"]] = {None: "auto", True: "always", False: "never"}
# The rest of what nnU-Net's own trainers do is training: losses, schedules, augmentation.
_OWN_TRAINER = re.compile(
    r"nnUNetTrainer(\w*Loss\w*|(Vanilla)?Ada[mn]\w*|(_?(\d+ep(ochs?)?|NoMirroring|onlyMirror01|DA5|DASegord0|Segord0"
    r"|ord0|NoDA|noDummy2DDA|BN|NoDeepSupervision|CosAnneal|Benchmark|noDataLoading"
    r"|probabilisticOversampling(_\d+)?|warmup))*)",
    re.IGNORECASE,
)
_SLICES_A_BATCH = 2**19  # pixels of the slices that a 2D network gets at once
_TOTAL = re.compile(r"totalseg|_\d+subj(_v\d+)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trained:
    """What the checkpoint and the folder say of how the plans were used."""

    folder: Path
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    epochs: int


def make_plan(
    plans: PlansFile,
    configuration: Configuration,
    dataset: DatasetFile,
    *,
    network: NetworkPlan,
    trained: Trained,
    orientation: str | None = None,
) -> Plan:
    """A plan by which delineate does what nnU-Net would do.

    `orientation`: what scans are turned to first; None leaves it to the plans. Raises `ModelError` for whatever in
    the plans would make nnU-Net do something that delineate does not.
    """
    folder, structures = trained.folder, structures_of(dataset, trained.folder)
    dimensions = len(configuration.patch_size)
    _check_versions(plans, configuration, folder)
    for_total = _TOTAL.search(plans.dataset_name) is not None
    turned, why = _orientation(plans, orientation, for_total=for_total, folder=folder)
    flips = tuple(sorted(dimensions - 1 - axis for axis in trained.mirror_axes if axis < dimensions))
    axes = cast("Triple", tuple(2 - axis for axis in reversed(plans.transpose_forward)))
    unchanged = f"nnU-Net's plans {plans.plans_name}, configuration {trained.configuration}, unchanged"
    reasons = (unchanged, *why, *_on_trainer(trained.trainer))
    plan = Plan(
        dataset=plans.dataset_name,
        channels=dataset.channels,
        kinds=tuple(channel_kind(name) for name in dataset.channels),
        labels=structures.names,
        orientation=turned,
        spacing_mm=_spacing(plans, configuration, folder),
        normalisation=_normalisation(plans, configuration, dataset, folder),
        patch_size=_patch(configuration.patch_size),
        network=network,
        training=_training(configuration, trained),
        augmentation=AugmentationPlan(flip_axes=flips),
        tiling=Tiling(
            centre="nnunet",
            padding="zero",
            mirror_axes=() if for_total else flips,
            batch_size=1 if dimensions == 3 else _slices(configuration.patch_size),
        ),
        preparation=_preparation(configuration, axes, folder),
        regions=structures.regions,
        previous=_previous(configuration, structures, folder),
        reasons=(*reasons, *_on_mirroring(flips, axes, turned, structures.labels, for_total=for_total)),
    )
    try:
        check_plan(plan)
    except PlanError as error:
        raise ModelError("plans.json contradicts itself", got=error.problem, path=folder / PLANS) from error
    return plan


def _previous(configuration: Configuration, structures: Structures, folder: Path) -> tuple[str, ...]:
    if configuration.previous_stage is None:
        return ()
    if structures.regions:
        # Its second stage sees the painted values, which are not the regions and have no names.
        raise ModelError("cascades of regions are not supported", path=folder / DATASET)
    return structures.names


def _check_versions(plans: PlansFile, configuration: Configuration, folder: Path) -> None:
    facts = {
        "label manager": (plans.label_manager, ("LabelManager",)),
        "preprocessor": (configuration.preprocessor_name, ("DefaultPreprocessor",)),
    }
    for what, (got, known) in facts.items():
        if got not in known:
            raise ModelError(
                f"plans.json asks for a {what} of its own", expected=" or ".join(known), got=got, path=folder / PLANS
            )
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        raise ModelError("transpose_forward is no order of axes", got=plans.transpose_forward, path=folder / PLANS)
    patch = configuration.patch_size
    if len(patch) not in (2, 3) or len(configuration.spacing) != len(patch) or min(patch) < 1:
        raise ModelError(
            "patch_size and spacing must be positive and have two or three axes",
            got=(patch, configuration.spacing),
            path=folder / PLANS,
        )


def _orientation(plans: PlansFile, wanted: str | None, *, for_total: bool, folder: Path) -> tuple[str, tuple[str, ...]]:
    """The plan's orientation, and sentences that say why where that is not plain."""
    if wanted is not None:
        if wanted not in (*ORIENTATIONS, STORED):
            raise ModelError("no orientation", expected=f"three of R/L, A/P, I/S, or {STORED}", got=wanted)
        return wanted, (f"orientation {wanted} was chosen at import",)
    reader = plans.image_reader_writer
    if reader in _REORIENTING:
        return _REORIENTING[reader], (f"scans are turned to {_REORIENTING[reader]}, as nnU-Net's {reader} does",)
    if for_total:
        return "RAS", (
            "the dataset's name is one of TotalSegmentator's, which turns scans to RAS before nnU-Net sees them",
        )
    if reader not in _AS_STORED:
        raise ModelError(
            "plans.json asks for a reader of its own, which may turn scans",
            expected=" or ".join((*_AS_STORED, *_REORIENTING)),
            got=reader,
            path=folder / PLANS,
            remedy="Say to which orientation it turns them, e.g. RAS, or that it leaves them as they are stored.",
        )
    return STORED, ()


def _spacing(plans: PlansFile, configuration: Configuration, folder: Path) -> TripleMM:
    spacing = tuple(reversed(configuration.spacing))
    if len(spacing) == 2:
        # Slices keep their distance, so that this number is only read by people.
        median = plans.original_median_spacing_after_transp
        spacing = (*spacing, median[0] if median else 1.0)
    if min(spacing) <= 0 or not all(map(math.isfinite, spacing)):
        raise ModelError("the spacing must be positive", got=configuration.spacing, path=folder / PLANS)
    return cast("TripleMM", spacing)


def _patch(patch: tuple[int, ...]) -> Triple:
    return cast("Triple", (*reversed(patch), 1)[:3])


def _slices(patch: tuple[int, ...]) -> int:
    return max(1, min(16, _SLICES_A_BATCH // math.prod(patch)))


def _preparation(configuration: Configuration, axes: Triple, folder: Path) -> Preparation:
    image, logits = configuration.resampling_fn_data_kwargs, configuration.resampling_fn_probabilities_kwargs
    functions = {configuration.resampling_fn_data, configuration.resampling_fn_probabilities}
    masks = configuration.resampling_fn_seg_kwargs if configuration.previous_stage else None  # else of training only
    if masks is not None:
        functions.add(str(configuration.resampling_fn_seg))
    if len(functions) > 1 or not functions <= set(_RESAMPLING):
        raise ModelError(
            "plans.json asks for resampling that is not supported",
            expected=" or ".join(_RESAMPLING),
            got=", ".join(sorted(functions)),
            path=folder / PLANS,
        )
    method = _RESAMPLING[functions.pop()]
    _check_resampling(image, method, (0, 1, 3), folder)
    _check_resampling(logits, method, (0, 1), folder)
    if masks is not None:
        _check_resampling(masks, method, (1,), folder, of_labels=True)
    slice_wise = {_slice_wise(kwargs, method) for kwargs in (image, logits, masks) if kwargs is not None}
    if len(slice_wise) > 1:
        raise ModelError("plans.json resamples images and logits along different axes", path=folder / PLANS)
    linear = method == "nnunet_torch"
    when, anisotropy = slice_wise.pop()
    return Preparation(
        axes=axes,
        crop_to="nonzero",
        normalise_first=True,
        keep_slices=len(configuration.patch_size) == 2,
        resampling=method,
        image_order=1 if linear else cast("Literal[0, 1, 3]", image.order),
        logits_order=1 if linear else cast("Literal[0, 1]", logits.order),
        slice_wise=when,
        anisotropy=anisotropy,
    )


def _slice_wise(kwargs: Resampling, method: str) -> tuple[Literal["never", "auto", "always"], float]:
    """When slices are resampled one by one, and what counts as anisotropic."""
    forced = kwargs.force_separate_z
    if isinstance(forced, msgspec.UnsetType):  # then the defaults of nnU-Net's functions hold
        forced = None if method == "nnunet_torch" else False
    return _SLICE_WISE[forced], kwargs.separate_z_anisotropy_threshold


def _check_resampling(
    kwargs: Resampling, method: str, orders: tuple[int, ...], folder: Path, *, of_labels: bool = False
) -> None:
    usual = Resampling()
    facts = {
        "is_seg": (kwargs.is_seg, of_labels),
        "mode": (kwargs.mode, usual.mode),
        "aniso_axis_mode": (kwargs.aniso_axis_mode, usual.aniso_axis_mode),
    }
    if method == "nnunet":
        facts |= {"order": (kwargs.order in orders, True)}
        if _slice_wise(kwargs, method)[0] != "never":
            facts |= {"order_z": (kwargs.order_z, 0)}
    for what, (got, expected) in facts.items():
        if got != expected:
            raise ModelError(
                f"plans.json asks for resampling that is not supported: {what}",
                expected=f"order {' or '.join(map(str, orders))}, order_z 0" if what.startswith("order") else expected,
                got=kwargs,
                path=folder / PLANS,
            )


def _normalisation(
    plans: PlansFile, configuration: Configuration, dataset: DatasetFile, folder: Path
) -> tuple[Normalisation, ...]:
    schemes, masked = configuration.normalization_schemes, configuration.use_mask_for_norm
    channels = dataset.channels
    if not channels or not len(schemes) == len(masked) == len(channels):
        raise ModelError(
            "plans.json and dataset.json have different numbers of channels",
            expected=f"{len(channels)} of {DATASET}",
            got=f"{len(schemes)} normalisations, {len(masked)} masks",
            path=folder,
        )
    return tuple(
        _scheme(name, plans, number, is_masked=mask, folder=folder)
        for number, (name, mask) in enumerate(zip(schemes, masked, strict=True))
    )


def _scheme(name: str, plans: PlansFile, channel: int, *, is_masked: bool, folder: Path) -> Normalisation:
    if name == "CTNormalization":
        facts = channel_intensities(plans, channel, folder)
        return ClipZScore(
            lower=facts.percentile_00_5, upper=facts.percentile_99_5, mean=facts.mean, std=max(facts.std, 1e-8)
        )
    simple: dict[str, Normalisation] = {
        "ZScoreNormalization": ZScore(masked=is_masked),
        "NoNormalization": Unchanged(),
        "RescaleTo01Normalization": Rescale(),
        "RGBTo01Normalization": Window(lower=0.0, upper=255.0),
    }
    if name not in simple:
        raise ModelError(
            "the normalisation is not supported",
            expected=" or ".join(("CTNormalization", *simple)),
            got=name,
            path=folder / PLANS,
        )
    return simple[name]


def _training(configuration: Configuration, trained: Trained) -> TrainingPlan:
    """What nnU-Net's trainer does unless a trainer class says otherwise; a record, for the model is trained."""
    return TrainingPlan(
        batch_size=max(1, configuration.batch_size),
        steps=max(1, trained.epochs) * STEPS_PER_EPOCH,
        positive_fraction=0.33,
        loss="dice_ce",
        optimiser="sgd",
        learning_rate=1e-2,
        weight_decay=3e-5,
        momentum=0.99,
        warmup_fraction=0.0,
        decay="poly",
        precision="float32",  # its trainer mixes in float16; the masks to agree with are those of full precision
    )


def _on_trainer(name: str) -> tuple[str, ...]:
    if _OWN_TRAINER.fullmatch(name):
        return ()
    return (
        f"the trainer {name} is none of nnU-Net's own; the weights fit the plans, but should it change what has no "
        "weights, such as the activation, then the masks are wrong: compare a case with nnU-Net's",
    )


def _on_mirroring(
    flips: tuple[int, ...], axes: Triple, orientation: str, labels: LabelSet, *, for_total: bool
) -> tuple[str, ...]:
    if not flips:
        return ()
    if for_total:
        return ("TotalSegmentator does not mirror at inference, so neither does this plan; --mirror does",)
    # Of scans as they are stored, the first axis usually runs between right and left.
    lateral = next((n for n, letter in enumerate(orientation) if letter in "RL"), 0)
    if axes.index(lateral) not in flips or not labels.pairs:
        return ()
    left, right = labels.pairs[0]
    return (
        f"nnU-Net mirrors this model between left and right although it tells {left} from {right}; "
        "that is kept as it is, and --no-mirror switches it off",
    )
