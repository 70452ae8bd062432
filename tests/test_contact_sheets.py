"""Contact sheets and close-ups: every case has its place, and what is measured lies where it was measured."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image

from delineate import formats
from delineate.cli import main
from delineate.errors import GeometryMismatch, InputError, LabelError
from delineate.formats.nrrd_files import write_nrrd
from delineate.geometry import ORIENTATIONS, Box, Grid, compose_affine, index_to_world
from delineate.labels import Label, LabelSet
from delineate.reports.contact_sheets import TILE_PIXELS, Tile, contact_sheets, draw_tile, failed_tile
from delineate.reports.contours import MeasuredLine, structure_slices
from delineate.reports.display import AXIS, PLANES, Plane, View
from delineate.settings import detect
from delineate.volume import Kind, Segmentation, Volume, reorient
from delineate.workflow.picturing import contact_sheet

RED, BLUE = (230, 20, 20), (20, 20, 230)
LABELS = LabelSet((Label(1, "liver", RED), Label(2, "liver_tumour", BLUE)))
GRID = Grid((20, 24, 10), compose_affine([[2.0, 0.05, 0], [-0.05, 1.5, 0.1], [0, -0.1, 4.0]], [-20, -30, 10]))


def scan() -> Volume:
    array = np.full((1, *GRID.shape), -1000, np.int16)
    array[0, 1:19, 1:23] = 40
    return Volume(array, GRID, Kind.CT)


def drawn() -> Segmentation:
    array = np.zeros(GRID.shape, np.uint8)
    array[3:12, 4:16, 2:8] = 1
    array[5:8, 6:9, 6] = 2
    array[13:17, 17:21, 3:5] = 2
    return Segmentation(array, GRID, LABELS)


def line(start: tuple[int, int, int], stop: tuple[int, int, int]) -> MeasuredLine:
    """Between two voxels."""
    (a, b, c), (d, e, f) = (map(float, index_to_world(GRID, end)) for end in (start, stop))
    return MeasuredLine((a, b, c), (d, e, f), "12 mm")


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def tiles(count: int) -> list[Tile]:
    return [draw_tile(f"case_{n}", scan(), drawn()) for n in range(count)]


@pytest.mark.parametrize("orientation", ["LPS", "SRA"])
def test_a_tile_shows_the_fullest_slice_the_right_way_round(orientation: str) -> None:
    tile = draw_tile("a", reorient(scan(), orientation), reorient(drawn(), orientation))
    assert tile.picture is not None
    rows, columns = np.argwhere((tile.picture == RED).all(axis=-1)).mean(axis=0)
    assert rows < TILE_PIXELS / 2  # anterior
    assert columns < TILE_PIXELS / 2  # at the patient's right
    assert tile.labels[0].name == "liver"


def test_a_tile_says_size_and_spacing_and_is_drawn_without_a_scan_too() -> None:
    tile = draw_tile("a", None, drawn())
    assert tile.words == "20×24×10, 2×1.5×4 mm"
    assert tile.picture is not None
    assert (tile.picture == RED).all(axis=-1).sum() > 500
    with pytest.raises(ValueError, match="a scan or a segmentation"):
        draw_tile("a", None)


def test_cases_fill_sheets_of_so_many_and_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def streamed() -> object:
        for n, tile in enumerate(tiles(7)):
            taken.append(n)
            yield tile

    sheets = contact_sheets(streamed(), columns=3, rows=1, title="Livers")  # type: ignore[arg-type]
    first = pixels(next(sheets))
    assert taken == [0, 1, 2]
    rest = [pixels(png) for png in sheets]
    assert len(rest) == 2
    assert all(sheet.shape[1] == first.shape[1] > 3 * TILE_PIXELS for sheet in rest)
    assert list(contact_sheets([])) == []


def test_a_case_without_a_picture_keeps_its_place_with_the_reason() -> None:
    with_it, without = (
        pixels(next(contact_sheets([tiles(1)[0], second])))
        for second in (tiles(1)[0], failed_tile("b", "truncated file"))
    )
    left = slice(0, 8 + TILE_PIXELS)
    assert (with_it[:TILE_PIXELS, left] == without[:TILE_PIXELS, left]).all()
    assert ((without == (168, 63, 0)).all(axis=-1)).sum() > 4 * TILE_PIXELS - 10


def test_names_of_any_length_and_script_fit() -> None:
    names = ["x" * 300, "肝臓", "a\nb", ""]
    assert len(list(contact_sheets(failed_tile(name, "no " * 200) for name in names))) == 1


@pytest.mark.parametrize("orientation", ORIENTATIONS[::9])
def test_a_close_up_is_the_same_from_every_orientation(orientation: str) -> None:
    measured = line((5, 6, 6), (7, 8, 6))
    given = structure_slices(scan(), drawn(), "liver_tumour", lines=[measured])
    turned = structure_slices(
        reorient(scan(), orientation), reorient(drawn(), orientation), "liver_tumour", lines=[measured]
    )
    assert given == turned


@pytest.mark.parametrize("plane", PLANES)
def test_points_of_the_world_are_placed_on_the_pixel_that_shows_them(plane: Plane) -> None:
    array = np.zeros(GRID.shape)
    array[13, 5, 7] = 1
    view = View(plane, (13, 5, 7)[AXIS[plane]], Box((2, 1, 3), (18, 20, 9)))
    ((row, column),) = np.argwhere(view.picture(array))
    assert view.place(np.array([[13.0, 5.0, 7.0]])).tolist() == [[column, row]]


def test_a_line_chooses_the_slice_it_lies_in_and_is_drawn_there() -> None:
    def drawn_with(one: MeasuredLine) -> bytes:
        return structure_slices(scan(), drawn(), "liver", lines=[one])

    plain = structure_slices(scan(), drawn(), "liver")
    assert len({drawn_with(line((4, 10, 3), (10, 10, 3))), drawn_with(line((4, 10, 5), (10, 10, 5))), plain}) == 3
    assert drawn_with(line((4, 10, 3), (10, 10, 6))) != plain  # it lies in no axial slice, but in a coronal one
    assert drawn_with(line((4, 5, 3), (10, 12, 6))) == plain  # and this one in none


def test_a_close_up_of_a_lesion_shows_the_part_that_is_meant() -> None:
    first = structure_slices(scan(), drawn(), "liver_tumour", part=Box((5, 6, 6), (8, 9, 7)))
    second = structure_slices(scan(), drawn(), "liver_tumour", part=Box((13, 17, 3), (17, 21, 5)))
    assert first != second


def test_a_structure_without_voxels_is_said_and_wrong_input_refused() -> None:
    empty = Segmentation(np.zeros(GRID.shape, np.uint8), GRID, LABELS)
    assert structure_slices(scan(), empty, "liver").startswith(b"\x89PNG")
    with pytest.raises(LabelError, match="no such label"):
        structure_slices(scan(), drawn(), "spleen")
    small = Segmentation(np.zeros((3, 3, 3), np.uint8), Grid((3, 3, 3), np.eye(4)), LABELS)
    with pytest.raises(GeometryMismatch, match="has not the voxels"):
        structure_slices(scan(), small, "liver")


def dataset(folder: Path, *, cases: int = 3) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for n in range(cases):
        formats.write_volume(folder / "imagesTr" / f"c{n}_0000.nii.gz", scan())
        formats.write_segmentation(folder / "labelsTr" / f"c{n}.nii.gz", drawn())
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "liver_tumour": 2},'
        ' "numTraining": 3, "file_ending": ".nii.gz"}'
    )
    return folder


def test_the_command_shows_a_dataset_and_says_what_it_could_not(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data")
    (folder / "imagesTr" / "c1_0000.nii.gz").write_bytes(b"not gzip")
    done = CliRunner().invoke(main, ["contact-sheet", str(folder), str(tmp_path / "out.png"), "--per-sheet", "2x1"])
    assert done.exit_code == 1
    assert "case c1" in done.output
    assert "3 case(s) on 2 sheet(s)" in done.output
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["out-2.png", "out.png"]


def test_scans_are_outlined_by_label_maps_of_their_names_on_their_voxels_only(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", cases=2)
    maps, settings = tmp_path / "maps", detect("cpu")
    maps.mkdir()
    formats.write_segmentation(maps / "c0.nii.gz", drawn())
    made = contact_sheet(folder / "imagesTr", tmp_path / "a.png", segmentations=maps, settings=settings)
    assert (made.cases, made.problems) == (2, ())
    elsewhere = Segmentation(drawn().array, Grid(GRID.shape, np.eye(4)), LABELS)
    formats.write_segmentation(maps / "c0.nii.gz", elsewhere)
    made = contact_sheet(folder / "imagesTr", tmp_path / "a.png", segmentations=maps, settings=settings)
    assert "do not lie in the same place" in made.problems[0]
    (maps / "c0.nii.gz").rename(maps / "other.nii.gz")
    with pytest.raises(InputError, match="no label map has the name of a case"):
        contact_sheet(folder / "imagesTr", tmp_path / "a.png", segmentations=maps, settings=settings)


def test_scans_are_outlined_by_what_exports_are_named_label_maps_first(tmp_path: Path) -> None:
    folder, maps = dataset(tmp_path / "data", cases=2), tmp_path / "maps"
    elsewhere = Segmentation(drawn().array, Grid(GRID.shape, np.eye(4)), LABELS)
    for name, one in (("c0.seg.nrrd", elsewhere), ("c1.nrrd", elsewhere)):
        maps.mkdir(exist_ok=True)
        write_nrrd(maps / name, one)
    made = contact_sheet(folder / "imagesTr", tmp_path / "a.png", segmentations=maps, settings=detect("cpu"))
    assert [problem.count("do not lie in the same place") for problem in made.problems] == [1, 1]
    formats.write_segmentation(maps / "c0.nii.gz", drawn())
    made = contact_sheet(folder / "imagesTr", tmp_path / "a.png", segmentations=maps, settings=detect("cpu"))
    assert ["c1" in problem for problem in made.problems] == [True]


def test_folders_without_cases_and_files_that_are_no_png_are_refused(tmp_path: Path) -> None:
    settings = detect("cpu")
    with pytest.raises(InputError, match="ends in \\.png"):
        contact_sheet(tmp_path, tmp_path / "a.jpg", settings=settings)
    with pytest.raises(InputError, match="nothing to segment"):
        contact_sheet(tmp_path, tmp_path / "a.png", settings=settings)
