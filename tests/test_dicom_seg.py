"""DICOM SEG in: every encoding, missing and shuffled frames, and every reason to refuse."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from seg_scans import edited, overlapping, series, structures, voxels

from delineate.errors import DelineateError, InconsistentSeries, LabelError, UnreadableImage
from delineate.formats.dicom_results.seg import Encoding, read_seg
from delineate.formats.dicom_results.seg_frames import DEFLATED_FRAMES
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.geometry import Grid, same_space
from delineate.volume import Array, Segmentation

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "seg"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom/seg is not there")
DCMQI, HIGHDICOM = DATA / "dcmqi" / "data", DATA / "highdicom" / "data" / "test_files"
NUMBERS = np.zeros(301, dtype=np.uint8)
NUMBERS[[2, 7, 300]] = 1, 2, 3


def written(folder: Path, *, encoding: Encoding = Encoding.BINARY) -> tuple[Path, Array, Grid]:
    """A SEG object of all planes, the array of its segment numbers, and its grid."""
    files, grid = series(folder / "ct")
    array = voxels(empty_planes=())
    write_seg(folder / "seg.dcm", Segmentation(array, grid, structures(grid).labels), files, encoding=encoding)
    return folder / "seg.dcm", NUMBERS[array] if encoding is Encoding.BINARY else array, grid


def keep_planes(path: Path, planes: list[int]) -> Path:
    """The same label map with only these planes, counted from the lowest, in this order."""
    frames = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    heights = [frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in frames]
    return keep_frames(path, [int(np.argsort(heights)[plane]) for plane in planes])


def keep_frames(path: Path, order: list[int]) -> Path:
    """The same object with only these frames, in this order."""
    dataset = pydicom.dcmread(path)
    frames, pixels = dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array
    dataset.PerFrameFunctionalGroupsSequence = [frames[n] for n in order]
    dataset.NumberOfFrames = len(order)
    if dataset.BitsAllocated == 1:
        bits = np.packbits(pixels[order].reshape(-1), bitorder="little").tobytes()
    else:
        bits = pixels[order].astype("<u2").tobytes()
    dataset.PixelData = bits + b"\0" * (len(bits) % 2)
    dataset.save_as(path)
    return path


def deflated(path: Path, frames: list[bytes]) -> Path:
    """The same object with compressed frames, in a transfer syntax that pydicom does not know."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2) for frame in frames])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    path.write_bytes(path.read_bytes().replace(JPEGLSLossless.encode(), DEFLATED_FRAMES.encode() + b"\0", 1))
    return path


def test_the_grid_and_references_are_the_series(tmp_path: Path) -> None:
    path, array, grid = written(tmp_path)
    found = read_seg(path)
    header = pydicom.dcmread(path)
    assert np.array_equal(found.segmentation.array, array)
    assert same_space(found.segmentation.grid, grid, 1e-4)
    assert found.references.frame_of_reference_uid == grid.frame_of_reference_uid
    assert found.references.series_uids == (pydicom.dcmread(tmp_path / "ct" / "slice_0001.dcm").SeriesInstanceUID,)
    assert len(found.references.instance_uids) == 6
    assert found.segmentation.source.instance_uids == (header.SOPInstanceUID,)
    assert (found.encoding, found.planes) == (Encoding.BINARY, (0, 1, 2, 3, 4, 5))


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
def test_frames_in_any_order(tmp_path: Path, encoding: Encoding) -> None:
    path, array, grid = written(tmp_path, encoding=encoding)
    count = int(pydicom.dcmread(path).NumberOfFrames)
    found = read_seg(keep_frames(path, np.random.default_rng(0).permutation(count).tolist())).segmentation
    assert np.array_equal(found.array, array)
    assert same_space(found.grid, grid, 1e-4)


@pytest.mark.parametrize("planes", [[1], [0, 5], [5, 1], [2, 3], [0, 2, 5]])
def test_planes_that_were_left_out_are_empty(tmp_path: Path, planes: list[int]) -> None:
    path, array, grid = written(tmp_path, encoding=Encoding.LABELMAP)
    found = read_seg(keep_planes(path, planes))
    low, high = min(planes), max(planes)
    expected = np.zeros_like(array)
    expected[..., planes] = array[..., planes]
    assert np.array_equal(found.segmentation.array, expected[..., low : high + 1])
    assert found.segmentation.grid.spacing_mm == pytest.approx(grid.spacing_mm)
    assert found.planes == tuple(sorted(plane - low for plane in planes))


def set_measure(keyword: str, value: object) -> Callable[[Dataset], None]:
    def edit(dataset: Dataset) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        if value is None:
            delattr(measures, keyword)
        else:
            setattr(measures, keyword, value)

    return edit


def test_three_planes_say_their_spacing_themselves(tmp_path: Path) -> None:
    path, _, grid = written(tmp_path, encoding=Encoding.LABELMAP)
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        edited(path, set_measure(keyword, None))
    assert read_seg(path).segmentation.grid.spacing_mm == pytest.approx(grid.spacing_mm)
    assert read_seg(keep_planes(path, [0, 1, 4])).planes == (0, 1, 4)


def test_a_wrong_spacing_loses_against_positions(tmp_path: Path) -> None:
    path, _, grid = written(tmp_path)
    edited(path, set_measure("SpacingBetweenSlices", -7.3))
    assert read_seg(path).segmentation.grid.spacing_mm == pytest.approx(grid.spacing_mm)


def test_one_plane_has_the_thickness_that_the_header_says(tmp_path: Path) -> None:
    path = keep_planes(written(tmp_path, encoding=Encoding.LABELMAP)[0], [3])
    edited(path, set_measure("SpacingBetweenSlices", None))
    edited(path, set_measure("SliceThickness", 4))
    assert read_seg(path).segmentation.grid.spacing_mm[2] == pytest.approx(4)
    edited(path, set_measure("SliceThickness", None))
    with pytest.raises(InconsistentSeries, match="one plane without a spacing or thickness is no volume"):
        read_seg(path)


def test_two_planes_far_apart_confirm_nothing(tmp_path: Path) -> None:
    path = keep_planes(written(tmp_path, encoding=Encoding.LABELMAP)[0], [1, 4])
    edited(path, set_measure("SpacingBetweenSlices", None))
    with pytest.raises(InconsistentSeries, match=r"two planes have one gap, which nothing confirms.*gaps of 7\.5 mm"):
        read_seg(path)


def fractional(path: Path, values: Array, *, highest: int = 200, kind: str = "PROBABILITY") -> Path:
    """The object as a fractional one of a single segment with the given stored values (planes, rows, columns)."""
    dataset = pydicom.dcmread(path)
    frames = list(dataset.PerFrameFunctionalGroupsSequence)[: len(values)]
    frames.sort(key=lambda frame: frame.PlanePositionSequence[0].ImagePositionPatient[2])
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", highest
    dataset.SegmentationFractionalType = kind
    dataset.SegmentSequence = dataset.SegmentSequence[:1]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(values)
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = values.astype(np.uint8).tobytes()
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
@pytest.mark.parametrize(("threshold", "lowest"), [(0.5, 100), (0.25, 50), (1.0, 200), (0.001, 1)])
def test_fractions_get_a_threshold(tmp_path: Path, kind: str, threshold: float, lowest: int) -> None:
    values = np.random.default_rng(3).integers(0, 201, (6, 7, 9))
    path = fractional(written(tmp_path)[0], values, kind=kind)
    found = read_seg(path, threshold=threshold)
    assert found.encoding is Encoding.FRACTIONAL
    assert np.array_equal(found.segmentation.array.transpose(2, 1, 0) == 1, values >= lowest)


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_a_programmers_mistake(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ValueError, match="a threshold is above 0 and at most 1"):
        read_seg(tmp_path / "none.dcm", threshold=threshold)


def test_overlap_is_found_whatever_the_header_says(tmp_path: Path) -> None:
    files, grid = series(tmp_path / "ct")
    masks = overlapping(grid)
    write_seg(tmp_path / "seg.dcm", masks, files)
    found = read_seg(edited(tmp_path / "seg.dcm", lambda d: setattr(d, "SegmentsOverlap", "NO"))).segmentation
    assert found.labels.overlaps
    assert np.array_equal(found.array, masks.array)


def test_label_map_padding_is_background(tmp_path: Path) -> None:
    path, array, _ = written(tmp_path, encoding=Encoding.LABELMAP)
    edited(path, lambda d: setattr(d, "PixelPaddingValue", 7))
    found = read_seg(path).segmentation
    assert np.array_equal(found.array, np.where(array == 7, 0, array))
    assert found.labels.values == (2, 300)


def test_segments_that_are_not_described_are_refused(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path, encoding=Encoding.LABELMAP)
    edited(path, lambda d: d.SegmentSequence.pop())
    with pytest.raises(LabelError, match=r"voxels of segments that are not described: .* got \[300\]"):
        read_seg(path)
    path, _, _ = written(tmp_path)
    edited(path, lambda d: d.SegmentSequence.pop(1))
    with pytest.raises(LabelError, match=r"frames of segments that are not described: expected \[1, 3\], got \[2\]"):
        read_seg(path)


def test_a_structure_with_number_0_is_refused(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path, encoding=Encoding.LABELMAP)

    def edit(dataset: Dataset) -> None:
        del dataset.PixelPaddingValue
        dataset.SegmentSequence[0].SegmentLabel = "air"
        dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "15825003"

    with pytest.raises(LabelError, match="segment number 0 is a structure"):
        read_seg(edited(path, edit))


def test_equal_names_get_their_numbers(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)
    for n in (1, 2):
        edited(path, lambda d, n=n: setattr(d.SegmentSequence[n], "SegmentLabel", "lesion"))  # type: ignore[misc]
    assert read_seg(path).segmentation.labels.names == ("left_kidney", "lesion #2", "lesion #3")


def test_a_missing_colour_and_code_do_no_harm(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path)

    def edit(dataset: Dataset) -> None:
        del dataset.SegmentSequence[0].RecommendedDisplayCIELabValue
        del dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
        del dataset.SegmentSequence[0].SegmentLabel

    label = read_seg(edited(path, edit)).segmentation.labels.labels[0]
    assert (label.name, label.code) == ("segment 1", None)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_transfer_syntaxes(tmp_path: Path, syntax: UID) -> None:
    path, array, _ = written(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    assert np.array_equal(read_seg(path).segmentation.array, array)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_label_maps(tmp_path: Path, syntax: str) -> None:
    path, array, _ = written(tmp_path, encoding=Encoding.LABELMAP)
    edited(path, lambda dataset: dataset.compress(syntax))
    assert np.array_equal(read_seg(path).segmentation.array, array)


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
def test_deflated_frames(tmp_path: Path, encoding: Encoding) -> None:
    path, array, _ = written(tmp_path, encoding=encoding)
    frames = pydicom.dcmread(path).pixel_array
    packed = [np.packbits(f, bitorder="little") if encoding is Encoding.BINARY else f.astype("<u2") for f in frames]
    deflate = [zlib.compressobj(wbits=-15) for _ in packed]
    data = [c.compress(f.tobytes()) + c.flush() for c, f in zip(deflate, packed, strict=True)]
    assert np.array_equal(read_seg(deflated(path, data)).segmentation.array, array)


def frame(n: int, sequence: str, keyword: str, value: object) -> Callable[[Dataset], None]:
    """Give one frame a functional group macro of its own with this value."""

    def edit(dataset: Dataset) -> None:
        group = dataset.PerFrameFunctionalGroupsSequence[n]
        shared = dataset.SharedFunctionalGroupsSequence[0]
        macro = Dataset()
        macro.update(group[sequence][0] if sequence in group else shared[sequence][0])
        setattr(macro, keyword, value)
        setattr(group, sequence, [macro])

    return edit


BROKEN: list[tuple[Callable[[Dataset], object], type[DelineateError], str]] = [
    (lambda d: delattr(d, "PixelData"), UnreadableImage, "without pixel data"),
    (lambda d: setattr(d, "PixelData", d.PixelData[:-10]), UnreadableImage, "pixel data is cut off: expected"),
    (lambda d: setattr(d, "Columns", 8), UnreadableImage, "more pixel data than the header describes: expected"),
    (lambda d: setattr(d, "Rows", 60000), UnreadableImage, "pixel data is cut off"),
    (lambda d: setattr(d, "Rows", 0), UnreadableImage, "without Rows and Columns"),
    (lambda d: setattr(d, "BitsAllocated", 32), UnreadableImage, "pixels of an unsupported kind"),
    (lambda d: setattr(d, "NumberOfFrames", 2), UnreadableImage, "frames and their descriptions differ: expected 2"),
    (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), UnreadableImage, "frames and their descriptions"),
    (lambda d: delattr(d, "SegmentSequence"), UnreadableImage, "does not describe its segments"),
    (lambda d: setattr(d, "SegmentationType", "SURFACE"), UnreadableImage, "unknown SegmentationType.*got SURFACE"),
    (lambda d: setattr(d, "SegmentationType", "FRACTIONAL"), UnreadableImage, "without MaximumFractionalValue"),
    (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), UnreadableImage, "not a DICOM segmentation"),
    (lambda d: setattr(d.SegmentSequence[1], "SegmentNumber", 1), LabelError, "numbers or labels occur twice"),
    (lambda d: setattr(d, "DimensionOrganizationType", "TILED_FULL"), InconsistentSeries, "whole-slide image"),
    (
        frame(2, "PlanePositionSequence", "ImagePositionPatient", [0, 0, 1e30]),
        InconsistentSeries,
        "frame 3 lies at an impossible place",
    ),
    (
        frame(0, "PlanePositionSequence", "ImagePositionPatient", [0, 0, 90000]),
        InconsistentSeries,
        "frames too far apart for their spacing|not evenly spaced",
    ),
    (
        frame(1, "PlanePositionSequence", "ImagePositionPatient", [-31.5, 14.5, 209.75]),
        InconsistentSeries,
        "not evenly spaced on one line",
    ),
    (
        frame(1, "PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]),
        InconsistentSeries,
        "mixed orientations: .* in frame 2",
    ),
    (
        frame(1, "PlaneOrientationSequence", "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        InconsistentSeries,
        "frame 2 lies at an impossible place",
    ),
    (frame(3, "PixelMeasuresSequence", "PixelSpacing", [1.2, 0.8]), InconsistentSeries, "mixed pixel spacings"),
    (frame(3, "PixelMeasuresSequence", "PixelSpacing", [0, 0]), InconsistentSeries, "impossible place"),
    (
        lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"),
        InconsistentSeries,
        "frame 1 has no usable PixelSpacing",
    ),
    (
        frame(0, "SegmentIdentificationSequence", "ReferencedSegmentNumber", 2),
        InconsistentSeries,
        "two frames of one segment at one position",
    ),
    (
        lambda d: delattr(d.PerFrameFunctionalGroupsSequence[4], "SegmentIdentificationSequence"),
        UnreadableImage,
        "frame 5 does not name its segment",
    ),
]


@pytest.mark.parametrize(("edit", "kind", "match"), BROKEN)
def test_what_is_broken_is_refused(
    tmp_path: Path, edit: Callable[[Dataset], object], kind: type[DelineateError], match: str
) -> None:
    path, _, _ = written(tmp_path)
    with pytest.raises(kind, match=match):
        read_seg(edited(path, edit))


def test_what_is_no_file_or_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnreadableImage, match="not a readable DICOM file"):
        read_seg(tmp_path / "notes.txt")
    with pytest.raises(UnreadableImage, match="no such file"):
        read_seg(tmp_path / "none.dcm")


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
def test_truncated_files_end_in_our_errors(tmp_path: Path, encoding: Encoding) -> None:
    path, _, _ = written(tmp_path, encoding=encoding)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 211):
        path.write_bytes(whole[:size])
        with pytest.raises(DelineateError):
            read_seg(path)


@pytest.mark.parametrize("encoding", [Encoding.BINARY, Encoding.LABELMAP])
def test_damaged_files_end_in_our_errors_or_a_segmentation(tmp_path: Path, encoding: Encoding) -> None:
    path, _, _ = written(tmp_path, encoding=encoding)
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    for _ in range(60):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[rng.integers(132, len(whole), 8)] = rng.integers(0, 256, 8)
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(DelineateError):
            assert read_seg(path).segmentation.array.size < 10**7


def nrrd_voxels(name: str, *values: int) -> tuple[Array, Array]:
    """Mask and LPS affine of label values in one of dcmqi's sources."""
    nrrd = pytest.importorskip("nrrd")
    array, header = nrrd.read(str(DCMQI / "segmentations" / name))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.asarray(header["space directions"]).T, header["space origin"]
    return np.isin(array, values), affine


@needs_data
@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("liver.dcm", {"Liver": ("liver_seg.nrrd", 1)}),
        ("23x38x3/seg/label.seg", {"Liver": ("23x38x3/nrrd/label.nrrd", 1)}),
        ("24x38x3/seg/label.seg", {"Liver": ("24x38x3/nrrd/label.nrrd", 1)}),
        ("sparse-labelmap-noppv.dcm", {"Liver": ("sparse_labelmap_noppv_seg.nrrd", 1)}),
        ("sparse-labelmap-ppv5.dcm", {"Liver": ("sparse_labelmap_ppv5_seg.nrrd", 1)}),
        (
            "partial_overlaps.dcm",
            {
                "GREEN": ("partial_overlaps-1.nrrd", 1),
                "ORANGE": ("partial_overlaps-2.nrrd", 2),
                "PURPLE": ("partial_overlaps-3.nrrd", 3),
                "LIGHT_BLUE": ("partial_overlaps-1.nrrd", 4),
                "DARK_BLUE": ("partial_overlaps-1.nrrd", 5),
            },
        ),
    ],
)
def test_dcmqi_objects_equal_their_sources(name: str, sources: dict[str, tuple[str, int]]) -> None:
    found = read_seg(DCMQI / "segmentations" / name).segmentation
    assert set(found.labels.names) == set(sources)
    for label, (source, value) in sources.items():
        mask, affine = nrrd_voxels(source, value)
        assert np.array_equal(found.mask(label), mask)
        np.testing.assert_allclose(found.grid.affine, affine, atol=1e-3)


@needs_data
@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [
        ("seg_image_ct_binary.dcm", (16, 16, 3), [638]),
        ("seg_image_ct_binary_fractional.dcm", (16, 16, 3), [638]),
        ("seg_image_ct_true_fractional.dcm", (16, 16, 3), [638]),
        ("seg_image_ct_binary_overlap.dcm", (16, 16, 165), [64, 16]),
        ("seg_image_ct_binary_single_frame.dcm", (128, 128, 1), [1832]),
    ],
)
def test_highdicom_objects_equal_highdicom(name: str, shape: tuple[int, int, int], counts: list[int]) -> None:
    import highdicom as hd

    found = read_seg(HIGHDICOM / name).segmentation
    volume = hd.seg.segread(HIGHDICOM / name).get_volume(rescale_fractional=True)
    assert found.grid.shape == shape
    assert [np.count_nonzero(found.mask(label)) for label in found.labels.names] == counts
    # highdicom's array is (planes, rows, columns, segments), its affine for these axes.
    theirs = (volume.array >= 0.5).reshape(*volume.array.shape[:3], -1)
    affine = volume.affine[:, [2, 1, 0, 3]]
    flipped = volume.affine[:3, 0] @ found.grid.affine[:3, 2] < 0
    if flipped:
        affine[:3, 3] += affine[:3, 2] * (len(theirs) - 1)
        affine[:3, 2] *= -1
    ordered = (theirs[::-1] if flipped else theirs).transpose(3, 2, 1, 0)
    assert all(np.array_equal(found.mask(n), mask) for n, mask in zip(found.labels.names, ordered, strict=True))
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-3)


REFUSED = {
    "seg_image_cr_binary.dcm": "does not say where it lies in the patient",
    "seg_image_sm_control.dcm": "whole-slide image",
    "seg_image_sm_control_labelmap.dcm": "whole-slide image",
    "seg_image_sm_control_labelmap_palette_color.dcm": "whole-slide image",
    "seg_image_sm_dots.dcm": "whole-slide image",
    "seg_image_sm_dots_tiled_full.dcm": "whole-slide image",
    "seg_image_sm_numbers.dcm": "whole-slide image",
}


@needs_data
@pytest.mark.parametrize(("name", "match"), REFUSED.items())
def test_objects_without_a_place_in_a_patient_are_refused(name: str, match: str) -> None:
    with pytest.raises(InconsistentSeries, match=match):
        read_seg(HIGHDICOM / name)


@needs_data
@pytest.mark.parametrize("name", ["ct_image.dcm", "sr_document.dcm", "sm_annotations.dcm", "sm_image.dcm"])
def test_other_objects_are_refused(name: str) -> None:
    with pytest.raises(UnreadableImage, match="not a DICOM segmentation: expected a SEG object, got"):
        read_seg(HIGHDICOM / name)
