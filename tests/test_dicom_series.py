"""DICOM series in and out: places, scaling, order, and every reason to refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from delineate.errors import ExportError, InconsistentSeries, UnreadableImage
from delineate.formats.dicom.series import find_series, one_volume, read_series, read_series_grid
from delineate.formats.dicom.stacks import Action, Repair, Stack
from delineate.formats.dicom.writing import write_dicom_series
from delineate.geometry import Grid, compose_affine, index_to_world, same_space
from delineate.volume import Array, Kind, Volume, reorient

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom is not there")

ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
GRID = Grid((3, 4, 5), compose_affine(ROTATION @ np.diag([0.8, 0.9, 2.5]), (-90.25, 120.5, -33.125)), "1.2.3.4")
SHEARED = Grid((3, 4, 5), compose_affine([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], (0.0, 0.0, 0.0)))
VALUES = (np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5) * 31) % 977 - 500

Edit = Callable[[Dataset], None]


def written(folder: Path, array: Array = VALUES, *, kind: Kind = Kind.CT, grid: Grid = GRID) -> list[Path]:
    return list(write_dicom_series(folder, Volume(array, grid, kind), seed="test"))


def edited(path: Path, edit: Edit) -> None:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)


def moved(path: Path, by_mm: tuple[float, float, float]) -> None:
    def move(dataset: Dataset) -> None:
        position = np.add([float(x) for x in dataset.ImagePositionPatient], by_mm)
        dataset.ImagePositionPatient = [f"{x:.6f}" for x in position]

    edited(path, move)


def setting(keyword: str, value: object) -> Edit:
    return lambda dataset: setattr(dataset, keyword, value)


def removing(keyword: str) -> Edit:
    return lambda dataset: delattr(dataset, keyword)


def test_a_series_comes_back_with_its_place_and_names(tmp_path: Path) -> None:
    files = written(tmp_path / "ct")
    volume = read_series(files)
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype == np.int16
    assert same_space(volume.grid, GRID, 1e-6)
    assert read_series_grid(files) == volume.grid
    assert (volume.kind, volume.grid.frame_of_reference_uid) == (Kind.CT, "1.2.3.4")
    headers = [pydicom.dcmread(path) for path in files]
    assert volume.source.instance_uids == tuple(header.SOPInstanceUID for header in headers)
    assert volume.source.series_uid == headers[0].SeriesInstanceUID
    assert volume.source.study_uid == headers[0].StudyInstanceUID


def test_a_pixel_lies_where_the_standard_says(tmp_path: Path) -> None:
    header = pydicom.dcmread(written(tmp_path)[3])
    column, row = 2, 1
    x, y = (np.array(header.ImageOrientationPatient[n : n + 3], dtype=float) for n in (0, 3))
    between_rows, between_columns = (float(s) for s in header.PixelSpacing)
    position = np.array(header.ImagePositionPatient, dtype=float)
    place = position + x * between_columns * column + y * between_rows * row  # PS3.3 equation C.7.6.2.1-1
    volume = read_series(find_series(tmp_path)[0])
    assert (between_rows, between_columns) == pytest.approx((0.9, 0.8))
    np.testing.assert_allclose(index_to_world(volume.grid, (column, row, 3)), place, atol=1e-6)
    assert volume.array[0, column, row, 3] == header.pixel_array[row, column]


def test_order_comes_from_positions_not_from_names_or_numbers(tmp_path: Path) -> None:
    files = written(tmp_path)
    for n, path in enumerate(files):
        edited(path, setting("InstanceNumber", (n * 2) % 5))
        path.rename(tmp_path / f"{(n * 3) % 5}")
    volume = read_series(sorted(tmp_path.iterdir()))
    assert np.array_equal(volume.array, VALUES)
    assert same_space(volume.grid, GRID, 1e-6)


@pytest.mark.parametrize(
    ("slopes", "intercepts", "dtype"),
    [
        ([1] * 5, [0] * 5, np.int16),
        ([1] * 5, [-1024] * 5, np.int16),
        ([2] * 5, [32000] * 5, np.int32),
        ([1, 2, 3, 4, 5], [0] * 5, np.int16),
        ([0.5, 1, 1, 1, 2.25], [0, 1, -2, 3, 0.5], np.float32),
    ],
)
def test_rescaling_is_done_slice_by_slice(
    tmp_path: Path, slopes: list[float], intercepts: list[float], dtype: type
) -> None:
    files = written(tmp_path)
    for path, slope, intercept in zip(files, slopes, intercepts, strict=True):
        edited(path, setting("RescaleSlope", slope))
        edited(path, setting("RescaleIntercept", intercept))
    found = read_series(files).array
    assert found.dtype == dtype
    np.testing.assert_allclose(found, VALUES * np.array(slopes) + intercepts, rtol=1e-6)


def test_big_endian_pixels_come_back_in_native_order(tmp_path: Path) -> None:
    files = written(tmp_path)
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(path, dataset, little_endian=False, implicit_vr=False)
    found = read_series(files).array
    assert found.dtype.isnative
    assert np.array_equal(found, VALUES)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_transfer_syntaxes(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    files = written(tmp_path)
    for path in files:
        dataset = pydicom.dcmread(path)
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    assert np.array_equal(read_series(files).array, VALUES)


def test_pet_is_suv_only_where_it_says_so(tmp_path: Path) -> None:
    files = written(tmp_path)
    for units, kind in (("BQML", Kind.OTHER), ("GML", Kind.PET)):
        for path in files:
            edited(path, setting("Modality", "PT"))
            edited(path, setting("Units", units))
        assert read_series(files).kind is kind


ONE_SLICE: list[tuple[Edit, str]] = [
    (setting("SeriesInstanceUID", "1.2.9"), r"mixed series: .* got 1\.2\.9 in slice_0003\.dcm"),
    (setting("FrameOfReferenceUID", "1.2.9"), "mixed frames of reference"),
    (setting("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), r"mixed orientations: .* in slice_0003\.dcm"),
    (setting("PixelSpacing", [0.8, 0.9]), r"mixed pixel spacings: expected \(0\.9, 0\.8\)"),
    (setting("Rows", 3), "mixed sizes: expected 4 rows x 3 columns .* got 3 rows x 3 columns"),
    (removing("ImagePositionPatient"), r"without a usable ImagePositionPatient.*slice_0003\.dcm"),
    (removing("ImageOrientationPatient"), "without a usable ImageOrientationPatient"),
    (removing("PixelSpacing"), "without a usable PixelSpacing"),
    (setting("PixelSpacing", [0, 0.9]), "PixelSpacing must be positive"),
    (setting("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "no pair of perpendicular unit vectors"),
    (setting("PhotometricInterpretation", "PALETTE COLOR"), r"1 slice\(s\) missing"),
    (setting("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), r"1 slice\(s\) missing"),
    (setting("BitsAllocated", 12), "pixels of an unsupported kind"),
    (setting("RescaleSlope", 0), "unusable RescaleSlope"),
    (setting("ModalityLUTSequence", [Dataset()]), "look-up table"),
    (setting("NumberOfFrames", 2), "multi-frame image does not say where"),
]


@pytest.mark.parametrize(("edit", "match"), ONE_SLICE)
def test_one_odd_slice_is_refused_by_name(tmp_path: Path, edit: Edit, match: str) -> None:
    files = written(tmp_path)
    edited(files[2], edit)
    with pytest.raises(InconsistentSeries, match=match):
        read_series(files)


def test_a_missing_slice_is_refused_with_its_place(tmp_path: Path) -> None:
    files = written(tmp_path)
    with pytest.raises(InconsistentSeries, match=r"1 slice\(s\) missing: .*5\.000 mm between slice_0003.*slice_0005"):
        read_series([path for path in files if path != files[3]])


def test_uneven_slices_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path)
    moved(files[2], (0, 0, 0.4))
    with pytest.raises(InconsistentSeries, match=r"unevenly spaced.*0\.400 mm at slice_0003"):
        read_series(files)


def test_a_slice_shifted_sideways_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path)
    moved(files[1], (1, 0, 0))
    with pytest.raises(InconsistentSeries, match=r"unevenly spaced.*1\.000 mm at slice_0002"):
        read_series(files)


def test_positions_rounded_to_a_tenth_are_read(tmp_path: Path) -> None:
    files = written(tmp_path)
    for path in files:
        edited(path, lambda d: setattr(d, "ImagePositionPatient", [f"{float(x):.1f}" for x in d.ImagePositionPatient]))
    assert same_space(read_series(files).grid, GRID, 0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_gantry_tilt_is_refused_with_its_angle_where_nothing_may_be_repaired(tmp_path: Path, sign: int) -> None:
    files = written(tmp_path)
    for n, path in enumerate(files):
        moved(path, (0, sign * n * 2.5 * np.tan(np.radians(15)), 0))
    with pytest.raises(InconsistentSeries, match=r"gantry tilt: .* got 15\.00 degrees"):
        read_series(files, repair=Repair.NONE)


def test_a_copy_of_a_file_is_dropped_and_named(tmp_path: Path) -> None:
    files = written(tmp_path)
    shutil.copy(files[1], tmp_path / "copy.dcm")
    stack = one_volume([*files, tmp_path / "copy.dcm"])
    assert stack.notes[0] == "dropped copy.dcm: a copy of slice_0002.dcm"
    assert np.array_equal(read_series(stack).array, VALUES)


def test_one_instance_uid_for_two_images_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path)
    shutil.copy(files[1], tmp_path / "copy.dcm")
    edited(tmp_path / "copy.dcm", lambda dataset: setattr(dataset, "PixelData", bytes(len(dataset.PixelData))))
    with pytest.raises(InconsistentSeries, match=r"several different images: .*slice_0002\.dcm, copy\.dcm"):
        read_series([*files, tmp_path / "copy.dcm"])


def test_two_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path)
    moved(files[1], (0, 0, 2.5))
    with pytest.raises(InconsistentSeries, match=r"same position: .*slice_0002\.dcm, slice_0003\.dcm"):
        read_series(files)


@pytest.mark.parametrize(("count", "match"), [(1, "single slice is no volume"), (2, "too few slices.*got 2")])
def test_too_few_slices_are_refused(tmp_path: Path, count: int, match: str) -> None:
    with pytest.raises(InconsistentSeries, match=match):
        read_series(written(tmp_path)[:count])


def test_no_files_are_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="no files"):
        read_series([])


def test_truncated_pixels_are_refused_by_name(tmp_path: Path) -> None:
    files = written(tmp_path)
    files[1].write_bytes(files[1].read_bytes()[:-7])
    with pytest.raises(UnreadableImage, match=r"pixel data does not fit the header.*slice_0002\.dcm"):
        read_series(files)


def test_missing_pixels_are_refused_by_name(tmp_path: Path) -> None:
    files = written(tmp_path)
    edited(files[4], removing("PixelData"))
    with pytest.raises(UnreadableImage, match=r"pixel data cannot be read.*slice_0005\.dcm"):
        read_series(files)


@pytest.mark.parametrize("size", [200, 400, 600])
def test_a_damaged_header_is_not_passed_over(tmp_path: Path, size: int) -> None:
    files = written(tmp_path)
    files[1].write_bytes(files[1].read_bytes()[:size])
    with pytest.raises(UnreadableImage, match=r"slice_0002\.dcm"):
        find_series(tmp_path)


def test_find_series_in_a_tree_with_other_files(tmp_path: Path) -> None:
    written(tmp_path / "a" / "ct")
    for path in written(tmp_path / "b", VALUES + 600, kind=Kind.MR):
        path.rename(path.with_suffix(""))
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "empty").touch()
    found = {series.facts.modality: series for series in find_series(tmp_path)}
    assert sorted(found) == ["CT", "MR"]
    assert [path.name for path in found["MR"].files] == [f"slice_{n:04d}" for n in range(1, 6)]
    assert (found["CT"].slices[0].rows, found["CT"].slices[0].columns, found["CT"].facts.patient_id) == (
        4,
        3,
        "anonymous",
    )
    assert all(series.is_scan for series in found.values())


def test_find_series_splits_by_orientation_and_localizer(tmp_path: Path) -> None:
    files = written(tmp_path)
    edited(files[0], setting("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]))
    edited(files[1], setting("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    found = sorted(find_series(tmp_path), key=lambda series: len(series.files))
    assert [len(series.files) for series in found] == [1, 1, 3]
    assert [series.action for series in found].count(Action.SKIP) == 2
    assert len({series.facts.series_uid for series in found}) == 1


@needs_data
def test_objects_without_an_image_are_refused() -> None:
    with pytest.raises(InconsistentSeries, match="holds no image: SR"):
        read_series([DATA / "transfer_syntaxes" / "no-pixel-data.dcm"])


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a")
    (tmp_path / "a" / "closed").mkdir()
    look = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UnreadableImage, match=r"cannot be listed: got Permission denied \(.*closed\)"):
        find_series(tmp_path)


def test_find_series_in_an_empty_folder(tmp_path: Path) -> None:
    assert find_series(tmp_path) == ()


def test_find_series_passes_over_segmentations(tmp_path: Path) -> None:
    for path in written(tmp_path):
        edited(path, setting("Modality", "SEG"))
    assert find_series(tmp_path) == ()


def test_mr_floats_come_back_within_half_a_step(tmp_path: Path) -> None:
    array = np.random.default_rng(2).normal(1e-4, 3e-5, (1, 3, 4, 5)).astype(np.float32)
    found = read_series(written(tmp_path, array, kind=Kind.MR)).array
    step = (array.max() - array.min()) / 65535
    assert np.abs(found - array).max() <= 0.51 * step


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "float32"])
def test_whole_mr_values_come_back_exactly(tmp_path: Path, dtype: str) -> None:
    array: Array = (VALUES % 200).astype(dtype)
    assert np.array_equal(read_series(written(tmp_path, array, kind=Kind.MR)).array, array)


def test_ct_floats_are_rounded_to_hounsfield_units(tmp_path: Path) -> None:
    array = VALUES + np.float32(0.25)
    assert np.array_equal(read_series(written(tmp_path, array)).array, VALUES)


def test_constant_floats_come_back(tmp_path: Path) -> None:
    array = np.full((1, 3, 4, 5), 0.375, dtype=np.float32)
    assert np.array_equal(read_series(written(tmp_path, array, kind=Kind.MR)).array, array)


def test_a_left_handed_grid_keeps_every_voxel_in_place(tmp_path: Path) -> None:
    left_handed = reorient(Volume(VALUES, GRID, Kind.CT), "LPI")
    files = write_dicom_series(tmp_path / "a", left_handed)
    found = read_series(files)
    assert found.source.instance_uids == tuple(pydicom.dcmread(path).SOPInstanceUID for path in files)
    assert np.array_equal(found.array, VALUES)
    assert same_space(found.grid, GRID, 1e-6)


def test_a_seed_makes_equal_files_and_one_study(tmp_path: Path) -> None:
    first, again = written(tmp_path / "a"), written(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    other = write_dicom_series(tmp_path / "c", Volume(VALUES, GRID, Kind.MR), seed="test")
    headers = [pydicom.dcmread(path) for path in (first[0], other[0])]
    assert headers[0].StudyInstanceUID == headers[1].StudyInstanceUID
    assert headers[0].SeriesInstanceUID != headers[1].SeriesInstanceUID


def test_without_a_seed_identifiers_are_new(tmp_path: Path) -> None:
    volume = Volume(VALUES, GRID, Kind.CT)
    files = write_dicom_series(tmp_path / "a", volume) + write_dicom_series(tmp_path / "b", volume)
    headers = [pydicom.dcmread(path) for path in files]
    assert len({header.SOPInstanceUID for header in headers}) == 10
    assert len({header.StudyInstanceUID for header in headers}) == 2


def test_decimal_strings_are_short_enough(tmp_path: Path) -> None:
    tilted = compose_affine(ROTATION[[2, 0, 1]] @ np.diag([1 / 3, 2 / 3, 1e-1 / 7]), (1e-17, -1234.56789012345, 1 / 7))
    for path in written(tmp_path, grid=Grid((3, 4, 5), tilted)):
        header = pydicom.dcmread(path)
        texts = [str(e.original_string) for e in (*header.ImagePositionPatient, *header.ImageOrientationPatient)]
        assert max(map(len, texts)) <= 16


@pytest.mark.parametrize(
    ("volume", "match"),
    [
        (Volume(VALUES, GRID), "only CT and MR"),
        (Volume(VALUES + np.float32(np.nan), GRID, Kind.MR), "no numbers: got NaN"),
        (Volume(VALUES * np.int32(1000), GRID, Kind.CT), "do not fit into 16 bits"),
        (Volume(np.concatenate([VALUES, VALUES]), GRID, Kind.CT), "one channel: got 2"),
        (Volume(VALUES, SHEARED, Kind.CT), "sheared grid .* got 11.31 degrees off"),
    ],
)
def test_export_refuses(tmp_path: Path, volume: Volume, match: str) -> None:
    with pytest.raises(ExportError, match=match):
        write_dicom_series(tmp_path / "a", volume)
    assert list(tmp_path.iterdir()) == []


def test_a_new_series_replaces_the_old_folder(tmp_path: Path) -> None:
    written(tmp_path / "a")
    small = Volume(VALUES[..., :3], Grid((3, 4, 3), GRID.affine), Kind.CT)
    files = write_dicom_series(tmp_path / "a", small, patient_name="Müller^Jörg")
    assert sorted((tmp_path / "a").iterdir()) == list(files)
    assert str(pydicom.dcmread(files[0]).PatientName) == "Müller^Jörg"
    assert pydicom.dcmread(files[0]).SOPClassUID == CTImageStorage


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path) -> None:
    written(tmp_path / "archive" / "patient")
    with pytest.raises(ExportError, match="holds something else"):
        written(tmp_path / "archive")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ExportError, match="holds something else"):
        written(tmp_path / "notes.txt")
    assert len(list((tmp_path / "archive" / "patient").iterdir())) == 5


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize(("kind", "factor"), [(Kind.CT, 1), (Kind.MR, 1), (Kind.MR, 0.37)])
def test_written_instances_are_valid(tmp_path: Path, kind: Kind, factor: float) -> None:
    path = written(tmp_path, VALUES * factor, kind=kind)[2]
    report = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in report.stdout + report.stderr


@needs_data
@pytest.mark.parametrize(
    ("folder", "match"),
    [
        ("series/failing/sliceincrement/001", r"1 slice\(s\) missing: expected a slice every 5\.000 mm, got 10\.000"),
        ("series/failing/sliceorientation/001", "mixed orientations"),
        ("series/failing/slicecount/001", "too few slices"),
        ("series/failing/notavolume/001", "one position are no volume: .*001.dcm, 002.dcm, 003.dcm, 004.dcm"),
        ("series/generic/rgb/001", "greyscale"),
        ("series/ge/anatomical/001_single_slice", "single slice"),
    ],
)
def test_real_failing_series_are_refused(folder: str, match: str) -> None:
    files = [path for path in sorted((DATA / folder).iterdir()) if path.suffix != ".gz"]
    with pytest.raises(InconsistentSeries, match=match):
        read_series(files)


@needs_data
def test_real_tilt_with_uneven_steps_is_refused() -> None:
    with pytest.raises(InconsistentSeries, match=r"unevenly spaced slices.*tilted by 18\.50 degrees"):
        read_series(sorted((DATA / "tilt_ge").glob("*.dcm")))


SYNTAXES = sorted((DATA / "transfer_syntaxes").glob("CTImage.dcm*")) if DATA.is_dir() else []
LOSSLESS = ("LittleEndian", "BigEndian", "Deflated", "LosslessOnly", "LSLossless", "RLE", "Process14")


@needs_data
@pytest.mark.parametrize(
    "path", [p for p in SYNTAXES if any(word in p.name for word in LOSSLESS)], ids=lambda p: p.name[-24:]
)
def test_lossless_transfer_syntaxes_agree_bit_by_bit(tmp_path: Path, path: Path) -> None:
    expected = pydicom.dcmread(DATA / "transfer_syntaxes" / "CTImage.dcm")
    files = [tmp_path / str(n) for n in range(3)]
    for n, copy in enumerate(files):
        shutil.copy(path, copy)
        moved(copy, (0, 0, 2.0 * n))
        edited(copy, lambda dataset: setattr(dataset, "SOPInstanceUID", pydicom.uid.generate_uid()))
    found = read_series(files).array
    values = expected.pixel_array.T * int(expected.RescaleSlope) + int(expected.RescaleIntercept)
    assert all(np.array_equal(found[0, :, :, n], values) for n in range(3))


def test_a_series_value_reads_like_its_files(tmp_path: Path) -> None:
    written(tmp_path)
    series = find_series(tmp_path)[0]
    assert isinstance(series, Stack)
    assert read_series_grid(series) == read_series_grid(list(reversed(series.files)))
