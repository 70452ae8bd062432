"""Every real DICOM file accounted for once, with the right reason, and every volume against two other readers."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from test_formats import REFERENCES

from delineate import formats
from delineate.errors import InconsistentSeries, UnreadableImage
from delineate.formats import Repair, nifti
from delineate.formats.dicom.instances import read_instance
from delineate.formats.dicom.pixels import read_stack
from delineate.formats.dicom.series import dicom_files
from delineate.formats.dicom.stacks import sort_out
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.structure_sets import labels_from
from delineate.geometry import Grid, compose_affine, index_to_world, largest_distance_mm
from delineate.reports.tables import SeriesRow
from delineate.settings import Settings
from delineate.volume import Array, Volume, reorient
from delineate.workflow.scan_reports import FileCounts, ScanReport
from delineate.workflow.scanning import scan

DATA = (Path(__file__).parents[2] / "shared" / "data").resolve()  # as a scan names its files
DICOM, SARCOMA = DATA / "dicom", DATA / "sarcoma"
needs_dicom = pytest.mark.skipif(not DICOM.is_dir(), reason="shared/data/dicom is not there")
needs_sarcoma = pytest.mark.skipif(not SARCOMA.is_dir(), reason="shared/data/sarcoma is not there")

SEG, RTSTRUCT = "skip 1/0: labels, no scan: SEG", "skip 1/0: labels, no scan: RTSTRUCT"
SLIDE = "skip 1/0: no CT, MR or PET: SM"
FEW = "too few slices for a volume: 2"

# What `said` says of each row, or how that begins: action, files/slices, the volume's name: the reason.
SAID = {
    "rtstruct/rt-utils/tests/empty": [RTSTRUCT],
    "rtstruct/rt-utils/tests/mock_data": [RTSTRUCT, "skip 2/0: labels, no scan: RTSTRUCT", f"skip 2/2: {FEW}"],
    "rtstruct/rt-utils/tests/one_slice_data": ["skip 1/1: a single slice is no volume"],
    "rtstruct/rt-utils/tests/oriented_data": ["skip 1/1: a single slice is no volume"] * 3,
    "seg/dcmqi/data/segmentations": [
        SEG,
        "skip 2/0: labels, no scan: SEG",
        "read 3/3: ",
        "read 1/3: ",
        SEG,
        "read 3/3: ",
        "read 1/3: ",
        SEG,
        "read 3/3: ",
        SEG,
    ],
    "seg/dcmqi/data/segmentations/23x38x3/image": ["read 3/3: "],
    "seg/dcmqi/data/segmentations/23x38x3/multiframe": ["read 1/3: "],
    "seg/dcmqi/data/segmentations/23x38x3/seg": [SEG],
    "seg/dcmqi/data/segmentations/24x38x3/image": ["read 3/3: "],
    "seg/dcmqi/data/segmentations/24x38x3/multiframe": ["read 1/3: "],
    "seg/dcmqi/data/segmentations/24x38x3/seg": [SEG],
    "seg/dcmqi/data/segmentations/ct-3slice": ["read 3/3: "],
    "seg/dcmqi/data/sr-example": [
        "skip 1/0: the file holds no image: RWV",
        SEG,
        "skip 1/0: the file holds no image: SR",
    ],
    "seg/highdicom/data/test_files": [
        "skip 1/0: no CT, MR or PET: DX",
        "skip 1/0: the file holds no image: SR",
        "skip 1/1: a single slice is no volume",
        "skip 1/0: the file holds no image: SR",
        *[SEG] * 6,
        *[SLIDE] * 2,
        "skip 2/0: no CT, MR or PET: SM",
        *[SLIDE] * 2,
        "skip 2/0: no CT, MR or PET: SM",
        *[SEG] * 4,
        "skip 1/0: the file holds no image: ANN",
        *[SEG] * 2,
    ],
    "series/failing/gantrytilting/001": ["straighten 4/4: "],
    "series/failing/notavolume/001": ["skip 4/4: images of one position are no volume: 4 in 001.dcm, 002.dcm, 003.dcm"],
    "series/failing/slicecount/001": [f"skip 2/2: {FEW}"],
    "series/failing/sliceincrement/001": [
        "refuse 4/4: 1 slice(s) missing: 10.000 mm between IM-0001-0009-0001.dcm (-123.50, -115.20, 28.11)"
    ],
    "series/failing/sliceorientation/001": [
        f"skip 2/2 sagittal, pixels of 0.32 x 0.32 mm: {FEW}",
        f"skip 2/2 axial, pixels of 0.555556 x 0.555556 mm: {FEW}",
    ],
    "series/ge/anatomical/001": ["read 4/4: "],
    "series/ge/anatomical/001_implicit": ["read 4/4: "],
    "series/ge/anatomical/001_single_slice": ["skip 1/1: a single slice is no volume"],
    "series/generic/anatomical/001": ["read 4/4: "],
    "series/generic/anatomical/001_implicit": ["read 4/4: "],
    "series/generic/anatomical/002_non_isotropic": ["read 4/4: "],
    "series/generic/compressed/001": ["read 4/4: "],
    "series/generic/compressed_j2k/001": ["read 4/4: "],
    "series/generic/compressed_jpeg/001": ["read 4/4: "],
    "series/generic/compressed_jpegls/001": ["read 4/4: "],
    "series/generic/compressed_rle/001": ["read 4/4: "],
    "series/generic/rgb/001": ["skip 4/0: not a greyscale image: RGB, 3 sample(s) a pixel"],
    "series/hyperfine/anatomical/001": ["read 1/8: "],
    "series/philips_enhanced/anatomical/001": ["read 1/8: "],
    "series/philips_enhanced/anatomical/001_implicit": ["read 1/8: "],
    "series/siemens/anatomical/001": ["read 4/4: "],
    "series/siemens/anatomical/001_implicit": ["read 4/4: "],
    "tilt_ge": [
        "refuse 28/28: unevenly spaced slices: 22.784 mm at 15.dcm (-125.00, -123.54, 61.84); "
        "6.999 mm between 24.dcm (-125.00, -123.54, 128.26) and 25.dcm (-125.00, -123.54, 135.64); tilted by 18.50 "
    ],
    "transfer_syntaxes": [
        "skip 1/0: the file holds no image: SR",
        f"skip 1/2: {FEW}",
        "skip 1/0: no CT, MR or PET: US",
        "skip 1/1: a single slice is no volume",
        "skip 7/7: images of one position are no volume: 7 in CTImage.dcm, CTImage.dcm_JPEG2000TransferSyntax",
        "skip 1/1: a single slice is no volume",
    ],
}

NO_VOLUME = {
    "series/failing/slicecount/001": "two slices",
    "series/ge/anatomical/001_single_slice": "one slice",
    "series/generic/rgb/001": "colour",
    "series/sirona_multiframe/anatomical/001": "its DICOM file is not in the collection",
}


def said(row: SeriesRow) -> str:
    return f"{row.action} {len(row.files)}/{row.slices}{f' {row.volume}' if row.volume else ''}: {row.problem}"


def scanned(tree: Path, cache: Path, repair: Repair = Repair.STRAIGHTEN) -> ScanReport:
    return scan(tree, settings=Settings("cpu", 1, 2**30, cache), repair=repair)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ScanReport:
    return scanned(DICOM, tmp_path_factory.mktemp("cache"))


# Every file once


@needs_dicom
@pytest.mark.parametrize("folder", SAID)
def test_each_folder_by_itself(folder: str, tmp_path: Path) -> None:
    report = scanned(DICOM / folder, tmp_path)
    rows = [said(row) for row in report.rows]
    assert len(rows) == len(SAID[folder])
    assert [row[: len(start)] for row, start in zip(rows, SAID[folder], strict=True)] == SAID[folder]
    listed = [name for row in report.rows for name in (*row.files, *row.copies)]
    assert Counter(listed) == Counter(p.relative_to(DICOM / folder).as_posix() for p in dicom_files(DICOM / folder))
    assert report.unreadable == ()


@needs_dicom
def test_no_folder_is_left_out() -> None:
    assert {path.parent.relative_to(DICOM).as_posix() for path in dicom_files(DICOM)} == set(SAID)


@needs_dicom
def test_all_folders_as_one_tree(whole: ScanReport) -> None:
    assert whole.files == FileCounts(read=46, straighten=4, skip=67, refuse=32, copies=29, not_dicom=66)
    assert whole.kinds == (
        (".nii.gz", 38),
        (".nrrd", 13),
        (".py", 5),
        ("without suffix", 5),
        (".jpeg", 2),
        (".txt", 2),
        (".md", 1),
    )
    assert Counter(row.action for row in whole.rows) == {"read": 16, "straighten": 1, "refuse": 2, "skip": 47}
    assert sum(1 for path in DICOM.rglob("*") if path.is_file()) == whole.files.total


@needs_dicom
def test_one_bad_series_ends_no_search(whole: ScanReport) -> None:
    found = Counter(stack.action.value for stack in formats.find_series(DICOM) if stack.slices)
    assert found == Counter(row.action for row in whole.rows if row.slices)


@needs_dicom
def test_copies_in_other_folders_are_said_with_their_folders(whole: ScanReport) -> None:
    kept = {row.files[0].rpartition("/")[0]: row for row in whole.rows if row.copies}
    folders = {name: {copy.rpartition("/")[0] for copy in row.copies} for name, row in kept.items()}
    generic = {f"series/generic/compressed_{codec}/001" for codec in ("j2k", "jpeg", "jpegls", "rle")}
    assert folders == {
        "rtstruct/rt-utils/tests/one_slice_data": {"rtstruct/rt-utils/tests/oriented_data"},
        "series/failing/slicecount/001": {"series/generic/anatomical/001"},
        "series/ge/anatomical/001_implicit": {"series/ge/anatomical/001_single_slice"},
        "series/generic/compressed/001": generic,
        "transfer_syntaxes": {"transfer_syntaxes"},
    }
    single = kept["series/ge/anatomical/001_implicit"]
    name = "IM-0001-0112-0001.dcm"
    assert single.notes == (f"dropped 001_single_slice/{name}: a copy of 001_implicit/{name}",)


@needs_dicom
@pytest.mark.parametrize(
    ("repair", "counts"),
    [(Repair.NONE, {"read": 16, "refuse": 3}), (Repair.INTERPOLATE, {"read": 16, "straighten": 1, "interpolate": 2})],
)
def test_repair_changes_three_series(repair: Repair, counts: dict[str, int], tmp_path: Path) -> None:
    assert Counter(row.action for row in scanned(DICOM, tmp_path, repair).rows) == {**counts, "skip": 47}


@needs_sarcoma
def test_all_patients_as_one_tree(tmp_path: Path) -> None:
    report = scanned(SARCOMA, tmp_path)
    assert report.files == FileCounts(read=1450, skip=30, not_dicom=13)
    kinds = Counter((row.modality, row.action, row.problem) for row in report.rows)
    labels = ("RTSTRUCT", "skip", "labels, no scan: RTSTRUCT")
    assert kinds == {("CT", "read", ""): 10, ("MR", "read", ""): 10, ("PT", "read", ""): 10, labels: 30}
    assert {row.notes for row in report.rows if row.modality == "PT"} == {("SUV by BW as stored (Units GML)",)}
    assert all(reference.found for row in report.rows for reference in row.refers_to)
    assert report.sound


SLIDES = "whole-slide image"
OBJECTS = {
    "rtstruct/rt-utils/tests/empty/dummy_rt.dcm": 4,
    "rtstruct/rt-utils/tests/mock_data/invalid_reference_rt.dcm": 4,
    "rtstruct/rt-utils/tests/mock_data/non_existent_reference_rt.dcm": 4,
    "rtstruct/rt-utils/tests/mock_data/rt.dcm": 1,
    "seg/dcmqi/data/segmentations/23x38x3/seg/label.seg": 1,
    "seg/dcmqi/data/segmentations/24x38x3/seg/label.seg": 1,
    "seg/dcmqi/data/segmentations/liver.dcm": 1,
    "seg/dcmqi/data/segmentations/partial_overlaps.dcm": 5,
    "seg/dcmqi/data/segmentations/sparse-labelmap-noppv.dcm": 1,
    "seg/dcmqi/data/segmentations/sparse-labelmap-ppv5.dcm": 1,
    "seg/dcmqi/data/sr-example/seg.dcm": 1,
    "seg/highdicom/data/test_files/seg_image_cr_binary.dcm": "does not say where it lies in the patient",
    "seg/highdicom/data/test_files/seg_image_ct_binary.dcm": 1,
    "seg/highdicom/data/test_files/seg_image_ct_binary_fractional.dcm": 1,
    "seg/highdicom/data/test_files/seg_image_ct_binary_overlap.dcm": 2,
    "seg/highdicom/data/test_files/seg_image_ct_binary_single_frame.dcm": 1,
    "seg/highdicom/data/test_files/seg_image_ct_true_fractional.dcm": 1,
    "seg/highdicom/data/test_files/seg_image_sm_control.dcm": SLIDES,
    "seg/highdicom/data/test_files/seg_image_sm_control_labelmap.dcm": SLIDES,
    "seg/highdicom/data/test_files/seg_image_sm_control_labelmap_palette_color.dcm": SLIDES,
    "seg/highdicom/data/test_files/seg_image_sm_dots.dcm": SLIDES,
    "seg/highdicom/data/test_files/seg_image_sm_dots_tiled_full.dcm": SLIDES,
    "seg/highdicom/data/test_files/seg_image_sm_numbers.dcm": SLIDES,
}


@needs_dicom
def test_every_object_is_found(whole: ScanReport) -> None:
    assert {found.path.relative_to(DICOM).as_posix() for found in whole.objects()} == set(OBJECTS)


@needs_dicom
@pytest.mark.parametrize(("name", "expected"), OBJECTS.items())
def test_objects_are_read_as_labels_or_refused(name: str, expected: int | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(InconsistentSeries, match=expected):
            read_seg(DICOM / name)
    elif name.startswith("rtstruct"):
        assert len(read_rtstruct(DICOM / name).rois) == expected
    else:
        assert len(read_seg(DICOM / name).segmentation.labels) == expected


# Every volume against others


@needs_dicom
def test_every_ground_truth_is_compared_or_has_none_to_compare() -> None:
    end = "_ground_truth.nii.gz"
    there = {path.relative_to(DICOM).as_posix().removesuffix(end) for path in DICOM.rglob(f"*{end}")}
    assert there == {f"series/{name}" for name in REFERENCES} | set(NO_VOLUME)


PLAIN = sorted(
    f"dicom/{folder}"
    for folder, rows in SAID.items()
    if rows[0].startswith("read") and folder != "seg/dcmqi/data/segmentations"
)
PATIENTS = sorted(path.name for path in SARCOMA.glob("STS_???")) if SARCOMA.is_dir() else []
SCANS = [f"sarcoma/{patient}/{kind}/image" for patient in PATIENTS for kind in ("CT", "MR_T1", "PET")]


@cache
def ours(folder: str) -> Volume:
    return reorient(formats.read_volume(DATA / folder), "LPS")


def seen_by_simpleitk(folder: Path) -> Volume:
    itk = pytest.importorskip("SimpleITK")
    files = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    # A list of one multi-frame file would become four-dimensional.
    image = itk.ReadImage(files if len(files) > 1 else files[0])
    linear = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    array = itk.GetArrayFromImage(image).transpose(2, 1, 0)
    return reorient(Volume(array[np.newaxis], Grid(array.shape, compose_affine(linear, image.GetOrigin()))), "LPS")


def seen_by_dcm2niix(folder: Path, out: Path, ending: str = "") -> Volume:
    program = pytest.importorskip("dcm2niix").bin
    call = [program, "-z", "n", "-b", "n", "-f", "scan", "-o", str(out), str(folder)]
    subprocess.run(call, capture_output=True, check=True)
    return reorient(formats.read_volume(out / f"scan{ending}.nii"), "LPS")


def assert_equal_values(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    if found.dtype.kind in "iu":
        assert np.array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning")
@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not there")
@pytest.mark.parametrize("folder", [*PLAIN, *SCANS])
def test_simpleitk_agrees(folder: str) -> None:
    theirs = seen_by_simpleitk(DATA / folder)
    assert largest_distance_mm(ours(folder).grid, theirs.grid) < 1e-3
    assert_equal_values(ours(folder).array, theirs.array)


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not there")
@pytest.mark.parametrize("folder", [*PLAIN, *SCANS])
def test_dcm2niix_agrees(folder: str, tmp_path: Path) -> None:
    volume, theirs = ours(folder), seen_by_dcm2niix(DATA / folder, tmp_path)
    # It takes the step between slices from two positions in 32 bits, and the error adds up over the stack.
    ends = index_to_world(volume.grid, np.outer((0, 1), np.subtract(volume.grid.shape, 1)))
    rounding = float(np.spacing(np.float32(np.abs(ends).max())))
    assert largest_distance_mm(volume.grid, theirs.grid) < 1e-4 + rounding * max(volume.grid.shape[::2])
    if "philips" in folder:
        # It divides by Philips' private scale slope: floating-point values instead of displayed ones.
        ratio = theirs.array[volume.array > 0] / volume.array[volume.array > 0]
        assert ratio.max() / ratio.min() == pytest.approx(1, abs=1e-6)
        return
    assert_equal_values(volume.array, theirs.array)


@needs_dicom
def test_dcm2niix_straightens_a_tilted_gantry_like_this(tmp_path: Path) -> None:
    folder = "dicom/series/failing/gantrytilting/001"
    theirs = seen_by_dcm2niix(DATA / folder, tmp_path, "_Tilt_1")
    assert largest_distance_mm(ours(folder).grid, theirs.grid) < 1e-3
    assert np.array_equal(ours(folder).array, theirs.array)


@needs_dicom
def test_a_missing_slice_is_halfway_between_its_neighbours_and_the_others_stay() -> None:
    (stack,) = formats.find_series(DICOM / "series/failing/sliceincrement/001", repair=Repair.INTERPOLATE)
    source, found = read_stack(stack.slices), formats.read_series(stack).array[0]
    assert np.array_equal(found[:, :, [0, 1, 2, 4]], source)
    assert np.abs(found[:, :, 3] - (source[:, :, 2].astype(float) + source[:, :, 3]) / 2).max() <= 0.5


# Lossy and lossless

LOSSLESS = ("LittleEndian", "BigEndian", "Deflated", "LosslessOnly", "LSLossless", "RLE", "Process14")
TRANSFER = sorted((DICOM / "transfer_syntaxes").glob("CT*")) if DICOM.is_dir() else []
UNSUPPORTED = ("Process6_8", "Process10_12")
LOSSY = [p for p in TRANSFER if "_1.2" in p.name and not any(word in p.name for word in (*LOSSLESS, *UNSUPPORTED))] + [
    p for p in TRANSFER if "fragmented" in p.name
]


@needs_dicom
@pytest.mark.parametrize("path", LOSSY, ids=lambda path: path.name[-24:])
def test_lossy_images_are_marked_and_decoded_like_by_gdcm(path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    slices = read_instance(path).slices
    assert all(s.storage.lossy for s in slices)
    theirs = np.reshape(itk.GetArrayFromImage(itk.ReadImage(str(path))), (-1, slices[0].rows, slices[0].columns))
    # Decoders round the cosine transform differently, by one stored step.
    assert np.abs(read_stack(slices) - theirs.transpose(2, 1, 0)).max() <= slices[0].slope * 1.001


@needs_dicom
@pytest.mark.parametrize("word", UNSUPPORTED)
def test_retired_transfer_syntaxes_are_refused_with_a_way_out(word: str) -> None:
    (path,) = [path for path in TRANSFER if word in path.name]
    with pytest.raises(UnreadableImage, match=r"unsupported transfer syntax: got JPEG .*dcmdjpeg"):
        read_stack(read_instance(path).slices)


@needs_dicom
def test_lossless_copies_of_one_instance_are_dropped_and_lossy_ones_are_other_images() -> None:
    files = [path for path in TRANSFER if path.name.startswith("CTImage")]
    (stack,) = sort_out([read_instance(path) for path in files])
    assert len(stack.slices) == len(files) - 9
    assert sum(note.endswith("a copy of CTImage.dcm") for note in stack.notes) == 9
    assert sorted(s.storage.lossy for s in stack.slices) == [False, *[True] * 6]


# Contours


@needs_sarcoma
@pytest.mark.skipif(shutil.which("plastimatch") is None, reason="plastimatch is not installed")
@pytest.mark.parametrize("folder", SCANS)
def test_plastimatch_fills_the_same_voxels(folder: str, tmp_path: Path) -> None:
    path = (DATA / folder).with_name("mask") / "RS.dcm"
    grid = formats.read_grid(DATA / folder)
    found = labels_from(read_rtstruct(path), grid).segmentation
    call = ["plastimatch", "convert", "--input", str(path), "--referenced-ct", str(DATA / folder)]
    subprocess.run([*call, "--output-prefix", str(tmp_path), "--prefix-format", "nii"], capture_output=True, check=True)
    (name,) = found.labels.names
    theirs, place = nifti.read_label_values(tmp_path / f"{name}.nii")
    assert largest_distance_mm(grid, place) < 1e-3
    assert found.mask(name).any()
    assert np.array_equal(found.mask(name), theirs > 0)
