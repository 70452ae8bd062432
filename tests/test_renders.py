"""3D pictures: which way round, what shows through, and what is said where they cannot be drawn."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from delineate.errors import ExportError, LabelError, ResourceError
from delineate.geometry import ORIENTATIONS, Grid, compose_affine, foreground_box
from delineate.labels import Label, LabelSet
from delineate.reports import scenes
from delineate.reports.renders import FRONT, SIDES, structures_render, turntable
from delineate.reports.solids import FAINT, MOST_VOXELS_ACROSS, TRANSLUCENT, boxed_masks, solids
from delineate.volume import Segmentation, reorient

pytest.importorskip("pyvista")

RED, GREEN, BLUE = (220, 0, 0), (0, 200, 0), (0, 0, 230)
GRID = Grid((24, 30, 10), compose_affine([[2.0, 0, 0], [0, 1.5, 0.2], [0, -0.1, 5.0]], [-20, -30, 10]))


def ball(centre: tuple[float, float, float], radius_mm: float) -> npt.NDArray[np.bool_]:
    i, j, k = np.indices(GRID.shape)
    parts = zip((i, j, k), centre, GRID.spacing_mm, strict=True)
    return np.asarray(sum(((n - c) * mm) ** 2 for n, c, mm in parts) < radius_mm**2)


def labelled(*masks: tuple[str, tuple[int, int, int], npt.NDArray[np.bool_]], overlaps: bool = False) -> Segmentation:
    labels = LabelSet(tuple(Label(n, name, colour) for n, (name, colour, _) in enumerate(masks, 1)), overlaps=overlaps)
    if overlaps:
        return Segmentation(np.stack([mask for _, _, mask in masks]), GRID, labels)
    array = np.zeros(GRID.shape, np.uint8)
    for n, (_, _, mask) in enumerate(masks, 1):
        array[mask] = n
    return Segmentation(array, GRID, labels)


def three() -> Segmentation:
    """Red at the patient's left, green anterior, blue superior; they do not hide one another."""
    return labelled(
        ("left_one", RED, ball((20, 20, 2), 6)),
        ("front_one", GREEN, ball((4, 4, 2), 6)),
        ("upper_one", BLUE, ball((4, 20, 8), 6)),
    )


def middle(picture: npt.NDArray[Any], channel: int) -> npt.NDArray[np.float64]:
    """(row, column) of what has mostly one colour."""
    strong = picture[..., channel].astype(int) - np.delete(picture, channel, axis=-1).max(axis=-1).astype(int) > 60
    assert strong.any()
    return np.asarray(np.argwhere(strong).mean(axis=0))


def views(segmentation: Segmentation) -> list[npt.NDArray[np.uint8]]:
    with scenes.open_scene(solids(segmentation), size=(120, 150)) as scene:
        return [scene.seen(np.asarray(side.looking, float), np.asarray(side.up, float)) for side in SIDES]


@pytest.mark.parametrize("orientation", ["LPS", "SAR"])
def test_each_side_shows_the_patient_the_right_way_round(orientation: str) -> None:
    front, left, above = views(reorient(three(), orientation))
    assert middle(front, 0)[1] > middle(front, 1)[1] + 20  # the patient's left on the viewer's right
    assert middle(front, 2)[0] < middle(front, 1)[0] - 20  # superior on top
    assert middle(left, 1)[1] < middle(left, 0)[1] - 20  # anterior on the viewer's left
    assert middle(left, 2)[0] < middle(left, 0)[0] - 20
    assert middle(above, 1)[0] < middle(above, 2)[0] - 20  # anterior on top
    assert middle(above, 0)[1] < middle(above, 2)[1] - 20  # from above the patient's left is on the left


@pytest.mark.parametrize("side", SIDES)
def test_letters_of_a_side_follow_from_where_it_looks(side: Any) -> None:
    looking, up = np.asarray(side.looking, float), np.asarray(side.up, float)
    right = np.cross(looking, up)
    letters = {(0, 1): "L", (0, -1): "R", (1, 1): "P", (1, -1): "A", (2, 1): "S", (2, -1): "I"}
    named = [letters[int(np.abs(v).argmax()), int(np.sign(v[np.abs(v).argmax()]))] for v in (-right, right, up, -up)]
    assert tuple(named) == side.borders


def test_the_scale_of_a_scene_is_that_of_the_patient() -> None:
    i = np.arange(24)[:, None, None]
    plate = np.zeros(GRID.shape, bool) | ((i >= 2) & (i < 22))  # 40 mm from right to left
    with scenes.open_scene(solids(labelled(("plate", RED, plate))), size=(200, 200)) as scene:
        picture = scene.seen(np.asarray(FRONT.looking, float), np.asarray(FRONT.up, float))
        columns = np.ptp(np.argwhere((picture < 250).any(axis=-1))[:, 1]) + 1
        assert columns * scene.height_mm / 200 == pytest.approx(40, abs=2.2)  # smoothing rounds corners by half a voxel


def test_what_encloses_another_lets_it_show_and_lesions_never_do() -> None:
    body, liver, tumour = ball((12, 15, 5), 22), ball((12, 15, 5), 13), ball((12, 15, 5), 6)
    held = solids(labelled(("body", BLUE, body), ("liver", GREEN, liver), ("liver_tumour", RED, tumour)))
    assert [solid.opacity for solid in held] == [FAINT, TRANSLUCENT, 1.0]
    cyst = solids(labelled(("liver_tumour", RED, liver), ("vessel", GREEN, tumour)))
    assert cyst[0].opacity == 1.0


def test_a_lesion_shows_through_its_organ() -> None:
    organ, tumour = ball((12, 15, 5), 22), ball((12, 15, 5), 7)
    alone, held = labelled(("organ", BLUE, organ)), labelled(("organ", BLUE, organ), ("tumour", RED, tumour))
    centre = [views(seg)[0][55:65, 70:80].mean(axis=(0, 1)) for seg in (alone, held)]
    assert centre[1][0] - centre[1][2] > centre[0][0] - centre[0][2] + 60


@pytest.mark.parametrize("orientation", ORIENTATIONS[::11])
def test_surfaces_lie_where_the_voxels_are(orientation: str) -> None:
    mask = ball((15, 8, 6), 8)
    (solid,) = solids(reorient(labelled(("ball", RED, mask)), orientation))
    points = np.argwhere(mask) @ GRID.affine[:3, :3].T + GRID.affine[:3, 3]
    assert solid.mesh.vertices_mm.mean(axis=0) == pytest.approx(points.mean(axis=0), abs=0.7)


def test_large_structures_become_coarse_and_keep_their_size() -> None:
    shape = (4 * MOST_VOXELS_ACROSS, 40, 7)
    grid = Grid(shape, np.diag([0.5, 1.0, 3.0, 1.0]))
    array = np.zeros(shape, np.uint8)
    array[5:-9, 10:30, 2:5] = 1
    (solid,) = solids(Segmentation(array, grid, LabelSet((Label(1, "rod", RED),))))
    size = np.ptp(solid.mesh.vertices_mm, axis=0)
    assert size == pytest.approx([(shape[0] - 14) * 0.5, 20, 9], rel=0.05)
    assert len(solid.mesh.vertices_mm) < 15_000


def test_a_thread_of_one_voxel_is_not_lost_when_made_coarse() -> None:
    array = np.zeros((300, 300, 5), np.uint8)
    array[np.arange(300), np.arange(300), 2] = 1
    segmentation = Segmentation(array, Grid(array.shape, np.eye(4)), LabelSet((Label(1, "vessel", RED),)))
    assert np.ptp(solids(segmentation)[0].mesh.vertices_mm, axis=0)[0] > 250


@pytest.mark.parametrize("overlaps", [False, True])
def test_boxes_hold_just_the_voxels_and_empty_structures_are_left_out(overlaps: bool) -> None:
    mask = ball((15, 8, 6), 8)
    seg = labelled(("ball", RED, mask), ("nothing", GREEN, np.zeros(GRID.shape, bool)), overlaps=overlaps)
    ((label, box, found),) = boxed_masks(seg)
    assert (label.name, box) == ("ball", foreground_box(mask))
    assert found.sum() == mask.sum()


def test_the_picture_has_three_sides_and_about_1200_by_500_pixels() -> None:
    from matplotlib.image import imread

    png = structures_render(three(), title="Case")
    rows, columns = imread(io.BytesIO(png)).shape[:2]
    assert (columns, rows) == (pytest.approx(1200, abs=20), pytest.approx(500, abs=40))
    assert structures_render(three(), structures=("left_one",)) != png


def test_a_turntable_goes_from_the_front_by_the_left_to_the_back() -> None:
    front, left, back, _ = (
        middle(frame, 0)[1] - middle(frame, 1)[1] for frame in turntable(three(), frames=4, size=90)
    )
    assert front > 10  # red, at the patient's left, to the right of green
    assert left > 10  # seen from the left: green, anterior, to the left of red
    assert back < -10


def test_nothing_to_see_and_unknown_names_are_refused() -> None:
    with pytest.raises(ExportError, match="nothing to be seen"):
        structures_render(labelled(("nothing", RED, np.zeros(GRID.shape, bool))))
    with pytest.raises(LabelError, match="no such label"):
        structures_render(three(), structures=("spleen",))


def test_without_pyvista_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvista", None)
    with pytest.raises(ResourceError, match=r"delineate\[pictures\]"):
        structures_render(three())


def test_drawing_without_a_display_says_nothing() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_renders as t; from delineate.reports.renders import *;"
        "structures_render(t.three())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
