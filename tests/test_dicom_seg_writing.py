"""DICOM SEG out: every voxel where it was, tied to its slices, and read alike by other programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
import seg_scans
from anatomy import oblique_grid
from pydicom.uid import UID
from seg_scans import LABELS, edited, overlapping, series, structures

from delineate.errors import ExportError, UnreadableImage
from delineate.formats import read_series
from delineate.formats.dicom_results.seg import Encoding, read_seg
from delineate.formats.dicom_results.seg_placing import seg_on_grid, with_labels
from delineate.formats.dicom_results.seg_writing import Algorithm, AlgorithmKind, write_seg
from delineate.geometry import (
    ORIENTATIONS,
    Box,
    FloatArray,
    Grid,
    compose_affine,
    index_to_world,
    respace_grid,
    same_space,
    world_to_index,
)
from delineate.labels import LabelSet, label_set
from delineate.volume import Array, Segmentation, crop, reorient

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom is not there")
DCMQI = shutil.which("segimage2itkimage") or shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent))
needs_dcmqi = pytest.mark.skipif(DCMQI is None, reason="segimage2itkimage (dcmqi) is not installed")


def places(array: Array, grid: Grid, value: int) -> FloatArray:
    """World positions (n, 3) of the voxels of one value, in an order of their own."""
    world = np.round(index_to_world(grid, np.argwhere(array == value)), 3)
    return world[np.lexsort(world.T)]


@pytest.mark.parametrize(
    ("orientation", "encoding"),
    [
        *((orientation, Encoding.BINARY) for orientation in ORIENTATIONS),
        *((orientation, Encoding.LABELMAP) for orientation in ORIENTATIONS[::7]),
    ],
)
def test_voxels_come_back_from_every_orientation(tmp_path: Path, orientation: str, encoding: Encoding) -> None:
    files, grid = series(tmp_path / "ct")
    turned = reorient(structures(grid), orientation)
    write_seg(tmp_path / "seg.dcm", turned, files, encoding=encoding)
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), turned.grid), LABELS)
    assert np.array_equal(found.array, turned.array)
    assert found.grid == turned.grid


def test_frames_refer_to_their_slices(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", reorient(structures(grid), "SAR"), files[::-1])
    positions = {pydicom.dcmread(f).SOPInstanceUID: pydicom.dcmread(f).ImagePositionPatient for f in files}
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.SpatialLocationsPreserved == "YES"
        assert frame.PlanePositionSequence[0].ImagePositionPatient == positions[source.ReferencedSOPInstanceUID]
    assert len({i.ReferencedSOPInstanceUID for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}) == 6


def test_patient_study_and_frame_of_reference_are_the_sources(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    for file in files:
        edited(file, lambda header: setattr(header, "SpecificCharacterSet", "ISO_IR 100"))
        edited(file, lambda header: setattr(header, "PatientName", "Müller^Jörg"))
    write_seg(tmp_path / "seg.dcm", structures(grid, labels=label_set({2: "è", 7: "肝", 300: "z"})), files)
    source, seg = pydicom.dcmread(files[0]), pydicom.dcmread(tmp_path / "seg.dcm")
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert str(seg[keyword].value) == str(source[keyword].value)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["è", "肝", "z"]


def test_segments_say_what_they_are_and_who_made_them(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", structures(grid, author="d" * 64), files, algorithm=Algorithm("net", "2.1"))
    found = read_seg(tmp_path / "seg.dcm")
    kidney = found.segments[0]
    assert [label.colour for label in found.segmentation.labels] == [label.colour for label in LABELS]
    assert (kidney.label.name, kidney.label.value, kidney.description) == ("left_kidney", 1, "label value 2")
    assert kidney.label.code is not None
    assert kidney.laterality is not None
    assert (kidney.label.code.value, kidney.laterality.value) == ("64033007", "7771000")
    assert (kidney.algorithm_type, kidney.algorithm_name, kidney.algorithm_version) == ("AUTOMATIC", "net", "2.1")
    assert found.segmentation.author == "d" * 64
    assert len({segment.tracking_uid for segment in found.segments}) == 3


def test_a_person_is_the_creator(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    manual = Algorithm(kind=AlgorithmKind.MANUAL)
    write_seg(tmp_path / "seg.dcm", structures(grid, author="Rad^Ann"), files, algorithm=manual)
    found = read_seg(tmp_path / "seg.dcm")
    assert (found.segmentation.author, found.segments[0].algorithm_name) == ("Rad^Ann", "")


def test_overlapping_structures_keep_their_masks(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    masks = reorient(overlapping(grid), "PSR")
    write_seg(tmp_path / "seg.dcm", masks, files)
    found = seg_on_grid(read_seg(tmp_path / "seg.dcm"), masks.grid)
    assert np.array_equal(found.array, masks.array)
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentsOverlap == "YES"


def test_masks_that_do_not_overlap_fit_into_a_label_map(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    masks = overlapping(grid)
    apart = replace(masks, array=masks.array & ~np.stack([masks.array[1], np.zeros_like(masks.array[0])]))
    write_seg(tmp_path / "seg.dcm", apart, files, encoding=Encoding.LABELMAP)
    found = seg_on_grid(read_seg(tmp_path / "seg.dcm"), grid)
    assert all(np.array_equal(found.mask(name), apart.mask(name)) for name in apart.labels.names)


def test_label_map_numbers_are_the_values(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", structures(grid), files, encoding=Encoding.LABELMAP)
    assert read_seg(tmp_path / "seg.dcm").segmentation.labels.values == (2, 7, 300)


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
def test_empty_structures_are_described(tmp_path: Path, encoding: Encoding) -> None:
    files, grid = series(tmp_path / "ct")
    labels = label_set({2: "a", 7: "b", 250: "nothing here", 300: "c"})
    write_seg(tmp_path / "seg.dcm", structures(grid, labels=labels), files, encoding=encoding)
    found = read_seg(tmp_path / "seg.dcm").segmentation
    assert found.labels.names == labels.names
    assert not found.mask("nothing here").any()


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
def test_a_segmentation_without_any_voxel(tmp_path: Path, encoding: Encoding) -> None:
    files, grid = series(tmp_path / "ct")
    empty = replace(structures(grid), array=np.zeros(grid.shape, dtype=np.uint8))
    write_seg(tmp_path / "seg.dcm", empty, files, encoding=encoding)
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), grid), LABELS)
    assert not found.array.any()
    assert found.labels == LABELS


def test_a_crop_between_voxels_is_written_into_the_full_matrix(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    part = crop(reorient(structures(grid), "PLS"), Box((1, 2, 1), (6, 8, 5)))
    write_seg(tmp_path / "seg.dcm", part, files)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.Rows, seg.Columns) == (7, 9)
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), grid), LABELS)
    again = crop(reorient(found, "PLS"), Box((1, 2, 1), (6, 8, 5)))
    assert np.array_equal(again.array, part.array)
    assert np.count_nonzero(found.array) == np.count_nonzero(part.array)


def test_another_grid_keeps_its_own_planes(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    moved = structures(respace_grid(grid, (0.9, 1.2, 1.7)))
    write_seg(tmp_path / "seg.dcm", moved, files)
    measures = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(1.7)
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), moved.grid), LABELS)
    assert np.array_equal(found.array, moved.array)


def test_an_oblique_grid_is_written_as_it_lies(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    oblique = structures(
        replace(oblique_grid((5, 6, 4), degrees=31), frame_of_reference_uid=grid.frame_of_reference_uid)
    )
    write_seg(tmp_path / "seg.dcm", reorient(oblique, "IRP"), files)
    found = read_seg(tmp_path / "seg.dcm").segmentation
    for number, value in enumerate(LABELS.values, start=1):
        expected = places(oblique.array, oblique.grid, value)
        np.testing.assert_allclose(places(found.array, found.grid, number), expected, atol=2e-3)


@pytest.mark.parametrize("orientation", ["LPS", "SAL", "IRP"])
def test_a_tilted_stack_keeps_its_shear(tmp_path: Path, orientation: str) -> None:
    files, _ = series(tmp_path / "ct")
    tilted = Grid((9, 7, 6), compose_affine([[0.9, 0, 0], [0, 1.2, 0.67], [0, 0, 2.5]], (1, 2, 3)))
    written = reorient(structures(tilted), orientation)
    write_seg(tmp_path / "seg.dcm", written, files)
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), written.grid), LABELS)
    assert np.array_equal(found.array, written.array)


def test_planes_take_the_positions_of_slices_that_jitter(tmp_path: Path) -> None:
    files, _ = series(tmp_path / "ct")
    for n, file in enumerate(files):
        header = pydicom.dcmread(file)
        header.ImagePositionPatient = [float(x) + 0.02 * (-1) ** n for x in header.ImagePositionPatient]
        header.save_as(file)
    grid = read_series(files).grid
    write_seg(tmp_path / "seg.dcm", structures(grid), files)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert all(frame.DerivationImageSequence for frame in seg.PerFrameFunctionalGroupsSequence)
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), grid), LABELS)
    assert np.array_equal(found.array, seg_scans.voxels())


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "seg/dcmqi/data/segmentations/24x38x3/multiframe/mf.dcm",
        "series/philips_enhanced/anatomical/001/IM-0001-0170-0001.dcm",
    ],
)
def test_an_enhanced_multi_frame_source(tmp_path: Path, name: str) -> None:
    source = DATA / name
    grid = read_series([source]).grid
    array = (np.arange(np.prod(grid.shape)).reshape(grid.shape) % 7 == 0).astype(np.uint8) * 4
    written = Segmentation(array, grid, label_set({4: "spleen"}))
    write_seg(tmp_path / "seg.dcm", reorient(written, "RSA"), [source])
    found = with_labels(seg_on_grid(read_seg(tmp_path / "seg.dcm"), grid), written.labels)
    assert np.array_equal(found.array, array)
    frames, images = (pydicom.dcmread(p).PerFrameFunctionalGroupsSequence for p in (tmp_path / "seg.dcm", source))
    for frame in frames:
        number = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        position = images[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(position)


@needs_data
def test_a_multi_frame_series_in_two_files(tmp_path: Path) -> None:
    first = DATA / "seg/dcmqi/data/segmentations/24x38x3/multiframe/mf.dcm"
    header = pydicom.dcmread(first)
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    for frame in header.PerFrameFunctionalGroupsSequence:
        x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 7.5]
    header.save_as(tmp_path / "second.dcm")
    files = [first, tmp_path / "second.dcm"]
    grid = read_series(files).grid
    written = Segmentation(seg_scans.voxels(grid.shape), grid, LABELS)
    write_seg(tmp_path / "seg.dcm", written, files)
    found = read_seg(tmp_path / "seg.dcm")
    assert "1.2.3" in found.references.instance_uids
    assert np.array_equal(with_labels(seg_on_grid(found, grid), LABELS).array, written.array)


def test_a_backslash_in_a_description_makes_no_second_value(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", structures(grid), files, description="left\\right " + "x" * 80)
    assert pydicom.dcmread(tmp_path / "seg.dcm").SeriesDescription == "left/right " + "x" * 53


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (LabelSet(()), "without structures"),
        (label_set({1: "x" * 65}), "name that DICOM cannot hold: expected 1 to 64 .* got 'xxx"),
        (label_set({1: "a\\b"}), "name that DICOM cannot hold"),
        (label_set({1: " a"}), "name that DICOM cannot hold"),
        (label_set({1: "a\n"}), "name that DICOM cannot hold"),
    ],
)
def test_names_that_dicom_cannot_hold(tmp_path: Path, labels: LabelSet, match: str) -> None:
    files, grid = series(tmp_path / "ct")
    segmentation = Segmentation(np.zeros(grid.shape, dtype=np.uint8), grid, labels)
    with pytest.raises(ExportError, match=match):
        write_seg(tmp_path / "seg.dcm", segmentation, files)
    assert not (tmp_path / "seg.dcm").exists()


def test_refusals(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    elsewhere = structures(replace(grid, frame_of_reference_uid="1.2.3"))
    with pytest.raises(ExportError, match=r"not lie in its sources' frame of reference.*got 1\.2\.3"):
        write_seg(tmp_path / "seg.dcm", elsewhere, files)
    with pytest.raises(ExportError, match="overlapping structures do not fit"):
        write_seg(tmp_path / "seg.dcm", overlapping(grid), files, encoding=Encoding.LABELMAP)
    with pytest.raises(ValueError, match="no fractions"):
        write_seg(tmp_path / "seg.dcm", structures(grid), files, encoding=Encoding.FRACTIONAL)
    with pytest.raises(ValueError, match="no source images"):
        write_seg(tmp_path / "seg.dcm", structures(grid), [])


def test_a_sheared_grid_without_a_plane_is_refused(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    sheared = Grid(grid.shape, compose_affine(np.eye(3) + np.triu(np.full((3, 3), 0.3), 1), (0, 0, 0)))
    with pytest.raises(ExportError, match="sheared grid cannot be written as planes"):
        write_seg(tmp_path / "seg.dcm", structures(sheared), files)


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("SeriesInstanceUID", "1.2.3", r"differ in SeriesInstanceUID: .* got 1\.2\.3 .*slice_0003"),
        ("FrameOfReferenceUID", "1.2.3", "differ in FrameOfReferenceUID"),
        ("Rows", 3, "differ in Rows: expected one series: 7, got 3"),
        ("SOPInstanceUID", None, "without what a derived object must copy: expected SOPInstanceUID"),
    ],
)
def test_sources_that_are_not_one_series(tmp_path: Path, keyword: str, value: object, match: str) -> None:
    files, grid = series(tmp_path / "ct")
    edited(files[2], lambda dataset: setattr(dataset, keyword, value))
    with pytest.raises(ExportError, match=match):
        write_seg(tmp_path / "seg.dcm", structures(grid), files)


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    (tmp_path / "notes.txt").write_text("hello")
    for path, match in ((tmp_path / "notes.txt", "not a readable DICOM file"), (tmp_path / "no.dcm", "no such file")):
        with pytest.raises(UnreadableImage, match=match):
            write_seg(tmp_path / "seg.dcm", structures(grid), [*files, path])


def test_sources_without_a_frame_of_reference_say_by_their_slices_where_it_lies(tmp_path: Path) -> None:
    files, _ = series(tmp_path / "ct")
    for file in files:
        edited(file, lambda dataset: delattr(dataset, "FrameOfReferenceUID"))
    grid = read_series(files).grid
    for name in ("a.dcm", "b.dcm"):
        write_seg(tmp_path / name, structures(grid), files)
    headers = [pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm")]
    assert headers[0].FrameOfReferenceUID == headers[1].FrameOfReferenceUID
    assert headers[0].PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    found = with_labels(seg_on_grid(read_seg(tmp_path / "a.dcm"), grid), LABELS)
    assert np.array_equal(found.array, seg_scans.voxels())
    elsewhere = structures(respace_grid(grid, (0.9, 1.2, 1.7)))
    with pytest.raises(ExportError, match="neither slices nor a frame of reference say where the segmentation lies"):
        write_seg(tmp_path / "a.dcm", elsewhere, files)


def test_what_highdicom_cannot_copy_is_our_error(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    for file in files:
        edited(file, lambda dataset: delattr(dataset, "ImageOrientationPatient"))
    with pytest.raises(ExportError, match=r"headers do not allow a derived object: got .*ImageOrientationPatient"):
        write_seg(tmp_path / "seg.dcm", structures(grid), files)


def test_sources_may_lack_what_may_be_empty(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    for file, keyword in product(files, ("PatientBirthDate", "StudyID", "StudyTime", "SliceThickness")):
        edited(file, lambda header, keyword=keyword: delattr(header, keyword))  # type: ignore[misc]
    write_seg(tmp_path / "seg.dcm", structures(grid), files)
    assert pydicom.dcmread(tmp_path / "seg.dcm").StudyID == ""


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("overlaps", [False, True])
def test_objects_are_valid(tmp_path: Path, overlaps: bool) -> None:
    files, grid = series(tmp_path / "ct")
    labels = label_set({2: "left_kidney", 7: "odd one", 300: "liver tumor"})
    segmentation = overlapping(grid) if overlaps else structures(grid, labels=labels, author="d" * 64)
    write_seg(tmp_path / "seg.dcm", segmentation, files)
    report = subprocess.run(["dciodvfy", tmp_path / "seg.dcm"], capture_output=True, text=True, check=False)
    assert report.returncode == 0
    assert "Error" not in report.stdout + report.stderr


def by_dcmqi(path: Path, folder: Path) -> dict[int, FloatArray]:
    """World positions of each segment's voxels, by segment number, as dcmqi and SimpleITK have them."""
    sitk = pytest.importorskip("SimpleITK")
    command = [str(DCMQI), "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd", "-p", "w"]
    folder.mkdir()
    subprocess.run(command, capture_output=True, check=True)
    found: dict[int, FloatArray] = {}
    for file in sorted(folder.glob("*.nrrd")):
        image = sitk.ReadImage(str(file))
        array = sitk.GetArrayFromImage(image)
        for value in np.unique(array[array > 0]).tolist():
            index = [tuple(int(n) for n in zyx[::-1]) for zyx in np.argwhere(array == value)]
            found[value] = np.array([image.TransformIndexToPhysicalPoint(ijk) for ijk in index])
    return found


@needs_dcmqi
@pytest.mark.parametrize("orientation", ["LPS", "IAR", "PSL"])
def test_dcmqi_finds_every_voxel_in_its_place(tmp_path: Path, orientation: str) -> None:
    files, grid = series(tmp_path / "ct")
    written = structures(grid)
    write_seg(tmp_path / "seg.dcm", reorient(written, orientation), files)
    found = by_dcmqi(tmp_path / "seg.dcm", tmp_path / "witness")
    assert sorted(found) == [1, 2, 3]
    for number, value in enumerate(LABELS.values, start=1):
        index = world_to_index(grid, found[number])
        np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
        assert {tuple(i) for i in np.rint(index).astype(int)} == {tuple(i) for i in np.argwhere(written.array == value)}


@needs_dcmqi
def test_dcmqi_finds_overlapping_structures(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    masks = overlapping(grid)
    write_seg(tmp_path / "seg.dcm", masks, files)
    found = by_dcmqi(tmp_path / "seg.dcm", tmp_path / "witness")
    for number, mask in enumerate(masks.array, start=1):
        index = np.rint(world_to_index(grid, found[number])).astype(int)
        assert {tuple(i) for i in index} == {tuple(i) for i in np.argwhere(mask)}


def test_grids_come_back_where_all_planes_have_voxels(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    full = replace(structures(grid), array=seg_scans.voxels(empty_planes=()))
    write_seg(tmp_path / "seg.dcm", full, files)
    assert same_space(read_seg(tmp_path / "seg.dcm").segmentation.grid, grid, 1e-4)
