"""Facts about decided cases from the store, and how far labels are apart, kept on disk once they were compared."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from delineate.errors import DelineateError
from delineate.files import write_bytes
from delineate.metrics import confusion_counts
from delineate.review.live import LiveLabels
from delineate.review.readers import DECIDED, CaseReading, Dashboard, StructureReading, dashboard
from delineate.review.records import Decision, Person, ReviewCase, State, Verdict
from delineate.review.remembering import Remembered, scope_of
from delineate.review.store import Store
from delineate.volume import Segmentation
from delineate.workflow.progress import Watch, nobody

RULE_VERSION = 1


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Two segmentations of one case, by structure: Dice, None where both are empty, and which differ at all."""

    dice: dict[str, float | None]
    edited: list[str]


def compare_labels(first: Segmentation, second: Segmentation) -> Compared:
    """How alike two segmentations on one grid are; a structure that one does not name counts as empty there."""
    names = list(dict.fromkeys((*first.labels.names, *second.labels.names)))
    counts = _counts(first, second, names)
    dice = {name: 2 * both / (one + other) if one + other else None for name, (one, other, both) in counts.items()}
    edited = [name for name, (one, other, both) in counts.items() if one + other > 2 * both]
    return Compared(dice=dice, edited=edited)


def _counts(first: Segmentation, second: Segmentation, names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Voxels of each structure in the first, in the second, and in both."""
    if first.labels.overlaps or second.labels.overlaps or first.labels.values != second.labels.values:
        empty = np.zeros(first.grid.shape, bool)
        found = {}
        for name in names:
            one, other = (part.mask(name) if name in part.labels.names else empty for part in (first, second))
            found[name] = tuple(int(np.count_nonzero(mask)) for mask in (one, other, one & other))
        return {name: (counts[0], counts[1], counts[2]) for name, counts in found.items()}
    table = confusion_counts(first.array, second.array, first.labels.values)
    return {
        label.name: (int(table[n].sum()), int(table[:, n].sum()), int(table[n, n]))
        for n, label in enumerate(first.labels, start=1)
    }


class Dashboards:
    """The dashboard of a store. Safe to use from several threads.

    `cache`: a folder for what was compared; it may be removed at any time. Comparing voxels takes about a second a
    case, so a call compares for `budget_seconds` at most; cases that wait for it are counted as pending, and the next
    call goes on with them.
    """

    def __init__(self, store: Store, live: LiveLabels, cache: Path, *, budget_seconds: float = 2.0) -> None:
        self._store, self._live = store, live
        self._folder = cache / "readings"
        self._budget_seconds = budget_seconds
        self._compared: dict[str, Compared] = {}
        self._one_at_a_time = threading.Lock()
        self._boards: Remembered[Dashboard] = Remembered()

    def read(self, person: Person | None, *, watch: Watch = nobody) -> Dashboard:
        """What the person (None: anybody) may see. A case that cannot be read stays pending.

        As it is now, but of thousands of cases as it was up to a minute ago, see `Remembered`.
        """
        return self._boards.get(
            scope_of(person), lambda: self._made(person, watch), whole=lambda board: not board.pending
        )

    def _made(self, person: Person | None, watch: Watch) -> Dashboard:
        cases = [case for case in self._store.cases(person) if case.state in DECIDED]
        decisions = self._store.decisions_of([case.id for case in cases])
        edits = self._store.standing_edits_of([case.id for case in cases if case.revision])
        until = time.monotonic() + self._budget_seconds
        readings, pending = [], 0
        for done, case in enumerate(cases, start=1):
            base = reading_of(case, decisions.get(case.id, ()), edits=edits.get(case.id, 0))
            with_voxels = self._with_voxels(base, case, decisions.get(case.id, ()), until=until)
            pending += with_voxels is None
            readings.append(with_voxels or base)
            watch("Comparing", done, len(cases), case.new.key)
        return dashboard(readings, pending=pending)

    def _with_voxels(
        self, base: CaseReading, case: ReviewCase, decisions: Sequence[Decision], *, until: float
    ) -> CaseReading | None:
        """The reading with what voxels say; None if that is not known, and there is no time to find out."""
        names = {part.value: part.name for part in case.new.structures}
        reasons = _reasons_by_structure(decisions, names)
        if case.state is State.REJECTED:
            parts = tuple(StructureReading(name, reasons=reasons.get(name, ())) for name in names.values())
            return replace(base, structures=parts)
        first, second = approvals(decisions)
        own: Compared | None = _unchanged(case)
        if base.edits:
            own = self._between(case, 0, case.revision, until=until)
        between: Compared | None = None
        if first is not None and second is not None:
            same = first.revision == second.revision
            between = _unchanged(case) if same else self._between(case, first.revision, second.revision, until=until)
            if between is None:
                return None
        if own is None:
            return None
        return replace(base, structures=tuple(_structures(tuple(names.values()), own, between, reasons)))

    def _between(self, case: ReviewCase, first: int, second: int, *, until: float) -> Compared | None:
        key = _key(case, first, second)
        if key not in self._compared:
            known = self._kept(key) or self._compare(case, first, second, key, until=until)
            if known is None:
                return None
            self._compared[key] = known
        return self._compared[key]

    def _kept(self, key: str) -> Compared | None:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Compared)
        return None

    def _compare(self, case: ReviewCase, first: int, second: int, key: str, *, until: float) -> Compared | None:
        with self._one_at_a_time:  # two cases at a time would take the memory of four
            if time.monotonic() > until:
                return None
            try:
                found = compare_labels(self._live.segmentation(case, first), self._live.segmentation(case, second))
            except DelineateError:
                return None
        write_bytes(self._folder / f"{key}.json", msgspec.json.encode(found))
        return found


def reading_of(case: ReviewCase, decisions: Sequence[Decision], *, edits: int) -> CaseReading:
    """What the store says of a decided case, without what takes voxels. `edits`: that stand."""
    first, second = approvals(decisions)
    whole = [one for one in decisions if one.structure is None]
    decided = first or (whole[-1] if whole else None)
    return CaseReading(
        key=case.new.key,
        state=case.state,
        model=case.new.model,
        site=case.new.site,
        reader=decided.person if decided is not None else case.reader or "",
        second=second.person if second is not None else "",
        seconds=case.seconds,
        edits=edits,
        escalated=any(one.verdict is Verdict.ESCALATE for one in decisions),
        reasons=tuple(one.reason for one in whole if one.verdict is Verdict.REJECT),
    )


def approvals(decisions: Sequence[Decision]) -> tuple[Decision | None, Decision | None]:
    """The last approval of the whole by a first reader, and by a second one after it; None where there is none, or
    something else was decided after it."""
    first: Decision | None = None
    second: Decision | None = None
    for one in sorted((one for one in decisions if one.structure is None), key=lambda one: one.made):
        if one.verdict is not Verdict.APPROVE:
            first = second = None
        elif one.second:
            second = one
        else:
            first, second = one, None
    return first, second


def _reasons_by_structure(decisions: Sequence[Decision], names: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in decisions:
        if one.structure is not None and one.structure in names and one.verdict is Verdict.REJECT:
            name = names[one.structure]
            found[name] = (*found.get(name, ()), one.reason)
    return found


def _unchanged(case: ReviewCase) -> Compared:
    """Of labels with themselves: what has no voxels says nothing."""
    return Compared(dice={part.name: 1.0 if part.volume_ml > 0 else None for part in case.new.structures}, edited=[])


def _structures(
    names: Sequence[str], own: Compared, between: Compared | None, reasons: Mapping[str, tuple[str, ...]]
) -> list[StructureReading]:
    return [
        StructureReading(
            name,
            edited=name in own.edited,
            dice=own.dice.get(name),
            between=None if between is None else between.dice.get(name),
            reasons=reasons.get(name, ()),
        )
        for name in names
    ]


def _key(case: ReviewCase, first: int, second: int) -> str:
    parts = (RULE_VERSION, case.id, case.new.key, case.new.digest, first, second)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
