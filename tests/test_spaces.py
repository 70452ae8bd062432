import math

import msgspec
import pytest
from anatomy import tiny_plan
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import PlanError
from delineate.planning import AugmentationPlan, ClipZScore, Plan, Rescale, Window, check_plan, training_bytes
from delineate.planning.spaces import candidate, default_values, grid, parse_space, space_from_json, usual_space
from delineate.planning.tunables import Choices, Range, strengthened
from delineate.volume import Kind

PLENTY = 10**12


def ct_plan(**changes: object) -> Plan:
    values: dict[str, object] = {"kinds": (Kind.CT,), "normalisation": (Window(lower=-57, upper=164),)}
    return tiny_plan(**(values | changes))


def test_usual_limits_are_wide_enough_for_the_plan() -> None:
    rate = next(d for d in usual_space(tiny_plan()) if d.name == "learning_rate")
    assert rate == Range(name="learning_rate", low=1e-4, high=1e-2, log=True)
    plan = ct_plan(normalisation=(Window(lower=-1500, upper=164),))
    assert parse_space("a_min", plan) == (Range(name="a_min", low=-1500, high=50),)


def test_a_window_is_two_limits_of_ct_and_two_percentiles_of_mr() -> None:
    assert [d.name for d in parse_space("window", ct_plan())] == ["a_min", "a_max"]
    assert [d.name for d in parse_space("window", tiny_plan())] == ["low_percentile", "high_percentile"]


def test_words_and_json_say_the_same_space() -> None:
    plan = ct_plan()
    words = "learning_rate=1e-3..1e-2,window,loss=dice|dice_ce,batch=1|2|4"
    json = '{"learning_rate": [1e-3, 1e-2], "window": null, "loss": ["dice", "dice_ce"], "batch": [1, 2, 4]}'
    assert parse_space(words, plan) == space_from_json(json, plan)
    assert parse_space(words, plan)[-1] == Choices(name="batch", values=(1, 2, 4))


def test_two_numbers_with_a_bar_are_choices() -> None:
    assert parse_space("dropout=0|0.2", tiny_plan()) == (Choices(name="dropout", values=(0.0, 0.2)),)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("momentum", "cannot be tuned.*learning_rate.*got momentum"),
        ("learning_rate=1e-2..1e-3", "no range of learning_rate.*lower number first"),
        ("learning_rate=0..1e-3", "above 0"),
        ("learning_rate=fast", "learning_rate is a number"),
        ("loss=none", r"no such loss.*dice or dice_ce.*got none"),
        ("patch=96x96", "no patch size.*got 96x96"),
        ("window=0..1", "a window has two limits"),
        ("a_min", "no such window"),
        ("dropout,dropout=0..1", "twice"),
        ("low_percentile,window", "twice"),
    ],
)
def test_what_is_no_space_is_said(space: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        parse_space(space, tiny_plan())


def test_json_that_is_no_space_is_said() -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        space_from_json('{"learning_rate": "high"}', tiny_plan())
    with pytest.raises(PlanError, match=r"no such window.*got Rescale"):
        space_from_json('{"window": null}', tiny_plan(normalisation=(Rescale(),)))


def test_a_grid_is_every_combination_with_both_ends() -> None:
    plan = tiny_plan()
    combinations = grid(parse_space("learning_rate=1e-4..1e-2,loss=dice|dice_ce", plan), 3)
    assert len(combinations) == 6
    assert {c["learning_rate"] for c in combinations} == {1e-4, 1e-3, 1e-2}
    assert parse_space("batch=1..3", plan)[0].points(9) == (1, 2, 3)


def test_a_plan_has_its_own_values() -> None:
    plan = ct_plan()
    space = parse_space("learning_rate,window,patch,width,batch,dropout,augmentation", plan)
    assert default_values(plan, space) == {
        "learning_rate": 1e-2,
        "a_min": -57.0,
        "a_max": 164.0,
        "patch": "16x16x8",
        "width": 8,
        "batch": 2,
        "dropout": 0.0,
        "augmentation": 1.0,
    }


def test_values_are_written_where_they_belong() -> None:
    values: dict[str, float | int | str] = {
        "learning_rate": 3e-3,
        "width": 16,
        "a_min": -160.0,
        "patch": "32x16x8",
        "loss": "dice",
    }
    made = candidate(ct_plan(), values, memory_bytes=PLENTY)
    assert made.plan.training.learning_rate == 3e-3
    assert made.plan.network.features == (16, 32)
    assert made.plan.normalisation == (Window(lower=-160, upper=164),)
    assert (made.plan.patch_size, made.plan.training.loss) == ((32, 16, 8), "dice")
    assert made.values == values
    assert made.plan.reasons[-1].startswith("tuned: learning_rate 0.003, width 16")


def test_limits_in_the_wrong_order_are_changed_round() -> None:
    made = candidate(ct_plan(), {"a_min": 100.0, "a_max": 20.0}, memory_bytes=PLENTY)
    assert made.plan.normalisation == (Window(lower=20, upper=100),)
    assert made.values == {"a_min": 20.0, "a_max": 100.0}
    assert made.notes == ("a_min and a_max were changed round",)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="lower below upper"):
        candidate(ct_plan(), {"a_min": 50.0, "a_max": 50.0}, memory_bytes=PLENTY)


def test_other_limits_replace_what_was_measured_of_a_dataset() -> None:
    plan = ct_plan(normalisation=(ClipZScore(lower=-900, upper=1500, mean=60, std=300),))
    made = candidate(plan, {"a_max": 300.0}, memory_bytes=PLENTY)
    assert made.plan.normalisation == (Window(lower=-900, upper=300, to_lower=-1),)


def test_a_patch_is_rounded_up_and_a_batch_halved_with_a_word() -> None:
    room = training_bytes(tiny_plan(patch_size=(18, 16, 8))) - 1
    made = candidate(tiny_plan(), {"patch": "17x15x8"}, memory_bytes=room)
    assert (made.plan.patch_size, made.plan.training.batch_size) == ((18, 16, 8), 1)
    assert made.values == {"patch": "18x16x8"}
    assert made.notes == (
        "patch 17x15x8 rounded up to 18x16x8",
        "batch of 1 instead of 2, to fit the memory",
    )


def test_what_never_fits_is_refused_before_training() -> None:
    with pytest.raises(PlanError, match=r"does not fit the memory.*one patch of 512x512x256"):
        candidate(tiny_plan(), {"patch": "512x512x256"}, memory_bytes=10**9)


def test_strength_scales_probabilities_and_grows_factors_about_one() -> None:
    none, twice = (strengthened(AugmentationPlan(), s) for s in (0.0, 2.0))
    assert (none.gamma, none.rotation_degrees, none.noise_std) == ((1, 1), (0, 0, 0), (0, 0))
    assert none.spatial_probability == none.elastic_mm == 0
    assert twice.spatial_probability == 1
    assert twice.scale == pytest.approx((0.75**2, 1.33**2))
    assert strengthened(AugmentationPlan(), 1.0) == AugmentationPlan()


@given(st.data())
def test_any_point_of_the_usual_limits_makes_a_plan_that_checks(data: st.DataObject) -> None:
    plan = ct_plan()
    names = "learning_rate,weight_decay,window,patch,width,batch,positive_fraction,loss,augmentation,dropout"
    values: dict[str, float | int | str] = {}
    for dimension in parse_space(names, plan):
        if isinstance(dimension, Choices):
            values[dimension.name] = data.draw(st.sampled_from(dimension.values))
        else:
            values[dimension.name] = dimension.nearest(data.draw(st.floats(dimension.low, dimension.high)))
    made = candidate(plan, values, memory_bytes=PLENTY)
    check_plan(made.plan)
    assert made.plan.normalisation[0].lower < made.plan.normalisation[0].upper  # type: ignore[union-attr]
    assert msgspec.convert(msgspec.to_builtins(made.plan), Plan) == made.plan
    assert all(math.isfinite(value) for value in made.values.values() if not isinstance(value, str))
