"""`delineate distil`: a small model for machines without a GPU learns from a large one; its price, and its gain."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import torch
from torch import nn

from delineate.dataset import Dataset, Split
from delineate.errors import DatasetError, ModelError, PlanError, TrainingError
from delineate.inference import place
from delineate.model import Model, load_model
from delineate.networks import build_network
from delineate.planning import DistillationPlan, NetworkPlan, Plan, PlanOptions, check_plan
from delineate.planning.adopting import Matching, adopt, adopting_options, match_plans
from delineate.settings import Settings
from delineate.training.distillation import Distilled, narrower, open_teacher, with_features
from delineate.training.objectives import outputs_of
from delineate.training.together import share_batch
from delineate.workflow.company import BY_ITSELF, Company
from delineate.workflow.distillation_prices import PriceRecord, read_prices, weigh
from delineate.workflow.preparing import plan_dataset, plan_measured, use_threads
from delineate.workflow.pretraining import measure_scans
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.training import Budget, Course, Division, divide, train
from delineate.workspace import RunFolder

SPEEDUP = 4.0
FIRST_FOLD = Division()
_RUNS = 3  # of each network, the fastest of which counts


@dataclass(frozen=True, slots=True)
class Student:
    """How small a student is: so many times as fast as its teacher on a patch, or with these features a level.

    `temperature`, `weight`, `names`: see `DistillationPlan`.
    """

    speedup: float = SPEEDUP
    features: tuple[int, ...] | None = None
    temperature: float = 2.0
    weight: float = 0.5
    names: Mapping[str, str] = field(default_factory=dict)


def distil(
    teacher_folder: Path,
    dataset: Dataset,
    folder: Path,
    *,
    budget: Budget,
    settings: Settings,
    student: Student = Student(),
    division: Division = FIRST_FOLD,
    options: PlanOptions | None = None,
    watch: Watch = nobody,
    together: Company = BY_ITSELF,
) -> tuple[Model, PriceRecord] | None:
    """Train a student, or go on with the one in `folder`, and weigh it against its teacher. None if it was stopped.

    Scans without a reference are learnt from too. `division`: who is scored, where the teacher does not say on whom it
    was trained. `together`: as for `train`. Raises `ModelError` for a teacher that cannot teach, `DatasetError` if
    nothing is left to learn from, `TrainingError` if `folder` holds another run.
    """
    use_threads(settings)
    teacher = load_model(teacher_folder)
    check_teacher(teacher, teacher_folder)
    dataset = with_labels(dataset, teacher)
    run = RunFolder(folder)

    def settle() -> tuple[Plan, Split]:
        if run.exists:
            _check_run(run.plan(), teacher, folder)
            return run.plan(), run.split()
        split = divide_for(dataset, teacher, division)
        seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id not in split.held_out))
        made = plan_student(seen, teacher, student, options or PlanOptions(), settings=settings, watch=watch)
        return share_batch(made, together.group), split

    plan, split = together.settled("student", settle)
    model = train(
        dataset,
        folder,
        budget=budget,
        division=Division(given=split),
        settings=settings,
        plan=plan,
        course=Course(objective=_learns_from(teacher, plan, dataset, settings)),
        watch=watch,
        together=together,
    )
    if model is None:
        return None
    return model, together.told("price", lambda: _weighed(teacher, model, dataset, run, settings, watch), PriceRecord)


def _learns_from(teacher: Model, plan: Plan, dataset: Dataset, settings: Settings) -> Distilled:
    how = plan.training.distillation
    assert how is not None
    matching = match_plans(teacher.plan, plan, how.names)
    opened = open_teacher(teacher, matching, device=settings.device, precision=plan.training.precision)
    unlabelled = frozenset(case.id for case in dataset.cases if case.reference is None)
    return Distilled(opened, how, unlabelled)


def _weighed(
    teacher: Model, student: Model, dataset: Dataset, run: RunFolder, settings: Settings, watch: Watch
) -> PriceRecord:
    known = read_prices(run.model)
    if known is not None and known.student == student.digest:
        return known
    split = run.split()
    scored = [dataset.case(name) for name in split.held_out] or [dataset.case(name) for name in split.validation]
    labelled = [case for case in scored if case.reference is not None]
    return weigh(teacher, student, labelled, dataset, run.model, settings=settings, how=split.how, watch=watch)


def check_teacher(teacher: Model, path: Path) -> None:
    """Raises `ModelError` for a model that is more than one kind of network on the scan alone."""
    if teacher.plan.pretraining is not None:
        raise ModelError("a pretrained network finds no structures yet", path=path, remedy="Train it first: --from.")
    others = [
        what
        for what, there in (
            ("a model that takes prompts", teacher.plan.prompting is not None),
            ("a cascade", teacher.previous is not None or bool(teacher.plan.previous)),
            ("a model of several parts", bool(teacher.overlays)),
            ("an ensemble of several plans", bool(teacher.partners)),
        )
        if there
    ]
    if others:
        raise ModelError(
            "this model cannot teach",
            expected="one network, of one fold or several",
            got=" and ".join(others),
            path=path,
            remedy="Let one of its parts teach: the folders in it are models too.",
        )


def with_labels(dataset: Dataset, teacher: Model) -> Dataset:
    """The dataset; one that names no structures, or in which nobody has drawn any, has the teacher's.

    Raises `DatasetError` if it lacks a channel of the teacher's.
    """
    if len(dataset.channels) != len(teacher.plan.channels):
        raise DatasetError(
            "the dataset has other channels than the teacher",
            expected=", ".join(teacher.plan.channels),
            got=", ".join(dataset.channels),
        )
    drawn = any(case.reference is not None for case in dataset.cases)
    return dataset if drawn and len(dataset.labels) else replace(dataset, labels=teacher.labels)


def divide_for(dataset: Dataset, teacher: Model, division: Division) -> Split:
    """Who teaches whom: scored are cases that the teacher was not trained on, where it says on whom it was.

    Everybody else is learnt from, drawn on or not, but no other scan of a patient who is scored. Raises `DatasetError`
    if that leaves nobody.
    """
    known, ids = teacher.provenance, {case.id for case in dataset.cases}
    validation = tuple(name for name in known.validation_cases if name not in known.training_cases)
    own = dataset.name == known.dataset and bool(ids) and {*validation, *known.held_out_cases} <= ids
    if own and (validation or known.held_out_cases):
        how = "scored on cases that the teacher was not trained on"
        split = Split((), validation, "", how, held_out=known.held_out_cases)
    elif any(case.reference is not None for case in dataset.cases):
        found = divide(dataset, division)
        how = f"{found.how}; the teacher may have been trained on those that are scored"
        split = replace(found, how=how)
    else:
        split = Split((), (), "", "no case has a reference: nothing is scored")
    away = {case.patient_id for case in dataset.cases if case.id in (*split.validation, *split.held_out)}
    learnt = tuple(case.id for case in dataset.cases if case.patient_id not in away)
    if not learnt:
        raise DatasetError(
            "no case is left to learn from",
            got=f"{len(dataset.cases)} cases, all scored",
            remedy="Add scans: they need no reference.",
        )
    return replace(split, training=learnt)


def plan_student(
    dataset: Dataset,
    teacher: Model,
    student: Student,
    options: PlanOptions,
    *,
    settings: Settings,
    watch: Watch = nobody,
) -> Plan:
    """The student's plan: the teacher's preparation, and a narrower network like the teacher's.

    Raises `PlanError` if the dataset has structures that the teacher does not know, or the spacing is another.
    """
    if options.spacing_mm is not None and options.spacing_mm != teacher.plan.spacing_mm:
        raise PlanError(
            "a student sees scans as its teacher does",
            expected=f"{teacher.plan.spacing_mm} mm",
            got=options.spacing_mm,
            remedy="Leave --spacing out.",
        )
    wanted = adopting_options(options, teacher.plan)
    if any(case.reference is not None for case in dataset.cases):
        base = plan_dataset(dataset, settings, wanted, watch=watch)
    else:
        base = plan_measured(measure_scans(dataset, teacher.plan.labels, watch), settings, wanted)
        base = msgspec.structs.replace(base, regions=teacher.plan.regions, labels=teacher.plan.labels)
    plan = adopt(base, teacher.plan, options)
    unknown = _unknown(match_plans(teacher.plan, plan, student.names), plan)
    if unknown:
        raise PlanError(
            "the teacher does not know all structures of the dataset",
            expected=", ".join(teacher.plan.labels),
            got=", ".join(unknown),
            remedy="If it has other names for them, say so (--same OURS=THEIRS); else take them out of dataset.json.",
        )
    network, reason = _choose_network(plan, teacher, student, settings)
    return _as_student(plan, network, reason, student, teacher.digest)


def _unknown(matching: Matching, plan: Plan) -> list[str]:
    names = plan.labels if plan.regions else ("background", *plan.labels)
    return [name for name, n in zip(names, matching.outputs, strict=True) if n is None]


def _as_student(plan: Plan, network: NetworkPlan, reason: str, student: Student, digest: str) -> Plan:
    how = DistillationPlan(
        teacher=digest, names=dict(student.names), temperature=student.temperature, weight=student.weight
    )
    # Scored at the end only: the best of several checkpoints would flatter the student where it is compared.
    training = msgspec.structs.replace(plan.training, distillation=how, validations=1)
    made = msgspec.structs.replace(
        plan,
        network=network,
        training=training,
        reasons=(*plan.reasons, f"learns from the outputs of the model {digest[:12]}", reason),
    )
    check_plan(made)
    return made


def _choose_network(plan: Plan, teacher: Model, student: Student, settings: Settings) -> tuple[NetworkPlan, str]:
    """The widest network that is as fast as asked for, on a patch and on this machine."""
    if student.features is not None:
        network = with_features(teacher.plan.network, student.features)
        return network, f"features {', '.join(map(str, network.features))} as asked for"
    slowest = patch_seconds(plan, teacher.plan.network, settings) * len(teacher.folds)
    network, ratio = teacher.plan.network, 1.0
    for candidate in narrower(teacher.plan.network):
        network, ratio = candidate, slowest / patch_seconds(plan, candidate, settings)
        if ratio >= student.speedup:
            break
    features = ", ".join(map(str, network.features))
    short = "" if ratio >= student.speedup else f", and no narrower network is {student.speedup:g} times as fast"
    return network, f"features {features}: {ratio:.1f} times as fast as the teacher on a patch of this machine{short}"


def patch_seconds(plan: Plan, network: NetworkPlan, settings: Settings) -> float:
    """Seconds that a network needs for one patch of a plan on this machine: of a few runs the fastest."""
    built = place(build_network(network, in_channels=plan.inputs, out_channels=plan.classes), settings.device).eval()
    patch = torch.zeros((1, plan.inputs, *plan.patch_size), device=settings.device)
    return min(_seconds_of(built, patch, plan) for _ in range(_RUNS))


@torch.no_grad()
def _seconds_of(network: nn.Module, patch: torch.Tensor, plan: Plan) -> float:
    began = time.perf_counter()
    outputs = outputs_of(network, patch, plan)
    assert isinstance(outputs, torch.Tensor)
    outputs[0, 0, 0, 0, 0].item()  # a GPU answers when it has finished
    return time.perf_counter() - began


def _check_run(plan: Plan, teacher: Model, folder: Path) -> None:
    how = plan.training.distillation
    if how is None or how.teacher != teacher.digest:
        raise TrainingError(
            "the run in this folder learns from another teacher, or from none",
            expected="none" if how is None else how.teacher[:12],
            got=teacher.digest[:12],
            path=folder,
            remedy="Choose another folder.",
        )
