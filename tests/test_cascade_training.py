"""Cascades that are trained: masks of the stage before in patches, out of fold, and in the packed model."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import DatasetError
from delineate.inference import segment
from delineate.model import load_model
from delineate.planning import Plan, plan_to_json
from delineate.planning.configurations import CASCADE, LOW
from delineate.preprocessing import prepare
from delineate.sampling import index_case
from delineate.sampling.patches import make_patch
from delineate.sampling.stages import wear
from delineate.settings import Settings
from delineate.workflow.experiment_choosing import conclude
from delineate.workflow.experiment_folder import ExperimentFolder
from delineate.workflow.experiment_planning import ExperimentOptions
from delineate.workflow.experimenting import experiment
from delineate.workflow.preparing import prepare_cases
from delineate.workflow.results import read_record
from delineate.workflow.structures import read_case
from delineate.workflow.training_run import Budget

PLAN = tiny_plan(previous=("core", "rim"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 3))
def test_worn_masks_are_masks_and_the_same_each_time(seed: int, count: int) -> None:
    masks = (np.random.default_rng(seed).random((count, 9, 8, 7)) < 0.3).astype(np.float32)
    worn = wear(masks.copy(), np.random.default_rng(seed))
    assert worn.shape == masks.shape
    assert set(np.unique(worn)) <= {0.0, 1.0}
    np.testing.assert_array_equal(worn, wear(masks.copy(), np.random.default_rng(seed)))


def test_some_masks_are_worn_and_most_are_not() -> None:
    masks = np.zeros((1, 16, 16, 16), dtype=np.float32)
    masks[0, 4:12, 4:12, 4:12] = 1
    changed = [not np.array_equal(masks, wear(masks.copy(), np.random.default_rng(n))) for n in range(400)]
    assert 0.3 < np.mean(changed) < 0.6


def test_a_lost_part_is_a_whole_component() -> None:
    masks = np.zeros((1, 20, 20, 20), dtype=np.float32)
    masks[0, 2:5, 2:5, 2:5] = masks[0, 10:14, 10:14, 10:14] = 1
    sums = {int(wear(masks.copy(), np.random.default_rng(n)).sum()) for n in range(300)}
    assert {27 + 64, 27, 64} <= sums


def test_masks_in_a_patch_follow_the_image_and_keep_their_values() -> None:
    image, reference = blob_case(0)
    case = index_case(prepare("blob", image, reference, PLAN, previous=reference), seed=0, masks=2)
    loud = msgspec.structs.replace(PLAN.augmentation, noise_probability=1.0, brightness_probability=1.0)
    plan = msgspec.structs.replace(PLAN, augmentation=loud)
    agreeing = []
    for seed in range(30):
        patch, target = make_patch(case, plan, np.random.default_rng(seed))
        assert patch.shape[0] == 3
        assert set(torch.unique(patch[1:]).tolist()) <= {0.0, 1.0}
        agreeing.append(float(((patch[1] == 1) == (target == 1)).float().mean()))
    assert np.median(agreeing) > 0.98  # turned alike; interpolated, where the target takes the nearest voxel


def test_plans_without_a_stage_before_draw_the_patches_they_drew() -> None:
    image, reference = blob_case(0)
    case = index_case(prepare("blob", image, reference, tiny_plan()), seed=0)
    staged = replace(
        index_case(prepare("blob", image, reference, PLAN, previous=reference), seed=0, masks=2), values=case.values
    )
    alone, target = make_patch(case, tiny_plan(), np.random.default_rng(3))
    beside, same = make_patch(staged, PLAN, np.random.default_rng(3))
    assert torch.equal(target, same)
    assert alone.shape[1:] == beside.shape[1:]


def test_masks_without_a_record_are_refused(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 1)
    (case,) = dataset.cases
    assert case.reference is not None
    with pytest.raises(DatasetError, match="what the masks of the stage before mean"):
        prepare_cases(
            [case], dataset.labels, PLAN, Settings("cpu", 1, 10**9, tmp_path), before={case.id: case.reference}
        )


def coarse(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, spacing_mm=(2.4, 2.4, 4.0), previous=())


@pytest.mark.slow
def test_an_experiment_trains_a_cascade_on_masks_of_networks_that_never_saw_the_case(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 4)
    training = msgspec.structs.replace(PLAN.training, steps=4, validations=1)
    plan = msgspec.structs.replace(PLAN, training=training)
    files = (tmp_path / f"{LOW}.json", tmp_path / f"{CASCADE}.json")
    for path, one in zip(files, (coarse(plan), plan), strict=True):
        path.write_text(plan_to_json(one))
    options = ExperimentOptions(budget=Budget(steps=4), folds=2, plans=files, ensembles=False)
    machine, place = Settings("cpu", 1, 6 * 10**9, tmp_path / "cache"), ExperimentFolder(tmp_path / "out")

    result = experiment(dataset, place.path, options=options, settings=machine)
    assert result is not None
    for fold, cases in enumerate(result.setup.folds):
        first = load_model(place.run(LOW, fold).model)
        for case in cases:
            record = read_record(place.stage(LOW, case))
            assert record is not None
            assert record.model == first.digest
            assert case not in first.provenance.training_cases

    second = {line.name: line for line in result.lines}
    assert set(second) == {LOW, CASCADE}
    written = {path: path.stat().st_mtime_ns for path in (place.path / "stages").rglob("*.nii.gz")}
    assert experiment(dataset, place.path, options=options, settings=machine) is not None
    assert written == {path: path.stat().st_mtime_ns for path in (place.path / "stages").rglob("*.nii.gz")}


@pytest.mark.slow
def test_a_cascade_that_is_chosen_is_packed_with_its_first_stage(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 4)
    plan = msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, steps=3, validations=1))
    files = (tmp_path / f"{LOW}.json", tmp_path / f"{CASCADE}.json")
    for path, one in zip(files, (coarse(plan), plan), strict=True):
        path.write_text(plan_to_json(one))
    options = ExperimentOptions(budget=Budget(steps=3), folds=2, plans=files, ensembles=False)
    machine, place = Settings("cpu", 1, 6 * 10**9, tmp_path / "cache"), ExperimentFolder(tmp_path / "out")

    def prefer(*given: object) -> object:
        made = conclude(*given)  # type: ignore[arg-type]
        return replace(made, choice=replace(made.choice, chosen=CASCADE, rules=()))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("delineate.workflow.experimenting.conclude", prefer)
        assert experiment(dataset, place.path, options=options, settings=machine) is not None
    model = load_model(place.model)
    assert model.previous is not None
    assert (len(model.folds), len(model.previous.folds)) == (2, 2)
    assert model.previous.plan.spacing_mm == (2.4, 2.4, 4.0)
    volume, _ = read_case(dataset.cases[0], dataset.labels, dataset.kinds)
    assert segment(model, volume).segmentation.grid == volume.grid
