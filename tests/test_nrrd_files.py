import contextlib
import gzip
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK
from anatomy import oblique_grid

from delineate.errors import ExportError, GeometryMismatch, InputError, LabelError, UnreadableImage
from delineate.formats.nrrd_files import is_nrrd_name, read_nrrd, read_nrrd_volume, write_nrrd, write_nrrd_mask
from delineate.geometry import ORIENTATIONS, Grid, compose_affine
from delineate.labels import Code, Label, LabelSet, label_set
from delineate.volume import Segmentation, reorient

SHAPE = (6, 5, 4)
GRID = oblique_grid(SHAPE)
SHEARED = Grid(SHAPE, compose_affine([[1.2, 0.3, 0.4], [-0.2, 0.8, 0.1], [0.3, -0.1, 2.5]], (-80, 40, 900)))
LABELS = LabelSet(
    (
        Label(2, "Niere, rechts: größer\\x\n=", (255, 0, 10), Code("64033007", "SCT", "Kidney")),
        Label(7, "tumour", (1, 128, 3)),
        Label(9, "absent", (9, 9, 9)),
    )
)
MAP = np.random.default_rng(3).choice(np.array([0, 2, 7], np.uint8), SHAPE)
VALUES = np.random.default_rng(4).integers(-900, 900, SHAPE).astype("<i2")
DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "seg"


def segmented(grid: Grid = GRID) -> Segmentation:
    return Segmentation(MAP, grid, LABELS)


def overlapping() -> Segmentation:
    masks = np.stack([MAP > 0, MAP == 7, np.zeros(SHAPE, bool)])
    return Segmentation(masks, GRID, replace(LABELS, overlaps=True))


def header(**changes: str | None) -> dict[str, str]:
    """The fields of a plain file; a field that is None is left out."""
    fields: dict[str, str | None] = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "6 5 4",
        "space directions": "(0.9,0,0) (0,1.2,0) (0,0,2.5)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(1,2,3)",
    }
    fields |= {name.replace("_", " "): value for name, value in changes.items()}
    return {name: value for name, value in fields.items() if value is not None}


def written(path: Path, fields: dict[str, str], data: bytes = VALUES.tobytes(order="F")) -> Path:
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in fields.items())]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + data)
    return path


@pytest.mark.parametrize("grid", [GRID, SHEARED], ids=["oblique", "sheared"])
@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
def test_a_label_map_comes_back(tmp_path: Path, grid: Grid, orientation: str) -> None:
    segmentation = reorient(segmented(grid), orientation)
    write_nrrd(tmp_path / "a.seg.nrrd", segmentation)
    found = read_nrrd(tmp_path / "a.seg.nrrd")
    assert np.array_equal(found.array, segmentation.array)
    assert (found.grid, found.labels) == (segmentation.grid, LABELS)


def test_overlapping_masks_come_back(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.seg.nrrd", overlapping())
    found = read_nrrd(tmp_path / "a.seg.nrrd")
    assert np.array_equal(found.array, overlapping().array)
    assert (found.grid, found.labels) == (GRID, overlapping().labels)


def test_large_values_come_back(tmp_path: Path) -> None:
    array = np.where(MAP == 7, np.uint16(40_000), MAP.astype(np.uint16))
    labels = label_set({2: "a", 40_000: "b"})
    write_nrrd(tmp_path / "a.nrrd", Segmentation(array, GRID, labels))
    assert np.array_equal(read_nrrd(tmp_path / "a.nrrd").array, array)


@pytest.mark.parametrize("orientation", ["LPS", "RAI", "SLP", "PIR"])
def test_simpleitk_sees_the_same_voxels_in_the_same_place(tmp_path: Path, orientation: str) -> None:
    segmentation = reorient(segmented(), orientation)
    write_nrrd(tmp_path / "a.seg.nrrd", segmentation)
    image: Any = SimpleITK.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, segmentation.array)
    for index in ((0, 0, 0), (2, 1, 0), (3, 3, 2)):
        place = segmentation.grid.affine @ (*index, 1)
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(place[:3], abs=1e-9)
    assert image.GetMetaData("Segment1_Name") == "tumour"


def test_slicers_fields_say_what_is_where(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.seg.nrrd", segmented())
    fields = nrrd.read_header(str(tmp_path / "a.seg.nrrd"))
    bounds = [f"{n.min()} {n.max()}" for n in np.nonzero(MAP == 7)]
    assert (fields["Segment1_LabelValue"], fields["Segment1_Layer"]) == ("7", "0")
    assert fields["Segment1_Extent"] == " ".join(bounds)
    assert fields["Segment2_Extent"] == "0 -1 0 -1 0 -1"
    assert fields["Segment1_Color"] == "0.003922 0.501961 0.011765"
    assert "~SCT^64033007^Kidney~" in fields["Segment0_Tags"]


def test_layers_are_the_fastest_axis(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.seg.nrrd", overlapping())
    array, fields = nrrd.read(str(tmp_path / "a.seg.nrrd"))
    assert fields["kinds"] == ["list", "domain", "domain", "domain"]
    assert np.array_equal(array[1] == 7, overlapping().array[1])
    assert fields["Segment1_Layer"] == "1"


def test_a_plain_mask_is_of_zeros_and_ones(tmp_path: Path) -> None:
    write_nrrd_mask(tmp_path / "a.nrrd", segmented(), "tumour")
    array, fields = nrrd.read(str(tmp_path / "a.nrrd"))
    assert np.array_equal(array, (MAP == 7).astype(np.uint8))
    assert not any(name.startswith("Segment") for name in fields)


def test_equal_segmentations_give_equal_files(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", segmented())
    write_nrrd(tmp_path / "b.nrrd", segmented())
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()


def test_values_of_shared_layers_are_numbered(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.seg.nrrd", overlapping())
    data = gzip.decompress((tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n", 1)[1])
    ones = np.frombuffer(data, np.uint8).astype(bool).astype(np.uint8).tobytes()
    text = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n", 1)[0]
    text = re.sub(rb"LabelValue:=\d", b"LabelValue:=1", text)
    (tmp_path / "b.seg.nrrd").write_bytes(text + b"\n\n" + gzip.compress(ones))
    found = read_nrrd(tmp_path / "b.seg.nrrd")
    assert np.array_equal(found.array, overlapping().array)
    assert (found.labels.names, found.labels.values) == (LABELS.names, (1, 2, 3))


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_every_anatomical_space_is_read(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    directions = "(0.9,0.1,0) (0,1.2,0.2) (0.3,0,2.5)"
    path = written(tmp_path / "a.nrrd", header(space=space, space_directions=directions))
    found = read_nrrd_volume(path)
    expected = np.array([[0.9, 0, 0.3, 1], [0.1, 1.2, 0, 2], [0, 0.2, 2.5, 3]]) * np.array(signs)[:, None]
    assert np.allclose(found.grid.affine[:3], expected)
    assert np.array_equal(found.array[0], VALUES)


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "left-anterior-superior"])
def test_simpleitk_reads_the_same_place(tmp_path: Path, space: str) -> None:
    directions = "(0.54,0.72,0) (-0.96,0.72,0) (0,0,2.5)"
    path = written(tmp_path / "a.nrrd", header(space=space, space_directions=directions))
    image: Any = SimpleITK.ReadImage(str(path))
    place = read_nrrd_volume(path).grid.affine @ (4, 3, 2, 1)
    assert image.TransformIndexToPhysicalPoint((4, 3, 2)) == pytest.approx(place[:3], abs=1e-6)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_what_pynrrd_writes_is_read(tmp_path: Path, encoding: str, dtype: str) -> None:
    array = (VALUES % 251).astype(dtype)
    fields: dict[str, Any] = {
        "space": "LPS",
        "space directions": GRID.affine[:3, :3].T,
        "space origin": GRID.affine[:3, 3],
        "encoding": encoding,
    }
    nrrd.write(str(tmp_path / "a.nrrd"), array, fields)
    found = read_nrrd_volume(tmp_path / "a.nrrd")
    assert (found.array.dtype, found.grid) == (array.dtype, GRID)
    assert np.array_equal(found.array[0], array)


def test_big_endian_is_read(tmp_path: Path) -> None:
    data = VALUES.astype(">i2").tobytes(order="F")
    path = written(tmp_path / "a.nrrd", header(endian="big"), data)
    assert np.array_equal(read_nrrd_volume(path).array[0], VALUES)


@pytest.mark.parametrize(("skip", "before", "after"), [("0", b"", b""), ("5", b"12345", b""), ("-1", b"1234567", b"")])
def test_bytes_to_skip_are_skipped(tmp_path: Path, skip: str, before: bytes, after: bytes) -> None:
    path = written(tmp_path / "a.nrrd", header(byte_skip=skip), before + VALUES.tobytes(order="F") + after)
    assert np.array_equal(read_nrrd_volume(path).array[0], VALUES)


def test_a_detached_header_reads_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(VALUES.tobytes(order="F"))
    path = written(tmp_path / "a.nhdr", header(data_file="a.raw"), b"")
    assert np.array_equal(read_nrrd_volume(path).array[0], VALUES)


@pytest.mark.parametrize("name", ["../a.raw", "/etc/passwd", "sub/a.raw", "..", "link.raw"])
def test_a_detached_header_reads_nothing_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.raw").write_bytes(VALUES.tobytes(order="F"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.raw").symlink_to(tmp_path / "a.raw")
    path = written(folder / "a.nhdr", header(data_file=name), b"")
    with pytest.raises(UnreadableImage, match="not in one file beside the header"):
        read_nrrd_volume(path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"space": None}, r"does not place the voxels in a patient.*space missing"),
        ({"space": "scanner-xyz"}, "does not place the voxels"),
        ({"space_origin": None}, r"origin missing"),
        ({"space_directions": None}, "does not say where the voxels are"),
        ({"space_directions": "(0.9,0,0) (0,1.2,0) none"}, "does not say where the voxels are"),
        ({"space_directions": "(0.9,0,0) (0.9,0,0) (0,0,1)"}, "cannot be inverted"),
        ({"space_units": '"m" "m" "m"'}, r"units \['m'\]"),
    ],
)
def test_headers_without_a_certain_place_are_refused(
    tmp_path: Path, changes: dict[str, str | None], match: str
) -> None:
    with pytest.raises(GeometryMismatch, match=match):
        read_nrrd_volume(written(tmp_path / "a.nrrd", header(**changes)))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"encoding": "hex"}, "encoding that is not supported"),
        ({"encoding": "raw", "line_skip": "3"}, "encoding that is not supported"),
        ({"type": "block"}, "plain numbers"),
        ({"endian": None}, "byte order is not known"),
        ({"sizes": "6 5"}, "sizes that make no array"),
        ({"sizes": "6 5 0"}, "sizes that make no array"),
        ({"sizes": "6 -5 -4"}, "sizes that make no array"),
        ({"sizes": "6 five 4"}, "not a sound NRRD file"),
        ({"sizes": None}, "not a sound NRRD file"),
        ({"dimension": None}, "not a sound NRRD file"),
        ({"sizes": "6 5 5"}, r"fewer voxels than its header says.*300 bytes"),
        ({"sizes": "6 5 3"}, "more voxels than its header says"),
        ({"sizes": "600000000 500000000 400000000"}, "fewer voxels"),
        ({"sizes": "600000000 500000000 400000000", "encoding": "gzip"}, "fewer voxels"),
        ({"encoding": "gzip"}, "truncated or corrupt"),
        ({"encoding": "bzip2"}, "truncated or corrupt"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, changes: dict[str, str | None], match: str) -> None:
    with pytest.raises(UnreadableImage, match=match):
        read_nrrd_volume(written(tmp_path / "a.nrrd", header(**changes)))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.6, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    write_nrrd(tmp_path / "a.nrrd", segmented())
    data = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImage, match=r"a\.nrrd"):
        read_nrrd(tmp_path / "a.nrrd")


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", segmented())
    data = bytearray((tmp_path / "a.nrrd").read_bytes())
    data[-6] ^= 1
    (tmp_path / "a.nrrd").write_bytes(data)
    with pytest.raises(UnreadableImage, match="truncated or corrupt"):
        read_nrrd(tmp_path / "a.nrrd")


def test_flipped_bytes_end_in_a_segmentation_or_an_input_error(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", overlapping())
    data = (tmp_path / "a.nrrd").read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 2):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / "a.nrrd").write_bytes(damaged)
        with contextlib.suppress(InputError):
            assert read_nrrd(tmp_path / "a.nrrd").array.ndim >= 3


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(UnreadableImage, match="not an NRRD file"):
        read_nrrd(tmp_path / "a.nrrd")
    with pytest.raises(UnreadableImage, match="there is no such file"):
        read_nrrd(tmp_path / "b.nrrd")


def test_several_channels_are_no_volume(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", overlapping())
    with pytest.raises(UnreadableImage, match=r"not one 3D image.*got \(3, 6, 5, 4\)"):
        read_nrrd_volume(tmp_path / "a.nrrd")


def test_values_without_a_segment_are_refused(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", segmented())
    with pytest.raises(LabelError, match=r"values that have no label: expected 0 or one of \[2, 8\], got \[7\]"):
        read_nrrd(tmp_path / "a.nrrd", label_set({2: "a", 8: "b"}))


def test_a_plain_label_map_needs_labels(tmp_path: Path) -> None:
    write_nrrd_mask(tmp_path / "a.nrrd", segmented(), "tumour")
    with pytest.raises(LabelError, match=r"values that have no label.*say which labels"):
        read_nrrd(tmp_path / "a.nrrd")
    found = read_nrrd(tmp_path / "a.nrrd", label_set({1: "tumour"}))
    assert np.array_equal(found.mask("tumour"), MAP == 7)


def test_negative_and_fractional_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="label values must be whole numbers"):
        read_nrrd(written(tmp_path / "a.nrrd", header()), label_set({1: "a"}))
    floats = written(tmp_path / "b.nrrd", header(type="float"), np.ones(SHAPE, "<f4").tobytes())
    with pytest.raises(LabelError, match="label values must be whole numbers"):
        read_nrrd(floats, label_set({1: "a"}))


def test_equal_names_are_refused_with_the_file(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "a.nrrd", segmented())
    data = (tmp_path / "a.nrrd").read_bytes().replace(b"Segment1_Name:=tumour", b"Segment1_Name:=absent")
    (tmp_path / "a.nrrd").write_bytes(data)
    with pytest.raises(LabelError, match=r"label names occur twice.*a\.nrrd"):
        read_nrrd(tmp_path / "a.nrrd")


def test_names_that_are_no_nrrd_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="needs that name"):
        write_nrrd(tmp_path / "a.nii", segmented())
    assert [is_nrrd_name(Path(name)) for name in ("a.SEG.NRRD", "a.nhdr", "a.nii.gz")] == [True, True, False]


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_real_files_are_read_as_simpleitk_reads_them() -> None:
    paths = sorted(DATA.rglob("*.nrrd"))
    assert len(paths) > 5
    for path in paths:
        found = read_nrrd_volume(path)
        image: Any = SimpleITK.ReadImage(str(path))
        assert np.array_equal(found.array[0], SimpleITK.GetArrayFromImage(image).T)
        last = tuple(n - 1 for n in found.grid.shape)
        assert image.TransformIndexToPhysicalPoint(last) == pytest.approx(
            (found.grid.affine @ (*last, 1))[:3], abs=1e-6
        )


def test_importing_it_is_light() -> None:
    code = "import sys, delineate.formats.nrrd_files; print({'nrrd', 'scipy', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
