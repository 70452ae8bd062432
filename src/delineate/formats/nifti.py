"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz), and the only place where RAS becomes LPS.

NIfTI's world is RAS millimetres (nifti1.h, "3D image orientation and location in space"), ours is LPS: the first two
rows of the affine change sign, nothing else. The array keeps its order on disk, so column n of the affine belongs to
axis n on both sides.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from delineate.errors import (
    ExportError,
    GeometryMismatch,
    InputError,
    LabelError,
    ResourceError,
    UnreadableImage,
)
from delineate.files import atomic_path
from delineate.formats.streams import Stored, read_raw, read_voxels, slabs, write_gzip
from delineate.geometry import FloatArray, Grid, Triple, largest_distance_mm
from delineate.volume import Allocate, Array, Kind, Segmentation, Source, Volume

SUFFIXES = (".nii.gz", ".nii")
INTEGRAL_TOLERANCE = 1e-4  # label maps saved as float32 by resampling tools are off by rounding, not by more
DISAGREEMENT_VOXELS = 0.1  # a float32 quaternion is off by about 1e-4 voxels at the far corner of a large scan
QUATERNION_TOLERANCE = 1e-4  # by how much a rounded quaternion's square may exceed 1; nibabel gives up at 4e-7
MAX_LABEL = np.iinfo(np.uint16).max

Nifti1Image = Any  # nibabel's methods carry no types, and importing it here would be slow

_RAS_TO_LPS = np.array([[-1.0], [-1.0], [1.0], [1.0]])
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units & 7: metre, millimetre, micrometre
_LARGEST_DEFLATION = 1032  # deflate's own limit
_GZIP = b"\x1f\x8b"
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT


def is_nifti_name(path: Path) -> bool:
    """Whether the name ends in .nii or .nii.gz, in any case."""
    return path.name.lower().endswith(SUFFIXES)


def read_volume(
    path: Path, *, kind: Kind = Kind.OTHER, allocate: Allocate = np.empty, map_bytes: float = math.inf
) -> Volume:
    """A scan of shape (1, I, J, K); a 2D image gets K = 1, axes of length 1 beyond the third are dropped.

    Integers without scaling keep their type (in this machine's byte order); all else becomes float32, with scl_slope
    and scl_inter applied. NaN is passed through. NIfTI does not say what the numbers measure: `kind` does.
    `allocate` gives the memory for the voxels, which are read a few slices at a time. Files of `map_bytes` or more
    that hold them as they are wanted, neither packed nor scaled, are mapped instead: they must not change meanwhile.
    Raises `UnreadableImage` for what is no such file, `GeometryMismatch` for a header without one certain affine.
    """
    return _read(path, kind, allocate, map_bytes, most=1)


def read_channels(
    path: Path, *, kind: Kind = Kind.OTHER, allocate: Allocate = np.empty, map_bytes: float = math.inf
) -> Volume:
    """As `read_volume`, also from a file that holds several channels behind one another: (C, I, J, K).

    The Medical Segmentation Decathlon keeps channels so, as a fourth axis; others as a fifth.
    """
    return _read(path, kind, allocate, map_bytes, most=None)


def _read(path: Path, kind: Kind, allocate: Allocate, map_bytes: float, *, most: int | None) -> Volume:
    with _opened(path) as stream:
        image = _image(stream, path)
        grid = _grid(image, path, most=most)
        _check_backed(image, path)
        channels = _layout(image, path)[1]
        i, j, k = grid.shape
        stored = _stored(image, (i, j, k * channels))
        stream.seek(int(image.dataobj.offset))
        if stored.as_they_are and not _is_packed(path) and path.stat().st_size >= map_bytes:
            offset = int(image.dataobj.offset)
            array: Array = np.asarray(np.memmap(path, stored.dtype, "r", offset, stored.shape, order="F"))
        else:
            array = read_voxels(stream, stored, allocate=allocate)
            # The checksum stands at the end of a gzip stream: only who reads to there notices corrupt voxels.
            stream.read()
    return Volume(np.moveaxis(array.reshape((i, j, k, channels), order="F"), 3, 0), grid, kind, Source(path=path))


def read_label_values(path: Path) -> tuple[Array, Grid]:
    """A label map as uint8, or uint16 where a value is above 255: (I, J, K), and its grid.

    Floats are accepted where they are whole numbers within 1e-4. Raises `LabelError` for NaN, negative, fractional
    or larger values, and what `read_volume` raises.
    """
    volume = read_volume(path)
    return _whole_numbers(volume.array[0], path), volume.grid


def read_layout(path: Path) -> tuple[Grid, int, Stored]:
    """Where the voxels are, how many channels there are, and how those of one stand in the file; from the header alone.

    Raises what `read_channels` raises, but sees no broken voxels.
    """
    with _opened(path) as stream:
        image = _image(stream, path)
        grid = _grid(image, path, most=None)
        return grid, _layout(image, path)[1], _stored(image, grid.shape)


def iterate_planes(path: Path, *, count: int, channel: int = 0) -> Iterator[Array]:
    """The slices of one channel as they stand in the file, not scaled: (n, J, I) arrays of up to `count` of them.

    Only these are in memory. Raises what `read_channels` raises, and `ValueError` for a channel that is not there.
    """
    with _opened(path, opener=_quick_gzip) as stream:
        image = _image(stream, path)
        (i, j, k), channels = _grid(image, path, most=None).shape, _layout(image, path)[1]
        if not 0 <= channel < channels:
            raise ValueError(f"no channel {channel}: the file has {channels}, counted from 0")
        _check_backed(image, path)
        dtype = image.get_data_dtype()
        stream.seek(int(image.dataobj.offset) + channel * i * j * k * dtype.itemsize)
        for start in range(0, k, count):
            yield read_raw(stream, (min(count, k - start), j, i), dtype)
        if channel == channels - 1:
            stream.read()  # to the checksum


def read_grid(path: Path) -> Grid:
    """Where the voxels are, of all channels, from the header alone.

    Raises what `read_channels` raises, but sees no broken voxels.
    """
    with _opened(path) as stream:
        return _grid(_image(stream, path), path, most=None)


def count_channels(path: Path) -> int:
    """How many channels `read_channels` reads, from the header alone; raises the same, but sees no broken voxels."""
    with _opened(path) as stream:
        return _layout(_image(stream, path), path)[1]


def write_volume(path: Path, volume: Volume) -> None:
    """Write a scan of one channel, atomically. float16 and bool are widened to types that NIfTI has.

    sform and qform are both set (code 1); a sheared affine, which a quaternion cannot hold, has an sform alone.
    The affine comes back to float32 precision, exactly where it came from a NIfTI file's sform.
    Raises `ExportError` for several channels or a name that is not .nii or .nii.gz, `ResourceError` for a full disk.
    """
    if volume.channels != 1:
        raise ExportError(
            "a NIfTI file holds one channel",
            got=f"{volume.channels} channels",
            path=path,
            remedy="Write one file each.",
        )
    _write(path, volume.array[0], volume.grid, repetitive=False)


def write_segmentation(path: Path, segmentation: Segmentation) -> None:
    """Write a label map, atomically; see `write_volume`. Raises `ExportError` also for overlapping masks."""
    if segmentation.labels.overlaps:
        raise ExportError(
            "overlapping structures do not fit into one label map", path=path, remedy="Write one mask a structure."
        )
    _write(path, segmentation.array, segmentation.grid, repetitive=True)


def _quick_gzip(path: Path) -> BufferedIOBase:
    """Unpacks two to three times as fast as Python itself does, where the library is there."""
    try:
        from isal import igzip
    except ImportError:
        return gzip.open(path)
    make: Any = igzip.open
    stream: BufferedIOBase = make(path)
    return stream


def _isal_errors() -> tuple[type[Exception], ...]:
    try:
        from isal import isal_zlib
    except ImportError:
        return ()
    broken: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # stubs have an instance
    return (broken,)


@contextmanager
def _opened(path: Path, *, opener: Callable[[Path], BufferedIOBase] = gzip.open) -> Iterator[BufferedIOBase]:
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        with opener(path) if _is_packed(path) else path.open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    except InputError:
        raise
    except MemoryError as error:
        raise ResourceError("not enough memory for the voxels", path=path) from error
    # What nibabel raises for a damaged header depends on the field.
    except (ImageFileError, HeaderDataError, WrapStructError, ValueError, OverflowError) as error:
        raise UnreadableImage("not a sound NIfTI file", got=str(error), path=path) from error
    except Exception as error:
        if not isinstance(error, (EOFError, OSError, zlib.error, *_isal_errors())):
            raise
        remedy = "Copy or download it again."
        raise UnreadableImage("the file is truncated or corrupt", got=str(error), path=path, remedy=remedy) from error


def unpacked_bytes(path: Path) -> int:
    """The size of a file's unpacked content, by what its gzip trailer says (up to 4 GB); 0 if it cannot be read."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(len(_GZIP)) == _GZIP
            end = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, end - 4))
            return int.from_bytes(stream.read(4), "little") if packed else end
    except OSError:
        return 0


def _is_packed(path: Path) -> bool:
    """By the content: files are renamed without being packed or unpacked."""
    with path.open("rb") as stream:
        return stream.read(len(_GZIP)) == _GZIP


def _image(stream: BufferedIOBase, path: Path) -> Nifti1Image:
    """The image in an open stream; its voxels are still to be read from there."""
    import nibabel

    # The first field is the header's size: 348 in NIfTI-1, 540 in NIfTI-2, in either byte order.
    start = stream.read(4)
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    kinds: dict[int, Any] = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}
    found = sizes & kinds.keys()
    if len(start) < 4 or not found:
        raise UnreadableImage("not a NIfTI file", got="an empty file" if not start else "another content", path=path)
    size = found.pop()
    kind = kinds[size]
    stream.seek(0)
    _check_header(kind.header_class.from_fileobj(stream, check=False), size, path)
    stream.seek(0)
    image = kind.from_stream(stream)
    header: Any = image.header
    dtype = header.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        got = "colour" if dtype.fields is not None else str(dtype)
        raise UnreadableImage("voxels must be plain numbers", expected="integers or floats", got=got, path=path)
    return image


def _check_header(header: Any, size: int, path: Path) -> None:
    """What nibabel would read as it stands, or put right by a guess with no more than a line in a log."""
    offset, least = float(header["vox_offset"]), size + 4  # four bytes say whether extensions follow
    if not offset >= least:
        raise UnreadableImage(
            "voxels that start inside the header", expected=f"vox_offset of at least {least}", got=offset, path=path
        )
    sizes = [float(mm) for mm in header["pixdim"][1:4]][: max(2, min(3, int(header["dim"][0])))]
    if header["qform_code"] > 0 and not all(0 < mm < np.inf for mm in sizes):
        raise GeometryMismatch(
            "the header's voxel sizes are not positive",
            got=sizes,
            path=path,
            remedy="Convert the original again; where the sform is right, set the qform_code to 0.",
        )


def _layout(image: Nifti1Image, path: Path) -> tuple[Triple, int]:
    """The shape (I, J, K), and how many such arrays follow one another."""
    shape = [int(n) for n in image.shape]
    more = [n for n in shape[3:] if n != 1]
    if len(shape) < 2 or len(more) > 1 or min(shape) < 1:
        raise UnreadableImage(
            "not one 3D image",
            expected="shape (I, J, K)",
            got=tuple(shape),
            path=path,
            remedy="Split it into one file for each time point or channel.",
        )
    i, j, k = (*shape[:3], 1)[:3]
    return (i, j, k), (more[0] if more else 1)


def _grid(image: Nifti1Image, path: Path, *, most: int | None) -> Grid:
    """Raises `UnreadableImage` for more than `most` channels."""
    shape, channels = _layout(image, path)
    if most is not None and channels > most:
        raise UnreadableImage(
            "not one 3D image",
            expected="shape (I, J, K)",
            got=tuple(int(n) for n in image.shape),
            path=path,
            remedy="Split it into one file for each time point or channel.",
        )
    header = image.header
    scale = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    try:
        affines = [header.get_sform()] if header["sform_code"] > 0 else []
        affines += [_qform(header)] if header["qform_code"] > 0 else []
        grids = [Grid(shape, _lps(affine, scale)) for affine in affines]
    except GeometryMismatch as error:
        raise GeometryMismatch(error.problem, got=error.got, path=path, remedy=error.remedy) from error
    if not grids:
        raise GeometryMismatch(
            "the header does not say where the voxels are: sform_code and qform_code are both 0",
            path=path,
            remedy="Convert the original DICOM series again, or set the sform from an image of known position.",
        )
    if len(grids) == 2:
        _check_agreement(grids[0], grids[1], path)
    return grids[0]


def _qform(header: Any) -> FloatArray:
    try:
        affine: FloatArray = header.get_qform()
    except ValueError:
        # A rounded quaternion a little longer than 1; the sform, which must agree, confirms it or not.
        header.quaternion_threshold = QUATERNION_TOLERANCE
        affine = header.get_qform()
    return affine


def _lps(affine: FloatArray, scale: float) -> FloatArray:
    lps: FloatArray = np.asarray(affine, dtype=np.float64) * _RAS_TO_LPS
    lps[:3] *= scale
    return lps


def _check_agreement(sform: Grid, qform: Grid, path: Path) -> None:
    distance = largest_distance_mm(sform, qform)
    allowed = DISAGREEMENT_VOXELS * min(sform.spacing_mm)
    if distance > allowed:
        raise GeometryMismatch(
            "sform and qform place the voxels differently",
            expected=f"at most {allowed:.3g} mm apart",
            got=f"{distance:.3g} mm",
            path=path,
            remedy="Decide which is right and set the other one's code to 0, or convert the original again.",
        )


def _check_backed(image: Nifti1Image, path: Path) -> None:
    """No memory is asked for that only a header wants."""
    wanted = int(image.dataobj.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
    there = path.stat().st_size
    if wanted > there * (_LARGEST_DEFLATION if _is_packed(path) else 1):
        raise UnreadableImage(
            "the file is truncated or corrupt",
            expected=f"{wanted} bytes, as its header says",
            got=f"a file of {there}",
            path=path,
            remedy="Copy or download it again.",
        )


def _stored(image: Nifti1Image, shape: Triple) -> Stored:
    return Stored(shape, image.get_data_dtype(), float(image.dataobj.slope), float(image.dataobj.inter))


def _whole_numbers(array: Array, path: Path) -> Array:
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            raise LabelError("label map with values that are no numbers", got=_voxels(~finite), path=path)
        rounded = np.round(array)
        broken = np.abs(array - rounded) > INTEGRAL_TOLERANCE
        if broken.any():
            raise LabelError(
                "label map with fractional values",
                expected="whole numbers",
                got=f"{np.unique(array[broken])[:5].tolist()} in {_voxels(broken)}",
                path=path,
                remedy="Resample label maps with nearest neighbour; give probabilities a threshold first.",
            )
        array = rounded
    lowest, highest = array.min(), array.max()
    if lowest < 0 or highest > MAX_LABEL:
        outside = (array < 0) | (array > MAX_LABEL)
        raise LabelError(
            "label map with values out of range",
            expected=f"0 to {MAX_LABEL}",
            got=f"{lowest} to {highest} ({_voxels(outside)} outside)",
            path=path,
        )
    return array.astype(np.uint8 if highest <= 255 else np.uint16, copy=False)


def _voxels(mask: Array) -> str:
    count = int(np.count_nonzero(mask))
    return f"{count} voxel" if count == 1 else f"{count} voxels"


def _write(path: Path, array: Array, grid: Grid, *, repetitive: bool) -> None:
    if not is_nifti_name(path):
        raise ExportError("a NIfTI file needs that name", expected=".nii.gz or .nii", got=path.name, path=path)
    voxels = array.astype(_stored_dtype(array.dtype), copy=False)
    parts = itertools.chain([memoryview(_header(voxels, grid))], slabs(voxels))
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            write_gzip(stream, parts, repetitive=repetitive)
        else:
            stream.writelines(parts)


def _header(array: Array, grid: Grid) -> bytes:
    import nibabel

    make: Any = nibabel.Nifti1Header
    header = make()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = header.single_vox_offset
    _set_affine(header, grid)
    stream = io.BytesIO()
    header.write_to(stream)
    return stream.getvalue()


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def _set_affine(header: Any, grid: Grid) -> None:
    ras = grid.affine * _RAS_TO_LPS
    header.set_xyzt_units("mm")
    header.set_qform(ras, _SCANNER)
    header.set_sform(ras, _SCANNER)
    kept = Grid(grid.shape, header.get_qform() * _RAS_TO_LPS)
    # Half of what the reader accepts: beyond it the two would contradict each other.
    if largest_distance_mm(grid, kept) > DISAGREEMENT_VOXELS / 2 * min(grid.spacing_mm):
        header.set_qform(None, 0)
        header.set_zooms(grid.spacing_mm)
