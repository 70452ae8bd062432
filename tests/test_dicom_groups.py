import contextlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pydicom
import pytest
from anatomy import oblique_grid
from pydicom.dataset import Dataset

from delineate import formats
from delineate.errors import (
    DelineateError,
    ExportError,
    GeometryMismatch,
    InconsistentSeries,
    InputError,
    LabelError,
    UnreadableImage,
)
from delineate.formats.dicom.groups import SliceGroups, join_groups, read_groups, write_groups
from delineate.geometry import ORIENTATIONS, Box, Grid, crop_grid, same_space
from delineate.labels import label_set
from delineate.volume import Kind, Segmentation, Volume, crop, reorient

SHAPE = (6, 5, 17)
GRID = oblique_grid(SHAPE)
VALUES = np.random.default_rng(4).integers(-900, 900, (1, *SHAPE)).astype(np.int16)
MAP = np.random.default_rng(5).integers(0, 4, SHAPE).astype(np.uint8)
LABELS = label_set({1: "a", 2: "b", 3: "c"})
DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


def series(folder: Path, grid: Grid = GRID) -> list[Path]:
    return list(formats.write_dicom_series(folder / "series", Volume(VALUES, grid, Kind.CT), seed="x"))


def grouped(tmp_path: Path, slices: int = 7) -> SliceGroups:
    files = series(tmp_path)
    return write_groups(files, tmp_path / "groups", grid=formats.read_grid(tmp_path / "series"), slices=slices)


def segmented(record: SliceGroups, whole: Segmentation) -> dict[str, Segmentation]:
    """What a perfect model would find in each group, read where the group lies."""
    parts = {}
    for group in record.groups:
        array = whole.array[..., group.start : group.stop]
        parts[group.name] = Segmentation(array, record.grid_of(group), whole.labels)
    return parts


def headers(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_the_last_group_reaches_back_so_that_no_slice_is_lost(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    assert [(group.name, group.start, group.stop) for group in record.groups] == [
        ("01", 0, 7),
        ("02", 7, 14),
        ("03", 10, 17),
    ]
    assert record.summary == "17 slices in 3 groups of 7; 03 has 4 slice(s) in common with 02"


@pytest.mark.parametrize(("slices", "count"), [(17, 1), (65, 1), (16, 2), (9, 2), (3, 6)])
def test_every_group_is_full_or_the_only_one(tmp_path: Path, slices: int, count: int) -> None:
    record = grouped(tmp_path, slices)
    assert len(record.groups) == count
    assert {group.stop - group.start for group in record.groups} == {min(slices, 17)}
    assert ("one group" in record.summary) == (count == 1)


def test_each_group_reads_as_its_part_of_the_volume(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    whole = formats.read_volume(tmp_path / "series")
    for group in record.groups:
        found = formats.read_volume(tmp_path / "groups" / group.name)
        assert np.array_equal(found.array, whole.array[..., group.start : group.stop])
        assert same_space(found.grid, record.grid_of(group), 1e-4)
        assert found.grid.frame_of_reference_uid == whole.grid.frame_of_reference_uid
        assert (found.source.series_uid, found.source.study_uid) == (group.series_uid, whole.source.study_uid)


def test_instances_are_new_and_refer_to_their_source(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    sources = {header.SOPInstanceUID: header for header in headers(tmp_path / "series")}
    copies = [header for group in record.groups for header in headers(tmp_path / "groups" / group.name)]
    assert len({copy.SOPInstanceUID for copy in copies} - sources.keys()) == len(copies) == 21
    for copy in copies:
        source = sources[copy.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert (copy.PixelData, copy.ImagePositionPatient) == (source.PixelData, source.ImagePositionPatient)
        assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert [copy.InstanceNumber for copy in copies[7:14]] == list(range(1, 8))
    assert copies[8].SeriesDescription.endswith("[group 2 of 3]")


def test_equal_calls_give_equal_files(tmp_path: Path) -> None:
    grouped(tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / "groups" / "02").iterdir()}
    record = (tmp_path / "groups" / "groups.json").read_bytes()
    grouped(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "groups" / "02").iterdir()} == first
    assert (tmp_path / "groups" / "groups.json").read_bytes() == record


def test_the_record_comes_back(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    assert read_groups(tmp_path / "groups") == record
    assert record.grid == formats.read_grid(tmp_path / "series")
    assert record.instance_uids == formats.read_volume(tmp_path / "series").source.instance_uids


@pytest.mark.parametrize("orientation", ["LPS", "LPI", "SAR", "PIL", "RAI"])
@pytest.mark.parametrize("slices", [4, 7, 16, 40])
def test_groups_come_back_as_the_whole(tmp_path: Path, orientation: str, slices: int) -> None:
    volume = reorient(Volume(VALUES, GRID, Kind.CT), orientation)
    files = formats.write_dicom_series(tmp_path / "series", volume)
    grid = formats.read_grid(tmp_path / "series")
    uids = formats.read_volume(tmp_path / "series").source.instance_uids
    by_uid = {pydicom.dcmread(path).SOPInstanceUID: path for path in files}
    record = write_groups([by_uid[uid] for uid in uids], tmp_path / "groups", grid=grid, slices=slices)
    whole = reorient(Segmentation(MAP, GRID, LABELS), grid.orientation)
    joined = join_groups(record, segmented(record, whole))
    assert np.array_equal(joined.segmentation.array, whole.array)
    assert (joined.segmentation.grid, joined.disagreeing_voxels) == (grid, 0)
    assert joined.segmentation.source.instance_uids == uids


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_segmentations_with_turned_axes_come_back(tmp_path: Path, orientation: str) -> None:
    record = grouped(tmp_path)
    whole = Segmentation(MAP, record.grid, LABELS)
    turned = {name: reorient(part, orientation) for name, part in segmented(record, whole).items()}
    assert np.array_equal(join_groups(record, turned).segmentation.array, MAP)


def test_overlapping_masks_come_back(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    masks = np.stack([MAP > 0, MAP > 1, MAP == 3])
    whole = Segmentation(masks, record.grid, replace(LABELS, overlaps=True))
    joined = join_groups(record, segmented(record, whole))
    assert np.array_equal(joined.segmentation.array, masks)


def test_a_shared_slice_comes_from_where_it_is_deepest(tmp_path: Path) -> None:
    record = grouped(tmp_path)  # 02 has slices 7 to 13, 03 has 10 to 16
    whole = Segmentation(np.zeros(SHAPE, np.uint8), record.grid, LABELS)
    parts = segmented(record, whole)
    parts = {name: replace(part, array=part.array + np.uint8(int(name))) for name, part in parts.items()}
    joined = join_groups(record, parts)
    assert joined.segmentation.array[2, 3].tolist() == [1] * 7 + [2] * 5 + [3] * 5
    assert joined.disagreeing_voxels == 4 * 6 * 5


def test_only_voxels_that_differ_are_counted(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    parts = segmented(record, Segmentation(MAP, record.grid, LABELS))
    changed = parts["03"].array.copy()
    changed[1, 2, 0] = (changed[1, 2, 0] + 1) % 4
    joined = join_groups(record, parts | {"03": replace(parts["03"], array=changed)})
    assert joined.disagreeing_voxels == 1
    assert np.array_equal(joined.segmentation.array, MAP)


def test_a_group_without_a_segmentation_is_named(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    parts = segmented(record, Segmentation(MAP, record.grid, LABELS))
    del parts["02"]
    with pytest.raises(InputError, match=r"1 of 3 groups have no segmentation.*none of 02"):
        join_groups(record, parts)


def test_segmentations_of_each_others_groups_are_refused(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    parts = segmented(record, Segmentation(MAP, record.grid, LABELS))
    with pytest.raises(GeometryMismatch, match=r"group 02 does not lie on its slices.*3 voxels apart"):
        join_groups(record, parts | {"02": parts["03"], "03": parts["02"]})


def test_a_segmentation_of_another_size_is_refused(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    parts = segmented(record, Segmentation(MAP, record.grid, LABELS))
    box = Box((0, 0, 0), (6, 5, 6))
    with pytest.raises(GeometryMismatch, match=r"group 03 does not lie on its slices.*got shape \(6, 5, 6\)"):
        join_groups(record, parts | {"03": crop(parts["03"], box)})


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    parts = segmented(record, Segmentation(MAP, record.grid, LABELS))
    elsewhere = replace(parts["01"], grid=replace(parts["01"].grid, frame_of_reference_uid="1.2.3"))
    with pytest.raises(GeometryMismatch, match=r"group 01 is in another frame of reference"):
        join_groups(record, parts | {"01": elsewhere})


def test_other_labels_are_refused_by_group(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    parts = segmented(record, Segmentation(MAP, record.grid, LABELS))
    other = replace(parts["02"], labels=label_set({1: "a", 2: "other", 3: "c"}))
    with pytest.raises(LabelError, match="group 02 has other labels than group 01"):
        join_groups(record, parts | {"02": other})


def test_files_out_of_order_are_refused(tmp_path: Path) -> None:
    files = series(tmp_path)
    grid = formats.read_grid(tmp_path / "series")
    with pytest.raises(GeometryMismatch, match=r"not where the series' grid has it.*slice_0017"):
        write_groups(files[::-1], tmp_path / "groups", grid=grid)
    assert not (tmp_path / "groups").exists()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    files = series(tmp_path)
    other = formats.write_dicom_series(tmp_path / "other", Volume(VALUES, GRID, Kind.CT), seed="y")
    grid = formats.read_grid(tmp_path / "series")
    with pytest.raises(InconsistentSeries, match=r"differ in StudyInstanceUID.*other.slice_0003"):
        write_groups([*files[:2], other[2], *files[3:]], tmp_path / "groups", grid=grid)


def test_a_folder_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "thesis.tex").touch()
    with pytest.raises(ExportError, match="holds something else"):
        grouped(tmp_path)
    assert (tmp_path / "groups" / "thesis.tex").exists()


def test_groups_do_not_replace_their_source(tmp_path: Path) -> None:
    files = series(tmp_path)
    with pytest.raises(ExportError, match="would replace the series"):
        write_groups(files, tmp_path, grid=formats.read_grid(tmp_path / "series"))


def test_too_small_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="too few slices for a group: expected at least 3, got 2"):
        grouped(tmp_path, 2)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    files = series(tmp_path)
    grid = formats.read_grid(tmp_path / "series")
    files[3].write_bytes(files[3].read_bytes()[:300])
    with pytest.raises((UnreadableImage, InconsistentSeries), match=r"slice_0004"):
        write_groups(files, tmp_path / "groups", grid=grid)


def test_flipped_bytes_end_in_groups_or_a_typed_error(tmp_path: Path) -> None:
    files = series(tmp_path)
    grid = formats.read_grid(tmp_path / "series")
    data = files[3].read_bytes()
    rng = np.random.default_rng(8)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(128, len(data) - 60, 3):
            damaged[place] = rng.integers(0, 256)
        files[3].write_bytes(damaged)
        with contextlib.suppress(DelineateError):
            write_groups(files[2:6], tmp_path / "groups", grid=crop_grid(grid, Box((0, 0, 2), (6, 5, 6))), slices=3)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": 2}, "version 2, and only 1 is known"),
        ({"shape": (6, 5, 10**9)}, "grid and its slices do not fit"),
        ({"groups": ()}, "a slice in no group"),
        ({"affine": ((0.0,) * 4,) * 4}, "damaged"),
        ({"instance_uids": ("1",)}, "do not fit together"),
    ],
)
def test_a_contradictory_record_is_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    record = msgspec.structs.replace(grouped(tmp_path), **changes)
    (tmp_path / "groups" / "groups.json").write_bytes(msgspec.json.encode(record))
    with pytest.raises(InputError, match=match):
        read_groups(tmp_path / "groups")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"version": 1}', b"[]"])
def test_a_damaged_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "groups.json").write_bytes(content)
    with pytest.raises(InputError, match="the record of slice groups is damaged"):
        read_groups(tmp_path)


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no record of slice groups: expected groups\.json"):
        read_groups(tmp_path)


def test_names_that_are_paths_are_refused(tmp_path: Path) -> None:
    record = grouped(tmp_path)
    groups = (msgspec.structs.replace(record.groups[0], name="../01"), *record.groups[1:])
    content = msgspec.json.encode(msgspec.structs.replace(record, groups=groups))
    (tmp_path / "groups" / "groups.json").write_bytes(content)
    with pytest.raises(InputError, match="the names of its groups"):
        read_groups(tmp_path / "groups")


def errors(path: Path) -> set[str]:
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return {line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")}


REAL = [f"dicom/series/{name}/001" for name in ("ge/anatomical", "siemens/anatomical", "generic/compressed_rle")]


@needs_data
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("folder", REAL)
def test_real_series_gain_no_error(tmp_path: Path, folder: str) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder} is not there")
    stack = formats.stack_at(DATA / folder)
    files = [slice_.path for slice_ in stack.slices]
    record = write_groups(files, tmp_path / "groups", grid=stack.grid, slices=max(len(files) // 2 + 1, 3))
    for group in record.groups:
        copy = tmp_path / "groups" / group.name / "slice_0002.dcm"
        source = files[group.start + 1]
        assert errors(copy) <= errors(source)
        assert pydicom.dcmread(copy).PixelData == pydicom.dcmread(source).PixelData
        assert np.array_equal(
            formats.read_volume(copy.parent).array, formats.read_series(stack).array[..., group.start : group.stop]
        )
