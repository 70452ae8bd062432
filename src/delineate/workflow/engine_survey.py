"""`delineate engines`: what runs a model on this machine, how fast, and whether it finds the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from delineate.engines import EngineChoice
from delineate.engines.candidates import absent, candidates
from delineate.engines.deciding import Agreement, Tally, Trial
from delineate.errors import DelineateError, InputError
from delineate.inference import segment
from delineate.labels import LabelSet
from delineate.model import Model
from delineate.settings import Settings
from delineate.volume import Segmentation, Volume
from delineate.workflow.assembling import wishes_for
from delineate.workflow.choosing import absent_channels, find_scans
from delineate.workflow.engine_records import merged, read_engine_record, write_engine_record
from delineate.workflow.engine_trials import measure
from delineate.workflow.engines import EngineWish, Work, decided, open_runners
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.scratch import scratch_of

_BATCH = 100
"""Scans of the batch for which the best engine is named: opening an engine takes as long as some small scans."""


@dataclass(frozen=True, slots=True)
class EngineSurvey:
    """All trials known on this machine, what is used by itself for a batch of scans, and why engines are not there."""

    trials: tuple[Trial, ...]
    chosen: EngineChoice | None
    reason: str
    absent: dict[str, str]


def survey_scan(model: Model, source: Path, settings: Settings) -> Volume:
    """The scan at a path, or the first of several. Raises `InputError` if there is none that the model takes."""
    found = find_scans(source, wishes_for(model.plan.channels, model.plan.kinds), settings=settings)
    if found.stopped:
        raise KeyboardInterrupt
    absent = absent_channels(found.scans[0], model.plan.channels)
    return found.scans[0].read(model.plan.kinds, scratch_of(settings), absent=absent)


def known_engines(model: Model, settings: Settings) -> EngineSurvey:
    """What was measured of a model on this machine before."""
    trials = read_engine_record(model, settings).trials
    tried = {trial.key for trial in trials}
    untried = tuple(
        Trial(engine=choice.engine, precision=choice.precision)
        for choice in candidates(settings.device, settings.threads)
        if (choice.engine, choice.precision) not in tried
    )
    return EngineSurvey((*trials, *untried), None, "", absent(settings.device))


def survey_engines(
    model: Model, volume: Volume, settings: Settings, *, folder: Path | None, masks: bool = True, watch: Watch = nobody
) -> EngineSurvey:
    """Try every engine on a scan, and remember it. `masks`: compare the whole scan's masks; windows otherwise.

    `folder`: of the model, where the agreement is noted. Raises what `segment` raises in float32 with PyTorch.
    """
    choices = candidates(settings.device, settings.threads)
    work = Work(model, volume, EngineWish(scans=_BATCH, folder=folder))
    trials: Sequence[Trial] = measure(work.bench(settings), choices, watch, thorough=True)
    if masks:
        trials = _with_whole_masks(model, volume, choices, trials, watch)
    record = merged(read_engine_record(model, settings), trials)
    write_engine_record(record, model, settings, folder=folder)
    choice, report = decided(record.trials, choices, work)
    return EngineSurvey(report.trials, choice, report.reason, absent(settings.device))


def _with_whole_masks(
    model: Model, volume: Volume, choices: Sequence[EngineChoice], trials: Sequence[Trial], watch: Watch
) -> list[Trial]:
    by_key = {(choice.engine, choice.precision): choice for choice in choices}
    working = [trial for trial in trials if not trial.problem and trial.key in by_key]
    working.sort(key=lambda trial: trial.key != ("torch", "float32"))
    reference, found = None, {trial.key: trial for trial in trials}
    for place, trial in enumerate(working):
        name = " ".join(trial.key)

        def progress(share: float, place: int = place, name: str = name) -> None:
            watch("Comparing masks", place + share, len(working), name)

        try:
            runners = open_runners(model, by_key[trial.key], volume)
            result = segment(model, volume, runners=runners, progress=progress).segmentation
        except (DelineateError, RuntimeError) as error:
            if reference is None:
                raise
            found[trial.key] = msgspec.structs.replace(trial, problem=str(error).splitlines()[0])
            continue
        reference = reference or result
        found[trial.key] = msgspec.structs.replace(trial, agreement=agreement_of(reference, result))
    return list(found.values())


def agreement_of(reference: Segmentation, found: Segmentation) -> Agreement:
    """How far one segmentation is from another of the same scan.

    Raises `InputError` if they are of different labels.
    """
    labels: LabelSet = reference.labels
    if labels != found.labels or reference.array.shape != found.array.shape:
        raise InputError("segmentations of different labels or scans cannot be compared")
    tally = Tally(labels.names)
    if labels.overlaps:
        tally.add_masks(reference.array, found.array)
    else:
        places = np.zeros(max(labels.values, default=0) + 1, dtype=np.int64)
        places[list(labels.values)] = range(1, len(labels) + 1)
        tally.add_labels(places[reference.array], places[found.array])
    return tally.agreement(whole=True)
