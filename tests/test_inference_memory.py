import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest
from anatomy import LABELS, oblique_grid, tiny_plan
from test_model import PROVENANCE, tiny_model

from delineate.engines import EngineChoice
from delineate.errors import ResourceError
from delineate.geometry import Grid
from delineate.inference import InferenceOptions
from delineate.inference.foreseeing import foresee, scan_demand
from delineate.inference.memory import Demand, estimate, fit
from delineate.inference.streaming import Streaming
from delineate.inference.windows import layout
from delineate.model import Model
from delineate.planning import NetworkPlan, Plan, Tiling
from delineate.postprocessing import Rule

LARGE = tiny_plan(
    labels=tuple(f"structure {n}" for n in range(1, 117)),
    patch_size=(128, 128, 128),
    network=NetworkPlan(
        architecture="nnunet", features=(32, 64), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3), (3, 3, 3))
    ),
)
DEMAND = Demand(scan=(512, 512, 800), prepared=(256, 256, 533), held_bytes=400_000_000)


def test_sums_cover_one_window_along_the_axis_not_the_scan() -> None:
    sums = [estimate(DEMAND, LARGE, Streaming(axis=axis)).sums for axis in range(3)]
    assert sums[0] == sums[1] == 256 * 533 * 128 * (117 * 4 + 4)
    assert sums[2] == 256 * 256 * 128 * (117 * 4 + 4)
    longer = replace(DEMAND, prepared=(256, 256, 5330))
    assert estimate(longer, LARGE, Streaming(axis=2)).sums == sums[2]


def test_the_longest_axis_is_streamed_where_it_saves_much() -> None:
    assert fit(DEMAND, LARGE)[0].axis == 2
    assert fit(replace(DEMAND, prepared=(256, 256, 267)), LARGE)[0].axis == 0
    assert fit(replace(DEMAND, prepared=(100, 400, 120)), LARGE)[0].axis == 1


def test_less_memory_thinner_slabs_then_sums_in_half_precision() -> None:
    how, needed = fit(DEMAND, LARGE)
    found = [how]
    while not how.half:
        memory = needed.total - 1
        how, needed = fit(DEMAND, LARGE, memory)
        assert needed.total <= memory
        found.append(how)
    thickness = [way.planes for way in found if not way.half]
    assert len(found) > 2
    assert thickness == sorted(set(thickness), reverse=True)


def test_what_would_do_is_said_where_nothing_fits() -> None:
    with pytest.raises(ResourceError, match=r"at most 2.0 GB, got at least .*network.*--memory-gb.*bfloat16.*--locate"):
        fit(DEMAND, LARGE, 2_000_000_000)
    with pytest.raises(ResourceError, match=r"run it on the CPU"):
        fit(replace(DEMAND, device=True), LARGE, 2_000_000_000)


def test_half_the_precision_takes_half_the_activations() -> None:
    plan = msgspec.structs.replace(LARGE, labels=("one",))
    full, half = (estimate(replace(DEMAND, precision=p), plan, Streaming()) for p in ("float32", "bfloat16"))
    assert 0.45 < half.network / full.network < 0.6


def test_folds_and_mirrors_hold_their_sum_meanwhile() -> None:
    once, often = (estimate(replace(DEMAND, passes=n), LARGE, Streaming()).network for n in (1, 8))
    assert often - once == 117 * 128**3 * 4


def test_sums_as_nnunet_makes_them_go_along_its_first_axis_and_are_kept_for_each_fold() -> None:
    plan = msgspec.structs.replace(LARGE, tiling=Tiling(centre="nnunet", sums="nnunet"))
    demand = replace(DEMAND, folds=3, passes=3)
    how, needed = fit(demand, plan)
    assert (how.axis, how.half) == (2, True)
    padded = layout(DEMAND.prepared, plan).padded
    across, extent = padded[0] * padded[1], plan.patch_size[2]
    assert needed.sums == 2 * across * extent * (3 * plan.classes + 1)
    once = estimate(replace(demand, folds=1, passes=1), plan, how)
    assert needed.network - once.network == 4 * 4 * plan.classes * 128**3


def test_on_a_gpu_the_gpus_memory_counts() -> None:
    there = estimate(replace(DEMAND, device=True, volume_bytes=10**9, labels_bytes=10**9), LARGE, Streaming())
    assert (there.process, there.volume, there.labels) == (0, 0, 0)
    assert there.total == there.network + there.sums + there.slab


def test_many_slices_at_a_time_become_fewer_where_memory_is_short() -> None:
    flat = tiny_plan(
        patch_size=(64, 64, 1),
        network=NetworkPlan(
            architecture="nnunet", features=(32, 64), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3))
        ),
    )
    demand = replace(DEMAND, scan=(64, 64, 60), prepared=(64, 64, 60))
    plenty, needed = fit(demand, flat)
    tight, _ = fit(demand, flat, needed.total - 5_000_000)
    assert (plenty.batch, tight.batch) == (16, 8)
    assert plenty.axis == tight.axis == 2


def test_the_estimate_reads_like_a_sentence() -> None:
    text = str(estimate(DEMAND, LARGE, Streaming(axis=2)))
    assert text == "6.8 GB (sums 4.0, network 2.0, slab 0.5, process 0.4)"


def test_a_scan_is_foreseen_from_its_grid() -> None:
    grid, plan = oblique_grid((200, 160, 120)), tiny_plan()
    demand = scan_demand(grid, plan, EngineChoice(), folds=5, options=InferenceOptions())
    assert demand.prepared == (150, 160, 150)
    assert demand.passes == 5
    assert demand.labels_bytes == 200 * 160 * 120
    assert demand.prepared_bytes == 4 * 150 * 160 * 150


def foreseen(model: Model, grid: Grid, **options: object) -> int:
    chosen = InferenceOptions(**options)  # type: ignore[arg-type]
    return foresee(model, grid, EngineChoice(), options=chosen, held_bytes=10**8).total


def test_the_stage_that_takes_most_decides() -> None:
    grid = oblique_grid((200, 160, 120))
    small = tiny_model()
    large = replace(small, plan=tiny_plan(spacing_mm=(0.6, 0.6, 1.0)), postprocessing=())
    alone = foreseen(large, grid)
    assert foreseen(small, grid) < alone <= foreseen(replace(small, previous=large), grid) < 1.2 * alone


def test_looking_for_components_counts() -> None:
    grid, plan = oblique_grid((400, 400, 300)), tiny_plan(spacing_mm=(4.0, 4.0, 4.0))
    plain = Model({}, plan, LABELS, PROVENANCE)
    ruled = replace(plain, postprocessing=(Rule(label="core", largest_only=True),))
    assert foreseen(ruled, grid) - foreseen(plain, grid) > 4 * 400 * 400 * 300


def test_arrays_in_files_take_no_memory() -> None:
    grid = oblique_grid((400, 400, 300))
    plain = Model({}, tiny_plan(), LABELS, PROVENANCE)
    assert foreseen(plain, grid) - foreseen(plain, grid, mapped_from=10**6) >= 400 * 400 * 300


def test_the_process_holds_what_it_was_given() -> None:
    # In a process of its own: in this one the array may lie where other tests' arrays were, which it holds already.
    script = (
        "import numpy as np; from delineate.inference.memory import process_bytes as held;"
        "before = held(); array = np.ones(50_000_000, dtype=np.uint8); print(held() - before)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 40_000_000 < int(ran.stdout) < 80_000_000


def test_a_plan_with_mirrors_is_counted_with_its_folds() -> None:
    plan: Plan = tiny_plan(tiling=Tiling(mirror_axes=(0, 1)))
    demand = scan_demand(oblique_grid(), plan, EngineChoice(), folds=2, options=InferenceOptions())
    assert demand.passes == 8
