"""How far findings move over several results for one scan: a model's folds, mirrored variants, readers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from delineate.findings import Finding, Spread
from delineate.geometry import index_to_world
from delineate.measurement.contacts import meet, placed
from delineate.measurement.lesions import Lesion

Key = tuple[str, str, str, str, int | None, str]


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured on one segmentation of a scan."""

    findings: tuple[Finding, ...]
    lesions: tuple[Lesion, ...] = ()


@dataclass(frozen=True, slots=True)
class SpreadReport:
    """The main result's findings in their order, and what some results have and others have not."""

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def with_spread(main: Result, others: Sequence[Result], *, over: str = "") -> SpreadReport:
    """The findings of `main`, each with the spread of its value over all results, `main` among them.

    Findings belong together that are of one quantity, structure, second structure and lesion; lesions, whatever their
    numbers, if they overlap: one with one, so that the voxels in common are as many as can be. The standard deviation
    is the sample's (divided by N - 1). A finding that only `main` has gets no spread. Results must be on one grid.
    `over`: what all of them are, in words; without, they are counted.
    """
    partners = [_partners(main.lesions, other.lesions) for other in others]
    tables = [
        {_key(finding, numbers): finding.value for finding in other.findings}
        for other, numbers in zip(others, partners, strict=True)
    ]
    findings = tuple(_spread(finding, tables, over) for finding in main.findings)
    return SpreadReport(findings, (*_not_everywhere(main, partners), *_not_here(main, others, partners)))


Partners = Mapping[tuple[str, int], int]
"""Of another result's lesions, by structure and number, the number of the lesion of `main` that each is."""


def _partners(main: Sequence[Lesion], other: Sequence[Lesion]) -> Partners:
    from scipy.optimize import linear_sum_assignment

    found: dict[tuple[str, int], int] = {}
    for name in dict.fromkeys(lesion.label.name for lesion in main):
        here = [lesion for lesion in main if lesion.label.name == name]
        there = [lesion for lesion in other if lesion.label.name == name]
        shared = _shared(here, there)
        for i, j in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            if shared[i, j]:
                found[name, there[j].number] = here[i].number
    return found


def _shared(here: Sequence[Lesion], there: Sequence[Lesion]) -> npt.NDArray[np.int64]:
    """(here, there) voxels in common."""
    table = np.zeros((len(here), len(there)), dtype=np.int64)
    for i, one in enumerate(here):
        for j, other in enumerate(there):
            if meet(one.part.box, other.part.box):
                both = placed(one.part, other.part.box) & other.part.mask
                table[i, j] = np.count_nonzero(both)
    return table


def _key(finding: Finding, numbers: Partners | None = None) -> Key:
    """What a finding is about; `numbers` say what its lesion is called in the main result."""
    name, component = finding.label.name, finding.component
    if numbers is not None and component is not None:
        component = numbers.get((name, component), -component)  # no lesion of the main result
    derivation = "" if finding.derivation is None else finding.derivation.value
    other = "" if finding.other is None else finding.other.name
    return name, finding.quantity.value, finding.quantity.scheme, derivation, component, other


def _spread(finding: Finding, tables: Sequence[Mapping[Key, float]], all_of: str) -> Finding:
    key = _key(finding)
    values = [finding.value, *(table[key] for table in tables if key in table)]
    if len(values) < 2:
        return finding
    count = len(tables) + 1
    over = all_of or f"{count} results" if len(values) == count else f"{len(values)} of {count} results"
    middle = sum(values) / len(values)
    deviation = math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1))
    return replace(finding, spread=Spread(min(values), max(values), deviation, over))


def _not_everywhere(main: Result, partners: Sequence[Partners]) -> Iterator[str]:
    for lesion in main.lesions:
        also = sum(
            (lesion.label.name, lesion.number) in {(name, here) for (name, _), here in found.items()}
            for found in partners
        )
        if also < len(partners):
            yield f"{lesion.name}: a lesion of its own in {also + 1} of {len(partners) + 1} results only"


def _not_here(main: Result, others: Sequence[Result], partners: Sequence[Partners]) -> Iterator[str]:
    strange: dict[str, list[list[Lesion]]] = {}
    for other, found in zip(others, partners, strict=True):
        new: dict[str, list[Lesion]] = {}
        for lesion in other.lesions:
            if (lesion.label.name, lesion.number) not in found and not _shared([lesion], main.lesions).any():
                new.setdefault(lesion.label.name, []).append(lesion)
        for name, lesions in new.items():
            strange.setdefault(name, []).append(lesions)
    for name, results in strange.items():
        largest = max((lesion for lesions in results for lesion in lesions), key=lambda lesion: lesion.volume_ml)
        where = ", ".join(f"{mm:.0f}" for mm in _middle_mm(largest))
        yield (
            f"{name}: {len(results)} of {len(others)} other results have lesions where this one has none, "
            f"the largest of {largest.volume_ml:.2g} ml at {where} mm (LPS)"
        )


def _middle_mm(lesion: Lesion) -> npt.NDArray[np.float64]:
    return index_to_world(lesion.part.grid, np.argwhere(lesion.part.mask).mean(axis=0))
