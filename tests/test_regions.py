"""Overlapping regions and ignored voxels, from the dataset to the result."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from anatomy import LABELS, blob_case, tiny_plan, write_blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate import evaluation, formats, training
from delineate.dataset import Dataset, digest, open_dataset, unite_labels, write_dataset_json
from delineate.errors import LabelError
from delineate.exchange import read_nnunet
from delineate.exchange.nnunet_writing import write_nnunet
from delineate.geometry import ORIENTATIONS
from delineate.inference import dice_of_case, paint, segment
from delineate.labels import LabelSet, Region, label_set, make_regions, region_labels
from delineate.model import Model, Provenance
from delineate.planning import Plan, PlanOptions, Preparation
from delineate.preprocessing import IGNORE, prepare
from delineate.sampling import index_case
from delineate.settings import detect
from delineate.volume import Segmentation, crop, from_values, leave_out, reorient
from delineate.workflow.evaluating import evaluate
from delineate.workflow.preparing import measure, plan_dataset
from delineate.workflow.results import ResultRecord, write_record
from delineate.workflow.writing import find_reference

WHOLE, CORE = Region(name="whole", values=(1, 2), paints=2), Region(name="core", values=(1,), paints=1)
NESTED = region_labels((WHOLE, CORE), ignore=9)


def region_plan(**changes: Any) -> Plan:
    return tiny_plan(labels=("whole", "core"), regions=(WHOLE, CORE), **changes)


def drawn(seed: int, ignored_slices: int = 0) -> tuple[Any, np.ndarray]:
    """A blob's scan, and its label map with the last slices to be ignored."""
    volume, reference = blob_case(seed)
    values = reference.array.copy()
    values[:, :, values.shape[2] - ignored_slices :] = 9
    return volume, values


def write_nested(folder: Path, count: int) -> Dataset:
    """`write_blobs` with regions; of each case the last two slices are ignored."""
    dataset = write_blobs(folder, count, labels=NESTED)
    for seed, case in enumerate(dataset.cases):
        volume, values = drawn(seed, 2)
        assert case.reference is not None
        plain = Segmentation(values, volume.grid, label_set({1: "a", 2: "b", 9: "c"}))
        formats.write_segmentation(case.reference, plain)
    return dataset


def test_regions_are_painted_from_the_outside_in() -> None:
    regions = make_regions({"enhancing": (4,), "whole": (1, 2, 4), "core": (1, 4)})
    assert [(region.name, region.paints) for region in regions] == [("whole", 2), ("core", 1), ("enhancing", 4)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=1, max_size=5, unique_by=lambda s: tuple(sorted(s))))
def test_a_region_that_is_painted_last_consists_of_what_it_paints(sets: list[set[int]]) -> None:
    regions = make_regions({f"r{n}": sorted(values) for n, values in enumerate(sets)})
    assert all(region.paints in region.values for region in regions)
    assert region_labels(regions).structure_values == tuple(sorted(set().union(*sets)))


@pytest.mark.parametrize("ignore", [0, 2])
def test_what_is_ignored_is_no_structure(ignore: int) -> None:
    with pytest.raises(LabelError, match="the value to ignore is a structure's"):
        region_labels((WHOLE, CORE), ignore=ignore)


def test_a_dataset_with_regions_and_an_ignore_label_comes_back(tmp_path: Path) -> None:
    dataset = write_nested(tmp_path, 2)
    found = open_dataset(tmp_path)
    assert found.labels == NESTED
    write_dataset_json(tmp_path, found)
    assert open_dataset(tmp_path) == found
    assert digest(found) != digest(replace(found, labels=replace(NESTED, ignore=10)))
    assert dataset.labels.names == found.labels.names


@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_a_reference_is_masks_and_what_is_ignored(orientation: str) -> None:
    volume, values = drawn(0, 2)
    found = reorient(from_values(values, volume.grid, NESTED), orientation)
    back = reorient(found, volume.grid.orientation)
    np.testing.assert_array_equal(back.mask("whole"), (values == 1) | (values == 2))
    np.testing.assert_array_equal(back.mask("core"), values == 1)
    assert found.ignored is not None
    assert back.ignored is not None
    np.testing.assert_array_equal(back.ignored, values == 9)


def test_what_is_ignored_is_cropped_with_the_rest() -> None:
    from delineate.geometry import Box

    volume, values = drawn(0, 2)
    part = crop(from_values(values, volume.grid, NESTED), Box((2, 3, 5), (9, 8, 12)))
    assert part.ignored is not None
    np.testing.assert_array_equal(part.ignored, values[2:9, 3:8, 5:12] == 9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 50), orientation=st.sampled_from(ORIENTATIONS), voted=st.booleans())
def test_masks_and_plain_labels_are_prepared_alike(seed: int, orientation: str, voted: bool) -> None:
    volume, values = drawn(seed)
    plan = region_plan(preparation=Preparation(resampling="nnunet" if voted else "delineate"))
    masks = reorient(from_values(values, volume.grid, NESTED), orientation)
    targets = [prepare("a", volume, one, plan).target for one in (masks, Segmentation(values, volume.grid, LABELS))]
    assert targets[0] is not None
    assert targets[1] is not None
    assert set(np.unique(targets[0])) == {0, 1, 2}
    np.testing.assert_array_equal(targets[0], targets[1])


@pytest.mark.parametrize("resampling", ["delineate", "nnunet", "nnunet_torch"])
def test_ignored_voxels_are_a_class_of_their_own_in_a_target(resampling: str) -> None:
    volume, values = drawn(1, 3)
    plan = tiny_plan(preparation=Preparation(resampling=resampling))  # type: ignore[arg-type]
    case = prepare("a", volume, from_values(values, volume.grid, replace(LABELS, ignore=9)), plan)
    assert case.target is not None
    assert set(np.unique(case.target)) == {0, 1, 2, IGNORE}
    assert (case.target[:, :, -1] == IGNORE).all()
    assert not (case.target[:, :, :8] == IGNORE).any()
    assert index_case(case, seed=0).values == (1, 2)


def test_masks_that_overlap_as_no_value_says_are_refused() -> None:
    volume, values = drawn(0)
    masks = from_values(values, volume.grid, NESTED).array.copy()
    masks[NESTED.names.index("core"), 0, 0, 0] = True
    with pytest.raises(LabelError, match="got 1 voxels, the first in core alone"):
        prepare("a", volume, Segmentation(masks, volume.grid, NESTED), region_plan())


def test_labels_are_united_by_name_or_value(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 2)
    united = unite_labels(dataset, ["core=1", "whole = core, 2"])
    assert united.labels.regions == (WHOLE, CORE)
    config = detect("cpu", cache=tmp_path / "cache")
    plan = plan_dataset(dataset, config, PlanOptions(regions=("core=1", "whole=1,2")))
    assert (plan.labels, plan.regions) == (("whole", "core"), (WHOLE, CORE))
    (case, _) = measure(united, config).cases
    assert case.label_voxels[0] < case.label_voxels[1]  # of core, of whole


@pytest.mark.parametrize(
    ("wish", "message"),
    [("whole", "no region"), ("whole=1,7", "a label that is not there.*1 core, 2 rim.*got 7"), ("=1", "no region")],
)
def test_regions_of_what_is_not_there_are_refused(tmp_path: Path, wish: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        unite_labels(write_blobs(tmp_path, 1), [wish])


def test_dice_of_regions_by_hand() -> None:
    # Painted: nothing, whole, core, core; drawn: whole, whole, core, ignored.
    logits = np.full((2, 4, 1, 1), -1.0, dtype=np.float32)
    logits[0, 1:] = 1
    logits[1, 2:] = 1
    painted = paint(logits, region_plan())
    assert painted.ravel().tolist() == [0, 1, 2, 2]
    target = np.array([2, 2, 1, IGNORE], dtype=np.uint8).reshape(4, 1, 1)
    np.testing.assert_allclose(dice_of_case(painted, target, region_plan()), [4 / 5, 1])


def test_dice_of_classes_leaves_out_what_is_ignored() -> None:
    painted = np.array([0, 1, 2, 2], dtype=np.uint8).reshape(4, 1, 1)
    target = np.array([1, 1, IGNORE, IGNORE], dtype=np.uint8).reshape(4, 1, 1)
    found = dice_of_case(painted, target, tiny_plan())
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])


def test_a_score_leaves_out_what_the_reference_ignores() -> None:
    volume, values = drawn(2, 4)
    reference = from_values(values, volume.grid, NESTED)
    wrong = np.where(values == 9, 1, values).astype(np.uint8)
    prediction = from_values(wrong, volume.grid, replace(NESTED, ignore=None))
    scores = evaluation.score_case("a", reference, prediction).scores
    assert {name: one.dice for name, one in scores.items()} == {"whole": 1.0, "core": 1.0}
    assert leave_out(prediction, None) is prediction


def test_evaluate_scores_regions_of_the_dataset(tmp_path: Path) -> None:
    dataset = write_nested(tmp_path / "data", 2)
    results = tmp_path / "results"
    for seed, case in enumerate(dataset.cases):
        volume, reference = blob_case(seed)
        shrunk = np.where(reference.array == 1, 2, reference.array).astype(np.uint8)  # no core anywhere
        formats.write_segmentation(results / f"{case.id}.nii.gz", Segmentation(shrunk, volume.grid, LABELS))
    result = evaluate(tmp_path / "data", results, settings=detect("cpu", cache=tmp_path / "cache"))
    assert not result.failures
    dice = {name: one.metrics["dice"].mean for name, one in result.evaluation.structures.items()}
    assert dice == {"whole": 1.0, "core": 0.0}
    assert '"ignore": 9' in result.scores.read_text(encoding="utf-8")


def test_evaluate_leaves_out_what_plain_references_ignore_for_regions_too(tmp_path: Path) -> None:
    dataset = write_nested(tmp_path / "data", 1)
    write_dataset_json(tmp_path / "data", replace(dataset, labels=replace(LABELS, ignore=9)))
    volume, reference = blob_case(0)
    wrong = reference.array.copy()
    wrong[:, :, -2:] = 2
    target = tmp_path / "results" / "blob_0.nii.gz"
    formats.write_segmentation(target, Segmentation(wrong, volume.grid, LABELS))
    known = {"labels": {"core": 1, "whole": 2}, "regions": {"whole": [1, 2], "core": [1]}}
    record = {"case": "blob_0", "volumes_ml": {}, "model": "", "series_uid": None, "seconds": 0.0, **known}
    write_record(target, msgspec.convert(record, ResultRecord))
    result = evaluate(tmp_path / "data", target.parent, settings=detect("cpu", cache=tmp_path / "cache"))
    dice = {name: one.metrics["dice"].mean for name, one in result.evaluation.structures.items()}
    assert dice == {"core": 1.0, "whole": 1.0}


def test_a_reference_that_is_drawn_beside_a_result_may_ignore_voxels(tmp_path: Path) -> None:
    write_nested(tmp_path, 1)
    found = find_reference(tmp_path / "labelsTr", "blob_0", replace(NESTED, ignore=None))
    assert found is not None
    assert found.ignored is not None
    assert not found.array[:, found.ignored].any()


def trained(plan: Plan, labels: LabelSet, *, keep: float = 1.0) -> Model:
    """A model of four blobs, of whose voxels a share is known."""
    cases = []
    for seed in range(4):
        volume, values = drawn(seed)
        if keep < 1:
            hidden = np.random.default_rng(seed).random(values.shape) >= keep
            values = np.where(hidden, 9, values).astype(np.uint8)
        cases.append(index_case(prepare(f"b{seed}", volume, from_values(values, volume.grid, labels), plan), seed=0))
    state = training.start(plan)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network is slower in several
    for _ in training.train(state, cases, plan):
        pass
    torch.set_num_threads(threads)
    provenance = msgspec.convert({name: kind_of(name) for name in Provenance.__struct_fields__[:11]}, Provenance)
    weights = {name: tensor.detach().clone() for name, tensor in state.average.items()}
    return Model(weights, plan, replace(labels, ignore=None), provenance)


def kind_of(name: str) -> Any:
    if name.endswith("_cases"):
        return ()
    return {"step": 1, "seconds": 1.0, "validation_dice": None}.get(name, "")


def long(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, steps=120, learning_rate=2e-2))


@cache
def region_model() -> Model:
    return trained(long(region_plan()), NESTED)


def dice(found: np.ndarray, expected: np.ndarray) -> float:
    return float(2 * np.count_nonzero(found & expected) / (np.count_nonzero(found) + np.count_nonzero(expected)))


def test_regions_are_learned_and_what_is_inside_stays_inside() -> None:
    volume, values = drawn(11)
    found = segment(region_model(), volume)
    whole, core = (found.segmentation.mask(name) for name in ("whole", "core"))
    assert dice(whole, values > 0) > 0.8
    assert dice(core, values == 1) > 0.8
    assert not (core & ~whole).any()
    assert set(np.unique(found.label_map)) == {0, 1, 2}


def test_a_trained_region_model_goes_to_nnunet_and_comes_back(tmp_path: Path) -> None:
    model = region_model()
    write_nnunet(model, tmp_path / "m")
    back = read_nnunet(tmp_path / "m")
    assert (back.plan.regions, back.plan.labels) == ((WHOLE, CORE), ("whole", "core"))
    assert back.labels.regions == (WHOLE, CORE)
    scan = torch.randn(1, 1, 16, 16, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(back.network()(scan), model.network()(scan), atol=1e-5, rtol=1e-5)


def test_one_voxel_in_twenty_is_enough_to_learn_from() -> None:
    model = trained(long(tiny_plan()), replace(LABELS, ignore=9), keep=0.05)
    volume, values = drawn(11)
    found = segment(model, volume).label_map
    assert dice(found > 0, values > 0) > 0.8
    assert dice(found == 1, values == 1) > 0.7
