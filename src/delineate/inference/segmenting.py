"""A trained model over a whole scan, and the result in the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delineate.engines import EngineChoice
from delineate.engines.torch_engine import torch_precisions
from delineate.inference.extents import all_network_voxels, spacing_on
from delineate.inference.locating import Locate, check_locate, find, looks_for, thinned
from delineate.inference.parts import Area, Job, Look, Scan, look_for, run, run_parts
from delineate.inference.predicting import InferenceOptions
from delineate.inference.prediction import Prediction, added_windows, restrict
from delineate.inference.stages import Runners, check_stages, open_stage_runners, shared
from delineate.inference.windows import Progress
from delineate.model import Model
from delineate.volume import Volume


def prepare_scan(model: Model, volume: Volume, options: InferenceOptions) -> Scan:
    """A scan that `segment` takes, with what the model's own network sees of it made ahead, where that is all of it.

    Raises what `prepare` raises.
    """
    scan = Scan(volume, options)
    if model.locator is None and model.previous is None:
        scan.prepared(model.plan, None, None)
    return scan


def segment(
    model: Model,
    volume: Volume | Scan,
    *,
    device: str = "cpu",
    runners: Runners | None = None,
    options: InferenceOptions | None = None,
    locate: Locate | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """Segment one scan; the model's postprocessing is part of it.

    `volume`: the scan, or what `prepare_scan` made of it. `runners`: of the model, where they are open
    (`open_stage_runners`); else PyTorch on `device`, in the precision of the plan if the device has it.
    Raises `PlanError` if the scan has other channels than the model was trained on, if the model's stages do not fit
    together, or if they cannot do what is asked; `InputError` for NaN; `LabelError` for structures that are not there.
    """
    options = options or InferenceOptions()
    check_stages(model, with_probabilities=options.with_probabilities)
    if locate is not None:
        check_locate(model, locate)
    if runners is None:
        runners = open_stage_runners(model, _as_trained(model, device))
    scan = volume if isinstance(volume, Scan) else Scan(volume, options)
    scan.options = options
    job, told = Job(model, runners), progress or _nobody
    result = run(job, scan, told) if locate is None else _run_located(job, scan, locate, told)
    told(1.0)
    return result


def _as_trained(model: Model, device: str) -> EngineChoice:
    """PyTorch in the precision of the plan, or in float32 where the device does not have it."""
    precision = model.plan.training.precision
    return EngineChoice(precision=precision if precision in torch_precisions(device) else "float32", device=device)


def _run_located(job: Job, scan: Scan, locate: Locate, progress: Progress) -> Prediction:
    """Only where the look finds what is wanted; everywhere if it leaves a doubt, or if something is cut off."""
    model, wanted = job.model, frozenset(locate.structures)
    looker = _looker(job, locate)
    works = [all_network_voxels(stage, scan.volume.grid) for stage in (looker.model, model)]
    looking, running = shared(progress, works)
    located, everywhere = shared(running, [99, 1])  # both are seldom run
    look = _look(job, looker, scan, locate, looking)
    windows, doubt = look.windows, _doubt(look)
    if not doubt:
        area = Area(look.sight.box, locate.margin_mm, wanted)
        result = run_parts(job, scan, located, area=area, previous=look.previous)
        windows = added_windows(windows, result.windows)
        doubt = _reach_beyond([name for name in result.cut if not wanted or name in wanted])
        if not doubt:
            return restrict(replace(result, windows=windows), wanted, model.plan)
    area = Area(wanted=wanted)
    if locate.model is None:  # what looked is the model's own first stage, which was run already
        result = run_parts(job, scan, everywhere, area=area, previous=look.previous)
    else:
        result = run(job, scan, everywhere, area=area)
    where = "the whole scan" if result.region is None else "what the model's own locator finds"
    notes = (f"{doubt}: {where} was segmented.", *result.notes)
    return restrict(replace(result, windows=added_windows(windows, result.windows), notes=notes), wanted, model.plan)


def _looker(job: Job, locate: Locate) -> Job:
    """What looks: the model that was named, the model's own locator, or its cascade's stage before."""
    if locate.model is None:
        return job.stage("locator" if job.model.locator is not None else "previous")
    return Job(locate.model, locate.runners or open_stage_runners(locate.model, job.runners.folds[0].choice))


def _look(job: Job, looker: Job, scan: Scan, locate: Locate, progress: Progress) -> Look:
    structures = looks_for(job.model, locate)
    if looker.model is not job.model.previous:
        return look_for(structures, looker, scan, progress)
    # The cascade needs this stage of the whole scan, in full: what is seen in it costs nothing.
    before = run(looker, Scan(scan.volume, replace(scan.options, with_probabilities=False)), progress)
    seen, block = thinned(before.segmentation, spacing_on(scan.volume.grid, looker.model.plan))
    sight = find(seen, structures, block, scan.volume.grid.shape)
    return Look(sight, tuple(set(before.cut).intersection(structures)), before.windows, before.segmentation)


def _doubt(look: Look) -> str:
    """Why what was seen is not enough to leave anything out; empty if it is."""
    if look.sight.missing:
        return f"The first look did not find {', '.join(look.sight.missing)}"
    return _reach_beyond(look.cut)


def _reach_beyond(names: Sequence[str]) -> str:
    return f"{', '.join(names)} may reach beyond the part that was located" if names else ""


def _nobody(share: float) -> None:
    del share
