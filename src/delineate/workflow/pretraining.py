"""`delineate pretrain`: a network that has seen many scans before anybody draws on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from delineate.dataset import Case, Dataset, Split
from delineate.errors import DatasetError, TrainingError
from delineate.files import write_text
from delineate.fingerprint import Fingerprint, measure_case, summarise
from delineate.geometry import Triple
from delineate.inference import place
from delineate.labels import label_set
from delineate.model import Model
from delineate.planning import Plan, PlanOptions
from delineate.settings import Settings
from delineate.training.reconstruction import reconstruction, reconstruction_plan, unexplained_share
from delineate.training.together import share_batch
from delineate.workflow.company import BY_ITSELF, Company
from delineate.workflow.preparing import plan_dataset, plan_measured, prepare_cases
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.structures import read_case
from delineate.workflow.training import Budget, Course, Division, indexed, train
from delineate.workspace import RunFolder

RECORD = "pretraining.json"
_MEASURED = 60  # scans, at most, to plan from where nobody has drawn on any
_ANYTHING = "scan"  # stands for structures while planning


@dataclass(frozen=True, slots=True)
class Hiding:
    """How much is hidden, in blocks of how many voxels; None leaves their size to the patch."""

    masked_fraction: float = 0.6
    block: Triple | None = None


class PretrainingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the network knows of the hidden parts of scans that it has not seen in training.

    `unexplained`: of their intensities' variance the share that it does not know, 1 if it only knew the mean.
    """

    scans: int
    checked_on: tuple[str, ...]
    unexplained: float | None


def pretrain(
    dataset: Dataset,
    folder: Path,
    *,
    budget: Budget,
    settings: Settings,
    hiding: Hiding = Hiding(),
    hold_out: int = 4,
    test: int = 0,
    plan: Plan | PlanOptions | None = None,
    watch: Watch = nobody,
    together: Company = BY_ITSELF,
) -> tuple[Model, PretrainingRecord] | None:
    """Pretrain on every scan, drawn on or not, or go on with the run in `folder`. None if it was stopped.

    `hold_out`: scans, the last ones, on which the result is measured; `test`: those that nobody sees, set aside before.
    References are not read, but to plan from where there are some. `together`: as for `train`. Raises `DatasetError`
    for too few scans, `TrainingError` if `folder` holds a run of another kind.
    """
    run = RunFolder(folder)
    scans = without_references(dataset)

    def settle() -> tuple[Plan, Split]:
        if not run.exists:
            split = set_aside(scans, hold_out=hold_out, test=test)
            made = plan_pretraining(dataset, split, hiding, settings=settings, plan=plan, watch=watch)
            return made if isinstance(plan, Plan) else share_batch(made, together.group), split
        if run.plan().pretraining is None:
            raise TrainingError("the run in this folder learns from references", path=folder, remedy="Choose another.")
        return run.plan(), run.split()

    settled, split = together.settled("pretraining", settle)
    model = train(
        scans,
        folder,
        budget=budget,
        division=Division(given=split),
        settings=settings,
        plan=settled,
        course=Course(objective=reconstruction),
        watch=watch,
        together=together,
    )
    if model is None:
        return None

    def check() -> PretrainingRecord:
        away = set_aside(scans, hold_out=0, test=test).held_out
        record = _check(model, scans, split, away, settings, watch=watch)
        write_text(run.folder / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n")
        return record

    return model, together.told("pretrained", check, PretrainingRecord)


def without_references(dataset: Dataset) -> Dataset:
    """The dataset's scans as if nobody had drawn on them."""
    return replace(dataset, labels=label_set({}), cases=tuple(replace(case, reference=None) for case in dataset.cases))


def set_aside(scans: Dataset, *, hold_out: int, test: int) -> Split:
    """Who is learnt from: all scans but those of the last `test` cases' patients, and of the `hold_out` before them.

    Raises `DatasetError` if nothing is left.
    """
    cases = list(scans.cases)
    kept_away, cases = _last(cases, test)
    checked, cases = _last(cases, hold_out)
    if not cases:
        raise DatasetError(
            "no scan is left to learn from",
            expected=f"more than {hold_out + test} scans",
            got=len(scans.cases),
            remedy="Hold fewer out (--hold-out 0).",
        )
    how = f"{len(checked)} last scans held out to measure on" + (f", {test} more set aside" if test else "")
    ids = tuple(case.id for case in (*kept_away, *checked))
    return Split(tuple(case.id for case in cases), (), "", how, held_out=ids)


def _last(cases: Sequence[Case], count: int) -> tuple[list[Case], list[Case]]:
    patients = {case.patient_id for case in cases[len(cases) - count :]} if count else set()
    sides: tuple[list[Case], list[Case]] = ([], [])
    for case in cases:
        sides[case.patient_id not in patients].append(case)
    return sides


def plan_pretraining(
    dataset: Dataset,
    split: Split,
    hiding: Hiding,
    *,
    settings: Settings,
    plan: Plan | PlanOptions | None = None,
    watch: Watch = nobody,
) -> Plan:
    """The plan of masked reconstruction: of a given plan, or of the dataset, from what was drawn in it if there is any.

    Cases that are set aside are not planned from.
    """
    if not isinstance(plan, Plan):
        seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id in split.training))
        if any(case.reference is not None for case in seen.cases) and len(seen.labels):
            plan = plan_dataset(seen, settings, plan, watch=watch)
        else:
            plan = plan_measured(measure_scans(seen, (_ANYTHING,), watch), settings, plan)
    return reconstruction_plan(plan, masked_fraction=hiding.masked_fraction, block=hiding.block)


def measure_scans(dataset: Dataset, structures: Sequence[str], watch: Watch) -> Fingerprint:
    """A fingerprint of scans without references, evenly chosen; each structure counts as all of the patient."""
    step = -(-len(dataset.cases) // _MEASURED)
    measured = []
    chosen = dataset.cases[::step]
    for done, case in enumerate(chosen, start=1):
        image, _ = read_case(replace(case, reference=None), dataset.labels, dataset.kinds)
        found = measure_case(case.id, image, None, dataset.kinds)
        voxels = math.prod(found.fingerprint.foreground_shape)
        known = msgspec.structs.replace(found.fingerprint, label_voxels=(voxels,) * len(structures))
        measured.append(replace(found, fingerprint=known))
        watch("Measuring", done, len(chosen), case.id)
    return summarise(dataset.name, measured, channels=dataset.channels, labels=structures)


def _check(
    model: Model, scans: Dataset, split: Split, away: Sequence[str], settings: Settings, *, watch: Watch
) -> PretrainingRecord:
    """Measure the network on the scans that were held out; those that are `away` are not looked at."""
    checked = tuple(name for name in split.held_out if name not in away)
    prepared = prepare_cases([scans.case(name) for name in checked], scans.labels, model.plan, settings, watch=watch)
    cases = [indexed(case, model.plan) for case in prepared]
    network = place(model.network(), settings.device)
    share = unexplained_share(network, cases, model.plan, device=settings.device)
    known = None if math.isnan(share) else share
    return PretrainingRecord(scans=len(split.training), checked_on=checked, unexplained=known)
