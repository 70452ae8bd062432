"""A network that is pointed at: its channels, the simulated person, what is learnt, and the way to a scan and back."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model import tiny_model
from torch import Tensor, nn

from delineate import training
from delineate.errors import InputError, ModelError, PlanError, TrainingError
from delineate.geometry import Grid, compose_affine
from delineate.inference.prompting import Prompts, encode, joined, propose
from delineate.planning import check_plan, plan_from_json, plan_to_json
from delineate.preprocessing import IGNORE, prepare
from delineate.sampling import index_case, make_batch
from delineate.settings import Settings, detect
from delineate.training.prompting import choose_target, prompted, prompting_plan
from delineate.training.simulated_prompts import correction, first_prompts
from delineate.volume import Volume
from delineate.workflow.prompting import Prompter, measure_prompted, open_prompter, train_promptable
from delineate.workflow.training import Budget, Division, train

PLAN = prompting_plan(tiny_plan())


def machine(folder: Path) -> Settings:
    return detect("cpu", threads=1, cache=folder / "cache")


def test_a_point_is_as_wide_in_mm_along_every_axis() -> None:
    plan = msgspec.structs.replace(PLAN, spacing_mm=(1.0, 2.0, 4.0))
    assert plan.prompting is not None
    sigma = plan.prompting.sigma_mm
    maps = encode(Prompts(positive=np.array([[10.0, 8.0, 4.0]])), None, (21, 17, 9), plan)
    assert maps.shape == (4, 21, 17, 9)
    assert maps[0, 10, 8, 4] == 1
    assert maps[0, 14, 8, 4] == maps[0, 10, 10, 4] == maps[0, 10, 8, 5]
    assert maps[0, 14, 8, 4] == pytest.approx(np.exp(-0.5 * (4 / sigma) ** 2))
    assert not maps[1:].any()


def test_a_box_is_filled_and_cut_at_the_patch() -> None:
    maps = encode(Prompts(box=np.array([[-3.0, 2.0, 1.0], [1.0, 3.0, 9.0]])), None, (4, 5, 6), PLAN)
    wanted = np.zeros((4, 5, 6))
    wanted[0:2, 2:4, 1:6] = 1
    assert np.array_equal(maps[2], wanted)


def test_what_lies_far_from_the_patch_is_not_drawn() -> None:
    maps = encode(Prompts(negative=np.array([[40.0, 2.0, 2.0]])), None, (4, 5, 6), PLAN)
    assert not maps.any()


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.sampled_from([(9, 7, 5), (12, 10, 1)]))
    return rng.random(shape) < draw(st.floats(0.02, 0.7))


@settings(max_examples=60, deadline=None)
@given(mask=masks(), seed=st.integers(0, 10**6))
def test_who_begins_points_at_the_structure(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], seed: int) -> None:
    drawn = first_prompts(mask, (1.0, 1.5, 3.0), np.random.default_rng(seed))
    assert bool(drawn) == bool(mask.any())
    assert mask[tuple(np.round(drawn.positive).astype(int).T)].all()
    assert len(drawn.negative) == 0


@settings(max_examples=60, deadline=None)
@given(mask=masks(), seed=st.integers(0, 10**6))
def test_who_corrects_points_at_a_mistake(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = mask ^ (rng.random(mask.shape) < 0.1)
    drawn = correction(mask, found, (1.0, 1.5, 3.0), rng)
    assert (mask & ~found)[tuple(np.round(drawn.positive).astype(int).T)].all()
    assert (found & ~mask)[tuple(np.round(drawn.negative).astype(int).T)].all()
    assert (len(drawn.positive) + len(drawn.negative) > 0) == bool((mask ^ found).any())


def test_the_thickest_mistake_is_corrected() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[2:10, 2:10, 2:10] = True
    found = np.zeros_like(mask)
    found[2:10, 2:10, 2:7] = True  # three slices missed
    found[14:16, 14:16, 14:16] = True  # and a crumb too much
    for seed in range(10):
        drawn = correction(mask, found, (1.0, 1.0, 1.0), np.random.default_rng(seed))
        assert len(drawn.positive) > 0


def test_one_structure_is_meant_and_what_is_unknown_stays_so() -> None:
    values = np.array([[[0, 1, 2, IGNORE]]])
    seen = {tuple(choose_target(values, np.random.default_rng(n)).ravel().tolist()) for n in range(20)}
    assert seen == {(0, 1, 0, IGNORE), (0, 0, 1, IGNORE)}


def test_a_batch_is_the_same_whenever_it_is_made() -> None:
    cases = [index_case(prepare(f"blob_{n}", *blob_case(n), PLAN), seed=0) for n in range(2)]
    network = training.start(PLAN).network
    losses = [float(prompted(network, make_batch(cases, PLAN, 3), PLAN).detach()) for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses[0] != float(prompted(network, make_batch(cases, PLAN, 4), PLAN).detach())


class Echo(nn.Module):
    """Says that what it is shown as drawn already, or boxed, is meant."""

    def forward(self, given: Tensor) -> Tensor:
        meant = torch.maximum(given[:, -1:], given[:, -2:-1])
        return torch.cat((0.5 - meant, meant - 0.5), dim=1) * 20


def scan(flips: tuple[int, int, int]) -> Volume:
    """Oblique and anisotropic, of either handedness; on the plan's own spacing, so that nothing is resampled."""
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    linear = turn @ np.diag(np.array(PLAN.spacing_mm) * np.array(flips))
    grid = Grid((26, 22, 18), compose_affine(linear, (10.0, -20.0, 5.0)))
    values = np.random.default_rng(0).normal(100, 10, (1, *grid.shape)).astype(np.float32)
    return Volume(values, grid, PLAN.kinds[0])


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1), (1, 1, -1)])
def test_what_is_drawn_comes_back_where_it_was(flips: tuple[int, int, int]) -> None:
    volume = scan(flips)
    current = np.zeros(volume.grid.shape, dtype=bool)
    current[6:12, 5:9, 4:7] = True
    current[11, 5:12, 6] = True
    plan = msgspec.structs.replace(PLAN, crop_foreground=False)
    prepared = prepare("scan", volume, None, plan)
    prompts = Prompts(positive=np.array([[7.0, 6.0, 5.0]]))
    proposal = propose(Echo(), prepared, plan, prompts, current=current)
    found = np.zeros_like(current)
    found[proposal.box.slices] = proposal.mask
    assert np.array_equal(found, current)


def test_a_box_larger_than_the_patch_is_looked_at_from_farther_away() -> None:
    volume = scan((1, 1, 1))
    plan = msgspec.structs.replace(PLAN, crop_foreground=False, patch_size=(8, 8, 8))
    prepared = prepare("scan", volume, None, plan)
    proposal = propose(Echo(), prepared, plan, Prompts(box=np.array([[2.0, 3.0, 2.0], [21.0, 18.0, 15.0]])))
    found = np.zeros(volume.grid.shape, dtype=bool)
    found[proposal.box.slices] = proposal.mask
    wanted = np.zeros_like(found)
    wanted[2:22, 3:19, 2:16] = True
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.85


def test_parts_that_nothing_points_at_are_left_out() -> None:
    volume = scan((1, 1, 1))
    plan = msgspec.structs.replace(PLAN, crop_foreground=False)
    current = np.zeros(volume.grid.shape, dtype=bool)
    current[6:9, 6:9, 6:9] = current[14:16, 14:16, 6:9] = True
    proposal = propose(
        Echo(),
        prepare("scan", volume, None, plan),
        plan,
        Prompts(positive=np.array([[7.0, 7.0, 7.0]])),
        current=current,
    )
    assert proposal.mask.sum() == 27


def test_nothing_says_where() -> None:
    prepared = prepare("scan", scan((1, 1, 1)), None, PLAN)
    with pytest.raises(InputError, match="nothing says where"):
        propose(Echo(), prepared, PLAN, Prompts(negative=np.array([[1.0, 1.0, 1.0]])))


def test_prompts_add_up_and_the_last_box_counts() -> None:
    first = Prompts(positive=np.ones((1, 3)), box=np.zeros((2, 3)))
    both = joined(first, Prompts(positive=np.zeros((2, 3)), negative=np.ones((1, 3))))
    assert (len(both.positive), len(both.negative), both.box is first.box) == (3, 1, True)


def test_a_plan_of_prompts_is_kept_and_checked() -> None:
    assert plan_from_json(plan_to_json(PLAN)) == PLAN
    assert (PLAN.inputs, PLAN.classes) == (len(PLAN.channels) + 4, 2)
    wrong = msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, missing_labels="unknown"))
    with pytest.raises(PlanError, match="missing labels"):
        check_plan(wrong)


@pytest.mark.slow
def test_a_model_learns_to_be_pointed_at_and_is_measured(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "blobs", 6)
    plan = msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, learning_rate=5e-3))
    division = Division(hold_out=2)
    made = train_promptable(
        dataset, tmp_path / "model", budget=Budget(steps=150), division=division, settings=machine(tmp_path), plan=plan
    )
    assert made is not None
    model, record = made
    assert record.cases == tuple(case.id for case in dataset.cases[-2:])
    blank = Prompter(replace(model, weights=training.start(plan).network.state_dict()))
    untaught = measure_prompted(blank.model, dataset, record.cases, settings=machine(tmp_path))
    taught, guessed = (np.array([row.dice for row in one.structures]).mean(axis=0) for one in (record, untaught))
    assert taught[0] > guessed[0] + 0.1
    assert taught[-1] > taught[0]  # to point again helps
    again = train_promptable(
        dataset, tmp_path / "model", budget=Budget(steps=150), division=division, settings=machine(tmp_path)
    )
    assert again is not None
    assert again[0].digest == model.digest
    assert open_prompter(tmp_path / "model").model.digest == model.digest
    with pytest.raises(TrainingError, match="another kind of run"):
        train(dataset, tmp_path / "model", budget=Budget(steps=160), division=division, settings=machine(tmp_path))


def test_a_model_that_takes_no_prompts_is_refused() -> None:
    with pytest.raises(ModelError, match="takes no prompts"):
        Prompter(tiny_model())
