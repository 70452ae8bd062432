"""Films: a sweep through the slices of a scan, or the structures turning, as GIF or MP4.

Frames are drawn one at a time, so that memory does not grow with the scan; a film that comes out too large is made
again with smaller pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from delineate.errors import ExportError, ResourceError
from delineate.files import atomic_path
from delineate.geometry import foreground_box
from delineate.labels import Colour
from delineate.reports.display import AXIS, Plane, View, display_window, foreground, turn
from delineate.reports.drawing import short
from delineate.reports.pixels import Picture, lit_box, shape_within, slice_pixels, write_letters, write_words
from delineate.volume import Segmentation, Volume

SUFFIXES = (".gif", ".mp4")
MOST_BYTES = 3_000_000
MOST_FRAMES = 72

Frames = Callable[[int], Iterable[Picture]]
"""Makes a film's frames, (rows, columns, 3), with pictures of about so many pixels across."""

_SIZES = (512, 400, 320, 240, 180)
_FRAMES_A_SECOND = 12
_GREYS, _MOST_SHADES = 56, 10  # of a GIF
_CODECS = ("libx264", "mpeg4")
_NAMES_SHOWN = 8
_MARGIN = 3  # slices before and behind what is shown


def write_film(path: Path, frames: Frames, *, colours: Sequence[Colour] = (), most_bytes: int = MOST_BYTES) -> int:
    """Write a .gif (Pillow) or an .mp4 (PyAV, extra `pictures`) atomically and return its size in bytes.

    `colours`: what a GIF, which has 256 of them, should have besides greys: the structures' ones, in some shades.
    `frames` is called again with a smaller size while the file has more than `most_bytes`; the smallest one is kept
    whatever it has. Raises `ExportError` for another suffix or no frames, `ResourceError` without PyAV.
    """
    check_film(path)
    gif = path.suffix.lower() == ".gif"
    with atomic_path(path) as temporary:
        for size in _SIZES:
            _write_gif(temporary, frames(size), colours) if gif else _write_mp4(temporary, frames(size))
            if temporary.stat().st_size <= most_bytes:
                break
        return temporary.stat().st_size


def check_film(path: Path) -> None:
    """Raises what `write_film` raises for a path that it cannot write, before anything is read."""
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError("unknown kind of film", expected=" or ".join(SUFFIXES), got=path.name)
    if path.suffix.lower() == ".mp4":
        _av()


def slice_sweep(
    volume: Volume,
    segmentation: Segmentation | None = None,
    *,
    plane: Plane = "axial",
    channel: int = 0,
    size: int = _SIZES[0],
) -> Iterator[Picture]:
    """(rows, columns, 3) pictures from slice to slice, from feet to head for axial ones, outlines on them.

    With a segmentation that has any voxels only the slices around them are shown, at most `MOST_FRAMES` evenly chosen
    ones. Raises `GeometryMismatch` for a segmentation of other voxels, `ValueError` for a channel that is not there.
    """
    if not 0 <= channel < volume.channels:
        raise ValueError(f"channel {channel} of {volume.channels}")
    image, (drawn,) = turn(volume, segmentation)
    window = display_window(image, channel)
    box, count = lit_box(image.array[channel], window), image.grid.shape[AXIS[plane]]
    for index in _chosen(drawn, plane, count):
        view = View(plane, index, box)
        shape = shape_within(view, image.grid, width=size, height=size)
        pixels = slice_pixels(view, image, drawn, shape=shape, window=window, channel=channel)
        yield _labelled(pixels, view, drawn, f"{index + 1} / {count}")


def _chosen(segmentation: Segmentation | None, plane: Plane, count: int) -> list[int]:
    mask = foreground(segmentation)
    box = None if mask is None else foreground_box(mask)
    first, last = 0, count - 1
    if box is not None:
        first, last = max(0, box.start[AXIS[plane]] - _MARGIN), min(count, box.stop[AXIS[plane]] + _MARGIN) - 1
    return [int(n) for n in np.unique(np.linspace(first, last, min(MOST_FRAMES, last - first + 1)).round())]


def _labelled(pixels: Picture, view: View, segmentation: Segmentation | None, place: str) -> Picture:
    from PIL import Image

    picture = Image.fromarray(pixels)
    write_letters(picture, view)
    small = 13 if picture.width >= 300 else 10
    write_words(picture, (picture.width - 4, picture.height - 3), place, size=small, anchor="rd")
    labels = list(segmentation.labels)[:_NAMES_SHOWN] if segmentation is not None and picture.width >= 300 else []
    for n, label in enumerate(labels):
        write_words(picture, (5, 4 + 14 * n), short(label.name, 20), size=11, colour=label.colour)
    return np.asarray(picture)


def _write_gif(path: Path, frames: Iterable[Picture], colours: Sequence[Colour]) -> None:
    from PIL import Image

    # One palette for all: colours that change from frame to frame flicker.
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(colours).tobytes())
    pictures = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    _first(pictures, path).save(
        path,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=round(1000 / _FRAMES_A_SECOND),
        loop=0,
        optimize=False,
    )


def _palette(colours: Sequence[Colour]) -> Picture:
    """(256, 3) greys, and each colour from a dark shade to itself and a bright one."""
    greys = np.repeat(np.linspace(0, 255, _GREYS).round().astype(np.uint8)[:, np.newaxis], 3, axis=1)
    chosen = np.asarray(list(dict.fromkeys(colours))[: 256 - _GREYS], np.float64).reshape(-1, 3)
    shades = min(_MOST_SHADES, (256 - _GREYS) // max(1, len(chosen)))
    darkness = np.linspace(0.3, 1.0, shades) if shades > 1 else np.ones(1)
    shaded = chosen[:, np.newaxis] * darkness[:, np.newaxis]
    full = np.zeros((256, 3), np.uint8)
    both = np.concatenate([greys, shaded.reshape(-1, 3).round().astype(np.uint8)])
    full[: len(both)] = both
    return full


def _first(pictures: Iterator[Any], path: Path) -> Any:
    for picture in pictures:
        return picture
    raise ExportError("a film without frames", path=path)


def _write_mp4(path: Path, frames: Iterable[Picture]) -> None:
    av = _av()
    pictures = iter(frames)
    first = _first(pictures, path)
    rows, columns = (n - n % 2 for n in first.shape[:2])  # the format halves colours in both directions
    codec = next(name for name in _CODECS if name in av.codecs_available)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as film:
        stream = film.add_stream(codec, rate=_FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
        stream.options = {"crf": "24"} if codec == "libx264" else {}
        for picture in chain([first], pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:rows, :columns]), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ResourceError(
            "films as .mp4 need PyAV", remedy='Install it: pip install "delineate[pictures]", or write a .gif.'
        ) from error
    return av
