"""The numbers of slices: stored pixels to HU, SUV or the scanner's units, straight into the final array.

Uncompressed pixels are read from their place in the file into the array itself. Compressed ones are decoded by
pydicom's plugins, in several processes where that pays: the decoders hold the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from delineate.errors import ResourceError, UnreadableImage
from delineate.formats.dicom.headers import quiet
from delineate.formats.dicom.slices import Slice, Storage
from delineate.volume import Array

if TYPE_CHECKING:
    from collections.abc import Callable

_WORTH_PROCESSES = 64 * 2**20  # bytes of pixels; starting Python again costs as much as decoding these
_DECODED_AT_A_TIME = 32 * 2**20  # bytes of pixels of one file, which is read again for each part
_LARGEST_RATIO = 4096  # of pixels to compressed bytes: RLE's own limit is 64, an all-black JPEG 2000 reaches hundreds


def read_stack(stack: Sequence[Slice]) -> Array:
    """(I, J, K) of ordered slices of one size, as numbers.

    Rescale slope and intercept are applied slice by slice. Without them the stored type stays; whole-number ones give
    int16, or int32 where values do not fit; others float32. PET becomes SUVbw where the files allow it.
    Memory order is the file's (I fastest). Raises `UnreadableImage` for a file without readable pixels, `ResourceError`
    if the volume does not fit into memory.
    """
    _check_backed(stack)
    scales = _scales(stack)
    whole = all(scale.whole for scale in scales) and not any(s.storage.floating for s in stack)
    try:
        rows_first = _stored(stack) if whole else _scaled(stack, scales)
    except MemoryError as error:
        raise ResourceError("not enough memory for the series", got=len(stack), path=stack[0].path.parent) from error
    if whole:
        rows_first = _rescaled_in_place(rows_first, scales)
    return rows_first.transpose(2, 1, 0)


@dataclass(frozen=True, slots=True)
class _Scale:
    slope: float
    intercept: float

    @property
    def plain(self) -> bool:
        return (self.slope, self.intercept) == (1.0, 0.0)

    @property
    def whole(self) -> bool:
        return self.slope.is_integer() and self.intercept.is_integer() and abs(self.intercept) < 2**30

    def __call__(self, image: Array) -> Array:
        return image if self.plain else image * self.slope + self.intercept


def _scales(stack: Sequence[Slice]) -> list[_Scale]:
    """What turns the stored numbers of each slice into its values."""
    factors = _uptake_factors(stack)
    precise = has_scale_slopes(stack)
    scales = []
    for s, uptake in zip(stack, factors, strict=True):
        divisor = s.slope * (s.scale_slope or 1.0) if precise else 1.0
        scales.append(_Scale(s.slope / divisor * uptake, s.intercept / divisor * uptake))
    return scales


def _uptake_factors(stack: Sequence[Slice]) -> list[float]:
    """What turns each slice's activity into SUV; 1 where that is not known of all."""
    uptakes = [s.uptake for s in stack if s.uptake is not None]
    factors = [uptake.factor for uptake in uptakes if uptake.factor is not None]
    if len(factors) != len(stack):
        return [1.0] * len(stack)
    # Where the series' time was rewritten, decay counts from its earliest acquisition: the least is left of the dose
    # at the latest, which would make the largest factor.
    return [min(factors)] * len(stack) if all(uptake.timed for uptake in uptakes) else factors


def has_scale_slopes(stack: Sequence[Slice]) -> bool:
    """Whether Philips' scale slopes matter: where displayed values of slices differ by more than rounding from true."""
    products = [s.slope * s.scale_slope for s in stack if s.scale_slope]
    return len(products) == len(stack) and not np.allclose(products, products[0], rtol=1e-5, atol=0.0)


def _check_backed(stack: Sequence[Slice]) -> None:
    """No memory is asked for that only a header wants."""
    seen: set[Path] = set()
    for s in stack:
        if s.path not in seen:
            seen.add(s.path)
            wanted = s.rows * s.columns * s.frames * s.storage.bits_allocated // 8
            there = s.path.stat().st_size
            limit = there if s.storage.place is not None else there * _LARGEST_RATIO
            if wanted > limit:
                raise _unfit(s.path, f"{wanted} bytes of pixels", f"a file of {there}")


def _unfit(path: Path, expected: object, got: object) -> UnreadableImage:
    return UnreadableImage(
        "the pixel data does not fit the header", expected=expected, got=got, path=path, remedy="Fetch the file again."
    )


def _stored(stack: Sequence[Slice]) -> Array:
    """(K, rows, columns) as stored; signed and unsigned slices together in a type that holds both."""
    first = stack[0]
    dtype = np.result_type(*{_dtype(s.storage) for s in stack})
    out = np.empty((len(stack), first.rows, first.columns), dtype=dtype)
    for k, image in _images(stack, out if {_dtype(s.storage) for s in stack} == {dtype} else None):
        if image is not None:
            out[k] = image
    return out


def _scaled(stack: Sequence[Slice], scales: Sequence[_Scale]) -> Array:
    out = np.empty((len(stack), stack[0].rows, stack[0].columns), dtype=np.float32)
    for k, image in _images(stack, None):
        assert image is not None
        out[k] = scales[k](image)
    return out


def _dtype(storage: Storage) -> np.dtype[Any]:
    if storage.floating:
        return np.dtype(np.float32)
    return np.dtype(f"{'i' if storage.signed else 'u'}{storage.bits_allocated // 8}")


def _images(stack: Sequence[Slice], out: Array | None) -> Iterator[tuple[int, Array | None]]:
    """(k, image as stored) of every slice; None for those that were read into `out` itself."""
    packed = [k for k, s in enumerate(stack) if s.storage.place is None]
    for k, s in enumerate(stack):
        if s.storage.place is not None:
            if out is None:
                image = np.empty((s.rows, s.columns), dtype=_dtype(s.storage))
                _read_place(s, image)
                yield k, image
            else:
                _read_place(s, out[k])
                yield k, None
    yield from zip(packed, _decoded([stack[k] for k in packed]), strict=True)


def _read_place(s: Slice, out: Array) -> None:
    """One slice's pixels from the file into a contiguous array of their type."""
    place = s.storage.place
    assert place is not None
    size = out.nbytes
    start = place.offset + s.frame * size
    # Some writers pad to more than an even length, but a row or a column too many means that the header is wrong.
    if not 0 <= place.length - size * s.frames < max(2, min(out.shape) * out.itemsize):
        raise _unfit(s.path, f"{s.frames} frame(s) of {size} bytes", f"{place.length} bytes")
    try:
        with s.path.open("rb", buffering=0) as stream:
            stream.seek(start)
            view = memoryview(out.view(np.uint8).reshape(-1))  # type: ignore[arg-type]
            while len(view):
                got = stream.readinto(view)
                if not got:
                    raise _unfit(s.path, f"{size} bytes at {start}", f"an end {len(view)} bytes before")
                view = view[got:]
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=s.path) from error
    _use_stored_bits(out, s.storage)


def _use_stored_bits(out: Array, storage: Storage) -> None:
    """In place: move the stored bits down, and fill those above with the sign or with zeros (PS3.5 8.1.1)."""
    above = storage.bits_allocated - 1 - storage.high_bit
    below = storage.high_bit + 1 - storage.bits_stored
    if storage.floating or above < 0 or below < 0 or (above, below) == (0, 0):
        return
    np.left_shift(out, above, out=out)
    np.right_shift(out, above + below, out=out)


def _decoded(slices: Sequence[Slice]) -> Iterator[Array]:
    """The slices' images, decoded; a few frames of a file together, so that no file is held whole."""
    jobs: list[list[Slice]] = []
    for s in slices:
        at_a_time = _DECODED_AT_A_TIME // (s.rows * s.columns * _dtype(s.storage).itemsize)
        if jobs and jobs[-1][0].path == s.path and len(jobs[-1]) < at_a_time:
            jobs[-1].append(s)
        else:
            jobs.append([s])
    try:
        with _mapping(sum(s.rows * s.columns * s.storage.bits_allocated // 8 for s in slices), len(jobs)) as run:
            for images in run(_decode, jobs):
                yield from images
    except BrokenProcessPool as error:
        raise UnreadableImage(
            "a process that decodes the series has ended",
            path=slices[0].path.parent,
            remedy='Fetch the files again; a script of your own needs `if __name__ == "__main__":` around its calls.',
        ) from error


@contextmanager
def _mapping(size: int, jobs: int) -> Iterator[Callable[..., Any]]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(usable, jobs)
    if size < _WORTH_PROCESSES or workers < 2:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield lambda job, items: pool.map(job, items, chunksize=max(1, min(8, jobs // (4 * workers))))


def _decode(slices: Sequence[Slice]) -> list[Array]:
    """The images of slices of one file, in this machine's byte order."""
    import pydicom
    from pydicom.pixels.utils import iter_pixels

    path = slices[0].path
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True)
            indices, plugin = [s.frame for s in slices], _plugin(slices[0].storage.syntax)
            # pydicom takes the high bit for the one below BitsStored, so unused bits are left to us.
            options: dict[str, Any] = {"raw": True, "decoding_plugin": plugin, "correct_unused_bits": False}
            frames = [np.array(image) for image in iter_pixels(dataset, indices=indices, **options)]
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    except NotImplementedError as error:
        raise UnreadableImage(
            "pixels in an unsupported transfer syntax",
            got=pydicom.uid.UID(slices[0].storage.syntax).name,
            path=path,
            remedy="Decompress the file with another program, such as dcmdjpeg of DCMTK.",
        ) from error
    # Decoders raise whatever they meet in damaged data.
    except Exception as error:
        raise UnreadableImage(
            "the pixel data cannot be read", got=str(error)[:200], path=path, remedy="Fetch the file again."
        ) from error
    if len(frames) != len(slices):
        raise _unfit(path, f"{len(slices)} frame(s)", len(frames))
    return [_checked(image, s) for image, s in zip(frames, slices, strict=True)]


def _plugin(syntax: str) -> str:
    """The decoder, always the same: others that happen to be installed may differ, or end the process on damage."""
    from pydicom.uid import UID, JPEGLSTransferSyntaxes, RLELossless

    if not UID(syntax).is_transfer_syntax or not UID(syntax).is_compressed:
        return ""
    return "pydicom" if syntax == RLELossless else "pyjpegls" if syntax in JPEGLSTransferSyntaxes else "pylibjpeg"


def _checked(image: Array, s: Slice) -> Array:
    """In the type that the header says, which must hold what the decoder found."""
    wanted = _dtype(s.storage)
    if image.shape != (s.rows, s.columns) or image.dtype.kind != wanted.kind or image.dtype.itemsize > wanted.itemsize:
        raise _unfit(s.path, f"{s.rows} x {s.columns} of {wanted}", f"{image.shape} of {image.dtype}")
    native = np.ascontiguousarray(image, dtype=wanted)
    _use_stored_bits(native, s.storage)
    return native


def _rescaled_in_place(array: Array, scales: Sequence[_Scale]) -> Array:
    """Whole-number scaling of (K, rows, columns) in int16, or int32 where values do not fit.

    Arithmetic modulo 2^16 is exact where the true values fit into 16 bits, so nothing is copied for it.
    """
    if all(scale.plain for scale in scales):
        return array
    extremes = [scale(np.array([a.min(), a.max()], dtype=np.float64)) for scale, a in zip(scales, array, strict=True)]
    low, high = float(np.min(extremes)), float(np.max(extremes))
    word = next((w for w in (np.int16, np.int32) if np.iinfo(w).min <= low and high <= np.iinfo(w).max), None)
    if word is None:
        return np.stack([scale(image).astype(np.float32) for scale, image in zip(scales, array, strict=True)])
    unsigned = np.dtype(word).newbyteorder("=").str.replace("i", "u")
    words = array.view(unsigned) if array.itemsize == np.dtype(word).itemsize else array.astype(unsigned)
    modulus = 2 ** (8 * words.itemsize)
    for image, scale in zip(words, scales, strict=True):
        if scale.slope != 1.0:
            np.multiply(image, words.dtype.type(int(scale.slope) % modulus), out=image)
        if scale.intercept != 0.0:
            np.add(image, words.dtype.type(int(scale.intercept) % modulus), out=image)
    return words.view(word)


def content_digest(slice_: Slice) -> bytes:
    """A digest of the stored pixels of one slice. Raises `UnreadableImage` where they cannot be read."""
    ((_, image),) = _images([slice_], None)
    assert image is not None
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def same_content(first: Sequence[Slice], second: Sequence[Slice]) -> bool:
    """Whether slices, one by one, have the same stored pixels. Raises `UnreadableImage` where they cannot be read."""
    if len(first) != len(second):
        return False
    one, other = dict(_images(first, None)), dict(_images(second, None))
    return all(np.array_equal(one[k], other[k]) for k in one)  # type: ignore[arg-type]
