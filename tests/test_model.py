from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
import torch
from anatomy import LABELS, tiny_plan
from safetensors.torch import save as safetensors_save

from delineate.errors import ModelError
from delineate.model import Locator, Model, Provenance, load_model, save_model, with_tiling
from delineate.planning import AugmentationPlan
from delineate.postprocessing import Rule
from delineate.training import start

PROVENANCE = Provenance(
    dataset="blobs", dataset_digest="d", training_cases=("a",), validation_cases=("b",), held_out_cases=(),
    step=6, seconds=1.5, validation_dice=0.5, created="2026-01-01", delineate="0", torch="2",
)  # fmt: skip


def tiny_model() -> Model:
    plan = tiny_plan()
    return Model(start(plan).average, plan, LABELS, PROVENANCE, (Rule(label="core", largest_only=True),))


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(tmp_path / "m", model)
    loaded = load_model(tmp_path / "m")
    assert (loaded.plan, loaded.labels, loaded.provenance) == (model.plan, model.labels, PROVENANCE)
    assert (loaded.digest, loaded.postprocessing) == (model.digest, model.postprocessing)
    for name, tensor in model.weights.items():
        torch.testing.assert_close(loaded.weights[name], tensor, rtol=0, atol=0)


def test_other_weights_give_another_digest() -> None:
    model = tiny_model()
    name, tensor = next(iter(model.weights.items()))
    assert replace(model, weights={**model.weights, name: tensor + 1}).digest != model.digest


def test_where_to_look_belongs_to_the_digest(tmp_path: Path) -> None:
    near, far = (replace(tiny_model(), locator=Locator(tiny_model(), ("core",), margin)) for margin in (4.0, 8.0))
    assert near.digest != far.digest
    save_model(tmp_path, near)
    assert load_model(tmp_path).digest == near.digest


def test_every_network_is_serialised_once(tmp_path: Path) -> None:
    overlays = tuple(replace(tiny_model(), more_folds=(tiny_model().weights,)) for _ in range(2))
    model = replace(tiny_model(), overlays=overlays)
    with patch("delineate.model.save", side_effect=safetensors_save) as saving:
        save_model(tmp_path, model)
        assert load_model(tmp_path).digest == model.digest
    assert saving.call_count == 5


def test_a_model_saved_again_after_its_weights_changed_is_whole(tmp_path: Path) -> None:
    stage = tiny_model()
    model = replace(tiny_model(), overlays=(stage,))
    first = model.digest
    next(iter(stage.weights.values())).add_(1)
    save_model(tmp_path, model)
    assert load_model(tmp_path).digest == model.digest != first


@pytest.mark.parametrize("name", ["plan.json", "labels.json", "weights.safetensors", "model.json"])
def test_a_missing_piece_is_named(tmp_path: Path, name: str) -> None:
    save_model(tmp_path, tiny_model())
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["plan.json", "labels.json", "weights.safetensors"])
def test_a_changed_piece_is_named(tmp_path: Path, name: str) -> None:
    save_model(tmp_path, tiny_model())
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-3] + b"\n\n ")
    with pytest.raises(ModelError, match=rf"{name} was changed"):
        load_model(tmp_path)


def test_a_truncated_card_cannot_be_read(tmp_path: Path) -> None:
    save_model(tmp_path, tiny_model())
    (tmp_path / "model.json").write_bytes((tmp_path / "model.json").read_bytes()[:40])
    with pytest.raises(ModelError, match="card cannot be read"):
        load_model(tmp_path)


def test_no_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "nothing")


def test_weights_of_another_network_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(ModelError, match="do not fit the plan's network"):
        replace(model, weights=dict(list(model.weights.items())[:3])).network()


def test_mirroring_is_only_along_axes_that_training_flipped() -> None:
    flipped = replace(tiny_model(), plan=tiny_plan(augmentation=AugmentationPlan(flip_axes=(1,))))
    assert with_tiling(flipped, mirror=True).plan.tiling.mirror_axes == (1,)
    assert with_tiling(tiny_model(), mirror=True).plan.tiling.mirror_axes == ()


def test_nnunets_sums_are_for_models_made_nnunets_way() -> None:
    model = tiny_model()
    with pytest.raises(ModelError, match="nnU-Net's masks are those of its own models"):
        with_tiling(model, sums="nnunet")
    tiling = msgspec.structs.replace(model.plan.tiling, centre="nnunet")
    theirs = replace(model, plan=msgspec.structs.replace(model.plan, tiling=tiling))
    assert with_tiling(theirs, sums="nnunet").plan.tiling.sums == "nnunet"
    assert with_tiling(theirs, sums="nnunet").digest != theirs.digest
