"""Whether test cases were seen in training: the same patient, file, series or, by what it shows, image."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from delineate.evaluation.descriptors import ImageDescriptor
from delineate.evaluation.likeness import THRESHOLD, Likeness, find_near_duplicates

Pair = tuple[str, str]
Tell = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Nobody is told."""


class Tie(Enum):
    """What two cases have in common, the surest first."""

    FILE = "file"  # byte by byte
    SERIES = "series"
    PATIENT = "patient"
    CASE = "case"  # the same name: the same case, or two datasets that number theirs alike
    IMAGE = "image"


TIES = {
    Tie.FILE: "the same file",
    Tie.SERIES: "the same DICOM series",
    Tie.PATIENT: "the same patient",
    Tie.CASE: "the same name",
    Tie.IMAGE: "nearly the same image",
}
"""What each tie is called."""


@dataclass(frozen=True, slots=True)
class CaseTraces:
    """By what a case is known again. `patient_id` is empty where nobody said who the patient is: the case's name may
    be the patient's then.

    `digests`: of its image files. `series`: UIDs of its DICOM series. `descriptor`: None where its image could not be
    read.
    """

    case_id: str
    patient_id: str
    digests: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    descriptor: ImageDescriptor | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """A case of training and one of the test that belong together; `ties`: why, the surest first.

    `correlation`: of the images where `Tie.IMAGE` is among them, else NaN; `flipped`: axes (of left-right, front-back,
    up-down) in which one is the other's mirror image.
    """

    training: str
    test: str
    ties: tuple[Tie, ...]
    correlation: float = math.nan
    flipped: tuple[int, ...] = ()


def find_leaks(
    training: Sequence[CaseTraces], test: Sequence[CaseTraces], *, threshold: float = THRESHOLD, tell: Tell = _nobody
) -> tuple[Leak, ...]:
    """Pairs of a training and a test case that belong together, in the order of the test's cases.

    A test case may be in several. Empty for no cases. See `find_near_duplicates` for `threshold` and `tell`.
    """
    near = find_near_duplicates(_images(training), others=_images(test), threshold=threshold, tell=tell)
    alike = {(pair.first, pair.second): pair.likeness for pair in near}
    ties = _ties(alike, training, test, (Tie.FILE, Tie.SERIES, Tie.PATIENT, Tie.CASE))
    order = {case.case_id: n for n, case in enumerate(test)}
    pairs = sorted(ties, key=lambda pair: (order[pair[1]], pair[0]))
    return tuple(_leak(pair, ties[pair], alike.get(pair)) for pair in pairs)


def find_repeats(
    cases: Sequence[CaseTraces], *, threshold: float = THRESHOLD, tell: Tell = _nobody
) -> tuple[Leak, ...]:
    """Pairs of cases of one dataset that hold the same file, series or image; patients may well have several cases.

    `training` and `test` of a pair are its first and its second case, in the order of `cases`. Whether both are of one
    patient is among the ties.
    """
    order = {case.case_id: n for n, case in enumerate(cases)}
    near = find_near_duplicates(_images(cases), threshold=threshold, tell=tell)
    alike = {(pair.first, pair.second): pair.likeness for pair in near}
    ties = _ties(alike, cases, cases, (Tie.FILE, Tie.SERIES, Tie.PATIENT))
    pairs = [pair for pair in ties if order[pair[0]] < order[pair[1]] and ties[pair] != {Tie.PATIENT}]
    pairs.sort(key=lambda pair: (order[pair[0]], order[pair[1]]))
    return tuple(_leak(pair, ties[pair], alike.get(pair)) for pair in pairs)


def _images(cases: Sequence[CaseTraces]) -> dict[str, ImageDescriptor]:
    return {case.case_id: case.descriptor for case in cases if case.descriptor is not None}


def _ties(
    alike: Collection[Pair], first: Sequence[CaseTraces], second: Sequence[CaseTraces], kinds: Sequence[Tie]
) -> dict[Pair, set[Tie]]:
    ties: dict[Pair, set[Tie]] = defaultdict(set, {pair: {Tie.IMAGE} for pair in alike})
    for kind in kinds:
        for pair in _shared(first, second, kind):
            ties[pair].add(kind)
    return dict(ties)


def _leak(pair: Pair, ties: Collection[Tie], likeness: Likeness | None) -> Leak:
    found = Leak(*pair, tuple(tie for tie in Tie if tie in ties))
    return found if likeness is None else replace(found, correlation=likeness.correlation, flipped=likeness.flipped)


def _shared(first: Sequence[CaseTraces], second: Sequence[CaseTraces], tie: Tie) -> Iterator[Pair]:
    """Pairs of cases that have a mark of this kind in common."""
    owners: dict[str, list[CaseTraces]] = defaultdict(list)
    for case in first:
        for mark in _marks(case, tie):
            owners[mark].append(case)
    for case in second:
        for owner in itertools.chain.from_iterable(owners.get(mark, ()) for mark in _marks(case, tie)):
            # Two names that nobody says are patients' make no patient.
            if tie is not Tie.PATIENT or owner.patient_id or case.patient_id:
                yield owner.case_id, case.case_id


def _marks(case: CaseTraces, tie: Tie) -> tuple[str, ...]:
    marks = {
        Tie.FILE: case.digests,
        Tie.SERIES: case.series,
        Tie.PATIENT: (case.patient_id or case.case_id,),
        Tie.CASE: (case.case_id,),
    }
    return marks[tie]
