from functools import partial

import msgspec
import numpy as np
import pytest
import torch
from anatomy import oblique_grid, tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from known_networks import known_runners
from torch import Tensor, nn

from delineate.geometry import Box, Triple, box_of
from delineate.inference.focusing import layout_within, windows_around
from delineate.inference.predicting import InferenceOptions, StageResult, predict_stage
from delineate.inference.windows import layout
from delineate.planning import Plan, Preparation, Tiling
from delineate.preprocessing import Focus, prepare
from delineate.volume import Kind, Volume

BOX = Box((20, 14, 3), (31, 22, 12))


class Contextual(nn.Module):
    """What it says of a voxel depends on all of the window, and on where in the window the voxel lies."""

    def forward(self, image: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, image.shape[2]).reshape(1, -1, 1, 1)
        one = image[:, 0] * image[:, 0].std() + image[:, 0].mean()
        return torch.stack([one, one.flip(1) * place, -one + place], dim=1)


def noise(shape: Triple = (50, 40, 20)) -> Volume:
    rng = np.random.default_rng(5)
    return Volume(rng.normal(100, 30, (1, *shape)).astype(np.float32), oblique_grid(shape), Kind.MR)


def run(plan: Plan, box: Box | None, *, least_share: float = 0.0, volume: Volume | None = None) -> StageResult:
    focus = None if box is None else Focus(box, partial(windows_around, plan=plan, least_share=least_share))
    case = prepare("", volume or noise(), None, plan, region=focus)
    return predict_stage(
        case, plan, known_runners(plan, Contextual()).folds, options=InferenceOptions(with_probabilities=True)
    )


def probabilities_in(result: StageResult, box: Box) -> np.ndarray:
    assert result.probabilities is not None
    return result.probabilities[(slice(None), *box.slices)]


@pytest.mark.parametrize("orientation", ["RAS", "PSL", "IRP"])
@pytest.mark.parametrize("resampling", ["delineate", "nnunet"])
def test_a_part_comes_out_as_in_the_whole(orientation: str, resampling: str) -> None:
    preparation = Preparation(resampling=resampling, axes=(1, 0, 2))  # type: ignore[arg-type]
    plan = tiny_plan(orientation=orientation, preparation=preparation)
    whole, part = run(plan, None), run(plan, BOX)
    assert part.windows.run < whole.windows.run
    np.testing.assert_allclose(probabilities_in(part, BOX), probabilities_in(whole, BOX), atol=1e-5)
    np.testing.assert_array_equal(part.labels[BOX.slices], whole.labels[BOX.slices])


def test_outside_of_the_part_all_is_background() -> None:
    result = run(tiny_plan(), BOX)
    outside = np.ones(result.labels.shape, bool)
    outside[BOX.slices] = False
    assert not result.labels[outside].any()
    assert result.labels.any()


def test_windows_that_only_graze_the_part_are_left_out() -> None:
    plan = tiny_plan()
    every, most = run(plan, BOX), run(plan, BOX, least_share=0.05)
    assert most.windows.run < every.windows.run
    assert np.abs(probabilities_in(every, BOX) - probabilities_in(most, BOX)).max() < 0.1


def test_no_window_is_left_out_where_all_count_alike() -> None:
    plan = tiny_plan(tiling=Tiling(gaussian=False))
    assert run(plan, BOX, least_share=0.05).windows == run(plan, BOX).windows


def test_a_scan_smaller_than_a_patch_is_padded_as_in_the_whole() -> None:
    volume, plan = noise((50, 9, 20)), tiny_plan()
    box = Box((20, 3, 3), (31, 7, 12))
    whole, part = (run(plan, b, volume=volume) for b in (None, box))
    np.testing.assert_array_equal(part.labels[box.slices], whole.labels[box.slices])


def test_a_part_without_windows_of_the_whole_has_its_own() -> None:
    plan = tiny_plan()
    part = Box((3, 5, 1), (30, 24, 12))
    assert layout_within((60, 60, 30), part, plan) == layout(part.shape, plan)


@settings(deadline=None)
@given(data=st.data())
def test_what_windows_cover_holds_the_part_and_is_made_of_windows(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 70)] * 3))
    ends = [sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))) for n in shape]
    box = box_of((a, b + 1) for a, b in ends)
    plan = msgspec.structs.replace(
        tiny_plan(), tiling=Tiling(overlap=data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.8])))
    )
    part = windows_around(shape, box, plan, least_share=data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])))
    assert all(a <= b for a, b in zip(part.start, box.start, strict=True))
    assert all(a >= b for a, b in zip(part.stop, box.stop, strict=True))
    windows, whole = layout_within(shape, part, plan), layout(shape, plan)
    for inside, every, start in zip(windows.starts, whole.starts, part.start, strict=True):
        assert {n + start for n in inside} <= set(every)
