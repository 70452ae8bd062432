"""Slices as plain pixels, for films and contact sheets: quick to draw, thousands of them.

The same orientation, windows and colours as in figures; see `delineate.reports.display`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import Box, Grid, box_of, foreground_box
from delineate.labels import Colour
from delineate.reports.display import BORDERS, View, structures
from delineate.volume import Segmentation, Volume

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

Picture = npt.NDArray[np.uint8]

WHITE: Colour = (255, 255, 255)

_SMALL = 200  # pixels across, in which an outline of two would hide what it is around
_DARK = 0.02  # share of the window that counts as black


def shape_within(view: View, grid: Grid, *, width: int, height: int) -> tuple[int, int]:
    """(rows, columns) of the largest picture of a view in true proportions that fits; at least one pixel each."""
    rows_mm, columns_mm = (n * mm for n, mm in zip(view.shape, view.spacing_mm(grid), strict=True))
    scale = min(width / columns_mm, height / rows_mm)
    return max(1, min(height, round(rows_mm * scale))), max(1, min(width, round(columns_mm * scale)))


def lit_box(array: npt.NDArray[Any], window: tuple[float, float]) -> Box:
    """The box of what is not black in an (I, J, K) array, so that pictures do not consist of air; all if all is."""
    box = foreground_box(array > window[0] + _DARK * (window[1] - window[0]))
    if box is not None:
        return box
    i, j, k = array.shape
    return Box((0, 0, 0), (i, j, k))


def without_dark(view: View, array: npt.NDArray[Any], window: tuple[float, float]) -> View:
    """The view without the black at its borders."""
    axis = view.axis
    part = [slice(None)] * 3
    part[axis] = slice(view.index, view.index + 1)
    box = lit_box(array[part[0], part[1], part[2]], window)
    ranges = [(0, array.shape[n]) if n == axis else (box.start[n], box.stop[n]) for n in range(3)]
    return View(view.plane, view.index, box_of(ranges))


def slice_pixels(
    view: View,
    image: Volume | None,
    segmentation: Segmentation | None,
    *,
    shape: tuple[int, int],
    window: tuple[float, float] = (0.0, 1.0),
    channel: int = 0,
) -> Picture:
    """(rows, columns, 3) of a slice in its window with the structures' outlines; filled on black without an image.

    Image and segmentation are in LPS and have the same voxels; see `turn`.
    """
    picture = np.zeros((*shape, 3), np.uint8)
    line = 1 if max(shape) <= _SMALL else 2
    if image is not None:
        picture[:] = _grey(view.picture(image.array[channel]), shape, window)[..., np.newaxis]
    for colour, mask in _scaled_structures(segmentation, view, shape):
        picture[mask if image is None else _edge(mask, line)] = colour
    return picture


def _grey(pixels: npt.NDArray[np.generic], shape: tuple[int, int], window: tuple[float, float]) -> Picture:
    from PIL import Image

    low, high = window
    share = (np.nan_to_num(pixels.astype(np.float32), nan=low, posinf=high, neginf=low) - low) / (high - low)
    plain = Image.fromarray(np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8))
    return np.asarray(plain.resize(shape[::-1], Image.Resampling.BILINEAR))


def _scaled_structures(
    segmentation: Segmentation | None, view: View, shape: tuple[int, int]
) -> Iterator[tuple[Colour, npt.NDArray[np.bool_]]]:
    from PIL import Image

    for label, mask in structures(segmentation, view) if segmentation is not None else ():
        soft = Image.fromarray(255 * mask.astype(np.uint8)).resize(shape[::-1], Image.Resampling.BILINEAR)
        scaled = np.asarray(soft) >= 128
        # Of a structure that is smaller than a pixel the nearest one remains.
        yield label.colour, scaled if scaled.any() else np.asarray(soft) >= max(1, int(np.asarray(soft).max()))


def _edge(mask: npt.NDArray[np.bool_], line: int) -> npt.NDArray[np.bool_]:
    """The outermost pixels of a mask, within it; the picture's border counts as outside."""
    from scipy.ndimage import binary_erosion

    edge: npt.NDArray[np.bool_] = mask & ~binary_erosion(mask, iterations=line)
    return edge


def write_words(
    picture: Image,
    place: tuple[float, float],
    words: str,
    *,
    size: int = 13,
    colour: Colour = WHITE,
    anchor: str = "la",
) -> None:
    """Words with a dark edge on a picture; `anchor` as Pillow has it: l, m, r across and a, m, d along."""
    from PIL import ImageDraw

    font = small_font(size)
    ImageDraw.Draw(picture).text(place, words, fill=colour, font=font, anchor=anchor, stroke_width=1, stroke_fill=0)


def write_letters(picture: Image, view: View) -> None:
    """What lies to the left, to the right, on top and below, at the borders."""
    width, height = picture.size
    left, right, top, bottom = BORDERS[view.plane]
    for letter, place, anchor in (
        (left, (4, height / 2), "lm"),
        (right, (width - 4, height / 2), "rm"),
        (top, (width / 2, 3), "ma"),
        (bottom, (width / 2, height - 3), "md"),
    ):
        write_words(picture, place, letter, anchor=anchor)


@functools.cache
def small_font(size: int) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the letters of most of Europe's languages."""
    from pathlib import Path

    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
