"""Models as nnU-Net v2 leaves them, without nnU-Net: its arrangement and names of modules in plain PyTorch.

Kernels, strides and patch differ along every axis, so that an axis in the wrong place shows. Axes are nnU-Net's:
z, y, x.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 5]]
STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 1]]
FEATURES = [4, 6, 8]
PATCH = (4, 8, 12)
CONVOLUTIONS, BLOCKS, IN_DECODER = [2, 1, 3], [1, 2, 1], [1, 2]
SLOPE, EPS = 0.2, 1e-3


class Block(nn.Module):
    """Convolution, normalisation, activation; every module is registered twice."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: Any,
        stride: Any,
        norm: str,
        *,
        active: bool = True,
        biased: bool = True,
    ) -> None:
        super().__init__()
        flat = len(kernel) == 2
        convolution: Any = nn.Conv2d if flat else nn.Conv3d
        self.conv = convolution(before, after, kernel, stride, [size // 2 for size in kernel], bias=biased)
        if norm == "batch":
            self.norm: nn.Module = (nn.BatchNorm2d if flat else nn.BatchNorm3d)(after, eps=EPS)
        else:
            self.norm = (nn.InstanceNorm2d if flat else nn.InstanceNorm3d)(after, eps=EPS, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, *([nn.LeakyReLU(SLOPE)] if active else []))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.all_modules(x)
        return y


class Stack(nn.Module):
    def __init__(self, before: int, after: int, kernel: Any, stride: Any, norm: str, *, count: int) -> None:
        super().__init__()
        still = [1] * len(kernel)
        self.convs = nn.Sequential(
            *(Block(after if n else before, after, kernel, still if n else stride, norm) for n in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convs(x)
        return y


class Residual(nn.Module):
    def __init__(self, before: int, after: int, kernel: Any, stride: Any, norm: str) -> None:
        super().__init__()
        still = [1] * len(kernel)
        self.conv1 = Block(before, after, kernel, stride, norm)
        self.conv2 = Block(after, after, kernel, still, norm, active=False)
        around: list[nn.Module] = [nn.AvgPool3d(stride, stride)] if max(stride) > 1 else []
        if before != after:
            around.append(Block(before, after, still, still, norm, active=False, biased=False))
        self.skip = nn.Sequential(*around)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x), SLOPE)


class ResidualStack(nn.Module):
    def __init__(self, before: int, after: int, kernel: Any, stride: Any, norm: str, *, count: int) -> None:
        super().__init__()
        still = [1] * len(kernel)
        self.blocks = nn.Sequential(
            *(Residual(after if n else before, after, kernel, still if n else stride, norm) for n in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(x)
        return y


class Encoder(nn.Module):
    def __init__(self, inputs: int, kernels: Any, strides: Any, norm: str, *, residual: bool) -> None:
        super().__init__()
        shapes = zip([FEATURES[0] if residual else inputs, *FEATURES], FEATURES, kernels, strides, strict=False)
        if residual:
            self.stem = Stack(inputs, FEATURES[0], kernels[0], [1] * len(kernels[0]), norm, count=1)
            self.stages = nn.Sequential(
                *(ResidualStack(*shape, norm, count=count) for shape, count in zip(shapes, BLOCKS, strict=True))
            )
        else:
            self.stages = nn.Sequential(
                *(
                    nn.Sequential(Stack(*shape, norm, count=count))
                    for shape, count in zip(shapes, CONVOLUTIONS, strict=True)
                )
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.stem(x) if hasattr(self, "stem") else x, []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class Decoder(nn.Module):
    def __init__(self, encoder: Encoder, classes: int, kernels: Any, strides: Any, norm: str) -> None:
        super().__init__()
        self.encoder = encoder
        flat = len(kernels[0]) == 2
        up: Any = nn.ConvTranspose2d if flat else nn.ConvTranspose3d
        head: Any = nn.Conv2d if flat else nn.Conv3d
        levels = range(len(FEATURES) - 2, -1, -1)
        self.stages = nn.ModuleList(
            Stack(2 * FEATURES[n], FEATURES[n], kernels[n], [1] * len(kernels[n]), norm, count=count)
            for n, count in zip(levels, IN_DECODER, strict=True)
        )
        self.transpconvs = nn.ModuleList(
            up(FEATURES[n + 1], FEATURES[n], strides[n + 1], strides[n + 1]) for n in levels
        )
        self.seg_layers = nn.ModuleList(head(FEATURES[n], classes, 1) for n in levels)

    def forward(self, skips: list[Tensor]) -> Tensor:
        x = skips[-1]
        for n, (up, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            x = stage(torch.cat((up(x), skips[-2 - n]), 1))
        y: Tensor = self.seg_layers[-1](x)
        return y


class Network(nn.Module):
    """nnU-Net's PlainConvUNet or ResidualEncoderUNet, with random weights, running statistics included."""

    def __init__(
        self, *, inputs: int = 1, classes: int = 3, residual: bool = False, flat: bool = False, norm: str = "instance"
    ) -> None:
        super().__init__()
        kernels, strides = ([size[1:] for size in sizes] if flat else sizes for sizes in (KERNELS, STRIDES))
        self.encoder = Encoder(inputs, kernels, strides, norm, residual=residual)
        self.decoder = Decoder(self.encoder, classes, kernels, strides, norm)
        generator = torch.Generator().manual_seed(7)
        for name, tensor in {**dict(self.named_parameters()), **dict(self.named_buffers())}.items():
            if tensor.ndim > 1:
                tensor.data = torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
            elif tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.data = noise + (0.5 if name.endswith(("norm.weight", "running_var")) else -0.5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.decoder(self.encoder(x))
        return y


def architecture(*, residual: bool = False, flat: bool = False, norm: str = "instance", **changes: Any) -> Any:
    """How plans.json describes `Network`."""
    dimensions = 2 if flat else 3
    kind = {"instance": "instancenorm.InstanceNorm", "batch": "batchnorm.BatchNorm"}[norm]
    counts = {"n_blocks_per_stage": BLOCKS} if residual else {"n_conv_per_stage": CONVOLUTIONS}
    arguments = {
        "n_stages": 3,
        "features_per_stage": FEATURES,
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [size[1:] for size in KERNELS] if flat else KERNELS,
        "strides": [size[1:] for size in STRIDES] if flat else STRIDES,
        "n_conv_per_stage_decoder": IN_DECODER,
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.{kind}{dimensions}d",
        "norm_op_kwargs": {"eps": EPS, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True, "negative_slope": SLOPE},
    }
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": arguments | counts | changes,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(**changes: Any) -> Any:
    """One of plans.json's."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "spacing": [5.0, 0.9, 0.8],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": architecture(),
    } | changes


def plans(**changes: Any) -> Any:
    """plans.json with the configuration 3d_fullres, unless `configurations` says otherwise."""
    return {
        "dataset_name": "Dataset900_Blobs",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [6.0, 0.9, 0.8],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration()},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 40.0, "std": 90.0, "percentile_00_5": -950.0, "percentile_99_5": 700.0, "max": 3000.0}
        },
    } | changes


def dataset(**changes: Any) -> Any:
    """dataset.json."""
    return {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "core": 1, "rim": 2},
        "numTraining": 9,
        "file_ending": ".nii.gz",
    } | changes


def checkpoint(state: dict[str, Tensor] | None = None, **changes: Any) -> dict[str, Any]:
    """What nnU-Net's trainer saves, its log of numpy numbers included."""
    return {
        "network_weights": Network().state_dict() if state is None else state,
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5)], "lrs": [np.float64(0.01)], "table": np.eye(2)},
        "_best_ema": np.float64(0.6),
        "current_epoch": 4,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    } | changes


def write_trained(
    folder: Path,
    *,
    plans_json: Any = None,
    dataset_json: Any = None,
    folds: dict[str, Any] | None = None,
    name: str = "checkpoint_final.pth",
) -> Path:
    """A trained-model folder; `folds`: checkpoints by what follows fold_."""
    for fold, content in (folds or {"0": checkpoint()}).items():
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / f"fold_{fold}" / name)
    (folder / "plans.json").write_text(json.dumps(plans_json or plans()))
    (folder / "dataset.json").write_text(json.dumps(dataset_json or dataset()))
    return folder


def write_cascade(tree: Path) -> Path:
    """A dataset's folder with both stages of a cascade. Gives the second stage's folder."""
    low = configuration(spacing=[6.0, 2.0, 2.0])
    full = {"inherits_from": "3d_lowres", "spacing": [5.0, 0.9, 0.8], "previous_stage": "3d_lowres"}
    both = plans(configurations={"3d_lowres": low | {"next_stage": "cascade"}, "3d_cascade_fullres": full})
    for name, inputs in (("3d_lowres", 1), ("3d_cascade_fullres", 3)):
        saved = checkpoint(Network(inputs=inputs).state_dict(), init_args={"configuration": name})
        folder = tree / f"nnUNetTrainer__nnUNetPlans__{name}"
        write_trained(folder, plans_json=both, folds={"0": saved, "1": saved})
    return folder


def turned(array: Tensor) -> Tensor:
    """(B, C, z, y, x) as (B, C, x, y, z)."""
    return array.permute(0, 1, *reversed(range(2, array.ndim))).contiguous()


def tensors_once(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The state without the names that the same tensors have a second time."""
    for name, tensor in state.items():
        if "all_modules" not in name and not name.startswith("decoder.encoder."):
            yield name, tensor
