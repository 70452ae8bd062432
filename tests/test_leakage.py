from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from delineate.evaluation.descriptors import ImageDescriptor, describe_image
from delineate.evaluation.leakage import CaseTraces, Tie, find_leaks, find_repeats


def image(seed: int, *, cut: int = 0) -> ImageDescriptor:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 52, 30)), 2)
    return describe_image(noise[:, :, cut:].astype(np.float32), (1.0, 0.8, 2.0))


def ties(training: list[CaseTraces], test: list[CaseTraces]) -> list[tuple[str, str, tuple[Tie, ...]]]:
    return [(leak.training, leak.test, leak.ties) for leak in find_leaks(training, test)]


def test_a_patient_of_both_sides_is_named_with_each_of_their_cases() -> None:
    training = [CaseTraces("a1", "anna"), CaseTraces("a2", "anna"), CaseTraces("b", "ben")]
    assert ties(training, [CaseTraces("a3", "anna"), CaseTraces("c", "carl")]) == [
        ("a1", "a3", (Tie.PATIENT,)),
        ("a2", "a3", (Tie.PATIENT,)),
    ]


def test_cases_whose_patients_nobody_named_are_not_of_one_patient() -> None:
    assert ties([CaseTraces("a", "")], [CaseTraces("b", "")]) == []


def test_a_case_that_is_named_like_a_patient_is_tied_to_the_patients_cases() -> None:
    assert ties([CaseTraces("anna", "")], [CaseTraces("anna_2", "anna")]) == [("anna", "anna_2", (Tie.PATIENT,))]


def test_file_series_and_name_tie_cases() -> None:
    training = [CaseTraces("a", "p", ("f1", "f2"), ("1.2",)), CaseTraces("b", "q", ("f3",), ("1.3",))]
    test = [CaseTraces("b", "r"), CaseTraces("c", "s", ("f2",)), CaseTraces("d", "t", (), ("1.2", "1.9"))]
    assert ties(training, test) == [("b", "b", (Tie.CASE,)), ("a", "c", (Tie.FILE,)), ("a", "d", (Tie.SERIES,))]


def test_an_image_is_known_again_under_another_name() -> None:
    training = [CaseTraces(f"t{seed}", f"p{seed}", descriptor=image(seed)) for seed in range(3)]
    (leak,) = find_leaks(training, [CaseTraces("x", "px", descriptor=image(1, cut=2))])
    assert (leak.training, leak.ties) == ("t1", (Tie.IMAGE,))
    assert 0.85 < leak.correlation <= 1


def test_several_ties_are_one_leak_the_surest_tie_first() -> None:
    case = CaseTraces("a", "p", ("f",), ("1.2",), image(0))
    (leak,) = find_leaks([case], [case])
    assert leak.ties == (Tie.FILE, Tie.SERIES, Tie.PATIENT, Tie.CASE, Tie.IMAGE)
    assert leak.correlation == pytest.approx(1, abs=1e-5)


def test_nothing_leaks_out_of_nothing() -> None:
    assert find_leaks([], [CaseTraces("a", "p")]) == find_leaks([CaseTraces("a", "p")], []) == ()


def test_repeats_within_a_dataset_are_pairs_once_and_patients_may_have_several_cases() -> None:
    cases = [
        CaseTraces("z", "p", ("f",), descriptor=image(0)),
        CaseTraces("b", "p", ("g",), descriptor=image(1)),
        CaseTraces("a", "q", ("h",), descriptor=image(0, cut=1)),
        CaseTraces("c", "p", ("g",)),
    ]
    found = [(leak.training, leak.test, leak.ties) for leak in find_repeats(cases)]
    assert found == [("z", "a", (Tie.IMAGE,)), ("b", "c", (Tie.FILE, Tie.PATIENT))]
