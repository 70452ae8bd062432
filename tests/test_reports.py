"""What people see: slices the right way round, curves, tables and the page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.dataset import Problem
from delineate.errors import GeometryMismatch
from delineate.geometry import ORIENTATIONS, Box, Grid, compose_affine
from delineate.labels import LabelSet, label_set
from delineate.reports.charts.learning import LearningCurves, learning_curves, learning_curves_figure
from delineate.reports.display import (
    View,
    display_window,
    foreground,
    largest_slices,
    sample,
    turn,
    turn_box,
    whole,
    zoom,
)
from delineate.reports.figures import comparison_figure, preview_figure
from delineate.reports.pages import CasePanel, Page, describe_plan, render, write_index
from delineate.reports.score_tables import ScoreRow, mean_row, scores_table
from delineate.reports.tables import count_problems, problems_table
from delineate.volume import Kind, Segmentation, Volume, reorient

LABELS = label_set({1: "left_kidney", 2: "right_kidney"})
SHAPE = (20, 16, 6)
# Slightly oblique, LPS, voxels three times longer than wide.
GRID = Grid(SHAPE, compose_affine([[2.0, 0.03, 0], [-0.03, 2.0, 0.1], [0, -0.03, 6.0]], [-20, -16, 5]))


def volume(channels: int = 1, kind: Kind = Kind.MR) -> Volume:
    array = np.random.default_rng(0).normal(100, 30, (channels, *SHAPE)).astype(np.float32)
    return Volume(array, GRID, kind)


def kidneys(labels: LabelSet = LABELS) -> Segmentation:
    """The left one is anterior and superior, the right one posterior and inferior."""
    array = np.zeros(SHAPE, np.uint8)
    array[13:17, 2:7, 2:5] = 1  # high indices of axis 0 are to the left
    array[3:8, 9:13, 1:4] = 2
    if labels.overlaps:
        return Segmentation(np.stack([array == 1, array == 2]), GRID, labels)
    return Segmentation(array, GRID, labels)


def pixels(png: bytes) -> npt.NDArray[np.int64]:
    from matplotlib.image import imread

    assert png.startswith(b"\x89PNG")
    return np.asarray(np.rint(imread(io.BytesIO(png))[..., :3] * 255), np.int64)


def find(picture: npt.NDArray[Any], colour: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """(row, column) of pixels of exactly this colour in the middle pane, the legend left out."""
    found = np.argwhere((picture == colour).all(axis=-1))
    rows, columns = picture.shape[:2]
    middle = (found[:, 0] < rows * 0.55) & (found[:, 1] > columns / 3) & (found[:, 1] < columns * 2 / 3)
    return np.asarray(found[middle])


@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_previews_show_the_patients_right_on_the_left_and_anterior_on_top(orientation: str) -> None:
    picture = pixels(preview_figure(reorient(volume(), orientation), reorient(kidneys(), orientation)))
    left, right = (find(picture, LABELS.named(name).colour).mean(axis=0) for name in LABELS.names)
    assert right[1] < left[1]
    assert left[0] < right[0]


def test_previews_keep_proportions_of_anisotropic_voxels() -> None:
    grid = Grid((10, 30, 4), np.diag([6.0, 2.0, 5.0, 1.0]))
    array = np.zeros(grid.shape, np.uint8)
    array[4:8, 6:18] = 1  # 24 by 24 mm
    image = Volume(np.zeros((1, *grid.shape), np.int16), grid)
    found = find(pixels(preview_figure(image, Segmentation(array, grid, LABELS))), LABELS.labels[0].colour)
    rows, columns = np.ptp(found, axis=0) + 1
    assert rows == pytest.approx(columns, abs=2)
    assert rows > 50


def test_previews_are_the_same_every_time_and_from_every_orientation() -> None:
    first = preview_figure(volume(), kidneys())
    assert first == preview_figure(reorient(volume(), "IAR"), reorient(kidneys(), "IAR"))


def test_a_crop_box_follows_the_orientation() -> None:
    turned = reorient(volume(), "RAS")
    boxes = Box((2, 3, 0), (9, 10, 6)), Box((11, 6, 0), (18, 13, 6))
    assert preview_figure(turned, crop_box=boxes[0]) == preview_figure(volume(), crop_box=boxes[1])
    assert preview_figure(turned, crop_box=boxes[0]) != preview_figure(volume(), crop_box=boxes[0])


def test_previews_take_several_channels_and_prepared_intensities() -> None:
    prepared = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    png = preview_figure(volume(2), title="Case", channels=("T1", "T2"), prepared=prepared)
    assert png != preview_figure(volume(2), title="Case", channels=("T1", "T2"))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_previews_survive_images_without_contrast(value: float) -> None:
    image = Volume(np.full((1, *SHAPE), value, np.float32), GRID)
    assert pixels(preview_figure(image)).ndim == 3


def test_previews_survive_an_empty_reference() -> None:
    empty = Segmentation(np.zeros(SHAPE, np.uint8), GRID, LABELS)
    assert pixels(preview_figure(volume(), empty)).ndim == 3


def test_another_shape_than_the_images_is_refused() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    other = Segmentation(np.zeros(grid.shape, np.uint8), grid, LABELS)
    with pytest.raises(GeometryMismatch, match="not the voxels of the image"):
        preview_figure(volume(), other)


def test_comparisons_show_what_was_predicted_and_what_was_drawn() -> None:
    shifted = Segmentation(np.roll(kidneys().array, 2, axis=1), GRID, LABELS)
    both = comparison_figure(volume(), shifted, reference=kidneys(), title="Case")
    assert both != comparison_figure(volume(), kidneys(), reference=shifted, title="Case")
    assert both != comparison_figure(volume(), shifted, title="Case")


def test_comparisons_of_masks_and_of_label_maps_look_the_same() -> None:
    masks = kidneys(label_set({1: "left_kidney", 2: "right_kidney"}, overlaps=True))
    assert comparison_figure(volume(), masks) == comparison_figure(volume(), kidneys())


def test_comparisons_survive_empty_segmentations() -> None:
    empty = Segmentation(np.zeros(SHAPE, np.uint8), GRID, LABELS)
    assert pixels(comparison_figure(volume(), empty, reference=empty)).ndim == 3


def test_comparisons_survive_structures_that_fill_the_slice() -> None:
    grid = Grid((1, 7, 5), np.diag([1.0, 2.0, 3.0, 1.0]))
    full = Segmentation(np.ones(grid.shape, np.uint8), grid, LABELS)
    image = Volume(np.arange(35, dtype=np.float32).reshape(1, *grid.shape), grid, Kind.CT)
    assert pixels(comparison_figure(image, full)).ndim == 3


def marked() -> Volume:
    """Bright at the corner that is left, anterior and superior."""
    array = np.zeros((1, *SHAPE), np.float32)
    array[0, -1, 0, -1] = 1
    return Volume(array, GRID)


@pytest.mark.parametrize(
    ("plane", "index", "corner"), [("axial", 5, (0, -1)), ("coronal", 0, (0, -1)), ("sagittal", 19, (0, 0))]
)
@pytest.mark.parametrize("orientation", ["LPS", "IRA"])
def test_planes_lie_in_radiological_display(plane: Any, index: int, corner: tuple[int, int], orientation: str) -> None:
    image, _ = turn(reorient(marked(), orientation))
    view = View(plane, index, whole(image.grid))
    picture = view.picture(image.array[0])
    assert picture.shape == view.shape
    assert picture[corner] == 1 == picture.sum()


def test_a_view_shows_its_part_only() -> None:
    view = View("coronal", 3, Box((4, 2, 1), (9, 8, 5)))
    array = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    assert view.picture(array).tolist() == array[4:9, 3, 1:5].T[::-1].tolist()
    assert view.spacing_mm(GRID) == pytest.approx((6, 2), rel=1e-2)


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    starts=st.tuples(*[st.integers(0, 4)] * 3),
    sizes=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_turned_boxes_hold_the_same_voxels(orientation: str, starts: Any, sizes: Any) -> None:
    grid = Grid((7, 8, 9), np.diag([2.0, 1.0, 3.0, 1.0]))
    image = Volume(np.arange(7 * 8 * 9).reshape(1, 7, 8, 9), grid)
    stored = reorient(image, orientation)
    box = Box(starts, tuple(a + n for a, n in zip(starts, sizes, strict=True)))
    turned = turn_box(box, stored.grid)
    (lps, _) = turn(stored)
    inside = stored.array[0][box.slices]
    assert sorted(lps.array[0][turned.slices].ravel()) == sorted(inside.ravel())


def test_the_largest_slice_is_found_and_the_middle_without_any() -> None:
    mask = foreground(kidneys())
    assert largest_slices(mask, SHAPE) == (13, 9, 2)
    assert largest_slices(np.zeros(SHAPE, bool), SHAPE) == (10, 8, 3)
    assert largest_slices(None, (7, 1, 2)) == (3, 0, 1)


def test_the_close_up_has_a_margin_and_stays_in_the_grid() -> None:
    grid = Grid((100, 60, 40), np.diag([1.0, 2.0, 5.0, 1.0]))
    box = zoom(Box((40, 2, 20), (80, 6, 22)), grid, margin_mm=8)
    assert (box.start, box.stop) == ((30, 0, 18), (90, 10, 24))
    assert zoom(None, grid) == whole(grid)


def test_samples_are_few_and_spread_over_the_whole_array() -> None:
    array = np.broadcast_to(np.arange(50.0)[:, None, None], (50, 40, 3))
    values = sample(array, limit=700)
    assert 300 < values.size <= 700
    assert (values.min(), values.mean()) == pytest.approx((0, 24.5), abs=2)


def test_windows_suit_the_kind() -> None:
    values = np.linspace(0, 1000, 1001, dtype=np.float32).reshape(1, 7, 11, 13)
    values[0, 0, 0, :2] = np.nan, np.inf
    grid = Grid((7, 11, 13), np.eye(4))
    assert display_window(Volume(values, grid, Kind.CT)) == (-160, 240)
    assert display_window(Volume(values, grid, Kind.MR)) == pytest.approx((6.99, 995.01), abs=0.1)
    assert display_window(Volume(np.full_like(values, 5), grid)) == (4.5, 5.5)
    ct_with_pet = Volume(np.concatenate([values, values / 100]), grid, Kind.CT)
    assert display_window(ct_with_pet, 1) == pytest.approx((0.0699, 9.95), abs=0.01)


class Row:
    def __init__(self, step: int, loss: float | None, dice: tuple[float | None, ...] | None = None) -> None:
        self.step, self.loss, self.learning_rate, self.validation_dice = step, loss, 0.01 / step, dice


def test_history_becomes_curves() -> None:
    rows: Any = [Row(1, 0.9), Row(2, 0.8, (0.5, None)), Row(3, None, (0.6, 0.8))]
    curves = learning_curves(rows, ("a", "b"), best_step=3)
    assert (curves.steps, curves.losses) == ([1, 2], [0.9, 0.8])
    assert (curves.validation_steps, curves.validation_dice) == ([2, 3], [0.5, pytest.approx(0.7)])
    assert curves.by_structure["a"] == [0.5, 0.6]
    assert np.isnan(curves.by_structure["b"][0])


def test_the_best_validation_is_marked() -> None:
    curves = {best: LearningCurves([1, 2, 3], [3, 2, 1], [1, 1, 1], [1, 3], [0.2, 0.4], best) for best in (None, 1, 3)}
    assert len({learning_curves_figure(c) for c in curves.values()}) == 3


@pytest.mark.parametrize(
    "curves",
    [
        LearningCurves([], []),
        LearningCurves([1], [0.5], [1e-3], [1], [math.nan], 1),
        LearningCurves(list(range(100)), [math.nan] * 100, by_structure={"a": []}),
    ],
)
def test_curves_of_little_are_drawn_too(curves: LearningCurves) -> None:
    assert pixels(learning_curves_figure(curves, title="Short")).ndim == 3


def shown(table: Any) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=140).print(table)
    return stream.getvalue()


def test_all_problems_are_listed_errors_first_and_names_verbatim() -> None:
    problems = [
        Problem("a", "warning", "odd [bold]name[/bold]", Path("x/[1].nii"), "Look."),
        Problem(None, "error", "broken"),
    ]
    text = shown(problems_table(problems))
    assert text.index("broken") < text.index("odd [bold]name[/bold]")
    assert "[1].nii" in text
    assert "1 error, 1 warning" in text


@pytest.mark.parametrize(
    ("severities", "words"),
    [
        ("", "no problems found"),
        ("ww", "2 warnings"),
        ("ewi", "1 error, 1 warning, 1 information"),
        ("eeii", "2 errors, 2 information"),
    ],
)
def test_problems_are_counted_in_words(severities: str, words: str) -> None:
    names: Mapping[str, Any] = {"e": "error", "w": "warning", "i": "information"}
    assert count_problems([Problem(None, names[s], "") for s in severities]) == words


ROWS = (
    ScoreRow("left_kidney", 9, 0.9, (0.8, 0.95), 0.95, hd95_mm=2.04, mean_hd95_mm=30.1, missed=2, colour=(200, 30, 40)),
    ScoreRow("tumour", 0, math.nan, spurious=1),
)


def test_scores_are_listed_with_missed_and_spurious_counts() -> None:
    lines = shown(scores_table(ROWS)).splitlines()
    assert next(line.split() for line in lines if "kidney" in line) == [
        "■",
        "left_kidney",
        "9",
        "0.900",
        "0.80–0.95",
        "0.950",
        "30.1",
        "2.0",
        "2",
        "–",
    ]
    assert next(line.split() for line in lines if "tumour" in line) == ["tumour", "0", "–", "–", "–", "–", "–", "1"]


def test_the_mean_leaves_out_what_has_no_value() -> None:
    mean = mean_row(ROWS)
    assert (mean.dice, mean.hd95_mm, mean.missed, mean.spurious) == (0.9, 2.04, 2, 1)
    assert math.isnan(mean_row([]).dice)


def test_the_page_holds_everything_and_needs_nothing_else(tmp_path: Path) -> None:
    page = Page(
        "Kidneys & <more>",
        summary=("Trained on 9 scans.",),
        choices=(("Patch", "8 x 8 x 8 voxels"),),
        curves=b"curves",
        scores=ROWS,
        scores_note="9 cases held out",
        panels=(CasePanel("good", b"g", 0.9), CasePanel("none", b"n"), CasePanel("bad", b"b", 0.1, "tumour missed")),
        provenance=(("Model", "3f2a"),),
    )
    html = write_index(tmp_path / "new", page).read_text(encoding="utf-8")
    assert "Kidneys &amp; &lt;more&gt;" in html
    assert [re.findall(r"<b>(.*?)</b>", html)] == [["bad", "good", "none"]]
    assert "Not for clinical use without review." in html
    assert f"data:image/png;base64,{base64.b64encode(b'curves').decode()}" in html
    assert "rgb(200,30,40)" in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|@import|url\(", html)
    assert all(words in html for words in ("Trained on 9 scans.", "tumour missed", "3f2a", "8 x 8 x 8 voxels"))


def test_a_page_without_results_leaves_their_sections_out() -> None:
    html = render(Page("Empty"))
    assert re.findall(r"<h2>(.*?)</h2>", html) == []
    assert "nan" not in html.lower()


def test_values_that_are_missing_are_dashes_on_the_page() -> None:
    html = render(Page("Page", scores=ROWS[1:]))
    assert "nan" not in html.lower()
    assert "<td>–</td>" in html


def test_plans_are_told_in_words() -> None:
    from delineate.planning import AugmentationPlan, ClipZScore, NetworkPlan, Plan, TrainingPlan, ZScore

    plan = Plan(
        dataset="d",
        channels=("CT", "T1"),
        kinds=(Kind.CT, Kind.MR),
        labels=("a",),
        spacing_mm=(1, 1.5, 3),
        normalisation=(ClipZScore(lower=-100, upper=300, mean=40, std=60), ZScore()),
        patch_size=(64, 48, 32),
        network=NetworkPlan(
            architecture="nnunet", features=(16, 32), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3),) * 2
        ),
        training=TrainingPlan(batch_size=2, steps=1500, learning_rate=3e-3),
        augmentation=AugmentationPlan(flip_axes=(1, 2)),
        reasons=("spacing: the median",),
    )
    told = dict(describe_plan(plan))
    assert told["Resampled to"] == "spacing 1 x 1.5 x 3 mm, axes along RAS"
    assert told["Intensities"].startswith("CT clipped to -100..300, minus 40, divided by 60; T1 minus each scan's mean")
    assert told["Network"] == "nnunet, 3D, 2 levels, 16 to 32 features"
    assert told["Length"] == "1,500 steps of 2 patches"
    assert told["Training"].startswith("AdamW, learning rate 0.003")
    assert told["Flips"] == "front-back, head-foot"
    assert told["Why"] == "spacing: the median"
