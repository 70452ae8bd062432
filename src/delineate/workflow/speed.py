"""How fast this machine trains, measured on one block of a network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from delineate.planning import Machine, PlanOptions, Speed
from delineate.planning.effort import minutes_of
from delineate.settings import Settings

_NARROW, _WIDE = 16, 64  # features: the first takes its time to read and write, the second to multiply
_SECONDS = 1.0  # for each of them, at most
_SIDES = {"cpu": (40, 24), "cuda": (128, 64), "mps": (96, 48)}  # of the cube of voxels, for each of them
_TAPS = 27
_WORTH_MINUTES = 1.0  # of training, from which measuring does not take a part of it that matters


def machine_of(settings: Settings, options: PlanOptions | None = None) -> Machine:
    """What a plan must fit; its speed is measured where the time matters to the plan, and is long enough."""
    minutes = None if options is None else minutes_of(options)
    speed = None if minutes is None or minutes < _WORTH_MINUTES else measure_speed(settings)
    return Machine(settings.device, settings.memory_bytes, settings.precision, speed)


def measure_speed(settings: Settings) -> Speed:
    """Convolution, normalisation and activation, forward and backward, in the precision that the device trains in.

    Takes about two seconds. The median of the runs counts.
    """
    import torch

    from delineate.networks.memory import keep_freed_memory

    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    narrow, wide = _SIDES[settings.device.split(":")[0]]
    by_narrow = _usual_seconds(_block(_NARROW, narrow, settings)) / (_NARROW * narrow**3)
    by_wide = _usual_seconds(_block(_WIDE, wide, settings)) / (_WIDE * wide**3)
    # Of each voxel and feature: feature_seconds + features * taps * product_seconds.
    product = max(0.0, by_wide - by_narrow) / (_TAPS * (_WIDE - _NARROW))
    feature = max(by_narrow - product * _TAPS * _NARROW, 0.05 * by_narrow)
    return Speed(feature_seconds=feature, product_seconds=product)


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

    return step


def _usual_seconds(step: Callable[[], None]) -> float:
    step()
    found: list[float] = []
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until or not found:
        began = time.perf_counter()
        step()
        found.append(time.perf_counter() - began)
    return statistics.median(found)
