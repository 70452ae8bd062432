"""From a tree of DICOM to a dataset: what belongs together, what is said, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anatomy import blob_case
from test_dicom_series import edited, setting

from delineate import formats
from delineate.dataset import Case, open_dataset
from delineate.errors import DatasetError, InputError, LabelError
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.geometry import respace_grid, same_space
from delineate.labels import label_set
from delineate.resampling import resample_anywhere
from delineate.settings import detect
from delineate.volume import Kind, Segmentation, Volume, align, reorient
from delineate.workflow.exporting import files_of
from delineate.workflow.import_options import import_options, parse_label
from delineate.workflow.import_records import ImportRecord, read_import
from delineate.workflow.importing import ImportRun, import_tree, patients_of
from delineate.workflow.scanning import scan

DATA = Path(__file__).parents[2] / "shared" / "data" / "sarcoma"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/sarcoma is not there")
FRAME = "1.2.826.0.1.3680043.8.498.777"

Import = Callable[..., ImportRun]


@pytest.fixture
def run(tmp_path: Path) -> Import:
    """Import tmp_path/tree into tmp_path/data."""

    def run(**options: object) -> ImportRun:
        report = scan(tmp_path / "tree", settings=detect("cpu", threads=1, cache=tmp_path / "cache"))
        return import_tree(patients_of(report), tmp_path / "data", import_options(**options))  # type: ignore[arg-type]

    return run


def case(seed: int = 1) -> tuple[Volume, Segmentation]:
    volume, blobs = blob_case(seed)
    grid = replace(volume.grid, frame_of_reference_uid=FRAME)
    return replace(volume, grid=grid, kind=Kind.CT), replace(blobs, grid=grid)


def only_case(result: ImportRun) -> Case:
    assert result.dataset is not None, result.failures
    (one,) = result.dataset.cases
    return one


def record_of(folder: Path, one: Case) -> ImportRecord:
    record = read_import(folder / "data", one.id)
    assert record is not None
    return record


def write_patient(folder: Path, patient: str, *, label_kind: str = "rtstruct", seed: int = 1) -> formats.Stack:
    """A CT series with its structures."""
    volume, blobs = case(seed)
    formats.write_dicom_series(folder / "ct", volume, patient_id=patient, description="thorax", seed=patient)
    stack = formats.stack_at(folder / "ct")
    if label_kind == "rtstruct":
        write_rtstruct(folder / "labels.dcm", align(blobs, stack.grid), files_of(stack))
    else:
        write_seg(folder / "labels.dcm", align(blobs, stack.grid), files_of(stack))
    return stack


@pytest.mark.parametrize("label_kind", ["rtstruct", "seg"])
def test_a_tree_becomes_a_sound_dataset(tmp_path: Path, run: Import, label_kind: str) -> None:
    for n in (1, 2):
        write_patient(tmp_path / "tree" / str(n), f"patient {n}", label_kind=label_kind, seed=n)
    assert run().failures == ()
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.channels, dataset.labels.names) == (("CT",), ("core", "rim"))
    assert len({one.patient_id for one in dataset.cases}) == 2
    for one in dataset.cases:
        assert one.reference is not None
        image, found = formats.read_volume(one.images[0]), formats.read_segmentation(one.reference, dataset.labels)
        expected = next(b for v, b in map(case, (1, 2)) if np.array_equal(np.rint(v.array), image.array))
        assert np.array_equal(align(expected, image.grid).array, found.array)


def test_no_patient_data_is_in_the_dataset(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "SECRET-4711")
    run()
    assert (tmp_path / "data.key.json").exists()
    for path in (tmp_path / "data").rglob("*"):
        assert "SECRET" not in path.name
        assert path.is_dir() or b"SECRET" not in path.read_bytes()


def test_records_keep_uids_or_map_them_by_the_key(tmp_path: Path, run: Import) -> None:
    uid = write_patient(tmp_path / "tree", "p").facts.series_uid
    one = only_case(run())
    assert record_of(tmp_path, one).series == [uid]
    run(deidentify=True, again=True)
    mapped = record_of(tmp_path, one).series
    assert mapped != [uid]
    assert mapped[0].startswith("2.25.")


def test_an_import_goes_on_where_it_stopped(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree" / "1", "p1")
    run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "imagesTr").iterdir()}
    write_patient(tmp_path / "tree" / "2", "p2", seed=2)
    run()
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "imagesTr").iterdir()}
    assert len(after) == 2
    assert before.items() <= after.items()


def write_channel(folder: Path, kind: Kind, *, orientation: str = "LPS") -> Volume:
    """Another scan of the patient: coarser, other axes."""
    volume, _ = case()
    coarse = respace_grid(volume.grid, (1.8, 1.6, 2.5))
    array = resample_anywhere(volume.array[0], volume.grid, coarse, fill=0.0)
    made = reorient(Volume(np.rint(array)[None], coarse, kind), orientation)
    formats.write_dicom_series(folder, made, patient_id="p", description="t1 dixon", seed="p")
    return formats.read_volume(folder)


@pytest.mark.parametrize("orientation", ["LPS", "PIL", "LSA"])
def test_a_second_channel_comes_onto_the_first_ones_grid(tmp_path: Path, run: Import, orientation: str) -> None:
    write_patient(tmp_path / "tree", "p")
    other = write_channel(tmp_path / "tree" / "mr", Kind.MR, orientation=orientation)
    one = only_case(run(channels=("CT", "T1=MR:dixon")))
    first, second = (formats.read_volume(path) for path in one.images)
    assert same_space(first.grid, second.grid)
    expected = resample_anywhere(other.array[0], other.grid, first.grid, fill=float(min(0, other.array.min())))
    np.testing.assert_allclose(second.array[0], expected, atol=0.02)
    assert "interpolated onto the grid" in " ".join(record_of(tmp_path, one).notes)


def test_a_channel_in_another_frame_of_reference_is_no_companion(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    write_channel(tmp_path / "tree" / "mr", Kind.MR)
    for path in (tmp_path / "tree" / "mr").iterdir():
        edited(path, setting("FrameOfReferenceUID", "1.2.3"))
    (failure,) = run(channels=("CT", "MR")).failures
    assert "no series for channel MR" in str(failure.error)
    assert "1 in other frames of reference" in str(failure.error)


def test_two_series_for_one_channel_must_be_told_apart(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    for name in ("a", "b"):
        write_channel(tmp_path / "tree" / name, Kind.MR)
        for path in (tmp_path / "tree" / name).iterdir():
            edited(path, setting("SeriesDescription", name))
            edited(path, setting("SeriesInstanceUID", f"1.2.{ord(name)}"))
    assert "several series for channel MR" in str(run(channels=("CT", "MR")).failures[0].error)
    assert run(channels=("CT", "MR:^b")).failures == ()


def test_labels_belong_to_the_series_they_refer_to(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    volume, _ = case(2)
    formats.write_dicom_series(tmp_path / "tree" / "second", volume, patient_id="p", description="late", seed="p")
    result = run()
    assert result.dataset is not None
    assert (len(result.dataset.cases), len(result.unlabelled)) == (1, 1)
    assert (tmp_path / "data" / "imagesTs" / f"{result.unlabelled[0]}_0000.nii.gz").exists()


def test_labels_without_resolving_reference_go_by_the_frame_of_reference(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    for path in (tmp_path / "tree" / "ct").iterdir():
        edited(path, setting("SeriesInstanceUID", "1.2.3.4"))
    result = run()
    assert result.dataset is not None
    assert len(result.dataset.cases) == 1


def test_names_are_mapped_by_patterns_and_the_rest_is_listed(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    result = run(labels=("tumour=cor.",))
    assert result.dataset is not None
    assert result.dataset.labels.names == ("tumour",)
    assert dict(result.unmapped) == {"rim": 1}


def test_the_table_is_left_to_edit_and_taken_again(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    run()
    table = tmp_path / "data" / "names.csv"
    assert "core,exact,core" in table.read_text()
    (tmp_path / "names.csv").write_text("label,how,text\nwhole,exact,core\n")
    result = run(table=tmp_path / "names.csv", again=True)
    assert result.dataset is not None
    assert result.dataset.labels.names == ("whole",)


def test_a_case_whose_regions_mean_nothing_fails_by_name(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree" / "1", "p")
    write_patient(tmp_path / "tree" / "2", "q", seed=2)
    edited(tmp_path / "tree" / "1" / "labels.dcm", renaming("liver", "lesion"))
    result = run(labels=("liver",))
    assert result.labelled == 1
    assert isinstance(result.failures[0].error, LabelError)
    assert "got ['core', 'rim']" in str(result.failures[0].error)


def renaming(*names: str) -> Callable[[Any], None]:
    """Gives the regions of a structure set other names."""

    def rename(dataset: Any) -> None:
        for region, name in zip(dataset.StructureSetROISequence, names, strict=False):
            region.ROIName = name

    return rename


def write_overlapping(folder: Path) -> None:
    volume, blobs = case()
    formats.write_dicom_series(folder / "ct", volume, patient_id="p", seed="p")
    stack = formats.stack_at(folder / "ct")
    masks = np.stack([blobs.array > 0, blobs.array == 1])
    labels = label_set({1: "organ", 2: "tumour"}, overlaps=True)
    write_seg(folder / "seg.dcm", align(Segmentation(masks, blobs.grid, labels), stack.grid), files_of(stack))


def test_overlap_is_refused_unless_somebody_says_who_wins(tmp_path: Path, run: Import) -> None:
    write_overlapping(tmp_path / "tree")
    assert "'tumour' overlaps another structure" in str(run().failures[0].error)
    record = record_of(tmp_path, only_case(run(overlap="later")))
    array = case()[1].array
    assert record.voxels == {"organ": np.count_nonzero(array == 2), "tumour": np.count_nonzero(array == 1)}
    assert "tumour took" in " ".join(record.notes)


def test_one_bad_series_does_not_end_an_import(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree" / "good", "p1")
    stack = write_patient(tmp_path / "tree" / "gapped", "p2", seed=2)
    stack.files[4].unlink()
    result = run()
    assert result.dataset is not None
    assert len(result.dataset.cases) == 1
    assert "missing" in str(result.failures[0].error)


def test_nothing_to_import_is_said(tmp_path: Path, run: Import) -> None:
    write_patient(tmp_path / "tree", "p")
    with pytest.raises(DatasetError, match="nothing to import: expected series of PT"):
        run(channels=("PET",))


@pytest.mark.parametrize(
    ("word", "match"), [("XR", "not a channel"), ("T1=MR:(", "pattern is broken"), ("", "not a channel")]
)
def test_channels_that_cannot_be_understood(word: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        import_options(channels=(word,))


def test_a_label_needs_a_name() -> None:
    assert parse_label("tumour = gtv.*").pattern == "gtv.*"
    for text, match in (("=gtv", "without a name"), ("Background", "what has no label")):
        with pytest.raises(InputError, match=match):
            parse_label(text)
    for labels, match in ((("a=(",), "broken pattern"), (("a", "a"), "occur twice")):
        with pytest.raises(LabelError, match=match):
            import_options(labels=labels)


@needs_data
@pytest.mark.parametrize("patient", ["STS_008", "STS_019"])
def test_a_real_tumour_agrees_with_the_mask_made_by_others(tmp_path: Path, patient: str) -> None:
    report = scan(DATA / patient, settings=detect("cpu", threads=1, cache=tmp_path / "cache"))
    options = import_options(channels=("CT", "PET"), labels=("tumour=gtv.*",))
    result = import_tree(patients_of(report), tmp_path / "data", options)
    one = only_case(result)
    assert one.reference is not None
    found = formats.read_segmentation(one.reference, label_set({1: "tumour"}))
    mask, grid = formats.read_label_values(DATA / f"{patient}_nifti" / "CT_mask.nii.gz")
    theirs = align(Segmentation(mask, grid, label_set({1: "tumour"})), found.grid)
    both = np.count_nonzero((found.array > 0) & (theirs.array > 0))
    assert 2 * both / (np.count_nonzero(found.array) + np.count_nonzero(theirs.array)) >= 0.93
