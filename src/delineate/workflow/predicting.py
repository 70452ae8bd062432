"""`delineate predict`: from scans on disk to segmentations in the scans' own grids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from delineate.errors import InputError
from delineate.files import check_writable, sweep
from delineate.formats.nifti import is_nifti_name
from delineate.inference import Locate, Progress
from delineate.inference.locating import check_locate
from delineate.inference.stages import check_stages
from delineate.model import Model
from delineate.postprocessing import Rule
from delineate.settings import Settings
from delineate.workflow.assembling import wishes_for
from delineate.workflow.batches import (
    Attempt,
    CaseReport,
    Hear,
    Phase,
    PredictionRun,
    nobody_hears,
    summary,
)
from delineate.workflow.casework import CaseWork, PredictionOptions, Task
from delineate.workflow.choosing import Scan, find_scans
from delineate.workflow.engines import EngineWish, check_wish
from delineate.workflow.exporting import check_kinds
from delineate.workflow.journal import Journal, cut_off, open_journal
from delineate.workflow.pipeline import Stages, run_pipeline
from delineate.workflow.preparing import use_threads
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.readying import Readying
from delineate.workflow.results import read_record, standing_variants, variant_folder
from delineate.workflow.scratch import scratch_of
from delineate.workflow.variants import NO_VARIANTS, Variants, variants_of

__all__ = ["PredictionOptions", "PredictionRun", "predict", "rules_for"]


def predict(
    model: Model,
    source: Path,
    output: Path,
    *,
    settings: Settings,
    options: PredictionOptions | None = None,
    watch: Watch = nobody,
) -> PredictionRun:
    """Segment every scan at `source` into the folder `output` (or, for one scan, the file of that name).

    A result of the same model, scan and options that is there is kept, so a batch that was stopped goes on where it
    stopped; what is to be exported and is not there is made of it. A case that fails is reported and the next one is
    done; one whose name is taken by something that is no result fails, unless `options.again` says to overwrite it.
    While one case is run, the next one is read and the last one written.
    """
    with stop_on_signals() as stop:
        batch = Batch(model, settings, options or PredictionOptions(), watch=watch, stopping=lambda: stop.asked)
        return batch.run(source, output)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`predict`, for whoever watches more closely. `attempt`: what others did of the batch; `hear`: told of every case
    that gets further, from any thread."""

    model: Model
    settings: Settings
    options: PredictionOptions
    watch: Watch = nobody
    stopping: Callable[[], bool] = lambda: False
    attempt: Attempt = field(default_factory=Attempt)
    hear: Hear = nobody_hears

    def run(self, source: Path, output: Path) -> PredictionRun:
        """Segment every scan at `source`; see `predict`."""
        use_threads(self.settings)
        self._check()
        plan, key = self.model.plan, self.options.key
        wishes = wishes_for(plan.channels, plan.kinds)
        may_lack = plan.augmentation.channel_dropout > 0
        chosen = find_scans(source, wishes, settings=self.settings, key=key, may_lack=may_lack, watch=self.watch)
        if chosen.stopped:
            return PredictionRun((), (), (), stopped=True)
        with_series = all(scan.assembly is not None for scan in chosen.scans)
        check_kinds(self.options.exports, self.model.labels, with_series=with_series)
        targets = _targets(chosen.scans, output)
        folder = targets[0].parent
        check_writable(folder)
        busy = self._cut_off(folder)
        for one in (folder, *map(variant_folder, targets)):
            sweep(one)
        with open_journal(folder) as journal:
            tally = _Tally(self.watch, self.hear, journal, [scan.id for scan in chosen.scans], dict(self.attempt.ended))
            self._run_cases(chosen.scans, targets, tally)
        return summary(tally.cases, tally.ended, problems=chosen.problems, busy=busy)

    def _check(self) -> None:
        """What can be refused before any scan is looked for."""
        check_wish(self._wish(1), self.settings)
        check_stages(self.model, with_probabilities=self.options.probabilities)
        self._variants()
        if self.options.locate is not None:
            check_locate(self.model, self.options.locate)

    def _variants(self) -> Variants:
        return variants_of(self.model) if self.options.variants else NO_VARIANTS

    def _cut_off(self, folder: Path) -> dict[str, Phase]:
        """What earlier runs were busy with when they were killed; those of this batch know it themselves."""
        found = {} if self.attempt.ended or self.attempt.alone else cut_off(folder)
        for case, phase in found.items():
            self.hear(CaseReport(case, phase, cut_off=True))
        return {**self.attempt.cut_off, **found}

    def _run_cases(self, scans: Sequence[Scan], targets: Sequence[Path], tally: _Tally) -> None:
        tasks = []
        for scan, target in zip(scans, targets, strict=True):
            if scan.id not in tally.ended:
                task = self._task(scan, target, tally)
                tasks += [] if task is None else [task]
        work = CaseWork(
            model=self.model,
            options=self.options,
            memory_bytes=self.settings.memory_bytes,
            scratch=scratch_of(self.settings),
            ready=Readying(self.model, self.settings, self._wish(len(tasks)), self.options.locate, self.watch),
            hear=tally.note,
            progress=tally.progress,
            variants=self._variants(),
            prepares_ahead=self.settings.device != "cpu" and self.options.locate is None,
        )
        stages = Stages(work.read, work.run, work.write)
        alone = self.attempt.alone
        for outcome in run_pipeline(
            tasks,
            stages,
            alone=lambda task: task.scan.id in alone,
            beside=work.beside,
            stopping=self.stopping,
        ):
            task, error = outcome.item, outcome.error
            if error is not None:
                tally.end(CaseReport(task.scan.id, Phase.FAILED, error=error))
            else:
                phase = Phase.KEPT if task.is_done else Phase.WRITTEN
                tally.end(CaseReport(task.scan.id, phase, task.target, warnings=outcome.kept or ()))

    def _wish(self, scans: int) -> EngineWish:
        options = self.options
        return EngineWish(options.engine, options.precision, scans=scans, folder=options.model_folder)

    def _task(self, scan: Scan, target: Path, tally: _Tally) -> Task | None:
        """What is to be done; nothing where nothing is left to do, or the name is taken: that is a case's end."""
        task = Task(scan, target, recipe_of(self.model, scan, self.options))
        try:
            done = _is_done(task, again=self.options.again, variants=self._variants().names)
        except InputError as error:
            tally.end(CaseReport(scan.id, Phase.FAILED, error=error.in_case(scan.id)))
            return None
        if done and not self.options.exports:
            tally.end(CaseReport(scan.id, Phase.KEPT, target))
            return None
        return replace(task, is_done=done)


@dataclass(slots=True, eq=False)
class _Tally:
    """How far the cases are. `ended`: the end of each that came to one; `total` and places are of all `cases`."""

    watch: Watch
    hear: Hear
    journal: Journal
    cases: Sequence[str]
    ended: dict[str, CaseReport]
    _shown: float = 0.0

    def note(self, report: CaseReport) -> None:
        self.journal.note(report.case, report.phase)
        self.hear(report)

    def progress(self, case: str) -> Progress:
        before = self.cases.index(case)
        return lambda share: self._show(before + 0.98 * share, case)

    def end(self, report: CaseReport) -> None:
        self.ended[report.case] = report
        self.note(report)
        self._show(len(self.ended), report.case)

    def _show(self, done: float, case: str) -> None:
        # The end of one case may be told when the next one is half done.
        self._shown = max(self._shown, done)
        self.watch("Segmenting", self._shown, len(self.cases), case)


def rules_for(model: Model, *, largest: Sequence[str] = (), smallest_ml: float = 0.0) -> tuple[Rule, ...]:
    """Rules asked for at prediction. Raises `LabelError` for a structure the model does not have."""
    for name in largest:
        model.labels.named(name)
    names = model.labels.names if smallest_ml > 0 else largest
    return tuple(Rule(label=name, largest_only=name in largest, smallest_ml=smallest_ml) for name in names)


def recipe_of(model: Model, scan: Scan, options: PredictionOptions) -> str:
    """Stands for everything that decides what a result is. What is left to the machine (engines) does not count."""
    key = None if options.key is None else options.key.fingerprint
    parts: list[object] = [model.digest, scan.recipe, options.rules, key]
    if options.engine or options.precision or options.locate or not options.skip_air:
        parts += [options.engine, options.precision, options.skip_air, _look(options.locate)]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _look(locate: Locate | None) -> list[object] | None:
    if locate is None:
        return None
    look = None if locate.model is None else locate.model.digest
    return [look, locate.structures, locate.around, locate.margin_mm]


def _is_done(task: Task, *, again: bool, variants: Collection[str]) -> bool:
    """Whether the result is there already, with all variants that are wanted. Raises `InputError` for a file of the
    name that is no result."""
    if again or not task.target.exists():
        return False
    record = read_record(task.target)
    if record is None:
        raise InputError(
            "the name of the result is taken by something that is no result",
            path=task.target,
            remedy="Choose another folder, or write over it (--again).",
        )
    if record.recipe != task.recipe:
        return False
    return standing_variants(task.target, record).names.issuperset(variants)


def _targets(scans: Sequence[Scan], output: Path) -> list[Path]:
    if is_nifti_name(output):
        if len(scans) > 1:
            raise InputError(
                "several scans cannot go into one file", expected="a folder", got=output.name, remedy="Name a folder."
            )
        return [output]
    return [output / f"{scan.id}.nii.gz" for scan in scans]
