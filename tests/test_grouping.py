from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import oblique_grid

from delineate import formats
from delineate.errors import ExportError, GeometryMismatch, InconsistentSeries, InputError, LabelError
from delineate.geometry import same_space
from delineate.labels import label_set
from delineate.volume import Kind, Segmentation, Volume, reorient
from delineate.workflow.grouping import group, ungroup
from delineate.workflow.results import ResultRecord, read_record, write_record

SHAPE = (6, 5, 17)
VOLUME = Volume(
    np.random.default_rng(4).integers(-900, 900, (1, *SHAPE)).astype(np.int16), oblique_grid(SHAPE), Kind.CT
)
MAP = np.random.default_rng(5).integers(0, 4, SHAPE).astype(np.uint8) * np.uint8(3)
LABELS = label_set({3: "a", 6: "b", 9: "c"})
DATA = Path(__file__).parents[2] / "shared" / "data"


def segment_groups(tmp_path: Path, volume: Volume = VOLUME, *, orientation: str | None = None) -> Segmentation:
    """A series in groups of 7 and a label map of each, made from what is read of the group; the whole."""
    files = formats.write_dicom_series(tmp_path / "series", volume)
    for n, path in enumerate(reversed(files)):
        path.rename(path.with_name(f"{n:03d}"))
    record = group(tmp_path / "series", tmp_path / "groups", slices=7)
    whole = reorient(Segmentation(MAP, VOLUME.grid, LABELS), record.grid.orientation)
    for one in record.groups:
        grid = formats.read_grid(tmp_path / "groups" / one.name)
        part = Segmentation(whole.array[..., one.start : one.stop], grid, LABELS)
        turned = reorient(part, orientation) if orientation else part
        formats.write_segmentation(tmp_path / "found" / f"{one.name}.nii.gz", turned)
    return whole


@pytest.mark.parametrize("orientation", ["LPS", "LPI", "ARI"])
def test_a_series_goes_through_groups_unchanged(tmp_path: Path, orientation: str) -> None:
    whole = segment_groups(tmp_path, reorient(VOLUME, orientation))
    joined = ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")
    found = formats.read_segmentation(tmp_path / "whole.nii.gz", LABELS)
    assert np.array_equal(found.array, whole.array)
    assert same_space(found.grid, formats.read_grid(tmp_path / "series"), 1e-3)
    assert joined.disagreeing_voxels == 0


def test_label_maps_with_turned_axes_are_turned_back(tmp_path: Path) -> None:
    whole = segment_groups(tmp_path, orientation="SRA")
    joined = ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii", labels=LABELS)
    assert np.array_equal(joined.segmentation.array, whole.array)
    assert joined.segmentation.labels == LABELS


def test_watching_sees_every_file(tmp_path: Path) -> None:
    formats.write_dicom_series(tmp_path / "series", VOLUME)
    seen: list[tuple[str, float, float]] = []
    group(
        tmp_path / "series", tmp_path / "groups", watch=lambda stage, done, total, _: seen.append((stage, done, total))
    )
    assert seen == [("Grouping", n, 17) for n in range(1, 18)]


def test_what_the_values_mean_comes_along(tmp_path: Path) -> None:
    segment_groups(tmp_path)
    named = {"a": 3, "b": 6, "c": 9}
    for name in ("01", "02", "03"):
        record = ResultRecord(case=name, labels=named, volumes_ml={}, model="m", series_uid=None, seconds=2)
        write_record(tmp_path / "found" / f"{name}.nii.gz", record)
    joined = ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")
    assert joined.segmentation.labels == LABELS
    found = read_record(tmp_path / "whole.nii.gz")
    assert found is not None
    assert (found.labels, found.model, found.seconds) == (named, "m", 6)
    assert found.volumes_ml["c"] == round(float((MAP == 9).sum()) * VOLUME.grid.voxel_volume_ml, 3)


def test_a_record_does_not_outlive_its_label_map(tmp_path: Path) -> None:
    test_what_the_values_mean_comes_along(tmp_path)
    (tmp_path / "found" / "02.json").unlink()
    with pytest.raises(ExportError, match="there already"):
        ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")
    ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz", again=True)
    assert read_record(tmp_path / "whole.nii.gz") is None


def test_a_missing_label_map_is_named(tmp_path: Path) -> None:
    segment_groups(tmp_path)
    (tmp_path / "found" / "02.nii.gz").unlink()
    with pytest.raises(InputError, match=r"group 02 has no segmentation: expected 02\.nii\.gz"):
        ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")
    assert not (tmp_path / "whole.nii.gz").exists()


def test_two_label_maps_of_one_group_are_refused(tmp_path: Path) -> None:
    segment_groups(tmp_path)
    (tmp_path / "found" / "03.nii").touch()
    with pytest.raises(InputError, match="group 03 has two segmentations"):
        ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")


def test_a_label_map_of_another_place_is_refused(tmp_path: Path) -> None:
    segment_groups(tmp_path)
    (tmp_path / "found" / "01.nii.gz").replace(tmp_path / "found" / "02.nii.gz")
    segmentation = formats.read_segmentation(tmp_path / "found" / "03.nii.gz", LABELS)
    formats.write_segmentation(tmp_path / "found" / "01.nii.gz", segmentation)
    with pytest.raises(GeometryMismatch, match=r"group 01 does not lie on its slices.*10 voxels apart.*01\.nii\.gz"):
        ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")


def test_values_without_a_label_are_refused(tmp_path: Path) -> None:
    segment_groups(tmp_path)
    few = label_set({3: "a", 6: "b"})
    with pytest.raises(LabelError, match=r"values that have no label.*got 9 .*01\.nii\.gz"):
        ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz", labels=few)


def test_a_target_that_is_no_nifti_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the result is a NIfTI file"):
        ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nrrd")


def test_large_values_in_one_group_keep_their_size(tmp_path: Path) -> None:
    whole = segment_groups(tmp_path)
    path = tmp_path / "found" / "01.nii.gz"
    part = formats.read_segmentation(path, LABELS)
    large = part.array.astype(np.uint16)
    large[large == 9] = 900
    labels = label_set({3: "a", 6: "b", 900: "c"})
    formats.write_segmentation(path, replace(part, array=large, labels=labels))
    joined = ungroup(tmp_path / "groups", tmp_path / "found", tmp_path / "whole.nii.gz")
    expected = whole.array.astype(np.uint16)
    expected[..., :7][expected[..., :7] == 9] = 900
    assert np.array_equal(joined.segmentation.array, expected)


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
@pytest.mark.parametrize("folder", ["tilt_ge", "series/failing/gantrytilting/001", "series/failing/sliceincrement/001"])
def test_series_that_need_repair_are_not_grouped(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InconsistentSeries):
        group(DATA / "dicom" / folder, tmp_path / "groups")
    assert not (tmp_path / "groups").exists()
