"""One training step on the CPU: forward, loss, backward, clipping, optimiser; the same U-Net, patch and batch.

    python benchmarks/training_step.py [--threads 2] [--repeats 7] [--batch 4] [--patch 40 56 40]
                                       [--features 16 32 64 128] [--compile]

Peer: MONAI's DynUNet, DiceCELoss and torch.optim.AdamW in float32, as tutorials write it. The rows between it and
delineate's show what each choice brings.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import torch
from monai.losses import DiceCELoss  # type: ignore[attr-defined]
from monai.networks.nets import DynUNet  # type: ignore[attr-defined]
from timing import median_seconds, print_table
from torch import Tensor, nn

from delineate.losses import deep_supervision_loss, dice_ce_loss
from delineate.networks import build_network
from delineate.networks.memory import keep_freed_memory
from delineate.planning import NetworkPlan

CLASSES = 3
LAST = torch.channels_last_3d


def monai_network(features: Sequence[int]) -> nn.Module:
    strides = [1] + [2] * (len(features) - 1)
    return DynUNet(3, 1, CLASSES, [3] * len(features), strides, strides[1:], filters=features)


def our_network(features: Sequence[int], *, deep_supervision: bool = False) -> nn.Module:
    levels = len(features)
    plan = NetworkPlan(
        architecture="nnunet",
        features=tuple(features),
        strides=((1, 1, 1), *((2, 2, 2),) * (levels - 1)),
        kernels=((3, 3, 3),) * levels,
        deep_supervision=deep_supervision,
    )
    network = build_network(plan, in_channels=1, out_channels=CLASSES)
    return network.to(memory_format=LAST)  # type: ignore[call-overload, no-any-return]


def plain_step(network: nn.Module, image: Tensor, target: Tensor, *, autocast: bool = False) -> Callable[[], None]:
    loss_function = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = network(image)
        loss_function(logits.float(), target[:, None]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    return step


def our_step(network: nn.Module, image: Tensor, target: Tensor, *, autocast: bool = True) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = network(image)
        deep_supervision_loss(dice_ce_loss, outputs, target).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    return step


def in_turns(steps: dict[str, Callable[[], None]], repeats: int) -> list[tuple[str, float]]:
    """Each step's median seconds; they take turns, so that what else the machine does slows all of them alike."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(median_seconds(step, repeats=1, warmup=0))
    return [(name, statistics.median(seconds)) for name, seconds in times.items()]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40))
    parser.add_argument("--features", type=int, nargs="+", default=(16, 32, 64, 128))
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    return parser.parse_args()


def main() -> None:
    given = parse_arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    image = torch.randn(given.batch, 1, *given.patch)
    target = torch.randint(0, CLASSES, (given.batch, *given.patch))
    last = image.to(memory_format=LAST)
    peer = "MONAI DynUNet, float32"
    monai_last = monai_network(given.features).to(memory_format=LAST)  # type: ignore[call-overload]
    steps = {
        peer: plain_step(monai_network(given.features), image, target),
        "  the same, bfloat16": plain_step(monai_network(given.features), image, target, autocast=True),
        "  the same, channels-last": plain_step(monai_last, last, target, autocast=True),
        "delineate": our_step(our_network(given.features), last, target),
    }
    if given.compile:
        compiled = torch.compile(our_network(given.features))
        steps["  the same, torch.compile"] = our_step(compiled, last, target)  # type: ignore[arg-type]
    rows = in_turns(steps, given.repeats)
    keep_freed_memory()
    kept = {
        f"delineate, memory kept{', deep supervision' if deep else ''}": our_step(
            our_network(given.features, deep_supervision=deep), last, target
        )
        for deep in (False, True)
    }
    kept["delineate, memory kept, float32"] = our_step(our_network(given.features), last, target, autocast=False)
    rows += in_turns(kept, given.repeats)
    print_table(f"Training step, batch {given.batch}, patch {tuple(given.patch)}", rows, reference=peer)


if __name__ == "__main__":
    main()
