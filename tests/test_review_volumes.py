"""Scans for the browser: the same values in the same places, exact where they can be, in parts, once."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delineate import formats
from delineate.errors import InputError, ResourceError, UnreadableImage
from delineate.formats.dicom.pixels import read_stack
from delineate.geometry import Grid, compose_affine
from delineate.review import display_scans
from delineate.review.display_numbers import coding_for, coding_of, numbers_of, values_of
from delineate.review.display_readying import run_from_middle
from delineate.review.records import NewCase, ReviewCase, State
from delineate.review.volumes import DisplayVolumes, compress
from delineate.review.windows import Window, named_windows, windows_for
from delineate.volume import Array, Kind, Volume

OBLIQUE = np.array([[0.8, 0.36, -0.48], [-0.6, 0.48, -0.64], [0.0, 0.8, 0.6]])
GRID = Grid((5, 4, 7), compose_affine(OBLIQUE * (0.7, 1.1, -2.5), (31, -12, 105)))
HU = np.random.default_rng(0).integers(-1024, 3071, GRID.shape).astype(np.int16)


def case(scan: Path) -> ReviewCase:
    return ReviewCase(1, NewCase("a", "c", "p", scan, scan, "", ()), State.UNREVIEWED, 0)


def shown(volumes: DisplayVolumes, scan: Path, channel: int = 0) -> Array:
    """All values (I, J, K) as the browser computes them from two slabs."""
    one = case(scan)
    about = volumes.about(one, channel=channel)
    i, j, k = about.grid.shape
    data = volumes.slab(one, 0, 2, channel=channel) + volumes.slab(one, 2, k, channel=channel)
    numbers = np.frombuffer(data, "<i2").reshape(k, j, i).transpose(2, 1, 0)
    return numbers * about.slope + about.intercept


def save(path: Path, array: Array, *, slope: float = 1, inter: float = 0) -> Path:
    make: Any = nibabel.Nifti1Image
    image = make(array, np.diag([0.8, 1.2, 3.0, 1.0]))
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


@pytest.fixture
def volumes(tmp_path: Path) -> Any:
    made = DisplayVolumes(tmp_path / "cache", memory_bytes=10**9)
    yield made
    made.close()


def test_ct_from_nifti_is_exact_in_the_files_own_orientation(tmp_path: Path, volumes: DisplayVolumes) -> None:
    formats.write_volume(tmp_path / "a.nii.gz", Volume(HU[np.newaxis], GRID, Kind.CT))
    about = volumes.about(case(tmp_path / "a.nii.gz"))
    assert (about.slope, about.intercept, about.kind, about.unit) == (1.0, 0.0, Kind.CT, "HU")
    np.testing.assert_allclose(about.grid.affine, GRID.affine, atol=1e-4)
    np.testing.assert_array_equal(shown(volumes, tmp_path / "a.nii.gz"), HU)


@pytest.mark.parametrize("syntax", ["uncompressed", "RLE"])
def test_ct_from_dicom_is_what_the_reader_reads(tmp_path: Path, volumes: DisplayVolumes, syntax: str) -> None:
    formats.write_dicom_series(tmp_path / "s", Volume(HU[np.newaxis], GRID, Kind.CT), patient_id="p", seed="s")
    for path in (tmp_path / "s").iterdir() if syntax == "RLE" else ():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    expected = formats.read_volume(tmp_path / "s")
    about = volumes.about(case(tmp_path / "s"))
    assert about.grid == expected.grid
    assert about.slope == 1.0
    np.testing.assert_array_equal(shown(volumes, tmp_path / "s"), expected.array[0])


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (2.0, 5.0), (0.37, -3.3)])
def test_rescaled_dicom_is_exact(tmp_path: Path, volumes: DisplayVolumes, slope: float, intercept: float) -> None:
    formats.write_dicom_series(tmp_path / "s", Volume(HU[np.newaxis], GRID, Kind.CT), patient_id="p", seed="s")
    for path in (tmp_path / "s").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.save_as(path)
    expected = formats.read_volume(tmp_path / "s").array[0]
    np.testing.assert_allclose(shown(volumes, tmp_path / "s"), expected, rtol=1e-6, atol=1e-4)


def test_slices_that_are_scaled_apart_are_read_whole(tmp_path: Path, volumes: DisplayVolumes) -> None:
    formats.write_dicom_series(tmp_path / "s", Volume(HU[np.newaxis], GRID, Kind.CT), patient_id="p", seed="s")
    for n, path in enumerate(sorted((tmp_path / "s").iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope = 0.5 + n / 10
        dataset.save_as(path)
    expected = formats.read_volume(tmp_path / "s").array[0]
    np.testing.assert_allclose(shown(volumes, tmp_path / "s"), expected, atol=np.ptp(expected) / 65535)
    with pytest.raises(ResourceError, match="read whole"):
        DisplayVolumes(tmp_path / "other", memory_bytes=100).about(case(tmp_path / "s"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_all_kinds_of_numbers_keep_their_whole_values(tmp_path: Path, volumes: DisplayVolumes, dtype: type) -> None:
    array = (HU.astype(np.int64) - HU.min()).astype(dtype)
    path = save(tmp_path / "a.nii.gz", array)
    np.testing.assert_array_equal(shown(volumes, path), array)


def test_a_files_scaling_counts(tmp_path: Path, volumes: DisplayVolumes) -> None:
    make: Any = nibabel.Nifti1Image
    image = make(HU, np.eye(4))
    image.header.set_slope_inter(0.25, -7.5)
    with (tmp_path / "a.nii").open("wb") as stream:
        # nibabel would choose a scaling of its own.
        image.header["vox_offset"] = 352
        raw = image.header.copy()
        raw["scl_slope"], raw["scl_inter"] = 0.25, -7.5
        stream.write(raw.binaryblock.ljust(352, b"\0") + HU.tobytes(order="F"))
    np.testing.assert_allclose(shown(volumes, tmp_path / "a.nii"), HU * 0.25 - 7.5)


def test_each_channel_is_shown_by_itself(tmp_path: Path, volumes: DisplayVolumes) -> None:
    both = np.stack([HU, HU[::-1]], axis=3)
    path = save(tmp_path / "a.nii.gz", both)
    assert volumes.about(case(path)).channels == 2
    np.testing.assert_array_equal(shown(volumes, path, channel=1), HU[::-1])
    with pytest.raises(UnreadableImage, match="no such channel"):
        volumes.about(case(path), channel=2)


def test_channels_in_files_of_their_own_belong_together(tmp_path: Path, volumes: DisplayVolumes) -> None:
    first, second = save(tmp_path / "a_0000.nii.gz", HU), save(tmp_path / "a_0001.nii.gz", HU + 1)
    assert display_scans.channels_of(first) == ((first, 0), (second, 0))
    np.testing.assert_array_equal(shown(volumes, first, channel=1), HU + 1)


def test_slices_that_are_not_there_are_refused(tmp_path: Path, volumes: DisplayVolumes) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    for k0, k1 in ((-1, 2), (3, 3), (5, 8)):
        with pytest.raises(InputError, match="no such slices"):
            volumes.slab(case(path), k0, k1)


def test_what_is_asked_for_comes_before_the_rest(
    tmp_path: Path, volumes: DisplayVolumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats.write_dicom_series(tmp_path / "s", Volume(HU[np.newaxis], GRID, Kind.CT), patient_id="p", seed="s")
    monkeypatch.setattr(display_scans, "parts_of", lambda grid: tuple((k, k + 1) for k in range(grid.shape[2])))
    monkeypatch.setattr("delineate.review.display_readying.parts_of", display_scans.parts_of)
    asked = threading.Event()
    order: list[tuple[float, float, float]] = []

    def slowly(slices: Any) -> Array:
        order.append(slices[0].position_mm)
        if len(order) == 2:
            asked.wait(10)
        return read_stack(slices)

    monkeypatch.setattr(display_scans, "read_stack", slowly)
    one = case(tmp_path / "s")
    volumes.about(one)
    waiting = threading.Thread(target=volumes.slab, args=(one, 6, 7))
    waiting.start()
    threading.Timer(0.3, asked.set).start()
    waiting.join(20)
    positions = [s.position_mm for s in formats.stack_at(tmp_path / "s").slices]
    assert order[0] == positions[3]
    assert order.index(positions[6]) <= 2


def test_a_scan_that_was_made_ready_is_not_read_again(tmp_path: Path, volumes: DisplayVolumes) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    before = volumes.about(case(path)), volumes.numbers(case(path)).tobytes()
    (folder,) = (tmp_path / "cache" / "display").iterdir()
    stamp = (folder / "image.npy").stat().st_mtime_ns
    again = DisplayVolumes(tmp_path / "cache", memory_bytes=10**9)
    assert (again.about(case(path)), again.numbers(case(path)).tobytes()) == before
    assert (folder / "image.npy").stat().st_mtime_ns == stamp


def test_another_file_of_that_name_is_read(tmp_path: Path, volumes: DisplayVolumes) -> None:
    path = save(tmp_path / "a.nii.gz", HU)
    shown(volumes, path)
    save(path, HU[::-1])
    np.testing.assert_array_equal(shown(volumes, path), HU[::-1])


def test_a_broken_scan_is_said_and_leaves_nothing(tmp_path: Path, volumes: DisplayVolumes) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(1).integers(0, 9999, (40, 40, 20)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UnreadableImage, match="truncated or corrupt"):
        volumes.numbers(case(path))
    assert not list((tmp_path / "cache" / "display").iterdir())


def test_what_was_longest_not_asked_for_goes(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.nii.gz", HU + n) for n in range(3)]
    small = DisplayVolumes(tmp_path / "cache", memory_bytes=10**9, disk_bytes=2 * (HU.nbytes + 128))
    for path in paths:
        small.numbers(case(path))
    small.close()
    assert len(list((tmp_path / "cache" / "display").iterdir())) == 2
    np.testing.assert_array_equal(shown(small, paths[0]), HU)


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_floats_come_back_to_a_65535th_of_their_range(values: Array) -> None:
    coding = coding_of([values])
    back = values_of(numbers_of(values, coding), coding)
    whole = bool((values == np.rint(values)).all()) and np.ptp(values) <= 65535
    step = float(np.ptp(values.astype(np.float64))) / 65535
    np.testing.assert_allclose(back, values, rtol=0, atol=0 if whole else step * 0.500001 + 1e-9)


def test_what_is_no_number_is_the_least() -> None:
    values = np.array([np.nan, -5.5, np.inf, 9.25])
    coding = coding_of([values])
    assert values_of(numbers_of(values, coding), coding).tolist() == pytest.approx([-5.5, -5.5, 9.25, 9.25])
    assert coding_for(np.inf, -np.inf, whole=True).slope == 1


def test_a_files_windows_are_named_and_as_dicom_defines_them(tmp_path: Path) -> None:
    formats.write_dicom_series(tmp_path / "s", Volume(HU[np.newaxis], GRID, Kind.CT), patient_id="p", seed="s")
    path = next((tmp_path / "s").iterdir())
    dataset = pydicom.dcmread(path)
    dataset.WindowCenter, dataset.WindowWidth = [50, -600], [351, 0]
    dataset.WindowCenterWidthExplanation = ["ABDOMEN", "LUNG"]
    dataset.save_as(path)
    # PS3.3 C.11.2.1.2.1: from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2; a width of 0 is none.
    assert named_windows(path) == (Window("Scan: ABDOMEN", -125.5, 224.5),)


def test_presets_by_what_a_scan_measures() -> None:
    assert windows_for(Kind.CT, np.zeros(0))[0] == Window("Soft tissue", -160, 240)
    assert Window("Brain", 0, 80) in windows_for(Kind.CT, np.zeros(0))
    assert windows_for(Kind.PET, np.arange(9.0))[0] == Window("SUV 0 to 7", 0, 7)
    mr = windows_for(Kind.MR, np.arange(1001.0))
    assert mr[0] == Window("Automatic", 5, 995)
    assert all(one.upper > one.lower for one in windows_for(Kind.MR, np.full(9, 4.0)))


def test_parts_are_read_from_the_middle_outwards_together_where_they_adjoin() -> None:
    parts = [(n, n + 1) for n in range(7)]
    assert run_from_middle(parts, [True] * 7, 1) == ((3, 4), (3, 4))
    assert run_from_middle(parts, [True, True, True, False, True, True, False], 5) == ((0, 1), (2, 3))
    assert run_from_middle(parts, [False] * 7, 3) is None


def test_compressed_slabs_are_gzip_and_always_the_same() -> None:
    data = HU.tobytes() * 50
    assert gzip.decompress(compress(data)) == data
    assert compress(data) == compress(data)
