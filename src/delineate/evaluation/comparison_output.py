"""Comparisons, rankings and groups as JSON and as tables, for other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.evaluation.cases import or_null
from delineate.evaluation.comparing import FEW_PATIENTS, LEVEL, Difference
from delineate.evaluation.intervals import CONFIDENCE
from delineate.evaluation.permutation import RESAMPLES
from delineate.evaluation.ranking import Ranking
from delineate.evaluation.rivals import Rivals, value_table
from delineate.evaluation.subgroups import SMALL, GroupScore
from delineate.metrics.definitions import Metric

DEFINITIONS = {
    "structure": "null: the mean over structures",
    "counted": "missed and spurious structures count as a figure's worst: 0, or the diagonal of the case's scan in mm; "
    "who rightly finds nothing where another model does counts as perfect (1, or 0 mm); cases in which neither "
    "reference nor any of the models that are compared has the structure are left out",
    "lacking": "cases that other models have a prediction of and this one has not: they count as failures of it",
    "difference": "first minus second, of the means over cases",
    "interval": "percentile bootstrap of the difference, drawing patients with all their cases",
    "effect": "Cohen's d_z: mean of the patients' mean differences over their standard deviation",
    "wins": "cases in which the first model is better; losses: in which the second is",
    "p": f"two-sided permutation test: signs of patients' differences turned round; all patterns (exact), or "
    f"{RESAMPLES} random ones",
    "p_holm": "corrected by Holm, for each figure apart, over all structures and pairs of models; the mean over "
    "structures over the pairs",
    "smallest_p": "the lowest p-value that so many patients could give",
    "few_patients": f"fewer than {FEW_PATIENTS} patients: p cannot fall below {LEVEL}",
    "ranking": "by the means, or by the mean of the ranks in every case; shares and intervals over bootstrap draws of "
    "patients (Wiesenfarth et al. 2021)",
    "stability": "mean of Kendall's tau between the ranking and those of the draws",
    "confidence": CONFIDENCE,
}

GROUP_DEFINITIONS = {
    "structure": "null: of each case's mean over its structures",
    "gap": "the group's mean minus that of all other cases, its interval from drawing patients with all their cases",
    "p": f"two-sided permutation test: patients dealt out to the group and the rest; all ways, or {RESAMPLES} random "
    "ones",
    "p_holm": "corrected by Holm, for each figure and way of grouping apart, over groups and structures; the cases' "
    "means over groups",
    "small": f"fewer than {SMALL} patients: what the group shows may be chance",
    "size": "by the volume of the reference's structure: each structure's own thirds unless bands are given",
}


def difference_json(one: Difference) -> dict[str, object]:
    """NaN is null."""
    return {
        "first": one.first,
        "second": one.second,
        "structure": one.structure or None,
        "metric": one.metric.name,
        "cases": one.cases,
        "patients": one.patients,
        "few_patients": one.patients < FEW_PATIENTS,
        "means": [or_null(mean) for mean in one.means],
        "difference": or_null(one.difference),
        "interval": [or_null(limit) for limit in one.interval],
        "better": one.better or None,
        "effect": or_null(one.effect),
        "wins": one.wins,
        "ties": one.ties,
        "losses": one.losses,
        "p": or_null(one.p),
        "p_holm": or_null(one.p_holm),
        "exact": one.exact,
        "smallest_p": or_null(one.smallest_p),
    }


def ranking_json(one: Ranking) -> dict[str, object]:
    """NaN is null."""
    return {
        "structure": one.structure or None,
        "metric": one.metric.name,
        "by": one.by.value,
        "cases": one.cases,
        "patients": one.patients,
        "stability": or_null(one.stability),
        "places": [
            {
                "model": place.model,
                "value": or_null(place.value),
                "rank": place.rank or None,
                "interval": [or_null(limit) for limit in place.interval],
                "first": or_null(place.first),
                "shares": [or_null(share) for share in place.shares],
            }
            for place in one.places
        ],
    }


def group_json(one: GroupScore) -> dict[str, object]:
    """NaN is null."""
    return {
        "by": one.grouping,
        "group": one.group,
        "structure": one.structure or None,
        "metric": one.metric.name,
        "cases": one.cases,
        "patients": one.patients,
        "small": one.small,
        "missed": one.missed,
        "mean": or_null(one.mean),
        "interval": [or_null(limit) for limit in one.interval],
        "rest": or_null(one.rest),
        "gap": or_null(one.gap),
        "gap_interval": [or_null(limit) for limit in one.gap_interval],
        "p": or_null(one.p),
        "p_holm": or_null(one.p_holm),
    }


def comparison_rows(rivals: Rivals, metrics: Sequence[Metric]) -> list[list[str]]:
    """A header, and a row for each case and structure, with each figure of each model as it counts; NaN is empty."""
    tables = {metric.name: value_table(rivals, metric) for metric in metrics}
    columns = [(name, n, figure) for figure in tables for n, name in enumerate(rivals.models)]
    rows = [["case", "patient", "structure", *(f"{figure} {name}" for name, _, figure in columns), "failed"]]
    for place, cases in enumerate(zip(*rivals.models.values(), strict=True)):
        failed = [name for name, case in zip(rivals.models, cases, strict=True) if case.failed]
        for n, structure in enumerate(rivals.structures):
            values = [float(tables[figure][model, place, n]) for _, model, figure in columns]
            numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
            rows.append([cases[0].case_id, cases[0].patient_id, structure, *numbers, " ".join(failed)])
    return rows


def group_rows(scores: Sequence[GroupScore]) -> list[list[str]]:
    """A header, and a row for each group, structure and figure; NaN and the mean over structures are empty."""
    header = "by group structure metric cases patients small missed mean mean_low mean_high rest gap gap_low gap_high p"
    rows = [[*header.split(), "p_holm"]]
    for one in scores:
        numbers = (one.mean, *one.interval, one.rest, one.gap, *one.gap_interval, one.p, one.p_holm)
        about = (
            one.grouping,
            one.group,
            one.structure,
            one.metric.name,
            one.cases,
            one.patients,
            one.small,
            one.missed,
        )
        rows.append([*map(str, about), *("" if math.isnan(number) else f"{number:.6g}" for number in numbers)])
    return rows
