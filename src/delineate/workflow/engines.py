"""The engine and precision that a model is run with on this machine: chosen by measuring, and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from delineate.engines import ENGINES, EngineChoice
from delineate.engines.candidates import PRECISIONS, candidates
from delineate.engines.deciding import Trial, best
from delineate.engines.runner import check_precision
from delineate.engines.work import FORESEEN_WITHIN, foreseen_seconds
from delineate.errors import ResourceError
from delineate.inference import Runners, open_stage_runners
from delineate.inference.windows import layout, mirrors
from delineate.model import Model
from delineate.preprocessing import FloatImage, PreparedCase, prepare, prepared_shape
from delineate.settings import Settings
from delineate.volume import Volume
from delineate.workflow.engine_records import (
    EngineRecord,
    merged,
    read_agreements,
    read_engine_record,
    write_engine_record,
)
from delineate.workflow.engine_trials import WORTH_SECONDS, Bench, measure, spread_windows
from delineate.workflow.progress import Watch, nobody

_CALIBRATION = 8


@dataclass(frozen=True, slots=True)
class EngineWish:
    """What is asked for, None for what is best. `scans`: how many will be segmented. `folder`: of the model, where the
    agreement is noted if it can be written to."""

    engine: str | None = None
    precision: str | None = None
    scans: int = 1
    folder: Path | None = None

    @property
    def is_open(self) -> bool:
        return self.engine is None or self.precision is None


@dataclass(frozen=True, slots=True)
class EngineReport:
    """Why an engine was chosen. `trials`: all that is known of engines on this machine; `measured`: some of it now."""

    reason: str
    trials: tuple[Trial, ...] = ()
    measured: bool = False


def check_wish(wish: EngineWish, settings: Settings) -> None:
    """Raises `ResourceError` if an engine is asked for that is not there, or a precision that nothing there has."""
    if wish.engine is not None:
        if wish.engine not in ENGINES:
            raise ResourceError("there is no such engine", expected=f"one of {', '.join(ENGINES)}", got=wish.engine)
        offered = PRECISIONS[wish.engine](settings.device)
        choice = EngineChoice(wish.engine, wish.precision or "float32", settings.device)
        check_precision(choice, offered)
    elif wish.precision is not None:
        there = {choice.precision for choice in candidates(settings.device, settings.threads)}
        if wish.precision not in there:
            raise ResourceError(
                f"no engine here computes in this precision on {settings.device}",
                expected=f"one of {', '.join(sorted(there))}",
                got=wish.precision,
                remedy="pip install 'delineate[fast]' brings OpenVINO.",
            )


def choose_engine(
    model: Model,
    scan: Volume | PreparedCase,
    settings: Settings,
    *,
    wish: EngineWish = EngineWish(),
    watch: Watch = nobody,
) -> tuple[EngineChoice, EngineReport]:
    """The engine that will be done first with the scans, without losing masks.

    What is remembered of this model on this machine is used; otherwise engines are tried on a few windows of the scan,
    for about a tenth of the time the scans will take, and at most a minute. Where there is too little to do for that,
    it is PyTorch. A precision asked for may lose masks; one that is chosen may not (`deciding.BAR`).
    Raises `ResourceError` if what is asked for is not there, and what `prepare` raises.
    """
    check_wish(wish, settings)
    choices = [choice for choice in candidates(settings.device, settings.threads) if _is_wished(choice, wish)]
    if len(choices) == 1:
        return choices[0], EngineReport("there is no other" if wish.is_open else "asked for")
    work = Work(model, scan, wish)
    record = read_engine_record(model, settings)
    if all(record.known(choice.engine, choice.precision) for choice in choices if choice.precision != "int8"):
        return decided(record.trials, choices, work)
    if work.is_little(record, settings):
        return _usual(choices, model), EngineReport("there is too little to do for measuring")
    record = merged(record, measure(work.bench(settings), choices, watch))
    write_engine_record(record, model, settings, folder=wish.folder)
    return decided(record.trials, choices, work, measured=True)


def open_runners(model: Model, choice: EngineChoice, scan: Volume | PreparedCase | None = None) -> Runners:
    """Every network of a model, run as the choice says. `scan`: what int8 is calibrated with.

    Raises what `open_stage_runners` raises.
    """
    if choice.precision != "int8" or scan is None:
        return open_stage_runners(model, choice)
    work = Work(model, scan, EngineWish())
    return open_stage_runners(model, choice, spread_windows(work.image(), model.plan, _CALIBRATION))


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What is to be done with a model: scans like the first one."""

    model: Model
    scan: Volume | PreparedCase
    wish: EngineWish

    @property
    def runs(self) -> int:
        """Of the model's own networks, as if scans held no air."""
        plan, scan = self.model.plan, self.scan
        grid = scan.grid if isinstance(scan, Volume) else scan.trace.original
        windows = layout(prepared_shape(grid, plan), plan).count
        return windows * len(list(mirrors(plan.tiling))) * len(self.model.folds) * self.wish.scans

    def is_little(self, record: EngineRecord, settings: Settings) -> bool:
        """Whether PyTorch in float32 will be done before another engine could be tried.

        What it will take is foreseen by counting operations if it was never measured; where that leaves a doubt, it is
        measured, which takes a few windows.
        """
        known = record.known("torch", "float32")
        if known is not None and not known.problem:
            return self.runs * known.window_seconds < WORTH_SECONDS
        network, threads = self.model.network(), settings.threads
        window = foreseen_seconds(network, self.model.plan, device=settings.device, threads=threads)
        return self.runs * window < WORTH_SECONDS / FORESEEN_WITHIN

    def image(self) -> FloatImage:
        """(C, I, J, K) as the network sees it; masks of a cascade's stage before, which only running it would give, are
        empty."""
        if isinstance(self.scan, PreparedCase):
            return self.scan.image
        alone = msgspec.structs.replace(self.model.plan, previous=())
        image = prepare("", self.scan, None, alone).image
        masks = np.zeros((len(self.model.plan.previous), *image.shape[1:]), dtype=np.float32)
        return np.concatenate([image, masks]) if len(masks) else image

    def bench(self, settings: Settings) -> Bench:
        return Bench(
            network=self.model.network(),
            plan=self.model.plan,
            image=self.image(),
            device=settings.device,
            threads=settings.threads,
            runs=self.runs,
            is_incomplete=bool(self.model.plan.previous) and isinstance(self.scan, Volume),
        )


def decided(
    trials: Sequence[Trial], choices: Sequence[EngineChoice], work: Work, *, measured: bool = False
) -> tuple[EngineChoice, EngineReport]:
    """The best of the choices. A precision that was asked for is not held against its masks."""
    known = _with_agreements(trials, work)
    by_key = {(choice.engine, choice.precision): choice for choice in choices}
    among = [trial for trial in known if trial.key in by_key]
    found = best(among, opened=len(work.model.folds), runs=work.runs, faithful=work.wish.precision is None)
    choice = _usual(choices, work.model) if found is None else by_key[found.key]
    return choice, EngineReport(_reason(found, known), tuple(known), measured)


def _with_agreements(trials: Sequence[Trial], work: Work) -> list[Trial]:
    """Trials with what the model's folder knows of whole scans, which outweighs windows."""
    noted = {} if work.wish.folder is None else read_agreements(work.wish.folder, work.model)
    whole = {name: agreement for name, agreement in noted.items() if agreement.whole}
    return [
        msgspec.structs.replace(trial, agreement=whole.get(" ".join(trial.key), trial.agreement)) for trial in trials
    ]


def _reason(found: Trial | None, trials: Sequence[Trial]) -> str:
    if found is None:
        return "no engine that was tried is fit"
    exact = next((trial for trial in trials if trial.key == ("torch", "float32")), None)
    if exact is None or found is exact or not found.window_seconds:
        return "the fastest that loses no masks"
    faster = f"{exact.window_seconds / found.window_seconds:.1f} times as fast as PyTorch in float32"
    loss = None if found.agreement is None else found.agreement.loss
    return faster if loss is None else f"{faster}, Dice with its masks at least {1 - loss:.4f}"


def _usual(choices: Sequence[EngineChoice], model: Model) -> EngineChoice:
    """What is used unmeasured: PyTorch, on the CPU in float32, on a GPU as the model was trained."""
    planned = model.plan.training.precision if choices[0].device != "cpu" else "float32"
    order = [("torch", planned), ("torch", "float32"), *((choice.engine, "float32") for choice in choices)]
    by_key = {(choice.engine, choice.precision): choice for choice in choices}
    return next((by_key[key] for key in order if key in by_key), choices[0])


def _is_wished(choice: EngineChoice, wish: EngineWish) -> bool:
    return wish.engine in (None, choice.engine) and wish.precision in (None, choice.precision)
