"""Datasets that cannot be trained on, or change while they are."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from anatomy import LABELS, blob_case, tiny_plan, write_blobs
from torch import Tensor, nn

from delineate import formats
from delineate.dataset import Dataset, Split
from delineate.errors import DatasetError, ResourceError
from delineate.labels import label_set
from delineate.planning import Plan
from delineate.sampling import Batch
from delineate.settings import Settings, detect
from delineate.training import supervised
from delineate.workflow.training import Budget, Course, Division, train
from delineate.workspace import RunFolder

PLAN = tiny_plan(training=msgspec.structs.replace(tiny_plan().training, steps=2))
TWO = Division(hold_out=1)


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, memory_gb=4, cache=tmp_path / "cache")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return write_blobs(tmp_path / "data", 3)


def paint_out(data: Dataset, case: int, *values: int) -> None:
    """Take structures out of a case's reference."""
    _, reference = blob_case(case)
    array = np.where(np.isin(reference.array, values), 0, reference.array).astype(np.uint8)
    path = data.cases[case].reference
    assert path is not None
    formats.write_segmentation(path, replace(reference, array=array))


def run(data: Dataset, folder: Path, machine: Settings, plan: Plan = PLAN, division: Division = TWO) -> list[str]:
    said: list[str] = []
    train(
        data,
        folder,
        budget=Budget(),
        division=division,
        settings=machine,
        plan=plan,
        watch=lambda stage, done, total, note: said.append(f"{stage}: {note}"),
    )
    return said


@pytest.mark.parametrize("missing", ["absent", "unknown"])
def test_a_structure_that_no_training_case_has_is_refused_by_name(
    tmp_path: Path, data: Dataset, machine: Settings, missing: str
) -> None:
    plan = msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, missing_labels=missing))
    for case in (0, 1):
        paint_out(data, case, 2)
    with pytest.raises(DatasetError, match=r"no training case has.*got rim.*Take them out of dataset.json"):
        run(data, tmp_path / "m", machine, plan)
    paint_out(data, 0)  # mended: the same command starts the run
    run(data, tmp_path / "m", machine, plan)
    assert (tmp_path / "m" / "weights.safetensors").exists()


def test_labels_that_no_file_has_are_refused(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    more = replace(data, labels=label_set({**{label.value: label.name for label in LABELS}, 3: "stone"}))
    with pytest.raises(DatasetError, match="got stone"):
        run(more, tmp_path / "m", machine, msgspec.structs.replace(PLAN, labels=("core", "rim", "stone")))


def test_structures_that_cannot_be_validated_are_said(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    paint_out(data, 2, 1)
    assert any("in no validation case: core; how well" in line for line in run(data, tmp_path / "m", machine))
    paint_out(data, 2, 1, 2)
    assert any("in no validation case: core, rim;" in line for line in run(data, tmp_path / "n", machine))


def test_a_validation_case_without_a_reference_is_refused_before_the_run(
    tmp_path: Path, data: Dataset, machine: Settings
) -> None:
    bare = replace(data, cases=(*data.cases[:2], replace(data.cases[2], reference=None)))
    given = Split(("blob_0", "blob_1"), ("blob_2",), "", "by hand", ())
    with pytest.raises(DatasetError, match=r"validation cases have no reference.*got blob_2"):
        run(bare, tmp_path / "m", machine, division=Division(given=given))


def test_one_patient_trains_without_validation_only(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    one = replace(data, cases=data.cases[:1])
    with pytest.raises(DatasetError, match=r"single patient cannot be divided.*--fold all"):
        run(one, tmp_path / "m", machine, division=Division())
    run(one, tmp_path / "m", machine, division=Division(fold=None))
    assert (tmp_path / "m" / "weights.safetensors").exists()


def test_a_dataset_that_is_changed_under_the_run_is_said_and_not_gone_on_with(
    tmp_path: Path, data: Dataset, machine: Settings
) -> None:
    said: list[str] = []

    def objective(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        paint_out(data, 1, 2)
        return supervised(network, batch, plan)

    arguments = {"budget": Budget(), "division": TWO, "settings": machine, "plan": PLAN}

    def watch(stage: str, done: float, total: float, note: str) -> None:
        said.append(note)

    model = train(data, tmp_path / "m", course=Course(objective=objective), watch=watch, **arguments)  # type: ignore[arg-type]
    assert model is not None
    assert any("changed during the run (blob_1.nii.gz): the model is of what it was" in line for line in said)
    facts = RunFolder(tmp_path / "m").facts()
    assert facts is not None
    assert facts.incidents[0].what == "the dataset was changed during the run (blob_1.nii.gz)"
    with pytest.raises(DatasetError, match=r"has changed since this run began.*new folder"):
        train(data, tmp_path / "m", **arguments)  # type: ignore[arg-type]


def test_files_that_were_only_touched_are_no_change(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    def objective(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        data.cases[0].images[0].touch()
        return supervised(network, batch, plan)

    arguments = {"budget": Budget(), "division": TWO, "settings": machine, "plan": PLAN}
    train(data, tmp_path / "m", course=Course(objective=objective), **arguments)  # type: ignore[arg-type]
    facts = RunFolder(tmp_path / "m").facts()
    assert facts is not None
    assert facts.incidents == ()


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    with RunFolder(tmp_path / "m").taken(), pytest.raises(ResourceError, match=r"another run is writing here.*Wait"):
        run(data, tmp_path / "m", machine)
    run(data, tmp_path / "m", machine)
