"""Trying engines on a few windows of a scan: how long they take, and whether they find the same."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from delineate.engines import EngineChoice, Runner, open_runner
from delineate.engines.deciding import BAR, Agreement, Masks, Tally, Trial
from delineate.errors import DelineateError
from delineate.geometry import Triple
from delineate.inference.windows import Layout, cut_window, layout, mirrors, padding_values
from delineate.planning import Plan
from delineate.preprocessing import FloatImage
from delineate.workflow.progress import Watch

MOST_SECONDS, MOST_SHARE = 60.0, 0.1  # of what the scans will take in float32
WORTH_SECONDS = 15.0  # work that is done sooner than engines are tried

_SCOUTED, _COMPARED, _CALIBRATION = 8, 3, 8
_FIRST = ("openvino float32", "openvino bfloat16")  # the most promising
_LAST = "openvino int8"
_HOPELESS = 3.0  # times as long as PyTorch, at the first window
_INT8_RUNS = 30  # of a window in float32: what calibrating takes


@dataclass(slots=True, eq=False)
class Bench:
    """Where engines are tried: a network, and windows of a prepared scan `image` (C, I, J, K).

    `runs`: of the network, that the scans will take. `is_incomplete`: the scan lacks masks of the stage before; what
    the network finds without says nothing about structures.
    """

    network: nn.Module
    plan: Plan
    image: FloatImage
    device: str
    threads: int
    runs: int
    is_incomplete: bool = False
    sample: Sequence[Tensor] = field(init=False)
    axes: Sequence[tuple[int, ...]] = field(init=False, default=((),))
    reference: Sequence[Masks] = field(init=False, default=())
    trials: dict[str, Trial] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.sample = self.windows(1)

    def windows(self, count: int) -> list[Tensor]:
        return spread_windows(self.image, self.plan, count)

    def choice(self, engine: str, precision: str) -> EngineChoice:
        return EngineChoice(engine, precision, self.device, self.threads)

    def take(self, choice: EngineChoice, *, limit: float = math.inf) -> Runner | None:
        """Try an engine on the sample, note the trial, and give its runner if it works.

        `limit`: seconds for a window from which on there is no hope.
        """
        name = f"{choice.engine} {choice.precision}"
        try:
            began = time.perf_counter()
            calibration = self.windows(_CALIBRATION) if choice.precision == "int8" else ()
            runner = open_runner(self.network, self.plan, choice, calibration)
            opened = time.perf_counter()
            run_window(runner, self.sample[0], self.plan)  # the first time is slower
            warm, agreement = time.perf_counter() - opened, None
            times: list[float] = []
            if warm <= limit:
                found = [run_window(runner, window, self.plan, self.axes, times) for window in self.sample]
                self.reference = self.reference or found
                agreement = compare(self.reference, found, self.plan)
                if self.is_incomplete:
                    agreement = msgspec.structs.replace(agreement, dice={}, loss=None)
        except (DelineateError, RuntimeError, MemoryError) as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.trials[name] = Trial(engine=choice.engine, precision=choice.precision, problem=problem)
            return None
        self.trials[name] = Trial(
            engine=choice.engine,
            precision=choice.precision,
            open_seconds=round(opened - began, 4),
            window_seconds=round(median(times) if times else warm, 4),
            agreement=agreement,
        )
        return runner

    def look_around(self, scout: Runner, exact: Runner, *, seconds: float) -> None:
        """Compare on the windows with most structures, and, if there is time, mirrored as they will be."""
        scout_seconds, exact_seconds = (
            self.trials[f"{r.choice.engine} {r.choice.precision}"].window_seconds for r in (scout, exact)
        )
        if seconds < _SCOUTED * scout_seconds + _COMPARED * exact_seconds:
            return
        seen = [(int(run_window(scout, window, self.plan).any(0).sum()), window) for window in self.windows(_SCOUTED)]
        self.sample = [window for _, window in sorted(seen, key=lambda pair: -pair[0])[:_COMPARED]]
        every = list(mirrors(self.plan.tiling))
        if seconds / 2 > (exact_seconds + 2 * scout_seconds) * len(self.sample) * len(every):
            self.axes = every
        self.reference = [run_window(exact, window, self.plan, self.axes) for window in self.sample]


def measure(
    bench: Bench, choices: Sequence[EngineChoice], watch: Watch, *, thorough: bool = False
) -> tuple[Trial, ...]:
    """Try engines, the most promising first, until a share of the time that the scans will take is spent.

    PyTorch in float32, with which the others are compared, is always tried. `thorough`: try everything, however long
    it takes.
    """
    watch("Choosing an engine", 0, 1, "torch float32")
    exact = bench.take(bench.choice("torch", "float32"))
    if exact is not None:
        slowest = bench.trials["torch float32"].window_seconds
        whole = math.inf if thorough else slowest * bench.runs
        if whole >= WORTH_SECONDS:
            most = math.inf if thorough else min(MOST_SECONDS, MOST_SHARE * whole)
            _try_others(
                bench, exact, choices, most=most, limit=math.inf if thorough else _HOPELESS * slowest, watch=watch
            )
    watch("Choosing an engine", 1, 1, "")
    return tuple(bench.trials.values())


def _try_others(
    bench: Bench, exact: Runner, choices: Sequence[EngineChoice], *, most: float, limit: float, watch: Watch
) -> None:
    began = time.monotonic()
    ordered = _ordered([choice for choice in choices if (choice.engine, choice.precision) != ("torch", "float32")])
    for place, choice in enumerate(ordered):
        spent = time.monotonic() - began
        # The most promising engine is worth a try even if the scans are few.
        if (place and spent > most) or (choice.precision == "int8" and not _is_worth_calibrating(bench, most - spent)):
            continue
        watch("Choosing an engine", (place + 1) / (len(ordered) + 1), 1, f"{choice.engine} {choice.precision}")
        runner = bench.take(choice, limit=limit)
        if place == 0 and runner is not None and not bench.is_incomplete:
            bench.look_around(runner, exact, seconds=most - (time.monotonic() - began))


def _ordered(choices: Sequence[EngineChoice]) -> list[EngineChoice]:
    names = [f"{choice.engine} {choice.precision}" for choice in choices]
    pairs = zip(names, choices, strict=True)
    return [
        choice
        for _, choice in sorted(
            pairs, key=lambda pair: _FIRST.index(pair[0]) if pair[0] in _FIRST else 3 if pair[0] == _LAST else 2
        )
    ]


def _is_worth_calibrating(bench: Bench, seconds: float) -> bool:
    """int8 rounds ten times as coarsely as bfloat16: where that costs much of the bar, there is no hope for it."""
    if math.isinf(seconds):
        return True
    exact, reduced = bench.trials.get("openvino float32"), bench.trials.get("openvino bfloat16")
    if exact is None or reduced is None or reduced.agreement is None or reduced.agreement.loss is None:
        return False
    return reduced.agreement.loss <= BAR / 5 and _INT8_RUNS * exact.window_seconds < seconds


def run_window(
    runner: Runner,
    window: Tensor,
    plan: Plan,
    axes: Sequence[tuple[int, ...]] = ((),),
    times: list[float] | None = None,
) -> Masks:
    """(structures, I, J, K): what a runner finds in a window (1, C, I, J, K), averaged over mirrored versions of it.

    The seconds that each takes are added to `times`.
    """
    total = torch.zeros(1)
    for flipped in axes:
        given = window.flip(flipped).to(runner.choice.device)
        began = time.perf_counter()
        logits = runner(given).cpu()
        if times is not None:
            times.append(time.perf_counter() - began)
        total = total + logits.flip(flipped)
    logits = total[0]
    if plan.regions:
        return np.asarray((logits > 0).numpy())
    return np.asarray((logits.argmax(0) == torch.arange(1, plan.classes).reshape(-1, 1, 1, 1)).numpy())


def compare(reference: Sequence[Masks], found: Sequence[Masks], plan: Plan) -> Agreement:
    """The agreement of masks in windows."""
    tally = Tally(plan.labels)
    for before, after in zip(reference, found, strict=True):
        tally.add_masks(before, after)
    return tally.agreement()


def spread_windows(image: FloatImage, plan: Plan, count: int) -> list[Tensor]:
    """Up to `count` windows (1, C, I, J, K) spread over a prepared image (C, I, J, K), that in its middle first."""
    where = layout(image.shape[1:], plan)
    starts = sorted(where.along(0), key=lambda start: _from_middle(start, where))
    values = padding_values(image, where, plan.tiling)
    found = []
    for start in starts[:: max(1, len(starts) // count)][:count]:
        window = np.empty((len(image), *plan.patch_size), dtype=np.float32)
        cut_window(image, where, start, values, window)
        found.append(torch.from_numpy(window)[None])
    return found


def _from_middle(start: Triple, where: Layout) -> float:
    middle = [(n - width) / 2 for n, width in zip(where.padded, where.patch, strict=True)]
    return math.dist(start, middle)
