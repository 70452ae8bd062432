"""One model over a scan, with all that belongs to it: a locator, a cascade's stage before, models painted over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec
import numpy as np

from delineate.geometry import Box
from delineate.inference.ensembles import Mean, most_probable
from delineate.inference.extents import all_network_voxels, network_voxels, spacing_on
from delineate.inference.focusing import windows_around
from delineate.inference.locating import Sight, coarse, cut_off, find, region_around
from delineate.inference.predicting import InferenceOptions, predict_stage
from delineate.inference.prediction import NO_WINDOWS, Prediction, added_windows, apply_rules_to
from delineate.inference.regions import map_type, paint_over, region_masks, translate, values_of
from delineate.inference.stages import Runners, overlays_of, partners_of, shared
from delineate.inference.streaming import WindowCount
from delineate.inference.windows import Progress
from delineate.model import Model
from delineate.planning import Plan
from delineate.preprocessing import FloatImage, Focus, PreparedCase, prepare
from delineate.volume import Allocate, Array, Segmentation, Volume

QUICK_OVERLAP = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A model and what runs it. `quick`: as few windows as there can be, each once."""

    model: Model
    runners: Runners
    quick: bool = False

    @property
    def plan(self) -> Plan:
        plan = self.model.plan
        if not self.quick:
            return plan
        tiling = msgspec.structs.replace(plan.tiling, overlap=min(QUICK_OVERLAP, plan.tiling.overlap), mirror_axes=())
        return msgspec.structs.replace(plan, tiling=tiling)

    def stage(self, name: str) -> Job:
        return Job(self.model.stages[name], self.runners.stages[name], self.quick)


@dataclass(slots=True, eq=False)
class Scan:
    """A scan on its way through the stages. Plans that prepare it alike share what was prepared last."""

    volume: Volume
    options: InferenceOptions
    _last: tuple[object, PreparedCase] | None = field(default=None, init=False)

    def with_probabilities(self) -> Scan:
        """The same scan, prepared as far, for a model whose probabilities are wanted."""
        scan = Scan(self.volume, replace(self.options, with_probabilities=True))
        scan._last = self._last
        return scan

    def prepared(self, plan: Plan, region: Box | None, previous: Segmentation | None) -> PreparedCase:
        where = (plan.orientation, plan.spacing_mm, plan.resize_to, plan.crop_foreground, plan.preparation)
        part = None if region is None else (region, plan.patch_size, plan.tiling)
        key = (*where, plan.channels, plan.kinds, plan.normalisation, part)
        if previous is None and self._last is not None and self._last[0] == key:
            return self._last[1]
        self._last = None  # never two of them at once
        allocate = self.options.allocate
        focus = None if region is None else Focus(region, partial(windows_around, plan=plan))
        case = prepare("", self.volume, None, plan, previous=previous, region=focus, allocate=allocate)
        self._last = (key, case) if previous is None else None
        return case


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """What is run. `box`: where structures are, None for everywhere; `wanted`: which structures, empty for all."""

    box: Box | None = None
    margin_mm: float = 0.0
    wanted: frozenset[str] = frozenset()

    def wants(self, names: Iterable[str]) -> bool:
        return not self.wanted or not self.wanted.isdisjoint(names)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a look saw. `cut`: of the structures it looked for, those that may reach beyond the part it saw itself.

    `previous`: its segmentation in the scan's own grid, where a cascade goes on with it.
    """

    sight: Sight
    cut: tuple[str, ...]
    windows: WindowCount
    previous: Segmentation | None = None


EVERYWHERE = Area()


def run(job: Job, scan: Scan, progress: Progress, *, area: Area = EVERYWHERE) -> Prediction:
    """A model with all that belongs to it; a crop-first model in the box its locator finds, unless there is a box."""
    locator, grid = job.model.locator, scan.volume.grid
    if area.box is not None or locator is None:
        return run_parts(job, scan, progress, area=area)
    works = [all_network_voxels(stage, grid) for stage in (locator.model, replace(job.model, locator=None))]
    looking, running = shared(progress, works)
    look = look_for(locator.structures, job.stage("locator"), scan, looking)
    notes = []
    if look.sight.box is None:
        notes.append(f"The first look found no {' or '.join(locator.structures)}: the whole scan was segmented.")
    else:
        area = replace(area, box=look.sight.box, margin_mm=locator.margin_mm)
    result = run_parts(job, scan, running, area=area)
    notes += [f"{name} reaches the end of the part of the scan that was segmented." for name in result.cut]
    return replace(result, windows=added_windows(look.windows, result.windows), notes=(*notes, *result.notes))


def run_parts(
    job: Job, scan: Scan, progress: Progress, *, area: Area = EVERYWHERE, previous: Segmentation | None = None
) -> Prediction:
    """A model without its locator. `previous`: what the cascade's stage before found, if it was run already.

    Later overlays are painted over earlier ones. Parts none of whose structures are wanted are not run.
    """
    model, grid = job.model, scan.volume.grid
    if model.partners and area.wants(model.plan.labels):
        return _run_together(job, scan, progress, area=area, previous=previous)
    before = model.previous if previous is None and area.wants(model.plan.labels) else None
    overlays = {name: part for name, part in overlays_of(model).items() if area.wants(part.labels.names)}
    works = [0 if before is None else all_network_voxels(before, grid), network_voxels(model, grid)]
    first, own, *others = shared(progress, [*works, *(all_network_voxels(part, grid) for part in overlays.values())])
    stages: list[Prediction] = []
    if before is not None:
        stages.append(
            run(job.stage("previous"), Scan(scan.volume, replace(scan.options, with_probabilities=False)), first)
        )
        previous = stages[0].segmentation
    found = _run_network(job, scan, own, area=area, previous=previous)
    if overlays:
        found = replace(found, label_map=_copied(found.label_map, scan.options.allocate))
    for (name, part), told in zip(overlays.items(), others, strict=True):
        stages.append(run(job.stage(name), scan, told, area=area))
        paint_over(found.label_map, stages[-1].label_map, values_of(part.labels, model.labels))
    return _assembled(model, scan, found, stages)


def _run_together(job: Job, scan: Scan, progress: Progress, *, area: Area, previous: Segmentation | None) -> Prediction:
    """A model and its partners, one after the other: their mean probabilities, in the scan's own grid."""
    model, labels = job.model, job.model.labels
    alone = replace(model, partners=(), locator=None, postprocessing=())
    partners = [job.stage(name) for name in partners_of(model)]
    members = [Job(alone, job.runners, job.quick), *partners]
    shares = shared(progress, [all_network_voxels(member.model, scan.volume.grid) for member in members])
    asked, mean, found = scan.with_probabilities(), Mean(), list[Prediction]()
    for member, told in zip(members, shares, strict=True):
        before = previous if member is members[0] else None
        result = run_parts(member, asked, told, area=area, previous=before)
        assert result.probabilities is not None
        mean.add(result.probabilities)
        found.append(replace(result, probabilities=None))
    probabilities = mean.take()
    label_map = most_probable(probabilities, labels, model.plan.regions, allocate=scan.options.allocate)
    region, kept = found[0].region, probabilities if scan.options.with_probabilities else None
    together = _Found(label_map, kept, region=region, cut=_cut(label_map, region, model))
    return _assembled(model, scan, together, found)


def look_for(structures: Sequence[str], job: Job, scan: Scan, progress: Progress) -> Look:
    """Run a model, quickly, on the scan made as coarse as the model's voxels, to see where structures are."""
    seen, block = coarse(scan.volume, spacing_on(scan.volume.grid, job.model.plan))
    options = replace(scan.options, with_probabilities=False, allocate=np.empty)
    result = run(replace(job, quick=True), Scan(seen, options), progress)
    sight = find(result.segmentation, structures, block, scan.volume.grid.shape)
    return Look(sight, tuple(name for name in result.cut if name in structures), result.windows)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What one network found. `label_map`: in the values of the model's labels, or as its regions are painted;
    `probabilities`: in the order of these labels."""

    label_map: Array
    probabilities: FloatImage | None = None
    windows: WindowCount = NO_WINDOWS
    region: Box | None = None
    cut: tuple[str, ...] = ()


def _run_network(job: Job, scan: Scan, progress: Progress, *, area: Area, previous: Segmentation | None) -> _Found:
    model, plan = job.model, job.plan
    if not area.wants(plan.labels):
        return _Found(np.zeros(scan.volume.grid.shape, map_type(model.labels)))
    region = None if area.box is None else region_around(area.box, scan.volume.grid, area.margin_mm)
    prepared = scan.prepared(plan, region, previous)
    result = predict_stage(prepared, plan, job.runners.folds, options=scan.options, progress=progress)
    label_map = result.labels if plan.regions else _in_values(result.labels, model, scan.options.allocate)
    probabilities = _in_order(result.probabilities, model)
    return _Found(label_map, probabilities, result.windows, region, _cut(label_map, region, model))


def _in_values(classes: Array, model: Model, allocate: Allocate) -> Array:
    """A map of the network's classes with the values of the model's labels."""
    values = {n: model.labels.named(name).value for n, name in enumerate(model.plan.labels, start=1)}
    dtype = map_type(model.labels)
    if classes.dtype == dtype and all(old == new for old, new in values.items()):
        return classes
    return translate(classes, values, dtype=dtype, allocate=allocate)


def _copied(label_map: Array, allocate: Allocate) -> Array:
    copy: Array = allocate(label_map.shape, label_map.dtype)
    copy[...] = label_map
    return copy


def _cut(label_map: Array, region: Box | None, model: Model) -> tuple[str, ...]:
    """The structures of a model's own network that touch an end of the region where the scan goes on."""
    if region is None:
        return ()
    touching = cut_off(label_map, region)
    if model.plan.regions:
        return tuple(part.name for part in model.plan.regions if touching.intersection(part.values))
    return tuple(name for name in model.plan.labels if model.labels.named(name).value in touching)


def _assembled(model: Model, scan: Scan, found: _Found, stages: Sequence[Prediction]) -> Prediction:
    """What a model's own network and its stages found, as the model's structures, after its rules."""
    labels, array = model.labels, found.label_map
    if model.plan.regions:
        labels = replace(labels, overlaps=True)
        array = region_masks(array, labels, model.plan.regions, allocate=scan.options.allocate)
    volume, windows = scan.volume, found.windows
    for stage in stages:
        windows = added_windows(windows, stage.windows)
    prediction = Prediction(
        Segmentation(array, volume.grid, labels, source=volume.source, author=model.digest),
        found.label_map,
        probabilities=found.probabilities,
        windows=windows,
        region=found.region,
        cut=tuple(dict.fromkeys((*found.cut, *(name for stage in stages for name in stage.cut)))),
        notes=tuple(note for stage in stages for note in stage.notes),
    )
    return apply_rules_to(prediction, model.postprocessing, model.plan)


def _in_order(probabilities: FloatImage | None, model: Model) -> FloatImage | None:
    """Channels in the order of the model's labels instead of the plan's."""
    names = model.plan.labels
    if probabilities is None or names == model.labels.names:
        return probabilities
    order = [names.index(name) for name in model.labels.names]
    return probabilities[order if model.plan.regions else [0, *(1 + n for n in order)]]
