"""Several readers' references: found, learned from one by one or as their consensus, and validated against."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from anatomy import LABELS, blob_case, tiny_plan, write_blobs

from delineate import formats, training
from delineate.dataset import Dataset, check_files, digest, from_csv, open_dataset, write_dataset_json
from delineate.errors import DatasetError
from delineate.planning import Plan
from delineate.preprocessing import PreparedCase
from delineate.settings import Settings, detect
from delineate.workflow.checking import look_at
from delineate.workflow.preparing import prepare_cases
from delineate.workflow.training import indexed


def learning_from(annotators: str, **training_fields: object) -> Plan:
    one = tiny_plan()
    return tiny_plan(training=msgspec.structs.replace(one.training, annotators=annotators, **training_fields))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, cache=tmp_path / "cache")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Two cases of three readers; the second reader drew the first case only, and no rim."""
    folder = tmp_path / "data"
    write_blobs(folder, 2)
    _, reference = blob_case(0)
    core = replace(reference, array=np.where(reference.array == 1, 1, 0).astype(np.uint8))
    formats.write_segmentation(folder / "labelsTr_2" / "blob_0.nii.gz", core)
    for seed in range(2):
        formats.write_segmentation(folder / "labelsTr_smith" / f"blob_{seed}.nii.gz", blob_case(seed)[1])
    return open_dataset(folder)


def readers(case_others: tuple[Path, ...]) -> list[str]:
    return [path.parent.name for path in case_others]


def held(target: npt.NDArray[np.uint8] | None) -> list[int]:
    assert target is not None
    return [int(value) for value in np.unique(target)]


def test_further_readers_lie_in_folders_beside_the_first_ones(data: Dataset, tmp_path: Path) -> None:
    assert [readers(case.others) for case in data.cases] == [["labelsTr_2", "labelsTr_smith"], ["labelsTr_smith"]]
    (told,) = check_files(data, tmp_path / "data")
    assert told.what == "2 cases were drawn by several readers: labelsTr, labelsTr_2, labelsTr_smith"
    formats.write_segmentation(tmp_path / "data" / "labelsTr_2" / "stranger.nii.gz", blob_case(1)[1])
    strange = check_files(data, tmp_path / "data")[-1]
    assert strange.what == "labelsTr_2 has a reference that no case uses"


def test_dataset_json_lists_them_in_their_order(data: Dataset, tmp_path: Path) -> None:
    first = replace(data.cases[0], others=data.cases[0].others[::-1])
    chosen = replace(data, cases=(first, data.cases[1]))
    write_dataset_json(tmp_path / "data", chosen)
    assert open_dataset(tmp_path / "data").cases == chosen.cases


def test_a_table_has_a_column_for_each(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label,label2,label3\na.nii,r.nii,,t.nii\n")
    (case,) = from_csv(tmp_path / "t.csv", LABELS, channels=("MR",)).cases
    assert [path.name for path in case.references] == ["r.nii", "t.nii"]


def test_what_a_reader_drew_belongs_to_the_digest(data: Dataset) -> None:
    alone = replace(data, cases=tuple(replace(case, others=()) for case in data.cases))
    assert digest(alone) != digest(data)


def test_every_readers_label_map_is_checked(data: Dataset, tmp_path: Path) -> None:
    _, reference = blob_case(0)
    odd = replace(reference, array=np.where(reference.array == 2, 9, 0).astype(np.uint8), labels=LABELS)
    formats.write_segmentation(tmp_path / "data" / "labelsTr_2" / "blob_0.nii.gz", odd)
    found = look_at(data.cases[0], data).problems
    assert [(problem.severity, problem.file) for problem in found if problem.severity == "error"] == [
        ("error", data.cases[0].others[0])
    ]


def test_the_first_reader_is_what_there_was_before(data: Dataset, settings: Settings) -> None:
    first = prepare_cases(data.cases, LABELS, learning_from("first"), settings)
    assert [len(case.others) for case in first] == [0, 0]


def test_sampling_keeps_what_each_reader_drew(data: Dataset, settings: Settings) -> None:
    plan = learning_from("sample")
    for _ in range(2):  # made, then found in the cache
        first, second = prepare_cases(data.cases, LABELS, plan, settings)
        assert [held(target) for target in (first.target, *first.others)] == [[0, 1, 2], [0, 1], [0, 1, 2]]
        assert len(second.others) == 1
    assert [one.values for one in indexed(first, plan).readings] == [(1, 2), (1,), (1, 2)]


def test_a_majority_is_one_target_for_all(data: Dataset, settings: Settings) -> None:
    agreed, alone = (
        prepare_cases(data.cases[:1], LABELS, learning_from(how), settings)[0] for how in ("majority", "first")
    )
    assert agreed.others == ()
    np.testing.assert_array_equal(agreed.target, alone.target)  # two of three drew the rim


def test_staple_comes_to_something_in_between(data: Dataset, settings: Settings) -> None:
    (agreed,) = prepare_cases(data.cases[:1], LABELS, learning_from("staple"), settings)
    assert held(agreed.target) == [0, 1, 2]


def test_a_readers_file_that_is_gone_is_named(data: Dataset, settings: Settings) -> None:
    data.cases[0].others[0].unlink()
    with pytest.raises(DatasetError, match=r"a file of the case is missing.*blob_0"):
        prepare_cases(data.cases, LABELS, learning_from("majority"), settings)


def painted(case: PreparedCase, plan: Plan) -> float:
    """The core's validation score of a network that finds nothing but background."""
    state = training.start(plan)
    for name, tensor in state.average.items():
        tensor.zero_()
        if name.endswith("bias") and tensor.shape == (plan.classes,):
            tensor.copy_(torch.tensor([0.0, 1.0, 0.0]))  # the core everywhere
    dice = training.validate(state, [case], plan)[0]
    assert dice is not None
    return dice


def test_validation_is_the_mean_over_readers(data: Dataset, settings: Settings) -> None:
    plan = learning_from("sample")
    (case,) = prepare_cases(data.cases[1:], LABELS, plan, settings)
    assert case.target is not None
    large = np.where(case.target > 0, 1, 0).astype(np.uint8)
    single = [painted(replace(case, target=target, others=()), plan) for target in (case.target, large)]
    both = painted(replace(case, others=(large,)), plan)
    assert single[0] < both < single[1]
    assert both == pytest.approx(sum(single) / 2)


def test_a_structure_that_one_reader_left_out_is_scored_by_the_others_where_that_means_unknown(
    data: Dataset, settings: Settings
) -> None:
    plan = learning_from("sample", missing_labels="unknown")
    (case,) = prepare_cases(data.cases[1:], LABELS, plan, settings)
    nothing = np.zeros_like(case.target)
    alone = painted(replace(case, others=()), plan)
    assert painted(replace(case, others=(nothing,)), plan) == pytest.approx(alone)
