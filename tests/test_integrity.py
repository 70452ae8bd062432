"""What check_files and check_case find, and that they are silent about good data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from delineate.dataset import Case, Dataset, Problem, check_case, check_files, open_dataset, problem_of
from delineate.errors import UnreadableImage
from delineate.geometry import Grid, axis_change, change_axes, compose_affine
from delineate.labels import LabelSet, label_set
from delineate.volume import Volume, change_array_axes

DATA = Path(__file__).parents[2] / "shared" / "data"
SHAPE = (7, 6, 5)
# Oblique and anisotropic; axis 0 runs roughly to the patient's right.
GRID = Grid(SHAPE, compose_affine([[-0.7, 0.02, 0], [0.03, 0.9, 0.1], [0, -0.1, 3.0]], [40, -20, 11]))
LABELS = label_set({1: "left_kidney", 2: "right_kidney"})
CASE = Case("a", "a", (Path("a.nii"),), Path("r.nii"))


def scan(channels: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 400, (channels, *SHAPE)).astype(np.float32)


def reference() -> npt.NDArray[np.uint8]:
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2:4, 1:4] = 1  # low indices of axis 0 lie to the left
    array[5, 2:4, 1:3] = 2
    return array


def check(
    array: npt.NDArray[Any] | None = None,
    label_array: npt.NDArray[Any] | None = None,
    *,
    grid: Grid = GRID,
    label_grid: Grid | None = None,
    channels: tuple[str, ...] = ("CT",),
    labels: LabelSet = LABELS,
) -> list[Problem]:
    return check_case(
        CASE,
        Volume(scan() if array is None else array, grid),
        channels=channels,
        labels=labels,
        label_array=reference() if label_array is None else label_array,
        label_grid=label_grid or grid,
    )


def only(problems: list[Problem], severity: str) -> str:
    (problem,) = problems
    assert problem.severity == severity
    assert problem.remedy.endswith(".")
    return problem.what


def test_a_good_case_has_no_problems() -> None:
    assert check() == []
    assert check(label_array=reference().astype(np.float64)) == []


def test_a_case_without_reference_is_checked_too() -> None:
    image = Volume(np.zeros((1, *SHAPE), np.int16), GRID)
    assert only(check_case(CASE, image, channels=("MR",), labels=LABELS), "error") == "channel MR is 0 everywhere"


def test_the_distance_to_the_reference_is_given_in_mm() -> None:
    moved = replace(GRID, affine=compose_affine(GRID.affine[:3, :3], np.add(GRID.origin_mm, (0, 3, 4))))
    assert only(check(label_grid=moved), "error") == "reference and image lie up to 5 mm apart"


@pytest.mark.parametrize(("shift_mm", "problems"), [(0.06, 0), (0.08, 1)])
def test_a_tenth_of_a_voxel_is_allowed(shift_mm: float, problems: int) -> None:
    moved = replace(GRID, affine=compose_affine(GRID.affine[:3, :3], np.add(GRID.origin_mm, (shift_mm, 0, 0))))
    assert len(check(label_grid=moved)) == problems


def test_a_reference_of_another_shape_is_an_error() -> None:
    small = reference()[:, :, :4]
    what = only(check(label_array=small, label_grid=Grid((7, 6, 4), GRID.affine)), "error")
    assert what == "reference and image differ in shape: 7 x 6 x 4 and 7 x 6 x 5 voxels"


def test_a_reference_stored_in_another_orientation_is_named_as_such() -> None:
    change = axis_change(GRID.orientation, "SAR")
    turned = change_array_axes(reference(), change)
    what = only(check(label_array=turned, label_grid=change_axes(GRID, change)), "warning")
    assert what == "the reference is stored as SAR, the image as RPS; the voxels agree"


def test_unknown_values_are_listed_with_their_voxels() -> None:
    array = reference().astype(np.int16)
    array[0, 0, :2], array[0, 1, 0] = 7, -1
    what = only(check(label_array=array), "error")
    assert what == "the reference has values that dataset.json does not name: -1 (1 voxel), 7 (2 voxels)"


def test_values_that_are_not_whole_are_listed() -> None:
    array = reference().astype(np.float32)
    array[0, 0, :3] = 0.5
    what = only(check(label_array=array), "error")
    assert what == "the reference has values that are not whole numbers: 0.5 (3 voxels)"


def test_many_values_are_cut_short() -> None:
    array = reference().astype(np.int32)
    array[0, 0, :], array[0, 1, 0] = range(100, 105), 70000
    assert only(check(label_array=array), "error").endswith("104 (1 voxel) and 1 more")


def test_nan_in_the_reference_is_an_error() -> None:
    array = reference().astype(np.float32)
    array[0, 0, :2] = np.nan
    assert only(check(label_array=array), "error") == "the reference has 2 voxels that are NaN or infinite"


def test_an_empty_reference_is_a_warning() -> None:
    assert only(check(label_array=np.zeros(SHAPE)), "warning") == "the reference is empty"


def test_missing_structures_are_a_warning() -> None:
    array = np.where(reference() == 2, 0, reference())
    assert only(check(label_array=array), "warning") == "not in the reference: right_kidney"


def test_swapped_sides_are_a_warning_with_the_distance() -> None:
    swapped = np.array([0, 2, 1], np.uint8)[reference()]
    what = only(check(label_array=swapped), "warning")
    assert what.startswith("left_kidney lies 2.8 mm to the right of right_kidney: left and right look swapped")


def test_sides_are_judged_in_the_world_and_not_by_index() -> None:
    change = axis_change(GRID.orientation, "LPS")
    turned, grid = change_array_axes(reference(), change), change_axes(GRID, change)
    assert check(change_array_axes(scan(), change), turned, grid=grid) == []


def test_overlapping_labels_are_checked_for_geometry_only() -> None:
    masks = np.zeros((2, *SHAPE), bool)
    assert check(label_array=masks, labels=label_set({1: "a", 2: "b"}, overlaps=True)) == []


def test_voxels_that_are_not_finite_are_an_error() -> None:
    array = scan()
    array[0, 0, 0, :2] = np.nan, np.inf
    assert only(check(array), "error") == "channel CT has 2 voxels that are NaN or infinite"


def test_the_wrong_number_of_channels_is_an_error() -> None:
    what = only(check(scan(2), channels=("T1", "T2", "FLAIR")), "error")
    assert what == "has 2 channels, the dataset 3 (T1, T2, FLAIR)"


def test_each_channel_is_checked() -> None:
    array = scan(2)
    array[1] = 3
    assert only(check(array, channels=("T1", "T2")), "error") == "channel T2 is 3 everywhere"


def test_ct_without_air_is_a_warning_but_mr_is_not() -> None:
    positive = np.abs(scan())
    assert "has no value below -200 HU" in only(check(positive), "warning")
    assert check(positive, channels=("MR",)) == []


@pytest.mark.parametrize(
    ("spacing", "what"),
    [
        ((0.7, 0.9, 25.0), "implausible voxel spacing 0.7 x 0.9 x 25 mm"),
        ((0.0005, 0.0005, 0.003), "implausible voxel spacing 0.0005 x 0.0005 x 0.003 mm"),
        ((0.4, 0.4, 4.8), "voxels are 12 times longer than wide: 0.4 x 0.4 x 4.8 mm"),
    ],
)
def test_implausible_spacing_is_a_warning(spacing: tuple[float, ...], what: str) -> None:
    problems = check(grid=Grid(SHAPE, np.diag([-spacing[0], *spacing[1:], 1])))
    assert what in [problem.what for problem in problems]
    assert {problem.severity for problem in problems} == {"warning"}


def test_a_reference_without_its_grid_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="label_array needs label_grid"):
        check_case(CASE, Volume(scan(), GRID), channels=("CT",), labels=LABELS, label_array=reference())


def test_an_unreadable_file_becomes_a_problem() -> None:
    error = UnreadableImage("truncated", expected=7, got=5, path="a.nii", remedy="Copy it again.")
    problem = Problem("a", "error", "truncated: expected 7, got 5", Path("a.nii"), "Copy it again.")
    assert problem_of(error, "a") == problem == problem_of(error.in_case("a"))


def dataset_of(folder: Path, *cases: Case) -> Dataset:
    for case in cases:
        for path in (*case.images, case.reference):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(path.name.encode())
    return Dataset("d", ("CT",), LABELS, cases)


def case_in(folder: Path, name: str, patient: str | None = None) -> Case:
    image, label = folder / f"imagesTr/{name}.nii.gz", folder / f"labelsTr/{name}.nii.gz"
    return Case(name, patient or name, (image,), label)


def test_good_files_have_no_problems(tmp_path: Path) -> None:
    assert check_files(dataset_of(tmp_path, case_in(tmp_path, "a"), case_in(tmp_path, "b")), tmp_path) == []


def test_missing_files_are_errors(tmp_path: Path) -> None:
    case = case_in(tmp_path, "a")
    problems = check_files(Dataset("d", ("CT",), LABELS, (case,)))
    assert [(p.severity, p.what, p.file) for p in problems] == [
        ("error", "the image is missing on disk", case.images[0]),
        ("error", "the reference is missing on disk", case.reference),
    ]


def test_an_image_without_reference_is_a_warning(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, replace(case_in(tmp_path, "a"), reference=None))
    assert only(check_files(dataset, tmp_path), "warning") == "has no reference"


def test_too_many_images_are_an_error(tmp_path: Path) -> None:
    case = case_in(tmp_path, "a")
    two = replace(case, images=(case.images[0], tmp_path / "imagesTr/second.nii.gz"))
    assert only(check_files(dataset_of(tmp_path, two)), "error") == "has 2 images for 1 channels"


def test_repeated_ids_are_an_error(tmp_path: Path) -> None:
    first, second = case_in(tmp_path, "a"), replace(case_in(tmp_path, "b"), id="a")
    assert only(check_files(dataset_of(tmp_path, first, second)), "error") == "2 cases have this id"


def test_a_copied_image_is_an_error_across_patients(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, case_in(tmp_path, "a"), case_in(tmp_path, "b"), case_in(tmp_path, "c"))
    dataset.cases[1].images[0].write_bytes(dataset.cases[0].images[0].read_bytes())
    problems = check_files(dataset, tmp_path)
    assert only(problems, "error") == "the image is a copy of that of case a"
    assert problems[0].case == "b"


def test_several_cases_of_a_patient_are_information(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, case_in(tmp_path, "a", "P"), case_in(tmp_path, "b", "P"))
    (problem,) = check_files(dataset)
    assert (problem.severity, problem.what) == ("information", "patient P has 2 cases, split as one: a, b")


def test_files_that_no_case_uses_are_warnings(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, case_in(tmp_path, "a"))
    for name in ("imagesTr/b.nii.gz", "labelsTr/c.nii.gz", "imagesTr/._a.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    problems = check_files(dataset, tmp_path)
    assert [(p.severity, p.what) for p in problems] == [
        ("warning", "imagesTr has an image that no case uses"),
        ("warning", "labelsTr has a reference that no case uses"),
    ]


def test_rows_for_unknown_cases_are_warnings(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, case_in(tmp_path, "a"))
    (tmp_path / "cases.csv").write_text("case,patient_id\na,P\nz,Q\n", encoding="utf-8")
    problems = check_files(dataset, tmp_path)
    assert only(problems, "warning") == "cases.csv has a row for an unknown case"
    assert problems[0].case == "z"


@pytest.mark.parametrize("name", ["hippocampus", "headneck"])
def test_real_files_are_all_there(name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"no shared data: {name}")
    assert check_files(open_dataset(DATA / name), DATA / name) == []
