"""What speaks against a result, in sentences, and how much a person should look at it before others.

Each observation has a weight from 0 to 1: how likely it is, roughly, that a reader will have to do something. The
priority is 100 x (1 - product of (1 - weight)): it grows with every observation, and one that is certain makes 100.
A control, one result in twenty, is drawn by its name alone, so that also what looks good is looked at, and always the
same. Controls come after all that has something against it: nothing else weighs less, and what has a warning is not
raised by having been drawn as well. Everything here is computed from numbers that `case_facts` measured; nothing is
read.

    nothing was segmented                                  0.9
    left and right lie on each other's sides               0.8
    a structure is missing that others have                0.5
    or that nobody knows whether others have               0.3
    a doubt that was noted when the result was made        0.5
    folds or variants disagree: Dice a below 0.85          1.5 (0.85 - a), 0.1 to 0.7
    a volume is unlike others: robust |z| above 3.5        0.3 + 0.1 (|z| - 3.5), at most 0.7
    a structure is in pieces, where others are not         0.2
    small parts of it hold 1 % (10 parts) or 5 % (3)       0.2, but not where it is so in nearly all others
    a structure touches the scan's border, others do not   0.15
    something was done otherwise than asked for            0.1
    drawn as a control                                     0.05, without a warning only
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from delineate.geometry import TripleMM
from delineate.labels import LabelSet, label_set

CONTROLS = 0.05
"""The share of results that are drawn."""

IMPLAUSIBLE_Z = 3.5
"""Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993."""

LOW_AGREEMENT = 0.85
FEWEST_OTHERS = 5
"""With fewer to compare with, nothing is said of what others have."""

_LEAST_SPREAD = 0.1  # of the logarithm of volumes: people's organs never differ by less
_MAD_TO_SIGMA = 1.4826
_USUALLY, _SELDOM, _NEARLY_ALL = 0.8, 0.2, 0.9  # shares of others
_PIECES = 0.1  # by how much less than usual the largest part may have
_WHOLE = 0.9
_MANY_PARTS = ((10, 0.01), (3, 0.05))  # so many small parts, with so much of the structure
_LEAST, _CONTROL = 0.1, 0.05  # weights
_WRONG_SIDE_MM = 5.0


@dataclass(frozen=True, slots=True)
class StructureFacts:
    """A structure as it was found. `largest_share`: of its volume in its largest part, 0 to 1; `borders`: sides of the
    scan that it touches, in words; `centre_mm`: LPS, None where it is empty. `agreement`: Dice between variants.
    `small_parts`: those with less than a tenth of the largest part's volume; `small_share`: of the structure's volume
    in all of them, 0 to 1."""

    name: str
    volume_ml: float
    parts: int = 1
    largest_share: float = 1.0
    borders: tuple[str, ...] = ()
    centre_mm: TripleMM | None = None
    agreement: float | None = None
    small_parts: int = 0
    small_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """A result. `key`: the case; `model`: what made it, compared only with the same; `doubts`: sentences noted then;
    `notes`: of what was done otherwise than asked for."""

    key: str
    model: str
    structures: tuple[StructureFacts, ...]
    doubts: tuple[str, ...] = ()
    lesions: frozenset[str] = field(default=frozenset())
    notes: tuple[str, ...] = ()

    def volume_ml(self, name: str) -> float | None:
        return next((one.volume_ml for one in self.structures if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Assessment:
    """`warnings`: what speaks against it; `priority`: 0 to 100; `reasons`: why so high, the weightiest first."""

    warnings: tuple[str, ...]
    priority: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Observation:
    weight: float
    words: str
    is_warning: bool = True


Volumes = Mapping[str, Sequence[float]]
"""Volumes in ml that people's segmentations of other patients have, by structure."""


def assess(results: Sequence[ResultFacts], references: Volumes | None = None) -> tuple[Assessment, ...]:
    """What to say of each result, compared with the others of its model. None: none.

    `references`: of other patients; where there are enough, volumes are compared with these instead: a model's results
    may all be wrong.
    """
    by_model: dict[str, list[ResultFacts]] = {}
    for result in results:
        by_model.setdefault(result.model, []).append(result)
    return tuple(_assessed(result, by_model[result.model], references or {}) for result in results)


def priority_of(weights: Sequence[float]) -> float:
    """0 to 100, see above; 0 for no observation."""
    return round(100 * (1 - math.prod((1 - weight for weight in weights), start=1.0)), 1)


def is_control(key: str) -> bool:
    """Whether a case is drawn: by SHA-256 of its key, the same on every machine."""
    drawn = int.from_bytes(hashlib.sha256(f"control {key}".encode()).digest()[:8], "big")
    return drawn < CONTROLS * 2**64


def robust_z(volume_ml: float, others_ml: Sequence[float]) -> float | None:
    """How many standard deviations a volume lies from others, in logarithms, by median and median absolute deviation.

    None for too few others; empty ones do not count.
    """
    logs = [math.log(other) for other in others_ml if other > 0]
    if volume_ml <= 0 or len(logs) < FEWEST_OTHERS:
        return None
    middle = statistics.median(logs)
    spread = _MAD_TO_SIGMA * statistics.median(abs(one - middle) for one in logs)
    return (math.log(volume_ml) - middle) / max(spread, _LEAST_SPREAD)


def _assessed(result: ResultFacts, of_model: Sequence[ResultFacts], references: Volumes) -> Assessment:
    others = [one for one in of_model if one is not result]
    found = [_Observation(0.5, doubt) for doubt in result.doubts]
    found += [_Observation(_LEAST, note) for note in result.notes]
    found += _of_whole(result)
    for structure in result.structures:
        same = [one for other in others for one in other.structures if one.name == structure.name]
        found += _of_structure(structure, same, references.get(structure.name, ()), result.lesions)
    weights = [one.weight for one in found]
    if is_control(result.key):
        found.append(_Observation(_CONTROL, "drawn as a control: one result in twenty is", is_warning=False))
    weighty = sorted(found, key=lambda one: -one.weight)
    return Assessment(
        tuple(dict.fromkeys(one.words for one in weighty if one.is_warning)),
        priority_of(weights or [one.weight for one in found]),
        tuple(dict.fromkeys(one.words for one in weighty)),
    )


def _of_whole(result: ResultFacts) -> Iterator[_Observation]:
    if not any(structure.volume_ml for structure in result.structures):
        yield _Observation(0.9, "nothing was segmented")
        return
    named = {structure.name: structure for structure in result.structures}
    for left, right in _labels(result).pairs:
        one, other = named[left].centre_mm, named[right].centre_mm
        # The patient's left is where x grows.
        if one is not None and other is not None and other[0] - one[0] > _WRONG_SIDE_MM:
            yield _Observation(0.8, f"{left} lies further right than {right}: the sides may be swapped")


def _labels(result: ResultFacts) -> LabelSet:
    return label_set({n: structure.name for n, structure in enumerate(result.structures, start=1)})


def _of_structure(
    one: StructureFacts, others: Sequence[StructureFacts], references_ml: Sequence[float], lesions: frozenset[str]
) -> Iterator[_Observation]:
    if one.agreement is not None and one.agreement < LOW_AGREEMENT:
        weight = min(0.7, max(_LEAST, 1.5 * (LOW_AGREEMENT - one.agreement)))
        yield _Observation(weight, f"{one.name}: the model's variants agree with Dice {one.agreement:.2f} only")
    if one.name in lesions:  # of any size and number, or none
        return
    if not one.volume_ml:
        yield from _of_absence(one, [other.volume_ml for other in others], references_ml)
        return
    yield from _of_volume(one, others, references_ml)
    yield from _of_pieces(one, others)
    yield from _of_borders(one, others)


def _of_absence(
    one: StructureFacts, others_ml: Sequence[float], references_ml: Sequence[float]
) -> Iterator[_Observation]:
    by_people = len(references_ml) >= FEWEST_OTHERS
    pool = references_ml if by_people else others_ml
    if len(pool) < FEWEST_OTHERS:
        yield _Observation(0.3, f"{one.name} was not found, and there are too few others to say whether they have it")
    elif _share([volume > 0 for volume in pool]) >= _USUALLY:
        yield _Observation(
            0.5, f"{one.name} is missing; {'people find it in others' if by_people else 'others have it'}"
        )


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / len(answers) if answers else 0.0


def _of_volume(
    one: StructureFacts, others: Sequence[StructureFacts], references_ml: Sequence[float]
) -> Iterator[_Observation]:
    by_people = sum(volume > 0 for volume in references_ml) >= FEWEST_OTHERS
    pool = references_ml if by_people else [other.volume_ml for other in others]
    z = robust_z(one.volume_ml, pool)
    if z is None or abs(z) <= IMPLAUSIBLE_Z:
        return
    weight = min(0.7, 0.3 + 0.1 * (abs(z) - IMPLAUSIBLE_Z))
    usual = statistics.median(volume for volume in pool if volume > 0)
    where = "in references" if by_people else "in other results"
    size = "small" if z < 0 else "large"
    yield _Observation(weight, f"{one.name} is unusually {size}: {one.volume_ml:.3g} ml, {usual:.3g} ml {where}")


def _of_pieces(one: StructureFacts, others: Sequence[StructureFacts]) -> Iterator[_Observation]:
    shares = [other.largest_share for other in others if other.volume_ml]
    usual = statistics.median(shares) if len(shares) >= FEWEST_OTHERS else _WHOLE
    # With nothing to compare with, two parts may be what is called by one name: lungs, kidneys.
    pieces = 1 if len(shares) >= FEWEST_OTHERS else 2
    if one.parts > pieces and one.largest_share < usual - _PIECES:
        share = f"{100 * one.largest_share:.0f} % of it in the largest"
        yield _Observation(0.2, f"{one.name} is in {one.parts} pieces, {share}")
    elif _in_many_parts(one) and not _share([_in_many_parts(other) for other in others]) > _NEARLY_ALL:
        share = f"{100 * one.small_share:.2g} % of it in {one.small_parts} small ones"
        yield _Observation(0.2, f"{one.name} is in {one.parts} pieces, {share}")


def _in_many_parts(one: StructureFacts) -> bool:
    return any(one.small_parts >= count and one.small_share >= share for count, share in _MANY_PARTS)


def _of_borders(one: StructureFacts, others: Sequence[StructureFacts]) -> Iterator[_Observation]:
    there = [other for other in others if other.volume_ml]
    if len(there) < FEWEST_OTHERS:
        return
    odd = [side for side in one.borders if _share([side in other.borders for other in there]) <= _SELDOM]
    if odd:
        sides = " and ".join(odd)
        yield _Observation(0.15, f"{one.name} touches the scan's border ({sides}): it may go on outside")
