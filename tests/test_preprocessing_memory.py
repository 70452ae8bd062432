"""Preparing holds no copy of the scan, and says before what it will take."""

import tracemalloc

import numpy as np
import pytest
from anatomy import oblique_grid, tiny_plan

from delineate.planning import ClipZScore, Normalisation, Plan, Preparation, Rescale, Unchanged, ZScore
from delineate.preprocessing import prepare, prepare_bytes, prepared_shape
from delineate.volume import Kind, Volume

GRID = oblique_grid((160, 150, 140), (0.75, 0.8, 1.2))
CLIP = ClipZScore(lower=-900, upper=1000, mean=40, std=200)


@pytest.fixture(scope="module")
def volume() -> Volume:
    rng = np.random.default_rng(0)
    array = np.asfortranarray(rng.integers(-500, 1500, GRID.shape, dtype=np.int16))
    array[:, :9], array[:, 30, 40] = 0, 0
    array[0, 0, 0] = array[-1, -1, -1] = 1
    return Volume(array[None], GRID, Kind.MR)


def a_plan(how: Normalisation, *, resampling: str = "nnunet", slice_wise: str = "never", **more: object) -> Plan:
    preparation = Preparation(
        crop_to="nonzero",
        normalise_first=resampling == "nnunet",
        resampling=resampling,  # type: ignore[arg-type]
        slice_wise=slice_wise,  # type: ignore[arg-type]
    )
    return tiny_plan(normalisation=(how,), preparation=preparation, orientation="RAS", **more)


PLANS = [
    a_plan(CLIP, spacing_mm=(1.5, 1.5, 1.5)),
    a_plan(ZScore(masked=True), spacing_mm=(1.5, 1.5, 1.5)),
    a_plan(ZScore(), spacing_mm=(1.5, 1.5, 1.5), slice_wise="always"),
    a_plan(Unchanged(), spacing_mm=(4, 4, 4)),
    a_plan(ZScore(), resampling="delineate", spacing_mm=(1.5, 1.5, 1.5)),
    a_plan(Rescale(), resampling="delineate", spacing_mm=(0.75, 0.8, 1.2)),
]


@pytest.mark.parametrize("plan", PLANS)
def test_the_peak_is_what_was_said(volume: Volume, plan: Plan) -> None:
    prepare("warm", volume, None, plan)  # compiles the kernels
    tracemalloc.start()
    image = prepare("a", volume, None, plan).image
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = prepare_bytes(GRID, plan)
    assert prepared_shape(GRID, plan) == image.shape[1:]
    assert 0.5 * expected < peak < 1.1 * expected
