"""What a plan says. It is data: JSON a person may edit."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Literal

import msgspec

from delineate.geometry import Triple, TripleMM
from delineate.labels import LabelSet, Region, region_labels
from delineate.volume import Kind

SCHEMA_VERSION = 1
STORED = "stored"
PROMPT_CHANNELS = 4

Precision = Literal["float32", "bfloat16", "float16"]
Sums = Literal["float32", "nnunet"]
LossName = Literal["dice", "dice_ce"]
Annotators = Literal["first", "sample", "majority", "staple"]


class ClipZScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="clip_zscore"):
    """Clip to lower..upper, subtract the mean, divide by std; the same numbers for every case (CT)."""

    lower: float
    upper: float
    mean: float
    std: float


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="window"):
    """Map lower..upper linearly onto to_lower..to_upper and clip."""

    lower: float
    upper: float
    to_lower: float = 0.0
    to_upper: float = 1.0


class ZScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="zscore"):
    """Clip to the case's own percentiles, subtract its mean, divide by its standard deviation (MR)."""

    lower_percentile: float = 0.0
    upper_percentile: float = 100.0
    masked: bool = False  # of the voxels inside the outline of what is not 0; those outside stay as they are


class Rescale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="rescale"):
    """Map the case's own lowest..highest value onto 0..1."""


class Unchanged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unchanged"):
    """Leave the intensities as they are."""


Normalisation = ClipZScore | Window | ZScore | Rescale | Unchanged


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network. A level is a resolution, the highest first; 2 or 3 numbers an axis tuple (2D or 3D)."""

    architecture: str
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    convolutions: tuple[int, ...] = ()  # per level of the encoder; empty means the architecture's own choice
    decoder_convolutions: tuple[int, ...] = ()  # per level of the decoder, likewise
    deep_supervision: bool = True
    norm: Literal["instance", "batch"] = "instance"
    eps: float = 1e-5  # what the normalisation adds to the variance
    slope: float | None = None  # of leaky ReLU, 0 is ReLU; None means the architecture's own choice
    dropout: float = 0.0


class AugmentationPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probabilities are per patch; ranges are (lowest, highest), sampled uniformly.

    `channel_dropout`: the probability that a channel of several is blanked; never are all. What was trained so also
    segments scans that lack a channel. `coarser`: how many times as large as the prepared case's are a patch's voxels.
    """

    spatial_probability: float = 0.7
    rotation_degrees: tuple[float, float, float] = (25.0, 25.0, 25.0)  # largest angle about each array axis
    scale: tuple[float, float] = (0.75, 1.33)
    shear: float = 0.08
    shift_mm: float = 4.0
    elastic_probability: float = 0.25
    elastic_mm: float = 3.0  # standard deviation of the control points' displacement
    flip_axes: tuple[int, ...] = ()
    noise_probability: float = 0.15
    noise_std: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.1
    blur_voxels: tuple[float, float] = (0.4, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.8, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.3)
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)
    low_resolution_probability: float = 0.1
    low_resolution: tuple[float, float] = (0.5, 1.0)
    channel_dropout: float = 0.0
    slice_axis: int | None = None  # across which slices are thick: patches are turned and bent within slices only
    coarser: TripleMM = (1.0, 1.0, 1.0)


class TransferPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which weights a run begins with, and how those that are taken are treated.

    `source`: the digest of the model they come from. `fresh`: parameters of which all or a part starts anew: they are
    never frozen, and learn at the full rate. The others' rate is `backbone_rate` times as large. Those that `freeze`
    names rest for the first `freeze_fraction` of the run; then their rate rises from zero. `names`: what the model
    calls structures that have another name here.
    """

    source: str
    names: dict[str, str] = {}
    fresh: tuple[str, ...] = ()
    freeze: Literal["nothing", "encoder", "all_but_head"] = "nothing"
    freeze_fraction: float = 0.2
    backbone_rate: float = 1.0


class PretrainingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Masked reconstruction: blocks of `block` voxels, `masked_fraction` of them, are hidden from the network, which
    learns to say what the intensities there are (He et al. 2022)."""

    block: Triple
    masked_fraction: float = 0.6


class PromptingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that is told what to segment: by points, scribbles, a box, and what there is already.

    These are four more channels of its input, see `inference.prompting`. `sigma_mm`: of the Gaussian about a point.
    `corrections`: the most rounds in which the mistakes of a training patch are pointed at before it is learnt from.
    """

    sigma_mm: float
    corrections: int = 3


class DistillationPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Learning from a larger model's outputs (Hinton et al. 2015).

    `teacher`: its digest. `temperature`: both networks' logits are divided by it. `weight`: of the teacher's outputs in
    the loss, from 0 to 1; what is left is the references'. `names`: what it calls structures that have another name
    here.
    """

    teacher: str
    names: dict[str, str] = {}
    temperature: float = 2.0
    weight: float = 0.5


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights are found. An epoch is `samples_per_image` patches from each training image.

    `missing_labels`: what it means that a structure is not in a case's reference: it is "absent" from the patient (a
    lesion, say), or "unknown", because nobody drew it: then the case says nothing about it, for or against.
    `balance`: how much more often than its cases do a rare structure is drawn: patches on a structure show each in
    proportion to its frequency to the power 1 - `balance`: 0 as cases come, 1 all structures equally often.
    `off_centre`: how far from a patch's centre the voxel may lie that it was drawn for, as a share of the way to the
    border; 0 is centred, moved into the case.
    `annotators`: of several readers' references, the "first" one's, in each patch one that is drawn ("sample"), or what
    they come to by "majority" or "staple".
    `coarse_share`: of the run, at its beginning, in which patches are `coarse_factor` times as coarse, and more of them
    make a batch; see `coarse_start`.
    """

    batch_size: int
    steps: int
    samples_per_image: int = 4
    positive_fraction: float = 0.5
    balance: float = 0.0
    off_centre: float = 0.0
    annotators: Annotators = "first"
    missing_labels: Literal["absent", "unknown"] = "absent"
    loss: LossName = "dice_ce"
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 5e-2
    momentum: float = 0.99
    warmup_fraction: float = 0.04
    decay: Literal["cosine", "poly"] = "cosine"
    gradient_clip: float = 12.0
    ema_decay: float = 0.99
    precision: Precision = "bfloat16"
    validations: int = 10
    coarse_share: float = 0.0
    coarse_factor: float = 1.5
    seed: int = 0
    transfer: TransferPlan | None = None
    distillation: DistillationPlan | None = None


class Tiling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a trained network goes over a scan: windows of the plan's patch size, blended by a Gaussian.

    `centre`: the Gaussian's peak lies in the patch's exact middle, or on voxel n // 2 with the rounding of nnU-Net.
    `padding`: what a scan smaller than the patch is surrounded with, its channels' lowest values or 0.
    `sums`: of windows' logits and of folds, in float32, or as nnU-Net makes them: in float16, in its order of windows,
    each fold for itself, and rounded once more where logits are resampled.
    """

    overlap: float = 0.5
    gaussian: bool = True
    centre: Literal["middle", "nnunet"] = "middle"
    padding: Literal["lowest", "zero"] = "lowest"
    mirror_axes: tuple[int, ...] = ()
    batch_size: int = 1
    sums: Sums = "float32"


class Preparation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a scan becomes what the network sees, where conventions differ; the defaults are delineate's own.

    `axes`: array axis n of the prepared image is axis `axes[n]` of the oriented scan.
    `crop_to`: the box of what is above air, or of the voxels that are not 0 in some channel.
    `normalise_first`: before resampling instead of after it.
    `keep_slices`: the last axis keeps its spacing (networks in 2D).
    `resampling`: "delineate" fades details too fine for the grid and mirrors at the border; "nnunet" does neither:
    `skimage.transform.resize` with mode "edge"; "nnunet_torch" is nnU-Net's option to interpolate linearly with torch.
    `image_order`, `logits_order`: of the spline. Logits are reduced while they are interpolated, which takes weights
    that are not negative. `slice_wise`: where an axis is more than `anisotropy` times as coarse as the finest, slices
    are resampled in their plane, and along that axis the closest is taken.
    """

    axes: Triple = (0, 1, 2)
    crop_to: Literal["foreground", "nonzero"] = "foreground"
    normalise_first: bool = False
    keep_slices: bool = False
    resampling: Literal["delineate", "nnunet", "nnunet_torch"] = "delineate"
    image_order: Literal[0, 1, 3] = 3
    logits_order: Literal[0, 1] = 1
    slice_wise: Literal["never", "auto", "always"] = "never"
    anisotropy: float = 3.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole recipe. `patch_size`, `spacing_mm` and axes refer to arrays in `orientation`.

    `resize_to`: every case gets this shape instead of `spacing_mm`. `reasons`: choices in words.
    `orientation`: three of R/L, A/P, I/S, or "stored": the axes as the file or series has them.
    `regions`: if there are any, one for each label, in the same order: outputs are sigmoids, and structures overlap.
    `previous`: labels of the cascade's stage before, whose masks (0 or 1) follow the channels in the network's input.
    `pretraining`: the network finds no structures yet, but the channels' own intensities where they are hidden.
    `prompting`: the network finds what it is pointed at instead, whatever it is; `labels` are what it has learnt from.
    """

    schema_version: int = SCHEMA_VERSION
    dataset: str
    channels: tuple[str, ...]
    kinds: tuple[Kind, ...]
    labels: tuple[str, ...]
    orientation: str = "RAS"
    spacing_mm: TripleMM
    resize_to: Triple | None = None
    crop_foreground: bool = True
    normalisation: tuple[Normalisation, ...]
    patch_size: Triple
    network: NetworkPlan
    training: TrainingPlan
    augmentation: AugmentationPlan = AugmentationPlan()
    tiling: Tiling = Tiling()
    preparation: Preparation = Preparation()
    regions: tuple[Region, ...] = ()
    previous: tuple[str, ...] = ()
    pretraining: PretrainingPlan | None = None
    prompting: PromptingPlan | None = None
    reasons: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        return len(self.network.strides[0])

    @property
    def classes(self) -> int:
        """Channels of the network's output: background and the labels, or the regions; in pretraining, the image's;
        of a network that is prompted, background and what was meant."""
        if self.pretraining is not None:
            return len(self.channels)
        if self.prompting is not None:
            return 2
        return len(self.regions) or 1 + len(self.labels)

    @property
    def learnt_from(self) -> tuple[str, ...]:
        """Digests of the models whose weights or outputs a run of this plan learns from."""
        transfer, distillation = self.training.transfer, self.training.distillation
        return (() if transfer is None else (transfer.source,)) + (
            () if distillation is None else (distillation.teacher,)
        )

    @property
    def parts(self) -> tuple[int, ...]:
        """The values of which regions consist; value n of a prepared target is the n-th of them, from 1."""
        return tuple(sorted({value for region in self.regions for value in region.values}))

    def drawn(self, values: Container[int]) -> tuple[bool, ...]:
        """Of each output of the network, whether a reference has it that holds these values of prepared targets.

        Background is always drawn; a region is where one of its parts is.
        """
        if not self.regions:
            return (True, *(n in values for n in range(1, self.classes)))
        found = {part for n, part in enumerate(self.parts, start=1) if n in values}
        return tuple(not found.isdisjoint(region.values) for region in self.regions)

    @property
    def prepared_channels(self) -> int:
        """Channels of a prepared image."""
        return len(self.channels) + len(self.previous)

    @property
    def inputs(self) -> int:
        """Channels of the network's input: the prepared image's, and those of the prompts."""
        return self.prepared_channels + (0 if self.prompting is None else PROMPT_CHANNELS)


def labels_found(plan: Plan, labels: LabelSet) -> LabelSet:
    """What a model of this plan finds in scans: the plan's regions if it has some, else a dataset's labels.

    Nothing is ignored in a scan.
    """
    return region_labels(plan.regions) if plan.regions else replace(labels, ignore=None)
