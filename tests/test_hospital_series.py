"""Series as hospitals have them: what vendors put into one series, and where they say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hard_series import (
    OBLIQUE,
    Edit,
    Plane,
    World,
    assert_true,
    intensity,
    item,
    other_world,
    planes,
    scans,
    setting,
    store,
    turned,
    write_enhanced,
    write_series,
)
from pydicom import Dataset

from delineate.formats.dicom.series import find_series, read_series
from delineate.formats.dicom.stacks import Action, Stack
from delineate.geometry import FloatArray
from delineate.volume import Kind

PLANES = planes(axes=OBLIQUE)


def third_world(points_mm: FloatArray) -> FloatArray:
    return np.asarray(intensity(points_mm) * 0.25 - 60)


def fourth_world(points_mm: FloatArray) -> FloatArray:
    return np.asarray(intensity(points_mm) * 0.1 + 300)


WORLDS: tuple[World, ...] = (intensity, other_world, third_world, fourth_world)


def private(dataset: Dataset, creator: str, tag: tuple[int, int], vr: str, value: Any, *, block: int = 0x10) -> None:
    dataset.add_new((tag[0], block), "LO", creator)
    dataset.add_new((tag[0], (block << 8) + tag[1]), vr, value)


def together(*edits: Edit) -> Edit:
    return lambda dataset, n: [edit(dataset, n) for edit in edits][-1]


def unnumbered(dataset: Dataset, _: int) -> None:
    del dataset.InstanceNumber


def write_measurements(folder: Path, edits: list[Edit], *, modality: str = "MR") -> None:
    """One series of as many measurements of the same planes as there are edits, and as many worlds."""
    for n, (edit, world) in enumerate(zip(edits, WORLDS, strict=False)):
        write_series(folder, PLANES, modality=modality, world=world, first=8 * n, edit=edit)


def assert_separated(folder: Path, names: list[str]) -> None:
    found = scans(find_series(folder))
    assert list(found) == names
    for volume, world in zip(found.values(), WORLDS, strict=False):
        assert_true(volume, PLANES, world=world)


def only(folder: Path) -> Stack:
    (stack,) = find_series(folder)
    return stack


# Several measurements in one series


@pytest.mark.parametrize(
    ("keyword", "values", "names"),
    [
        ("KVP", (80, 140), ["kVp 80", "kVp 140"]),
        ("ConvolutionKernel", ("B30f", "B70f"), ["kernel B30f", "kernel B70f"]),
        ("InversionTime", (500, 2500), ["inversion time 500", "inversion time 2500"]),
        ("SeriesDescription", ("0%", "50%"), ["description 0%", "description 50%"]),
        ("ImageComments", ("40 keV", "70 keV"), ["comment 40 keV", "comment 70 keV"]),
    ],
)
def test_measurements_are_told_apart_without_instance_numbers(
    tmp_path: Path, keyword: str, values: tuple[object, object], names: list[str]
) -> None:
    write_measurements(tmp_path, [together(setting(keyword, value), unnumbered) for value in values])
    assert_separated(tmp_path, names)


def test_thick_and_thin_slices_of_one_series(tmp_path: Path) -> None:
    thin = planes(15, axes=OBLIQUE, step_mm=1.25)
    write_series(tmp_path, PLANES, edit=together(setting("SliceThickness", 5), unnumbered))
    edit = together(setting("SliceThickness", 1.25), unnumbered)
    write_series(tmp_path, thin, first=8, world=other_world, edit=edit)
    found = scans(find_series(tmp_path))
    assert_true(found["thickness 5"], PLANES)
    assert_true(found["thickness 1.25"], thin, world=other_world)


def test_what_people_typed_stays_out_of_names(tmp_path: Path) -> None:
    comments = ("Miller, Jane: arterial", "Miller, Jane: venous")
    write_measurements(tmp_path, [setting("ImageComments", comment) for comment in comments])
    assert_separated(tmp_path, ["comment 1", "comment 2"])


def test_components_of_ge(tmp_path: Path) -> None:
    def component(value: int) -> Edit:
        return lambda dataset, _: private(dataset, "GEMS_PARM_01", (0x0043, 0x2F), "SS", value)

    write_measurements(tmp_path, [together(component(value), unnumbered) for value in range(4)])
    assert_separated(tmp_path, [f"component {name}" for name in ("magnitude", "phase", "real", "imaginary")])


def test_a_private_block_behind_another_vendors(tmp_path: Path) -> None:
    def weigh(value: int) -> Edit:
        def edit(dataset: Dataset, _: int) -> None:
            private(dataset, "GEMS_ACQU_01", (0x0019, 0x0C), "IS", 77)
            private(dataset, "SIEMENS MR HEADER", (0x0019, 0x0C), "IS", value, block=0x11)

        return edit

    write_measurements(tmp_path, [together(weigh(value), unnumbered) for value in (0, 1000)])
    assert_separated(tmp_path, ["b 0", "b 1000"])


def test_a_map_without_the_others_contrast_has_a_name(tmp_path: Path) -> None:
    write_measurements(tmp_path, [setting("DiffusionBValue", 0.0), setting("DiffusionBValue", 800.0), unnumbered])
    assert_separated(tmp_path, ["b 0", "b 800", "no b"])


def test_time_points_that_count_slices_make_one_volume(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES, modality="MR", edit=setting("TemporalPositionIdentifier", *range(1, 9)))
    assert only(tmp_path).notes == ("every slice has a time point of its own: they are taken for a count",)
    assert_true(read_series(only(tmp_path)), PLANES)


def test_alternating_image_types_are_two_measurements(tmp_path: Path) -> None:
    def kind(word: str) -> Edit:
        return setting("ImageType", ["ORIGINAL", "PRIMARY", word])

    write_series(tmp_path, PLANES[::2], edit=kind("IN"))
    write_series(tmp_path, PLANES[1::2], first=4, world=other_world, edit=kind("OUT"))
    found = scans(find_series(tmp_path))
    assert list(found) == [rf"image type ORIGINAL\PRIMARY\{word}" for word in ("IN", "OUT")]
    assert_true(found[r"image type ORIGINAL\PRIMARY\OUT"], PLANES[1::2], world=other_world)


def test_slices_of_one_volume_that_were_measured_differently_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES, edit=lambda dataset, n: setattr(dataset, "KVP", 100 if n < 3 else 120))
    assert only(tmp_path).notes == ("the kVp differs between the slices: 100, 120",)


def test_series_that_share_a_uid_and_lie_end_to_end_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES, edit=lambda dataset, n: setattr(dataset, "SeriesDescription", "AB"[n // 5]))
    assert only(tmp_path).notes == ("the series description differs between the slices",)


def test_a_result_beside_its_volume_is_skipped(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[3:4], first=8, world=other_world, edit=setting("ImageType", ["DERIVED", "X", "MIP"]))
    volume, result = find_series(tmp_path)
    assert_true(read_series(volume), PLANES)
    assert (result.action, len(result.files)) == (Action.SKIP, 1)


def test_empty_slices_that_volumes_share_are_kept(tmp_path: Path) -> None:
    def beyond(world: World) -> World:
        return lambda points: world(points) * (points @ OBLIQUE[:, 2] > PLANES[0].position_mm @ OBLIQUE[:, 2] + 1)[...]

    for n, world in enumerate((intensity, other_world)):
        write_series(tmp_path, PLANES, first=8 * n, world=beyond(world))
    found = scans(find_series(tmp_path))
    assert_true(found["2 of 2 by instance number"], PLANES, world=beyond(other_world))


# Order by instance numbers


ORDERS: dict[str, Callable[[int, int], int]] = {
    "packages": lambda volume, k: (8 * (k % 2)) + 4 * volume + k // 2,
    "to and fro": lambda volume, k: 8 * volume + (7 - k if volume else k),
}


@pytest.mark.parametrize("number", ORDERS.values(), ids=ORDERS)
def test_orders_of_instance_numbers_that_tell_volumes_apart(tmp_path: Path, number: Callable[[int, int], int]) -> None:
    def edit(volume: int) -> Edit:
        return lambda dataset, k: setattr(dataset, "InstanceNumber", number(volume, k) + 1)

    write_measurements(tmp_path, [edit(0), edit(1)])
    assert_separated(tmp_path, ["1 of 2 by instance number", "2 of 2 by instance number"])


@pytest.mark.parametrize("seed", range(5))
def test_instance_numbers_in_no_order_tell_nothing(tmp_path: Path, seed: int) -> None:
    numbers = np.random.default_rng(seed).permutation(16) + 1
    for n, world in enumerate((intensity, other_world)):
        mixed = setting("InstanceNumber", *numbers[8 * n : 8 * n + 8].tolist())
        write_series(tmp_path, PLANES, first=8 * n, world=world, edit=mixed)
    assert "slices at the same position" in str(only(tmp_path).error)


def test_a_slice_missing_from_interleaved_acquisitions_is_not_hidden(tmp_path: Path) -> None:
    stack = planes(16, axes=OBLIQUE)
    numbers = [n % 2 + 1 for n in range(16) if n != 13]
    write_series(tmp_path, [*stack[:13], *stack[14:]], edit=setting("AcquisitionNumber", *numbers))
    assert "1 slice(s) missing" in str(only(tmp_path).error)


# Enhanced objects


def test_frames_of_a_dixon_measurement(tmp_path: Path) -> None:
    types = ["IN_PHASE", "OPP_PHASE", "FAT", "WATER"]

    def kind(frame: Dataset, n: int) -> None:
        frame.MRImageFrameTypeSequence = [item(FrameType=["DERIVED", "PRIMARY", "DIXON", types[n // 8]])]

    worlds = [world for world in WORLDS for _ in PLANES]
    write_enhanced(tmp_path / "a.dcm", PLANES * 4, modality="MR", edit_frame=kind, worlds=worlds)
    assert_separated(tmp_path, [rf"image type DERIVED\PRIMARY\DIXON\{name}" for name in types])


def test_frames_of_diffusion_directions(tmp_path: Path) -> None:
    def weigh(frame: Dataset, n: int) -> None:
        macro = item(DiffusionBValue=1000.0 if n >= 8 else 0.0)
        if n >= 8:
            direction = np.eye(3)[n // 8 - 1].tolist()
            macro.DiffusionGradientDirectionSequence = [item(DiffusionGradientOrientation=direction)]
        frame.MRDiffusionSequence = [macro]

    worlds = [world for world in WORLDS[:3] for _ in PLANES]
    write_enhanced(tmp_path / "a.dcm", PLANES * 3, modality="MR", edit_frame=weigh, worlds=worlds)
    names = ["b 0", *(f"b 1000, gradient {direction}" for direction in (r"1\0\0", r"0\1\0"))]
    assert_separated(tmp_path, names)


def test_a_multi_frame_file_for_each_phase(tmp_path: Path) -> None:
    for n, world in enumerate((intensity, other_world)):
        path = write_enhanced(tmp_path / f"{n}.dcm", PLANES, worlds=[world] * 8)
        again(path, SOPInstanceUID=f"1.2.3.9.{n}", InstanceNumber=n + 1)
    assert_separated(tmp_path, ["file 1", "file 2"])


def again(path: Path, **values: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def test_a_volume_in_several_multi_frame_files(tmp_path: Path) -> None:
    for n in range(2):
        again(write_enhanced(tmp_path / f"{n}.dcm", PLANES[4 * n : 4 * n + 4]), SOPInstanceUID=f"1.2.3.9.{n}")
    assert_true(read_series(only(tmp_path)), PLANES)


def test_rescaling_outside_the_frames_macros(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", PLANES)
    dataset = pydicom.dcmread(path)
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.save_as(path)
    assert_true(read_series(only(tmp_path)), PLANES)


def test_damaged_rescaling_of_a_frame_refuses(tmp_path: Path) -> None:
    def damage(frame: Dataset, n: int) -> None:
        if n == 3:
            frame.PixelValueTransformationSequence = [item(RescaleSlope="1", RescaleIntercept="0")]

    path = write_enhanced(tmp_path / "a.dcm", PLANES, edit_frame=damage)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(\x00S\x10DS\x02\x001 ", b"(\x00S\x10DS\x02\x00x "))
    assert "unusable Rescale" in str(only(tmp_path).error)


def philips(frame: Dataset, n: int) -> None:
    """Stored numbers times (n + 1) are displayed ones, times 2 true ones."""
    slope = n + 1
    frame.PixelValueTransformationSequence = [item(RescaleSlope=slope, RescaleIntercept=0)]
    old = Dataset()
    private(old, "Philips MR Imaging DD 001", (0x2005, 0x0E), "FL", 1 / (2 * slope))
    frame.add_new((0x2005, 0x0014), "LO", "Philips MR Imaging DD 005")
    frame.add_new((0x2005, 0x140F), "SQ", [old])


def test_philips_scale_slopes_of_frames(tmp_path: Path) -> None:
    worlds: list[World] = [lambda points: intensity(points) / 2] * 8
    path = write_enhanced(tmp_path / "a.dcm", PLANES, modality="MR", edit_frame=philips, worlds=worlds)
    stack = only(tmp_path)
    assert "Philips' scale slopes applied: they differ between the slices" not in stack.notes
    assert {round((s.scale_slope or 0) * s.slope, 6) for s in stack.slices} == {0.5}
    dataset = pydicom.dcmread(path)
    for n, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame[0x2005, 0x140F].value[0][0x2005, 0x100E].value = 1 / (2 + n)
    dataset.save_as(path)
    assert "Philips' scale slopes applied: they differ between the slices" in only(tmp_path).notes


def test_philips_slopes_without_scale_slopes_are_said(tmp_path: Path) -> None:
    slopes = together(setting("RescaleSlope", "1.0", "1.5"), setting("Manufacturer", "Philips Medical Systems"))
    write_series(tmp_path, PLANES, modality="MR", edit=slopes)
    assert any("Philips' scale slopes are missing" in note for note in only(tmp_path).notes)


def test_equal_pixels_of_other_scaling_are_no_copies(tmp_path: Path) -> None:
    write_measurements(tmp_path, [unnumbered], modality="CT")
    write_series(tmp_path, PLANES, first=8, edit=together(setting("RescaleIntercept", 0), unnumbered))
    assert "slices at the same position" in str(only(tmp_path).error)


# What is no volume


def test_planes_that_turn_about_an_axis_are_skipped_together(tmp_path: Path) -> None:
    write_series(tmp_path, [Plane(np.zeros(3), turned(0, 0, a), (1.1, 0.8), 13, 17) for a in range(0, 180, 12)])
    stack = only(tmp_path)
    assert (stack.action, len(stack.files)) == (Action.SKIP, 15)
    assert "single slices are no volume" in str(stack.error)
    assert "15 slices of mixed orientations in 0000.dcm" in str(stack.error)


def test_a_series_of_two_patients_is_refused_without_their_names(tmp_path: Path) -> None:
    write_series(tmp_path, PLANES, edit=setting("PatientID", *["Miller"] * 4, *["Smith"] * 4))
    assert only(tmp_path).action is Action.REFUSE
    assert "one series of several patients: expected one, got 2 patient IDs" in str(only(tmp_path).error)


def test_a_screen_save_does_not_refuse_its_series(tmp_path: Path) -> None:
    def save(dataset: Dataset, _: int) -> None:
        dataset.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing

    write_series(tmp_path, PLANES)
    write_series(tmp_path, PLANES[:1], first=8, edit=save)
    volume, saved = find_series(tmp_path)
    assert_true(read_series(volume), PLANES)
    assert (saved.action, str(saved.error)[:13]) == (Action.SKIP, "a screen save")


def test_pixels_of_slightly_other_size_are_another_volume(tmp_path: Path) -> None:
    large = planes(size=(300, 200), spacing_mm=(0.8, 0.8))
    other = planes(16, size=(300, 200), spacing_mm=(0.8006, 0.8))[8:]
    write_series(tmp_path, [*large, *other])
    assert [len(stack.files) for stack in find_series(tmp_path)] == [8, 8]


def test_notes_on_values_are_for_volumes_that_are_read(tmp_path: Path) -> None:
    write_series(tmp_path, [*PLANES[:3], *PLANES[4:]], edit=setting("PixelPaddingValue", 0))
    assert only(tmp_path).notes == ()


def test_padding_written_with_the_other_sign(tmp_path: Path) -> None:
    def pad(dataset: Dataset, n: int) -> None:
        store(dataset, np.round(intensity(PLANES[n].points_mm)), dtype="<i2")
        dataset.add_new("PixelPaddingValue", "US", 63536)

    write_series(tmp_path, PLANES, edit=pad)
    assert only(tmp_path).notes == ("padding of -2000 kept outside the image",)


def test_padding_beyond_the_stored_bits_stays_out_of_tissue(tmp_path: Path) -> None:
    def pad(dataset: Dataset, n: int) -> None:
        values = np.round(intensity(PLANES[n].points_mm)) + 1024
        values[0] = 63536  # -2000 in 16 bits, and 2096 in the lower 12
        store(dataset, values, intercept=-1024, bits=12)
        dataset.PixelPaddingValue = 63536

    write_series(tmp_path, PLANES, edit=pad)
    assert "padding beyond the stored bits: all bits are read" in only(tmp_path).notes
    array = read_series(only(tmp_path)).array[0]
    assert (array[:, 0] == 63536 - 1024).all()
    assert np.array_equal(array[:, 1:, 2].T, np.round(intensity(PLANES[2].points_mm))[1:])


@pytest.mark.parametrize(
    ("units", "kind", "notes"),
    [
        ("HU", Kind.CT, ()),
        ("hu ", Kind.CT, ()),
        ("HU_MOD", Kind.CT, ("RescaleType is HU_MOD: taken for HU",)),
        ("US", Kind.CT, ("RescaleType is US: taken for HU",)),
        ("Z_EFF", Kind.OTHER, ("RescaleType is Z_EFF: the numbers are not HU",)),
        ("MGML", Kind.OTHER, ("RescaleType is MGML: the numbers are not HU",)),
    ],
)
def test_ct_images_of_other_quantities(tmp_path: Path, units: str, kind: Kind, notes: tuple[str, ...]) -> None:
    write_series(tmp_path, PLANES, edit=setting("RescaleType", units))
    assert (read_series(only(tmp_path)).kind, only(tmp_path).notes) == (kind, notes)


# Slices that positions cannot show to be missing


@pytest.mark.parametrize(("modality", "keyword"), [("CT", "ImagesInAcquisition"), ("PT", "NumberOfSlices")])
@pytest.mark.parametrize(("count", "note"), [(8, False), (11, True), (4, False)])
def test_images_that_the_headers_count(tmp_path: Path, modality: str, keyword: str, count: int, note: bool) -> None:
    write_series(tmp_path, PLANES, modality=modality, edit=setting(keyword, count))
    said = f"the headers count {count} images and 8 are here: some may be missing"
    assert (said in only(tmp_path).notes) is note


def test_a_derived_series_may_quote_its_source(tmp_path: Path) -> None:
    derived = together(setting("ImagesInAcquisition", 300), setting("ImageType", ["DERIVED", "PRIMARY"]))
    write_series(tmp_path, PLANES, edit=derived)
    assert only(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("numbers", "absent"),
    [
        (range(1, 9), None),
        (range(8), None),
        (range(2, 10), "of the instance numbers 1 to 9, 1 are not here: slices may be missing"),
        ((1, 2, 3, 4, 5, 7, 8, 10), "of the instance numbers 1 to 10, 2 are not here: slices may be missing"),
        (range(1, 17, 2), None),
        (range(101, 109), None),
        ((1,) * 8, None),
    ],
)
def test_instance_numbers_that_are_not_there(tmp_path: Path, numbers: range, absent: str | None) -> None:
    write_series(tmp_path, PLANES, edit=setting("InstanceNumber", *numbers))
    assert only(tmp_path).notes == (() if absent is None else (absent,))


@pytest.mark.parametrize(("thickness", "said", "note"), [(1, 1.25, True), (2.5, 2.5, False), (2, 1.25, False)])
def test_every_other_slice_missing(tmp_path: Path, thickness: float, said: float, note: bool) -> None:
    edit = together(setting("SpacingBetweenSlices", said), setting("SliceThickness", thickness))
    write_series(tmp_path, PLANES, edit=edit)
    told = "SpacingBetweenSlices is 1.25 mm and slices lie 2.5 mm apart: others between may be missing"
    assert only(tmp_path).notes == ((told,) if note else ())
