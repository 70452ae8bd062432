"""What the processes of tests/test_together.py do: `python together_work.py WHAT FOLDER`, started several at a time."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from anatomy import blob_case, tiny_plan
from safetensors.torch import save_file
from torch import Tensor, nn

from delineate import training
from delineate.dataset import open_dataset
from delineate.errors import DelineateError, TrainingError
from delineate.groups import ALONE, Group
from delineate.networks import build_network
from delineate.planning import DistillationPlan, Plan, Region
from delineate.preprocessing import IGNORE, prepare
from delineate.sampling import Batch, TrainingCase, index_case
from delineate.settings import Settings, detect
from delineate.training import Objective, supervised
from delineate.training.distillation import Distilled, Teacher, with_features
from delineate.training.prompting import prompted, prompting_plan
from delineate.training.reconstruction import reconstruction, reconstruction_plan
from delineate.training.together import match
from delineate.workflow.company import BY_ITSELF, Company, company
from delineate.workflow.distilling import Student, distil
from delineate.workflow.pretraining import Hiding, pretrain
from delineate.workflow.prompting import train_promptable
from delineate.workflow.training import Budget, Course, Division, train

Curve = tuple[list[float], dict[str, Tensor]]


def plans() -> Iterator[tuple[str, Plan, Objective]]:
    plan = shared(tiny_plan())
    yield "softmax", plan, supervised
    batch_norm = msgspec.structs.replace(plan.network, norm="batch")
    yield "batch norm", msgspec.structs.replace(plan, network=batch_norm), supervised
    yield "missing labels", changed(plan, missing_labels="unknown"), supervised
    regions = (Region(name="whole", values=(1, 2), paints=2), Region(name="core", values=(1,), paints=1))
    yield (
        "regions",
        msgspec.structs.replace(changed(plan, missing_labels="unknown"), regions=regions, labels=("whole", "core")),
        supervised,
    )
    yield "reconstruction", reconstruction_plan(plan, block=(4, 4, 2)), reconstruction
    yield "prompts", prompting_plan(plan), prompted
    yield "distillation", plan, Distilled(_teacher(plan), DistillationPlan(teacher="t"), frozenset({"blob_2"}))


def _teacher(plan: Plan) -> Teacher:
    wider = msgspec.structs.replace(plan, network=with_features(plan.network, (12, 24)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build_network(wider.network, in_channels=wider.inputs, out_channels=wider.classes)
    return Teacher((network.eval(),), wider, tuple(range(wider.classes)))


def shared(plan: Plan) -> Plan:
    # SGD, because Adam divides by next to nothing for some weights, which makes much of rounding.
    return changed(plan, batch_size=4, optimiser="sgd", learning_rate=0.05)


def changed(plan: Plan, **changes: object) -> Plan:
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, **changes))


def cases(plan: Plan, unlabelled: Collection[str] = ()) -> list[TrainingCase]:
    """One complete, one in which the rim was not drawn, one that ignores a part of the scan, or all of it."""
    found = []
    for seed in range(3):
        case = prepare(f"blob_{seed}", *blob_case(seed), plan)
        assert case.target is not None
        target = np.array(case.target)
        if seed == 1:
            target[target == 2] = 0
        if seed == 2:
            target[:6] = IGNORE
        if case.id in unlabelled:
            target[:] = IGNORE
        found.append(index_case(replace(case, target=target), seed=0))
    return found


def curve(plan: Plan, objective: Objective, group: Group = ALONE) -> Curve:
    """The losses of a few steps, and the weights after them."""
    state = match(training.start(plan) if group.leads else None, plan, group)
    unlabelled = objective.unlabelled if isinstance(objective, Distilled) else ()
    steps = training.train(state, cases(tiny_plan(), unlabelled), plan, objective=objective)
    losses = [float(state.recent_losses[-1]) for _ in steps]
    return losses, training.pack(state)


def course(*, stops: bool) -> Course:
    """That ends a run after its first validation, or not."""
    return Course(goes_on=lambda step, dice: not stops)


def run(folder: Path, name: str, chosen: Course, together: Company = BY_ITSELF) -> None:
    train(
        open_dataset(folder / "data"),
        folder / name,
        budget=Budget(),
        division=Division(hold_out=2),
        settings=machine(folder),
        plan=long_plan(),
        course=chosen,
        together=together,
    )


def machine(folder: Path) -> Settings:
    return replace(detect("cpu", threads=1, memory_gb=4, cache=folder / "cache"), save_seconds=0)


def other_runs(folder: Path, name: str, together: Company = BY_ITSELF) -> tuple[float, ...]:
    """What is found of a network that was pretrained, of one that takes prompts, and of a student of `teacher`."""
    data, into, settings = open_dataset(folder / "data"), folder / name, machine(folder)
    pretrained = pretrain(
        data,
        into / "pretrained",
        budget=Budget(),
        settings=settings,
        hiding=Hiding(block=(4, 4, 2)),
        hold_out=1,
        plan=long_plan(),
        together=together,
    )
    pointed = train_promptable(
        data,
        into / "prompts",
        budget=Budget(),
        division=Division(hold_out=1),
        settings=settings,
        plan=long_plan(),
        together=together,
    )
    student = distil(
        folder / "teacher",
        data,
        into / "student",
        budget=Budget(steps=12),
        settings=settings,
        student=Student(features=(4, 8)),
        together=together,
    )
    assert pretrained is not None
    assert pretrained[1].unexplained is not None
    assert pointed is not None
    assert student is not None
    clicks = [dice for structure in pointed[1].structures for dice in structure.dice]
    scores = [dice for case in student[1].cases for dice in case.student_dice if dice is not None]
    return pretrained[1].unexplained, *clicks, *scores


def long_plan() -> Plan:
    return changed(shared(tiny_plan()), steps=12)


class Fatal:
    """An objective that ends process 1 at a step, once: kills it, or fails."""

    def __init__(self, step: int, once: Path, *, kills: bool) -> None:
        self.step, self.once, self.kills = step, once, kills

    def __call__(self, network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        if batch.step == self.step and batch.group.rank == 1 and not self.once.exists():
            self.once.touch()
            if self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise TrainingError("this case cannot be used", case="blob_1")
        return supervised(network, batch, plan)


def main(what: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with company("cpu") as together:
        if what == "curves":
            for name, plan, objective in plans():
                losses, weights = curve(plan, objective, together.group)
                if together.leads:
                    (folder / f"{name}.json").write_bytes(msgspec.json.encode(losses))
                save_file(weights, folder / f"{name} {together.group.rank}.safetensors")
            run(folder, "resumed", course(stops=True), together)
        elif what == "others":
            run(folder, "teacher", course(stops=False), together)
            found = other_runs(folder, "by two", together)
            (folder / f"others {together.group.rank}.json").write_bytes(msgspec.json.encode(found))
        else:
            fatal = Fatal(7, folder / f"{what} once", kills=what == "killed")
            run(folder, what, Course(objective=fatal), together)


if __name__ == "__main__":
    work, place = sys.argv[1], Path(sys.argv[2])
    rank = os.environ["RANK"]
    code: object = 0
    try:
        main(work, place)
    except DelineateError as error:
        with (place / f"{work} said").open("a") as stream:
            stream.write(f"{rank}: {error}\n")
        code = 2
    except SystemExit as end:
        code = end.code
    os._exit(int(str(code)))
