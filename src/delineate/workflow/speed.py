"""How fast this machine trains, measured on one block of a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from delineate.planning import Machine, PlanOptions, Speed
from delineate.planning.effort import minutes_of
from delineate.settings import Settings

_NARROW, _WIDE = 16, 64  # features: the first takes its time to read and write, the second to multiply
_ROUNDS = 6  # of all blocks, spread over the time, so that a moment in which the machine is busy does not count
_SECONDS = 0.15  # for each block in each round, at least one step of it
_REST_SECONDS = 0.05  # between rounds
_SIDES = {"cpu": (40, 24), "cuda": (128, 64), "mps": (96, 48)}  # of the cube of voxels, for each of them
_TAPS = 27
_LEAST_SHARE = 0.05  # of a block's time goes into either part: neither is ever for nothing
_WORTH_MINUTES = 1.0  # of training, from which measuring does not take a part of it that matters


def machine_of(settings: Settings, options: PlanOptions | None = None) -> Machine:
    """What a plan must fit; its speed is measured where the time matters to the plan, and is long enough."""
    minutes = None if options is None else minutes_of(options)
    speed = None if minutes is None or minutes < _WORTH_MINUTES else measure_speed(settings)
    return Machine(settings.device, settings.memory_bytes, settings.precision, speed)


def measure_speed(settings: Settings) -> Speed:
    """Convolution, normalisation and activation, forward and backward, in the precision that the device trains in.

    Takes about two seconds. The fastest runs count: what the machine can do when nothing else holds it up.
    """
    import torch

    from delineate.networks.memory import keep_freed_memory

    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    narrow, wide = _SIDES[settings.device.split(":")[0]]
    found = fastest_seconds([_block(_NARROW, narrow, settings), _block(_WIDE, wide, settings)])
    return speed_from(found[0] / (_NARROW * narrow**3), found[1] / (_WIDE * wide**3))


def speed_from(narrow: float, wide: float) -> Speed:
    """The speed by seconds of each voxel and feature of both blocks: feature_seconds + inputs * taps * product_seconds.

    Where the wide block seems no slower than the narrow one, or all of the time to go into products, a small share of
    the time is left to either.
    """
    product = max(wide - narrow, _LEAST_SHARE * wide) / (_TAPS * (_WIDE - _NARROW))
    feature = max(narrow - product * _TAPS * _NARROW, _LEAST_SHARE * narrow)
    return Speed(feature_seconds=feature, product_seconds=product)


def fastest_seconds(
    steps: Sequence[Callable[[], None]],
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> list[float]:
    """The seconds of the fastest of many runs of each step, in turns; the first of each only warms up."""
    for step in steps:
        step()
    found = [float("inf")] * len(steps)
    for _ in range(_ROUNDS):
        for n, step in enumerate(steps):
            now = began = clock()
            while now - began < _SECONDS:
                step()
                now, before = clock(), now
                found[n] = min(found[n], now - before)
        rest(_REST_SECONDS)
    return found


def _block(features: int, side: int, settings: Settings) -> Callable[[], None]:
    """One step of a block on a cube of voxels; it returns when the device has done it."""
    import torch

    from delineate.networks.blocks import ConvNormActivation, Style

    size = (3, 3, 3)
    block = ConvNormActivation(features, features, kernel=size, stride=(1, 1, 1), style=Style())
    layout = torch.channels_last_3d
    block.to(settings.device, memory_format=layout)  # type: ignore[call-overload]
    values = torch.randn(1, features, side, side, side, device=settings.device).to(memory_format=layout)
    values.requires_grad_(True)
    kind, dtype = settings.device.split(":")[0], getattr(torch, settings.precision)

    def step() -> None:
        with torch.autocast(kind, dtype, enabled=dtype is not torch.float32):
            result = block(values)
        torch.autograd.backward(result, torch.ones_like(result))
        values.grad = None
        if kind == "cuda":
            torch.cuda.synchronize(settings.device)
        elif kind == "mps":
            torch.mps.synchronize()

    return step
