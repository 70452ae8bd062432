"""RT structure sets in and out: exact round trips, references, damage, other software, real files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from delineate.errors import DelineateError, ExportError, GeometryMismatch, LabelError, UnreadableImage
from delineate.formats import nifti
from delineate.formats.dicom.series import read_series_grid
from delineate.formats.dicom.writing import write_dicom_series
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.structure_sets import labels_from, rasterise
from delineate.geometry import ORIENTATIONS, Box, Grid, compose_affine, crop_grid
from delineate.labels import Code, Label, LabelSet
from delineate.roi_names import How, RoiRow, RoiTable, default_table
from delineate.volume import Kind, Segmentation, Volume, crop, reorient

DATA = Path(__file__).parents[2] / "shared" / "data"
SARCOMA, RT_UTILS = DATA / "sarcoma", DATA / "dicom" / "rtstruct" / "rt-utils" / "tests"
needs_sarcoma = pytest.mark.skipif(not SARCOMA.is_dir(), reason="shared/data/sarcoma is not there")
needs_rt_utils = pytest.mark.skipif(not RT_UTILS.is_dir(), reason="shared/data/dicom/rtstruct is not there")

SHAPE = (24, 20, 9)
LABELS = LabelSet(
    (
        Label(1, "liver", (200, 30, 60), Code("10200004", "SCT", "Liver")),
        Label(2, "GTV left", (10, 250, 0)),
        Label(4, "dots", (0, 0, 255)),
        Label(7, "absent", (9, 9, 9)),
    )
)
Edit = Callable[[Dataset], None]


def turn(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rows = {0: [[1, 0, 0], [0, c, -s], [0, s, c]], 1: [[c, 0, s], [0, 1, 0], [-s, 0, c]]}
    return np.array(rows.get(axis, [[c, -s, 0], [s, c, 0], [0, 0, 1]]))


def grid_of(rotation: np.ndarray) -> Grid:
    return Grid(SHAPE, compose_affine(rotation @ np.diag([0.9, 0.8, 2.5]), (-20.25, 33.5, -100.125)), "1.2.3.4")


OBLIQUE = grid_of(turn(17, 2) @ turn(20, 0))


def some_labels(grid: Grid = OBLIQUE) -> Segmentation:
    """A ball with a tunnel, a block that touches it, scattered pixels, and a label without voxels."""
    i, j, k = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[(i - 9) ** 2 + 1.2 * (j - 9) ** 2 + 6 * (k - 4) ** 2 < 60] = 1
    array[(i - 8) ** 2 + (j - 9) ** 2 < 5] = 0
    array[(array == 0) & (i >= 12) & (i < 18) & (j > 4) & (j < 14) & (k > 2) & (k < 7)] = 2
    array[(np.random.default_rng(3).random(SHAPE) < 0.3) & (i > 21)] = 4
    return Segmentation(array, grid, LABELS, author="model 5f3a")


def series(folder: Path, grid: Grid = OBLIQUE, **texts: str) -> list[Path]:
    volume = Volume(np.zeros((1, *grid.shape), np.int16), grid, Kind.CT)
    return list(write_dicom_series(folder, volume, seed="ct", **texts))


def written(folder: Path, segmentation: Segmentation | None = None, grid: Grid = OBLIQUE) -> Path:
    write_rtstruct(folder / "rt.dcm", segmentation or some_labels(grid), series(folder / "ct", grid), seed="rt")
    return folder / "rt.dcm"


def edited(path: Path, edit: Edit) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path


def contour_edit(keyword: str, value: object) -> Edit:
    return lambda dataset: setattr(dataset.ROIContourSequence[1].ContourSequence[2], keyword, value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rt")
    written(folder)
    return folder


@pytest.fixture
def path(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(folder / "rt.dcm", tmp_path / "rt.dcm"))


def test_every_voxel_comes_back(path: Path) -> None:
    found = labels_from(read_rtstruct(path), OBLIQUE, labels=LABELS)
    assert np.array_equal(found.segmentation.array, some_labels().array)
    assert [mask.roi.name for mask in found.masks] == list(LABELS.names)
    assert all(mask.voxels.outside == 0 and not mask.voxels.duplicates for mask in found.masks)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_order_of_the_arrays_axes_does_not_matter(folder: Path, tmp_path: Path, orientation: str) -> None:
    turned = reorient(some_labels(), orientation)
    write_rtstruct(tmp_path / "rt.dcm", turned, sorted((folder / "ct").iterdir()))
    structures = read_rtstruct(tmp_path / "rt.dcm")
    assert np.array_equal(labels_from(structures, turned.grid, labels=LABELS).segmentation.array, turned.array)
    assert np.array_equal(labels_from(structures, OBLIQUE, labels=LABELS).segmentation.array, some_labels().array)


def test_regions_keep_name_colour_code_and_place(path: Path, folder: Path) -> None:
    structures = read_rtstruct(path)
    liver, gtv, _, absent = structures.rois
    assert (liver.name, liver.colour, liver.code) == ("liver", (200, 30, 60), LABELS.labels[0].code)
    assert [(r.interpreted_type, r.algorithm) for r in (liver, gtv)] == [("ORGAN", "AUTOMATIC"), ("GTV", "AUTOMATIC")]
    assert absent.contours == ()
    headers = [pydicom.dcmread(file) for file in sorted((folder / "ct").iterdir())]
    positions = {header.SOPInstanceUID: np.array(header.ImagePositionPatient, dtype=float) for header in headers}
    normal = OBLIQUE.direction[:, 2]
    for contour in liver.contours:
        heights = (contour.points_mm - positions[contour.instance_uid]) @ normal
        assert np.abs(heights).max() < 1e-3


def test_references_are_the_series(path: Path, folder: Path) -> None:
    structures = read_rtstruct(path)
    headers = [pydicom.dcmread(file) for file in sorted((folder / "ct").iterdir())]
    assert (structures.problems, structures.skipped) == ((), ())
    assert structures.frame_of_reference_uids == ("1.2.3.4",)
    assert structures.referenced_study_uid == headers[0].StudyInstanceUID
    assert structures.referenced_series_uids == (headers[0].SeriesInstanceUID,)
    assert structures.referenced_instance_uids == tuple(header.SOPInstanceUID for header in headers)


def test_slices_of_a_tilted_gantry_get_contours_where_they_lie(tmp_path: Path) -> None:
    files = series(tmp_path / "ct")
    for n, file in enumerate(files):
        sideways = OBLIQUE.direction[:, 1] * n * 0.5
        edited(file, lambda d, by=sideways: setattr(d, "ImagePositionPatient", moved(d, by)))  # type: ignore[misc]
    grid = read_series_grid(files)
    array = (np.random.default_rng(0).random(grid.shape) < 0.5).astype(np.uint8)
    write_rtstruct(tmp_path / "rt.dcm", Segmentation(array, grid, LabelSet(LABELS.labels[:1])), files)
    assert grid.shape[1] > SHAPE[1]
    assert np.array_equal(labels_from(read_rtstruct(tmp_path / "rt.dcm"), grid).segmentation.array, array)


def moved(dataset: Dataset, by_mm: np.ndarray) -> list[str]:
    return [f"{x:.6f}" for x in np.add([float(x) for x in dataset.ImagePositionPatient], by_mm)]


def multi_frame(files: list[Path], path: Path) -> Path:
    """The slices of a series as the frames of one enhanced instance, in reverse order (PS3.3 C.7.6.16)."""
    headers = [pydicom.dcmread(file) for file in reversed(files)]
    dataset, frames = headers[0], []
    for header in headers:
        frame, position, orientation, measures = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = header.ImagePositionPatient
        orientation.ImageOrientationPatient = header.ImageOrientationPatient
        measures.PixelSpacing, measures.SliceThickness = header.PixelSpacing, header.SliceThickness
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [position], [orientation]
        frame.PixelMeasuresSequence = [measures]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = frames, len(frames)
    dataset.PixelData = b"".join(header.PixelData for header in headers)
    dataset.save_as(path)
    return path


def test_frames_of_one_instance_are_named_by_their_number(tmp_path: Path) -> None:
    file = multi_frame(series(tmp_path / "ct"), tmp_path / "enhanced.dcm")
    write_rtstruct(tmp_path / "rt.dcm", some_labels(), [file])
    structures = read_rtstruct(tmp_path / "rt.dcm")
    assert len(structures.referenced_instance_uids) == 1
    assert np.array_equal(labels_from(structures, OBLIQUE, labels=LABELS).segmentation.array, some_labels().array)
    first = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0].ContourSequence[0]
    lowest = int(np.flatnonzero((some_labels().array == 1).any(axis=(0, 1)))[0])
    assert first.ContourImageSequence[0].ReferencedFrameNumber == SHAPE[2] - lowest


def test_patient_and_study_are_the_sources(tmp_path: Path) -> None:
    files = series(tmp_path / "ct", patient_id="P 7", patient_name="Müller^Jörg")
    write_rtstruct(tmp_path / "rt.dcm", some_labels(), files, label="auto", created=datetime(2024, 5, 6, 7, 8, 9))
    dataset, header = pydicom.dcmread(tmp_path / "rt.dcm"), pydicom.dcmread(files[0])
    assert (str(dataset.PatientName), dataset.PatientID) == ("Müller^Jörg", "P 7")
    assert dataset.StudyInstanceUID == header.StudyInstanceUID
    assert dataset.SeriesInstanceUID != header.SeriesInstanceUID
    assert (dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime) == (
        "auto",
        "20240506",
        "070809",
    )
    assert (dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDate) == (3001, 1, "20240506")


def test_a_seed_makes_equal_files(folder: Path, tmp_path: Path) -> None:
    files = sorted((folder / "ct").iterdir())
    for name, seed in (("a", "x"), ("b", "x"), ("c", None), ("d", None)):
        write_rtstruct(tmp_path / name, some_labels(), files, seed=seed)
    first, again, *others = ((tmp_path / name).read_bytes() for name in "abcd")
    assert first == again
    assert len({first, *others}) == 3


def test_decimal_strings_are_short_and_precise(path: Path) -> None:
    far = Grid(SHAPE, compose_affine(OBLIQUE.affine[:3, :3] / 30, (-12345.678901, 1 / 3, 9999.0)), "1.2.3.4")
    written(path.parent, some_labels(far), far)
    item = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence[0]
    texts = item.get_item("ContourData").value.decode().strip().split("\\")
    assert max(map(len, texts)) <= 16
    assert np.array_equal(labels_from(read_rtstruct(path), far, labels=LABELS).segmentation.array, some_labels().array)


def test_overlapping_structures_stay_whole(folder: Path, tmp_path: Path) -> None:
    masks = np.stack([some_labels().array == 1, some_labels().array < 4])
    labels = LabelSet(LABELS.labels[:2], overlaps=True)
    write_rtstruct(tmp_path / "rt.dcm", Segmentation(masks, OBLIQUE, labels), sorted((folder / "ct").iterdir()))
    found = labels_from(read_rtstruct(tmp_path / "rt.dcm"), OBLIQUE, labels=replace(labels, overlaps=False))
    assert found.segmentation.labels.overlaps
    assert np.array_equal(found.segmentation.array, masks)


def test_lesions_on_every_second_slice_stay_apart(folder: Path, tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[4:7, 3:9, [2, 4, 6]] = 1
    lesions = Segmentation(array, OBLIQUE, LabelSet(LABELS.labels[:1]))
    write_rtstruct(tmp_path / "rt.dcm", reorient(lesions, "SLA"), sorted((folder / "ct").iterdir()))
    structures = read_rtstruct(tmp_path / "rt.dcm")
    assert structures.rois[0].plane_spacing_mm == pytest.approx(2.5)
    assert np.array_equal(labels_from(structures, OBLIQUE).segmentation.array, array)


@pytest.mark.parametrize("orientation", ["LPS", "LPI", "ILA"])
def test_the_planes_of_the_pixels_are_the_slices(folder: Path, tmp_path: Path, orientation: str) -> None:
    files = sorted((folder / "ct").iterdir())
    write_rtstruct(tmp_path / "rt.dcm", reorient(some_labels(), orientation), files)
    (planes,) = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0].SourcePixelPlanesCharacteristicsSequence
    along_row, down_column = np.array(planes.ImageOrientationPatient, float).reshape(2, 3)
    step = np.cross(along_row, down_column) * float(planes.SpacingBetweenSlices)
    starts = [np.array(planes.ImagePositionPatient, float) + n * step for n in range(planes.NumberOfFrames)]
    heights = sorted(float(start @ OBLIQUE.direction[:, 2]) for start in starts)
    images = [np.array(pydicom.dcmread(file).ImagePositionPatient, float) for file in files]
    assert heights == pytest.approx(sorted(float(one @ OBLIQUE.direction[:, 2]) for one in images), abs=1e-4)


def test_a_part_of_the_series_lies_on_its_slices_too(folder: Path, tmp_path: Path) -> None:
    part = crop(some_labels(), Box((3, 2, 1), (22, 18, 8)))
    write_rtstruct(tmp_path / "rt.dcm", part, sorted((folder / "ct").iterdir()))
    found = labels_from(read_rtstruct(tmp_path / "rt.dcm"), OBLIQUE, labels=LABELS)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[3:22, 2:18, 1:8] = True
    assert np.array_equal(found.segmentation.array, np.where(inside, some_labels().array, 0))


def test_contours_lie_in_the_slices_where_the_grid_is_a_little_off(folder: Path, tmp_path: Path) -> None:
    files = sorted((folder / "ct").iterdir())
    off = replace(OBLIQUE, affine=OBLIQUE.affine @ compose_affine(np.eye(3), (0.2, 0, 0.05)))
    write_rtstruct(tmp_path / "rt.dcm", some_labels(off), files)
    positions = {(d := pydicom.dcmread(f)).SOPInstanceUID: np.array(d.ImagePositionPatient, float) for f in files}
    for contour in read_rtstruct(tmp_path / "rt.dcm").rois[0].contours:
        assert np.abs((contour.points_mm - positions[contour.instance_uid]) @ OBLIQUE.direction[:, 2]).max() < 1e-3


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        (replace(OBLIQUE, frame_of_reference_uid="1.2.9"), "another frame of reference: expected 1.2.9, got 1.2.3.4"),
        (grid_of(turn(17, 2) @ turn(23, 0)), "axis across the slices, got 3.00 degrees"),
        (crop_grid(OBLIQUE, Box((0, 0, 20), (24, 20, 29))), "planes on slices, got .* mm between a plane of 'liver'"),
        (Grid(SHAPE, OBLIQUE.affine @ compose_affine(np.eye(3), (0, 0, 0.3))), "planes on slices, got 0.75 mm"),
    ],
)
def test_a_segmentation_beside_the_slices_is_refused(folder: Path, tmp_path: Path, grid: Grid, match: str) -> None:
    with pytest.raises(ExportError, match=match):
        write_rtstruct(tmp_path / "rt.dcm", some_labels(grid), sorted((folder / "ct").iterdir()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 65, "a\\b", "a\nb", " "])
def test_a_name_that_dicom_cannot_hold_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    labels = LabelSet((Label(1, name, (0, 0, 0)),))
    empty = Segmentation(np.zeros(SHAPE, np.uint8), OBLIQUE, labels)
    with pytest.raises(ExportError, match="name that DICOM cannot hold"):
        write_rtstruct(tmp_path / "rt.dcm", empty, sorted((folder / "ct").iterdir()))


def test_a_table_maps_names_of_regions(path: Path) -> None:
    labels = LabelSet((Label(3, "hepar", (1, 2, 3)), Label(5, "left_tumor", (4, 5, 6))))
    found = labels_from(read_rtstruct(path), OBLIQUE, labels=labels, table=default_table(labels))
    assert found.matches is not None
    assert dict(found.matches.mapped) == {"liver": "hepar", "GTV left": "left_tumor"}
    assert found.matches.unmapped == ("dots", "absent")
    assert np.array_equal(found.segmentation.array, np.array([0, 3, 5, 0, 0])[some_labels().array])


def test_two_regions_for_one_label_are_refused(path: Path) -> None:
    table = RoiTable((RoiRow("liver", How.PATTERN, "liver|dots"),))
    with pytest.raises(LabelError, match=r"several ROIs are mapped onto 'liver': got \['liver', 'dots'\]"):
        labels_from(read_rtstruct(path), OBLIQUE, labels=LABELS, table=table)


def test_no_region_for_any_label_is_refused(path: Path) -> None:
    with pytest.raises(LabelError, match=r"no ROI is mapped onto a label.*Add rows to the table"):
        labels_from(read_rtstruct(path), OBLIQUE, labels=LabelSet((Label(1, "heart", (0, 0, 0)),)))


def test_without_labels_regions_become_their_own(path: Path) -> None:
    found = labels_from(read_rtstruct(path), OBLIQUE).segmentation
    assert [(x.value, x.name, x.colour) for x in found.labels] == [
        (1, "liver", (200, 30, 60)),
        (2, "GTV left", (10, 250, 0)),
        (3, "dots", (0, 0, 255)),
    ]
    assert np.array_equal(found.mask("dots"), some_labels().array == 4)


def test_regions_of_one_name_are_chosen_by_number(path: Path) -> None:
    structures = read_rtstruct(edited(path, lambda d: setattr(d.StructureSetROISequence[1], "ROIName", "liver")))
    with pytest.raises(LabelError, match=r"2 ROIs are called so.*Choose by number: \[1, 2\]"):
        rasterise(structures, OBLIQUE, ["liver"])
    with pytest.raises(LabelError, match=r"share a name, or have none: got \['liver'\]"):
        labels_from(structures, OBLIQUE)
    assert rasterise(structures, OBLIQUE, [2])[0].voxels.mask.sum() == (some_labels().array == 2).sum()


def test_another_frame_of_reference_is_refused(path: Path) -> None:
    with pytest.raises(GeometryMismatch, match=r"'liver' are in another frame of reference: expected 9\.9, got 1\.2"):
        rasterise(read_rtstruct(path), replace(OBLIQUE, frame_of_reference_uid="9.9"))


def test_contours_all_beside_the_image_are_refused(path: Path) -> None:
    with pytest.raises(GeometryMismatch, match="all contours lie outside the image"):
        labels_from(read_rtstruct(path), crop_grid(OBLIQUE, Box((40, 0, 0), (50, 20, 9))))


def test_an_oblique_grid_is_refused_by_the_regions_name(path: Path) -> None:
    with pytest.raises(GeometryMismatch, match="'liver': the contours do not lie in planes perpendicular"):
        labels_from(read_rtstruct(path), replace(OBLIQUE, affine=np.diag([1.0, 1.0, 1.0, 1.0])))


def test_points_and_open_contours_are_listed_and_left_out(path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        items = dataset.ROIContourSequence[1].ContourSequence
        items[0].ContourGeometricType, items[1].ContourGeometricType = "POINT", "OPEN_PLANAR"
        items[2].ContourData, items[2].NumberOfContourPoints = [1, 2, 3, 4, 5, 6], 2

    structures = read_rtstruct(edited(path, edit))
    assert [(s.roi_number, s.position, s.reason) for s in structures.skipped] == [
        (2, 1, "geometric type POINT"),
        (2, 2, "geometric type OPEN_PLANAR"),
        (2, 3, "2 point(s) enclose no area"),
    ]
    assert len(structures.rois[1].contours) == len(read_rtstruct(path).rois[1].contours)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda d: delattr(d, "ReferencedFrameOfReferenceSequence"), "referenced series: missing"),
        (
            lambda d: setattr(
                d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0],
                "SeriesInstanceUID",
                "unknown",
            ),
            "referenced series: no valid UID 'unknown'",
        ),
        (
            lambda d: delattr(d.StructureSetROISequence[0], "ReferencedFrameOfReferenceUID"),
            "frame of reference of ROI 1: missing",
        ),
    ],
)
def test_broken_references_are_told_and_do_no_harm(path: Path, edit: Edit, problem: str) -> None:
    structures = read_rtstruct(edited(path, edit))
    assert problem in structures.problems
    found = labels_from(structures, OBLIQUE, labels=LABELS)
    assert np.array_equal(found.segmentation.array, some_labels().array)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (contour_edit("NumberOfContourPoints", 5), r"contour 3 of ROI 2 has \d+ points, and says 5"),
        (contour_edit("ContourData", ["1", "2", "3", "4", "5", "6", "7"]), "7 coordinates, which are no triples"),
        (contour_edit("ContourData", ["1e999"] * 9), "9 coordinates, which are no triples of finite numbers"),
        (lambda d: delattr(d, "ROIContourSequence"), "no ROIContourSequence"),
        (lambda d: delattr(d, "StructureSetROISequence"), "no StructureSetROISequence"),
        (lambda d: delattr(d.StructureSetROISequence[0], "ROINumber"), "an item of StructureSetROISequence without"),
        (lambda d: setattr(d.StructureSetROISequence[0], "ROINumber", 2), "2 ROIs of number 2"),
        (lambda d: setattr(d.ROIContourSequence[0], "ReferencedROINumber", 9), "contours of ROI 9, which is not desc"),
    ],
)
def test_damage_is_refused(path: Path, edit: Edit, match: str) -> None:
    with pytest.raises(UnreadableImage, match=f"damaged RT Structure Set: got .*{match}"):
        read_rtstruct(edited(path, edit))


@pytest.mark.parametrize(("old", "new"), [(b"\\-10", b"\\nan"), (b"\\-10", b"\\1,5"), (b"\\-10", b"\\1 5")])
def test_coordinates_that_are_no_numbers_are_refused(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new.ljust(len(old)), 1))
    with pytest.raises(UnreadableImage, match="ROI 1 has coordinates"):
        read_rtstruct(path)


def undefined_lengths(dataset: Dataset) -> None:
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                undefined_lengths(item)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_other_encodings_agree_and_no_cut_goes_unnoticed(path: Path, syntax: UID) -> None:
    dataset = pydicom.dcmread(path)
    undefined_lengths(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    whole, data = read_rtstruct(path), path.read_bytes()
    assert np.array_equal(labels_from(whole, OBLIQUE, labels=LABELS).segmentation.array, some_labels().array)
    for size in np.random.default_rng(1).integers(0, len(data), 25).tolist():
        path.write_bytes(data[:size])
        try:
            found = read_rtstruct(path)
        except DelineateError:
            continue
        assert [len(roi.contours) for roi in found.rois] == [len(roi.contours) for roi in whole.rois]


def test_damaged_bytes_end_in_one_kind_of_error(path: Path) -> None:
    data, rng = path.read_bytes(), np.random.default_rng(5)
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, rng.choice([3000, len(data)]), 3).tolist():
            broken[place] = int(rng.integers(256))
        path.write_bytes(broken)
        try:
            read_rtstruct(path)
        except DelineateError:
            continue


@pytest.mark.parametrize("name", ["ct", "text", "nothing"])
def test_what_is_no_structure_set_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    paths = {"ct": sorted((folder / "ct").iterdir())[0], "text": tmp_path / "a.txt", "nothing": tmp_path / "b.dcm"}
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UnreadableImage, match=r"not an RT Structure Set|not a readable DICOM|no such file"):
        read_rtstruct(paths[name])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_written_structure_sets_are_valid(path: Path) -> None:
    report = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert "RTStructureSet" in report.stdout + report.stderr
    assert "Error" not in report.stdout + report.stderr


@pytest.mark.skipif(shutil.which("plastimatch") is None, reason="plastimatch is not installed")
@pytest.mark.parametrize("rotation", [np.eye(3), turn(17, 2), turn(20, 0), np.diag([-1.0, -1.0, 1.0])])
def test_plastimatch_finds_the_same_voxels(tmp_path: Path, rotation: np.ndarray) -> None:
    path = written(tmp_path, grid=grid_of(rotation))
    call = ["plastimatch", "convert", "--input", path, "--referenced-ct", tmp_path / "ct"]
    call += ["--output-prefix", tmp_path / "out", "--prefix-format", "nii"]
    subprocess.run(list(map(str, call)), capture_output=True, check=True)
    for label in LABELS.labels[:3]:
        theirs, _ = nifti.read_label_values(tmp_path / "out" / f"{label.name}.nii")
        assert np.array_equal(theirs > 0, some_labels().array == label.value)


@needs_sarcoma
@pytest.mark.parametrize("case", ["STS_008", "STS_019"])
@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_tumours_of_other_software_become_the_voxels_that_others_made(case: str, modality: str) -> None:
    folder = SARCOMA / case / modality
    grid = read_series_grid(sorted((folder / "image").iterdir()))
    found = labels_from(read_rtstruct(folder / "mask" / "RS.dcm"), grid)
    theirs, _ = nifti.read_label_values(SARCOMA / f"{case}_nifti" / f"{modality}_mask.nii.gz")
    assert np.array_equal(found.segmentation.array > 0, theirs > 0)


@needs_sarcoma
def test_contours_of_a_ct_on_its_pet_keep_their_volume() -> None:
    folder = SARCOMA / "STS_012"
    structures = read_rtstruct(folder / "CT" / "mask" / "RS.dcm")
    grids = [read_series_grid(sorted((folder / kind / "image").iterdir())) for kind in ("CT", "PET")]
    ct, pet = (labels_from(structures, grid).segmentation for grid in grids)
    volumes = [np.count_nonzero(one.array) * one.grid.voxel_volume_ml for one in (ct, pet)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.02)


@needs_rt_utils
@pytest.mark.parametrize(
    ("name", "counts", "problems"),
    [
        ("mock_data/rt.dcm", [2], ()),
        ("mock_data/invalid_reference_rt.dcm", [3, 3, 3, 3], ()),
        ("mock_data/non_existent_reference_rt.dcm", [3, 3, 3, 3], ("referenced series: missing",)),
    ],
)
def test_files_of_rt_utils(name: str, counts: list[int], problems: tuple[str, ...]) -> None:
    structures = read_rtstruct(RT_UTILS / name)
    assert ([len(roi.contours) for roi in structures.rois], structures.problems) == (counts, problems)
    assert len(structures.frame_of_reference_uids) == 1
