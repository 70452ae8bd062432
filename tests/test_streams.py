"""Voxels to and from files, a slab at a time."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any

import numpy as np
import pytest

from delineate.formats import streams
from delineate.formats.streams import Stored, read_voxels, slabs, write_gzip
from delineate.volume import Array

SHAPE = (7, 5, 150)


def voxels(dtype: str = "int16") -> Array:
    return np.random.default_rng(3).integers(0, 90, SHAPE).astype(dtype)


LAYOUTS: dict[str, Any] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "reversed": lambda array: np.asfortranarray(array)[::-1, :, ::-1],
    "turned": lambda array: np.ascontiguousarray(array.transpose(1, 2, 0)).transpose(2, 0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_slabs_are_the_bytes_in_fortran_order(layout: str, dtype: str) -> None:
    array = LAYOUTS[layout](voxels(dtype))
    parts = list(slabs(array))
    assert len(parts) > 2
    assert b"".join(parts) == array.tobytes(order="F")


@pytest.mark.parametrize("repetitive", [True, False])
def test_a_packed_file_is_one_member_that_every_reader_takes(repetitive: bool) -> None:
    stream, array = io.BytesIO(), voxels()
    write_gzip(stream, slabs(array), repetitive=repetitive)
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert reader.decompress(stream.getvalue()) == gzip.decompress(stream.getvalue()) == array.tobytes(order="F")
    assert reader.eof
    assert reader.unused_data == b""


def test_nothing_can_be_packed_too() -> None:
    stream = io.BytesIO()
    write_gzip(stream, iter(()), repetitive=True)
    assert gzip.decompress(stream.getvalue()) == b""


@pytest.mark.parametrize("dtype", ["int16", ">i2", ">f8"])
def test_voxels_are_read_slab_by_slab_into_memory_that_is_given(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    given: list[Array] = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> Array:
        given.append(np.empty(shape, dtype))
        return given[-1]

    array = voxels(dtype)
    read = read_voxels(io.BytesIO(array.tobytes(order="F")), Stored(SHAPE, array.dtype), allocate=allocate)
    assert np.shares_memory(read, given[0])
    assert read.dtype == (np.float32 if dtype == ">f8" else np.int16)
    np.testing.assert_array_equal(read, array)


def test_scaling_is_computed_in_double_precision() -> None:
    array, stored = voxels(), Stored(SHAPE, np.dtype("int16"), slope=0.1, inter=-1000.3)
    read = read_voxels(io.BytesIO(array.tobytes(order="F")), stored)
    np.testing.assert_array_equal(read, (array * 0.1 - 1000.3).astype(np.float32))


def test_voxels_that_are_missing_are_missed() -> None:
    with pytest.raises(EOFError, match="6 bytes of voxels are missing"):
        read_voxels(io.BytesIO(voxels().tobytes()[:-6]), Stored(SHAPE, np.dtype("int16")))
