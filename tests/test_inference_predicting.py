from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from anatomy import blob_case, tiny_plan
from torch import Tensor

from delineate.engines import EngineChoice
from delineate.errors import ResourceError
from delineate.geometry import ORIENTATIONS, Grid
from delineate.inference import InferenceOptions, dice_per_label, predict_stage
from delineate.inference.validating import predict_logits
from delineate.planning import Plan, Preparation, Region, Tiling, Window
from delineate.preprocessing import prepare, restore_logits
from delineate.volume import Kind, Volume, reorient

PLAN = tiny_plan(
    normalisation=(Window(lower=0, upper=300, to_upper=3),), spacing_mm=(0.7, 1.5, 1.9), patch_size=(16, 8, 8)
)
REGIONS = msgspec.structs.replace(
    PLAN, regions=(Region(name="core", values=(1, 2), paints=2), Region(name="rim", values=(1,), paints=1))
)


@dataclass
class Rings:
    """Logits of three classes from the intensity, and of two regions where the plan has regions."""

    plan: Plan
    choice: EngineChoice = field(default_factory=EngineChoice)

    def __call__(self, windows: Tensor) -> Tensor:
        value = windows[:, 0]
        if self.plan.regions:
            return torch.stack([value - 1.3, value - 2.0], dim=1)
        return torch.stack([-(value - 1.0).abs(), -(value - 2.5).abs(), -(value - 1.6).abs()], dim=1)


class RingNetwork(torch.nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.rings = Rings(plan)

    def forward(self, windows: Tensor) -> Tensor:
        return self.rings(windows)


def at_once(volume: Volume, plan: Plan) -> npt.NDArray[Any]:
    """The whole logits first, then the label map."""
    prepared = prepare("", volume, None, plan)
    return restore_logits(predict_logits(RingNetwork(plan), prepared.image, plan), prepared.trace, plan)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
@pytest.mark.parametrize("plan", [PLAN, REGIONS], ids=["classes", "regions"])
def test_labels_are_those_of_the_whole_logits_in_the_scans_own_grid(plan: Plan, orientation: str) -> None:
    volume = reorient(blob_case(1)[0], orientation)
    result = predict_stage(prepare("", volume, None, plan), plan, [Rings(plan)])
    assert set(np.unique(result.labels)) == {0, 1, 2}
    np.testing.assert_array_equal(result.labels, at_once(volume, plan))


@pytest.mark.parametrize("size", [(9, 40, 12), (40, 12, 9), (10, 12, 44)])
def test_scans_that_are_long_along_any_axis_give_the_same(size: tuple[int, int, int]) -> None:
    volume = blob_case(2, shape=size)[0]
    plan = msgspec.structs.replace(PLAN, orientation="stored", preparation=Preparation(axes=(1, 2, 0)))
    result = predict_stage(prepare("", volume, None, plan), plan, [Rings(plan)])
    np.testing.assert_array_equal(result.labels, at_once(volume, plan))


def test_slices_resampled_one_by_one_give_the_same() -> None:
    how = Preparation(resampling="nnunet", slice_wise="always", normalise_first=True)
    plan = msgspec.structs.replace(PLAN, preparation=how, tiling=Tiling(padding="zero", centre="nnunet"))
    volume = blob_case(3)[0]
    result = predict_stage(prepare("", volume, None, plan), plan, [Rings(plan)])
    np.testing.assert_array_equal(result.labels, at_once(volume, plan))


def test_regions_are_found_where_they_are() -> None:
    volume, reference = blob_case(4)
    result = predict_stage(prepare("", volume, None, REGIONS), REGIONS, [Rings(REGIONS)])
    drawn = np.where(reference.array == 1, 1, np.where(reference.array == 2, 2, 0)).astype(np.uint8)
    assert dice_per_label(result.labels, drawn, 3).min() > 0.9


@pytest.mark.parametrize("plan", [PLAN, REGIONS], ids=["classes", "regions"])
def test_probabilities_belong_to_the_labels(plan: Plan) -> None:
    volume = blob_case(5)[0]
    options = InferenceOptions(with_probabilities=True)
    result = predict_stage(prepare("", volume, None, plan), plan, [Rings(plan)], options=options)
    assert result.probabilities is not None
    assert result.probabilities.shape == (plan.classes, *volume.grid.shape)
    if plan.regions:
        assert ((result.probabilities[1] > 0.55) <= (result.labels == 1)).all()
    else:
        np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-4)
        assert (result.probabilities.argmax(0) == result.labels).mean() > 0.99


def test_the_label_map_may_lie_in_a_file(tmp_path: Path) -> None:
    def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.memmap(tmp_path / "labels", dtype=dtype, mode="w+", shape=shape)

    volume = blob_case(1)[0]
    prepared = prepare("", volume, None, PLAN)
    mapped = predict_stage(prepared, PLAN, [Rings(PLAN)], options=InferenceOptions(allocate=allocate)).labels
    np.testing.assert_array_equal(mapped, at_once(volume, PLAN))
    assert (tmp_path / "labels").stat().st_size == mapped.size


def test_air_is_left_out_of_a_ct_and_counted() -> None:
    plan = msgspec.structs.replace(
        PLAN,
        kinds=(Kind.CT,),
        spacing_mm=(12.0, 12.0, 12.0),
        normalisation=(Window(lower=-1000, upper=500, to_upper=3),),
        crop_foreground=False,
    )
    volume = blob_case(1, shape=(40, 20, 20))[0]
    hu = np.where(volume.array > 130, 200, -1000).astype(np.float32)
    large = Volume(hu, Grid(volume.grid.shape, volume.grid.affine @ np.diag([13, 10, 5, 1.0])), Kind.CT)
    prepared = prepare("", large, None, plan)
    run, all_run = (
        predict_stage(prepared, plan, [Rings(plan)], options=InferenceOptions(skip_air=skip)) for skip in (True, False)
    )
    assert run.windows.skipped > 0 == all_run.windows.skipped
    np.testing.assert_array_equal(run.labels, all_run.labels)


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    predict_stage(prepare("", blob_case(0)[0], None, PLAN), PLAN, [Rings(PLAN)], progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_too_little_memory_is_said_before_the_network_runs() -> None:
    def never(windows: Tensor) -> Tensor:
        raise AssertionError("the network was run")

    never.choice = EngineChoice()  # type: ignore[attr-defined]
    prepared = prepare("", blob_case(0)[0], None, PLAN)
    with pytest.raises(ResourceError, match=r"at most 0.1 GB.*--memory-gb"):
        predict_stage(prepared, PLAN, [never], options=InferenceOptions(memory_bytes=100_000_000))  # type: ignore[list-item]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("memory_bytes", [None, 10**9])
def test_a_gpu_gives_the_same_labels(memory_bytes: int | None) -> None:
    volume = blob_case(6, shape=(50, 40, 30))[0]
    prepared, options = prepare("", volume, None, PLAN), InferenceOptions(memory_bytes=memory_bytes)
    there = predict_stage(prepared, PLAN, [Rings(PLAN, EngineChoice(device="cuda"))], options=options)
    assert (there.labels == at_once(volume, PLAN)).mean() > 0.9999
