from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from anatomy import LABELS, blob_case, tiny_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model import PROVENANCE, tiny_model
from torch import Tensor, nn

from delineate.errors import InputError
from delineate.geometry import ORIENTATIONS
from delineate.inference import dice_per_label, gaussian_weight, place, predict_logits, segment, window_starts
from delineate.labels import label_set
from delineate.model import Model
from delineate.planning import Plan, Tiling, Window
from delineate.volume import Kind, Volume, reorient


class Threshold(nn.Module):
    """Says what the intensity says: a network whose right answer is known at every voxel."""

    def forward(self, image: Tensor) -> Tensor:
        # blob_case: background about 100, rim 160, core 250; the window maps 0..300 to 0..3.
        value = image[:, 0]
        return torch.stack([-(value - 1.0).abs(), -(value - 2.5).abs(), -(value - 1.6).abs()], dim=1)


PLAN = tiny_plan(normalisation=(Window(lower=0, upper=300, to_upper=3),), spacing_mm=(0.9, 1.2, 2.5))


def known_model(plan: Plan = PLAN) -> Model:
    return Model({}, plan, LABELS, PROVENANCE)


def clean_case(seed: int = 0) -> tuple[Volume, np.ndarray]:
    volume, reference = blob_case(seed)
    image = np.choose(reference.array, [100, 250, 160]).astype(np.float32)
    return Volume(image[None], volume.grid, Kind.MR), reference.array


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5])
def test_the_segmentation_lies_in_the_scans_own_grid(orientation: str) -> None:
    volume, labels = clean_case()
    turned = reorient(volume, orientation)
    result = segment(known_model(), turned, network=Threshold()).segmentation
    assert result.grid == turned.grid
    np.testing.assert_array_equal(reorient(result, volume.grid.orientation).array, labels)


def test_windows_agree_with_the_whole_scan_at_once() -> None:
    volume, _ = clean_case(1)
    image = np.asarray(volume.array / 100, np.float32)
    tiled = predict_logits(Threshold(), image, PLAN)
    whole = Threshold()(torch.tensor(image)[None])[0].numpy()
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_mirrored_predictions_are_mirrored_back() -> None:
    volume, _ = clean_case(2)
    mirrored = msgspec.structs.replace(PLAN, tiling=Tiling(mirror_axes=(0, 1, 2)))
    plain, mean = (
        predict_logits(Threshold(), np.asarray(volume.array / 100, np.float32), plan) for plan in (PLAN, mirrored)
    )
    np.testing.assert_allclose(plain, mean, atol=1e-5)


def test_probabilities_add_up_to_one() -> None:
    volume, _ = clean_case()
    result = segment(known_model(), volume, network=Threshold(), with_probabilities=True)
    assert result.probabilities is not None
    assert result.probabilities.shape == (3, *volume.grid.shape)
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-5)


def test_values_are_those_of_the_labels_not_of_the_networks_channels() -> None:
    volume, labels = clean_case()
    model = replace(known_model(), labels=label_set({7: "core", 300: "rim"}))
    result = segment(model, volume, network=Threshold()).segmentation
    np.testing.assert_array_equal(result.array, np.choose(labels, [0, 7, 300]))


def test_a_scan_smaller_than_a_patch_is_padded() -> None:
    image = np.full((1, 5, 40, 3), 2.5, dtype=np.float32)
    assert predict_logits(Threshold(), image, PLAN).shape == (3, 5, 40, 3)
    assert (predict_logits(Threshold(), image, PLAN).argmax(0) == 1).all()


def test_a_real_network_segments_and_signs_with_its_digest() -> None:
    model = tiny_model()
    shares: list[float] = []
    result = segment(model, blob_case(0)[0], progress=shares.append).segmentation
    assert result.author == model.digest
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


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
        segment(known_model(), replace(volume, array=array), network=Threshold())


@settings(deadline=None)
@given(size=st.tuples(*[st.integers(8, 70)] * 3), overlap=st.floats(0, 0.9))
def test_windows_cover_every_voxel_and_overlap_enough(size: tuple[int, int, int], overlap: float) -> None:
    patch = (8, 8, 8)
    starts = np.array(list(window_starts(size, patch, overlap)))
    for axis, n in enumerate(size):
        firsts = np.unique(starts[:, axis])
        assert firsts[0] == 0
        assert firsts[-1] == n - 8
        assert (np.diff(firsts) <= max(1.0, 8 * (1 - overlap)) + 1).all()


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
