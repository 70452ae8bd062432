"""Cases of a store to annotate next: what they look like, read once and kept, and how sure the model was."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from delineate.errors import DelineateError
from delineate.files import write_bytes
from delineate.review.readers import ACCEPTED
from delineate.review.records import NewCase, Person, ReviewCase, State
from delineate.review.remembering import Remembered, scope_of
from delineate.review.store import Store
from delineate.review.suggesting import Candidate, Suggested, suggest
from delineate.volume import Volume, reorient
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.structures import read_scan

RULE_VERSION = 1
_PERCENTILES = (5, 50, 95)
_SAMPLES = 64  # voxels an axis that percentiles are taken from
_AXES = ("left-right", "front-back", "up-down")


class ScanFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan looks like, its axes in the patient's order. `percentiles`: 5, 50 and 95 % of its intensities."""

    spacing_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    percentiles: tuple[float, float, float]


def scan_features(volume: Volume) -> ScanFeatures:
    """Of the first channel; voxels that are not finite are left out, NaN where none is."""
    turned = reorient(volume, "LPS")
    grid, array = turned.grid, turned.array[0]
    steps = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in array.shape)
    values = np.asarray(array[steps], dtype=np.float64)
    known = values[np.isfinite(values)]
    low, middle, high = np.percentile(known, _PERCENTILES) if known.size else (math.nan,) * 3
    i, j, k = (n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True))
    return ScanFeatures(
        spacing_mm=grid.spacing_mm,
        extent_mm=(i, j, k),
        percentiles=(float(low), float(middle), float(high)),
    )


class Suggestions:
    """What to annotate next in a store. Safe to use from several threads.

    `cache`: a folder for features of scans; it may be removed at any time. Reading a scan takes about a second, so a
    call reads for `budget_seconds` at most; scans that wait are compared by their structures' volumes alone, until a
    later call has read them.
    """

    def __init__(self, store: Store, cache: Path, *, budget_seconds: float = 2.0) -> None:
        self._store = store
        self._folder = cache / "features"
        self._budget_seconds = budget_seconds
        self._known: dict[str, ScanFeatures] = {}
        self._one_at_a_time = threading.Lock()
        self._made: Remembered[tuple[Suggested, ...]] = Remembered()

    def next(self, person: Person | None, count: int, *, watch: Watch = nobody) -> tuple[Suggested, ...]:
        """The `count` unreviewed cases that would teach a model most, of those that a person may see (None: of all);
        fewer if there are fewer. What was approved counts as annotated. Raises `InputError` for a count below 1.

        Of thousands of cases they are up to a minute old, see `Remembered`.
        """
        return self._made.get((scope_of(person), count), lambda: self._chosen(person, count, watch))

    def _chosen(self, person: Person | None, count: int, watch: Watch) -> tuple[Suggested, ...]:
        cases = self._store.cases(person)
        there = [case for case in cases if case.state in ACCEPTED]
        wanted = [case for case in cases if case.state is State.UNREVIEWED]
        until = time.monotonic() + self._budget_seconds
        scans = {}
        for done, case in enumerate((*wanted, *there), start=1):
            scans[case.id] = self._features(case.new, until=until)
            watch("Reading scans", done, len(wanted) + len(there), case.new.key)
        found = candidates((*wanted, *there), [scans[case.id] for case in (*wanted, *there)])
        return suggest(found[: len(wanted)], count, annotated=found[len(wanted) :])

    def _features(self, new: NewCase, *, until: float) -> ScanFeatures | None:
        key = _key(new)
        if key not in self._known:
            found = self._kept(key) or self._read(new, key, until=until)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def _kept(self, key: str) -> ScanFeatures | None:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=ScanFeatures)
        return None

    def _read(self, new: NewCase, key: str, *, until: float) -> ScanFeatures | None:
        with self._one_at_a_time:
            if time.monotonic() > until:
                return None
            try:
                found = scan_features(read_scan(new.scan))
            except DelineateError:
                return None
        write_bytes(self._folder / f"{key}.json", msgspec.json.encode(found))
        return found


def candidates(cases: Sequence[ReviewCase], scans: Sequence[ScanFeatures | None]) -> list[Candidate]:
    """Cases as `suggest` compares them: voxel spacing, size and intensities of the scan, NaN for one that was not read,
    and the volume of each structure that any case has. Lengths and volumes are compared by their logarithms.

    A case's uncertainty is what its structures lack of full agreement between folds or variants, on average; where
    no case has any, the number of its warnings.
    """
    structures = sorted({part.name for case in cases for part in case.new.structures})
    told = any(part.agreement is not None for case in cases for part in case.new.structures)
    return [
        Candidate(
            case.new.key,
            (*_scan_values(scan), *_volumes(case.new, structures)),
            _disagreement(case.new) if told else float(len(case.new.warnings)),
        )
        for case, scan in zip(cases, scans, strict=True)
    ]


def _scan_values(scan: ScanFeatures | None) -> tuple[tuple[str, float], ...]:
    spacing = (math.nan,) * 3 if scan is None else tuple(map(math.log, scan.spacing_mm))
    extent = (math.nan,) * 3 if scan is None else tuple(map(math.log, scan.extent_mm))
    levels = (math.nan,) * 3 if scan is None else scan.percentiles
    return (
        *((f"voxel size {axis}", value) for axis, value in zip(_AXES, spacing, strict=True)),
        *((f"size of the scan {axis}", value) for axis, value in zip(_AXES, extent, strict=True)),
        *zip(("dark intensities", "middle intensities", "bright intensities"), levels, strict=True),
    )


def _volumes(new: NewCase, structures: Sequence[str]) -> tuple[tuple[str, float], ...]:
    known = {part.name: math.log1p(max(part.volume_ml, 0.0)) for part in new.structures}
    return tuple((f"volume of {name}", known.get(name, math.nan)) for name in structures)


def _disagreement(new: NewCase) -> float | None:
    known = [part.agreement for part in new.structures if part.agreement is not None]
    return 1 - math.fsum(known) / len(known) if known else None


def _key(new: NewCase) -> str:
    return hashlib.sha256(repr((RULE_VERSION, new.key, str(new.scan), new.digest)).encode()).hexdigest()[:32]
