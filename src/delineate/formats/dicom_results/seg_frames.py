"""The frames of a DICOM Segmentation: where they lie, and their pixels (PS3.3 A.51 and A.83, C.8.20.2, C.7.6.16.2).

Frames may come in any order and empty ones may be missing, so the grid is completed from the positions that are there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import InconsistentSeries, UnreadableImage
from delineate.formats.dicom.headers import first_value, number, text
from delineate.formats.dicom.slices import COSINE_TOLERANCE, finite_numbers, same_cosines
from delineate.geometry import FloatArray, Grid, Triple, compose_affine
from delineate.volume import Array

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.13), made for bitmaps; pydicom does not decode it."""

POSITION_TOLERANCE_MM = 0.1  # as for series; a tenth of the spacing replaces it where planes are closer than 1 mm
SAME_POSITION_MM = 0.01
SPACING_TOLERANCE_MM = 1e-3
MOST_PLANES = 4096  # 2 m of half-millimetre slices; what lies between frames is not backed by the file's size
MOST_COMPRESSED_PIXELS = 2**26
SHORTEST_MM, LONGEST_MM, FARTHEST_MM = 1e-3, 1e3, 1e5  # of spacings and positions; beyond them is damage
FEWEST_PLANES = 3  # two have one gap, which nothing confirms


@dataclass(frozen=True, slots=True)
class Frame:
    """`segment`: the number of its segment, None in a label map; `plane`: its index along axis K of the grid."""

    segment: int | None
    plane: int


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the frames lie. `grid`: I along rows, J down columns, K along the normal, from first to last frame."""

    grid: Grid
    frames: tuple[Frame, ...]

    @property
    def planes(self) -> tuple[int, ...]:
        """The indices along axis K that have frames, rising."""
        return tuple(sorted({frame.plane for frame in self.frames}))


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    position_mm: FloatArray
    cosines: tuple[float, ...]
    spacing_mm: tuple[float, float]  # between rows, between columns


@dataclass(frozen=True, slots=True)
class _Hints:
    between_slices_mm: float | None
    thickness_mm: float | None


def read_layout(dataset: Dataset, path: Path) -> Layout:
    """Where each frame lies. Raises `InconsistentSeries` for frames that are not parallel, evenly spaced planes of one
    patient, `UnreadableImage` for a header that says too little."""
    _refuse_slides(dataset, path)
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = (items(dataset, "SharedFunctionalGroupsSequence") or [None])[0]
    count = number(dataset, "NumberOfFrames")
    if not groups or count != len(groups):
        raise UnreadableImage("frames and their descriptions differ", expected=count, got=len(groups), path=path)
    places = [_place(group, shared, n, path) for n, group in enumerate(groups)]
    _check_parallel(places, path)
    grid, planes = _grid(dataset, places, _hints(groups[0], shared), path)
    is_map = text(dataset, "SegmentationType") == "LABELMAP"
    segments = [None if is_map else _segment(group, shared, n, path) for n, group in enumerate(groups)]
    frames = tuple(Frame(segment, plane) for segment, plane in zip(segments, planes, strict=True))
    _check_once(frames, path)
    return Layout(grid, frames)


def items(dataset: Dataset, keyword: str) -> list[Any]:
    """The data sets of a sequence; none where it is missing or no sequence."""
    value = first_value(dataset, keyword)
    return list(value) if value is not None and dataset[keyword].VR == "SQ" else []


def _refuse_slides(dataset: Dataset, path: Path) -> None:
    tiled = text(dataset, "DimensionOrganizationType").startswith("TILED")
    if tiled or first_value(dataset, "TotalPixelMatrixColumns") is not None:
        raise InconsistentSeries(
            "a segmentation of a whole-slide image: tiles of one plane in a slide's coordinates",
            expected="frames in patient coordinates",
            path=path,
            remedy="Only segmentations of CT, MR and PET can be read as a volume.",
        )


def _macro(group: Dataset, shared: Dataset | None, sequence: str) -> Dataset | None:
    """A functional group macro of a frame: its own, or the one that all frames share."""
    for holder in (group, shared):
        found = items(holder, sequence) if holder is not None else []
        if found:
            return found[0]  # type: ignore[no-any-return]
    return None


def _numbers(macro: Dataset | None, keyword: str, count: int, *, frame: int, path: Path) -> FloatArray:
    value = None if macro is None else first_value(macro, keyword)
    array = finite_numbers(value, count)
    if array is None:
        raise InconsistentSeries(
            f"frame {frame + 1} has no usable {keyword}: it does not say where it lies in the patient",
            expected=f"{count} numbers",
            got=value,
            path=path,
            remedy="Only segmentations of CT, MR and PET can be read as a volume.",
        )
    return array


def _place(group: Dataset, shared: Dataset | None, frame: int, path: Path) -> _Place:
    def numbers(sequence: str, keyword: str, count: int) -> FloatArray:
        return _numbers(_macro(group, shared, sequence), keyword, count, frame=frame, path=path)

    position = numbers("PlanePositionSequence", "ImagePositionPatient", 3)
    cosines = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    between_rows, between_columns = numbers("PixelMeasuresSequence", "PixelSpacing", 2).tolist()
    if not (_perpendicular(cosines) and np.abs(position).max() <= FARTHEST_MM) or not all(
        SHORTEST_MM <= spacing <= LONGEST_MM for spacing in (between_rows, between_columns)
    ):
        raise InconsistentSeries(
            f"frame {frame + 1} lies at an impossible place",
            expected="perpendicular unit vectors, positive spacings, a position in the patient",
            got=f"{cosines.tolist()}, {(between_rows, between_columns)} mm, {position.tolist()} mm",
            path=path,
        )
    return _Place(position, tuple(cosines.tolist()), (between_rows, between_columns))


def _perpendicular(cosines: FloatArray) -> bool:
    directions = np.clip(cosines, -2, 2).reshape(2, 3)
    return float(np.abs(directions @ directions.T - np.eye(2)).max()) <= 2 * COSINE_TOLERANCE


def _check_parallel(places: list[_Place], path: Path) -> None:
    first = places[0]
    for n, place in enumerate(places):
        if not same_cosines(place.cosines, first.cosines):
            raise InconsistentSeries(
                "frames of mixed orientations",
                expected=f"{np.round(first.cosines, 4).tolist()} as in frame 1",
                got=f"{np.round(place.cosines, 4).tolist()} in frame {n + 1}",
                path=path,
            )
        if max(abs(a - b) for a, b in zip(place.spacing_mm, first.spacing_mm, strict=True)) > SPACING_TOLERANCE_MM:
            raise InconsistentSeries(
                "frames of mixed pixel spacings",
                expected=f"{first.spacing_mm} mm",
                got=f"{place.spacing_mm} mm in frame {n + 1}",
                path=path,
            )


def _segment(group: Dataset, shared: Dataset | None, frame: int, path: Path) -> int:
    macro = _macro(group, shared, "SegmentIdentificationSequence")
    found = None if macro is None else number(macro, "ReferencedSegmentNumber")
    if found is None:
        raise UnreadableImage(f"frame {frame + 1} does not name its segment", path=path)
    return int(found)


def _check_once(frames: tuple[Frame, ...], path: Path) -> None:
    seen: dict[Frame, int] = {}
    for n, frame in enumerate(frames):
        if frame in seen:
            raise InconsistentSeries(
                "two frames of one segment at one position",
                expected="each once",
                got=f"frames {seen[frame] + 1} and {n + 1}",
                path=path,
                remedy="Time points must be kept in segmentations of their own.",
            )
        seen[frame] = n


def _hints(group: Dataset, shared: Dataset | None) -> _Hints:
    macro = _macro(group, shared, "PixelMeasuresSequence")

    def length(keyword: str) -> float | None:
        value = None if macro is None else number(macro, keyword)
        # Some scanners count spacing downwards; numbers beyond any patient are damage.
        return abs(value) if value is not None and SHORTEST_MM <= abs(value) <= LONGEST_MM else None

    return _Hints(length("SpacingBetweenSlices"), length("SliceThickness"))


def _grid(dataset: Dataset, places: list[_Place], hints: _Hints, path: Path) -> tuple[Grid, list[int]]:
    """The grid, and the index of each frame's plane along its axis K."""
    row, column = np.array(places[0].cosines).reshape(2, 3)
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    positions = np.array([place.position_mm for place in places])
    heights, plane_of_frame = _planes(positions @ normal)
    spacing, index_of_plane = _spaced(heights, hints, path)
    indices = [index_of_plane[plane] for plane in plane_of_frame]
    first, last = (positions[plane_of_frame.index(plane)] for plane in (0, len(heights) - 1))
    # From first to last rather than along the normal: the frames of a tilted series make a sheared grid, as it was.
    step = normal * spacing if len(heights) == 1 else (last - first) / index_of_plane[-1]
    _check_even(positions, first + np.array(indices)[:, np.newaxis] * step, float(normal @ step), path)
    between_rows, between_columns = places[0].spacing_mm
    affine = compose_affine(np.column_stack([row * between_columns, column * between_rows, step]), first)
    rows, columns = _image_size(dataset, path)
    shape: Triple = (columns, rows, index_of_plane[-1] + 1)
    return Grid(shape, affine, text(dataset, "FrameOfReferenceUID") or None), indices


def _planes(heights: FloatArray) -> tuple[FloatArray, list[int]]:
    """Distinct heights, rising, and which of them each frame has."""
    order = np.argsort(heights, kind="stable")
    starts = np.diff(heights[order], prepend=-np.inf) > SAME_POSITION_MM
    plane_of_frame = np.empty(len(heights), dtype=np.intp)
    plane_of_frame[order] = np.cumsum(starts) - 1
    return heights[order][starts], plane_of_frame.tolist()


def _spaced(heights: FloatArray, hints: _Hints, path: Path) -> tuple[float, list[int]]:
    """The spacing of the stack that the planes are part of, in mm, and each plane's index in it."""
    if len(heights) == 1:
        spacing = hints.between_slices_mm or hints.thickness_mm
        if spacing is None:
            raise InconsistentSeries(
                "one plane without a spacing or thickness is no volume",
                expected="SpacingBetweenSlices or SliceThickness",
                path=path,
            )
        return spacing, [0]
    gaps = np.diff(heights)
    for spacing in _possible_spacings(gaps, hints):
        ratios = gaps / spacing
        steps = np.rint(ratios)
        if steps.min() >= 1 and np.abs(ratios - steps).max() <= 0.25:
            indices = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64).tolist()
            if indices[-1] >= MOST_PLANES:
                raise InconsistentSeries(
                    "frames too far apart for their spacing",
                    expected=f"at most {MOST_PLANES} planes",
                    got=f"{heights[-1] - heights[0]:.6g} mm in steps of {spacing:.6g} mm",
                    path=path,
                )
            return spacing, indices
    few = len(heights) < FEWEST_PLANES
    raise InconsistentSeries(
        "two planes have one gap, which nothing confirms" if few else "planes that are not evenly spaced",
        expected=f"a spacing of {hints.between_slices_mm or hints.thickness_mm} mm" if few else "multiples of one step",
        got=f"gaps of {', '.join(f'{gap:.6g}' for gap in np.unique(np.round(gaps, 3))[:5])} mm",
        path=path,
    )


def _possible_spacings(gaps: FloatArray, hints: _Hints) -> Iterator[float]:
    smallest = float(gaps.min())
    thickness = hints.thickness_mm
    if hints.between_slices_mm is not None:
        yield hints.between_slices_mm
    enough = len(gaps) + 1 >= FEWEST_PLANES
    if enough or (thickness is not None and abs(smallest - thickness) <= 0.1 * thickness):
        yield smallest
    if enough and thickness is not None:
        yield thickness


def _check_even(positions: FloatArray, expected: FloatArray, spacing_mm: float, path: Path) -> None:
    distances = np.linalg.norm(positions - expected, axis=1)
    tolerance = min(POSITION_TOLERANCE_MM, 0.1 * spacing_mm)
    worst = int(distances.argmax())
    if distances[worst] > tolerance:
        raise InconsistentSeries(
            "planes that are not evenly spaced on one line",
            expected=f"each within {tolerance:.3g} mm of its even place",
            got=f"{distances[worst]:.3f} mm at frame {worst + 1}",
            path=path,
        )


def _image_size(dataset: Dataset, path: Path) -> tuple[int, int]:
    rows, columns = (number(dataset, keyword) for keyword in ("Rows", "Columns"))
    if not rows or not columns or min(rows, columns) < 1:
        raise UnreadableImage("a segmentation without Rows and Columns", got=f"{rows} x {columns}", path=path)
    return int(rows), int(columns)


def iterate_pixels(dataset: Dataset, layout: Layout, path: Path) -> Iterator[Array]:
    """The frames in the file's order, each (rows, columns) of uint8 or uint16 as stored.

    Nothing is allocated that the pixel data does not fill, compressed frames aside, which may have 2**26 pixels each.
    Raises `UnreadableImage` for missing, short or damaged pixel data.
    """
    columns, rows, _ = layout.grid.shape
    bits = number(dataset, "BitsAllocated")
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if bits not in (1, 8, 16) or number(dataset, "SamplesPerPixel") not in (1, None):
        raise UnreadableImage("pixels of an unsupported kind", expected="1, 8 or 16 bits", got=bits, path=path)
    data = first_value(dataset, "PixelData")
    if not isinstance(data, bytes):
        raise UnreadableImage("a segmentation without pixel data", path=path, remedy="Fetch the file again.")
    count, shape = len(layout.frames), (rows, columns)
    is_deflated = syntax == DEFLATED_FRAMES
    if syntax is None or not (is_deflated or syntax.is_encapsulated or not syntax.is_little_endian):
        yield from _native(data, count, shape, bits=int(bits), path=path)
        return
    if rows * columns > MOST_COMPRESSED_PIXELS:
        raise UnreadableImage("an impossible image size", got=f"{rows} x {columns}", path=path)
    frames = _deflated(dataset, count, shape, int(bits)) if is_deflated else _decoded(dataset)
    yield from _checked(frames, layout, path)


def _native(data: bytes, count: int, shape: tuple[int, int], *, bits: int, path: Path) -> Iterator[Array]:
    pixels = shape[0] * shape[1]
    needed = -(-count * pixels * bits // 8)
    # One byte makes odd lengths even; more means that Rows, Columns or the number of frames are not the pixels'.
    if not needed <= len(data) <= needed + 1:
        raise UnreadableImage(
            "the pixel data is cut off" if len(data) < needed else "more pixel data than the header describes",
            expected=f"{needed} bytes",
            got=len(data),
            path=path,
            remedy="Fetch the file again.",
        )
    if bits == 1:
        for n in range(count):
            yield _bits(data, n * pixels, pixels).reshape(shape)
    else:
        stored = np.frombuffer(data, dtype=f"<u{bits // 8}", count=count * pixels)
        yield from stored.reshape(count, *shape)


def _bits(data: bytes, start: int, count: int) -> Array:
    """Pixels follow each other without gaps, also from frame to frame, the first in the lowest bit (PS3.5 8.1.1)."""
    first, stop = start // 8, -(-(start + count) // 8)
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8, stop - first, first), bitorder="little")
    return unpacked[start - 8 * first :][:count]


def _deflated(dataset: Dataset, count: int, shape: tuple[int, int], bits: int) -> Iterator[Array]:
    from pydicom.encaps import generate_frames

    size = -(-shape[0] * shape[1] * bits // 8)
    for frame in generate_frames(dataset.PixelData, number_of_frames=count):
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size + 1)
        pixels = _bits(data, 0, shape[0] * shape[1]) if bits == 1 else np.frombuffer(data, f"<u{bits // 8}")
        yield pixels.reshape(-1)[: shape[0] * shape[1]].reshape(shape)


def _decoded(dataset: Dataset) -> Iterator[Array]:
    from pydicom.pixels.utils import iter_pixels

    return iter_pixels(dataset, raw=True)


def _checked(frames: Iterator[Array], layout: Layout, path: Path) -> Iterator[Array]:
    columns, rows, _ = layout.grid.shape
    found = 0
    try:
        for frame in frames:
            if frame.shape != (rows, columns) or frame.dtype.kind not in "bu":
                raise ValueError(f"a frame of {frame.shape} {frame.dtype}")
            found += 1
            yield frame.astype(frame.dtype.newbyteorder("="), copy=False)
        if found != len(layout.frames):
            raise ValueError(f"{found} frames instead of {len(layout.frames)}")
    # Decoders raise whatever they meet in damaged data.
    except Exception as error:
        raise UnreadableImage(
            "the pixel data cannot be decoded", got=str(error)[:200], path=path, remedy="Fetch the file again."
        ) from error
