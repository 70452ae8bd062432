"""What is asked of a batch of scans and what is said of it, light enough for the process that only watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from delineate.errors import DelineateError

OWN_LOOK = "own"


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that could not be done, and why."""

    case: str
    error: DelineateError


class Phase(Enum):
    """Where a case is on its way; the values complete "it was ...". The last three are ends."""

    READING = "being read"
    SEGMENTING = "being segmented"
    WRITING = "being written"
    WRITTEN = "written"
    KEPT = "there already"
    FAILED = "not done"

    @property
    def is_end(self) -> bool:
        return self in (Phase.WRITTEN, Phase.KEPT, Phase.FAILED)


@dataclass(frozen=True, slots=True)
class Needs:
    """What segmenting a case takes: the engine, in words, and an estimate of the memory, if there is one."""

    engine: str
    needed_bytes: int | None
    memory_bytes: int

    @property
    def memory(self) -> str | None:
        if self.needed_bytes is None:
            return None
        return f"about {self.needed_bytes / 1e9:.1f} GB of {self.memory_bytes / 1e9:.1f} GB"

    def __str__(self) -> str:
        return self.engine if self.memory is None else f"{self.engine}; needs {self.memory}"


@dataclass(frozen=True, slots=True)
class CaseReport:
    """A case reached a phase. `path`: of its result; `warnings`: sentences for people; `needs`: known when the network
    is to be run. `cut_off`: an earlier run was killed in this phase of the case."""

    case: str
    phase: Phase
    path: Path | None = None
    error: DelineateError | None = None
    warnings: tuple[str, ...] = ()
    needs: Needs | None = None
    cut_off: bool = False


Hear = Callable[[CaseReport], None]


def nobody_hears(report: CaseReport) -> None:
    """A listener that looks away."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What this process is to do of a batch that others began. `ended`: cases that came to their end, not to be done
    again; `alone`: cases beside which nothing else is to be done, because one of them ended a process; `cut_off`: what
    runs before this batch were busy with when they were killed."""

    ended: Mapping[str, CaseReport] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    cut_off: Mapping[str, Phase] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictionRun:
    """What became of a batch: segmentations written now, those that were there already, failures, and what could not be
    read on the way.

    `warnings`: doubts about results, naming their case; `cut_off`: what earlier runs were doing when they were killed.
    """

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    failures: tuple[Failure, ...]
    problems: tuple[str, ...] = ()
    stopped: bool = False
    warnings: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """`delineate predict` in words that another process understands: the options of the command line.

    `as_nnunet`: the masks that nnU-Net itself would give, see `Tiling.sums`; by PyTorch in float32, with all windows,
    where nothing else is asked for. `locate`: the folder of a model that looks first, or `OWN_LOOK` for the model's own
    first stage; `structures`, `around`, `margin_mm`: see `inference.Locate`.
    """

    model: Path
    source: Path
    output: Path
    device: str = "auto"
    threads: int | None = None
    memory_gb: float | None = None
    cache: Path | None = None
    overlap: float | None = None
    mirror: bool | None = None
    as_nnunet: bool = False
    engine: str | None = None
    precision: str | None = None
    skip_air: bool = True
    locate: str | None = None
    structures: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    margin_mm: float | None = None
    probabilities: bool = False
    variants: bool = False
    figures: bool = False
    references: Path | None = None
    largest: tuple[str, ...] = ()
    smallest_ml: float = 0.0
    exports: tuple[str, ...] = ()
    key_file: Path | None = None
    again: bool = False


def summary(
    cases: Iterable[str],
    ended: Mapping[str, CaseReport],
    *,
    problems: Sequence[str] = (),
    busy: Mapping[str, Phase],
) -> PredictionRun:
    """What became of the cases, in their order. `busy`: what was cut off in earlier runs."""
    every = tuple(cases)
    ends = [ended[case] for case in every if case in ended]
    return PredictionRun(
        written=tuple(end.path for end in ends if end.phase is Phase.WRITTEN and end.path is not None),
        kept=tuple(end.path for end in ends if end.phase is Phase.KEPT and end.path is not None),
        failures=tuple(Failure(end.case, end.error) for end in ends if end.error is not None),
        problems=tuple(problems),
        stopped=len(ends) < len(every),
        warnings=tuple(f"{end.case}: {warning}" for end in ends for warning in end.warnings),
        cut_off=tuple(f"{case} was {phase.value} when the last run was cut off" for case, phase in busy.items()),
    )
