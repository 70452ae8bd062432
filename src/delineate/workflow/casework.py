"""One case on its way: read, segmented, written with everything that is wanted beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from delineate.engines import EngineChoice
from delineate.errors import DelineateError, ResourceError
from delineate.files import check_space, write_bytes
from delineate.findings import volumes_ml
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.exporters import ExportOptions
from delineate.inference import InferenceOptions, Locate, Prediction, Progress, apply_rules_to, prepare_scan, segment
from delineate.inference.extents import all_network_voxels
from delineate.inference.parts import Scan as PreparedScan
from delineate.inference.stages import shared
from delineate.labels import LabelSet
from delineate.model import Model
from delineate.postprocessing import Rule
from delineate.preprocessing import check_absent, doubts
from delineate.reports.figures import comparison_figure
from delineate.volume import Segmentation, Source, Volume, align
from delineate.workflow.batches import CaseReport, Hear, Needs, Phase
from delineate.workflow.choosing import Scan, absent_channels
from delineate.workflow.clock import Clock, forget_peak, peak_bytes
from delineate.workflow.exporting import export, files_of
from delineate.workflow.proofs import standing_proofs
from delineate.workflow.readying import ReadyModel, foreseen_bytes, timed
from delineate.workflow.results import (
    ResultRecord,
    beside,
    read_record,
    read_result,
    remove_variants,
    variant_path,
)
from delineate.workflow.scratch import Scratch
from delineate.workflow.variants import NO_VARIANTS, Variants
from delineate.workflow.writing import find_reference, pseudonymous_uid, write_map, write_probabilities

_PREPARED = 3  # times a scan's voxels: it and its float32 image, of about as many voxels
_STAGES = (
    "read",
    "prepare",
    "engine",
    "variants",
    "segment",
    "export",
    "write",
)  # one after the other; "network" is part of one
_PACKED_MAP, _PACKED_FLOATS = 0.01, 0.1  # of the voxels' bytes: less than any that were measured
_NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """How scans are segmented, and what is wanted beside the label maps.

    `engine`, `precision`: None for those that are best on this machine. `locate`: run only where a first look finds
    something. `skip_air`: leave out windows of air where that is known to be harmless. `variants`: see
    `variants.variants_of`. `references`: a folder with
    label maps to draw beside the predictions; `exports`: formats, see `exporting.export`. `key`: results are of the
    pseudonymous patient. `model_folder`: where engines' agreement is noted, if it can be.
    """

    engine: str | None = None
    precision: str | None = None
    locate: Locate | None = None
    skip_air: bool = True
    probabilities: bool = False
    variants: bool = False
    figures: bool = False
    references: Path | None = None
    rules: tuple[Rule, ...] = ()
    again: bool = False
    exports: tuple[str, ...] = ()
    key: PseudonymKey | None = None
    model_folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A scan, where its result goes, and what the result is made of. `is_done`: it is there, but for some export."""

    scan: Scan
    target: Path
    recipe: str
    is_done: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What was read: the scan, `ahead` if it was prepared as well, or of a task that is done its result."""

    volume: Volume | None
    result: Segmentation | None
    ahead: PreparedScan | None = None
    doubts: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What was found in a scan, to be written. `volume`: the scan, where a figure of it is wanted. `memory`: the bytes
    that were foreseen and that were used."""

    prediction: Prediction
    source: Source
    volume: Volume | None
    doubts: tuple[str, ...]
    choice: EngineChoice
    memory: tuple[int | None, int | None]
    clock: Clock


@dataclass(frozen=True, slots=True, eq=False)
class CaseWork:
    """The stages of a case, for a pipeline. `ready`: the model, made ready when the first scan is there; `hear`: told
    which case reaches which phase; `progress`: how far the case is. `prepares_ahead`: the next scan is prepared while
    one is run, which pays where the network does not take the CPU."""

    model: Model
    options: PredictionOptions
    memory_bytes: int
    scratch: Scratch
    ready: Callable[[Volume], ReadyModel]
    hear: Hear
    progress: Callable[[str], Progress]
    variants: Variants = NO_VARIANTS
    prepares_ahead: bool = False

    def read(self, task: Task) -> Material:
        """The scan; of a result that is there already, the result."""
        self.hear(CaseReport(task.scan.id, Phase.READING))
        clock = Clock()
        with in_case(task.scan.id):
            with clock.timing("read"):
                if task.is_done:
                    return Material(None, self._standing(task), clock=clock)
                plan = self.model.plan
                absent = absent_channels(task.scan, plan.channels)
                check_absent(absent, plan, path=task.scan.paths[0].parent)
                volume = task.scan.read(plan.kinds, self.scratch, absent=absent)
                self._check_space(task, volume)
                doubtful = doubts(volume, self.model.plan)
            with clock.timing("prepare"):
                ahead = prepare_scan(self.model, volume, self._inference(None)) if self.prepares_ahead else None
            return Material(volume, None, ahead, doubtful, clock)

    def beside(self, task: Task, material: Material, following: Task) -> bool:
        """Whether there is memory for the next scan while this one is run."""
        needed = self._foresee(task, material)
        return needed is not None and needed + self._bytes_ahead(following) <= self.memory_bytes

    def run(self, task: Task, material: Material, following: Task | None) -> Result | Segmentation | None:
        """Segment the scan, while `following` is read; of a result that is there already, what is to be exported."""
        volume = material.volume
        if volume is None:
            return material.result
        needed = self._foresee(task, material)
        with in_case(task.scan.id):
            ready = self.ready(volume)
            needs = Needs(ready.engine, needed, self.memory_bytes)
            self.hear(CaseReport(task.scan.id, Phase.SEGMENTING, needs=needs))
            forget_peak()
            prediction = self._find(task, material, volume, ready, following)
            peak = peak_bytes()
        return Result(
            prediction=prediction,
            source=volume.source,
            volume=volume if self.options.figures else None,
            doubts=material.doubts,
            choice=ready.choice,
            memory=(needed, peak),
            clock=material.clock,
        )

    def _find(
        self, task: Task, material: Material, volume: Volume, ready: ReadyModel, following: Task | None
    ) -> Prediction:
        """What the model finds. Its variants come first, each written before the next is run: none is held."""
        options, clock = self._inference(following), material.clock
        varied = [variant.ready(ready) for variant in self.variants.members]
        works = [all_network_voxels(one.model, volume.grid) for one in (*varied, ready)]
        *told, last = shared(self.progress(task.scan.id), works)
        # Several that run on one scan share what is prepared of it.
        scan = material.ahead or (PreparedScan(volume, options) if varied else volume)
        plain = replace(options, with_probabilities=False)
        for name, one, progress in zip(self.variants.names, varied, told, strict=True):
            with clock.timing("variants"):
                found = self._segmented(one, scan, options=plain, clock=clock, progress=progress)
            record = self._described(task, found, ready.choice, volume.source)
            write_map(variant_path(task.target, name), found, clock, record)
            del found
        with clock.timing("segment"):
            return self._segmented(ready, scan, options=options, clock=clock, progress=last)

    def _segmented(
        self,
        ready: ReadyModel,
        scan: Volume | PreparedScan,
        *,
        options: InferenceOptions,
        clock: Clock,
        progress: Progress,
    ) -> Prediction:
        prediction = segment(
            ready.model,
            scan,
            runners=timed(ready.runners, clock),
            options=options,
            locate=ready.locate,
            progress=progress,
        )
        return apply_rules_to(prediction, self.options.rules, ready.model.plan)

    def write(self, task: Task, made: Result | Segmentation | None) -> tuple[str, ...]:
        """Everything that is wanted, the label map last: what people should know of the result."""
        self.hear(CaseReport(task.scan.id, Phase.WRITING))
        with in_case(task.scan.id):
            if isinstance(made, Segmentation):
                self._export(task, made)
            elif made is not None:
                self._write_beside(task, made)
                self._write_map(task, made)
                return (*made.doubts, *made.prediction.notes)
        return ()

    def _inference(self, following: Task | None) -> InferenceOptions:
        return InferenceOptions(
            memory_bytes=self.memory_bytes - (0 if following is None else self._bytes_ahead(following)),
            skip_air=self.options.skip_air,
            with_probabilities=self.options.probabilities,
            allocate=self.scratch.allocate,
            mapped_from=self.scratch.from_bytes,
        )

    def _foresee(self, task: Task, material: Material) -> int | None:
        """The bytes that segmenting will take; None if they are not known, or too many."""
        if material.volume is None:
            return None
        with in_case(task.scan.id), material.clock.timing("engine"):
            return foreseen_bytes(self.ready(material.volume), material.volume, self._inference(None))

    def _bytes_ahead(self, task: Task) -> int:
        """The memory that reading a scan takes, and preparing it: large ones are mapped."""
        size = 0 if task.is_done else task.scan.voxel_bytes * (_PREPARED if self.prepares_ahead else 1)
        return size if size < self.scratch.from_bytes else 0

    def _check_space(self, task: Task, volume: Volume) -> None:
        """Label maps and probabilities are packed to less than these shares."""
        voxels = math.prod(volume.grid.shape)
        packed = _PACKED_MAP if task.target.name.lower().endswith(".gz") else 1.0
        needed = packed * voxels * (1 + len(self.variants.members))
        if self.options.probabilities:
            needed += _PACKED_FLOATS * 4 * voxels * len(self.model.labels)
        check_space(task.target.parent, int(needed), what="the result")

    def _standing(self, task: Task) -> Segmentation | None:
        """A result that is there already, where something is wanted of it that is not beside it."""
        proven = {proof.format for proof in standing_proofs(beside(task.target, "")).values()}
        record = read_record(task.target)
        if proven.issuperset(self.options.exports) or record is None:
            return None
        segmentation = read_result(task.target, record, _among(self.model.labels, record.labels))
        grid = segmentation.grid if task.scan.assembly is None else task.scan.assembly.first.grid
        return align(segmentation, grid)

    def _export(self, task: Task, segmentation: Segmentation) -> None:
        if self.options.exports:
            sources = files_of(None if task.scan.assembly is None else task.scan.assembly.first)
            authored = replace(segmentation, author=self.model.digest)
            stem = beside(task.target, "")
            options = ExportOptions(sources=sources)
            export(authored, stem, self.options.exports, options=options, key=self.options.key)

    def _write_beside(self, task: Task, made: Result) -> None:
        prediction = made.prediction
        with made.clock.timing("export"):
            self._export(task, prediction.segmentation)
        with made.clock.timing("write"):
            if prediction.probabilities is not None:
                write_probabilities(task.target, prediction, grid=prediction.segmentation.grid)
            if made.volume is not None:
                reference = find_reference(self.options.references, task.scan.id, self.model.labels)
                title = task.scan.id
                png = comparison_figure(made.volume, prediction.segmentation, reference=reference, title=title)
                write_bytes(beside(task.target, ".png"), png)

    def _write_map(self, task: Task, made: Result) -> None:
        before = read_record(task.target)
        described = self._described(task, made.prediction, made.choice, made.source)
        write_map(task.target, made.prediction, made.clock, described, complete=lambda one: self._completed(one, made))
        if before is not None:
            remove_variants(task.target, set(before.variants).difference(self.variants.names))

    def _described(self, task: Task, found: Prediction, choice: EngineChoice, source: Source) -> ResultRecord:
        """What a label map is, whether it is the result or a variant of it."""
        labels, regions = found.segmentation.labels, self.model.plan.regions
        return ResultRecord(
            case=task.scan.id,
            labels={label.name: label.value for label in labels},
            regions={region.name: list(region.values) for region in regions if region.name in labels.names},
            volumes_ml={one.label.name: round(one.value, 3) for one in volumes_ml(found.segmentation)},
            model=self.model.digest,
            series_uid=pseudonymous_uid(source.series_uid, self.options.key),
            seconds=0.0,
            recipe=task.recipe,
            engine=choice.engine,
            precision=choice.precision,
            device=choice.device,
            windows=(found.windows.run, found.windows.skipped),
            notes=list(found.notes),
        )

    def _completed(self, record: ResultRecord, made: Result) -> ResultRecord:
        """What is known of the result beside what it is, the times as far as they are."""
        seconds = made.clock.seconds
        return msgspec.structs.replace(
            record,
            seconds=round(sum(seconds[stage] for stage in _STAGES if stage in seconds), 2),
            stages={stage: round(took, 3) for stage, took in seconds.items()},
            memory_estimate=made.memory[0],
            memory_peak=made.memory[1],
            doubts=list(made.doubts),
            variants=list(self.variants.names),
            variant_kind=self.variants.kind,
        )


def _among(labels: LabelSet, names: Collection[str]) -> LabelSet:
    return LabelSet(tuple(label for label in labels if label.name in names), overlaps=labels.overlaps)


@contextmanager
def in_case(case: str) -> Iterator[None]:
    """Errors name the case. What the system refuses, memory above all, ends the case and not the batch."""
    try:
        yield
    except DelineateError as error:
        raise error.in_case(case) from error
    except OSError as error:
        problem = f"the system refused: {error.strerror or error}"
        raise ResourceError(problem, path=error.filename, case=case, remedy="Run again when it works.") from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        remedy = "Close other programs, use fewer --threads, or a smaller --memory-gb to work in smaller parts."
        raise ResourceError("there was not enough memory", case=case, remedy=remedy) from error
