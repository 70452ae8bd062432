"""A model made ready for a batch: its networks opened once, and what a scan will take foreseen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from delineate.engines import EngineChoice, Runner
from delineate.errors import ResourceError
from delineate.inference import InferenceOptions, Locate, Runners
from delineate.inference.foreseeing import foresee
from delineate.inference.memory import process_bytes
from delineate.model import Model
from delineate.settings import Settings
from delineate.volume import Volume
from delineate.workflow.clock import Clock
from delineate.workflow.engines import EngineWish, choose_engine, open_runners
from delineate.workflow.progress import Watch, nobody


@dataclass(frozen=True, slots=True, eq=False)
class ReadyModel:
    """A model's runners and those of the model that looks first, if another one does. `reason`: for the engine."""

    model: Model
    runners: Runners
    locate: Locate | None
    reason: str

    @property
    def engine(self) -> str:
        """What runs it and why, in words."""
        return f"{self.choice} ({self.reason})"

    @property
    def choice(self) -> EngineChoice:
        return self.runners.folds[0].choice


@dataclass(slots=True, eq=False)
class Readying:
    """Makes a model ready when the first scan is there, because which engine is best is measured on it."""

    model: Model
    settings: Settings
    wish: EngineWish
    locate: Locate | None = None
    watch: Watch = nobody
    _made: ReadyModel | None = None

    def __call__(self, scan: Volume) -> ReadyModel:
        """The same for every scan. Raises what `choose_engine` and `open_runners` raise."""
        if self._made is None:
            choice, report = choose_engine(self.model, scan, self.settings, wish=self.wish, watch=self.watch)
            runners, locate = open_runners(self.model, choice, scan), self.locate
            if locate is not None and locate.model is not None and locate.runners is None:
                # What int8 would be calibrated with are windows of the other model.
                other = replace(choice, precision="float32") if choice.precision == "int8" else choice
                locate = replace(locate, runners=open_runners(locate.model, other))
            self._made = ReadyModel(self.model, runners, locate, report.reason)
        return self._made


def foreseen_bytes(ready: ReadyModel, volume: Volume, options: InferenceOptions) -> int | None:
    """About how much memory the process will take to segment a scan that was read, as if all of it were foreground.

    None if it will not fit unless there is enough air around the patient: then only preparing it can tell.
    """
    try:
        return foresee(ready.model, volume.grid, ready.choice, options=options, held_bytes=process_bytes()).total
    except ResourceError:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    """A runner that is timed."""

    runner: Runner
    clock: Clock

    @property
    def choice(self) -> EngineChoice:
        return self.runner.choice

    def __call__(self, windows: Tensor) -> Tensor:
        with self.clock.timing("network"):
            return self.runner(windows)


def timed(runners: Runners, clock: Clock) -> Runners:
    """The same runners; the seconds they take are added up as "network" on the clock of the case."""
    stages = {name: timed(stage, clock) for name, stage in runners.stages.items()}
    return Runners(tuple(_Timed(runner, clock) for runner in runners.folds), stages)
