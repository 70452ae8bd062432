"""Hard series with damaged attributes, faults thrown together at random, and what other software reads from them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hard_series import (
    AXES,
    AXIAL,
    CORONAL,
    OBLIQUE,
    Plane,
    assert_true,
    inside,
    intensity,
    other_world,
    planes,
    read,
    setting,
    store,
    turned,
    voxel_points,
    write_series,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from delineate.errors import DelineateError, InconsistentSeries, UnreadableImage
from delineate.formats.dicom.series import find_series, read_series
from delineate.formats.dicom.stacks import Action, Repair
from delineate.geometry import FloatArray, world_to_index
from delineate.volume import Array

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom is not there")

PLANES = planes(axes=OBLIQUE)


# Missing and odd attributes


def removing(keyword: str) -> Callable[[Dataset, int], None]:
    return lambda dataset, n: delattr(dataset, keyword) if n == 3 else None


def odd(keyword: str, value: str) -> Callable[[Dataset, int], None]:
    """The element of the fourth slice as it stands in the file, against its type."""

    def edit(dataset: Dataset, n: int) -> None:
        if n == 3:
            raw = pydicom.dataelem.RawDataElement
            tag = pydicom.tag.Tag(keyword)
            vr = pydicom.datadict.dictionary_VR(tag)
            data = value.encode() + b" " * (len(value) % 2)
            dataset[tag] = raw(tag, vr, len(data), data, 0, False, True)

    return edit


ODD: list[tuple[Callable[[Dataset, int], None], str]] = [
    (removing("ImagePositionPatient"), "without a usable ImagePositionPatient"),
    (removing("ImageOrientationPatient"), "without a usable ImageOrientationPatient"),
    (removing("PixelSpacing"), "without a usable PixelSpacing"),
    (removing("Modality"), "does not say its Modality"),
    (removing("BitsAllocated"), "pixels of an unsupported kind"),
    (removing("BitsStored"), "pixels of an unsupported kind"),
    (removing("PixelRepresentation"), "pixels of an unsupported kind"),
    (removing("RescaleSlope"), "only one of RescaleSlope and RescaleIntercept"),
    (removing("RescaleIntercept"), "only one of RescaleSlope and RescaleIntercept"),
    (removing("FrameOfReferenceUID"), r"1 slice\(s\) missing|mixed frames"),
    (odd("ImagePositionPatient", "1,5\\2,5\\3,5"), "without a usable ImagePositionPatient"),
    (odd("ImagePositionPatient", "1\\2"), "without a usable ImagePositionPatient"),
    (odd("ImagePositionPatient", "1\\2\\nan"), "without a usable ImagePositionPatient"),
    (odd("ImagePositionPatient", ""), "without a usable ImagePositionPatient"),
    (odd("ImagePositionPatient", "1\\2\\1e300"), "impossible ImagePositionPatient"),
    (odd("ImageOrientationPatient", "1\\0\\0\\0\\1"), "without a usable ImageOrientationPatient"),
    (odd("ImageOrientationPatient", "0\\0\\0\\0\\0\\0"), "no pair of perpendicular unit vectors"),
    (odd("PixelSpacing", "0.7"), "without a usable PixelSpacing"),
    (odd("PixelSpacing", "-0.7\\0.7"), "PixelSpacing must be positive"),
    (odd("PixelSpacing", "1e300\\0.7"), "PixelSpacing must be positive and possible"),
    (odd("RescaleSlope", "1,5"), "unusable RescaleSlope"),
    (odd("RescaleSlope", "1\\2"), "unusable RescaleSlope"),
    (odd("RescaleSlope", "inf"), "unusable RescaleSlope"),
    (odd("RescaleIntercept", "-1024,0"), "unusable RescaleIntercept"),
    (odd("RescaleIntercept", "nan"), "unusable RescaleIntercept"),
    (odd("NumberOfFrames", "x"), "unusable NumberOfFrames"),
    (lambda d, n: setattr(d, "HighBit", 11) if n == 3 else None, "pixels of an unsupported kind"),
    (lambda d, n: setattr(d, "Rows", 12) if n == 3 else None, r"mixed sizes|1 slice\(s\) missing"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("edit", "match"), ODD)
def test_an_odd_attribute_refuses_the_series(tmp_path: Path, edit: Callable[[Dataset, int], None], match: str) -> None:
    files = write_series(tmp_path, PLANES, edit=edit)
    with pytest.raises(InconsistentSeries, match=match):
        read(files)


@pytest.mark.parametrize(
    "keyword", ["InstanceNumber", "SOPInstanceUID", "FrameOfReferenceUID", "PatientID", "ImageType"]
)
def test_attributes_that_geometry_can_do_without(tmp_path: Path, keyword: str) -> None:
    def remove(dataset: Dataset, _: int) -> None:
        delattr(dataset, keyword)

    assert_true(read(write_series(tmp_path, PLANES, edit=remove)), PLANES)


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_are_none_do_not_stop_the_reader(tmp_path: Path) -> None:
    files = write_series(tmp_path, PLANES, edit=odd("InstanceNumber", "nan"))
    assert_true(read(files), PLANES)


def test_fewer_rows_than_pixels_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, PLANES, edit=setting("Rows", 11))
    with pytest.raises(UnreadableImage, match=r"does not fit the header: expected 1 frame\(s\) of 374 bytes"):
        read(files)


def test_files_without_preamble_and_meta_information(tmp_path: Path) -> None:
    for path in write_series(tmp_path, PLANES):
        data = path.read_bytes()
        path.write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    (stack,) = find_series(tmp_path)
    assert_true(read_series(stack), PLANES)


# Whatever is done to a series, it is never silently wrong

FAULTS = ("missing", "jitter", "shift", "copy", "double", "phase", "renumber", "rounded", "lost", "gap")


@st.composite
def faulty_series(draw: st.DrawFn) -> tuple[list[Plane], list[str], int, Repair]:
    axes = turned(*(draw(st.integers(-180, 180)) for _ in range(3)))
    tilt = (0.0, float(draw(st.sampled_from([0, 0, 0.05, 5, -12, 25]))))
    stack = planes(
        draw(st.integers(4, 9)),
        axes=axes,
        step_mm=draw(st.sampled_from([0.6, 1.0, 2.5])),
        tilt=tilt,
        size=(7, 9),
        spacing_mm=(1.3, 0.9),
    )
    faults = draw(st.lists(st.sampled_from(FAULTS), max_size=2, unique=True))
    return stack, faults, draw(st.integers(0, 2**16)), draw(st.sampled_from(Repair))


def spoil(folder: Path, stack: list[Plane], faults: list[str], rng: np.random.Generator) -> list[Plane]:
    """Write the series with its faults; the planes that are there."""
    n = int(rng.integers(1, len(stack) - 1))
    if "missing" in faults:
        del stack[n]
    if "lost" in faults:
        del stack[-1]
    if "gap" in faults:
        stack[-1] = stack[-1].moved(along_normal=float(rng.uniform(0.2, 9)))
    if "jitter" in faults:
        stack = [plane.moved(*rng.uniform(-0.3, 0.3, 3)) for plane in stack]
    if "shift" in faults:
        stack[n % len(stack)] = stack[n % len(stack)].moved(*rng.uniform(-1, 1, 3))
    order = [stack[k] for k in rng.permutation(len(stack))]
    digits = 1 if "rounded" in faults else 8

    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient = [f"{float(x):.{digits}f}" for x in dataset.ImagePositionPatient]
        if "renumber" in faults:
            dataset.InstanceNumber = int(rng.integers(0, 5))

    files = write_series(folder, order, edit=edit)
    if "copy" in faults:
        shutil.copy(files[0], folder / "copy.dcm")
    if "double" in faults:
        write_series(folder, order[:1], first=30, world=other_world, edit=edit)
    if "phase" in faults:
        write_series(folder, order, first=40, world=other_world, edit=edit)
    return stack


@settings(max_examples=60, deadline=None)
@given(faulty_series())
def test_a_spoilt_series_is_refused_or_right(case: tuple[list[Plane], list[str], int, Repair]) -> None:
    stack, faults, seed, repair = case
    with tempfile.TemporaryDirectory() as folder:
        there = spoil(Path(folder), list(stack), faults, np.random.default_rng(seed))
        for found in find_series(Path(folder), repair=repair):
            try:
                volume = read_series(found)
            except DelineateError:
                continue
            second = "phase" in faults and found.name.startswith("2 of 2")
            heights = sorted(float(plane.position_mm @ there[0].axes[:, 2]) for plane in there)
            # The tolerance for positions (0.1 mm), rounding to 0.1 mm, and linear interpolation over the widest gap.
            tolerance = 0.501 + 2 + 2 * ("rounded" in faults) + max(np.diff(heights)) ** 2 / 8
            exact = found.action is Action.READ and not {"rounded", "jitter", "shift", "gap"} & set(faults)
            world = other_world if second else intensity
            assert_true(volume, there, tolerance=0.501 if exact else tolerance, fraction=exact * 0.99, world=world)


# Witnesses


def seen_by_simpleitk(folder: Path) -> tuple[FloatArray, FloatArray]:
    """(I, J, K) and affine."""
    itk = pytest.importorskip("SimpleITK")
    image = itk.ReadImage(itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return itk.GetArrayFromImage(image).transpose(2, 1, 0), affine


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_simpleitk_agrees_on_plain_series(tmp_path: Path, axes: FloatArray) -> None:
    write_series(tmp_path, planes(axes=axes)[::-1])
    array, affine = seen_by_simpleitk(tmp_path)
    volume = read(sorted(tmp_path.iterdir()))
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-4)
    assert np.array_equal(volume.array[0], array)


def dcm2niix(folder: Path, out: Path) -> list[Path]:
    program = pytest.importorskip("dcm2niix").bin
    out.mkdir()
    command = [program, "-o", str(out), "-f", "%s", "-z", "n", "-b", "n", str(folder)]
    subprocess.run(command, capture_output=True, check=True)
    return sorted(out.glob("*.nii"))


def sampled(path: Path, points_mm: FloatArray) -> tuple[FloatArray, Array]:
    """Values of a NIfTI file at LPS points by linear interpolation, and whether each lies inside."""
    import nibabel
    from scipy.ndimage import map_coordinates

    image: Any = nibabel.load(path)
    inverse = np.linalg.inv(image.affine)
    index = (points_mm * (-1, -1, 1)) @ inverse[:3, :3].T + inverse[:3, 3]
    within = ((index >= 0) & (index <= np.array(image.shape) - 1)).all(axis=-1)
    values = map_coordinates(np.asarray(image.dataobj, dtype=float), np.moveaxis(index, -1, 0), order=1)
    return np.asarray(values), np.asarray(within)


@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE, CORONAL], ids=["axial", "oblique", "coronal"])
def test_dcm2niix_agrees_on_plain_series(tmp_path: Path, axes: FloatArray) -> None:
    stack = planes(axes=axes)
    files = write_series(tmp_path / "dicom", stack, modality="MR")
    (nifti,) = dcm2niix(tmp_path / "dicom", tmp_path / "out")
    volume = read(files)
    values, within = sampled(nifti, voxel_points(volume))
    assert within.mean() > 0.6
    np.testing.assert_allclose(values[within], volume.array[0][within], atol=0.1)


@pytest.mark.parametrize("degrees", [-20, 20])
def test_dcm2niix_agrees_on_tilt(tmp_path: Path, degrees: float) -> None:
    """In files of rising height, that is: of falling height its volume lies off by the whole drift of the stack."""
    stack = planes(20, tilt=(0, degrees), size=(40, 32))

    def signed(dataset: Dataset, n: int) -> None:
        store(dataset, np.round(intensity(stack[n].points_mm)), dtype="<i2")  # it straightens signed numbers only

    volume = read(write_series(tmp_path / "dicom", stack, edit=signed))
    straight = next(path for path in dcm2niix(tmp_path / "dicom", tmp_path / "out") if "_Tilt" in path.name)
    points = voxel_points(volume)
    values, within = sampled(straight, points)
    within &= inside(points, stack)
    assert within.mean() > 0.3
    assert np.abs(values - volume.array[0])[within].max() < 3


@needs_data
@pytest.mark.parametrize(
    ("folder", "action"), [("tilt_ge", Action.INTERPOLATE), ("series/failing/gantrytilting/001", Action.STRAIGHTEN)]
)
def test_real_tilt_lies_where_the_headers_say(folder: str, action: Action) -> None:
    (found,) = [stack for stack in find_series(DATA / folder, repair=Repair.INTERPOLATE) if stack.is_scan]
    assert found.action is action
    volume = read_series(found)
    for slice_ in (found.slices[0], found.slices[-1]):
        header = pydicom.dcmread(slice_.path)
        values = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
        landmark = np.array([header.Rows // 2, header.Columns // 3])
        row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = (float(mm) for mm in header.PixelSpacing)
        offset = row * between_columns * landmark[1] + column * between_rows * landmark[0]
        point = np.array(header.ImagePositionPatient, dtype=float) + offset
        i, j, k = world_to_index(volume.grid, point)
        assert k == pytest.approx(round(k), abs=0.01)
        below, above = int(np.floor(j + 1e-3)), int(np.ceil(j - 1e-3))
        near = values[landmark[0] - 1 : landmark[0] + 2, landmark[1]]
        for index in (below, above):
            assert near.min() - 1 <= volume.array[0, round(i), index, round(k)] <= near.max() + 1


@needs_data
def test_dcm2niix_agrees_on_real_tilt(tmp_path: Path) -> None:
    folder = DATA / "series/failing/gantrytilting/001"
    (found,) = [stack for stack in find_series(folder) if stack.is_scan]
    straight = next(path for path in dcm2niix(folder, tmp_path / "out") if "_Tilt" in path.name)
    volume = read_series(found)
    values, within = sampled(straight, voxel_points(volume)[::3, ::3])
    ours = volume.array[0][::3, ::3]
    within &= ours > -1000
    assert within.mean() > 0.5
    assert np.quantile(np.abs(values - ours)[within], 0.999) < 1.5
