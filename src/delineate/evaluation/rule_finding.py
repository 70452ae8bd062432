"""Postprocessing rules found on predictions of cases that the model was not trained on, kept where they help.

What a rule does to a Dice follows from the sizes of a mask's components and from how much of each is right; so rules
are tried without looking at an image again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cc3d
import msgspec
import numpy as np
import numpy.typing as npt

from delineate.evaluation.permutation import flip_tests, holm
from delineate.postprocessing import Rule, enclosed

LEVEL = 0.05
SHARES = (0.01, 0.1)
"""Components are small below these shares of the structure's median volume in the references."""

_SAME = 1e-12

Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]
Component = tuple[int, int]
"""Voxels, and how many of them are right."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a predicted mask decides on its Dice under any rule that is tried.

    `reference`: voxels of the reference. `sizes`: (voxels of each component, how many components of that size, right
    voxels of all these), the smallest first. `largest`: the largest component. `holes`, `largest_holes`: what filling
    the mask, or its largest component alone, adds.
    """

    reference: int
    voxel_ml: float
    sizes: tuple[tuple[int, int, int], ...]
    largest: Component
    holes: Component
    largest_holes: Component


def take_apart(reference: Mask, predicted: Mask, free: Mask, *, voxel_ml: float) -> Parts:
    """The parts of one predicted (I, J, K) mask. `free`: voxels that may be filled, i.e. those of no other structure.

    An empty mask has no parts.
    """
    from scipy.ndimage import find_objects

    voxels_of_reference = int(reference.sum())
    box = next(iter(find_objects(predicted.astype(np.uint8))), None)
    if box is None:
        nothing = (0, 0)
        return Parts(
            reference=voxels_of_reference,
            voxel_ml=voxel_ml,
            sizes=(),
            largest=nothing,
            holes=nothing,
            largest_holes=nothing,
        )
    reference, predicted, free = reference[box], predicted[box], free[box]
    numbered, count = cc3d.connected_components(predicted.astype(np.uint8), connectivity=26, return_N=True)
    voxels = np.bincount(numbered.ravel(), minlength=count + 1)
    right = np.bincount(numbered[reference], minlength=count + 1)
    voxels[0] = right[0] = 0
    number = int(voxels.argmax())
    sizes, which, counts = np.unique(voxels[1:], return_inverse=True, return_counts=True)
    hits = np.bincount(which.ravel(), right[1:], minlength=len(sizes)).astype(int)

    def added(mask: Mask) -> Component:
        holes = enclosed(mask) & free & ~predicted
        return int(holes.sum()), int((holes & reference).sum())

    return Parts(
        reference=voxels_of_reference,
        voxel_ml=voxel_ml,
        sizes=tuple(zip(sizes.tolist(), counts.tolist(), hits.tolist(), strict=True)),
        largest=(int(voxels[number]), int(right[number])),
        holes=added(predicted),
        largest_holes=added(numbered == number),
    )


def dice_after(parts: Parts, rule: Rule | None = None) -> float:
    """The Dice of a mask after a rule; NaN where neither mask has voxels then.

    Raises `ValueError` for a rule that drops small components and fills holes: what is enclosed by what is left is not
    known.
    """
    predicted, right = _left(parts, rule)
    total = predicted + parts.reference
    return 2 * right / total if total else math.nan


def _left(parts: Parts, rule: Rule | None) -> Component:
    if rule is None:
        rule = Rule(label="")
    smallest = rule.smallest_ml * (1 - 1e-9)
    if rule.largest_only:
        kept = parts.largest if parts.largest[0] * parts.voxel_ml >= smallest else (0, 0)
        holes = parts.largest_holes
    else:
        large = [one for one in parts.sizes if one[0] * parts.voxel_ml >= smallest]
        kept = sum(size * count for size, count, _ in large), sum(hits for _, _, hits in large)
        holes = parts.holes
    if not rule.fill_holes or not kept[0]:
        return kept
    if rule.smallest_ml:
        raise ValueError("holes of what is left after dropping small components are not known")
    return kept[0] + holes[0], kept[1] + holes[1]


@dataclass(frozen=True, slots=True)
class FoundRule:
    """A rule that raises the mean Dice over cases from `before` to `after`; `p`: of the test by patient, after Holm's
    correction for all rules that were tried on all structures. `changed`: cases whose Dice is another."""

    rule: Rule
    before: float
    after: float
    p: float
    changed: int


def rules_to_try(structure: str, parts: Sequence[Parts]) -> tuple[Rule, ...]:
    """The simplest first. Which components are small follows from the references of these cases."""
    volumes = [one.reference * one.voxel_ml for one in parts if one.reference]
    median_ml = float(np.median(volumes)) if volumes else 0.0
    small = [float(f"{share * median_ml:.2g}") for share in SHARES]
    return (
        Rule(label=structure, largest_only=True),
        *(Rule(label=structure, smallest_ml=ml) for ml in small if ml > 0),
        Rule(label=structure, fill_holes=True),
        Rule(label=structure, largest_only=True, fill_holes=True),
    )


def find_rules(
    parts: Mapping[str, Sequence[Parts | None]], patients: Sequence[str], generator: np.random.Generator
) -> tuple[FoundRule, ...]:
    """For each structure the rule that raises its mean Dice most, if that is beyond chance (a permutation test of the
    cases' differences, all cases of a patient together, p below 0.05 after Holm's correction for all that was tried).

    `parts`: of each structure in each case, None where nothing is known about it. No cases give no rules.
    """
    tried: list[tuple[Rule, Vector, Vector]] = []
    for structure, of_cases in parts.items():
        known = [one for one in of_cases if one is not None]
        for rule in rules_to_try(structure, known):
            before, after = _both(of_cases, rule)
            if (np.abs(np.nan_to_num(after - before)) > _SAME).any():
                tried.append((rule, before, after))
    corrected = holm([_p_value(after - before, patients, generator) for _, before, after in tried])
    best: dict[str, FoundRule] = {}
    for (rule, before, after), p in zip(tried, corrected, strict=True):
        found = FoundRule(rule, *_means(before, after), p, int((np.abs(np.nan_to_num(after - before)) > _SAME).sum()))
        standing = best.get(rule.label)
        gain = found.after - found.before
        if p < LEVEL and gain > 0 and (standing is None or gain > standing.after - standing.before + _SAME):
            best[rule.label] = found
    return tuple(best.values())


def _both(parts: Sequence[Parts | None], rule: Rule) -> tuple[Vector, Vector]:
    """Dice of each case before and after; where a rule takes away all of what nobody drew, that is perfect."""
    before = np.array([math.nan if one is None else dice_after(one) for one in parts])
    after = np.array([math.nan if one is None else dice_after(one, rule) for one in parts])
    return before, np.where(np.isnan(after) & ~np.isnan(before), 1.0, after)


def _means(before: Vector, after: Vector) -> tuple[float, float]:
    known = ~np.isnan(before)
    return float(before[known].mean()), float(after[known].mean())


def _p_value(differences: Vector, patients: Sequence[str], generator: np.random.Generator) -> float:
    known = ~np.isnan(differences)
    names, which = np.unique(np.asarray(patients)[known], return_inverse=True)
    sums = np.bincount(which, np.round(differences[known], 14), minlength=len(names)).astype(np.float64)
    return flip_tests(sums[None], generator)[0].p
