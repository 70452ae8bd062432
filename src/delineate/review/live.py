"""Labels of cases as they are now: the model's result and all edits since, in memory, bounded, and never ahead of what
is stored.

An array that was handed out is never changed: an edit after that works on a copy.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from delineate.editing.runs import Runs, inverse, pack, put_runs, unpack
from delineate.errors import DelineateError, InputError
from delineate.geometry import Grid
from delineate.review.layers import (
    LayerArray,
    Layers,
    as_segmentation,
    bytes_of,
    check_runs,
    pack_layers,
    put_edit,
    put_layers,
    read_model_result,
)
from delineate.review.records import EditRecord, Person, ReviewCase, StaleRevision
from delineate.review.seen import file_marks, scan_digest, seen_digest, slice_digest, slice_digests
from delineate.review.store import Store
from delineate.review.store.trail import canonical
from delineate.volume import Segmentation, read_only

SNAPSHOT_EDITS = 200
SNAPSHOT_BYTES = 32 << 20

Numbered = tuple[tuple[int, LayerArray], ...]


@dataclass(slots=True, eq=False)
class _Live:
    """A case in memory. `lent`: layers that somebody may be reading. `since`, `since_bytes`: edits after the last
    snapshot."""

    grid: Grid
    layers: Layers
    revision: int
    since: int = 0
    since_bytes: int = 0
    lent: set[int] = field(default_factory=set)
    slices: dict[int, list[bytes]] = field(default_factory=dict)

    def writable(self, layer: int) -> LayerArray:
        if layer in self.lent:
            self.layers[layer] = self.layers[layer].copy()
            self.lent.discard(layer)
        return self.layers[layer]

    def lend(self) -> Numbered:
        self.lent.update(self.layers)
        return tuple((layer, read_only(self.layers[layer])) for layer in sorted(self.layers))


class LiveLabels:
    """The labels of cases. Safe to use from several threads; one at a time works on a case.

    `memory_bytes`: what the arrays of all cases take together, but for one case that is larger by itself. Other
    processes may edit the same store: what they added is applied before anything is said or changed.
    """

    def __init__(self, store: Store, *, memory_bytes: int) -> None:
        self._store = store
        self._memory_bytes = memory_bytes
        self._guard = threading.Lock()
        self._reading = threading.Lock()  # a file that is read takes several times its labels' memory
        self._locks: dict[int, threading.RLock] = {}
        self._cases: OrderedDict[tuple[int, int | None], _Live] = OrderedDict()
        self._snapshots = ThreadPoolExecutor(1, "snapshots")
        self._scans: dict[int, tuple[Hashable, str]] = {}

    def layers(self, case: ReviewCase) -> Numbered:
        """Layers by number at the newest revision, (K, J, I), read-only. Raises what `read_model_result` raises."""
        with self._at_head(case) as live:
            return live.lend()

    def at(self, case: ReviewCase, revision: int) -> Numbered:
        """Layers by number at a revision; 0 is the model's own. Raises `InputError` for one that there is not yet."""
        return self._at(case, revision).lend()

    def edit(
        self,
        case: ReviewCase,
        person: Person,
        *,
        base_revision: int,
        layer: int,
        runs: Runs,
        tool: str,
        parameters: str,
    ) -> EditRecord:
        """Store a change of a layer and apply it.

        Raises `StaleRevision` if it was not made of the newest revision, `EditConflict` if the old values of the runs
        are not what the layer holds, `InputError` for values of no structure, and what `Store.add_edit` raises.
        """
        with self._at_head(case) as live:
            _check_fresh(case, live, base_revision)
            check_runs(case, live.layers, layer, runs)
            return self._applied(case, live, person, layer=layer, runs=runs, told=(tool, parameters, None))

    def undo(self, case: ReviewCase, person: Person, base_revision: int) -> EditRecord:
        """Take back the last edit that stands, whoever made it and when. Raises `InputError` if there is none."""
        return self._reverse(case, person, base_revision, redo=False)

    def redo(self, case: ReviewCase, person: Person, base_revision: int) -> EditRecord:
        """Take back the last undo. Raises `InputError` if there is none since the last other edit."""
        return self._reverse(case, person, base_revision, redo=True)

    def digest(self, case: ReviewCase) -> tuple[int, str]:
        """The newest revision and the digest of what is seen at it; see `seen`."""
        with ThreadPoolExecutor(1) as aside:
            scan = aside.submit(self.scan_digest, case)  # while the labels are read: hashing holds up no other thread
            with self._at_head(case) as live:
                for layer, array in live.layers.items():
                    if layer not in live.slices:
                        live.slices[layer] = slice_digests(array)
                slices = {layer: (array.itemsize, live.slices[layer]) for layer, array in live.layers.items()}
                return live.revision, seen_digest(scan.result(), live.grid, slices)

    def scan_digest(self, case: ReviewCase) -> str:
        """The digest of a case's scan, which `digest` is of too; see `seen`. Raises `InputError` if it is gone."""
        marks = file_marks(case.new.scan)
        known = self._scans.get(case.id)
        if known is None or known[0] != marks:
            known = self._scans[case.id] = marks, scan_digest(case.new.scan)
        return known[1]

    def segmentation(self, case: ReviewCase, revision: int | None = None) -> Segmentation:
        """The labels on the scan's grid, at the newest revision or another; see `at`.

        Its author is who made edits that stand at the newest revision; the model where there are none, and at 0.
        """
        if revision is None:
            with self._at_head(case) as live:
                layers, grid, revision = dict(live.lend()), live.grid, live.revision
        else:
            live = self._at(case, revision)
            layers, grid = dict(live.lend()), live.grid
        editors = self._store.editors(case.id, revision)
        model = case.new.model_digest or case.new.model or None
        return as_segmentation(case, grid, layers, ", ".join(editors) or model)

    def grid(self, case: ReviewCase) -> Grid:
        """Where the voxels are: the scan's own grid."""
        with self._at_head(case) as live:
            return live.grid

    def finish(self) -> None:
        """Wait for snapshots that are being written; what was acknowledged is stored without it."""
        self._snapshots.submit(int).result()

    def _reverse(self, case: ReviewCase, person: Person, base_revision: int, *, redo: bool) -> EditRecord:
        with self._at_head(case) as live:
            _check_fresh(case, live, base_revision)
            history = self._store.history(case.id)
            target = history.redo_target if redo else history.undo_target
            word = "redo" if redo else "undo"
            if target is None:
                raise InputError(f"there is nothing to {word}", case=case.new.key)
            taken = self._store.edits(case.id, target - 1, target)[0]
            runs = inverse(unpack(taken.packed, live.layers[taken.layer].size))
            told = word, canonical({"revision": target, "tool": taken.tool}), target
            return self._applied(case, live, person, layer=taken.layer, runs=runs, told=told)

    def _applied(
        self,
        case: ReviewCase,
        live: _Live,
        person: Person,
        *,
        layer: int,
        runs: Runs,
        told: tuple[str, str, int | None],
    ) -> EditRecord:
        array = live.writable(layer)
        put_runs(array, runs)
        tool, parameters, undoes = told
        try:
            edit = self._store.add_edit(
                case.id,
                person,
                base_revision=live.revision,
                layer=layer,
                tool=tool,
                parameters=parameters,
                packed=pack(runs),
                undoes=undoes,
            )
        except BaseException:
            put_runs(array, inverse(runs))
            raise
        _advance(live, edit, runs)
        self._keep_snapshot(case, live)
        return edit

    def _keep_snapshot(self, case: ReviewCase, live: _Live) -> None:
        if live.since >= SNAPSHOT_EDITS or live.since_bytes >= SNAPSHOT_BYTES:
            live.since = live.since_bytes = 0
            # Beside the strokes that follow, which work on a copy of what is lent.
            self._snapshots.submit(self._save_snapshot, case, live.revision, dict(live.lend()))

    def _save_snapshot(self, case: ReviewCase, revision: int, layers: Layers) -> None:
        # The edits themselves are stored: without a snapshot the case only opens more slowly.
        with suppress(DelineateError):
            model = self._known((case.id, 0))
            before = read_model_result(case).layers if model is None else model.layers
            self._store.save_snapshot(case.id, revision, pack_layers(before, layers))

    @contextmanager
    def _at_head(self, case: ReviewCase) -> Iterator[_Live]:
        with self._lock(case.id):
            live = self._known((case.id, None))
            head = self._store.revision(case.id)
            if live is None:
                live = self._read(case, head)
                self._keep((case.id, None), live)
            for edit in self._store.edits(case.id, live.revision) if head > live.revision else ():
                live.writable(edit.layer)
                put_edit(live.layers, edit.layer, edit.packed)
                _advance(live, edit, unpack(edit.packed, live.layers[edit.layer].size))
            yield live

    def _at(self, case: ReviewCase, revision: int) -> _Live:
        with self._lock(case.id):
            head = self._store.revision(case.id)
            if not 0 <= revision <= head:
                raise InputError("no such revision", expected=f"0 to {head}", got=revision, case=case.new.key)
            newest = self._known((case.id, None))
            if newest is not None and newest.revision == revision:
                lent = dict(newest.lend())
                return _Live(newest.grid, lent, revision)
            live = self._known((case.id, revision))
            if live is None:
                live = self._read(case, revision)
                self._keep((case.id, revision), live)
            return live

    def _read(self, case: ReviewCase, revision: int) -> _Live:
        with self._reading:
            found = read_model_result(case)
        live = _Live(found.grid, found.layers, 0)
        snapshot = self._store.nearest_snapshot(case.id, revision)
        if snapshot is not None:
            put_layers(live.layers, snapshot.packed)
            live.revision = snapshot.revision
        for edit in self._store.edits(case.id, live.revision, revision):
            put_edit(live.layers, edit.layer, edit.packed)
            live.revision, live.since = edit.revision, live.since + 1
            live.since_bytes += len(edit.packed)
        return live

    def _lock(self, case_id: int) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(case_id, threading.RLock())

    def _known(self, key: tuple[int, int | None]) -> _Live | None:
        with self._guard:
            if key in self._cases:
                self._cases.move_to_end(key)
            return self._cases.get(key)

    def _keep(self, key: tuple[int, int | None], live: _Live) -> None:
        with self._guard:
            self._cases[key] = live
            self._cases.move_to_end(key)
            total = sum(bytes_of(one.layers.values()) for one in self._cases.values())
            while total > self._memory_bytes and len(self._cases) > 1:
                # Who works on one that goes has stored all of it, and drops it when done.
                _, gone = self._cases.popitem(last=False)
                total -= bytes_of(gone.layers.values())


def _check_fresh(case: ReviewCase, live: _Live, base_revision: int) -> None:
    if base_revision != live.revision:
        raise StaleRevision(
            "the case was changed meanwhile",
            revision=live.revision,
            expected=f"revision {live.revision}",
            got=f"revision {base_revision}",
            case=case.new.key,
            remedy="Load the new revision, and go on from there.",
        )


def _advance(live: _Live, edit: EditRecord, runs: Runs) -> None:
    live.revision = edit.revision
    live.since += 1
    live.since_bytes += len(edit.packed)
    known = live.slices.get(edit.layer)
    if known is not None and len(runs):
        size = live.layers[edit.layer][0].size
        first = runs.offsets.astype(np.int64)
        last = (first + runs.lengths - 1) // size
        for k in sorted({k for a, b in zip(first // size, last, strict=True) for k in range(int(a), int(b) + 1)}):
            known[k] = slice_digest(live.layers[edit.layer][k])
