"""Films: what is on a frame, how large files become, and what is said where they cannot be made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image
from seg_scans import series, structures

from delineate import formats
from delineate.cli import main
from delineate.errors import ExportError, GeometryMismatch, ResourceError
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.formats.nrrd_files import write_nrrd
from delineate.geometry import Box, Grid
from delineate.labels import Label, LabelSet
from delineate.reports.display import View, whole
from delineate.reports.films import MOST_FRAMES, slice_sweep, write_film
from delineate.reports.pixels import lit_box, shape_within, slice_pixels, without_dark
from delineate.reports.renders import turntable
from delineate.volume import Kind, Segmentation, Volume, reorient
from delineate.workflow import picturing
from delineate.workflow.picturing import film

RED = (230, 20, 20)
LABELS = LabelSet((Label(1, "left_part", RED),))
GRID = Grid((20, 30, 12), np.diag([2.0, 1.5, 4.0, 1.0]))


def scan(kind: Kind = Kind.CT) -> Volume:
    array = np.full((1, *GRID.shape), -1000, np.int16)
    array[0, 2:18, 3:27] = 40
    return Volume(array, GRID, kind)


def drawn() -> Segmentation:
    array = np.zeros(GRID.shape, np.uint8)
    array[12:17, 5:11, 4:7] = 1  # left, anterior
    return Segmentation(array, GRID, LABELS)


def red(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.argwhere((picture == RED).all(axis=-1))


@pytest.mark.parametrize("orientation", ["LPS", "IRA"])
def test_a_sweep_goes_from_feet_to_head_with_outlines_on_their_side(orientation: str) -> None:
    frames = list(slice_sweep(reorient(scan(), orientation), reorient(drawn(), orientation), size=120))
    assert len(frames) == 3 + 2 * 3  # the slices with the structure, and three before and behind
    assert [bool(len(red(frame))) for frame in frames] == [False] * 3 + [True] * 3 + [False] * 3
    rows, columns = red(frames[4]).mean(axis=0)
    assert columns > frames[4].shape[1] / 2  # the patient's left on the viewer's right
    assert rows < frames[4].shape[0] / 2  # anterior on top


def test_frames_keep_proportions_and_leave_out_the_air() -> None:
    (frame, *_) = slice_sweep(scan(), size=200)
    assert frame.shape[0] / frame.shape[1] == pytest.approx(24 * 1.5 / (16 * 2.0), rel=0.02)


def test_outlines_are_within_the_structure_and_fill_it_without_a_scan() -> None:
    view = View("axial", 5, whole(GRID))
    shape = (90, 80)  # two pixels to a millimetre
    mask = np.zeros(shape, bool)
    mask[15:33, 48:68] = True
    filled = slice_pixels(view, None, drawn(), shape=shape)
    outlined = slice_pixels(view, scan(), drawn(), shape=shape, window=(-160, 240))
    inside = (filled == RED).all(axis=-1)
    assert (inside ^ mask).mean() < 0.01
    edge = (outlined == RED).all(axis=-1)
    assert edge.any()
    assert not edge[20:28, 53:63].any()
    assert not (edge & ~inside).any()


def test_a_structure_smaller_than_a_pixel_is_still_marked() -> None:
    array = np.zeros((400, 400, 2), np.uint8)
    array[200, 100, 1] = 1
    grid = Grid(array.shape, np.eye(4))
    pixels = slice_pixels(View("axial", 1, whole(grid)), None, Segmentation(array, grid, LABELS), shape=(40, 40))
    assert [10, 20] in red(pixels).tolist()
    assert len(red(pixels)) <= 4


def test_what_is_dark_is_cut_off_and_all_of_a_dark_slice_stays() -> None:
    array = np.zeros((6, 8, 3))
    array[2:4, 5:7, 1] = 1
    assert lit_box(array, (0, 1)) == Box((2, 5, 1), (4, 7, 2))
    assert without_dark(View("axial", 1, Box((0, 0, 0), (6, 8, 3))), array, (0, 1)).box == Box((2, 5, 0), (4, 7, 3))
    assert lit_box(np.zeros((6, 8, 3)), (0, 1)) == Box((0, 0, 0), (6, 8, 3))


def test_pictures_fit_into_what_is_given_and_have_a_pixel_at_least() -> None:
    assert shape_within(View("axial", 0, whole(GRID)), GRID, width=100, height=60) == (60, 53)
    flat = Grid((1000, 1, 2), np.eye(4))
    assert shape_within(View("axial", 0, whole(flat)), flat, width=100, height=100) == (1, 100)


def test_long_scans_are_shown_by_evenly_chosen_slices() -> None:
    grid = Grid((4, 4, 500), np.eye(4))
    assert len(list(slice_sweep(Volume(np.zeros((1, 4, 4, 500), np.int16), grid), size=20))) == MOST_FRAMES


def test_a_segmentation_of_other_voxels_and_unknown_channels_are_refused() -> None:
    other = Segmentation(np.zeros((5, 5, 5), np.uint8), Grid((5, 5, 5), np.eye(4)), LABELS)
    with pytest.raises(GeometryMismatch, match="has not the voxels of the image"):
        next(slice_sweep(scan(), other))
    with pytest.raises(ValueError, match="channel 1 of 1"):
        next(slice_sweep(scan(), channel=1))


def test_a_gif_has_every_frame_in_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    size = write_film(path, lambda size: slice_sweep(scan(), drawn(), size=size), colours=[RED])
    assert size == path.stat().st_size
    with Image.open(path) as film:
        assert film.n_frames == 9  # type: ignore[attr-defined]
        film.seek(4)
        found = np.asarray(film.convert("RGB")).astype(int)
    assert (np.abs(found - RED).sum(axis=-1) < 25).sum() > 100


def test_an_mp4_has_every_frame(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    write_film(path, lambda size: slice_sweep(scan(), drawn(), size=size))
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 9
    assert frames[4][..., 0].astype(int).max() - frames[4][..., 1].astype(int).min() > 100


def noise(size: int) -> Iterator[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for _ in range(3):
        yield rng.integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_a_film_that_is_too_large_is_made_again_smaller(tmp_path: Path) -> None:
    asked: list[int] = []

    def frames(size: int) -> Iterator[npt.NDArray[np.uint8]]:
        asked.append(size)
        return noise(size)

    assert write_film(tmp_path / "film.gif", frames, most_bytes=400_000) <= 400_000
    assert asked == sorted(asked, reverse=True)
    assert len(asked) > 1


def test_no_frames_another_suffix_and_a_missing_extra_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="a film without frames"):
        write_film(tmp_path / "film.gif", lambda size: [])
    with pytest.raises(ExportError, match=r"expected \.gif or \.mp4"):
        write_film(tmp_path / "film.avi", noise)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ResourceError, match=r"delineate\[pictures\]"):
        write_film(tmp_path / "film.mp4", noise)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_sweeps_and_turning_structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyvista")
    monkeypatch.setattr(picturing, "turntable", partial(turntable, frames=3))
    formats.write_volume(tmp_path / "scan_ct.nii.gz", scan())
    formats.write_segmentation(tmp_path / "map.nii.gz", drawn())
    run = CliRunner().invoke
    paths = [str(tmp_path / name) for name in ("scan_ct.nii.gz", "map.nii.gz", "a.gif", "b.gif")]
    assert run(main, ["film", *paths[:3]]).exit_code == 0
    assert run(main, ["film", paths[1], paths[3], "--rotate"]).exit_code == 0
    assert all(Path(path).stat().st_size > 1000 for path in paths[2:])
    refused = run(main, ["film", paths[0], str(tmp_path / "c.avi")])
    assert refused.exit_code == 2
    assert "expected .gif or .mp4" in refused.output


def test_what_is_outlined_may_be_of_any_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Segmentation] = []
    monkeypatch.setattr(picturing, "slice_sweep", lambda image, outlined, **how: seen.append(outlined))
    monkeypatch.setattr(picturing, "write_film", lambda path, frames, **how: frames(size=100))
    files, grid = series(tmp_path / "ct")
    whole_of = structures(grid)
    write_nrrd(tmp_path / "a.nrrd", whole_of)
    write_seg(tmp_path / "b.dcm", whole_of, files)
    write_rtstruct(tmp_path / "c.dcm", whole_of, files)
    for name in ("a.nrrd", "b.dcm", "c.dcm"):
        film(tmp_path / "ct", tmp_path / name, tmp_path / "out.gif")
    exact, coded, contours = seen
    assert exact.labels.names == coded.labels.names == contours.labels.names == whole_of.labels.names
    for name in whole_of.labels.names:
        np.testing.assert_array_equal(exact.mask(name), coded.mask(name))
        assert (contours.mask(name) ^ exact.mask(name)).sum() <= 0.1 * exact.mask(name).sum()


def test_a_file_s_name_says_nothing_of_what_its_numbers_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Volume] = []
    monkeypatch.setattr(picturing, "slice_sweep", lambda image, outlined, **how: seen.append(image))
    monkeypatch.setattr(picturing, "write_film", lambda path, frames, **how: frames(size=100))
    formats.write_volume(tmp_path / "a_t1.nii.gz", replace(scan(), array=np.abs(scan().array)))
    film(tmp_path / "a_t1.nii.gz", None, tmp_path / "out.gif")
    film(tmp_path / "a_t1.nii.gz", None, tmp_path / "out.gif", kind=Kind.MR)
    assert [image.kind for image in seen] == [Kind.OTHER, Kind.MR]


def test_pictures_start_without_a_network_s_libraries() -> None:
    words = "import sys, delineate.workflow.picturing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
