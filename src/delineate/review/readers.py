"""Readers compared: what they decided, how long it took, how far they went from the model and from each other.

`dashboard` counts facts about cases; `reading_facts` has them from the store. JSON has camelCase keys.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from delineate.evaluation.intervals import wilson_interval
from delineate.review.records import State

ACCEPTED = (State.APPROVED, State.APPROVED_WITH_EDITS)
DECIDED = (*ACCEPTED, State.REJECTED)


@dataclass(frozen=True, slots=True)
class StructureReading:
    """What became of one structure. `edited`: whether it differs from the model's own; `dice`: of the model's own
    against what was accepted, `between`: of the first reader's against the second's; None where there is nothing to
    compare: not accepted, one reader, or empty in both. `reasons`: of readers who rejected it."""

    name: str
    edited: bool = False
    dice: float | None = None
    between: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaseReading:
    """What became of one case that was decided. `reader`: who decided first; `second`: who confirmed, "" for nobody.

    `seconds`: that people spent on it; `edits`: changes that stand, without those taken back; `escalated`: whether it
    ever was. `reasons`: of readers who rejected the whole.
    """

    key: str
    state: State
    model: str = ""
    site: str = ""
    reader: str = ""
    second: str = ""
    seconds: float = 0.0
    edits: int = 0
    escalated: bool = False
    structures: tuple[StructureReading, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def dice(self) -> float | None:
        """The mean over structures that have one."""
        return _mean(one.dice for one in self.structures)

    @property
    def between(self) -> float | None:
        """The mean over structures that have one."""
        return _mean(one.between for one in self.structures)


class _Json(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the answer of GET /api/dashboard."""


class Share(_Json, frozen=True, kw_only=True):
    """`count` out of `of`, with Wilson's 95 % interval; `value`, `lower`, `upper` are None out of none."""

    count: int
    of: int
    value: float | None
    lower: float | None
    upper: float | None


class Spread(_Json, frozen=True, kw_only=True):
    """Of `count` values the median and the quartiles; None of none."""

    count: int
    median: float | None
    lower: float | None
    upper: float | None


class Reason(_Json, frozen=True, kw_only=True):
    """Why so many times something was rejected."""

    reason: str
    count: int


class Group(_Json, frozen=True, kw_only=True):
    """Cases that were decided and have something in common. `name`: the model, site, structure or reader.

    `unedited`: those accepted as the model made them, out of all that were decided, rejected ones included.
    `seconds`: spent on a case, without cases of which no time is known. `dice`: the model's own result against what was
    accepted; `between`: the first reader's against the second's; both 0..1 and, but for structures, the mean over a
    case's structures. `edits`: changes a case. For structures `cases` counts those in which it was accepted or
    rejected, and seconds and edits are left empty: nobody knows for which structure they were spent.
    """

    name: str
    cases: int
    unedited: Share
    rejected: int
    escalated: int
    seconds: Spread
    edits: Spread
    dice: Spread
    between: Spread
    reasons: tuple[Reason, ...] = ()


class ReaderPair(_Json, frozen=True, kw_only=True):
    """Two readers who both decided on cases, the one after the other."""

    first: str
    second: str
    cases: int
    dice: Spread


class Dashboard(_Json, frozen=True, kw_only=True):
    """All there is to see. Groups are in order of their names. `pending`: decided cases whose voxels have not been
    compared yet; they are in all numbers but `dice`, `between` and those of structures."""

    total: Group
    models: tuple[Group, ...]
    sites: tuple[Group, ...]
    structures: tuple[Group, ...]
    readers: tuple[Group, ...]
    pairs: tuple[ReaderPair, ...]
    pending: int = 0


def dashboard(readings: Sequence[CaseReading], *, pending: int = 0) -> Dashboard:
    """Count and order what is known of decided cases; those in another state are left out. Empty groups of none."""
    decided = [reading for reading in readings if reading.state in DECIDED]
    return Dashboard(
        total=_group("", decided),
        models=_grouped(decided, lambda reading: reading.model),
        sites=_grouped(decided, lambda reading: reading.site),
        structures=_of_structures(decided),
        readers=_grouped(decided, lambda reading: reading.reader),
        pairs=_pairs(decided),
        pending=pending,
    )


def _grouped(readings: Sequence[CaseReading], name_of: Callable[[CaseReading], str]) -> tuple[Group, ...]:
    names = sorted({name_of(reading) for reading in readings})
    return tuple(_group(name, [one for one in readings if name_of(one) == name]) for name in names)


def _group(name: str, readings: Sequence[CaseReading]) -> Group:
    return Group(
        name=name,
        cases=len(readings),
        unedited=_share(sum(one.state is State.APPROVED for one in readings), len(readings)),
        rejected=sum(one.state is State.REJECTED for one in readings),
        escalated=sum(one.escalated for one in readings),
        seconds=_spread(one.seconds or None for one in readings),
        edits=_spread(one.edits for one in readings),
        dice=_spread(one.dice for one in readings),
        between=_spread(one.between for one in readings),
        reasons=_counted(reason for one in readings for reason in _all_reasons(one)),
    )


def _all_reasons(reading: CaseReading) -> Iterator[str]:
    yield from reading.reasons
    for structure in reading.structures:
        yield from structure.reasons


def _of_structures(readings: Sequence[CaseReading]) -> tuple[Group, ...]:
    found: dict[str, list[tuple[CaseReading, StructureReading]]] = {}
    for reading in readings:
        for one in reading.structures:
            found.setdefault(one.name, []).append((reading, one))
    return tuple(_structure_group(name, found[name]) for name in sorted(found))


def _structure_group(name: str, pairs: Sequence[tuple[CaseReading, StructureReading]]) -> Group:
    rejected = [one for case, one in pairs if case.state is State.REJECTED]
    unedited = [one for case, one in pairs if case.state in ACCEPTED and not one.edited]
    return Group(
        name=name,
        cases=len(pairs),
        unedited=_share(len(unedited), len(pairs)),
        rejected=len(rejected),
        escalated=sum(case.escalated for case, _ in pairs),
        seconds=_spread(()),
        edits=_spread(()),
        dice=_spread(one.dice for _, one in pairs),
        between=_spread(one.between for _, one in pairs),
        reasons=_counted(reason for _, one in pairs for reason in one.reasons),
    )


def _pairs(readings: Sequence[CaseReading]) -> tuple[ReaderPair, ...]:
    found: dict[tuple[str, str], list[CaseReading]] = {}
    for reading in readings:
        if reading.second:
            found.setdefault((reading.reader, reading.second), []).append(reading)
    return tuple(
        ReaderPair(first=first, second=second, cases=len(both), dice=_spread(one.between for one in both))
        for (first, second), both in sorted(found.items())
    )


def _counted(reasons: Iterable[str]) -> tuple[Reason, ...]:
    """The most frequent first. Reasons are free text: those that differ in case and blanks alone are one."""
    words: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in reasons:
        plain = " ".join(reason.split())
        words.setdefault(plain.casefold(), plain)
        counts[plain.casefold()] += 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Reason(reason=words[plain], count=count) for plain, count in ordered)


def _share(count: int, of: int) -> Share:
    if not of:
        return Share(count=0, of=0, value=None, lower=None, upper=None)
    lower, upper = wilson_interval(count, of)
    return Share(count=count, of=of, value=count / of, lower=lower, upper=upper)


def _spread(values: Iterable[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    if not known:
        return Spread(count=0, median=None, lower=None, upper=None)
    lower, median, upper = (float(limit) for limit in np.quantile(known, (0.25, 0.5, 0.75)))
    return Spread(count=len(known), median=median, lower=lower, upper=upper)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
