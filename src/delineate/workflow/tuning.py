"""`delineate tune`: search for a plan that trains to a better model, in several processes, on several machines.

Whoever runs it on the same folder joins in. What a killed process was busy with is gone on with by another, and the
same command goes on where all were stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from delineate.dataset import Dataset
from delineate.errors import InputError, ResourceError
from delineate.executors.cluster import Cluster, run_on_cluster
from delineate.executors.supervised import Death, Tell, run_apart
from delineate.planning import Plan, PlanOptions
from delineate.settings import Settings
from delineate.workflow.experiment_cluster import everywhere
from delineate.workflow.preparing import prepare_cases, use_threads
from delineate.workflow.progress import StopRequest, Watch, nobody, stop_on_signals
from delineate.workflow.training import divide
from delineate.workflow.tuning_confirming import confirm_one, is_confirming
from delineate.workflow.tuning_folder import Search, SearchOptions, TuningFolder, agree
from delineate.workflow.tuning_results import TuningResult, write_results
from delineate.workflow.tuning_study import grid_size, open_book
from delineate.workflow.tuning_trials import Workplace, best_of, discard_weights, run_trial

__all__ = ["Effort", "SearchOptions", "TuningResult", "tune"]

_POLL_SECONDS = 0.5
_WRITE_SECONDS = 60.0  # between two times that the results so far are written
_PREPARED = ("a_min", "a_max", "low_percentile", "high_percentile")  # what changes how cases are prepared
_TRIALS, _AGAIN = _OF_ALL = ("Trials", "Begun again")  # what is told of all processes together
_MOST_DEATHS = 5  # of one process's work before it is not begun again


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done. `trials`: all together, the plan as it is among them; `minutes`: none is begun that would
    likely end later, counted from this call. One of them at least, but for a grid, which ends by itself.

    `processes`: of this call, which share its threads and memory. `confirm`: how often winner and default are trained
    again. `keep_weights`: also those of the trials that lost.
    """

    trials: int | None = None
    minutes: float | None = None
    processes: int = 1
    confirm: int = 1
    keep_weights: bool = False

    def __post_init__(self) -> None:
        given = [value for value in (self.trials, self.minutes) if value is not None]
        if any(value <= 0 for value in given) or self.processes < 1 or self.confirm < 0:
            raise InputError("an effort is positive", expected="--trials, --minutes and --processes above 0", got=self)


def tune(
    dataset: Dataset,
    folder: Path,
    *,
    options: SearchOptions,
    effort: Effort,
    settings: Settings,
    plan: Plan | PlanOptions | None = None,
    cluster: Cluster | None = None,
    watch: Watch = nobody,
) -> TuningResult:
    """Search for a better plan, or join in the search that `folder` holds, or go on with it.

    Trial 0 is the plan as it is. The result says whether all was done; if not, it was stopped. `cluster`: where the
    effort's processes run, each with the settings' threads and memory, instead of here.
    Raises `InputError` for an effort without an end, or where the folder holds another search; `ResourceError` without
    Optuna.
    """
    if effort.trials is None and effort.minutes is None and options.sampler != "grid":
        raise InputError("the search has no end", expected="--trials or --minutes", remedy="Give one of them.")
    deadline = None if effort.minutes is None else time.time() + 60 * effort.minutes
    shared = settings if cluster is not None else _share(settings, effort.processes)
    place = TuningFolder(folder)
    search, base = agree(dataset, place, options=options, settings=shared, plan=plan, watch=watch)
    job = _Job(dataset, place, search, base, effort, shared, deadline)
    if cluster is not None:
        finished = _work_on(cluster, job, watch)
    elif effort.processes == 1:
        with stop_on_signals() as stop:
            finished = _work(job, watch, stop)
    else:
        finished = _work_apart(job, watch)
    return write_results(job.place(watch), repeats=effort.confirm, finished=finished)


@dataclass(frozen=True, slots=True)
class _Job:
    """What one process is told to do."""

    dataset: Dataset
    folder: TuningFolder
    search: Search
    plan: Plan
    effort: Effort
    settings: Settings
    deadline: float | None

    def place(self, watch: Watch) -> Workplace:
        return Workplace(open_book(self.search, self.plan, self.folder), self.dataset, self.settings, watch)


def _share(settings: Settings, processes: int) -> Settings:
    if processes == 1:
        return settings
    threads = max(1, settings.threads // processes)
    return replace(settings, threads=threads, memory_bytes=settings.memory_bytes // processes)


def _work(job: _Job, watch: Watch, stop: StopRequest) -> bool:
    """Carry out trials until there are none left, then confirm; False if it was stopped before."""
    at = job.place(watch)
    _prepare(job, watch)
    written = -_WRITE_SECONDS
    while not stop.asked:
        late = _is_late(job, at)
        if not late:
            _queue(job, at)
        records = at.book.records()
        done = sum(record.is_finished for record in records)
        watch(_TRIALS, done, max(job.effort.trials or 0, len(records)), _best_words(at))
        if late:
            if not at.book.is_busy:
                return _confirm(job, at, stop)
            time.sleep(_POLL_SECONDS)
            continue
        with at.book.take() as held:
            if held is None:
                if not at.book.is_busy and not _is_open(at):
                    return _confirm(job, at, stop)
                time.sleep(_POLL_SECONDS)
                continue
            if run_trial(held, at) == "stopped":
                return False
        if not job.effort.keep_weights:
            discard_weights(at.book.records(), at)
        if time.monotonic() - written > _WRITE_SECONDS:
            write_results(at, repeats=job.effort.confirm, finished=False)
            written = time.monotonic()
    return False


def _confirm(job: _Job, at: Workplace, stop: StopRequest) -> bool:
    best, repeats = best_of(at.book.records()), job.effort.confirm
    while best is not None and not stop.asked:
        ending = confirm_one(best, repeats, at)
        if ending == "stopped":
            return False
        if ending is None:
            if not is_confirming(best, repeats, at):
                return True
            time.sleep(_POLL_SECONDS)
    return not stop.asked


def _queue(job: _Job, at: Workplace) -> None:
    trials = job.effort.trials
    if trials is None:
        trials = grid_size(job.search, job.plan)
    at.book.queue(trials)


def _is_open(at: Workplace) -> bool:
    return any(not record.is_finished for record in at.book.records())


def _is_late(job: _Job, at: Workplace) -> bool:
    """Whether a trial that began now would likely end after the deadline."""
    if job.deadline is None:
        return False
    took = [record.told.seconds for record in at.book.records() if record.state == "complete"]
    return time.time() + (statistics.median(took) if took else 0.0) > job.deadline


def _best_words(at: Workplace) -> str:
    best = best_of(at.book.records())
    return "" if best is None else f"best Dice {best.dice:.3f}, trial {best.slot}"


def _prepare(job: _Job, watch: Watch) -> None:
    """Prepare the cases, where all trials prepare alike; each process begins elsewhere, so that they share the work."""
    if any(dimension.name in _PREPARED for dimension in job.search.space):
        return
    use_threads(job.settings)
    split = divide(job.dataset, job.search.division(job.search.fold[0]))
    cases = [job.dataset.case(case) for case in (*split.training, *split.validation)]
    first = os.getpid() % len(cases)
    prepare_cases([*cases[first:], *cases[:first]], job.dataset.labels, job.plan, job.settings, watch=watch)


def _work_on(cluster: Cluster, job: _Job, watch: Watch) -> bool:
    """The work in processes on a cluster; False if they were stopped before."""
    settings = replace(job.settings, cache=job.settings.cache.absolute())
    if cluster.gpus:
        settings = replace(settings, device="cuda")
    folder = TuningFolder(job.folder.path.absolute())
    there = replace(job, dataset=everywhere(job.dataset), folder=folder, settings=settings)
    pieces = {f"process {number}": partial(_serve_there, there) for number in range(1, job.effort.processes + 1)}
    at = job.place(watch)

    def look(ended: int) -> None:
        records = at.book.records()
        done = sum(record.is_finished for record in records)
        watch(_TRIALS, done, max(job.effort.trials or 0, len(records)), _best_words(at))

    with stop_on_signals() as stop:
        found = run_on_cluster(cluster, pieces, watch=look, stopping=lambda: stop.asked)
    return len(found) == len(pieces) and all(found.values())


def _serve_there(job: _Job) -> bool:
    with stop_on_signals() as stop:
        return _work(job, nobody, stop)


def _work_apart(job: _Job, watch: Watch) -> bool:
    """The work in processes of their own; one that is killed is begun again. False if they were stopped before."""
    lock, count = threading.Lock(), job.effort.processes
    failed = threading.Event()

    def hear(number: int, message: object) -> None:
        assert isinstance(message, tuple)
        stage, done, total, note = message
        with lock:
            if stage in _OF_ALL:
                watch(stage, done, total, note)
            else:
                watch(f"Process {number}", done, total, f"{stage}, {note}" if note else stage)

    def supervise(number: int) -> bool:
        try:
            return _supervise(job, number, hear=partial(hear, number), stopping=lambda: stop.asked or failed.is_set())
        except BaseException:
            failed.set()
            raise

    with stop_on_signals() as stop, ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(supervise, number) for number in range(1, count + 1)]
        try:
            while not all(future.done() for future in futures):
                time.sleep(0.1)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()
            raise
    results = [future.result() for future in futures]  # all of them: the first error is raised
    return all(results)


def _supervise(job: _Job, number: int, *, hear: Tell, stopping: Callable[[], bool]) -> bool:
    cause = ""
    for deaths in range(1, _MOST_DEATHS + 1):
        outcome = run_apart(partial(_serve, job), hear=hear, stopping=stopping)
        if not isinstance(outcome, Death):
            return bool(outcome)
        cause = outcome.cause
        hear((_AGAIN, deaths, deaths, f"process {number} {cause}"))
        if stopping():
            return False
    raise ResourceError(
        f"process {number} died {_MOST_DEATHS} times",
        got=f"the last one {cause}",
        remedy="Run fewer --processes, or with a smaller --memory-gb.",
    )


def _serve(job: _Job, tell: Tell, asked: threading.Event) -> bool:
    """The work of one process of several."""
    # Keys of the terminal are for the process that was called; it says when to stop.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    with stop_on_signals() as stop:
        threading.Thread(target=_obey, args=(asked,), daemon=True).start()
        return _work(job, lambda *progress: tell(progress), stop)


def _obey(asked: threading.Event) -> None:
    asked.wait()
    os.kill(os.getpid(), signal.SIGTERM)  # a training listens to nothing else
