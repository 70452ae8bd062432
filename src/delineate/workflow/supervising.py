"""`delineate predict` in a process of its own: a case that kills it is named, and the batch goes on without it.

This side loads no model and no framework; it shows how far the other one is, and starts it again after a death.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import partial

from delineate.errors import ResourceError
from delineate.executors.supervised import Death, Tell, run_apart
from delineate.files import sweep
from delineate.workflow.batches import (
    Attempt,
    CaseReport,
    Hear,
    Phase,
    PredictionRequest,
    PredictionRun,
    nobody_hears,
    summary,
)
from delineate.workflow.progress import Watch, nobody, stop_on_signals


def predict_apart(request: PredictionRequest, *, watch: Watch = nobody, hear: Hear = nobody_hears) -> PredictionRun:
    """`run_request` in another process, started again should it die.

    Whatever was being done then is done again, one case at a time; a case that ends a process when it is alone has
    failed. Raises `ResourceError` if the process dies before any case, and what `run_request` raises.
    """
    with stop_on_signals() as stop:
        attempt = Attempt()
        while True:
            log = _Log(watch, hear, dict(attempt.ended), cut_off=dict(attempt.cut_off))
            work = partial(_work, request=request, attempt=attempt)
            try:
                outcome = run_apart(work, hear=log.hear, stopping=lambda: stop.asked)
            except KeyboardInterrupt:
                sweep(request.output if request.output.is_dir() else request.output.parent)
                raise
            if isinstance(outcome, PredictionRun):
                return outcome
            assert isinstance(outcome, Death)
            if stop.asked:
                return replace(summary(log.ended, log.ended, busy=log.cut_off), stopped=True)
            attempt = after(outcome, log, attempt)


def predict_here(request: PredictionRequest, *, watch: Watch = nobody, hear: Hear = nobody_hears) -> PredictionRun:
    """`run_request` in this process, until it is asked to stop."""
    from delineate.workflow.requests import run_request

    with stop_on_signals() as stop:
        return run_request(request, watch=watch, hear=hear, stopping=lambda: stop.asked)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a watch was told."""

    words: tuple[str, float, float, str]


@dataclass(slots=True, eq=False)
class _Log:
    """What this process was told of the other one. `busy`: the phase that each case that did not end had reached."""

    watch: Watch
    report: Hear
    ended: dict[str, CaseReport]
    busy: dict[str, CaseReport] = field(default_factory=dict)
    cut_off: dict[str, Phase] = field(default_factory=dict)

    def hear(self, message: object) -> None:
        if isinstance(message, _Shown):
            self.watch(*message.words)
            return
        assert isinstance(message, CaseReport)
        if message.cut_off:
            self.cut_off[message.case] = message.phase
        elif message.phase.is_end:
            self.ended[message.case] = message
            self.busy.pop(message.case, None)
        else:
            self.busy[message.case] = message
        self.report(message)


def after(death: Death, log: _Log, attempt: Attempt) -> Attempt:
    """What is left to do after a death. Raises `ResourceError` if no case was being done."""
    if not log.busy:
        raise ResourceError(
            f"the process that segments {death.cause} before any case was begun",
            remedy="Free some memory, or try another --engine.",
        )
    if len(log.busy) > 1:
        return Attempt(log.ended, attempt.alone | log.busy.keys(), log.cut_off)
    ((case, last),) = log.busy.items()
    error = ResourceError(
        f"the process that segments {death.cause}, while this case was {last.phase.value}",
        case=case,
        expected=None if last.needs is None or last.needs.memory is None else f"it to need {last.needs.memory}",
        remedy="Free some memory, use fewer --threads, or check the scan's files.",
    )
    failed = CaseReport(case, Phase.FAILED, error=error)
    log.report(failed)
    return Attempt({**log.ended, case: failed}, attempt.alone, log.cut_off)


def _work(tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt) -> PredictionRun:
    """The other process."""
    from delineate.workflow.requests import run_request

    def watch(stage: str, done: float, total: float, note: str) -> None:
        tell(_Shown((stage, done, total, note)))

    return run_request(request, watch=watch, hear=tell, stopping=stop.is_set, attempt=attempt)
