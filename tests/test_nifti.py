"""NIfTI in and out: affines, scaling, shapes, types, units, and what is refused."""

from __future__ import annotations

import gzip
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
import pytest

from delineate.errors import ExportError, GeometryMismatch, InputError, LabelError, ResourceError, UnreadableImage
from delineate.formats import nifti
from delineate.geometry import FloatArray, Grid, compose_affine, index_to_world, largest_distance_mm, same_space
from delineate.labels import LabelSet, label_set
from delineate.volume import Array, Kind, Segmentation, Volume

ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
RAS: FloatArray = compose_affine(ROTATION @ np.diag([0.9, 0.8, 2.5]), (-90.25, 120.5, -33.125))
LINEAR = np.array([[0.9, 0.1, -0.2], [-0.15, 0.8, 0.3], [0.1, -0.2, 2.4]])
SHEARED = Grid((3, 4, 5), compose_affine(LINEAR, (1.1, -2.2, 3.3)))
VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5) - 7

Edit = Callable[[Any], None]


def save(path: Path, array: Array = VALUES, *, affine: FloatArray = RAS, edit: Edit = lambda header: None) -> Path:
    make: Any = nibabel.Nifti1Image
    image = make(array, None)
    image.header.set_sform(affine, 1)
    image.header.set_qform(affine, 1)
    edit(image.header)
    nibabel.save(image, path)
    return path


def test_ras_becomes_lps_and_the_array_stays(tmp_path: Path) -> None:
    volume = nifti.read_volume(save(tmp_path / "a.nii.gz"), kind=Kind.CT)
    assert np.array_equal(volume.array[0], VALUES)
    ras = RAS @ (1, 2, 3, 1)
    np.testing.assert_allclose(index_to_world(volume.grid, (1, 2, 3)), ras[:3] * (-1, -1, 1), atol=1e-4)
    assert (volume.kind, volume.source.path) == (Kind.CT, tmp_path / "a.nii.gz")


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", ">u2", "<i4", "<i8"])
def test_integers_keep_their_type_in_native_order(tmp_path: Path, dtype: str) -> None:
    array = (VALUES + 7).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")  # type: ignore[no-untyped-call]
    make: Any = nibabel.Nifti1Image
    nibabel.save(make(array, RAS, header=header, dtype=array.dtype), tmp_path / "a.nii")
    found = nifti.read_volume(tmp_path / "a.nii").array
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert found.dtype.isnative
    assert np.array_equal(found[0], array)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8"])
def test_floats_become_float32_with_their_nans(tmp_path: Path, dtype: str) -> None:
    array = VALUES.astype(dtype) + 0.5
    array[0, 1, 2] = np.nan
    found = nifti.read_volume(save(tmp_path / "a.nii", array)).array
    assert found.dtype == np.float32
    assert np.array_equal(found[0], array.astype(np.float32), equal_nan=True)


def set_field(path: Path, offset: int, value: float) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = np.float32(value).tobytes()
    path.write_bytes(data)


def set_scaling(path: Path, slope: float, intercept: float) -> None:
    set_field(path, 112, slope)
    set_field(path, 116, intercept)


def test_scaling_is_applied(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii")
    set_scaling(path, 0.5, -10)
    found = nifti.read_volume(path).array
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], VALUES * np.float32(0.5) - 10)


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_of_zero_or_nan_means_no_scaling(tmp_path: Path, slope: float) -> None:
    path = save(tmp_path / "a.nii")
    set_scaling(path, slope, 5)
    found = nifti.read_volume(path).array
    assert found.dtype == np.int16
    assert np.array_equal(found[0], VALUES)


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 20), (3, 20, 1)), ((3, 4, 5, 1), (3, 4, 5)), ((3, 4, 5, 1, 1), (3, 4, 5))]
)
def test_slices_and_trailing_axes_of_one(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    volume = nifti.read_volume(save(tmp_path / "a.nii.gz", VALUES.reshape(shape)))
    assert volume.grid.shape == expected
    assert np.array_equal(volume.array[0], VALUES.reshape(expected))
    assert nifti.read_grid(tmp_path / "a.nii.gz") == volume.grid


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 1, 5), (60,)])
def test_what_is_not_3d_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.resize(VALUES, shape)
    with pytest.raises(UnreadableImage, match=r"not one 3D image.*Split it"):
        nifti.read_volume(save(tmp_path / "a.nii.gz", array))


@pytest.mark.parametrize("dtype", [np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), np.dtype(np.complex64)])
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, dtype: np.dtype[Any]) -> None:
    with pytest.raises(UnreadableImage, match="plain numbers"):
        nifti.read_volume(save(tmp_path / "a.nii", np.zeros((3, 4, 5), dtype=dtype)))


@pytest.mark.parametrize("cut", [0, 100, 300, -20])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_files_are_refused(tmp_path: Path, name: str, cut: int) -> None:
    path = save(tmp_path / name, np.random.default_rng(1).integers(0, 999, (9, 8, 7)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UnreadableImage, match=name):
        nifti.read_volume(path)


def test_a_corrupt_stream_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(1).integers(0, 999, (9, 8, 7)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[-40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"corrupt.*a\.nii\.gz"):
        nifti.read_volume(path)


@pytest.mark.parametrize("content", [b"", b"hello" * 200, gzip.compress(b"hello" * 200, mtime=0)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"a\.nii\.gz"):
        nifti.read_volume(tmp_path / "a.nii.gz")
    with pytest.raises(UnreadableImage, match="no such file"):
        nifti.read_volume(tmp_path / "b.nii.gz")


def test_sform_comes_before_an_agreeing_qform(tmp_path: Path) -> None:
    near = RAS.copy()
    near[:3, 3] += 0.01
    found = nifti.read_grid(save(tmp_path / "a.nii", edit=lambda header: header.set_qform(near, 1)))
    np.testing.assert_allclose(found.origin_mm, RAS[:3, 3] * (-1, -1, 1))


def test_qform_alone_is_used(tmp_path: Path) -> None:
    found = nifti.read_grid(save(tmp_path / "a.nii", edit=lambda header: header.set_sform(np.eye(4), 0)))
    assert largest_distance_mm(found, nifti.read_grid(save(tmp_path / "b.nii"))) < 1e-3


def test_disagreeing_sform_and_qform_are_refused_with_the_distance(tmp_path: Path) -> None:
    far = RAS.copy()
    far[:3, 3] += (3, 0, 4)
    path = save(tmp_path / "a.nii", edit=lambda header: header.set_qform(far, 2))
    with pytest.raises(GeometryMismatch, match=r"sform and qform.*at most 0\.08 mm.*got 5 mm.*a\.nii.*code to 0"):
        nifti.read_grid(path)


@pytest.mark.parametrize("excess", [1e-5, 1e-2])
def test_a_quaternion_may_be_too_long_by_rounding_only(tmp_path: Path, excess: float) -> None:
    half_turn = np.diag([-0.9, 0.8, -2.5, 1])  # about the second axis: quaternion (0, 0, 1, 0)
    path = save(tmp_path / "a.nii", affine=half_turn)
    set_field(path, 260, 1 + excess)
    if excess < 1e-3:
        np.testing.assert_allclose(nifti.read_grid(path).affine, np.diag([0.9, -0.8, -2.5, 1]), atol=1e-4)
    else:
        with pytest.raises(UnreadableImage, match=r"w2 should be positive.*a\.nii"):
            nifti.read_grid(path)


def test_damaged_headers_raise_input_errors_only(tmp_path: Path) -> None:
    path, rng = save(tmp_path / "a.nii"), np.random.default_rng(5)
    sound, refused = path.read_bytes(), 0
    for _ in range(200):
        data = bytearray(sound)
        data[rng.integers(0, 350)] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            nifti.read_volume(path)
        except InputError:
            refused += 1
    assert 0 < refused < 200


def strip(header: Any) -> None:
    header.set_sform(None, 0)
    header.set_qform(None, 0)


def test_a_header_without_orientation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryMismatch, match=r"does not say where.*Convert the original"):
        nifti.read_volume(save(tmp_path / "a.nii", edit=strip))


def test_a_flat_affine_is_refused_by_name(tmp_path: Path) -> None:
    flat = RAS @ np.diag([1, 1, 0, 1])
    with pytest.raises(GeometryMismatch, match=r"cannot be inverted.*a\.nii"):
        nifti.read_volume(save(tmp_path / "a.nii", edit=lambda header: header.set_sform(flat, 1)))


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("unknown", 1), ("mm", 1)])
def test_units_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    found = nifti.read_grid(save(tmp_path / "a.nii", edit=lambda header: header.set_xyzt_units(unit)))
    np.testing.assert_allclose(found.spacing_mm, np.array([0.9, 0.8, 2.5]) * factor, rtol=1e-5)


def test_a_header_affine_comes_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        affine = RAS + np.vstack([rng.normal(0, 1e-3, (3, 4)), np.zeros((1, 4))])
        volume = nifti.read_volume(save(tmp_path / "a.nii", affine=affine))
        nifti.write_volume(tmp_path / "b.nii.gz", volume)
        assert nifti.read_grid(tmp_path / "b.nii.gz") == volume.grid


@pytest.mark.parametrize("grid", [SHEARED, Grid((3, 4, 5), RAS), Grid((3, 4, 5), RAS @ np.diag([1, 1, -1, 1]))])
def test_written_grids_come_back_to_float32(tmp_path: Path, grid: Grid) -> None:
    nifti.write_volume(tmp_path / "a.nii.gz", Volume(VALUES[np.newaxis], grid))
    volume = nifti.read_volume(tmp_path / "a.nii.gz")
    assert same_space(volume.grid, grid, 1e-4)
    assert np.array_equal(volume.array[0], VALUES)
    header: Any = nibabel.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0 if grid is SHEARED else 1)
    np.testing.assert_allclose(header.get_zooms(), grid.spacing_mm, rtol=1e-6)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64"]
)
def test_values_of_every_type_come_back(tmp_path: Path, dtype: str) -> None:
    array = np.abs(VALUES).astype(dtype)
    nifti.write_volume(tmp_path / "a.nii.gz", Volume(array[np.newaxis], SHEARED))
    assert np.array_equal(nifti.read_volume(tmp_path / "a.nii.gz").array[0], array)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    make: Any = nibabel.Nifti2Image
    nibabel.save(make(VALUES, RAS), tmp_path / "a.nii.gz")
    assert np.array_equal(nifti.read_volume(tmp_path / "a.nii.gz").array[0], VALUES)
    np.testing.assert_allclose(nifti.read_grid(tmp_path / "a.nii.gz").spacing_mm, (0.9, 0.8, 2.5))


def test_equal_volumes_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write_volume(tmp_path / name, Volume(VALUES[np.newaxis], SHEARED))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_export_refuses_channels_names_and_overlaps(tmp_path: Path) -> None:
    scan = Volume(np.stack([VALUES, VALUES]), SHEARED)
    with pytest.raises(ExportError, match="one channel: got 2 channels"):
        nifti.write_volume(tmp_path / "a.nii.gz", scan)
    with pytest.raises(ExportError, match=r"expected \.nii\.gz or \.nii, got a\.mha"):
        nifti.write_volume(tmp_path / "a.mha", Volume(VALUES[np.newaxis], SHEARED))
    labels = LabelSet(label_set({1: "lung"}).labels, overlaps=True)
    with pytest.raises(ExportError, match="overlapping structures"):
        nifti.write_segmentation(tmp_path / "a.nii", Segmentation(VALUES[np.newaxis] > 3, SHEARED, labels))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: BinaryIO, *_: object, **__: object) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, "write_gzip", refuse)
    with pytest.raises(ResourceError, match="disk is full"):
        nifti.write_volume(tmp_path / "a.nii.gz", Volume(VALUES[np.newaxis], SHEARED))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "top", "found"), [("u1", 9, "u1"), ("f8", 9, "u1"), ("i4", 256, "u2"), ("f4", 65535, "u2")]
)
def test_label_values_are_small_unsigned_integers(tmp_path: Path, dtype: str, top: int, found: str) -> None:
    array = np.zeros((3, 4, 5), dtype=dtype)
    array[0, 1, 2], array[2, 3, 4] = 2, top
    values, grid = nifti.read_label_values(save(tmp_path / "a.nii.gz", array))
    assert values.dtype == found
    assert np.array_equal(values, array)
    assert grid == nifti.read_grid(tmp_path / "a.nii.gz")


def test_labels_may_be_off_by_rounding(tmp_path: Path) -> None:
    array = np.full((3, 4, 5), 2, dtype=np.float32) - np.float32(3e-5)
    values, _ = nifti.read_label_values(save(tmp_path / "a.nii.gz", array))
    assert np.unique(values).tolist() == [2]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.nan, "are no numbers: got 1 voxel"),
        (np.inf, "are no numbers"),
        (0.4, r"fractional.*0\.4.*in 1 voxel.*nearest neighbour"),
        (-1, "out of range: expected 0 to 65535, got -1"),
        (70000, "out of range"),
    ],
)
def test_bad_label_values_are_refused(tmp_path: Path, value: float, match: str) -> None:
    array = np.zeros((3, 4, 5), dtype=np.float32)
    array[1, 2, 3] = value
    with pytest.raises(LabelError, match=match):
        nifti.read_label_values(save(tmp_path / "a.nii.gz", array))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_asks_for_gigabytes_gets_none(tmp_path: Path, name: str) -> None:
    make: Any = nibabel.Nifti1Image
    header = make(np.zeros((2, 2, 2)), np.eye(4)).header
    header.set_data_shape((20000, 20000, 20000))
    header["vox_offset"] = 352
    data = header.binaryblock + bytes(4 + 1000)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(UnreadableImage, match="truncated or corrupt: expected 64000000000352 bytes"):
        nifti.read_volume(tmp_path / name)


def damage(path: Path, field: str, value: object) -> Path:
    """The file with one field of its header as it must not be."""
    data = path.read_bytes()
    make: Any = nibabel.Nifti1Header
    header = make(data[:348], check=False)
    header[field] = value
    path.write_bytes(header.binaryblock + data[348:])
    return path


@pytest.mark.parametrize("offset", [0, 348, -1, np.nan])
def test_voxels_inside_the_header_are_refused(tmp_path: Path, offset: float) -> None:
    path = damage(save(tmp_path / "a.nii"), "vox_offset", offset)
    with pytest.raises(
        UnreadableImage, match="voxels that start inside the header: expected vox_offset of at least 352"
    ):
        nifti.read_volume(path)


@pytest.mark.parametrize("size", [0, -0.9, np.nan, np.inf])
def test_voxel_sizes_that_a_qform_cannot_use_are_refused(tmp_path: Path, size: float) -> None:
    path = save(tmp_path / "a.nii", edit=lambda header: header.set_sform(None, 0))
    damage(path, "pixdim", [1, size, 0.8, 2.5, 1, 1, 1, 1])
    with pytest.raises(GeometryMismatch, match="voxel sizes are not positive"):
        nifti.read_grid(path)


@pytest.mark.parametrize(("name", "packed"), [("a.nii.gz", False), ("b.nii", True)])
def test_renamed_files_are_read_by_their_content(tmp_path: Path, name: str, packed: bool) -> None:
    data = save(tmp_path / "original.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    assert np.array_equal(nifti.read_volume(tmp_path / name).array[0], VALUES)


def is_mapped(array: Array) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def test_large_files_are_mapped_where_they_hold_the_voxels_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii")
    mapped = nifti.read_volume(path, map_bytes=400)
    assert is_mapped(mapped.array)
    np.testing.assert_array_equal(mapped.array[0], VALUES)
    assert not is_mapped(nifti.read_volume(path, map_bytes=1000).array)
    set_scaling(path, 2, 1)
    np.testing.assert_array_equal(nifti.read_volume(path, map_bytes=400).array[0], VALUES * 2 + 1)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_written_files_are_what_nibabel_makes_of_them(tmp_path: Path, name: str) -> None:
    volume = nifti.read_volume(save(tmp_path / "a.nii"))
    nifti.write_volume(tmp_path / f"ours_{name}", volume)
    ours: Any = nibabel.load(tmp_path / f"ours_{name}")
    nibabel.save(ours, tmp_path / f"theirs_{name}")
    unpack: Any = gzip.decompress if name.endswith(".gz") else bytes
    mine, theirs = (unpack((tmp_path / f"{whose}_{name}").read_bytes()) for whose in ("ours", "theirs"))
    assert mine == theirs


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_planes_of_a_channel_come_a_few_at_a_time_as_they_stand(tmp_path: Path, suffix: str) -> None:
    array = np.arange(120, dtype=np.int16).reshape(3, 4, 5, 2)
    path = save(tmp_path / f"a{suffix}", array)
    parts = list(nifti.iterate_planes(path, count=2, channel=1))
    assert [part.shape for part in parts] == [(2, 4, 3), (2, 4, 3), (1, 4, 3)]
    np.testing.assert_array_equal(np.concatenate(parts).T, array[..., 1])


def test_planes_of_a_truncated_file_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UnreadableImage, match="truncated or corrupt"):
        list(nifti.iterate_planes(path, count=4))
