"""Damaged files of every kind that is read: each must be read, or refused by a `DelineateError`, soon and in bounds.

    python tests/fuzzing.py --count 20000 --seed 0     all kinds; failures are printed with the number that repeats them
    python tests/fuzzing.py --count 1 --seed 0 --first 1234 --keep /tmp/case

Case n is made from (seed, n) alone. The cases run in a child process, so that a decoder that ends its process is a
failure of that case and not the end of the run. Its address space has a limit, and each case's time and memory too.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import gzip
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pydicom
from hard_series import compress, planes, write_enhanced, write_series
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from delineate import formats
from delineate.errors import DelineateError
from delineate.formats.dicom.series import find_series, read_series
from delineate.formats.dicom.stacks import Repair
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.formats.meshes.files import read_meshes, write_mesh
from delineate.formats.nrrd_files import read_nrrd, read_nrrd_volume, write_nrrd
from delineate.labels import label_set
from delineate.volume import Segmentation, Volume

SYNTAXES = (
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
SECONDS = 5.0
EXTRA_BYTES = 512 * 2**20  # no file here is above 1 MB
ADDRESS_SPACE = 6 * 2**30
Random = np.random.Generator
Read = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Seed:
    """A sound file, how it is read, and what else must lie in its folder."""

    name: str
    path: Path
    read: Read
    companions: tuple[Path, ...] = ()
    dicom: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    number: int
    seed: str
    what: str


def read_folder(path: Path) -> None:
    """Every way into a folder of DICOM."""
    for stack in find_series(path.parent, repair=Repair.INTERPOLATE):
        if stack.is_scan:
            read_series(stack)
    formats.read_volume(path.parent)


def read_nifti(path: Path) -> None:
    formats.read_grid(path)
    formats.read_volume(path)
    formats.read_label_values(path)


def read_any_nrrd(path: Path) -> None:
    for read in (read_nrrd_volume, read_nrrd):
        try:
            read(path)
        except DelineateError:
            continue


def sound_files(folder: Path) -> list[Seed]:
    """Small files of all kinds, some of other software's making where it is there."""
    stack = planes(4, size=(16, 20))
    series = write_series(folder / "ct", stack)
    seeds = [Seed("classic", series[1], read_folder, (series[0], *series[2:]))]
    for syntax in SYNTAXES:
        files = write_series(folder / syntax.keyword, planes(3, size=(33, 40)), edit=partial(_encode, syntax))
        seeds.append(Seed(syntax.keyword, files[1], read_folder, (files[0], files[2])))
    seeds.append(Seed("enhanced", write_enhanced(folder / "enhanced" / "a.dcm", stack), read_folder))
    seeds.append(Seed("enhanced RLE", _compressed(folder / "rle" / "a.dcm", seeds[-1].path), read_folder))
    volume = read_series(series)
    seeds += _segmentation_seeds(folder, volume, series) + _image_seeds(folder, volume)
    real = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "transfer_syntaxes"
    jpeg = sorted(real.glob("*JPEGProcess14SV1*")) if real.is_dir() else []
    return seeds + [Seed("lossless JPEG", path, read_folder) for path in jpeg[:1]]


def _encode(syntax: pydicom.uid.UID, dataset: Dataset, _: int) -> None:
    if syntax.is_compressed and not syntax.is_deflated:
        compress(dataset, syntax)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax


def _compressed(path: Path, plain: Path) -> Path:
    dataset = pydicom.dcmread(plain)
    compress(dataset, RLELossless)
    path.parent.mkdir()
    dataset.save_as(path)
    return path


def _segmentation_seeds(folder: Path, volume: Volume, series: list[Path]) -> list[Seed]:
    values = np.zeros(volume.grid.shape, dtype=np.uint8)
    values[4:12, 3:9, 1:3], values[13:17, 8:14, 0:3] = 1, 2
    segmentation = Segmentation(values, volume.grid, label_set({1: "liver", 2: "spleen"}), volume.source)
    write_seg(folder / "seg" / "a.dcm", segmentation, series)
    write_rtstruct(folder / "rt" / "a.dcm", segmentation, series)
    for kind in ("seg", "rt"):
        _settle(folder / kind / "a.dcm")
    write_nrrd(folder / "nrrd" / "a.seg.nrrd", segmentation)
    seeds = [Seed("SEG", folder / "seg" / "a.dcm", read_seg), Seed("RTSTRUCT", folder / "rt" / "a.dcm", read_rtstruct)]
    seeds.append(Seed("NRRD", folder / "nrrd" / "a.seg.nrrd", read_any_nrrd, dicom=False))
    for suffix in ("stl", "obj", "glb", "3mf"):
        path = folder / suffix / f"a.{suffix}"
        write_mesh(path, segmentation, names=["liver"])
        seeds.append(Seed(suffix, path, read_meshes, dicom=False))
    formats.write_segmentation(folder / "labels" / "a.nii.gz", segmentation)
    return [*seeds, Seed("NIfTI labels", folder / "labels" / "a.nii.gz", read_nifti, dicom=False)]


def _settle(path: Path) -> None:
    """The same identifiers and times in every run, so that a case is the same damage."""
    dataset = pydicom.dcmread(path)
    known: dict[str, str] = {}
    for element in dataset.iterall():
        if element.VR == "UI" and isinstance(element.value, str) and not element.value.startswith("1.2.840"):
            element.value = known.setdefault(element.value, f"1.2.3.9.{len(known)}")
        elif element.VR in ("DA", "TM", "DT") and element.value:
            element.value = {"DA": "20240305", "TM": "120000", "DT": "20240305120000"}[element.VR]
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path)


def _image_seeds(folder: Path, volume: Volume) -> list[Seed]:
    for name in ("a.nii", "a.nii.gz"):
        formats.write_volume(folder / name[2:] / name, volume)
    return [Seed(f"NIfTI {name}", folder / name[2:] / name, read_nifti, dicom=False) for name in ("a.nii", "a.nii.gz")]


# Damage

WORDS = tuple(word.to_bytes(4, "little") for word in (0, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1))
NUMBERS = (b"nan ", b"inf ", b"-1", b"0 ", b"1e300 ", b"99999999", b"1,5 ", b"1\\2\\3 ", b"", b"\x00\x00", b"x ", b"-0")
SHORTS = (0, 1, 2, 7, 255, 32767, 32768, 65535)
ATTRIBUTES = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "InstanceNumber",
    "Modality",
    "PhotometricInterpretation",
    "TransferSyntaxUID",
)
NIFTI_FIELDS = ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "qform_code")
ORIENTING = ("sform_code", "quatern_b", "srow_x", "srow_z", "magic", "sizeof_hdr", "xyzt_units")
VRS = (b"UL", b"US", b"DS", b"IS", b"SQ", b"UN", b"OB", b"OW", b"LO", b"FD", b"FL", b"AT", b"ZZ", b"\x00\x00")


def damaged(seed: Seed, path: Path, rng: Random) -> bytes:
    """A sound file's bytes after one to three kinds of damage; of gzip half of the time inside."""
    data = path.read_bytes()
    inside = seed.path.name.endswith(".gz") and rng.random() < 0.5
    data = gzip.decompress(data) if inside else data
    kinds: list[Callable[[bytes, Random], bytes]] = [flip, cut, insert, remove, put_word, repeat, flip_early, put_word]
    if seed.dicom:
        kinds += [change_vr, change_length, swap_tags, nest, put_attribute, put_attribute, put_attribute]
    elif ".nii" in seed.path.name and (inside or seed.path.suffix == ".nii"):
        kinds += [put_field] * 8
    for _ in range(int(rng.integers(1, 4))):
        data = kinds[int(rng.integers(len(kinds)))](data, rng)
    return gzip.compress(data, 1) if inside else data


def _place(data: bytes, rng: Random) -> int:
    """Somewhere; half of the time in the first part, where headers are."""
    return int(rng.integers(max(1, min(len(data), 1200 if rng.random() < 0.5 else len(data)))))


def flip(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 20)) if out else 0):
        out[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def flip_early(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    if out:
        out[int(rng.integers(min(len(out), 400)))] = int(rng.integers(256))
    return bytes(out)


def cut(data: bytes, rng: Random) -> bytes:
    return data[: _place(data, rng)]


def insert(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]


def remove(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def repeat(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[: at + int(rng.integers(1, 400))] + data[at:]


def put_word(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + WORDS[int(rng.integers(len(WORDS)))] + data[at + 4 :]


def elements(data: bytes) -> list[tuple[int, int]]:
    """Offsets of what looks like explicit elements: where a tag is, and where its length; at any depth."""
    found = []
    for at in range(132, min(len(data) - 8, 6000), 2):
        vr = data[at + 4 : at + 6]
        if vr.isalpha() and vr.isupper() and data[at + 1] in (0, 0x7F, 0x20, 0x30):
            found.append((at, at + (8 if vr in (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT") else 6)))
    return found


def change_vr(data: bytes, rng: Random) -> bytes:
    there = elements(data)
    if not there:
        return flip(data, rng)
    at = there[int(rng.integers(len(there)))][0]
    return data[: at + 4] + VRS[int(rng.integers(len(VRS)))] + data[at + 6 :]


def change_length(data: bytes, rng: Random) -> bytes:
    there = elements(data)
    if not there:
        return flip(data, rng)
    at = there[int(rng.integers(len(there)))][1]
    size = int(rng.choice([2, 4]))
    return data[:at] + WORDS[int(rng.integers(len(WORDS)))][:size] + data[at + size :]


def swap_tags(data: bytes, rng: Random) -> bytes:
    there = elements(data)
    if len(there) < 2:
        return flip(data, rng)
    a, b = sorted(there[int(n)][0] for n in rng.choice(len(there), 2, replace=False))
    return data[:a] + data[b : b + 4] + data[a + 4 : b] + data[a : a + 4] + data[b + 4 :]


def nest(data: bytes, rng: Random) -> bytes:
    """Sequences of undefined length, one in the other, that never end."""
    there = elements(data)
    at = there[int(rng.integers(len(there)))][0] if there else _place(data, rng)
    tag = (b"\x08\x00\x15\x11", b"\x00\x52\x29\x92", b"\x09\x00\x10\x10")[int(rng.integers(3))]
    level = tag + b"SQ\x00\x00" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    return data[:at] + level * int(rng.choice([1, 3, 50, 2000])) + data[at:]


def put_attribute(data: bytes, rng: Random) -> bytes:
    """Another value for an element that is there, of odd length and content."""
    keyword = ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))]
    tag = pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag).encode()
    mark = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + vr
    at = data.find(mark)
    if at < 0 or at + 8 > len(data):
        return flip(data, rng)
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    short = mark.endswith(b"US")
    value = int(rng.choice(SHORTS)).to_bytes(2, "little") if short else NUMBERS[int(rng.integers(len(NUMBERS)))]
    if not short and rng.random() < 0.3:
        value = b"\\".join([value] * int(rng.integers(2, 7)))
    return data[: at + 6] + len(value).to_bytes(2, "little") + value + data[at + 8 + length :]


def put_field(data: bytes, rng: Random) -> bytes:
    import nibabel

    if len(data) < 348:
        return flip(data, rng)
    header = np.frombuffer(data[:348], dtype=nibabel.Nifti1Header.template_dtype).copy()
    name = str(rng.choice([*NIFTI_FIELDS, *ORIENTING]))
    field: Any = header[name].reshape(-1)
    with np.errstate(all="ignore"):
        if field.dtype.kind == "S":
            field[0] = b"n+2"
        elif field.dtype.kind == "f":
            field[int(rng.integers(field.size))] = rng.choice([np.nan, np.inf, -1, 0, 1e38, 1e-38, 352.5, 3e9])
        else:
            choices = [0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 128, 255, 256, 768, 1024, 32767, -32768]
            field[int(rng.integers(field.size))] = np.array(rng.choice(choices)).astype(field.dtype)
    header[name] = field.reshape(header[name].shape)
    return header.tobytes() + data[348:]


# Runs


class TooSlow(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def stop(_: int, frame: FrameType | None) -> None:
        raise TooSlow("".join(traceback.format_stack(frame)[-3:]))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def case(number: int, seed: int, seeds: list[Seed], folder: Path) -> tuple[Seed, Path]:
    """Damaged file `number`, written into an empty folder."""
    rng = np.random.default_rng([seed, number])
    chosen = seeds[int(rng.integers(len(seeds)))]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    damage, alike = int(rng.integers(2**32)), rng.random() < 0.5
    for path in (chosen.path, *chosen.companions):
        # Where all slices have the same damage, none is refused for being unlike the others.
        spoil = alike or path == chosen.path
        data = damaged(chosen, path, np.random.default_rng(damage)) if spoil else path.read_bytes()
        (folder / path.name).write_bytes(data)
    return chosen, folder / chosen.path.name


def outcome(chosen: Seed, path: Path) -> str | None:
    """What went wrong; None for a file that was read, or refused as it should be."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen.read(path)
    except DelineateError:
        pass
    except TooSlow as error:
        return f"took over {SECONDS} s\n{error}"
    except BaseException:
        return traceback.format_exc(limit=-4)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return f"took {grown / 2**20:.0f} MB" if grown > EXTRA_BYTES else None


def run(first: int, count: int, seed: int, *, progress: Path | None = None) -> list[Failure]:
    """Run cases in this process; the number at hand is written to `progress`."""
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        seeds = sound_files(Path(temporary) / "sound")
        for number in range(first, first + count):
            if progress is not None:
                progress.write_text(str(number))
            chosen, path = case(number, seed, seeds, Path(temporary) / "case")
            wrong = outcome(chosen, path)
            if wrong is not None:
                failures.append(Failure(number, chosen.name, wrong))
                print(f"case {number} ({chosen.name}): {wrong}", flush=True)
    return failures


def run_apart(first: int, count: int, seed: int) -> int:
    """Run cases in child processes, a new one after each that died; how many failed."""
    failed, start, stop = 0, first, first + count
    with tempfile.TemporaryDirectory() as temporary:
        progress = Path(temporary) / "progress"
        while start < stop:
            progress.write_text(str(start))
            part = min(2000, stop - start)
            command = [sys.executable, __file__, "--child", str(progress), "--seed", str(seed)]
            child = subprocess.run(
                [*command, "--first", str(start), "--count", str(part)], capture_output=True, text=True
            )
            print(child.stdout, end="", flush=True)
            failed += child.stdout.count("\ncase ") + child.stdout.startswith("case ")
            at = int(progress.read_text())
            if child.returncode < 0 or "child ended" not in child.stdout:
                failed += 1
                print(f"case {at}: the process died ({child.returncode})\n{child.stderr[-2000:]}", flush=True)
            start = at + 1
            print(f"{start - first} of {count} run, {failed} failed", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the first case here and read it")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.keep:
        with tempfile.TemporaryDirectory() as temporary:
            seed, path = case(chosen.first, chosen.seed, sound_files(Path(temporary)), chosen.keep)
            print(seed.name, path, outcome(seed, path))
    elif chosen.child:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        run(chosen.first, chosen.count, chosen.seed, progress=chosen.child)
        print("child ended", flush=True)
    else:
        started = time.perf_counter()
        failed = run_apart(chosen.first, chosen.count, chosen.seed)
        print(f"{chosen.count} cases in {time.perf_counter() - started:.0f} s: {failed} failed")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
