import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_networks import PLAN, Nearest, clean_case
from test_model import tiny_model

from delineate.inference import dice_per_label, gaussian_weight, place, predict_logits
from delineate.inference.windows import axis_starts
from delineate.planning import Tiling


def test_windows_agree_with_the_whole_scan_at_once() -> None:
    volume, _ = clean_case(1)
    image = np.asarray(volume.array / 100, np.float32)
    tiled = predict_logits(Nearest(), image, PLAN)
    whole = Nearest()(torch.tensor(image)[None])[0].numpy()
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_mirrored_predictions_are_mirrored_back() -> None:
    volume, _ = clean_case(2)
    mirrored = msgspec.structs.replace(PLAN, tiling=Tiling(mirror_axes=(0, 1, 2)))
    plain, mean = (
        predict_logits(Nearest(), np.asarray(volume.array / 100, np.float32), plan) for plan in (PLAN, mirrored)
    )
    np.testing.assert_allclose(plain, mean, atol=1e-5)


def test_a_scan_smaller_than_a_patch_is_padded() -> None:
    image = np.full((1, 5, 40, 3), 2.5, dtype=np.float32)
    assert predict_logits(Nearest(), image, PLAN).shape == (3, 5, 40, 3)
    assert (predict_logits(Nearest(), image, PLAN).argmax(0) == 1).all()


@settings(deadline=None)
@given(size=st.integers(8, 70), overlap=st.floats(0, 0.9))
def test_windows_cover_every_voxel_and_overlap_enough(size: int, overlap: float) -> None:
    starts = axis_starts(size, 8, overlap)
    assert starts[0] == 0
    assert starts[-1] == size - 8
    assert (np.diff(starts) <= max(1.0, 8 * (1 - overlap)) + 1).all()


def test_a_window_counts_most_in_its_middle() -> None:
    weight = gaussian_weight((9, 7, 5))
    assert weight[4, 3, 2] == weight.max() == 1
    assert float(weight.min()) >= 1e-3
    torch.testing.assert_close(weight, weight.flip((0, 1, 2)))


def test_dice_of_what_is_absent_from_both_is_not_a_number() -> None:
    target = np.array([0, 1, 1, 0], dtype=np.uint8)
    dice = dice_per_label(np.array([0, 1, 0, 0], dtype=np.uint8), target, 3)
    assert dice[0] == pytest.approx(2 / 3)
    assert np.isnan(dice[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_agrees_with_the_cpu() -> None:
    model = tiny_model()
    image = np.random.default_rng(0).normal(size=(1, 20, 18, 12)).astype(np.float32)
    on_cpu = predict_logits(place(model.network(), "cpu"), image, model.plan)
    on_gpu = predict_logits(place(model.network(), "cuda"), image, model.plan, device="cuda")
    np.testing.assert_allclose(on_cpu, on_gpu, atol=1e-2)
