"""The reading policy on hard series: read exactly, separated, dropped with a note, straightened, or refused by name."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hard_series import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    Plane,
    assert_true,
    inside,
    intensity,
    item,
    planes,
    read,
    scans,
    store,
    turned,
    voxel_points,
    write_enhanced,
    write_series,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from delineate.errors import DelineateError, InconsistentSeries, UnreadableImage
from delineate.formats.dicom_series import find_series, one_volume, read_series
from delineate.formats.dicom_stacks import Action, Repair, Stack
from delineate.geometry import FloatArray, world_to_index
from delineate.volume import Array

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom is not there")

PLANES = planes(axes=OBLIQUE)
AXES = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE, "feet first": turned(180, 0, 0)}


def other_world(points_mm: FloatArray) -> FloatArray:
    """A second measurement of the same places."""
    return np.asarray(intensity(points_mm) * -0.5 + 40)


def third_world(points_mm: FloatArray) -> FloatArray:
    return np.asarray(intensity(points_mm) * 0.25 - 60)


def setting(keyword: str, *values: object) -> Callable[[Dataset, int], None]:
    """Sets an element: to one value, or to one for each slice."""
    return lambda dataset, n: setattr(dataset, keyword, values[n % len(values)])


def reading(folder: Path, repair: Repair = Repair.STRAIGHTEN) -> tuple[Stack, ...]:
    return find_series(folder, repair=repair)


# Read exactly


@pytest.mark.parametrize("order", [list(range(8)), list(range(7, -1, -1)), [3, 0, 7, 1, 6, 2, 5, 4]])
@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_planes_are_read_at_their_places_in_any_order(tmp_path: Path, axes: FloatArray, order: list[int]) -> None:
    stack = planes(axes=axes)
    files = write_series(tmp_path, [stack[n] for n in order])
    assert one_volume(files).action is Action.READ
    assert_true(read(files), stack)


def test_landmarks_lie_where_they_were_put(tmp_path: Path) -> None:
    stack = planes(12, axes=OBLIQUE, size=(24, 30), spacing_mm=(1.1, 0.7), step_mm=1.5)
    landmark = stack[5].points_mm[11, 14] + (0.31, -0.42, 0.53)

    def blob(points_mm: FloatArray) -> FloatArray:
        return np.asarray(4000 * np.exp(-(((points_mm - landmark) / 3.0) ** 2).sum(axis=-1) / 2))

    volume = read(write_series(tmp_path, stack, world=blob))
    weights = volume.array[0].astype(float)
    found = (voxel_points(volume) * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()
    assert np.linalg.norm(found - landmark) < 0.1


# Straightened


@pytest.mark.parametrize("degrees", [-30, -18.5, -5, -0.5, 0.5, 5, 18.5, 30])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE, CORONAL], ids=["axial", "oblique", "coronal"])
def test_a_tilted_gantry_is_straightened(tmp_path: Path, degrees: float, descending: bool, axes: FloatArray) -> None:
    stack = planes(axes=axes, tilt=(0, degrees))
    files = write_series(tmp_path, stack[::-1] if descending else stack)
    found = one_volume(files)
    assert found.action is Action.STRAIGHTEN
    assert any(f"{abs(degrees):.2f} degrees" in note for note in found.notes)
    volume = read(files)
    np.testing.assert_allclose(volume.grid.direction.T @ volume.grid.direction, np.eye(3), atol=1e-6)
    assert_true(volume, stack, tolerance=1.2, fraction=0.85)


def test_a_tilt_along_rows_and_columns_is_straightened(tmp_path: Path) -> None:
    stack = planes(axes=OBLIQUE, tilt=(-12, 21))
    assert_true(read(write_series(tmp_path, stack)), stack, tolerance=1.2, fraction=0.85)


def test_planes_of_a_straightened_series_hold_only_their_own_slice(tmp_path: Path) -> None:
    shift = 2 * 1.1  # two pixels a slice
    stack = [plane.moved(down_column=n * shift) for n, plane in enumerate(planes(axes=OBLIQUE))]
    volume = read(write_series(tmp_path, stack))
    assert volume.grid.shape == (17, 13 + 14, 8)
    assert_true(volume, stack)
    assert (volume.array[0][~inside(voxel_points(volume), stack)] == -1024).all()


def test_landmarks_of_a_tilted_series_lie_where_they_were_put(tmp_path: Path) -> None:
    stack = planes(14, axes=OBLIQUE, size=(30, 30), step_mm=1.5, tilt=(0, 15))
    landmark = stack[7].points_mm[15, 14] + (0.31, -0.42, 0.53)

    def blob(points_mm: FloatArray) -> FloatArray:
        return np.asarray(4000 * np.exp(-(((points_mm - landmark) / 2.5) ** 2).sum(axis=-1) / 2))

    volume = read(write_series(tmp_path, stack, world=blob))
    weights = np.clip(volume.array[0].astype(float), 0, None)
    found = (voxel_points(volume) * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()
    assert np.linalg.norm(found - landmark) < 0.1


def test_the_surroundings_of_unsigned_ct_are_its_least_number(tmp_path: Path) -> None:
    def unscaled(dataset: Dataset, _: int) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept

    stack = one_volume(write_series(tmp_path, planes(tilt=(0, 20)), edit=unscaled))
    assert "no rescale slope and intercept: the stored numbers are taken for HU" in stack.notes
    volume = read_series(stack)
    assert volume.array.dtype == np.uint16
    assert volume.array[0][~inside(voxel_points(volume), planes(tilt=(0, 20)), margin=1)].max() == 0


def test_too_steep_a_tilt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InconsistentSeries, match=r"gantry tilt: .*too far apart to be repaired"):
        read(write_series(tmp_path, planes(tilt=(0, 84))))


# Missing, uneven


@pytest.mark.parametrize(("missing", "count"), [((3,), 1), ((1, 5), 2), ((3, 4, 5), 3)])
def test_missing_slices_are_refused_and_interpolated_on_demand(
    tmp_path: Path, missing: tuple[int, ...], count: int
) -> None:
    kept = [plane for n, plane in enumerate(PLANES) if n not in missing]
    files = write_series(tmp_path, kept)
    with pytest.raises(InconsistentSeries, match=rf"{count} slice\(s\) missing: expected a slice every 2\.500 mm"):
        read(files)
    volume = read(files, repair=Repair.INTERPOLATE)
    assert volume.grid.shape == (17, 13, 8)
    assert_true(volume, kept, tolerance=12, fraction=0.99)
    for n, plane in enumerate(PLANES):
        if n not in missing:
            assert np.abs(volume.array[0, :, :, n].T - intensity(plane.points_mm)).max() <= 0.501


def test_a_slice_missing_in_a_tilted_series(tmp_path: Path) -> None:
    stack = planes(9, axes=OBLIQUE, tilt=(0, -17))
    kept = [plane for n, plane in enumerate(stack) if n != 4]
    files = write_series(tmp_path, kept)
    with pytest.raises(InconsistentSeries, match=r"1 slice\(s\) missing.*tilted by 17\.00 degrees as well"):
        read(files)
    assert_true(read(files, repair=Repair.INTERPOLATE), kept, tolerance=4, fraction=0.8)


@pytest.mark.parametrize("along", ["along_normal", "along_row", "down_column"])
def test_jitter_is_refused_and_evened_on_demand(tmp_path: Path, along: str) -> None:
    offsets = np.random.default_rng(5).uniform(-0.6, 0.6, 8)
    stack = [plane.moved(**{along: float(mm)}) for plane, mm in zip(PLANES, offsets, strict=True)]
    files = write_series(tmp_path, stack)
    with pytest.raises(InconsistentSeries, match="unevenly spaced slices"):
        read(files)
    assert_true(read(files, repair=Repair.INTERPOLATE), stack, tolerance=2.5, fraction=0.7)


def test_thick_and_thin_slices_end_to_end(tmp_path: Path) -> None:
    heights = [0, 5, 10, 15, *np.arange(17, 28, 2), 27.5]
    stack = [PLANES[0].moved(along_normal=float(mm)) for mm in heights]
    files = write_series(tmp_path, stack)
    with pytest.raises(InconsistentSeries, match="unevenly spaced slices"):
        read(files)
    volume = read(files, repair=Repair.INTERPOLATE)
    points = voxel_points(volume) @ OBLIQUE[:, 2]
    assert np.allclose([points.min(), points.max()], [stack[n].position_mm @ OBLIQUE[:, 2] for n in (0, -1)])
    assert_true(volume, stack, tolerance=3, fraction=0.9)


def test_a_slice_far_from_the_others_makes_no_giant_volume(tmp_path: Path) -> None:
    files = write_series(tmp_path, [*PLANES, PLANES[0].moved(along_normal=50_000)])
    with pytest.raises(InconsistentSeries, match="too far apart to be repaired"):
        read(files, repair=Repair.INTERPOLATE)


def test_positions_rounded_to_a_tenth_are_no_fault_where_tilted(tmp_path: Path) -> None:
    stack = planes(9, tilt=(0, 20), step_mm=1.25)
    files = write_series(
        tmp_path,
        stack,
        edit=lambda d, _: setattr(d, "ImagePositionPatient", [f"{float(x):.1f}" for x in d.ImagePositionPatient]),
    )
    assert one_volume(files).action is Action.STRAIGHTEN
    assert_true(read(files), stack, tolerance=1.5, fraction=0.9)


# Copies and repeats


def test_an_identical_file_is_dropped(tmp_path: Path) -> None:
    files = write_series(tmp_path, PLANES)
    shutil.copy(files[2], tmp_path / "again.dcm")
    (stack,) = reading(tmp_path)
    assert stack.notes == ("dropped again.dcm: a copy of 0002.dcm",)
    assert_true(read_series(stack), PLANES)


def test_one_uid_with_other_pixels_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[:1], first=8, world=other_world, edit=setting("SOPInstanceUID", "1.2.3.1.1"))
    (stack,) = reading(tmp_path)
    assert stack.action is Action.REFUSE
    assert "several different images: expected each instance once, got 1.2.3.1.1 in 0000.dcm, 0008.dcm" in str(
        stack.error
    )


def test_another_uid_with_the_same_image_is_dropped(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[4:5], first=8)
    (stack,) = reading(tmp_path)
    assert "dropped 0008.dcm: the same image at the same place as 0004.dcm" in stack.notes
    assert_true(read_series(stack), PLANES)


def test_another_image_at_the_same_place_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[4:5], first=8, world=other_world)
    (stack,) = reading(tmp_path)
    assert "slices at the same position: expected each once" in str(stack.error)
    assert "0004.dcm, 0008.dcm" in str(stack.error)


# Separated


@pytest.mark.parametrize(
    ("keyword", "values", "names"),
    [
        ("AcquisitionNumber", (4, 7), ("acquisition 4", "acquisition 7")),
        ("TemporalPositionIdentifier", (1, 2), ("time point 1", "time point 2")),
        ("EchoNumbers", (1, 2), ("echo 1", "echo 2")),
        ("EchoTime", ("4.6", "12.3"), ("echo time 4.6", "echo time 12.3")),
        ("DiffusionBValue", (0.0, 800.0), ("b 0", "b 800")),
        ("ComplexImageComponent", ("MAGNITUDE", "PHASE"), ("component magnitude", "component phase")),
        ("TriggerTime", ("120", "480"), ("trigger time 120", "trigger time 480")),
        ("AcquisitionTime", ("120000", "120101"), ("acquisition time 120000", "acquisition time 120101")),
        (
            "ImageType",
            (["ORIGINAL", "PRIMARY", "WATER"], ["ORIGINAL", "PRIMARY", "FAT"]),
            (r"image type ORIGINAL\PRIMARY\WATER", r"image type ORIGINAL\PRIMARY\FAT"),
        ),
    ],
)
def test_volumes_of_one_series_are_separated(
    tmp_path: Path, keyword: str, values: tuple[object, object], names: tuple[str, str]
) -> None:
    stack = planes(axes=OBLIQUE, tilt=(0, 8))
    for n, world in enumerate((intensity, other_world)):
        edit = setting(keyword, values[n])
        write_series(tmp_path, stack, first=8 * n, modality="MR", world=world, edit=edit)
    found = scans(reading(tmp_path))
    assert tuple(found) == names
    assert_true(found[names[0]], stack, tolerance=1.2, fraction=0.85)
    assert_true(found[names[1]], stack, tolerance=1.2, fraction=0.85, world=other_world)


@pytest.mark.parametrize(
    ("creator", "tag", "vr", "values"),
    [
        ("SIEMENS MR HEADER", (0x0019, 0x100C), "IS", (0, 1000)),
        ("GEMS_PARM_01", (0x0043, 0x1039), "IS", ([1000000000, 8, 0, 0], [1000001000, 8, 0, 0])),
        ("Philips Imaging DD 001", (0x2001, 0x1003), "FL", (0.0, 1000.0)),
    ],
)
def test_private_b_values_separate(
    tmp_path: Path, creator: str, tag: tuple[int, int], vr: str, values: tuple[object, object]
) -> None:
    for n, world in enumerate((intensity, other_world)):

        def weigh(dataset: Dataset, _: int, n: int = n) -> None:
            dataset.add_new((tag[0], 0x0010), "LO", creator)
            dataset.add_new(tag, vr, values[n])

        write_series(tmp_path, PLANES, first=8 * n, modality="MR", world=world, edit=weigh)
    found = scans(reading(tmp_path))
    assert list(found) == ["b 0", "b 1000"]
    assert_true(found["b 1000"], PLANES, world=other_world)


def test_the_same_tag_of_another_vendor_is_no_b_value(tmp_path: Path) -> None:
    def count(dataset: Dataset, n: int) -> None:
        dataset.add_new((0x0019, 0x0010), "LO", "SOMEONE ELSE")
        dataset.add_new((0x0019, 0x100C), "IS", n)

    assert_true(read(write_series(tmp_path, PLANES, edit=count)), PLANES)


@pytest.mark.parametrize("by_slice", [False, True])
def test_phases_told_apart_by_instance_numbers_alone(tmp_path: Path, by_slice: bool) -> None:
    worlds = (intensity, other_world, third_world)
    for n, world in enumerate(worlds):

        def number(dataset: Dataset, k: int, n: int = n) -> None:
            dataset.InstanceNumber = 3 * k + n + 1 if by_slice else 8 * n + k + 1

        write_series(tmp_path, PLANES, first=8 * n, world=world, edit=number)
    found = scans(reading(tmp_path))
    assert list(found) == [f"{n} of 3 by instance number" for n in (1, 2, 3)]
    for volume, world in zip(found.values(), worlds, strict=True):
        assert_true(volume, PLANES, world=world)


def test_repeats_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    for n, world in enumerate((intensity, other_world)):
        write_series(tmp_path, PLANES, first=8 * n, world=world, edit=setting("InstanceNumber", 1))
    (stack,) = reading(tmp_path)
    assert "slices at the same position: expected each once, got 8 repeated" in str(stack.error)


def test_phases_at_interleaved_positions_are_separated(tmp_path: Path) -> None:
    late = [plane.moved(along_normal=0.8) for plane in PLANES]
    write_series(tmp_path, PLANES, edit=setting("AcquisitionNumber", 1))
    write_series(tmp_path, late, first=8, world=other_world, edit=setting("AcquisitionNumber", 2))
    found = scans(reading(tmp_path))
    assert_true(found["acquisition 1"], PLANES)
    assert_true(found["acquisition 2"], late, world=other_world)


def test_slices_of_two_acquisitions_that_alternate_evenly_are_one_volume_and_it_is_said(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES, edit=setting("AcquisitionNumber", 1, 2))
    (stack,) = reading(tmp_path)
    assert stack.notes == ("read as one volume: its slices alternate between acquisition 1 and acquisition 2",)
    assert_true(read_series(stack), PLANES)


def test_orientations_sizes_and_spacings_are_volumes_of_their_own(tmp_path: Path) -> None:
    parts = {
        "axial": planes(4),
        "sagittal": planes(5, axes=SAGITTAL),
        "coronal": planes(6, axes=CORONAL),
        "11 x 17": planes(7, size=(11, 17)),
        "pixels of 0.8 x 1.1 mm": planes(5, spacing_mm=(0.8, 1.1)),
    }
    for n, stack in enumerate(parts.values()):
        write_series(tmp_path, stack, first=10 * n)
    found = scans(reading(tmp_path))
    assert len(found) == len(parts)
    for volume in found.values():
        (stack,) = [p for p in parts.values() if len(p) == volume.grid.shape[2] and _fits(volume.grid.affine, p)]
        assert_true(volume, stack)
    assert sum("sagittal" in name for name in found) == sum("coronal" in name for name in found) == 1
    with pytest.raises(InconsistentSeries, match="several volumes: expected one"):
        read(sorted(tmp_path.iterdir()))


def _fits(affine: FloatArray, stack: Sequence[Plane]) -> bool:
    plane = stack[0]
    return bool(np.allclose(affine[:3, :2], plane.axes[:, :2] * plane.spacing_mm[::-1], atol=1e-5))


# Skipped


def test_what_is_no_slice_of_the_scan_is_set_aside(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    extra = PLANES[0].moved(along_normal=40)
    edits = {
        "a localizer": setting("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "a secondary capture": setting("SOPClassUID", SecondaryCaptureImageStorage),
        "a Siemens mosaic": setting("ImageType", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
        "not a greyscale image": setting("PhotometricInterpretation", "RGB"),
    }
    for n, edit in enumerate(edits.values()):
        write_series(tmp_path, [extra], first=20 + n, edit=edit)
    stacks = reading(tmp_path)
    assert [stack.action for stack in stacks] == [Action.READ] + [Action.SKIP] * 4
    for stack, reason in zip(stacks[1:], edits, strict=True):
        assert reason in str(stack.error)
    assert_true(read_series(stacks[0]), PLANES)
    assert_true(read(sorted(tmp_path.iterdir())), PLANES)


# Enhanced multi-frame


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("tilt", [0.0, -14.0])
def test_frames_in_any_order(tmp_path: Path, modality: str, tilt: float) -> None:
    stack = planes(axes=OBLIQUE, tilt=(0, tilt))
    path = write_enhanced(tmp_path / "a.dcm", [stack[n] for n in (3, 0, 7, 1, 6, 2, 5, 4)], modality=modality)
    assert_true(read([path]), stack, tolerance=1.2, fraction=0.85)


def test_two_stacks_of_frames_are_two_volumes(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", [*planes(4), *planes(5, axes=SAGITTAL)], modality="MR")
    found = scans(reading(tmp_path))
    assert sorted(found) == ["axial", "sagittal"]
    assert_true(found["axial"], planes(4))
    assert_true(found["sagittal"], planes(5, axes=SAGITTAL))


FRAME_MACROS: list[tuple[Callable[[Dataset, int], None], tuple[str, str]]] = [
    (
        lambda frame, n: setattr(frame, "MREchoSequence", [item(EffectiveEchoTime=4.5 if n < 8 else 9.0)]),
        ("effective echo time 4.5", "effective echo time 9"),
    ),
    (
        lambda frame, n: setattr(frame, "FrameContentSequence", [item(TemporalPositionIndex=1 + n // 8)]),
        ("time point 1", "time point 2"),
    ),
    (
        lambda frame, n: setattr(frame, "MRDiffusionSequence", [item(DiffusionBValue=50.0 * (n // 8))]),
        ("b 0", "b 50"),
    ),
]


@pytest.mark.parametrize(("edit", "names"), FRAME_MACROS, ids=["echo", "time", "diffusion"])
def test_frames_of_two_measurements(
    tmp_path: Path, edit: Callable[[Dataset, int], None], names: tuple[str, str]
) -> None:
    worlds = [intensity] * 8 + [other_world] * 8
    write_enhanced(tmp_path / "a.dcm", [*PLANES, *PLANES], modality="MR", edit_frame=edit, worlds=worlds)
    found = scans(reading(tmp_path))
    assert tuple(found) == names
    assert_true(found[names[1]], PLANES, world=other_world)


def test_frames_are_rescaled_one_by_one(tmp_path: Path) -> None:
    def rescale(frame: Dataset, n: int) -> None:
        frame.PixelValueTransformationSequence = [item(RescaleSlope=n + 1, RescaleIntercept=-1024 * (n + 1))]

    worlds = [lambda p, n=n: np.round(intensity(p)) / (n + 1) for n in range(8)]
    volume = read([write_enhanced(tmp_path / "a.dcm", PLANES, edit_frame=rescale, worlds=worlds)])
    assert_true(volume, PLANES, tolerance=5)


def test_frames_without_descriptions_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", PLANES)
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:5]
    dataset.save_as(path)
    with pytest.raises(InconsistentSeries, match="frames and their descriptions differ: expected 8, got 5"):
        read([path])


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
    (stack,) = reading(tmp_path)
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
    (found,) = [stack for stack in reading(DATA / folder, Repair.INTERPOLATE) if stack.is_scan]
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
    (found,) = [stack for stack in reading(folder) if stack.is_scan]
    straight = next(path for path in dcm2niix(folder, tmp_path / "out") if "_Tilt" in path.name)
    volume = read_series(found)
    values, within = sampled(straight, voxel_points(volume)[::3, ::3])
    ours = volume.array[0][::3, ::3]
    within &= ours > -1000
    assert within.mean() > 0.5
    assert np.quantile(np.abs(values - ours)[within], 0.999) < 1.5
