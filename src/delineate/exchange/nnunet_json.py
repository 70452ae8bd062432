"""nnU-Net's plans.json and dataset.json, read into types: formats of version 2.0 to 2.8."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from delineate.errors import ModelError

PLANS, DATASET = "plans.json", "dataset.json"

_LARGEST = 64 * 2**20  # bytes; dataset.json may list every case

Sizes = int | tuple[int | tuple[int, ...], ...]
"""One number for all levels and axes, or one entry a level, itself a number or one an axis."""

_Kind = TypeVar("_Kind")


class Intensities(msgspec.Struct, frozen=True):
    """Of a channel's foreground in the training cases."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Architecture(msgspec.Struct, frozen=True):
    network_class_name: str
    arch_kwargs: dict[str, Any]


class Resampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of nnU-Net's resampling functions; those of how it computes (threads, device) change nothing."""

    is_seg: bool = False
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | msgspec.UnsetType | None = msgspec.UNSET
    separate_z_anisotropy_threshold: float = 3.0
    mode: str = "linear"
    aniso_axis_mode: str = "nearest-exact"
    memefficient_seg_resampling: bool = False
    num_threads: int | None = None
    device: Any = None


class Configuration(msgspec.Struct, frozen=True):
    """One configuration of plans.json with what it inherits; axes are nnU-Net's (z, y, x after `transpose_forward`).

    Up to nnU-Net 2.2 the network was described by the last eight entries, not by `architecture`.
    """

    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    batch_size: int
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: str
    resampling_fn_data_kwargs: Resampling
    resampling_fn_probabilities: str
    resampling_fn_probabilities_kwargs: Resampling
    resampling_fn_seg: str | None = None
    resampling_fn_seg_kwargs: Resampling | None = None
    preprocessor_name: str = "DefaultPreprocessor"
    previous_stage: str | None = None
    architecture: Architecture | None = None
    old_class: str | None = msgspec.field(default=None, name="UNet_class_name")
    old_features: int = msgspec.field(default=32, name="UNet_base_num_features")
    old_most_features: int = msgspec.field(default=320, name="unet_max_num_features")
    old_convolutions: tuple[int, ...] = msgspec.field(default=(), name="n_conv_per_stage_encoder")
    old_decoder_convolutions: tuple[int, ...] = msgspec.field(default=(), name="n_conv_per_stage_decoder")
    old_kernels: Sizes = msgspec.field(default=3, name="conv_kernel_sizes")
    old_strides: Sizes = msgspec.field(default=2, name="pool_op_kernel_sizes")


class PlansFile(msgspec.Struct, frozen=True):
    """plans.json; `configurations` as they stand there, see `configuration`."""

    configurations: dict[str, dict[str, Any]]
    transpose_forward: tuple[int, int, int]
    image_reader_writer: str = "SimpleITKIO"
    dataset_name: str = "unknown"
    plans_name: str = "unknown"
    label_manager: str = "LabelManager"
    original_median_spacing_after_transp: tuple[float, ...] | None = None
    foreground_intensity_properties_per_channel: dict[str, dict[str, Any]] | None = None
    foreground_intensity_properties_by_modality: dict[str, dict[str, Any]] | None = None

    @property
    def intensities(self) -> Mapping[str, Mapping[str, Any]]:
        """Statistics by the channel's number."""
        per_channel = self.foreground_intensity_properties_per_channel
        return per_channel or self.foreground_intensity_properties_by_modality or {}


class DatasetFile(msgspec.Struct, frozen=True):
    """dataset.json; `modality` was `channel_names` in nnU-Net v1."""

    labels: dict[str, int | tuple[int, ...]]
    channel_names: dict[str, str] | None = None
    modality: dict[str, str] | None = None
    regions_class_order: tuple[int, ...] | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        names = self.channel_names or self.modality or {}
        return tuple(names[key] for key in sorted(names, key=lambda key: (len(key), key)))


def read_plans(folder: Path) -> PlansFile:
    """Raises `ModelError` if plans.json is missing, cannot be read, or is of a version that is not known."""
    return _converted(_read_json(folder / PLANS), PlansFile, folder / PLANS)


def read_dataset(folder: Path) -> DatasetFile:
    """Raises `ModelError` if dataset.json is missing or cannot be read."""
    return _converted(_read_json(folder / DATASET), DatasetFile, folder / DATASET)


def configuration(plans: PlansFile, name: str, folder: Path) -> Configuration:
    """A configuration by its name. Raises `ModelError` if there is none, or it cannot be understood."""
    return _converted(_inherited(plans, name, folder), Configuration, folder / PLANS)


def channel_intensities(plans: PlansFile, channel: int, folder: Path) -> Intensities:
    """Raises `ModelError` if plans.json has no statistics of that channel."""
    found = plans.intensities.get(str(channel))
    if found is None:
        raise ModelError(f"plans.json has no intensities of channel {channel}", path=folder / PLANS)
    facts = _converted(found, Intensities, folder / PLANS)
    numbers = msgspec.structs.astuple(facts)
    if not all(map(math.isfinite, numbers)) or facts.std < 0 or facts.percentile_00_5 > facts.percentile_99_5:
        raise ModelError(f"plans.json has no sensible intensities of channel {channel}", got=facts, path=folder / PLANS)
    return facts


def convert(value: object, kind: type[_Kind], where: str, path: Path) -> _Kind:
    """A part of a parsed file as a type. Raises `ModelError` that says what does not fit."""
    return _converted(value, kind, path, where=where)


def _inherited(plans: PlansFile, name: str, folder: Path) -> dict[str, Any]:
    lineage: list[str] = []
    merged: dict[str, Any] = {}
    parent: object = name
    while parent is not None:
        if not isinstance(parent, str) or parent not in plans.configurations or parent in lineage:
            raise ModelError(
                "plans.json has no such configuration"
                if parent not in lineage
                else "configurations that inherit in a ring",
                expected=f"one of {', '.join(sorted(plans.configurations))}",
                got=parent,
                path=folder / PLANS,
            )
        lineage.append(parent)
        merged = {**plans.configurations[parent], **merged}
        parent = plans.configurations[parent].get("inherits_from")
    return merged


def _read_json(path: Path) -> object:
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path.name} is too large to be one", got=f"{path.stat().st_size} bytes", path=path)
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"the model folder lacks {path.name}",
            got=error.strerror,
            path=path.parent,
            remedy="Copy the whole folder, as nnU-Net's training or export left it.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is no JSON", got=str(error)[:200], path=path) from error


def _converted(value: object, kind: type[_Kind], path: Path, *, where: str = "") -> _Kind:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        what = f"{path.name}{f', {where},' if where else ''}"
        raise ModelError(
            f"{what} is of a format that is not known",
            expected="that of nnU-Net 2.0 to 2.8",
            got=str(error),
            path=path,
        ) from error
