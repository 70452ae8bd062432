"""Nothing that is reported may get better when a structure that was found is missed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from delineate.evaluation import (
    CaseScores,
    Details,
    Evaluation,
    figures_of,
    mean_of_case,
    score_case,
    score_failure,
    summarise,
    with_details,
)
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.metrics import Status
from delineate.metrics.definitions import Better
from delineate.volume import Segmentation

SHAPE = (4, 6, 9)
LABELS = label_set({1: "liver", 2: "left_kidney", 4: "tumour"})
DETAILS = Details(lesions=("tumour", "liver"), tubes=("left_kidney",))
GRID = Grid(SHAPE, compose_affine(np.diag([3.0, 1.1, 0.7]), (5, 0, -7)))

LabelMap = npt.NDArray[np.uint8]


def segmentation(array: LabelMap) -> Segmentation:
    return Segmentation(array, GRID, LABELS)


def scored(name: str, reference: LabelMap, prediction: LabelMap) -> CaseScores:
    pair = segmentation(reference), segmentation(prediction)
    return with_details(score_case(name, *pair, patient_id=name[0]), *pair, DETAILS)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[LabelMap, LabelMap]:
    """A reference of up to three boxes, and a prediction that is off, noisy, larger, or has structures elsewhere."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reference, prediction = np.zeros((2, *SHAPE), np.uint8)
    for value in LABELS.values:
        for target, times in ((reference, draw(st.integers(0, 2))), (prediction, draw(st.integers(0, 2)))):
            for _ in range(times):
                start = generator.integers(0, SHAPE)
                size = generator.integers(1, 5, 3)
                target[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = value
    if draw(st.booleans()):
        prediction = np.roll(reference, draw(st.integers(-1, 1)), axis=draw(st.integers(0, 2)))
    noise = generator.random(SHAPE) < draw(st.sampled_from([0.0, 0.05, 0.6]))
    prediction = np.where(noise, generator.choice([0, *LABELS.values], SHAPE), prediction).astype(np.uint8)
    return reference, prediction


def figures(evaluation: Evaluation) -> Iterator[tuple[str, Better, float]]:
    """Every number of an evaluation that has a direction, with a name."""
    for metric in figures_of(evaluation.cases):
        if metric.better is Better.NEITHER:
            continue
        yield f"mean {metric.name}", metric.better, evaluation.mean[metric.name]
        for end, limit in zip("lh", evaluation.intervals[metric.name], strict=True):
            yield f"interval {metric.name} {end}", metric.better, limit
        for case in evaluation.cases:
            yield f"{case.case_id} {metric.name}", metric.better, mean_of_case(case, metric)
        for name, structure in evaluation.structures.items():
            summary = structure.metrics[metric.name]
            assert summary.interval is not None
            numbers = (summary.mean, summary.median, summary.minimum, summary.maximum, *summary.percentiles)
            for n, value in enumerate((*numbers, *summary.interval)):
                yield f"{name} {metric.name} {n}", metric.better, value
    for name, structure in evaluation.structures.items():
        yield f"{name} missed", Better.LOWER, structure.missed
        if structure.lesions is not None:
            yield f"{name} lesions found", Better.HIGHER, structure.lesions.found


@settings(deadline=None, max_examples=60)
@given(cases=st.lists(pairs(), min_size=1, max_size=3), data=st.data())
def test_missing_a_structure_that_was_found_improves_nothing(
    cases: list[tuple[LabelMap, LabelMap]], data: st.DataObject
) -> None:
    before = [scored(f"{'aab'[n]}{n}", *pair) for n, pair in enumerate(cases)]
    found = [
        (n, label.name, label.value)
        for n, case in enumerate(before)
        for label in LABELS
        if case.scores[label.name].status is Status.SCORED
    ]
    assume(found)
    n, name, value = data.draw(st.sampled_from(found))
    reference, prediction = cases[n]
    missed = scored(before[n].case_id, reference, np.where(prediction == value, 0, prediction).astype(np.uint8))
    assert missed.scores[name].status is Status.MISSED
    after = [*before[:n], missed, *before[n + 1 :]]
    good, bad = (summarise(some, generator=np.random.default_rng(3), resamples=50) for some in (before, after))
    for (what, better, first), (_, _, second) in zip(figures(good), figures(bad), strict=True):
        assert math.isnan(first) == math.isnan(second), what
        gain = second - first if better is Better.HIGHER else first - second
        assert math.isnan(gain) or gain <= 1e-9 * max(1, abs(first)), (what, first, second)


@settings(deadline=None, max_examples=20)
@given(pair=pairs())
def test_no_prediction_is_the_same_as_nothing_found(pair: tuple[LabelMap, LabelMap]) -> None:
    reference = segmentation(pair[0])
    failed = with_details(score_failure("a", reference, "no file"), reference, None, DETAILS)
    nothing = scored("a", pair[0], np.zeros_like(pair[0]))
    for name in LABELS.names:
        assert repr(failed.scores[name]) == repr(nothing.scores[name])
    assert repr((failed.lesions, failed.tubes)) == repr((nothing.lesions, nothing.tubes))


def test_a_large_false_positive_is_no_better_than_a_miss_and_a_miss_no_better_than_it() -> None:
    """The two worst predictions of one structure differ only in figures that tell them apart."""
    reference = np.zeros(SHAPE, np.uint8)
    reference[1, 2, 3] = 1
    everything = summarise([scored("a", reference, np.ones(SHAPE, np.uint8))], generator=np.random.default_rng(0))
    nothing = summarise([scored("a", reference, np.zeros(SHAPE, np.uint8))], generator=np.random.default_rng(0))
    liver = [evaluation.structures["liver"] for evaluation in (everything, nothing)]
    assert liver[0].metrics["dice"].mean == pytest.approx(2 / (math.prod(SHAPE) + 1))
    assert liver[0].metrics["hd_mm"].mean < liver[1].metrics["hd_mm"].mean == math.hypot(12, 6.6, 6.3)
    assert liver[1].metrics["volume_similarity"].mean == 0


def test_a_case_that_fails_lowers_a_mean_that_it_was_above() -> None:
    reference = np.zeros(SHAPE, np.uint8)
    reference[1:3, 2:4, 3:6] = 1
    good = scored("a", reference, reference)
    failed = with_details(
        score_failure("b", segmentation(reference), "no file"), segmentation(reference), None, DETAILS
    )
    evaluation = summarise([good, failed], generator=np.random.default_rng(0))
    assert evaluation.mean["dice"] == 0.5
    assert evaluation.mean["lesion_f1"] == 0.5
    assert evaluation.structures["liver"].lesions is not None
    assert evaluation.structures["liver"].lesions.missed == 1
    assert replace(failed, failed="") in [replace(case, failed="") for case in evaluation.cases]
