"""Stored pixels to numbers: every way of storing them, junk in unused bits, scaling, and what does not fit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hard_series import Edit, assert_true, compress, intensity, planes, read, store, write_enhanced, write_series
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from delineate.errors import InconsistentSeries, ResourceError, UnreadableImage
from delineate.formats.dicom import pixels as dicom_pixels
from delineate.formats.dicom.series import one_volume, read_series
from delineate.volume import Array, Kind

PLANES = planes(4, size=(33, 38), step_mm=1.2)
VALUES = np.round(np.stack([intensity(plane.points_mm) for plane in PLANES]))  # (K, rows, columns)
UNCOMPRESSED = [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
COMPRESSED = [RLELossless, JPEG2000Lossless, JPEGLSLossless]


def storing(dtype: str, *, bits: int = 0, syntax: UID | None = None, slope: float = 1, intercept: float = 0) -> Edit:
    """Stores the world's values, halved and above 0 where they are unsigned, in a type and a transfer syntax."""

    def edit(dataset: Dataset, n: int) -> None:
        store(dataset, stored(dtype)[n], dtype=dtype, bits=bits, slope=slope, intercept=intercept)
        if syntax in COMPRESSED:
            compress(dataset, syntax)
        elif syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                words = np.frombuffer(dataset.PixelData, dtype="<u4" if dtype.endswith("4") else "<u2")
                dataset.PixelData = words.byteswap().tobytes()

    return edit


def stored(dtype: str) -> Array:
    low, high = {"|u1": (0, 250), "|i1": (-120, 110), "<u2": (0, 60_000), "<u4": (0, 3e9)}.get(dtype, (None, None))
    if low is None or high is None:
        return np.asarray(VALUES.astype(dtype))
    return np.asarray((low + (VALUES - VALUES.min()) * ((high - low) / np.ptp(VALUES))).astype(dtype))


@pytest.mark.parametrize("syntax", [None, *UNCOMPRESSED, *COMPRESSED], ids=lambda s: s.keyword if s else "explicit")
@pytest.mark.parametrize("dtype", ["|u1", "|i1", "<u2", "<i2"])
def test_every_type_in_every_syntax(tmp_path: Path, dtype: str, syntax: UID | None) -> None:
    found = read(write_series(tmp_path, PLANES, edit=storing(dtype, syntax=syntax))).array
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(found[0], stored(dtype).T)


@pytest.mark.parametrize("dtype", ["<u4", "<i4"])
@pytest.mark.parametrize("syntax", [None, *UNCOMPRESSED], ids=lambda s: s.keyword if s else "explicit")
def test_32_bits(tmp_path: Path, dtype: str, syntax: UID | None) -> None:
    found = read(write_series(tmp_path, PLANES, edit=storing(dtype, syntax=syntax), modality="MR")).array
    assert np.array_equal(found[0], stored(dtype).T)


@pytest.mark.parametrize("syntax", [None, *UNCOMPRESSED, RLELossless], ids=lambda s: s.keyword if s else "explicit")
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high_bit"), [(12, 11), (12, 13), (12, 15), (15, 14)])
def test_junk_in_unused_bits_is_not_read(
    tmp_path: Path, bits: int, high_bit: int, signed: bool, syntax: UID | None
) -> None:
    values = (VALUES if signed else VALUES - VALUES.min()).astype(np.int64)

    def edit(dataset: Dataset, n: int) -> None:
        mask = (1 << bits) - 1
        below = high_bit + 1 - bits
        junk = np.random.default_rng(n).integers(0, 2**16, VALUES[n].shape) & ~(mask << below)
        words = ((values[n] & mask) << below | junk).astype("<u2")
        store(dataset, words, dtype="<u2", bits=bits)
        dataset.HighBit, dataset.PixelRepresentation = high_bit, int(signed)
        if syntax == RLELossless:
            compress(dataset, RLELossless)
        elif syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = words.byteswap().tobytes()

    assert np.array_equal(read(write_series(tmp_path, PLANES, edit=edit)).array[0], values.T)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg (dcmtk) is not installed")
@pytest.mark.parametrize("process", ["+e1", "+el"])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_jpeg(tmp_path: Path, process: str, signed: bool) -> None:
    files = write_series(tmp_path, PLANES, edit=storing("<i2" if signed else "<u2"))
    for path in files:
        subprocess.run(["dcmcjpeg", process, str(path), str(path)], check=True)
    syntax = pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID
    assert syntax.is_compressed
    assert np.array_equal(read(files).array[0], stored("<i2" if signed else "<u2").T)
    assert not any("lossy" in note for note in one_volume(files).notes)


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg (dcmtk) is not installed")
def test_lossy_jpeg_is_said(tmp_path: Path) -> None:
    files = write_series(tmp_path, PLANES, edit=storing("|u1"))
    for path in files:
        subprocess.run(["dcmcjpeg", "+eb", "+q", "95", str(path), str(path)], check=True)
    stack = one_volume(files)
    assert "lossy compression: the numbers are not the scanner's" in stack.notes
    assert np.abs(read_series(stack).array[0].astype(int) - stored("|u1").T).max() < 12


@pytest.mark.parametrize("syntax", [None, *COMPRESSED], ids=lambda s: s.keyword if s else "explicit")
def test_frames_in_any_order_and_syntax(tmp_path: Path, syntax: UID | None) -> None:
    stack = planes(6, size=(33, 38))
    path = write_enhanced(tmp_path / "a.dcm", [stack[n] for n in (3, 0, 5, 1, 4, 2)])
    if syntax is not None:
        dataset = pydicom.dcmread(path)
        compress(dataset, syntax)
        dataset.save_as(path)
    assert_true(read([path]), stack)


def test_float_pixels_are_floats(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        store(dataset, VALUES[n], dtype="<f4")
        dataset.FloatPixelData = dataset.PixelData
        del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation

    found = read(write_series(tmp_path, PLANES, modality="MR", edit=edit)).array
    assert found.dtype == np.float32
    assert np.array_equal(found[0], VALUES.T)


def test_signed_and_unsigned_slices_together(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        store(dataset, VALUES[n] + 1024 * (n % 2), dtype="<u2" if n % 2 else "<i2", intercept=-1024 * (n % 2))

    found = read(write_series(tmp_path, PLANES, edit=edit)).array
    assert found.dtype == np.int16
    assert np.array_equal(found[0], VALUES.T)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, np.int16), (3, 7, np.int16), (-1, 0, np.int16), (300, 1, np.int32), (0.5, -2.25, np.float32)],
)
def test_scaling(tmp_path: Path, slope: float, intercept: float, dtype: type) -> None:
    files = write_series(tmp_path, PLANES, edit=storing("<i2", slope=slope, intercept=intercept))
    found = read(files).array
    assert found.dtype == dtype
    np.testing.assert_allclose(found[0], VALUES.T * slope + intercept, rtol=1e-6)


def test_philips_scale_slopes_that_differ_are_applied(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        store(dataset, np.round(VALUES[n] * (n + 1) + 5000), slope=2.5, intercept=-12500)
        dataset.add_new((0x2005, 0x0010), "LO", "Philips MR Imaging DD 001")
        dataset.add_new((0x2005, 0x100E), "FL", float(n + 1))

    stack = one_volume(write_series(tmp_path, PLANES, modality="MR", edit=edit))
    assert "Philips' scale slopes applied: they differ between the slices" in stack.notes
    np.testing.assert_allclose(read_series(stack).array[0], VALUES.T, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_padding_and_inversion_are_said_and_kept(tmp_path: Path, syntax: UID | None) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        storing("<i2", syntax=syntax)(dataset, n)
        dataset.PhotometricInterpretation, dataset.PixelPaddingValue = "MONOCHROME1", -2000
        dataset["PixelPaddingValue"].VR = "SS"

    stack = one_volume(write_series(tmp_path, PLANES, edit=edit))
    assert stack.notes == (
        "MONOCHROME1: meant to be shown inverted; the numbers are kept",
        "padding of -2000 kept outside the image",
    )
    assert np.array_equal(read_series(stack).array[0], VALUES.T)


def test_high_bits_of_a_codec_are_refused(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        storing("<u2", bits=12, syntax=JPEGLSLossless)(dataset, n)
        dataset.HighBit = 15

    with pytest.raises(InconsistentSeries, match=r"unsupported kind: .* got 12 of 16 bits up to 15"):
        read(write_series(tmp_path, PLANES, edit=edit))


def test_a_look_up_table_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, PLANES, edit=lambda d, _: setattr(d, "ModalityLUTSequence", [Dataset()]))
    with pytest.raises(InconsistentSeries, match="look-up table"):
        read(files)


@pytest.mark.parametrize(("keyword", "value"), [("BitsAllocated", 8), ("Rows", 32), ("Columns", 37)])
def test_more_pixels_than_the_header_says_are_refused(tmp_path: Path, keyword: str, value: int) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        storing("<u2")(dataset, n)
        setattr(dataset, keyword, value)
        if keyword == "BitsAllocated":
            dataset.BitsStored, dataset.HighBit = 8, 7

    with pytest.raises(UnreadableImage, match="does not fit the header"):
        read(write_series(tmp_path, PLANES, edit=edit))


def test_a_header_that_asks_for_gigabytes_gets_none(tmp_path: Path) -> None:
    def edit(dataset: Dataset, n: int) -> None:
        storing("<u2", syntax=RLELossless)(dataset, n)
        dataset.Rows = dataset.Columns = 65535

    files = write_series(tmp_path, PLANES, edit=edit)
    tracemalloc.start()
    with pytest.raises(UnreadableImage, match="does not fit the header: expected 8589672450 bytes"):
        read(files)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.add_new((0x0009, 0x0010), "LO", "ZEROS")
        dataset.add_new((0x0009, 0x1010), "OB", bytes(16 * 2**20))
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    files = write_series(tmp_path, PLANES[:1], edit=edit)
    with pytest.raises(UnreadableImage, match="more than 64 times its size"):
        read(files)


def test_a_series_is_held_once(tmp_path: Path) -> None:
    stack = planes(40, size=(128, 128), spacing_mm=(0.5, 0.5), step_mm=1)
    found = one_volume(write_series(tmp_path, stack))
    tracemalloc.start()
    size = read_series(found).array.nbytes
    assert tracemalloc.get_traced_memory()[1] < 1.1 * size + 2**18
    tracemalloc.stop()


def test_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path, PLANES, edit=storing("<i2", syntax=RLELossless))
    monkeypatch.setattr(dicom_pixels, "_WORTH_PROCESSES", 1)
    assert np.array_equal(read(files).array[0], VALUES.T)
    files[2].write_bytes(files[2].read_bytes()[:-60])
    with pytest.raises(UnreadableImage, match=r"0002\.dcm"):
        read(files)


def end_the_process(_: object) -> None:
    os._exit(3)


def test_a_decoder_that_ends_its_process_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path, PLANES, edit=storing("<i2", syntax=RLELossless))
    monkeypatch.setattr(dicom_pixels, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(dicom_pixels, "_decode", end_the_process)
    with pytest.raises(UnreadableImage, match="a process that decodes the series has ended"):
        read(files)


def test_without_memory_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Array:
        raise MemoryError

    files = write_series(tmp_path, PLANES)
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(ResourceError, match="not enough memory for the series: got 4"):
        read(files)


def test_the_kind_comes_from_the_modality(tmp_path: Path) -> None:
    kinds = {name: read(write_series(tmp_path / name, PLANES, modality=name)).kind for name in ("CT", "MR", "PT")}
    assert kinds == {"CT": Kind.CT, "MR": Kind.MR, "PT": Kind.OTHER}
