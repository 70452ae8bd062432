"""The reading policy on hard series: read exactly, separated, dropped with a note, straightened, or refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hard_series import (
    AXES,
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    Plane,
    assert_true,
    inside,
    intensity,
    item,
    other_world,
    planes,
    read,
    scans,
    setting,
    voxel_points,
    write_enhanced,
    write_series,
)
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from delineate.errors import InconsistentSeries
from delineate.formats.dicom.series import find_series, one_volume, read_series
from delineate.formats.dicom.stacks import Action, Repair
from delineate.geometry import FloatArray

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom is not there")

PLANES = planes(axes=OBLIQUE)


def third_world(points_mm: FloatArray) -> FloatArray:
    return np.asarray(intensity(points_mm) * 0.25 - 60)


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
    (stack,) = find_series(tmp_path)
    assert stack.notes == ("dropped again.dcm: a copy of 0002.dcm",)
    assert_true(read_series(stack), PLANES)


def test_one_uid_with_other_pixels_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[:1], first=8, world=other_world, edit=setting("SOPInstanceUID", "1.2.3.1.1"))
    (stack,) = find_series(tmp_path)
    assert stack.action is Action.REFUSE
    assert "several different images: expected each instance once, got 1.2.3.1.1 in 0000.dcm, 0008.dcm" in str(
        stack.error
    )


def test_another_uid_with_the_same_image_is_dropped(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[4:5], first=8)
    (stack,) = find_series(tmp_path)
    assert "dropped 0008.dcm: the same image at the same place as 0004.dcm" in stack.notes
    assert_true(read_series(stack), PLANES)


def test_another_image_at_the_same_place_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[4:5], first=8, world=other_world)
    (stack,) = find_series(tmp_path)
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
    found = scans(find_series(tmp_path))
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
    found = scans(find_series(tmp_path))
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
    found = scans(find_series(tmp_path))
    assert list(found) == [f"{n} of 3 by instance number" for n in (1, 2, 3)]
    for volume, world in zip(found.values(), worlds, strict=True):
        assert_true(volume, PLANES, world=world)


def test_repeats_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    for n, world in enumerate((intensity, other_world)):
        write_series(tmp_path, PLANES, first=8 * n, world=world, edit=setting("InstanceNumber", 1))
    (stack,) = find_series(tmp_path)
    assert "slices at the same position: expected each once, got 8 repeated" in str(stack.error)


def test_phases_at_interleaved_positions_are_separated(tmp_path: Path) -> None:
    late = [plane.moved(along_normal=0.8) for plane in PLANES]
    write_series(tmp_path, PLANES, edit=setting("AcquisitionNumber", 1))
    write_series(tmp_path, late, first=8, world=other_world, edit=setting("AcquisitionNumber", 2))
    found = scans(find_series(tmp_path))
    assert_true(found["acquisition 1"], PLANES)
    assert_true(found["acquisition 2"], late, world=other_world)


def test_slices_of_two_acquisitions_that_alternate_evenly_are_one_volume_and_it_is_said(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES, edit=setting("AcquisitionNumber", 1, 2))
    (stack,) = find_series(tmp_path)
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
    found = scans(find_series(tmp_path))
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
    stacks = find_series(tmp_path)
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
    found = scans(find_series(tmp_path))
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
    found = scans(find_series(tmp_path))
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
