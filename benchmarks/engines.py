"""One window through a network by every engine and precision there is, taken in turns.

    python benchmarks/engines.py [--threads 2] [--repeats 5] [--only "ours, 40x56x40"] [--compile]

The reference is the network as nnU-Net runs it on a CPU: PyTorch in float32 with its own modules (convolution, instance
normalisation, leaky ReLU, transposed convolution) in the usual memory layout. Weights are random: what precisions do to
masks is measured on a trained model, by `delineate engines MODEL SCAN`. Beside wall time stands processor time, which
suffers less from what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from delineate.engines import open_runner
from delineate.engines.candidates import candidates
from delineate.networks import build_network
from delineate.networks.blocks import InstanceNormActivation, UpConvolution
from delineate.planning import NetworkPlan, Plan, TrainingPlan, ZScore
from delineate.volume import Kind

NETWORKS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {
    "nnU-Net's default, 96x96x96": ("nnunet", (32, 64, 128, 256, 320, 320), (96, 96, 96)),
    "nnU-Net's default, 64x64x64": ("nnunet", (32, 64, 128, 256, 320, 320), (64, 64, 64)),
    "residual encoder, 64x64x64": ("nnunet_res", (32, 64, 128, 256, 320), (64, 64, 64)),
    "ours, 96x96x96": ("nnunet", (16, 32, 64, 128), (96, 96, 96)),
    "ours, 40x56x40": ("nnunet", (16, 32, 64, 128), (40, 56, 40)),
    "2D, 256x256": ("nnunet", (32, 64, 128, 256, 512, 512), (256, 256, 1)),
}
REFERENCE = "as nnU-Net runs it"


@dataclass(frozen=True)
class Row:
    """What runs a window, and how long it took to open."""

    run: Callable[[Tensor], Tensor]
    open_seconds: float


def plan_of(name: str) -> Plan:
    architecture, features, (i, j, k) = NETWORKS[name]
    dimensions, levels = (2 if k == 1 else 3), len(features)
    network = NetworkPlan(
        architecture=architecture,
        features=features,
        strides=((1,) * dimensions, *((2,) * dimensions,) * (levels - 1)),
        kernels=((3,) * dimensions,) * levels,
    )
    return Plan(
        dataset="random",
        channels=("CT",),
        kinds=(Kind.CT,),
        labels=("a", "b"),
        spacing_mm=(1.0, 1.0, 1.0),
        normalisation=(ZScore(),),
        patch_size=(i, j, k),
        network=network,
        training=TrainingPlan(batch_size=2, steps=1),
    )


def with_plain_modules(module: nn.Module, dimensions: int) -> nn.Module:
    """The same network of PyTorch's own modules, in place."""
    for name, child in module.named_children():
        if isinstance(child, InstanceNormActivation):
            setattr(module, name, _plain_norm(child, dimensions))
        elif isinstance(child, UpConvolution):
            setattr(module, name, _plain_up(child, dimensions))
        else:
            with_plain_modules(child, dimensions)
    return module


def _plain_norm(norm: InstanceNormActivation, dimensions: int) -> nn.Module:
    kind = nn.InstanceNorm3d if dimensions == 3 else nn.InstanceNorm2d
    plain = kind(len(norm.weight), eps=norm.eps, affine=True)
    plain.weight, plain.bias = norm.weight, norm.bias
    return plain if norm.slope == 1 else nn.Sequential(plain, nn.LeakyReLU(norm.slope, inplace=True))


def _plain_up(up: UpConvolution, dimensions: int) -> nn.Module:
    kind = nn.ConvTranspose3d if dimensions == 3 else nn.ConvTranspose2d
    plain = kind(up.weight.shape[0], up.weight.shape[1], up.stride, up.stride)  # type: ignore[arg-type]
    plain.weight, plain.bias = up.weight, up.bias
    return plain


def flat(network: Callable[[Tensor], Tensor], plan: Plan) -> Row:
    @torch.inference_mode()
    def run(windows: Tensor) -> Tensor:
        images = windows if plan.dimensions == 3 else windows.squeeze(-1)
        return network(images).reshape(len(windows), plan.classes, *plan.patch_size)

    return Row(run, 0.0)


def rows_of(plan: Plan, *, threads: int, compile_too: bool) -> dict[str, Row]:
    torch.manual_seed(0)
    network = build_network(plan.network, in_channels=1, out_channels=plan.classes).eval()
    windows = [torch.randn(1, 1, *plan.patch_size) for _ in range(2)]
    rows = {}
    for choice in candidates("cpu", threads):
        began = time.perf_counter()
        runner = open_runner(network, plan, choice, windows)
        rows[str(choice)] = Row(runner, time.perf_counter() - began)
    if compile_too:
        layout = torch.channels_last_3d if plan.dimensions == 3 else torch.channels_last
        compiled = torch.compile(network.to(memory_format=layout))  # type: ignore[call-overload]
        rows["torch float32, torch.compile"] = flat(lambda x: compiled(x.contiguous(memory_format=layout)), plan)
    plain = build_network(plan.network, in_channels=1, out_channels=plan.classes).eval()
    plain.load_state_dict(network.state_dict())
    return {REFERENCE: flat(with_plain_modules(plain, plan.dimensions), plan), **rows}


def measure(rows: dict[str, Row], windows: Tensor, repeats: int) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and processor seconds of each, in turns, after one that does not count."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in rows}
    for repeat in range(repeats + 1):
        for name, row in rows.items():
            wall, processor = time.perf_counter(), time.process_time()
            row.run(windows)
            if repeat:
                times[name][0].append(time.perf_counter() - wall)
                times[name][1].append(time.process_time() - processor)
    return times


def report(name: str, rows: dict[str, Row], windows: Tensor, repeats: int) -> None:
    times = measure(rows, windows, repeats)
    walls, processors = ({row: statistics.median(pair[n]) for row, pair in times.items()} for n in (0, 1))
    reference = rows[REFERENCE].run(windows)
    print(f"\n{name}\n")
    print("| | opens, s | window, s | faster | fastest of each | processor s | less | equal labels |")
    print("|---|---|---|---|---|---|---|---|")
    for row, how in rows.items():
        equal = float((how.run(windows).argmax(1) == reference.argmax(1)).double().mean())
        quickest = min(times[REFERENCE][0]) / min(times[row][0])
        print(
            f"| {row} | {how.open_seconds:.1f} | {walls[row]:.3f} | {walls[REFERENCE] / walls[row]:.2f}x "
            f"| {quickest:.2f}x | {processors[row]:.3f} | {processors[REFERENCE] / processors[row]:.2f}x "
            f"| {100 * equal:.3f} % |",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(NETWORKS))
    parser.add_argument("--compile", action="store_true", help="Try torch.compile as well; it takes minutes.")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    for name in [chosen.only] if chosen.only else NETWORKS:
        plan = plan_of(name)
        rows = rows_of(plan, threads=chosen.threads, compile_too=chosen.compile)
        report(name, rows, torch.randn(1, 1, *plan.patch_size), chosen.repeats)


if __name__ == "__main__":
    main()
