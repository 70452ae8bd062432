"""A scan being made ready for the browser: whoever waits for some of its slices gets them before the rest is there."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.errors import DelineateError, InputError
from delineate.files import atomic_path, check_space, write_bytes
from delineate.geometry import Grid, Triple
from delineate.review.display_numbers import Coding, Numbers, values_of
from delineate.review.display_scans import Part, Scan, channels_of, open_scan, parts_of
from delineate.review.windows import Window, windows_for
from delineate.volume import Kind

IMAGE, ABOUT = "image.npy", "about.json"

_UNITS = {Kind.CT: "HU", Kind.PET: "SUV"}
_SAMPLES = 400_000
_AIR_HU, _BONE_HU = -500.0, 200.0  # as `workflow.structures.read_scan` judges


@dataclass(frozen=True, slots=True)
class ImageAbout:
    """What the numbers of a scan are. A value is `slope` x number + `intercept`, in `unit`: "HU", "SUV" or "".

    `windows`: to choose from, the one to begin with first. `channels`: how many the scan has.
    """

    grid: Grid
    kind: Kind
    slope: float
    intercept: float
    windows: tuple[Window, ...]
    channels: int = 1

    @property
    def unit(self) -> str:
        return _UNITS.get(self.kind, "")


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    shape: Triple
    affine: list[list[float]]
    frame_of_reference_uid: str | None
    kind: Kind
    slope: float
    intercept: float
    windows: list[tuple[str, float, float]]
    channels: int


def read_about(folder: Path) -> ImageAbout | None:
    """What stands beside a scan that is ready; None if there is nothing readable."""
    try:
        record = msgspec.json.decode((folder / ABOUT).read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None
    grid = Grid(record.shape, np.array(record.affine), record.frame_of_reference_uid)
    windows = tuple(Window(*one) for one in record.windows)
    return ImageAbout(grid, record.kind, record.slope, record.intercept, windows, record.channels)


def _write_about(folder: Path, about: ImageAbout) -> None:
    record = _Record(
        shape=about.grid.shape,
        affine=about.grid.affine.tolist(),
        frame_of_reference_uid=about.grid.frame_of_reference_uid,
        kind=about.kind,
        slope=about.slope,
        intercept=about.intercept,
        windows=[(one.name, one.lower, one.upper) for one in about.windows],
        channels=about.channels,
    )
    write_bytes(folder / ABOUT, msgspec.json.encode(record))


@dataclass(frozen=True, slots=True)
class ReadyImage:
    """A scan that is ready, in its folder."""

    about: ImageAbout
    folder: Path

    def slab(self, k0: int, k1: int) -> bytes:
        """Slices k0 to k1 as they travel. Raises `InputError` for others, `FileNotFoundError` if they were removed."""
        return _slab(self.folder / IMAGE, self.about.grid, k0, k1)


def _slab(image: Path, grid: Grid, k0: int, k1: int) -> bytes:
    i, j, k = grid.shape
    if not 0 <= k0 < k1 <= k:
        raise InputError("there are no such slices", expected=f"from below to, within 0 to {k}", got=f"{k0} to {k1}")
    size = i * j * 2
    with image.open("rb", buffering=0) as stream:
        # They are the file's end: its header may have any length.
        stream.seek(image.stat().st_size - (k - k0) * size)
        return stream.read((k1 - k0) * size)


@dataclass(frozen=True, slots=True)
class Task:
    """What to make ready: a channel of a scan, into a folder. `turns`: held while it is read; `over`: called after."""

    path: Path
    channel: int
    folder: Path
    memory_bytes: int
    turns: AbstractContextManager[object]
    over: Callable[[], None]


class Readying:
    """A scan that a thread makes ready. Other threads wait for what they need of it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._changed = threading.Condition()
        self._parts: tuple[Part, ...] = ()
        self._begun: set[Part] = set()
        self._done: set[Part] = set()
        self._wanted: list[Part] = []
        self._image: Path | None = None
        self._about: ImageAbout | None = None
        self._grid: Grid | None = None
        self._error: BaseException | None = None
        self._finished = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="readying a scan", daemon=True)
        self._thread.start()

    def about(self) -> ImageAbout:
        """What the scan is, as soon as that is known. Raises what reading it raises."""
        with self._changed:
            self._wait(lambda: self._about is not None)
            assert self._about is not None
            return self._about

    def slab(self, k0: int, k1: int) -> bytes:
        """Slices k0 to k1 as they travel, when they are ready; they are made ready first. Raises as `ReadyImage`."""
        with self._changed:
            self._wait(lambda: self._grid is not None)
            assert self._grid is not None
            wanted = [part for part in self._parts if part[0] < k1 and part[1] > k0]
            self._wanted += [part for part in wanted if part not in self._begun]
            self._wait(lambda: self._done.issuperset(wanted))
            image, grid = self._image, self._grid
        assert image is not None
        try:
            return _slab(image, grid, k0, k1)
        except FileNotFoundError:  # it has just got its name
            return _slab(self._task.folder / IMAGE, grid, k0, k1)

    def wait(self) -> None:
        """Until all is ready. Raises what reading it raises."""
        with self._changed:
            self._wait(lambda: self._finished)

    def stop(self) -> None:
        """Leave it unfinished; nothing stays on disk."""
        with self._changed:
            self._stopped = True
        self._thread.join()

    def _wait(self, until: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._error is not None or until())
        if isinstance(self._error, DelineateError):
            raise self._error.at(self._error.path or self._task.path)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with self._task.turns:
                self._make()
        except BaseException as error:
            with self._changed:
                self._error = error
        try:
            self._task.over()
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _make(self) -> None:
        task = self._task
        channels = len(channels_of(task.path))
        scan = open_scan(task.path, task.channel, memory_bytes=task.memory_bytes)
        i, j, k = scan.grid.shape
        task.folder.parent.mkdir(parents=True, exist_ok=True)
        check_space(task.folder.parent, i * j * k * 2, what="a scan for the browser")
        with atomic_path(task.folder) as temporary:
            temporary.mkdir()
            self._write(scan, temporary / IMAGE, channels)
            about = self.about()
            _write_about(temporary, about)

    def _write(self, scan: Scan, image: Path, channels: int) -> None:
        i, j, k = scan.grid.shape
        samples: list[npt.NDArray[np.float64]] = []
        low, high = math.inf, -math.inf
        first = ImageAbout(scan.grid, Kind.OTHER, scan.coding.slope, scan.coding.intercept, (), channels)
        with image.open("wb") as stream:
            header = {"descr": "<i2", "fortran_order": False, "shape": (k, j, i)}
            np.lib.format.write_array_header_1_0(stream, header)
            start = stream.tell()
            stream.truncate(start + i * j * k * 2)
            self._begin(scan, image)
            for part, numbers in scan.numbers(self._next):
                stream.seek(start + part[0] * i * j * 2)
                stream.write(np.ascontiguousarray(numbers).data)
                stream.flush()
                ends = values_of(np.array([numbers.min(), numbers.max()]), scan.coding)
                low, high = min(low, ends.min()), max(high, ends.max())
                if scan.kind is None and low <= _AIR_HU and high >= _BONE_HU:
                    self._tell(replace(first, kind=Kind.CT, windows=windows_for(Kind.CT, ends, scan.windows)))
                samples.append(_sample(numbers, scan.coding, i * j * k))
                self._ready(part)
        kind = scan.kind or Kind.OTHER
        values = np.concatenate([*samples, [low, high]])
        self._tell(replace(first, kind=kind, windows=windows_for(kind, values, scan.windows)))

    def _begin(self, scan: Scan, image: Path) -> None:
        with self._changed:
            self._grid, self._image, self._parts = scan.grid, image, parts_of(scan.grid)
            self._changed.notify_all()
        if scan.kind is Kind.CT:
            coding, windows = scan.coding, windows_for(Kind.CT, np.zeros(0), scan.windows)
            channels = len(channels_of(self._task.path))
            self._tell(ImageAbout(scan.grid, Kind.CT, coding.slope, coding.intercept, windows, channels))

    def _tell(self, about: ImageAbout) -> None:
        """Once: what was told stays."""
        with self._changed:
            self._about = self._about or about
            self._changed.notify_all()

    def _ready(self, part: Part) -> None:
        with self._changed:
            if self._stopped:
                raise InputError("the scan is not made ready any more", path=self._task.path)
            self._done.update(one for one in self._parts if part[0] <= one[0] and one[1] <= part[1])
            self._begun |= self._done
            self._changed.notify_all()

    def _next(self, together: int) -> Part | None:
        """What somebody waits for, else from the middle outwards, where most of a patient is."""
        with self._changed:
            wanted = next((part for part in self._wanted if part not in self._begun), None)
            chosen = (wanted, wanted) if wanted is not None else self._outwards(together)
            if chosen is None:
                return None
            first, last = chosen
            self._begun.update(part for part in self._parts if first[0] <= part[0] and part[1] <= last[1])
            return first[0], last[1]

    def _outwards(self, together: int) -> tuple[Part, Part] | None:
        free = [part not in self._begun for part in self._parts]
        return run_from_middle(self._parts, free, together)


def run_from_middle(parts: Sequence[Part], free: Sequence[bool], most: int) -> tuple[Part, Part] | None:
    """The first and last of up to `most` adjacent parts that are free, the nearest to the middle among them."""
    count = len(parts)
    places = sorted((n for n in range(count) if free[n]), key=lambda n: abs(2 * n + 1 - count))
    if not places:
        return None
    first = last = places[0]
    for _ in range(most - 1):
        if last + 1 < count and free[last + 1]:
            last += 1
        elif first > 0 and free[first - 1]:
            first -= 1
    return parts[first], parts[last]


def _sample(numbers: Numbers, coding: Coding, voxels: int) -> npt.NDArray[np.float64]:
    """Evenly spread values of a part; the step shares no factor with a row, or it would go down the same columns."""
    step = max(1, voxels // _SAMPLES)
    while math.gcd(step, numbers.shape[2]) > 1:
        step += 1
    return values_of(numbers.reshape(-1)[::step], coding)
