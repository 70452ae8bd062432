from dataclasses import replace

import msgspec
import numpy as np
import pytest
from anatomy import LABELS, blob_case, tiny_plan
from known_networks import PLAN, Above, Nearest, clean_case, known_model, known_runners, plan_with
from test_model import PROVENANCE, tiny_model

from delineate.errors import InputError
from delineate.geometry import ORIENTATIONS
from delineate.inference import InferenceOptions, open_stage_runners, segment
from delineate.inference.stages import shared
from delineate.labels import label_set
from delineate.model import Model
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


def test_a_precision_of_the_plan_that_a_device_lacks_is_float32_there() -> None:
    model, volume = tiny_model(), blob_case(0)[0]
    training = msgspec.structs.replace(model.plan.training, precision="float16")
    half = replace(model, plan=msgspec.structs.replace(model.plan, training=training))
    np.testing.assert_array_equal(segment(half, volume).segmentation.array, segment(model, volume).segmentation.array)


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


def test_progress_goes_over_all_stages_in_proportion_to_their_work() -> None:
    shares: list[float] = []
    first, none, last = shared(shares.append, [3, 0, 1])
    for told in (first, none, last):
        told(0.5)
        told(1.0)
    assert shares == pytest.approx([0.375, 0.75, 0.75, 0.75, 0.875, 1.0])
