"""One world: whatever door a scan goes through, every voxel stays where it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from delineate import formats
from delineate.errors import GeometryMismatch, InconsistentSeries, LabelError, UnreadableImage
from delineate.geometry import ORIENTATIONS, FloatArray, Grid, compose_affine, largest_distance_mm
from delineate.labels import LabelSet, label_set
from delineate.volume import Kind, Segmentation, Volume, reorient

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not there")

STRAIGHT = np.eye(3)
OBLIQUE = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.array(
    [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
)
VALUES = (np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5) * 31) % 977 - 500
LABELS = label_set({1: "left_lung", 4: "right_lung"})


def scan(code: str = "LPS", rotation: FloatArray = OBLIQUE, kind: Kind = Kind.CT) -> Volume:
    affine = compose_affine(rotation @ np.diag([0.9, 0.8, 2.5]), (-90.25, 120.5, -33.125))
    return reorient(Volume(VALUES, Grid((3, 4, 5), affine), kind), code)


def assert_one_world(found: Volume, expected: Volume) -> None:
    """The same values at the same places, whatever the order of the axes."""
    first, second = reorient(found, "LPS"), reorient(expected, "LPS")
    assert largest_distance_mm(first.grid, second.grid) < 1e-3
    assert np.array_equal(first.array, second.array)


@pytest.mark.parametrize("rotation", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_door_agrees(tmp_path: Path, code: str, rotation: FloatArray) -> None:
    volume = scan(code, rotation)
    assert volume.grid.orientation == code
    formats.write_volume(tmp_path / "a.nii.gz", volume)
    formats.write_dicom_series(tmp_path / "dicom", volume)
    nifti, dicom = formats.read_volume(tmp_path / "a.nii.gz"), formats.read_volume(tmp_path / "dicom")
    assert nifti.grid.orientation == code
    assert_one_world(nifti, volume)
    assert_one_world(dicom, volume)
    assert formats.read_grid(tmp_path / "a.nii.gz") == nifti.grid
    assert formats.read_grid(tmp_path / "dicom") == dicom.grid


def seen_by_simpleitk(path: Path) -> Volume:
    itk = pytest.importorskip("SimpleITK")
    image = itk.ReadImage(itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)) if path.is_dir() else str(path))
    linear = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    array = itk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(array[np.newaxis], Grid(array.shape, compose_affine(linear, image.GetOrigin())))


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "SLA", "LPI", "AIL"])
def test_simpleitk_sees_the_same_world(tmp_path: Path, code: str) -> None:
    volume = scan(code)
    formats.write_volume(tmp_path / "a.nii.gz", volume)
    formats.write_dicom_series(tmp_path / "dicom", volume)
    assert_one_world(seen_by_simpleitk(tmp_path / "a.nii.gz"), volume)
    assert_one_world(seen_by_simpleitk(tmp_path / "dicom"), volume)


@pytest.mark.parametrize("code", ["LPS", "PIR", "LPI", "SLA"])
def test_dcm2niix_sees_the_same_world(tmp_path: Path, code: str) -> None:
    program = pytest.importorskip("dcm2niix").bin
    volume = scan(code, kind=Kind.MR)
    formats.write_dicom_series(tmp_path / "dicom", volume)
    command = [program, "-z", "n", "-b", "n", "-f", "out", "-o", str(tmp_path), str(tmp_path / "dicom")]
    subprocess.run(command, check=True, capture_output=True)
    assert_one_world(formats.read_volume(tmp_path / "out.nii"), volume)


REFERENCES = [
    "ge/anatomical/001",
    "ge/anatomical/001_implicit",
    "generic/anatomical/001",
    "generic/anatomical/001_implicit",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed/001",
    "generic/compressed_j2k/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hyperfine/anatomical/001",
    "philips_enhanced/anatomical/001",
    "philips_enhanced/anatomical/001_implicit",
    "siemens/anatomical/001",
    "siemens/anatomical/001_implicit",
]


@needs_data
@pytest.mark.parametrize("name", REFERENCES)
def test_real_series_equal_their_references(name: str) -> None:
    folder = DATA / "dicom" / "series" / name
    found = reorient(formats.read_volume(folder), "LPS")
    expected = reorient(formats.read_volume(folder.with_name(f"{folder.name}_ground_truth.nii.gz")), "LPS")
    assert found.kind is Kind.MR
    assert largest_distance_mm(found.grid, expected.grid) < 1e-3
    np.testing.assert_allclose(found.array, expected.array, rtol=1e-6)


@needs_data
def test_a_patients_series_are_found_and_share_their_space() -> None:
    found = {series.facts.modality: series for series in formats.find_series(DATA / "sarcoma" / "STS_003")}
    assert sorted(found) == ["CT", "MR", "PT"]
    ct, pet = (formats.read_series(found[modality]) for modality in ("CT", "PT"))
    assert ct.grid.frame_of_reference_uid == pet.grid.frame_of_reference_uid
    assert (ct.array.dtype.name, ct.kind, pet.kind) == ("int16", Kind.CT, Kind.PET)


@needs_data
@pytest.mark.parametrize("patient", ["STS_008", "STS_019"])
@pytest.mark.parametrize("scan_name", ["CT", "MR_T1", "PET"])
def test_real_series_equal_the_nifti_made_of_them_by_others(patient: str, scan_name: str) -> None:
    found = reorient(formats.read_volume(DATA / "sarcoma" / patient / scan_name / "image"), "LPS")
    path = DATA / "sarcoma" / f"{patient}_nifti" / f"{scan_name}_image.nii.gz"
    expected = reorient(formats.read_volume(path), "LPS")
    assert largest_distance_mm(found.grid, expected.grid) < 1e-2
    np.testing.assert_allclose(found.array, expected.array, rtol=1e-5, atol=1e-5)


def save_labels(path: Path, *values: float) -> Path:
    array = np.zeros((3, 4, 5), dtype=np.float32)
    array.ravel()[: len(values)] = values
    formats.write_volume(path, Volume(array[np.newaxis], scan().grid))
    return path


def test_a_segmentation_comes_back(tmp_path: Path) -> None:
    array = np.where(VALUES[0] > 0, 4, VALUES[0] < -300).astype(np.uint8)
    formats.write_segmentation(tmp_path / "a.nii.gz", Segmentation(array, scan().grid, LABELS))
    found = formats.read_segmentation(tmp_path / "a.nii.gz", LABELS)
    assert found.array.dtype == np.uint8
    assert np.array_equal(found.array, array)
    assert largest_distance_mm(found.grid, scan().grid) < 1e-4
    assert found.source.path == tmp_path / "a.nii.gz"


def test_an_empty_segmentation_is_read(tmp_path: Path) -> None:
    assert not formats.read_segmentation(save_labels(tmp_path / "a.nii"), LABELS).array.any()


def test_unknown_values_are_named_with_their_voxels(tmp_path: Path) -> None:
    path = save_labels(tmp_path / "a.nii.gz", 1, 4, 2, 2, 300)
    with pytest.raises(
        LabelError, match=r"no label: expected 0 or one of \[1, 4\], got 2 \(2 voxels\), 300 \(1 voxels\)"
    ):
        formats.read_segmentation(path, LABELS)
    assert formats.read_label_values(path)[0].max() == 300


def test_a_label_map_cannot_overlap_and_is_nifti(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="cannot hold overlapping"):
        formats.read_segmentation(save_labels(tmp_path / "a.nii", 1), LabelSet(LABELS.labels, overlaps=True))
    with pytest.raises(UnreadableImage, match=r"expected \.nii\.gz or \.nii"):
        formats.read_segmentation(tmp_path, LABELS)


def test_channels_are_stacked_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / "a_0000.nii.gz", tmp_path / "a_0001.nii.gz"]
    for factor, path in zip((1, 3), paths, strict=True):
        formats.write_volume(path, replace(scan(), array=VALUES * factor))
    found = formats.read_channels(paths, kind=Kind.MR)
    assert np.array_equal(found.array, np.concatenate([VALUES, VALUES * 3]))
    assert found.kind is Kind.MR
    assert np.array_equal(formats.read_channels(paths[1:]).array, VALUES * 3)


def test_channels_must_share_their_space(tmp_path: Path) -> None:
    paths = [tmp_path / "a_0000.nii.gz", tmp_path / "a_0001.nii.gz"]
    formats.write_volume(paths[0], scan())
    shifted = Grid((3, 4, 5), scan().grid.affine + np.pad([[0.5]], ((0, 3), (3, 0))))
    formats.write_volume(paths[1], Volume(VALUES, shifted))
    with pytest.raises(GeometryMismatch, match=r"not in one space: .*a_0000.*got up to 0\.5 mm away .*a_0001"):
        formats.read_channels(paths)
    formats.write_volume(paths[1], Volume(VALUES[..., :4], Grid((3, 4, 4), scan().grid.affine)))
    with pytest.raises(GeometryMismatch, match=r"expected shape \(3, 4, 5\) of .*a_0000.*got \(3, 4, 4\)"):
        formats.read_channels(paths)


def test_no_channels_are_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        formats.read_channels([])


def test_a_folder_of_several_series_is_refused_with_a_list(tmp_path: Path) -> None:
    formats.write_dicom_series(tmp_path / "a", scan(), description="thorax")
    formats.write_dicom_series(tmp_path / "b", scan(), description="abdomen")
    with pytest.raises(InconsistentSeries, match=r"several series: .*CT abdomen .* 5 file\(s\) of 4 x 3"):
        formats.read_volume(tmp_path)


@needs_data
def test_one_series_of_mixed_orientations_is_refused() -> None:
    with pytest.raises(InconsistentSeries, match="slices of mixed orientations"):
        formats.read_volume(DATA / "dicom" / "series" / "failing" / "sliceorientation")


@pytest.mark.parametrize("name", ["missing.nii.gz", "missing", "empty", "text.png"])
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    assert not formats.is_image(tmp_path / name)
    with pytest.raises(UnreadableImage, match=name):
        formats.read_volume(tmp_path / name)
    with pytest.raises(UnreadableImage, match=name):
        formats.read_grid(tmp_path / name)


def test_what_is_an_image(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "a.nii", scan())
    files = formats.write_dicom_series(tmp_path / "b", scan())
    shutil.copy(files[0], tmp_path / "slice")
    for name in ("a.nii", "b", "slice"):
        assert formats.is_image(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a_0000.nii.gz", "a_0000"), ("b.1.nii", "b.1"), ("C.NII.GZ", "C"), ("d.dcm", "d"), ("1.2.840.1", "1.2.840.1")],
)
def test_image_stem(name: str, stem: str) -> None:
    assert formats.image_stem(Path("x") / name) == stem


def test_importing_the_doors_is_light() -> None:
    code = "import sys, delineate.formats; print([m for m in ('nibabel', 'pydicom', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nibabel_sees_the_same_world(tmp_path: Path) -> None:
    formats.write_volume(tmp_path / "a.nii.gz", scan("PIR"))
    affine = np.asarray(nibabel.load(tmp_path / "a.nii.gz").affine)  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ affine, scan("PIR").grid.affine, atol=1e-5)
