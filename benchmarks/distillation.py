"""A student of the hippocampus: what a teacher adds, what it costs and gains, and what the teacher takes of a step.

    python benchmarks/distillation.py [--teacher MODEL] [--steps 400] [--teacher-steps 1000] [--features 4 8 16 32]
                                      [--labelled 20] [--scored 40]
                                      [--threads 1]

MSD hippocampus (Task04), the last `--scored` cases scored and seen by nobody. The teacher is trained here, unless one
is given. Students have the same small network and see as many steps: alone from the labelled cases; from teacher and
references; from teacher, references and the scans whose references are taken away. What was run is kept in
.time_to_dice/distillation/ and not run again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from delineate.dataset import Dataset, Split, open_dataset
from delineate.model import Model, load_model
from delineate.planning import Plan, PlanOptions
from delineate.planning.adopting import match_plans
from delineate.sampling import make_batch
from delineate.settings import Settings, detect
from delineate.training import start
from delineate.training.distillation import Distilled, open_teacher
from delineate.training.objectives import supervised
from delineate.workflow.distillation_prices import median_seconds, price_rows, price_words, weigh
from delineate.workflow.distilling import Student, distil, plan_student
from delineate.workflow.preparing import plan_dataset, prepare_cases, use_threads
from delineate.workflow.progress import nobody
from delineate.workflow.training import Budget, Division, indexed, train

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".time_to_dice" / "distillation"


def main() -> None:
    arguments = _parser().parse_args()
    settings = detect("cpu", threads=arguments.threads, cache=FOLDER / "cache")
    use_threads(settings)
    dataset = open_dataset(arguments.data)
    teacher = arguments.teacher or _teacher(dataset, settings, arguments)
    student = Student(features=tuple(arguments.features))
    _share(dataset, load_model(teacher), student, settings)
    few, bare = _labelled(dataset, arguments), _bare(dataset, arguments)
    _alone(few, teacher, student, settings, arguments)
    for name, data in (("taught", few), ("taught_on_more", bare)):
        made = distil(
            teacher,
            data,
            FOLDER / name,
            budget=Budget(steps=arguments.steps),
            settings=settings,
            student=student,
        )
        if made is None:
            raise SystemExit("stopped")
        rows, (slow, fast) = price_rows(made[1]), median_seconds(made[1])
        mean = rows[-1]
        print(
            f"{name:15} {mean.student:.3f}, teacher {mean.teacher:.3f}: {mean.difference:+.3f} "
            f"({mean.interval[0]:+.3f} to {mean.interval[1]:+.3f}), {slow:.2f} s and {fast:.2f} s a scan",
            flush=True,
        )
        print("; ".join(price_words(made[1])), flush=True)


def _teacher(dataset: Dataset, settings: Settings, arguments: argparse.Namespace) -> Path:
    folder, names = FOLDER / "teacher", [case.id for case in dataset.cases]
    split = Split(
        tuple(names[: -arguments.scored]),
        (),
        "",
        "the last cases set aside",
        held_out=tuple(names[-arguments.scored :]),
    )
    known = replace(dataset, cases=dataset.cases[: -arguments.scored])
    options = PlanOptions(features=tuple(arguments.teacher_features))
    plan = None if (folder / "training" / "plan.json").exists() else plan_dataset(known, settings, options)
    budget = Budget(steps=arguments.teacher_steps)
    train(dataset, folder, budget=budget, division=Division(given=split), settings=settings, plan=plan)
    return folder


def _labelled(dataset: Dataset, arguments: argparse.Namespace) -> Dataset:
    return replace(dataset, cases=(*dataset.cases[: arguments.labelled], *dataset.cases[-arguments.scored :]))


def _bare(dataset: Dataset, arguments: argparse.Namespace) -> Dataset:
    """Every case, of which those between the labelled and the scored have lost their references."""
    count, scored = arguments.labelled, arguments.scored
    between = tuple(replace(case, reference=None) for case in dataset.cases[count:-scored])
    return replace(dataset, cases=(*dataset.cases[:count], *between, *dataset.cases[-scored:]))


def _alone(few: Dataset, teacher: Path, student: Student, settings: Settings, arguments: argparse.Namespace) -> None:
    """The student's network without a teacher."""
    large = load_model(teacher)
    names = [case.id for case in few.cases]
    split = Split(
        tuple(names[: -arguments.scored]),
        (),
        "",
        "the last cases set aside",
        held_out=tuple(names[-arguments.scored :]),
    )
    known = replace(few, cases=few.cases[: -arguments.scored])
    plan = plan_student(known, large, student, PlanOptions(), settings=settings)
    plan = msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, distillation=None))
    budget, folder = Budget(steps=arguments.steps), FOLDER / "alone"
    own = None if (folder / "training" / "plan.json").exists() else plan
    model = train(few, folder, budget=budget, division=Division(given=split), settings=settings, plan=own)
    if model is None:
        raise SystemExit("stopped")
    scored = list(few.cases[-arguments.scored :])
    record = weigh(large, model, scored, few, folder, settings=settings, how=split.how, watch=nobody)
    mean = price_rows(record)[-1]
    print(f"{'alone':15} {mean.student:.3f}, teacher {mean.teacher:.3f}: {mean.difference:+.3f}", flush=True)


def _share(dataset: Dataset, teacher: Model, student: Student, settings: Settings) -> None:
    """What of a step the teacher takes, in seconds of the processor: others may use the machine too."""
    few = replace(dataset, cases=dataset.cases[:2])
    plan: Plan = plan_student(few, teacher, student, PlanOptions(), settings=settings)
    prepared = prepare_cases(few.cases, few.labels, plan, settings)
    cases = [indexed(case, plan) for case in prepared]
    how = plan.training.distillation
    assert how is not None
    taught = Distilled(open_teacher(teacher, match_plans(teacher.plan, plan)), how)
    network = start(plan).network.train()
    seconds: dict[str, list[float]] = {"alone": [], "taught": []}
    for step in range(8):
        batch = make_batch(cases, plan, step)
        for name, objective in (("alone", supervised), ("taught", taught)):
            began = time.process_time()
            torch.autograd.backward(objective(network, batch, plan))
            seconds[name].append(time.process_time() - began)
    alone, whole = (min(values) for values in seconds.values())
    print(
        f"a step of {plan.training.batch_size} patches: {alone:.2f} s alone, {whole:.2f} s with the teacher, who takes "
        f"{100 * (whole - alone) / whole:.0f} % ({np.prod(plan.patch_size):,} voxels a patch)",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "hippocampus")
    parser.add_argument("--teacher", type=Path, help="a model of the same dataset")
    parser.add_argument("--teacher-features", type=int, nargs="+", default=(16, 32, 64, 128))
    parser.add_argument("--teacher-steps", type=int, default=1000)
    parser.add_argument("--features", type=int, nargs="+", default=(4, 8, 16, 32))
    parser.add_argument("--labelled", type=int, default=20)
    parser.add_argument("--scored", type=int, default=40)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
