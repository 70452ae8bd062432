from dataclasses import replace

import msgspec
import numpy as np
import pytest
from anatomy import LABELS, oblique_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from known_networks import PLAN, Above, Masked, Nearest, clean_case, known_model, known_runners, plan_with
from test_model import tiny_model
from torch import nn

from delineate.errors import LabelError, PlanError
from delineate.geometry import ORIENTATIONS, Box, Grid, index_to_world
from delineate.inference import Locate, Prediction, segment
from delineate.inference.locating import coarse, cut_off, find, region_around, thinned
from delineate.labels import label_set
from delineate.model import Model
from delineate.planning import Region, Tiling
from delineate.volume import Kind, Segmentation, Volume, reorient

LARGE = (60, 48, 30)
COARSE = plan_with(spacing_mm=(1.8, 2.4, 5.0))
LOOK = known_model(COARSE)


def located(
    volume: Volume,
    *,
    model: Model | None = None,
    network: nn.Module | None = None,
    look: nn.Module | None = None,
    locate: Locate | None = None,
) -> Prediction:
    """Segmented where a look at half the resolution finds core and rim."""
    model, locate = model or known_model(), locate or Locate(LOOK, margin_mm=4.0)
    locate = replace(locate, runners=known_runners(COARSE, look or Nearest()))
    return segment(model, volume, runners=known_runners(model.plan, network or Nearest()), locate=locate)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_a_located_structure_is_segmented_as_in_the_whole_scan(orientation: str) -> None:
    volume, reference = clean_case(shape=LARGE)
    result = located(reorient(volume, orientation))
    assert result.region is not None
    assert np.prod(result.region.shape) < 0.3 * np.prod(LARGE)
    assert result.notes == ()
    np.testing.assert_array_equal(reorient(result.segmentation, volume.grid.orientation).array, reference.array)


def test_fewer_windows_are_run() -> None:
    volume, _ = clean_case(shape=(70, 60, 40))
    whole = segment(known_model(), volume, runners=known_runners(PLAN))
    result = located(volume)
    assert result.windows.run < whole.windows.run / 3


def test_nothing_found_means_that_the_whole_scan_is_run() -> None:
    volume, reference = clean_case(shape=LARGE)
    result = located(volume, look=Nearest((7.0, 8.0)))
    assert result.region is None
    assert result.notes == ("The first look did not find core, rim: the whole scan was segmented.",)
    np.testing.assert_array_equal(result.segmentation.array, reference.array)


def test_one_structure_missed_is_enough_to_run_the_whole_scan() -> None:
    volume, reference = clean_case(shape=LARGE)
    result = located(volume, look=Nearest((9.0, 1.8)))  # sees no core, all is rim
    assert result.notes == ("The first look did not find core: the whole scan was segmented.",)
    np.testing.assert_array_equal(result.segmentation.array, reference.array)


def test_what_reaches_beyond_the_located_part_is_found_in_the_whole_scan() -> None:
    volume, _ = clean_case(shape=LARGE)
    bar = np.array(volume.array)
    bar[0, 24, :, 15] = 160.0  # rim across the whole scan, which a look at core alone does not see
    locate = Locate(LOOK, around=("core",), margin_mm=4.0)
    result = located(replace(volume, array=bar), locate=locate)
    assert result.notes == ("rim may reach beyond the part that was located: the whole scan was segmented.",)
    assert (result.segmentation.array[24, :, 15] > 0).all()


def test_only_the_wanted_structures_are_in_the_result() -> None:
    volume, reference = clean_case(shape=LARGE)
    result = located(volume, locate=Locate(LOOK, structures=("core",), margin_mm=4.0))
    assert result.segmentation.labels.names == ("core",)
    np.testing.assert_array_equal(result.segmentation.array == 1, reference.mask("core"))
    assert set(np.unique(result.segmentation.array)) == {0, 1}


def test_regions_look_and_are_located() -> None:
    volume, reference = clean_case(shape=LARGE)
    regions = (Region(name="rim", values=(1, 2), paints=1), Region(name="core", values=(2,), paints=2))
    plan = plan_with(regions=regions, labels=("rim", "core"))
    model = known_model(plan, labels=label_set({1: "rim", 2: "core"}, overlaps=True))
    runners = known_runners(plan, Above((1.3, 2.0)))
    locate = Locate(model, structures=("core",), margin_mm=4.0, runners=runners)
    result = segment(model, volume, runners=runners, locate=locate)
    assert result.region is not None
    assert result.segmentation.labels.names == ("core",)
    np.testing.assert_array_equal(result.segmentation.mask("core"), reference.mask("core"))
    np.testing.assert_array_equal(result.label_map, 2 * reference.mask("core"))


def test_parts_that_know_none_of_the_wanted_structures_are_not_run() -> None:
    volume, reference = clean_case(shape=LARGE)
    overlay = known_model(plan_with(labels=("rim",)), labels=label_set({1: "rim"}))
    model = known_model(plan_with(labels=("core",)), overlays=(overlay,))

    class Never(nn.Module):
        def forward(self, image: object) -> object:
            raise AssertionError("this part was to be left out")

    runners = known_runners(model.plan, Nearest((2.5,)), stages={"overlay_1": known_runners(overlay.plan, Never())})
    locate = Locate(LOOK, structures=("core",), margin_mm=4.0, runners=known_runners(COARSE))
    result = segment(model, volume, runners=runners, locate=locate)
    np.testing.assert_array_equal(result.segmentation.array == 1, reference.mask("core"))


def test_a_cascades_first_stage_is_its_own_look() -> None:
    volume, _ = clean_case(shape=LARGE)
    plan = plan_with(previous=("core", "rim"))
    model = known_model(plan, previous=LOOK)
    runners = known_runners(plan, Masked(), stages={"previous": known_runners(COARSE)})
    whole = segment(model, volume, runners=runners)
    result = segment(model, volume, runners=runners, locate=Locate(margin_mm=6.0))
    assert result.region is not None
    assert result.windows.run < whole.windows.run
    np.testing.assert_array_equal(result.segmentation.array, whole.segmentation.array)


def test_a_model_that_looks_at_other_structures_needs_to_be_told_which() -> None:
    other = known_model(plan_with(labels=("liver",)), labels=label_set({1: "liver"}))
    with pytest.raises(LabelError, match="does not know core, rim"):
        located(clean_case()[0], locate=Locate(other))


def test_a_model_without_a_first_stage_needs_one() -> None:
    with pytest.raises(PlanError, match=r"no first stage.*delineate train DATASET locator"):
        segment(known_model(), clean_case()[0], runners=known_runners(PLAN), locate=Locate())


def test_a_model_that_resizes_scans_is_not_run_on_parts() -> None:
    with pytest.raises(PlanError, match="cannot be run on a part"):
        located(clean_case()[0], model=known_model(plan_with(resize_to=(16, 16, 8))))


@settings(deadline=None)
@given(spacing=st.tuples(*[st.floats(0.5, 9.0)] * 3), shape=st.tuples(*[st.integers(1, 23)] * 3), fortran=st.booleans())
def test_coarse_voxels_are_the_means_of_whole_blocks(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], *, fortran: bool
) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (2, *shape)).astype(np.int16)
    volume = Volume(np.asfortranarray(array) if fortran else array, oblique_grid(shape), Kind.CT)
    seen, block = coarse(volume, spacing)
    assert all(b * s <= max(s, mm) + 1e-3 for b, s, mm in zip(block, volume.grid.spacing_mm, spacing, strict=True))
    for i, j, k in ((0, 0, 0), tuple(n - 1 for n in seen.grid.shape)):
        a, b, c = block
        part = array[1, i * a : (i + 1) * a, j * b : (j + 1) * b, k * c : (k + 1) * c]
        assert seen.array[1, i, j, k] == pytest.approx(part.mean(), abs=1e-2)


def test_a_coarse_voxel_lies_in_the_middle_of_its_block() -> None:
    volume, _ = clean_case(shape=LARGE)
    seen, block = coarse(volume, (1.9, 3.7, 5.1))
    assert block == (2, 3, 2)
    middle = (np.asarray(block) - 1) / 2 + np.asarray(block) * (3, 4, 5)
    np.testing.assert_allclose(index_to_world(seen.grid, (3, 4, 5)), index_to_world(volume.grid, middle))


def test_thinned_voxels_are_those_in_the_middle_of_their_blocks() -> None:
    _, reference = clean_case(shape=LARGE)
    seen, _ = thinned(reference, (1.9, 3.7, 5.1))
    assert seen.array[3, 4, 5] == reference.array[7, 13, 11]
    np.testing.assert_allclose(index_to_world(seen.grid, (3, 4, 5)), index_to_world(reference.grid, (7, 13, 11)))


def blocks(*boxes: tuple[int, Box], shape: tuple[int, int, int] = (40, 30, 20)) -> Segmentation:
    """Boxes with values, of voxels of 0.1 ml."""
    array = np.zeros(shape, np.uint8)
    for value, box in boxes:
        array[box.slices] = value
    return Segmentation(array, Grid(shape, np.diag([5.0, 5.0, 4.0, 1.0])), LABELS)


LARGE_BOX, SPECK = Box((3, 4, 5), (23, 24, 15)), Box((35, 28, 18), (36, 29, 19))


def test_a_box_holds_every_structure_looked_for() -> None:
    seen = blocks((1, Box((3, 4, 5), (9, 9, 9))), (2, Box((20, 6, 3), (30, 8, 7))))
    sight = find(seen, ("core", "rim"), (2, 3, 1), (79, 90, 20))
    assert sight.box == Box((6, 12, 3), (60, 27, 9))
    assert sight.missing == ()
    assert find(seen, ("rim",), (2, 3, 1), (79, 90, 20)).box == Box((40, 18, 3), (60, 24, 7))


def test_a_box_ends_with_the_scan_where_the_last_block_is_not_full() -> None:
    sight = find(blocks((1, Box((30, 20, 10), (40, 30, 20)))), ("core",), (2, 3, 1), (79, 88, 20))
    assert sight.box == Box((60, 60, 10), (79, 88, 20))


def test_specks_far_away_are_noise() -> None:
    assert find(blocks((1, LARGE_BOX), (1, SPECK)), ("core",), (1, 1, 1), (40, 30, 20)).box == LARGE_BOX


def test_a_second_part_of_some_size_is_none() -> None:
    second = Box((30, 1, 1), (34, 4, 4))  # 3.6 ml, under one in a hundred of the first
    seen = blocks((1, LARGE_BOX), (1, second))
    assert find(seen, ("core",), (1, 1, 1), (40, 30, 20)).box == Box((3, 1, 1), (34, 24, 15))


def test_a_structure_that_is_a_speck_is_found() -> None:
    sight = find(blocks((1, LARGE_BOX), (2, SPECK)), ("core", "rim"), (1, 1, 1), (40, 30, 20))
    assert sight.missing == ()
    assert sight.box == Box((3, 4, 5), (36, 29, 19))


def test_what_is_not_found_is_named() -> None:
    sight = find(blocks((2, SPECK)), ("core", "rim"), (1, 1, 1), (40, 30, 20))
    assert (sight.box, sight.missing) == (SPECK, ("core",))


@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
def test_a_region_has_the_margin_on_all_sides_and_ends_with_the_scan(orientation: str) -> None:
    grid = reorient(clean_case(shape=LARGE)[0], orientation).grid
    box = Box((10, 10, 10), (14, 15, 16))
    region = region_around(box, grid, 9.0)
    for axis, (n, s) in enumerate(zip(grid.shape, grid.spacing_mm, strict=True)):
        margin = int(np.ceil(9.0 / s - 1e-6))
        assert region.start[axis] == max(0, box.start[axis] - margin)
        assert region.stop[axis] == min(n, box.stop[axis] + margin)


@settings(deadline=None)
@given(data=st.data())
def test_a_region_holds_its_box_and_stays_in_the_scan(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 40)] * 3))
    ends = [sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))) for n in shape]
    box = Box((ends[0][0], ends[1][0], ends[2][0]), (ends[0][1] + 1, ends[1][1] + 1, ends[2][1] + 1))
    region = region_around(box, oblique_grid(shape), data.draw(st.floats(0, 60)))
    assert all(0 <= a <= b for a, b in zip(region.start, box.start, strict=True))
    assert all(b <= a <= n for a, b, n in zip(region.stop, box.stop, shape, strict=True))


def test_what_touches_a_face_inside_the_scan_is_cut_off() -> None:
    label_map = np.zeros((10, 10, 10), np.uint8)
    label_map[2, 5, 5], label_map[5, 7, 5], label_map[5, 5, 9], label_map[4, 4, 4] = 1, 2, 3, 4
    region = Box((2, 2, 2), (8, 8, 10))
    assert cut_off(label_map, region) == {1, 2}  # the scan itself ends where 3 does


def test_a_look_takes_as_few_windows_as_there_can_be() -> None:
    volume, _ = clean_case(shape=LARGE)
    mirrored = known_model(msgspec.structs.replace(COARSE, tiling=Tiling(overlap=0.8, mirror_axes=(0, 1, 2))))
    quick, thorough = (located(volume, locate=Locate(look, margin_mm=4.0)) for look in (LOOK, mirrored))
    assert quick.windows == thorough.windows


def test_runners_of_the_look_are_opened_where_there_are_none() -> None:
    model = tiny_model()
    volume, _ = clean_case()
    alone = segment(model, volume).segmentation.array
    np.testing.assert_array_equal(segment(model, volume, locate=Locate(model)).segmentation.array, alone)
