from dataclasses import replace

import numpy as np
import pytest
from known_networks import PLAN, Masked, Nearest, clean_case, known_model, known_runners, plan_with

from delineate.errors import LabelError, PlanError
from delineate.geometry import ORIENTATIONS, Box
from delineate.inference import InferenceOptions, Locate, segment
from delineate.labels import label_set
from delineate.model import Locator, Model
from delineate.planning import Region
from delineate.postprocessing import Rule
from delineate.volume import reorient

LARGE = (60, 48, 30)


def cascade(*, second_labels: tuple[str, ...] = ("core",)) -> Model:
    first = known_model(labels=label_set({3: "rim", 5: "core"}))
    plan = plan_with(labels=second_labels, previous=second_labels)
    return known_model(plan, labels=label_set(dict(enumerate(second_labels, start=1))), previous=first)


@pytest.mark.parametrize("orientation", ORIENTATIONS[2::7])
def test_a_cascades_second_stage_sees_the_masks_of_the_first(orientation: str) -> None:
    volume, reference = clean_case()
    model = cascade()
    runners = known_runners(model.plan, Masked(), stages={"previous": known_runners(PLAN)})
    result = segment(model, reorient(volume, orientation), runners=runners).segmentation
    np.testing.assert_array_equal(reorient(result, volume.grid.orientation).array, reference.mask("core"))


def test_a_cascades_masks_come_in_the_order_of_the_plan() -> None:
    volume, reference = clean_case()
    model = cascade(second_labels=("core", "rim"))
    runners = known_runners(model.plan, Masked(), stages={"previous": known_runners(PLAN)})
    np.testing.assert_array_equal(segment(model, volume, runners=runners).segmentation.array, reference.array)


def test_the_first_stages_rules_hold_for_what_the_second_sees() -> None:
    volume, _ = clean_case()
    model = cascade()
    assert model.previous is not None
    strict = replace(model.previous, postprocessing=(Rule(label="core", smallest_ml=1000),))
    runners = known_runners(model.plan, Masked(), stages={"previous": known_runners(PLAN)})
    result = segment(replace(model, previous=strict), volume, runners=runners)
    assert not result.segmentation.array.any()


def part(name: str, value: int) -> Model:
    return known_model(plan_with(labels=(name,)), labels=label_set({value: name}))


def test_later_parts_are_painted_over_earlier_ones_with_joint_values() -> None:
    volume, reference = clean_case()
    # All of the blob, then its core, then all again under another name where the core was: order decides.
    first, second = part("core", 1), part("rim", 1)
    joint = label_set({11: "blob", 400: "core", 12: "rim"})
    base = known_model(plan_with(labels=("blob",)), labels=joint)
    nets = {"blob": Nearest((2.0,)), "core": Nearest((2.5,)), "rim": Nearest((1.6,))}
    for overlays in ((first, second), (second, first)):
        stages = {f"overlay_{n}": known_runners(o.plan, nets[o.plan.labels[0]]) for n, o in enumerate(overlays, 1)}
        runners = known_runners(base.plan, nets["blob"], stages=stages)
        result = segment(replace(base, overlays=overlays), volume, runners=runners).segmentation
        core = 400 if overlays[1] is first else 12
        np.testing.assert_array_equal(result.array, np.choose(reference.array, [0, core, 12]))


def test_a_part_does_not_erase_what_it_does_not_find() -> None:
    volume, reference = clean_case()
    overlay = part("core", 1)
    base = known_model(plan_with(labels=("blob",)), labels=label_set({1: "blob", 2: "core"}), overlays=(overlay,))
    stages = {"overlay_1": known_runners(overlay.plan, Nearest((9.0,)))}  # finds nothing
    result = segment(base, volume, runners=known_runners(base.plan, Nearest((2.0,)), stages=stages)).segmentation
    np.testing.assert_array_equal(result.array, reference.array > 0)


def test_the_progress_of_a_model_of_several_stages_never_goes_back() -> None:
    volume, _ = clean_case()
    model = replace(cascade(), overlays=())
    shares: list[float] = []
    runners = known_runners(model.plan, Masked(), stages={"previous": known_runners(PLAN)})
    segment(model, volume, runners=runners, progress=shares.append)
    assert shares == sorted(shares)
    assert any(0.2 < share < 0.6 for share in shares)
    assert shares[-1] == 1.0


def test_probabilities_of_several_parts_are_refused() -> None:
    base = known_model(labels=label_set({1: "core", 2: "rim"}), overlays=(part("core", 1),))
    with pytest.raises(PlanError, match="no probabilities that add up"):
        segment(base, clean_case()[0], runners=known_runners(PLAN), options=InferenceOptions(with_probabilities=True))


def test_a_part_with_structures_that_the_whole_does_not_name_is_refused() -> None:
    base = known_model(overlays=(part("spleen", 1),))
    with pytest.raises(LabelError, match="no such label"):
        segment(base, clean_case()[0], runners=known_runners(PLAN))


def test_a_cascade_without_its_first_stage_is_refused() -> None:
    with pytest.raises(PlanError, match="belong together"):
        segment(replace(cascade(), previous=None), clean_case()[0], runners=known_runners(PLAN))


def test_regions_are_not_painted_over_other_parts() -> None:
    regions = tuple(Region(name=name, values=(n,), paints=n) for n, name in enumerate(("core", "rim"), start=1))
    overlay = known_model(plan_with(regions=regions))
    with pytest.raises(PlanError, match="regions cannot be painted"):
        segment(known_model(overlays=(overlay,)), clean_case()[0], runners=known_runners(PLAN))


def test_a_crop_first_model_runs_only_where_its_locator_found_something() -> None:
    volume, reference = clean_case(shape=LARGE)
    model = known_model(locator=Locator(known_model(), ("core",), margin_mm=4.0))
    everything_is_rim = Nearest((2.5, 1.0), background=9.0)
    runners = known_runners(PLAN, everything_is_rim, stages={"locator": known_runners(PLAN)})
    result = segment(model, volume, runners=runners)
    assert isinstance(result.region, Box)
    inside = np.zeros(volume.grid.shape, bool)
    inside[result.region.slices] = True
    assert inside[reference.mask("core")].all()
    assert not result.segmentation.array[~inside].any()


def test_a_crop_first_model_runs_everywhere_if_its_locator_finds_nothing() -> None:
    volume, reference = clean_case(shape=LARGE)
    model = known_model(locator=Locator(known_model(), ("core", "rim"), margin_mm=4.0))
    runners = known_runners(PLAN, stages={"locator": known_runners(PLAN, Nearest((7.0, 8.0)))})
    result = segment(model, volume, runners=runners)
    assert result.region is None
    assert "found no core or rim: the whole scan" in result.notes[0]
    np.testing.assert_array_equal(result.segmentation.array, reference.array)


def test_a_crop_first_model_may_be_located_by_another() -> None:
    volume, reference = clean_case(shape=LARGE)
    model = known_model(locator=Locator(known_model(), ("core",), margin_mm=4.0))
    blind = known_runners(PLAN, Nearest((7.0, 8.0)))
    runners = known_runners(PLAN, stages={"locator": blind})
    result = segment(
        model, volume, runners=runners, locate=Locate(known_model(), margin_mm=8.0, runners=known_runners(PLAN))
    )
    assert result.notes == ()
    assert result.region is not None
    np.testing.assert_array_equal(result.segmentation.array, reference.array)


def test_a_crop_first_model_that_another_does_not_locate_looks_itself() -> None:
    volume, reference = clean_case(shape=LARGE)
    model = known_model(locator=Locator(known_model(), ("core",), margin_mm=8.0))
    blind = known_runners(PLAN, Nearest((7.0, 8.0)))
    runners = known_runners(PLAN, stages={"locator": known_runners(PLAN)})
    result = segment(model, volume, runners=runners, locate=Locate(known_model(), runners=blind))
    assert result.region is not None
    assert result.notes == ("The first look did not find core, rim: what the model's own locator finds was segmented.",)
    np.testing.assert_array_equal(result.segmentation.array, reference.array)


def test_what_a_crop_first_model_cuts_is_said_and_stays() -> None:
    volume, reference = clean_case(shape=LARGE)
    model = known_model(plan_with(patch_size=(4, 4, 4)), locator=Locator(known_model(), ("core",), margin_mm=1.0))
    result = segment(model, volume, runners=known_runners(model.plan, stages={"locator": known_runners(PLAN)}))
    assert result.cut == ("rim",)
    assert result.notes == ("rim reaches the end of the part of the scan that was segmented.",)
    np.testing.assert_array_equal(result.segmentation.mask("core"), reference.mask("core"))
