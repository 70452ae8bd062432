"""Which case and structure the n-th patch shows, and that it does show it."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from anatomy import blob_case, tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.augmentation import sample_augmentation, source_position, source_positions
from delineate.planning import AugmentationPlan, DistillationPlan, Plan
from delineate.preprocessing import PreparedCase, prepare
from delineate.sampling import TrainingCase, draw, index_case, make_batch

PLAN = tiny_plan()
VOLUME, REFERENCE = blob_case(0)
BLOB = prepare("blob", VOLUME, REFERENCE, PLAN)


def plan_with(
    augmentation: AugmentationPlan | None = None, *, patch: tuple[int, int, int] = (16, 16, 8), **training: object
) -> Plan:
    changed = msgspec.structs.replace(PLAN.training, **training)
    return tiny_plan(training=changed, augmentation=augmentation or AugmentationPlan(), patch_size=patch)


def holding(*values: int) -> TrainingCase:
    """A case with one voxel of each structure."""
    target = np.zeros(BLOB.image.shape[1:], np.uint8)
    for value in values:
        target[3 * value, 2, 1 + value] = value
    return index_case(replace(BLOB, target=target), seed=0)


def test_balanced_draws_show_each_structure_equally_often() -> None:
    cases = [holding(1), holding(1), holding(1), holding(1, 2)]
    plan = plan_with(balance=1.0)
    seen = Counter(one.structure for one in draw(cases, plan, range(800)))
    assert seen == {0: 400, 1: 200, 2: 200}


def test_half_balanced_draws_lie_in_between() -> None:
    cases = [holding(1), holding(1), holding(1), holding(1, 2)]  # as they come: 7/8 and 1/8
    seen = Counter(one.structure for one in draw(cases, plan_with(balance=0.5, positive_fraction=1.0), range(1600)))
    assert seen[2] / seen[1] == pytest.approx((1 / 7) ** 0.5, abs=0.01)


def test_a_structure_is_drawn_where_it_is() -> None:
    cases = [holding(1), holding(2), holding(1), holding(1, 2), holding()]
    for drawn in draw(cases, plan_with(balance=0.7), range(200)):
        assert not drawn.structure or drawn.structure in cases[drawn.case].values


def test_balanced_draws_show_every_case_in_each_round() -> None:
    cases = [holding(1)] * 6 + [holding(1, 2)]
    plan = plan_with(balance=1.0, positive_fraction=0.75)
    for start in range(0, 28 * 3, 28):
        assert {one.case for one in draw(cases, plan, range(start, start + 28))} == set(range(7))


def test_cases_in_which_more_was_drawn_come_more_often_where_what_is_missing_is_unknown() -> None:
    cases = [holding(1), holding(1), holding(1), holding(1, 2)]
    absent, unknown = (
        Counter(one.case for one in draw(cases, plan_with(balance=1.0, missing_labels=what), range(1600)))
        for what in ("absent", "unknown")
    )
    # A quarter of the background (200) and of the first structure's (100) or, beside one that is worth 1 + 2, a sixth
    # (133 and 67).
    assert absent[0] == pytest.approx(300, abs=8)
    assert unknown[0] == pytest.approx(200, abs=8)


def test_a_case_in_which_nothing_was_drawn_is_left_out_unless_a_teacher_speaks_of_it() -> None:
    cases = [holding(), holding(1), holding(), holding(1, 2), holding()]
    alone = plan_with(balance=1.0, missing_labels="unknown")
    taught = plan_with(balance=1.0, missing_labels="unknown", distillation=DistillationPlan(teacher="x"))
    absent = plan_with(balance=1.0)
    assert {one.case for one in draw(cases, alone, range(400))} == {1, 3}
    assert draw(cases, taught, range(400)) == draw(cases, absent, range(400))
    assert {one.case for one in draw(cases, absent, range(400))} == set(range(5))


def test_a_round_is_long_enough_for_the_case_that_is_worth_least() -> None:
    cases = [holding(1)] * 6 + [holding(1, 2)]
    plan = plan_with(balance=1.0, positive_fraction=0.5, missing_labels="unknown")
    shares = 6 + 1 + 7**0.5  # of which the six have one each, of half of the patches
    length = math.ceil(2 * shares)
    for start in range(0, 3 * length, length):
        drawn = draw(cases, plan, range(start, start + length))
        assert {one.case for one in drawn if one.structure == 0} == set(range(7))


def test_cases_without_any_structure_can_be_drawn_from() -> None:
    cases = [holding(), holding()]
    assert Counter(one.case for one in draw(cases, plan_with(balance=1.0), range(20))) == {0: 10, 1: 10}
    assert make_batch(cases, plan_with(balance=1.0), 0).targets.max() == 0


def test_a_balanced_batch_depends_on_its_step_alone() -> None:
    cases, plan = [holding(1), holding(1, 2)], plan_with(balance=1.0, off_centre=0.5)
    again = make_batch(cases, plan, 5)
    assert torch.equal(make_batch(cases, plan, 5).images, again.images)
    batches = [make_batch(cases, plan, step).images for step in range(4)]
    assert not any(torch.equal(one, other) for one, other in pairwise(batches))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    patch=st.sampled_from([(16, 16, 8), (4, 12, 8), (40, 8, 4), (8, 8, 1)]),
    off_centre=st.sampled_from([0.3, 1.0]),
)
def test_a_structure_of_one_voxel_is_never_lost(
    seed: int, place: tuple[float, float, float], patch: tuple[int, int, int], off_centre: float
) -> None:
    """However the patch is turned, scaled, bent and flipped, wherever in the case the voxel is."""
    shape = BLOB.image.shape[1:]
    target = np.zeros(shape, np.uint8)
    target[tuple(int(share * (n - 1)) for share, n in zip(place, shape, strict=True))] = 2
    wild = AugmentationPlan(spatial_probability=1, elastic_probability=0.5, scale=(0.5, 2.0), flip_axes=(0, 1, 2))
    plan = plan_with(wild, patch=patch, seed=seed, positive_fraction=1.0, off_centre=off_centre, batch_size=1)
    assert 2 in make_batch([index_case(replace(BLOB, target=target), seed=0)], plan, 0).targets


def test_drawn_voxels_lie_all_over_the_patch() -> None:
    still = AugmentationPlan(spatial_probability=0, elastic_probability=0, shift_mm=0)
    target = np.zeros(BLOB.image.shape[1:], np.uint8)
    target[8, 9, 6] = 1
    plan = plan_with(still, patch=(6, 4, 4), positive_fraction=1.0, off_centre=1.0)
    cases = [index_case(replace(BLOB, target=target), seed=0)]
    places = torch.cat([make_batch(cases, plan, step).targets.nonzero()[:, 1:] for step in range(60)])
    assert len(places) == 120
    assert places.amin(0).tolist() == [0, 0, 0]
    assert places.amax(0).tolist() == [5, 3, 3]


def test_one_voxel_comes_from_where_all_voxels_say() -> None:
    for seed, patch in enumerate([(5, 9, 4), (12, 6, 1)]):
        wild = AugmentationPlan(spatial_probability=1, elastic_probability=1)
        augmentation = sample_augmentation(wild, (1.0, 1.5, 3.0), patch, np.random.default_rng(seed))
        everywhere = source_positions(patch, augmentation).numpy()
        for index in np.ndindex(patch):
            np.testing.assert_allclose(
                source_position(patch, augmentation, np.array(index)), everywhere[index], atol=1e-4
            )


def twice_read() -> TrainingCase:
    """The first reader drew the core only, the second the rim only."""
    assert BLOB.target is not None
    core, rim = (np.where(BLOB.target == value, value, 0).astype(np.uint8) for value in (1, 2))
    return index_case(replace(BLOB, target=core, others=(rim,)), seed=0)


def test_each_patch_is_of_one_reader() -> None:
    plan = plan_with(patch=(16, 16, 8), batch_size=1, positive_fraction=1.0)
    seen = [make_batch([twice_read()], plan, step).targets.numpy() for step in range(40)]
    assert all(1 not in values or 2 not in values for values in seen)
    assert 8 < sum(1 in values for values in seen) < 32


def test_a_structure_is_drawn_from_a_reader_who_drew_it() -> None:
    plan = plan_with(balance=1.0, off_centre=0.5, positive_fraction=1.0, batch_size=1)
    seen = Counter(int(make_batch([twice_read()], plan, step).targets.max()) for step in range(16))
    assert seen == {1: 8, 2: 8}


def two_channels(second: npt.NDArray[np.float32] | None = None) -> PreparedCase:
    other = BLOB.image[0] * 2 + 3 if second is None else second
    return replace(BLOB, image=np.stack([BLOB.image[0], other]))


def both(dropout: float) -> Plan:
    return tiny_plan(
        channels=("T1", "T2"),
        kinds=(*PLAN.kinds, *PLAN.kinds),
        normalisation=(*PLAN.normalisation, *PLAN.normalisation),
        augmentation=AugmentationPlan(channel_dropout=dropout),
    )


def test_channels_are_taken_away_but_never_all() -> None:
    case = index_case(two_channels(), seed=0, blank=(0.0, -1.0))
    batches = [make_batch([case], both(0.6), step).images for step in range(30)]
    gone = torch.cat([torch.stack([(b[:, 0] == 0), (b[:, 1] == -1)]).flatten(2).all(2).T for b in batches])
    assert not gone.all(1).any()
    assert gone.any(0).tolist() == [True, True]
    assert (~gone).all(1).any()


def test_a_channel_that_was_not_recorded_stays_as_it_is_and_keeps_the_other() -> None:
    missing = np.full_like(BLOB.image[0], -1)
    case = index_case(two_channels(missing), seed=0, blank=(0.0, -1.0))
    assert case.absent == (1,)
    for step in range(20):
        images = make_batch([case], both(0.9), step).images
        assert (images[:, 1] == -1).all()
        assert images[:, 0].std() > 0
