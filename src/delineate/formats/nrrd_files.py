"""NRRD files (.nrrd, .nhdr), and 3D Slicer's segmentations in them (.seg.nrrd).

The format is Teem's NRRD0001 to NRRD0005; for the fields that begin with Segment see `nrrd_segments`. NRRD names its
space, so LPS, RAS and LAS files are all read; LPS is what is written. Space directions are the columns of the affine,
in order of the axes on disk, and the space origin is the centre of the first voxel.
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from delineate.errors import ExportError, GeometryMismatch, InputError, LabelError, ResourceError, UnreadableImage
from delineate.files import atomic_path
from delineate.formats.nrrd_segments import read_segments, segment_fields
from delineate.geometry import FloatArray, Grid, compose_affine, foreground_box
from delineate.labels import Label, LabelSet
from delineate.volume import Array, Kind, Segmentation, Source, Volume

SUFFIXES = (".nrrd", ".nhdr")

_LARGEST_HEADER = 4_000_000
_AT_ONCE = 16_000_000
_DEFLATE_RATIO = 1032  # the most that a byte of gzip can stand for
_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: np.dtype(code) for code, names in _TYPES.items() for name in names.split("|")}
_NAMES = {np.dtype(code): names.split("|")[1 if code in ("u1", "u2", "u4") else 0] for code, names in _TYPES.items()}
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    path: Path
    fields: Mapping[str, Any]
    data_path: Path
    data_start: int
    sizes: tuple[int, ...]
    grid: Grid
    list_axis: int | None  # the one axis that is not in space

    def text(self, key: str) -> str:
        return str(self.fields.get(key, "")).strip()


def is_nrrd_name(path: Path) -> bool:
    """Whether the name ends in .nrrd or .nhdr, in any case."""
    return path.name.lower().endswith(SUFFIXES)


def read_nrrd_volume(path: Path, *, kind: Kind = Kind.OTHER) -> Volume:
    """A scan of shape (1, I, J, K) in the type it has on disk, from gzip, bzip2 or raw data.

    `kind` says what the numbers measure, which NRRD does not. A detached header is read if its data is one file in the
    header's own folder. Raises `UnreadableImage` for what is no such file, is damaged, holds several channels or points
    elsewhere, `GeometryMismatch` for a header that does not say where its voxels are in the patient.
    """
    with _typed(path):
        file = _opened(path)
        if file.list_axis is not None and file.sizes[file.list_axis] != 1:
            raise UnreadableImage(
                "not one 3D image",
                expected="three axes in space",
                got=file.sizes,
                path=path,
                remedy="Split it into one file for each channel; read segmentations as segmentations.",
            )
        array = _layers(file)[0]
    return Volume(array[np.newaxis], file.grid, kind, Source(path=path))


def read_nrrd(path: Path, labels: LabelSet | None = None) -> Segmentation:
    """A label map, or Slicer's segmentation, (I, J, K) of uint8 or uint16; of overlapping layers (L, I, J, K) masks.

    Without `labels` the file's own Segment fields say names, values, colours and codes. Where values of different
    layers are equal, as Slicer writes overlapping segments, the labels are numbered from 1 in the file's order. Raises
    `LabelError` for voxels without a label, values that are no small whole numbers, and a file without Segment fields
    if `labels` is None; and what `read_nrrd_volume` raises.
    """
    with _typed(path):
        file = _opened(path)
        segments = read_segments(file.fields)
        layers = _layers(file)
        if layers.dtype.kind == "f" or layers.min() < 0 or layers.max() > np.iinfo(np.uint16).max:
            raise LabelError("label values must be whole numbers", expected="0 to 65535", got=layers.dtype, path=path)
        if len(layers) > 1:
            return _overlapping(layers, file, segments, labels)
        chosen = labels or LabelSet(tuple(label for label, _ in segments))
        _check_values(layers[0], chosen, path, given=bool(labels or segments))
        array = layers[0].astype(np.uint8 if layers.max() <= 255 else np.uint16, copy=False)
        return Segmentation(_as_labelled(array, chosen), file.grid, chosen, Source(path=path))


def write_nrrd(path: Path, segmentation: Segmentation) -> None:
    """Write a segmentation for 3D Slicer, atomically: a label map, or one layer a structure where they may overlap.

    Names, values, colours, codes and extents are in the Segment fields. Raises `ExportError` for a name that does not
    end in .nrrd, and `ResourceError` for a full disk. 3D Slicer sees the segments where the name ends in .seg.nrrd.
    """
    overlaps = segmentation.labels.overlaps
    array = segmentation.array
    if overlaps:
        values = np.array(segmentation.labels.values, dtype=np.min_scalar_type(max(segmentation.labels.values)))
        array = array * values[:, np.newaxis, np.newaxis, np.newaxis]
    lines = [
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_SourceRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    for n, (label, extent) in enumerate(zip(segmentation.labels, _extents(segmentation), strict=True)):
        lines += [f"Segment{n}_{key}:={value}" for key, value in segment_fields(label, n if overlaps else 0, extent)]
    _write(path, array, segmentation.grid, lines)


def write_nrrd_mask(path: Path, segmentation: Segmentation, name: str) -> None:
    """Write one structure as a plain mask of 0 and 1, atomically. Raises `LabelError` for an unknown name."""
    _write(path, segmentation.mask(name).astype(np.uint8), segmentation.grid, [])


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    """Whatever damage does to the parsers, in our own words."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=error.filename or path) from error
    except LabelError as error:
        raise LabelError(
            error.problem, expected=error.expected, got=error.got, path=path, remedy=error.remedy
        ) from error
    except (InputError, ResourceError):
        raise
    except MemoryError as error:
        raise ResourceError("not enough memory for the voxels", path=path) from error
    except (EOFError, OSError, zlib.error) as error:
        remedy = "Copy or download it again."
        raise UnreadableImage("the file is truncated or corrupt", got=str(error), path=path, remedy=remedy) from error
    # The parser of headers raises what the damaged field happens to lead to.
    except Exception as error:
        raise UnreadableImage("not a sound NRRD file", got=str(error) or type(error).__name__, path=path) from error


def _opened(path: Path) -> _File:
    import nrrd

    with path.open("rb") as stream:
        start = stream.read(_LARGEST_HEADER)
    if not re.match(rb"NRRD000[1-5]\r?\n", start):
        raise UnreadableImage("not an NRRD file", got="an empty file" if not start else "another content", path=path)
    ending = re.search(rb"\n\r?\n", start)
    header = start[: ending.start()] if ending else start
    if not ending and not path.name.lower().endswith(".nhdr"):
        raise UnreadableImage("the header has no end", path=path, remedy="Copy or download it again.")
    # pynrrd drops all characters beyond ASCII from bytes, but not from text.
    fields = nrrd.read_header(header.decode("utf-8", "replace").splitlines())
    sizes = tuple(int(n) for n in fields["sizes"])
    data_path, data_start = _where(fields, path, ending.end() if ending else len(start))
    if len(sizes) != int(fields["dimension"]) or min(sizes) < 1:
        raise UnreadableImage("sizes that make no array", expected=f"{fields['dimension']} axes", got=sizes, path=path)
    directions, list_axis = _directions(fields, sizes, path)
    shape = tuple(n for axis, n in enumerate(sizes) if axis != list_axis)
    grid = _grid(fields, shape, directions, path)
    return _File(path, fields, data_path, data_start, sizes, grid, list_axis)


def _where(fields: Mapping[str, Any], path: Path, start: int) -> tuple[Path, int]:
    """The file that holds the voxels, and where they begin."""
    name = fields.get("data file", fields.get("datafile"))
    if name is None:
        if path.name.lower().endswith(".nhdr"):
            raise UnreadableImage("a detached header without a data file", path=path)
        return path, start
    data_path = path.parent / str(name)
    # A header must not make us read whatever file of this machine it names.
    if Path(str(name)).name != str(name) or data_path.resolve().parent != path.parent.resolve():
        raise UnreadableImage(
            "the voxels are not in one file beside the header",
            expected="the name of a file in the same folder",
            got=name,
            path=path,
            remedy="Put the data beside the header, or save it as one .nrrd file.",
        )
    return data_path, 0


def _directions(fields: Mapping[str, Any], sizes: tuple[int, ...], path: Path) -> tuple[FloatArray, int | None]:
    """(3, 3) the vector of each axis in space, a row each; and the axis that is not in space, if there is one."""
    found = fields.get("space directions")
    none = [np.full(3, np.nan)] * len(sizes)
    rows = np.array(none if found is None else [np.full(3, np.nan) if v is None else v for v in found], dtype=float)
    outside = [n for n, row in enumerate(rows) if np.isnan(row).all()] if rows.shape == (len(sizes), 3) else []
    if rows.shape != (len(sizes), 3) or len(sizes) - len(outside) != 3 or len(outside) > 1:
        raise GeometryMismatch(
            "the header does not say where the voxels are",
            expected="space directions of three axes, and at most one axis without",
            got=str(fields.get("space directions")),
            path=path,
            remedy="Convert the original images again, with a tool that keeps their place.",
        )
    return np.delete(rows, outside, axis=0), outside[0] if outside else None


def _grid(fields: Mapping[str, Any], shape: tuple[int, ...], directions: FloatArray, path: Path) -> Grid:
    space = str(fields.get("space", "")).strip().lower()
    units = {str(unit).strip().lower() for unit in fields.get("space units", ())} - {"", "mm", "millimeter", "???"}
    origin = np.array(fields.get("space origin", ()), dtype=float)
    if space not in _TO_LPS or units or origin.shape != (3,):
        raise GeometryMismatch(
            "the header does not place the voxels in a patient",
            expected="LPS, RAS or LAS space in mm, with an origin",
            got=f"space {space or 'missing'}, units {sorted(units) or 'mm'}, origin {origin.tolist() or 'missing'}",
            path=path,
            remedy="Convert the original images again, with a tool that keeps their place.",
        )
    signs = np.array(_TO_LPS[space], dtype=float)
    try:
        return Grid(shape, compose_affine((directions * signs).T, origin * signs))  # type: ignore[arg-type]
    except GeometryMismatch as error:
        raise GeometryMismatch(error.problem, got=error.got, path=path, remedy=error.remedy) from error


def _layers(file: _File) -> Array:
    """(L, I, J, K) the voxels, one layer where there is no list axis; I varies fastest in memory where it can."""
    array = _data(file).reshape(file.sizes, order="F")
    return array[np.newaxis] if file.list_axis is None else np.moveaxis(array, file.list_axis, 0)


def _data(file: _File) -> Array:
    name = file.text("type").lower()
    if name not in _DTYPES:
        raise UnreadableImage("voxels must be plain numbers", expected="integers or floats", got=name, path=file.path)
    dtype = _DTYPES[name]
    expected = dtype.itemsize
    for size in file.sizes:
        expected *= size  # in whole numbers of any size, which a header may ask for
    stored = dtype
    if dtype.itemsize > 1:
        endian = file.text("endian").lower()
        if endian not in ("little", "big"):
            raise UnreadableImage("the byte order is not known", expected="little or big", got=endian, path=file.path)
        stored = dtype.newbyteorder("<" if endian == "little" else ">")
    array = np.frombuffer(_payload(file, expected), dtype=stored)
    return array.astype(dtype, copy=False)


def _payload(file: _File, expected: int) -> bytearray:
    encoding = file.text("encoding").lower()
    skip = int(file.fields.get("byte skip", file.fields.get("byteskip", 0)))
    lines = int(file.fields.get("line skip", file.fields.get("lineskip", 0)))
    if encoding not in ("raw", "gzip", "gz", "bzip2", "bz2") or lines or skip < -1 or (skip and encoding != "raw"):
        raise UnreadableImage(
            "an encoding that is not supported",
            expected="raw, gzip or bzip2, without lines to skip",
            got=f"{encoding}, {lines} lines and {skip} bytes to skip",
            path=file.path,
        )
    length = file.data_path.stat().st_size
    ratio = {"raw": 1, "gzip": _DEFLATE_RATIO, "gz": _DEFLATE_RATIO}.get(encoding)
    if ratio is not None and expected > (length - file.data_start) * ratio:
        raise _wrong_length(file, expected, "fewer")
    with file.data_path.open("rb") as stream:
        stream.seek(length - expected if skip == -1 else file.data_start + skip)
        if encoding in ("gzip", "gz"):
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return _exactly(unpacked, expected, file)
        if encoding in ("bzip2", "bz2"):
            with bz2.BZ2File(stream) as unpacked_too:
                return _exactly(unpacked_too, expected, file)
        return _exactly(stream, expected, file)


def _exactly(stream: IO[bytes] | gzip.GzipFile | bz2.BZ2File, expected: int, file: _File) -> bytearray:
    """The bytes of the voxels, which must be all there is; memory grows with what really comes."""
    data = bytearray()
    while len(data) < expected:
        part = stream.read(min(_AT_ONCE, expected - len(data)))
        if not part:
            raise _wrong_length(file, expected, "fewer")
        data += part
    # Reading on to the end also makes gzip compare its checksum.
    if stream.read(1):
        raise _wrong_length(file, expected, "more")
    return data


def _wrong_length(file: _File, expected: int, what: str) -> UnreadableImage:
    return UnreadableImage(
        f"the file holds {what} voxels than its header says",
        expected=f"{expected} bytes for {' x '.join(map(str, file.sizes))} voxels",
        path=file.path,
        remedy="Copy or download it again.",
    )


def _overlapping(
    layers: Array, file: _File, segments: list[tuple[Label, int]], labels: LabelSet | None
) -> Segmentation:
    if not segments or any(not 0 <= layer < len(layers) for _, layer in segments):
        raise LabelError("layers without Segment fields that name them", got=f"{len(layers)} layers", path=file.path)
    masks = np.stack([layers[layer] == label.value for label, layer in segments])
    for n, layer in enumerate(layers):
        known = LabelSet(tuple(label for label, of in segments if of == n))
        _check_values(layer, known, file.path, given=True)
    chosen = [label for label, _ in segments]
    if len({label.value for label in chosen}) < len(chosen):
        chosen = [replace(label, value=n + 1) for n, label in enumerate(chosen)]
    if labels is not None:
        chosen = [labels.named(label.name) for label in chosen]
    order = sorted(range(len(chosen)), key=lambda n: chosen[n].value)
    return Segmentation(masks[order], file.grid, LabelSet(tuple(chosen), overlaps=True), Source(path=file.path))


def _as_labelled(array: Array, labels: LabelSet) -> Array:
    if not labels.overlaps:
        return array
    return np.stack([array == value for value in labels.values])


def _check_values(array: Array, labels: LabelSet, path: Path, *, given: bool) -> None:
    unknown = sorted(set(np.unique(array).tolist()) - {0, *labels.values})
    if unknown:
        raise LabelError(
            "label map with values that have no label",
            expected=f"0 or one of {list(labels.values)}" if given else None,
            got=unknown[:10],
            path=path,
            remedy="Correct the label map, or say which labels its values mean.",
        )


def _extents(segmentation: Segmentation) -> list[str]:
    """Of each structure the first and last index along I, J and K."""
    from scipy.ndimage import find_objects

    if segmentation.labels.overlaps:
        boxes = [foreground_box(mask) for mask in segmentation.array]
        found = [None if box is None else box.slices for box in boxes]
    else:
        by_value = find_objects(segmentation.array, max(segmentation.labels.values, default=1))
        found = [by_value[value - 1] for value in segmentation.labels.values]
    return [" ".join(f"{s.start} {s.stop - 1}" for s in box) if box else "0 -1 0 -1 0 -1" for box in found]


def _write(path: Path, array: Array, grid: Grid, lines: list[str]) -> None:
    if not path.name.lower().endswith(".nrrd"):
        raise ExportError("an NRRD file needs that name", expected=".nrrd", got=path.name, path=path)
    layered = array.ndim == 4
    vectors = [_vector(column) for column in grid.affine[:3, :3].T]
    header = [
        "NRRD0004",
        f"type: {_NAMES[array.dtype.newbyteorder('=')]}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {' '.join(['none', *vectors] if layered else vectors)}",
        f"kinds: {'list ' if layered else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(grid.affine[:3, 3])}",
        *lines,
    ]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(("\n".join(header) + "\n\n").encode())
        # Without a name and a time, so that equal segmentations give equal files.
        with gzip.GzipFile("", "wb", compresslevel=4, fileobj=stream, mtime=0) as packed:
            for slab in np.moveaxis(array, -1, 0):
                packed.write(slab.astype(slab.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))


def _vector(values: FloatArray) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
