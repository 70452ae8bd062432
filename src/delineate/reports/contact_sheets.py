"""Contact sheets: many cases on one picture, each by its fullest slice, so that what stands out is seen.

Cases come one at a time, and no more than a page of small pictures is kept.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from delineate.geometry import Grid
from delineate.labels import Colour, Label
from delineate.reports.display import (
    AXIS,
    ORIENTATION,
    Plane,
    View,
    display_window,
    foreground,
    largest_slices,
    structures,
    turn,
    whole,
)
from delineate.reports.drawing import short, shortened
from delineate.reports.pixels import Picture, shape_within, slice_pixels, small_font, without_dark, write_letters
from delineate.reports.tables import printable
from delineate.volume import Segmentation, Volume, reorient

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

COLUMNS, ROWS = 6, 5
TILE_PIXELS = 196

_GAP, _NAME_LINE, _HEAD, _LEGEND_LINE = 8, 15, 30, 20
_INK: Colour = (28, 36, 48)
_QUIET: Colour = (86, 97, 112)
_WARM: Colour = (168, 63, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A case's small picture, (rows, columns, 3). `words`: its size and spacing, or why there is no picture.

    `labels`: of the structures that are to be seen on it.
    """

    case: str
    words: str
    picture: Picture | None = None
    labels: tuple[Label, ...] = ()


def draw_tile(
    case: str,
    volume: Volume | None,
    segmentation: Segmentation | None = None,
    *,
    plane: Plane = "axial",
    channel: int = 0,
) -> Tile:
    """A case by the slice with the most of its structures, the middle one without, outlines on it.

    Without a scan the structures are filled, on black. Raises `ValueError` without either, `GeometryMismatch` for a
    segmentation of other voxels.
    """
    image = None if volume is None else turn(volume, segmentation)[0]
    drawn = None if segmentation is None else reorient(segmentation, ORIENTATION)
    shown = image if image is not None else drawn
    if shown is None:
        raise ValueError("a picture needs a scan or a segmentation")
    grid = shown.grid
    index = largest_slices(foreground(drawn), grid.shape)[AXIS[plane]]
    window = (0.0, 1.0) if image is None else display_window(image, channel)
    view = View(plane, index, whole(grid))
    if image is not None:
        view = without_dark(view, image.array[channel], window)
    shape = shape_within(view, grid, width=TILE_PIXELS, height=TILE_PIXELS)
    pixels = slice_pixels(view, image, drawn, shape=shape, window=window, channel=channel)
    met = () if drawn is None else tuple(label for label, _ in structures(drawn, view))
    return Tile(case, _size(grid), _centred(pixels, view), met)


def failed_tile(case: str, reason: str) -> Tile:
    """A case that cannot be shown, and why: it has its place on the sheet all the same."""
    return Tile(case, reason)


def contact_sheets(
    tiles: Iterable[Tile], *, title: str = "", columns: int = COLUMNS, rows: int = ROWS
) -> Iterator[bytes]:
    """PNGs of up to `columns` x `rows` cases each, in the tiles' order; the last one has as many rows as it needs.

    The structures are named below with their colours. Without a `title` nothing is written above the pictures.
    Without tiles: no page.
    """
    waiting = iter(tiles)
    shown = 0
    while page := list(islice(waiting, columns * rows)):
        heading = f"{title}: cases {shown + 1} to {shown + len(page)}" if title else ""
        yield _page(page, columns=columns if shown else min(columns, len(page)), title=heading)
        shown += len(page)


def _size(grid: Grid) -> str:
    spacing = "×".join(f"{mm:.3g}" for mm in grid.spacing_mm)
    return f"{'×'.join(map(str, grid.shape))}, {spacing} mm"


def _centred(pixels: Picture, view: View) -> Picture:
    from PIL import Image

    square = np.zeros((TILE_PIXELS, TILE_PIXELS, 3), np.uint8)
    top, left = ((TILE_PIXELS - n) // 2 for n in pixels.shape[:2])
    square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    picture = Image.fromarray(square)
    write_letters(picture, view)
    return np.asarray(picture)


def _page(tiles: Sequence[Tile], *, columns: int, title: str) -> bytes:
    from PIL import Image, ImageDraw

    width = _GAP + columns * (TILE_PIXELS + _GAP)
    labels = sorted({label for tile in tiles for label in tile.labels}, key=lambda label: (label.value, label.name))
    places = _legend_places(labels, width)
    step = TILE_PIXELS + 2 * _NAME_LINE + _GAP
    rows = math.ceil(len(tiles) / columns)
    top = _HEAD if title else _GAP
    below = top + rows * step
    lines = 1 + max((line for _, line in places), default=-1)
    sheet = Image.new("RGB", (width, below + lines * _LEGEND_LINE + (_GAP if lines else 0)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 6), _fitting(title, width - 2 * _GAP, 15), fill=_INK, font=small_font(15))
    for n, tile in enumerate(tiles):
        _paste(sheet, draw, tile, left=_GAP + n % columns * (TILE_PIXELS + _GAP), top=top + n // columns * step)
    for label, (left, line) in zip(labels, places, strict=True):
        at = below + line * _LEGEND_LINE
        draw.rectangle((left, at + 2, left + 11, at + 13), fill=label.colour)
        draw.text((left + 16, at), short(label.name), fill=_INK, font=small_font(12))
    png = io.BytesIO()
    sheet.save(png, format="PNG", optimize=True)
    return png.getvalue()


def _paste(sheet: Image, draw: ImageDraw, tile: Tile, *, left: int, top: int) -> None:
    from PIL import Image

    if tile.picture is not None:
        sheet.paste(Image.fromarray(tile.picture), (left, top))
    else:
        box = (left, top, left + TILE_PIXELS - 1, top + TILE_PIXELS - 1)
        draw.rectangle(box, fill=(253, 243, 236), outline=_WARM)
        for line, words in enumerate(_wrapped(tile.words, TILE_PIXELS - 16)[:9]):
            draw.text((left + 8, top + 8 + 17 * line), words, fill=_WARM, font=small_font(12))
    bottom = top + TILE_PIXELS
    below = tile.words if tile.picture is not None else "no picture"
    draw.text((left, bottom + 1), _fitting(tile.case, TILE_PIXELS, 12), fill=_INK, font=small_font(12))
    draw.text((left, bottom + 1 + _NAME_LINE), _fitting(below, TILE_PIXELS, 10), fill=_QUIET, font=small_font(10))


def _legend_places(labels: Sequence[Label], width: int) -> list[tuple[int, int]]:
    """(left, line) of each label's swatch."""
    places, left, line = [], _GAP, 0
    for label in labels:
        needed = 16 + round(small_font(12).getlength(short(label.name))) + 18
        if left > _GAP and left + needed > width:
            left, line = _GAP, line + 1
        places.append((left, line))
        left += needed
    return places


def _fitting(words: str, width: int, size: int) -> str:
    """Words that fit into so many pixels, with their middle left out if they must."""
    shown, most = printable(words), len(words)
    while most > 4 and small_font(size).getlength(shown) > width:
        most -= 1
        shown = shortened(words, most)
    return shown


def _wrapped(words: str, width: int) -> list[str]:
    import textwrap

    letters = max(8, int(width / small_font(12).getlength("n")))
    return textwrap.wrap(printable(words), letters)
