"""The pieces that U-Nets are made of, in 2D and 3D, arranged to be fast on the CPU as well.

What is special, and why (bfloat16, channels-last, two CPU cores):

- Convolutions that a normalisation follows have no bias: the normalisation would take it away again.
- Instance normalisation and leaky ReLU are one operation. PyTorch's own instance normalisation leaves the channels-last
  layout, and the backward pass of its group normalisation takes up to thirty times as long in that layout.
- Transposed convolutions whose kernel is their stride are one matrix product and a rearrangement; the parameters keep
  the shape they have in `torch.nn.ConvTranspose3d`.
"""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.planning import NetworkPlan

Size = tuple[int, ...]

SLOPE = 0.01
"""nnU-Net's negative slope of leaky ReLU."""

_BATCH_NORMS: dict[int, type[nn.BatchNorm2d | nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUTS: dict[int, type[nn.Dropout2d | nn.Dropout3d]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


class SmallBatchConvolution(nn.Conv3d):
    """`nn.Conv3d` that is as fast on one small image as on two.

    For a batch of one, PyTorch leaves oneDNN where channels, rows and columns come to no more than 20,480: in the lower
    levels of a U-Net, where its other algorithm takes two to nine times as long.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plainly = weight.dtype != input.dtype or self.padding_mode != "zeros" or isinstance(self.padding, str)
        if plainly or not _is_left_by_onednn(input):
            plain: Tensor = super()._conv_forward(input, weight, bias)
            return plain
        shape = (self.stride, self.padding, self.dilation, self.groups)
        y: Tensor = _OneDNNConvolution.apply(input, weight, bias, *shape)  # type: ignore[no-untyped-call]
        return y


class _OneDNNConvolution(torch.autograd.Function):
    """A convolution by oneDNN forward and backward, which PyTorch would choose for two images."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, dilation, groups) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.shape = (stride, padding, dilation, groups)
        ctx.bias_size = None if bias is None else list(bias.shape)
        y: Tensor = torch.ops.aten.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.shape
        if weight[0, 0].numel() > 1:
            # In oneDNN's own tensors, or PyTorch takes the other algorithm here too. For kernels of one voxel that is
            # the faster one.
            gradient, x = gradient.to_mkldnn(), x.to_mkldnn()
        gradients = torch.ops.aten.convolution_backward(
            gradient, x, weight, ctx.bias_size, stride, padding, dilation, False, (0, 0, 0), groups,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        of_x, of_weight, of_bias = (g.to_dense() if g is not None and g.is_mkldnn else g for g in gradients)
        if of_x is not None:
            of_x = of_x.contiguous(memory_format=torch.channels_last_3d)
        return of_x, of_weight, of_bias, None, None, None, None


def _is_left_by_onednn(x: Tensor) -> bool:
    return (
        not _is_traced()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 5
        and x.shape[0] == 1
        and math.prod(x.shape[:4]) <= _LEFT_BY_ONEDNN
        and not torch.is_autocast_enabled("cpu")
        and _MEASURED_PROCESSOR
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and bool(torch.backends.mkldnn.enabled)
    )


_LEFT_BY_ONEDNN = 20_480
_MEASURED_PROCESSOR = platform.machine().lower() in ("x86_64", "amd64")  # oneDNN has other algorithms on others
_CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: SmallBatchConvolution}


def convolution(in_channels: int, out_channels: int, kernel: Size, *, stride: Size | int = 1, bias: bool) -> nn.Module:
    """A convolution that keeps the size (odd kernels) or divides it by the stride; 2D or 3D by the kernel's length."""
    padding = tuple((size - 1) // 2 for size in kernel)
    kind = _CONVOLUTIONS[len(kernel)]
    return kind(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=bias)  # type: ignore[arg-type]


def normalisation(kind: str, channels: int, dimensions: int, *, slope: float, eps: float = 1e-5) -> nn.Module:
    """`kind` ("instance" or "batch") and then leaky ReLU; `slope` 0 is ReLU, 1 is no activation."""
    if kind == "instance":
        return InstanceNormActivation(channels, slope=slope, eps=eps)
    return BatchNormActivation(channels, dimensions, slope=slope, eps=eps)


class InstanceNormActivation(nn.Module):
    """Affine instance normalisation (Ulyanov et al. 2016), then leaky ReLU; (B, C, ...) to the same."""

    def __init__(self, channels: int, *, slope: float = SLOPE, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.slope = slope
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and not _is_traced():
            if x.dtype == torch.float32 and not torch.is_grad_enabled():
                return _normalise_exactly(x, self.weight, self.bias, slope=self.slope, eps=self.eps)
            y: Tensor = _InstanceNormActivation.apply(x, self.weight, self.bias, self.slope, self.eps)  # type: ignore[no-untyped-call]
            return y
        # Not `functional.instance_norm`, whose check of the size cannot be traced.
        y = torch.instance_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, torch.backends.cudnn.enabled
        )
        return _activate(y, self.slope)


def _normalise_exactly(x: Tensor, weight: Tensor, bias: Tensor, *, slope: float, eps: float) -> Tensor:
    """Instance normalisation and activation whose statistics are summed plane by plane, then in float64.

    PyTorch's group normalisation adds up all voxels of a channels-last tensor one by one in float32: far from 0 it is
    off by as much as 1e-2, enough to move voxels from one label to another. In training that is noise among more.
    """
    planes = x.movedim(1, -1).flatten(2, -2)  # (B, I, J K, C), a view of a channels-last tensor
    voxels = math.prod(x.shape[2:])
    mean = planes.sum(2).double().sum(1) / voxels
    squares = torch.linalg.vector_norm(planes, dim=2).double().square().sum(1) / voxels
    scale = weight * ((squares - mean.square()).clamp(min=0) + eps).rsqrt()
    each = (len(x), -1, *(1,) * (x.ndim - 2))
    y = torch.addcmul((bias - mean * scale).to(x.dtype).view(each), x, scale.to(x.dtype).view(each))
    if slope == 1:
        return y
    return functional.leaky_relu_(y, slope)


class _InstanceNormActivation(torch.autograd.Function):
    """Forward: group normalisation with one channel a group. Backward: batch normalisation's, sample by sample.

    Both are the same mathematics as instance normalisation, and PyTorch's fastest kernels for channels-last.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, slope: float, eps: float) -> Tensor:  # type: ignore[no-untyped-def]
        batch, channels = x.shape[:2]
        voxels = math.prod(x.shape[2:])
        y, mean, inverse_std = torch.native_group_norm(x, weight, bias, batch, channels, voxels, channels, eps)
        if slope != 1:
            functional.leaky_relu_(y, slope)
        ctx.save_for_backward(x, y if slope != 1 else None, weight, mean, inverse_std)
        ctx.slope, ctx.eps = slope, eps
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        x, y, weight, mean, inverse_std = ctx.saved_tensors
        if ctx.slope != 1:
            gradient = torch.ops.aten.leaky_relu_backward(gradient, y, ctx.slope, True)
        one_by_one = [
            torch.ops.aten.native_batch_norm_backward(
                gradient[b : b + 1],
                x[b : b + 1],
                weight,
                None,
                None,
                mean[b],
                inverse_std[b],
                True,
                ctx.eps,
                [True] * 3,
            )
            for b in range(len(x))
        ]
        by_input, by_weight, by_bias = zip(*one_by_one, strict=True)
        return (
            torch.cat(by_input) if len(x) > 1 else by_input[0],
            torch.stack(by_weight).sum(0),
            torch.stack(by_bias).sum(0),
            None,
            None,
        )


class BatchNormActivation(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015), then leaky ReLU."""

    def __init__(self, channels: int, dimensions: int, *, slope: float = SLOPE, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = _BATCH_NORMS[dimensions](channels, eps=eps)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return _activate(self.norm(x), self.slope)


def _is_traced() -> bool:
    """Whether a converter or compiler is looking: it is to see the ordinary operations, which it knows."""
    return torch.compiler.is_compiling() or bool(torch._C._get_tracing_state())


def _activate(x: Tensor, slope: float) -> Tensor:
    if slope == 1:
        return x
    return functional.relu(x) if slope == 0 else functional.leaky_relu(x, slope)


@dataclass(frozen=True, slots=True)
class Style:
    """What the convolutions of a network share. `norm`: "instance" or "batch"; `slope`: of leaky ReLU, 0 is ReLU."""

    norm: str = "instance"
    dropout: float = 0.0
    slope: float = SLOPE
    eps: float = 1e-5


def style_of(plan: NetworkPlan, *, slope: float = SLOPE) -> Style:
    """The plan's style; `slope`: where the plan leaves it to the architecture."""
    chosen = slope if plan.slope is None else plan.slope
    return Style(norm=plan.norm, dropout=plan.dropout, slope=chosen, eps=plan.eps)


class ConvNormActivation(nn.Module):
    """Convolution, dropout of whole channels, normalisation, and the style's leaky ReLU if `activate`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Size,
        stride: Size,
        style: Style,
        activate: bool = True,
    ) -> None:
        super().__init__()
        dimensions = len(kernel)
        self.conv = convolution(in_channels, out_channels, kernel, stride=stride, bias=False)
        self.dropout = _DROPOUTS[dimensions](style.dropout) if style.dropout else nn.Identity()
        slope = style.slope if activate else 1.0
        self.norm = normalisation(style.norm, out_channels, dimensions, slope=slope, eps=style.eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.dropout(self.conv(x)))
        return y


def convolutions(
    in_channels: int, out_channels: int, *, kernel: Size, stride: Size, count: int, style: Style
) -> nn.Sequential:
    """`count` convolutions in a row, each with normalisation and activation; the first has the stride."""
    still = (1,) * len(kernel)
    return nn.Sequential(
        *(
            ConvNormActivation(
                out_channels if n else in_channels,
                out_channels,
                kernel=kernel,
                stride=still if n else stride,
                style=style,
            )
            for n in range(count)
        )
    )


class UpConvolution(nn.Module):
    """Transposed convolution whose kernel is its stride: (B, C, I, J, K) to (B, C', si I, sj J, sk K); 2D likewise.

    Every input voxel makes its own block of output voxels, so this is a matrix product. `weight` (C, C', si, sj, sk)
    and `bias` (C',) are those of `torch.nn.ConvTranspose3d(C, C', kernel_size=s, stride=s)`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Size) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, *stride))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or _is_traced():
            transposed = functional.conv_transpose2d if len(self.stride) == 2 else functional.conv_transpose3d
            return transposed(x, self.weight, self.bias, stride=self.stride)
        n, out_channels = len(self.stride), self.weight.shape[1]
        # Rows of the matrix run over (si, sj, sk, C'), so that C' stays innermost: channels-last.
        matrix = self.weight.permute(*range(2, 2 + n), 1, 0).reshape(-1, self.weight.shape[0])
        blocks = functional.linear(x.movedim(1, -1), matrix, self.bias.repeat(math.prod(self.stride)))
        blocks = blocks.view(x.shape[0], *x.shape[2:], *self.stride, out_channels)
        woven = [axis for a in range(n) for axis in (1 + a, 1 + n + a)]
        size = [voxels * stride for voxels, stride in zip(x.shape[2:], self.stride, strict=True)]
        return blocks.permute(0, *woven, 2 * n + 1).reshape(x.shape[0], *size, out_channels).movedim(-1, 1)


def initialise(network: nn.Module, *, slope: float = SLOPE) -> nn.Module:
    """Draw the weights of all convolutions from He et al. 2015's normal distribution, in place; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | UpConvolution):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
