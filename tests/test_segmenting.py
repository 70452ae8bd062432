from dataclasses import replace

import msgspec
import numpy as np
import pytest
from anatomy import LABELS, blob_case, tiny_plan
from known_networks import PLAN, Above, Masked, Nearest, clean_case, known_model, known_runners, plan_with
from test_model import PROVENANCE, tiny_model

from delineate.errors import InputError, LabelError, PlanError
from delineate.geometry import ORIENTATIONS, Box
from delineate.inference import InferenceOptions, open_stage_runners, segment
from delineate.inference.stages import shared
from delineate.labels import label_set
from delineate.model import Locator, Model
from delineate.planning import Region
from delineate.postprocessing import Rule
from delineate.volume import reorient

REGIONS = (Region(name="whole", values=(4, 9), paints=4), Region(name="core", values=(9,), paints=9))
REGION_PLAN = plan_with(labels=("whole", "core"), regions=REGIONS)
REGION_MODEL = known_model(REGION_PLAN, labels=label_set({4: "whole", 9: "core"}, overlaps=True))
PROBABLE = InferenceOptions(with_probabilities=True)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_the_segmentation_lies_in_the_scans_own_grid(orientation: str) -> None:
    volume, reference = clean_case()
    turned = reorient(volume, orientation)
    result = segment(known_model(), turned, runners=known_runners(PLAN)).segmentation
    assert result.grid == turned.grid
    np.testing.assert_array_equal(reorient(result, volume.grid.orientation).array, reference.array)


def test_probabilities_add_up_to_one() -> None:
    volume, _ = clean_case()
    result = segment(known_model(), volume, runners=known_runners(PLAN), options=PROBABLE)
    assert result.probabilities is not None
    assert result.probabilities.shape == (3, *volume.grid.shape)
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-5)


def test_values_are_those_of_the_labels_not_of_the_networks_channels() -> None:
    volume, reference = clean_case()
    model = known_model(labels=label_set({7: "rim", 300: "core"}))
    result = segment(model, volume, runners=known_runners(PLAN), options=PROBABLE)
    np.testing.assert_array_equal(result.segmentation.array, np.choose(reference.array, [0, 300, 7]))
    assert result.probabilities is not None  # in the labels' order: rim, core
    np.testing.assert_array_equal(result.probabilities.argmax(0), np.choose(reference.array, [0, 2, 1]))


def test_a_real_network_segments_and_signs_with_its_digest() -> None:
    model = tiny_model()
    shares: list[float] = []
    result = segment(model, blob_case(0)[0], progress=shares.append).segmentation
    assert result.author == model.digest
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_runners_serve_for_a_batch() -> None:
    model = tiny_model()
    runners = open_stage_runners(model, known_runners(PLAN).folds[0].choice)
    for seed in range(2):
        volume = blob_case(seed)[0]
        once = segment(model, volume, runners=runners).segmentation.array
        np.testing.assert_array_equal(once, segment(model, volume).segmentation.array)


def test_two_dimensional_networks_go_slice_by_slice() -> None:
    flat = tiny_plan(
        patch_size=(16, 16, 1),
        network=msgspec.structs.replace(tiny_plan().network, strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3))),
    )
    from delineate.training import start

    model = Model(start(flat).average, flat, LABELS, PROVENANCE)
    assert segment(model, blob_case(0)[0]).segmentation.array.shape == (20, 16, 12)


def test_infinite_voxels_are_refused() -> None:
    volume, _ = clean_case()
    array = np.array(volume.array)
    array[0, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match="not numbers"):
        segment(known_model(), replace(volume, array=array), runners=known_runners(PLAN))


def test_folds_are_averaged_before_they_decide() -> None:
    volume, reference = clean_case()
    # Alone, the second fold would take the rim (160) for core; together they agree on a border of 1.8.
    one, two = Nearest(levels=(2.5, 1.6)), Nearest(levels=(1.7, 1.3))
    model = known_model(more_folds=({},))
    mean = segment(model, volume, runners=known_runners(PLAN, one, two)).segmentation.array
    alone = segment(known_model(), volume, runners=known_runners(PLAN, two)).segmentation.array
    np.testing.assert_array_equal(mean, reference.array)
    assert (alone != reference.array).any()


def test_regions_hold_each_other_and_paint_one_label_map() -> None:
    volume, reference = clean_case()
    result = segment(REGION_MODEL, volume, runners=known_runners(REGION_PLAN, Above((1.3, 2.0))), options=PROBABLE)
    np.testing.assert_array_equal(result.segmentation.mask("whole"), reference.array > 0)
    np.testing.assert_array_equal(result.segmentation.mask("core"), reference.mask("core"))
    np.testing.assert_array_equal(result.label_map, np.choose(reference.array, [0, 9, 4]))
    assert result.probabilities is not None
    np.testing.assert_array_equal(result.probabilities[1] > 0.5, reference.mask("core"))


def test_a_region_painted_over_belongs_to_the_one_that_holds_it() -> None:
    volume, reference = clean_case()
    # Where only the core is found, the map says core, which is part of the whole.
    runners = known_runners(REGION_PLAN, Above((2.7, 2.0)))
    result = segment(REGION_MODEL, volume, runners=runners).segmentation
    np.testing.assert_array_equal(result.mask("whole"), reference.mask("core"))


def test_rules_change_masks_and_label_map_alike() -> None:
    volume, _ = clean_case()
    model = replace(REGION_MODEL, postprocessing=(Rule(label="core", smallest_ml=1000),))
    result = segment(model, volume, runners=known_runners(REGION_PLAN, Above((1.3, 2.0))))
    assert not result.segmentation.mask("core").any()
    np.testing.assert_array_equal(result.label_map == 4, result.segmentation.mask("whole"))
    assert result.segmentation.mask("whole").any()


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


def test_progress_goes_over_all_stages_in_proportion_to_their_work() -> None:
    shares: list[float] = []
    first, none, last = shared(shares.append, [3, 0, 1])
    for told in (first, none, last):
        told(0.5)
        told(1.0)
    assert shares == pytest.approx([0.375, 0.75, 0.75, 0.75, 0.875, 1.0])


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
        segment(base, clean_case()[0], runners=known_runners(PLAN), options=PROBABLE)


def test_a_part_with_structures_that_the_whole_does_not_name_is_refused() -> None:
    base = known_model(overlays=(part("spleen", 1),))
    with pytest.raises(LabelError, match="no such label"):
        segment(base, clean_case()[0], runners=known_runners(PLAN))


def test_a_cascade_without_its_first_stage_is_refused() -> None:
    with pytest.raises(PlanError, match="belong together"):
        segment(replace(cascade(), previous=None), clean_case()[0], runners=known_runners(PLAN))


def test_regions_are_not_painted_over_other_parts() -> None:
    overlay = replace(REGION_MODEL, labels=LABELS, plan=plan_with(labels=("core", "rim"), regions=REGIONS))
    with pytest.raises(PlanError, match="regions cannot be painted"):
        segment(known_model(overlays=(overlay,)), clean_case()[0], runners=known_runners(PLAN))


def test_a_crop_first_model_runs_only_where_its_locator_found_something() -> None:
    volume, reference = clean_case(shape=(60, 48, 30))
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
    volume, reference = clean_case(shape=(60, 48, 30))
    model = known_model(locator=Locator(known_model(), ("core", "rim"), margin_mm=4.0))
    runners = known_runners(PLAN, stages={"locator": known_runners(PLAN, Nearest((7.0, 8.0)))})
    result = segment(model, volume, runners=runners)
    assert result.region is None
    assert "found no core or rim: the whole scan" in result.notes[0]
    np.testing.assert_array_equal(result.segmentation.array, reference.array)
