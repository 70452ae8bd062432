"""Which of several ways to segment is to be used, chosen on cases that none of them was trained on; and how good what
is chosen this way is, which must not be asked of the cases that it was chosen on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from delineate.evaluation.cases import CaseScores, nanmean
from delineate.evaluation.comparing import LEVEL, MEAN, Difference, compare_models
from delineate.evaluation.intervals import Interval, bootstrap_means
from delineate.evaluation.permutation import holm
from delineate.evaluation.rivals import Rivals, line_up, value_table
from delineate.evaluation.rule_finding import FoundRule, Parts, dice_after, find_rules
from delineate.metrics.definitions import METRICS

MARGIN = 0.01
"""Mean Dice that a cheaper candidate may lose at most, whatever may be chance: few patients can show little."""

DICE = next(metric for metric in METRICS if metric.name == "dice")

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to segment: the averaged `members`. `work`: what it has to compute, in any unit that all share."""

    name: str
    members: tuple[str, ...]
    work: float

    @property
    def cost(self) -> tuple[int, float]:
        """Fewer networks are simpler; of as many, less work is faster."""
        return len(self.members), self.work


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """What a candidate did on cases it was not trained on. `scores`: in the order of all candidates' cases; `parts`: of
    each structure in each of them, None where nothing is known about the structure."""

    candidate: Candidate
    scores: tuple[CaseScores, ...]
    parts: Mapping[str, tuple[Parts | None, ...]]

    def only(self, which: Sequence[int]) -> OutOfFold:
        """Some of the cases, by their places."""
        parts = {name: tuple(of_cases[n] for n in which) for name, of_cases in self.parts.items()}
        return OutOfFold(self.candidate, tuple(self.scores[n] for n in which), parts)


@dataclass(frozen=True, slots=True)
class Choice:
    """The candidate that is used, and why.

    `best`: with the highest mean Dice; `against`: the best one against each other in the mean over structures, in the
    others' order, p-values corrected by Holm over them. `equals`: what is as good as the best as far as can be told.
    """

    chosen: str
    best: str
    against: tuple[Difference, ...]
    equals: tuple[str, ...]
    rules: tuple[FoundRule, ...]
    words: str


def choose(results: Sequence[OutOfFold], generator: np.random.Generator) -> Choice:
    """The best candidate by mean Dice; or a cheaper one that is hardly worse (at most `MARGIN`), if that may
    be chance (a permutation test by patient, p 0.05 or more). Rules are then found for the one that is chosen.

    Raises `ValueError` for no candidates.
    """
    if not results:
        raise ValueError("no candidates to choose from")
    by_name = {result.candidate.name: result for result in results}
    if len(results) == 1:
        chosen = results[0].candidate.name
        return Choice(chosen, chosen, (), (), _rules(results[0], generator), f"{chosen} is the only candidate.")
    rivals = line_up({name: result.scores for name, result in by_name.items()})
    best = _best(rivals)
    against = _against(best, rivals, generator)
    equals = tuple(one.second for one in against if one.difference <= MARGIN and not one.p_holm < LEVEL)
    chosen = min((best, *equals), key=lambda name: by_name[name].candidate.cost)
    words = _words(chosen, best, {one.second: one for one in against})
    return Choice(chosen, best, against, equals, _rules(by_name[chosen], generator), words)


def _best(rivals: Rivals) -> str:
    table = value_table(rivals, DICE)
    means = [nanmean([nanmean(of_cases[:, n].tolist()) for n in range(table.shape[2])]) for of_cases in table]
    known = [-math.inf if math.isnan(mean) else mean for mean in means]
    return list(rivals.models)[known.index(max(known))]


def _against(best: str, rivals: Rivals, generator: np.random.Generator) -> tuple[Difference, ...]:
    found = []
    for other in rivals.models:
        if other != best:
            differences = compare_models(rivals.only(best, other), generator, metrics=(DICE,))
            found += [one for one in differences if one.structure == MEAN]
    corrected = holm([one.p for one in found])
    return tuple(replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True))


def _rules(result: OutOfFold, generator: np.random.Generator) -> tuple[FoundRule, ...]:
    return find_rules(result.parts, [case.patient_id for case in result.scores], generator)


def _words(chosen: str, best: str, against: Mapping[str, Difference]) -> str:
    if chosen == best:
        runner_up = min(against.values(), key=lambda one: one.difference)
        shown = "beyond chance" if runner_up.p_holm < LEVEL else "which may be chance"
        cheaper = "" if runner_up.p_holm < LEVEL else "; nothing that computes less is as good"
        return (
            f"{best} has the highest mean Dice, {runner_up.means[0]:.3f}: {runner_up.difference:.3f} "
            f"({_interval(runner_up.interval)}) above {runner_up.second}, {shown} (p {runner_up.p_holm:.2g}){cheaper}."
        )
    lost = against[chosen]
    return (
        f"{best} has the highest mean Dice, {lost.means[0]:.3f}, and {chosen} {lost.means[1]:.3f}: a difference of "
        f"{lost.difference:.3f} ({_interval(lost.interval)}) that may be chance (p {lost.p_holm:.2g}). "
        f"{chosen} computes less, and was chosen."
    )


def _interval(interval: Interval) -> str:
    low, high = interval
    return "no interval" if math.isnan(low) else f"95 % interval {low:.3f} to {high:.3f}"


@dataclass(frozen=True, slots=True)
class NestedEstimate:
    """How good what `choose` chooses is: chosen, with its rules, on all folds but one and scored on that one, in turn.

    `dice`: mean over structures of the means over cases, with its 95 % interval; `structures`: these means. `chosen`:
    in each fold.
    """

    dice: float
    interval: Interval
    structures: Mapping[str, float]
    chosen: tuple[str, ...]


def estimate(
    results: Sequence[OutOfFold], folds: Sequence[Collection[str]], generator: np.random.Generator
) -> NestedEstimate:
    """`folds`: ids of the cases of each. Raises `ValueError` for fewer than two folds, or cases in none or several."""
    ids = [case.case_id for case in results[0].scores]
    places = [[n for n, one in enumerate(ids) if one in fold] for fold in folds]
    if len(folds) < 2 or sorted(itertools.chain(*places)) != list(range(len(ids))):
        raise ValueError("nested estimates need two or more folds, and each case in one of them")
    names = tuple(results[0].parts)
    table, chosen = np.full((len(ids), len(names)), math.nan), []
    for inside in places:
        others = sorted(set(range(len(ids))).difference(inside))
        choice = choose([result.only(others) for result in results], generator)
        chosen.append(choice.chosen)
        used = next(result for result in results if result.candidate.name == choice.chosen)
        table[inside] = _dice(used.only(inside), choice.rules)
    patients = [case.patient_id for case in results[0].scores]
    limits = bootstrap_means(table[:, :, None], patients, generator).of_means[0]
    structures = {name: nanmean(table[:, n].tolist()) for n, name in enumerate(names)}
    interval = (float(limits[0]), float(limits[1]))
    return NestedEstimate(nanmean(list(structures.values())), interval, structures, tuple(chosen))


def _dice(result: OutOfFold, rules: Sequence[FoundRule]) -> Table:
    """(cases, structures) after the rules; perfect where a rule took away all of what nobody drew."""
    by_name = {found.rule.label: found.rule for found in rules}
    rows = []
    for name, of_cases in result.parts.items():
        before = np.array([math.nan if one is None else dice_after(one) for one in of_cases])
        after = np.array([math.nan if one is None else dice_after(one, by_name.get(name)) for one in of_cases])
        rows.append(np.where(np.isnan(after) & ~np.isnan(before), 1.0, after))
    return np.array(rows).T
