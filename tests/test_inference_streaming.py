import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from anatomy import tiny_plan
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from delineate.engines import EngineChoice
from delineate.geometry import Triple
from delineate.inference.air import find_air
from delineate.inference.streaming import Streaming, WindowCount, _ahead, batch_size, mean_logits, stream_logits
from delineate.inference.windows import axis_starts, layout, mirrors, nnunet_weight, window_weight
from delineate.planning import ClipZScore, NetworkPlan, Plan, Tiling, Window, ZScore
from delineate.volume import Kind

Image = npt.NDArray[np.float32]

PLAN = tiny_plan(patch_size=(8, 6, 4), tiling=Tiling(overlap=0.5))
FLAT = tiny_plan(
    patch_size=(8, 6, 1),
    network=NetworkPlan(architecture="nnunet", features=(4, 8), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3))),
)


@dataclass
class Known:
    """A runner whose answer depends on the whole window and on the place in it: no two windows agree."""

    seed: int = 0
    sizes: list[int] = field(default_factory=list)
    choice: EngineChoice = field(default_factory=EngineChoice)

    def __call__(self, windows: Tensor) -> Tensor:
        self.sizes.append(len(windows))
        kernel = torch.randn((3, 1, 3, 3, 3), generator=torch.Generator().manual_seed(self.seed))
        place = torch.linspace(0, 1, windows.shape[2]).reshape(-1, 1, 1)
        return functional.conv3d(windows, kernel, padding=1) + windows.mean((1, 2, 3, 4), keepdim=True) + place


@dataclass
class Reused(Known):
    """Writes every result over the one before, as an engine may that plans its memory."""

    held: Tensor = field(default_factory=lambda: torch.empty(0))

    def __call__(self, windows: Tensor) -> Tensor:
        logits = super().__call__(windows)
        if self.held.shape != logits.shape:
            self.held = logits
        return self.held.copy_(logits)


def noise(shape: Triple = (21, 13, 10), seed: int = 0) -> Image:
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


def joined(image: Image, plan: Plan, runners: list[Any], how: Streaming, **more: Any) -> Image:
    logits = np.full((plan.classes, *image.shape[1:]), np.nan, dtype=np.float32)
    done = 0
    for planes, slab in stream_logits(image, plan, runners, how=how, **more):
        assert planes.start == max(0, done - how.shared)
        np.moveaxis(logits, 1 + how.axis, 0)[planes] = np.moveaxis(slab, 1 + how.axis, 0)
        done = planes.stop
    assert done == image.shape[1 + how.axis]
    return logits


def naive(image: Image, plan: Plan, run: Callable[[Tensor], Tensor]) -> Image:
    """Every window added to the whole volume."""
    windows, weight = layout(image.shape[1:], plan), window_weight(plan)
    total, weights = np.zeros((plan.classes, *windows.padded)), np.zeros(windows.padded)
    edge = 0.0 if plan.tiling.padding == "zero" else image.min()
    padded = np.pad(image, [(0, 0), *windows.padding], constant_values=edge)
    for start in windows.along(0):
        at = tuple(slice(a, a + n) for a, n in zip(start, plan.patch_size, strict=True))
        total[(slice(None), *at)] += run(torch.from_numpy(padded[(slice(None), *at)])[None])[0].numpy() * weight
        weights[at] += weight
    inside = tuple(slice(b, b + n) for (b, _), n in zip(windows.padding, image.shape[1:], strict=True))
    return np.asarray((total / weights)[(slice(None), *inside)], dtype=np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("batch", "planes", "shared"), [(1, 100, 0), (3, 2, 1), (4, 1, 3)])
def test_slabs_are_the_whole_in_pieces(axis: int, batch: int, planes: int, shared: int) -> None:
    how = Streaming(axis=axis, batch=batch, planes=planes, shared=shared)
    streamed = joined(noise(), PLAN, [Known()], how)
    np.testing.assert_allclose(streamed, naive(noise(), PLAN, Known()), atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("padding", ["lowest", "zero"])
def test_a_scan_smaller_than_the_window_is_surrounded_as_the_plan_says(axis: int, padding: Any) -> None:
    plan = msgspec.structs.replace(PLAN, tiling=Tiling(padding=padding, centre="nnunet"))
    image = noise((5, 13, 3))
    streamed = joined(image, plan, [Known()], Streaming(axis=axis, planes=2))
    np.testing.assert_allclose(streamed, naive(image, plan, Known()), atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_networks_in_two_dimensions_get_many_slices_at_a_time(axis: int) -> None:
    runner = Known()
    streamed = joined(noise(), FLAT, [runner], Streaming(axis=axis, batch=batch_size(FLAT), planes=3))
    np.testing.assert_allclose(streamed, naive(noise(), FLAT, Known()), atol=1e-4)
    assert max(runner.sizes) > 8


@pytest.mark.parametrize("centre", ["middle", "nnunet"])
def test_sums_in_half_precision_round_logits_a_little(centre: Any) -> None:
    plan = msgspec.structs.replace(PLAN, tiling=Tiling(centre=centre))
    exact, half = (joined(noise(), plan, [Known()], Streaming(half=half)) for half in (False, True))
    assert 0 < np.abs(exact - half).max() < 2e-3 * np.abs(exact).max()


def test_folds_and_mirrors_are_averaged() -> None:
    plan = msgspec.structs.replace(PLAN, tiling=Tiling(mirror_axes=(0, 2)))
    combinations = [(), (2,), (4,), (2, 4)]

    def mean(window: Tensor) -> Tensor:
        return sum(Known(seed)(window.flip(axes)).flip(axes) for seed in (0, 1) for axes in combinations) / 8  # type: ignore[return-value]

    assert list(mirrors(plan.tiling)) == combinations
    streamed = joined(noise(), plan, [Known(0), Known(1)], Streaming())
    np.testing.assert_allclose(streamed, naive(noise(), plan, mean), atol=1e-4)


def nnunets(image: Image, plan: Plan, seeds: tuple[int, ...]) -> Image:
    """What nnU-Net 2.8 does with a whole volume, on arrays (C, K, J, I) as it has them: float16 throughout."""
    windows = layout(image.shape[1:], plan)
    padded = torch.from_numpy(np.pad(image, [(0, 0), *windows.padding]).transpose(0, 3, 2, 1).copy())
    weight = torch.from_numpy(window_weight(plan).transpose(2, 1, 0).copy()).half()
    starts = sorted(start[::-1] for start in itertools.product(*windows.starts))
    mirrored = [2 - axis for axis in sorted(plan.tiling.mirror_axes, reverse=True)]
    combinations = [c for n in range(len(mirrored)) for c in itertools.combinations(mirrored, n + 1)]

    def network(seed: int, x: Tensor) -> Tensor:
        return Known(seed)(x.permute(0, 1, 4, 3, 2).contiguous()).permute(0, 1, 4, 3, 2)

    total: Tensor | None = None
    for seed in seeds:
        logits = torch.zeros((plan.classes, *padded.shape[1:]), dtype=torch.half)
        counts = torch.zeros(padded.shape[1:], dtype=torch.half)
        for start in starts:
            at = tuple(slice(a, a + n) for a, n in zip(start, plan.patch_size[::-1], strict=True))
            window = padded[(slice(None), *at)][None]
            prediction = network(seed, window)
            for axes in combinations:
                dims = [2 + axis for axis in axes]
                prediction += network(seed, window.flip(dims)).flip(dims)
            prediction /= len(combinations) + 1
            logits[(slice(None), *at)] += prediction[0] * weight
            counts[at] += weight
        logits /= counts
        total = logits if total is None else total.add_(logits)
    assert total is not None
    if len(seeds) > 1:
        total /= len(seeds)
    inside = tuple(slice(b, b + n) for (b, _), n in zip(windows.padding, image.shape[1:], strict=True))
    return np.asarray(total.float().numpy().transpose(0, 3, 2, 1)[(slice(None), *inside)])


@pytest.mark.parametrize("planes", [1, 3, 100])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize(("base", "shape"), [(PLAN, (21, 13, 10)), (PLAN, (5, 13, 3)), (FLAT, (21, 13, 10))])
def test_sums_as_nnunet_makes_them_are_its_sums_to_the_bit(
    base: Plan, shape: Triple, seeds: tuple[int, ...], planes: int
) -> None:
    mirror_axes = (0, 1) if base is FLAT else (0, 1, 2)
    tiling = Tiling(centre="nnunet", padding="zero", mirror_axes=mirror_axes, sums="nnunet")
    plan = msgspec.structs.replace(base, tiling=tiling)
    how = Streaming(axis=2, half=True, planes=planes, shared=min(1, planes - 1))
    ours = joined(noise(shape), plan, [Known(seed) for seed in seeds], how)
    np.testing.assert_array_equal(ours, nnunets(noise(shape), plan, seeds))


def test_a_runner_may_write_over_its_last_result() -> None:
    windows, mirrored = torch.from_numpy(noise((8, 6, 4)))[None], [(), (2,), (3,)]
    torch.testing.assert_close(mean_logits([Reused()], windows, mirrored), mean_logits([Known()], windows, mirrored))


def test_windows_start_where_nnunet_starts_them() -> None:
    assert axis_starts(110, 64, 0.5) == (0, 23, 46)
    assert axis_starts(64, 64, 0.5) == axis_starts(40, 64, 0.5) == (0,)
    assert axis_starts(94, 64, 0.7) == (0, 15, 30)
    assert axis_starts(5, 1, 0.5) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("patch", [(20, 28, 16), (64, 9, 40), (12, 30, 1)])
def test_the_weight_is_nnunets_to_the_bit(patch: Triple) -> None:
    reversed_ = tuple(reversed(patch))
    shape = reversed_[1:] if patch[2] == 1 else reversed_
    impulse = np.zeros(shape)
    impulse[tuple(n // 2 for n in shape)] = 1
    expected = gaussian_filter(impulse, [n / 8 for n in shape], 0, mode="constant", cval=0)
    rounded = torch.from_numpy(expected / (expected.max() / 10)).to(dtype=torch.float16)
    rounded[rounded == 0] = rounded[rounded != 0].min()
    np.testing.assert_array_equal(nnunet_weight(patch), rounded.float().numpy().T.reshape(patch))


HU = ClipZScore(lower=-1000, upper=1000, mean=100, std=200)


def ct_plan(**changes: Any) -> Plan:
    values = {"kinds": (Kind.CT,), "normalisation": (HU,), "spacing_mm": (20.0, 20.0, 30.0)}
    return tiny_plan(**{"patch_size": (8, 6, 4)} | values | changes)


def body_in_air(lower: float = -1000) -> Image:
    """Normalised: air at -1000 HU, noisy, and a body of 40 HU in one corner."""
    hu = np.random.default_rng(0).normal(-1000, 15, (1, 40, 13, 10))
    hu[:, 3:9, 5:, 2:7] = 40
    return np.asarray((np.clip(hu, lower, 1000) - 100) / 200, dtype=np.float32)


@dataclass
class Body(Known):
    """Finds class 1 where there is tissue, as sure as a trained network is."""

    def __call__(self, windows: Tensor) -> Tensor:
        self.sizes.append(len(windows))
        found = torch.where(windows[:, :1] > -1, 8.0, -8.0)
        return torch.cat([-found, found, torch.full_like(found, -9)], dim=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("lower", [-1000, -200])
def test_windows_of_air_are_left_out_and_nothing_changes(axis: int, lower: float) -> None:
    plan = ct_plan(normalisation=(msgspec.structs.replace(HU, lower=lower),))
    runner, how, counts = Body(), Streaming(axis=axis, planes=3, shared=1), [WindowCount(0, 0, 1)]
    skipping = joined(body_in_air(lower), plan, [runner], how, air=find_air(plan), watch=counts.append)
    everything = joined(body_in_air(lower), plan, [Body()], how)
    assert counts[-1].skipped > 0.5 * counts[-1].total
    assert counts[-1].run == sum(runner.sizes) == counts[-1].total - counts[-1].skipped
    assert counts[-1].share == 1
    np.testing.assert_array_equal(skipping.argmax(0), everything.argmax(0))
    assert (everything.argmax(0) == 1).any()


def test_nothing_is_left_out_where_it_is_not_known_to_be_air() -> None:
    assert find_air(ct_plan()) is not None
    assert find_air(ct_plan(normalisation=(Window(lower=-1000, upper=400),))) is not None
    for changes in (
        {"kinds": (Kind.MR,)},
        {"normalisation": (ZScore(),)},
        {"normalisation": (Window(lower=-100, upper=300),)},
        {"spacing_mm": (1.5, 20.0, 30.0)},
        {"channels": ("CT", "PET"), "kinds": (Kind.CT, Kind.PET), "normalisation": (HU, HU)},
    ):
        assert find_air(ct_plan(**changes)) is None


def test_a_window_in_which_the_stage_before_found_something_is_run() -> None:
    air = find_air(ct_plan(previous=("core",)))
    assert air is not None
    window = np.full((2, 8, 6, 4), -5.5, dtype=np.float32)
    window[1] = 0
    assert air.fills(window)
    window[1, 3, 2, 1] = 1
    assert not air.fills(window)


def test_slabs_made_ahead_are_the_same_and_pass_errors_on() -> None:
    slabs = [(slice(n, n + 1), noise()) for n in range(5)]
    assert [planes for planes, _ in _ahead(iter(slabs))] == [planes for planes, _ in slabs]

    def failing() -> Any:
        yield slabs[0]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(_ahead(failing()))


def test_slabs_that_nobody_wants_any_more_stop_being_made() -> None:
    made: list[int] = []

    def endless() -> Any:
        while True:
            made.append(1)
            yield slice(0, 1), noise((1, 1, 1))

    slabs = _ahead(endless())
    next(slabs)
    slabs.close()  # type: ignore[attr-defined]
    count = len(made)
    assert count < 10
    assert len(made) == count
