"""Models of different plans, averaged in the scan's own grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import LABELS
from known_networks import Above, Nearest, clean_case, known_model, known_runners, plan_with
from test_model import tiny_model

from delineate.errors import PlanError
from delineate.inference import InferenceOptions, Runners, segment
from delineate.inference.ensembles import Mean, most_probable
from delineate.labels import label_set
from delineate.model import Model, load_model, save_model
from delineate.planning import Region
from delineate.workflow.variants import variants_of

WITH = InferenceOptions(with_probabilities=True)
COARSE = plan_with(spacing_mm=(1.8, 1.2, 2.5))


def pair() -> tuple[Model, Runners]:
    other = known_model(COARSE)
    model = known_model(partners=(other,))
    nets = {"partner_1": known_runners(COARSE, Nearest((2.5, 1.9), background=1.4))}
    return model, known_runners(model.plan, Nearest(), stages=nets)


def test_an_ensemble_has_the_mean_of_its_members_probabilities() -> None:
    volume, _ = clean_case()
    model, runners = pair()
    alone = segment(replace(model, partners=()), volume, runners=runners, options=WITH)
    other = segment(model.partners[0], volume, runners=runners.stages["partner_1"], options=WITH)
    together = segment(model, volume, runners=runners, options=WITH)
    assert alone.probabilities is not None
    assert other.probabilities is not None
    mean = (alone.probabilities + other.probabilities) / 2
    assert together.probabilities is not None
    np.testing.assert_allclose(together.probabilities, mean, atol=1e-6)
    np.testing.assert_array_equal(together.label_map, mean.argmax(0))
    assert together.windows.total == alone.windows.total + other.windows.total


def test_an_ensemble_keeps_no_probabilities_that_nobody_asked_for() -> None:
    model, runners = pair()
    asked, unasked = (
        segment(model, clean_case()[0], runners=runners, options=how) for how in (WITH, InferenceOptions())
    )
    assert unasked.probabilities is None
    np.testing.assert_array_equal(asked.label_map, unasked.label_map)


def test_regions_are_painted_where_the_mean_is_over_one_half() -> None:
    volume, reference = clean_case()
    regions = (Region(name="core", values=(1,), paints=1), Region(name="rim", values=(1, 2), paints=2))
    plan = plan_with(regions=tuple(regions))
    labels = label_set({1: "core", 2: "rim"}, overlaps=True)
    other = known_model(plan, labels=labels)
    stages = {"partner_1": known_runners(plan, Above((2.2, 1.4)))}
    runners = known_runners(plan, Above((2.0, 1.2)), stages=stages)
    found = segment(known_model(plan, labels=labels, partners=(other,)), volume, runners=runners)
    np.testing.assert_array_equal(found.segmentation.mask("rim"), reference.array > 0)


def test_most_probable_gives_the_labels_values() -> None:
    labels = label_set({3: "a", 400: "b"})
    probabilities = np.array([[0.5, 0.2, 0.1], [0.3, 0.5, 0.1], [0.2, 0.3, 0.8]], np.float32).reshape(3, 3, 1, 1)
    label_map = most_probable(probabilities, labels)
    assert label_map.dtype == np.uint16
    assert label_map.ravel().tolist() == [0, 3, 400]


def test_a_mean_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no probabilities"):
        Mean().take()


def test_members_with_other_structures_are_refused() -> None:
    other = known_model(plan_with(labels=("core",)), labels=label_set({1: "core"}))
    with pytest.raises(PlanError, match="same structures"):
        segment(known_model(partners=(other,)), clean_case()[0], runners=known_runners(COARSE))


def test_an_ensemble_is_saved_and_loaded_with_its_members(tmp_path: Path) -> None:
    member = tiny_model()
    folds = (dict(tiny_model().weights),)
    model = replace(tiny_model(), more_folds=folds, partners=(replace(member, more_folds=folds),))
    save_model(tmp_path / "m", model)
    loaded = load_model(tmp_path / "m")
    assert loaded.digest == model.digest != replace(model, partners=()).digest
    assert len(loaded.partners[0].folds) == 2
    names = [one.model.partners[0].more_folds for one in variants_of(loaded).members]
    assert names == [(), ()]
    assert loaded.labels == LABELS
