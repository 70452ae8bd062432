"""A student that learns from a teacher, and what is said of the two."""

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from delineate import training
from delineate.cli import main
from delineate.errors import DatasetError, ModelError, PlanError
from delineate.labels import label_set
from delineate.losses import dice_ce_loss
from delineate.model import Model, Provenance, load_model, save_model
from delineate.networks import build_network
from delineate.planning import DistillationPlan, Plan, PlanOptions
from delineate.planning.adopting import match_plans
from delineate.preprocessing import prepare
from delineate.sampling import TrainingCase, index_case, make_batch
from delineate.settings import Settings, detect
from delineate.training.distillation import Distilled, Teacher, narrower, open_teacher, soft_loss, with_features
from delineate.workflow.distillation_prices import CasePrice, PriceRecord, median_seconds, price_rows, read_prices
from delineate.workflow.distilling import Student, check_teacher, divide_for, plan_student, with_labels
from delineate.workflow.training import Division

PLAN = tiny_plan()
HOW = DistillationPlan(teacher="t")


def cases(plan: Plan = PLAN) -> list[TrainingCase]:
    return [index_case(prepare(f"blob_{seed}", *blob_case(seed), plan), seed=0) for seed in range(2)]


def model_of(plan: Plan, seeds: tuple[int, ...] = (0,)) -> Model:
    folds = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
        folds.append(dict(network.state_dict()))
    provenance = Provenance(
        dataset="blobs",
        dataset_digest="d",
        training_cases=("blob_0", "blob_1"),
        validation_cases=("blob_2",),
        held_out_cases=("blob_3",),
        step=1,
        seconds=1.0,
        validation_dice=None,
        created="2026",
        delineate="0",
        torch="0",
    )
    labels = label_set(dict(enumerate(plan.labels, start=1)))
    return Model(folds[0], plan, labels, provenance, more_folds=tuple(folds[1:]))


def teacher_of(model: Model, plan: Plan) -> Teacher:
    return open_teacher(model, match_plans(model.plan, plan))


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.5, 8), seed=st.integers(0, 99))
def test_a_student_that_says_the_same_loses_nothing(temperature: float, seed: int) -> None:
    logits = torch.randn((2, 3, 4, 2, 6), generator=torch.Generator().manual_seed(seed))
    same = soft_loss([logits], (logits / temperature).softmax(1), temperature)
    other = soft_loss([logits.flip(1)], (logits / temperature).softmax(1), temperature)
    assert abs(float(same)) < 1e-4
    assert float(other) > 1e-3


def test_the_divergence_is_worked_out_by_hand() -> None:
    logits = torch.zeros((1, 2, 1, 1, 1))
    soft = torch.tensor([0.9, 0.1]).reshape(1, 2, 1, 1, 1)
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(soft_loss([logits], soft, 3.0)) == pytest.approx(9 * expected, rel=1e-5)
    alone = soft_loss([logits[:, :1]], soft[:, :1], 1.0, regions=True)
    assert float(alone) == pytest.approx(expected, rel=1e-5)


def test_a_certain_teacher_at_temperature_one_is_cross_entropy() -> None:
    logits = torch.randn((2, 3, 4, 4, 2), generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 4, 2), generator=torch.Generator().manual_seed(1))
    soft = nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    expected = nn.functional.cross_entropy(logits, target)
    assert float(soft_loss([logits], soft, 1.0)) == pytest.approx(float(expected), rel=1e-5)


def test_a_teacher_of_folds_says_the_mean_of_their_probabilities() -> None:
    model = model_of(PLAN, (0, 1))
    images = torch.randn((1, 1, 8, 8, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = sum((model.network(fold)(images) / 2).softmax(1) for fold in range(2)) / 2
    found = teacher_of(model, PLAN).probabilities(images, 2.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_a_student_does_not_learn_is_background() -> None:
    student = tiny_plan(labels=("rim",))
    teacher = teacher_of(model_of(PLAN), student)
    images = torch.randn((1, 1, 8, 8, 16), generator=torch.Generator().manual_seed(0))
    whole, part = teacher_of(model_of(PLAN), PLAN).probabilities(images, 1.0), teacher.probabilities(images, 1.0)
    assert teacher.outputs == (0, 2)
    torch.testing.assert_close(part[:, 1], whole[:, 2])
    torch.testing.assert_close(part[:, 0], whole[:, 0] + whole[:, 1])


def test_references_count_where_there_are_some() -> None:
    batch = make_batch(cases(), PLAN, 0)
    network = training.start(PLAN).network.eval()
    teacher = teacher_of(model_of(PLAN, (5,)), PLAN)
    with torch.no_grad():
        both = Distilled(teacher, HOW)(network, batch, PLAN)
        alone = Distilled(teacher, HOW, unlabelled=batch.cases)(network, batch, PLAN)
        mixed = Distilled(teacher, HOW, unlabelled=batch.cases[:1])(network, batch, PLAN)
        logits = network(batch.images)
    full = dice_ce_loss(logits, batch.targets)
    second = dice_ce_loss(logits[1:], batch.targets[1:])
    assert float(both) == pytest.approx(float(alone + 0.5 * full), rel=1e-4)
    assert float(mixed) == pytest.approx(float(alone + 0.5 * second), rel=1e-4)


def test_a_student_learns_from_its_teacher_alone() -> None:
    small = tiny_plan(
        network=with_features(PLAN.network, (4, 8)),
        training=msgspec.structs.replace(PLAN.training, steps=20, learning_rate=2e-2),
    )
    objective = Distilled(teacher_of(model_of(PLAN), small), msgspec.structs.replace(HOW, weight=1.0))
    state = training.start(small)
    losses = [float(s.recent_losses[-1]) for s in training.train(state, cases(), small, objective=objective)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_narrower_networks_come_one_after_the_other() -> None:
    found = [network.features for network in narrower(msgspec.structs.replace(PLAN.network, features=(32, 64)))]
    assert found[0] == (32, 64)
    assert found == sorted(found, reverse=True)
    assert found[-1] == (4, 4)
    assert with_features(PLAN.network, (4,)).strides == PLAN.network.strides[:1]


def test_the_scored_cases_are_those_the_teacher_never_saw(tmp_path: Path) -> None:
    data, teacher = write_blobs(tmp_path, 5), model_of(PLAN)
    split = divide_for(data, teacher, Division())
    assert (split.validation, split.held_out) == (("blob_2",), ("blob_3",))
    assert split.training == ("blob_0", "blob_1", "blob_4")
    strange = replace(data, name="others")
    assert "may have been trained" in divide_for(strange, teacher, Division(hold_out=1)).how
    bare = replace(data, cases=tuple(replace(case, reference=None) for case in data.cases))
    assert len(divide_for(replace(bare, name="others"), teacher, Division()).training) == 5
    with pytest.raises(DatasetError, match="no case is left"):
        divide_for(replace(data, cases=data.cases[2:4]), teacher, Division())


def test_a_student_is_planned_like_its_teacher(tmp_path: Path) -> None:
    data, teacher = write_blobs(tmp_path / "data", 3), model_of(PLAN)
    plan = plan_student(data, teacher, Student(features=(4, 8)), PlanOptions(), settings=_machine(tmp_path))
    assert (plan.spacing_mm, plan.patch_size, plan.normalisation) == (
        PLAN.spacing_mm,
        PLAN.patch_size,
        PLAN.normalisation,
    )
    assert plan.network.features == (4, 8)
    assert plan.learnt_from == (teacher.digest,)
    strange = replace(data, labels=label_set({1: "core", 2: "vessel"}))
    with pytest.raises(PlanError, match=r"does not know all.*core, rim"):
        plan_student(strange, teacher, Student(features=(4, 8)), PlanOptions(), settings=_machine(tmp_path))
    with pytest.raises(PlanError, match="as its teacher does"):
        plan_student(data, teacher, Student(), PlanOptions(spacing_mm=(3, 3, 3)), settings=_machine(tmp_path))


def test_scans_without_structures_have_the_teachers(tmp_path: Path) -> None:
    data, teacher = write_blobs(tmp_path, 3), model_of(PLAN)
    bare = replace(data, labels=label_set({}), cases=tuple(replace(c, reference=None) for c in data.cases))
    assert with_labels(bare, teacher).labels == teacher.labels
    assert with_labels(data, teacher) == data
    with pytest.raises(DatasetError, match="other channels"):
        with_labels(replace(data, channels=("T1", "T2")), teacher)


def test_a_model_of_several_networks_does_not_teach(tmp_path: Path) -> None:
    model = model_of(PLAN)
    with pytest.raises(ModelError, match=r"cannot teach.*several parts"):
        check_teacher(replace(model, overlays=(model,)), tmp_path)
    check_teacher(model, tmp_path)


def test_prices_are_of_pairs() -> None:
    def case(name: str, teacher: float | None, student: float | None) -> CasePrice:
        dice = {"teacher_dice": (teacher, 0.5), "student_dice": (student, 0.4)}
        return CasePrice(case=name, patient=name, teacher_seconds=4.0, student_seconds=1.0, **dice)

    record = PriceRecord(
        teacher="t",
        student="s",
        structures=("core", "rim"),
        cases=(case("a", 0.9, 0.8), case("b", 0.7, 0.8), case("c", 0.9, None)),
        how="",
        device="cpu",
        threads=1,
        teacher_weights=8,
        student_weights=2,
        teacher_mb=1.0,
        student_mb=1.0,
    )
    core, rim, mean = price_rows(record)
    assert (core.cases, rim.cases, mean.structure) == (2, 3, "mean")
    assert core.teacher == pytest.approx(0.8)
    assert core.difference == pytest.approx(0.0)
    assert rim.difference == pytest.approx(-0.1)
    assert rim.interval == pytest.approx((-0.1, -0.1))
    assert mean.difference == pytest.approx(-0.05)
    assert median_seconds(record) == (4.0, 1.0)
    assert price_rows(msgspec.structs.replace(record, cases=())) == ()


def test_distil_from_the_command_line(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 5)
    save_model(tmp_path / "teacher", model_of(PLAN, (0, 1)))
    words = ["--features", "4,8", "--steps", "3", "--device", "cpu", "--threads", "1", "--cache", str(tmp_path / "c")]
    command = ["distil", *(str(tmp_path / name) for name in ("teacher", "data", "student")), *words]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "times as fast" in result.output
    student = load_model(tmp_path / "student")
    assert student.plan.network.features == (4, 8)
    record = read_prices(tmp_path / "student")
    assert record is not None
    assert [case.case for case in record.cases] == ["blob_3"]  # what the teacher held out
    assert record.teacher_weights > 2 * record.student_weights
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 0
    assert read_prices(tmp_path / "student") == record


def _machine(folder: Path) -> Settings:
    return detect("cpu", threads=1, cache=folder / "cache")
