"""nnU-Net's networks: the same logits. Folders, archives, folds, cascades and parts."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nnunet_models as made
import pytest
import torch

from delineate.errors import InputError, LabelError, ModelError
from delineate.exchange import read_nnunet, read_nnunet_parts, with_locator
from delineate.model import Model, load_model, save_model

REAL = Path(__file__).parents[2] / "shared" / "data" / "nnunet" / "hippocampus_3d_fullres"


def read_network(folder: Path, network: made.Network, **described: Any) -> Model:
    described_plans = made.plans(configurations={"3d_fullres": made.configuration(**described)})
    saved = made.checkpoint(network.state_dict())
    return read_nnunet(made.write_trained(folder, plans_json=described_plans, folds={"0": saved}))


def check_logits(model: Model, network: made.Network, size: tuple[int, ...]) -> None:
    image = torch.randn(2, model.plan.inputs, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(image)
        got = made.turned(model.network()(made.turned(image)))
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("residual", [False, True])
def test_logits_are_those_of_nnunets_network(tmp_path: Path, residual: bool, norm: str) -> None:
    network = made.Network(residual=residual, norm=norm)
    model = read_network(tmp_path, network, architecture=made.architecture(residual=residual, norm=norm))
    check_logits(model, network, made.PATCH)


def test_two_dimensional_networks_give_the_same_logits(tmp_path: Path) -> None:
    network = made.Network(flat=True)
    flat = {"patch_size": [8, 12], "spacing": [0.9, 0.8], "architecture": made.architecture(flat=True)}
    model = read_network(tmp_path, network, **flat)
    check_logits(model, network, (8, 12))
    assert (model.plan.patch_size, model.plan.spacing_mm) == ((12, 8, 1), (0.8, 0.9, 6.0))
    assert model.plan.preparation.keep_slices
    assert model.plan.tiling.mirror_axes == (0, 1)


def test_a_trainer_that_normalises_by_batch_is_told_by_its_weights(tmp_path: Path) -> None:
    network = made.Network(norm="batch")
    described = made.architecture(norm_op_kwargs={"eps": 1e-5, "affine": True})
    model = read_network(tmp_path, network, architecture=described)
    assert (model.plan.network.norm, model.plan.network.eps) == ("batch", 1e-5)


def test_networks_without_biases_are_read(tmp_path: Path) -> None:
    network = made.Network()
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.endswith("weight") or "seg_layers" in name or "norm" in name or "all_modules.1" in name
    }
    folder = made.write_trained(tmp_path, folds={"0": made.checkpoint(state)})
    for name, tensor in made.tensors_once(network.state_dict()):
        if name not in state:
            tensor.zero_()
    check_logits(read_nnunet(folder), network, made.PATCH)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_do_not_matter(tmp_path: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in made.Network().state_dict().items()}
    model = read_nnunet(made.write_trained(tmp_path, folds={"0": made.checkpoint(state)}))
    check_logits(model, made.Network(), made.PATCH)


def test_a_tensor_that_is_left_over_is_named(tmp_path: Path) -> None:
    state = made.Network().state_dict() | {"encoder.gate.weight": torch.ones(3)}
    with pytest.raises(ModelError, match=r"not account for: got encoder\.gate\.weight"):
        read_nnunet(made.write_trained(tmp_path, folds={"0": made.checkpoint(state)}))


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    state = dict(made.tensors_once(made.Network().state_dict()))
    del state["decoder.transpconvs.1.weight"]
    with pytest.raises(ModelError, match=r"lacks weights.*decoder\.transpconvs\.1\.weight"):
        read_nnunet(made.write_trained(tmp_path, folds={"0": made.checkpoint(state)}))


@pytest.mark.parametrize(
    ("network", "message"),
    [({"classes": 4}, "number of outputs"), ({"inputs": 2}, "number of inputs"), ({"residual": True}, "lacks weights")],
)
def test_weights_that_do_not_fit_say_how(tmp_path: Path, network: dict[str, Any], message: str) -> None:
    saved = made.checkpoint(made.Network(**network).state_dict())
    with pytest.raises(ModelError, match=message):
        read_nnunet(made.write_trained(tmp_path, folds={"0": saved}))


def test_two_versions_of_one_tensor_are_refused(tmp_path: Path) -> None:
    state = made.Network().state_dict()
    name = "decoder.encoder.stages.1.0.convs.0.all_modules.0.weight"
    state[name] = state[name] + 1
    with pytest.raises(ModelError, match=r"two versions.*encoder\.stages\.1\.0\.convs\.0\.conv\.weight"):
        read_nnunet(made.write_trained(tmp_path, folds={"0": made.checkpoint(state)}))


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    network = made.Network()
    network.state_dict()["decoder.transpconvs.0.bias"][1] = torch.nan
    with pytest.raises(ModelError, match=r"not numbers: got decoder\.ups\.0\.bias"):
        read_network(tmp_path, network)


def test_numbered_folds_are_an_ensemble_and_fold_all_is_left_out(tmp_path: Path) -> None:
    folder = made.write_trained(tmp_path, folds=dict.fromkeys(("1", "10", "2", "all"), made.checkpoint()))
    assert read_nnunet(folder).provenance.origin.endswith("fold 1, 2, 10, checkpoint_final.pth")
    assert len(read_nnunet(folder, folds=[2, 1]).folds) == 2
    assert "fold all," in read_nnunet(folder, folds=["all"]).provenance.origin


def test_fold_all_alone_is_taken(tmp_path: Path) -> None:
    folder = made.write_trained(tmp_path, folds={"all": made.checkpoint()})
    assert "fold all," in read_nnunet(folder).provenance.origin


def test_the_best_checkpoint_stands_in_and_the_latest_only_when_asked_for(tmp_path: Path) -> None:
    made.write_trained(tmp_path, name="checkpoint_latest.pth")
    with pytest.raises(ModelError, match=r"got fold_0/checkpoint_latest\.pth"):
        read_nnunet(tmp_path)
    assert "checkpoint_latest" in read_nnunet(tmp_path, checkpoint="latest").provenance.origin
    made.write_trained(tmp_path, name="checkpoint_best.pth")
    assert "checkpoint_best" in read_nnunet(tmp_path).provenance.origin


def test_a_fold_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = made.write_trained(tmp_path)
    with pytest.raises(ModelError, match=r"expected checkpoint_final\.pth of fold 3, got fold_0/checkpoint_final\.pth"):
        read_nnunet(folder, folds=[3])


def test_folds_of_two_configurations_are_refused(tmp_path: Path) -> None:
    other = made.checkpoint(init_args={"configuration": "2d"})
    with pytest.raises(ModelError, match="folds of different configurations: expected 3d_fullres, got 2d"):
        read_nnunet(made.write_trained(tmp_path, folds={"0": made.checkpoint(), "1": other}))


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_a_missing_piece_is_named(tmp_path: Path, name: str) -> None:
    folder = made.write_trained(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        read_nnunet(folder)


def test_a_cascade_brings_its_first_stage_along(tmp_path: Path) -> None:
    made.write_cascade(tmp_path / "Dataset900_Blobs")
    model = read_nnunet(tmp_path)
    assert model.plan.previous == ("core", "rim")
    assert model.plan.inputs == 3
    assert model.previous is not None
    assert model.previous.plan.spacing_mm == (2.0, 2.0, 6.0)
    assert len(model.folds) == len(model.previous.folds) == 2


def test_a_stage_of_a_cascade_is_found_beside_the_folder_that_was_given(tmp_path: Path) -> None:
    second = made.write_cascade(tmp_path / "Dataset900_Blobs")
    assert read_nnunet(second).previous is not None
    assert read_nnunet(tmp_path, configuration="3d_lowres").previous is None


def test_a_cascade_without_its_first_stage_is_refused(tmp_path: Path) -> None:
    second = made.write_cascade(tmp_path)
    shutil.rmtree(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_lowres")
    with pytest.raises(ModelError, match="stage before, 3d_lowres, is missing"):
        read_nnunet(second)


def test_stages_that_ask_for_each_other_are_refused(tmp_path: Path) -> None:
    second = made.write_cascade(tmp_path)
    first = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    ring = json.loads((second / "plans.json").read_text())
    ring["configurations"]["3d_lowres"]["previous_stage"] = "3d_cascade_fullres"
    (first / "plans.json").write_text(json.dumps(ring))
    torch.save(
        made.checkpoint(made.Network(inputs=3).state_dict(), init_args={"configuration": "3d_lowres"}),
        first / "fold_0" / "checkpoint_final.pth",
    )
    with pytest.raises(ModelError, match="each ask for the other"):
        read_nnunet(second, folds=[0])


def test_stages_with_different_labels_are_refused(tmp_path: Path) -> None:
    second = made.write_cascade(tmp_path)
    other = made.dataset(labels={"background": 0, "core": 1, "edge": 2})
    (tmp_path / "nnUNetTrainer__nnUNetPlans__3d_lowres" / "dataset.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match="stages of the cascade do not fit together"):
        read_nnunet(second)


def test_several_models_are_listed(tmp_path: Path) -> None:
    for number in (900, 901):
        made.write_trained(tmp_path / f"Dataset{number}_Blobs" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    with pytest.raises(ModelError, match=r"several trained models.*3d_fullres in Dataset900.*in Dataset901"):
        read_nnunet(tmp_path)
    with pytest.raises(ModelError, match="no such configuration is here: expected configuration 2d"):
        read_nnunet(tmp_path, configuration="2d")


def test_an_exported_archive_is_read(tmp_path: Path) -> None:
    made.write_cascade(tmp_path / "tree" / "Dataset900_Blobs")
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "tree"))
    from_zip, from_tree = read_nnunet(archive), read_nnunet(tmp_path / "tree")
    assert from_zip.digest == from_tree.digest
    assert not list(tmp_path.glob("delineate-*"))


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../escaped/plans.json", "{}")
    with pytest.raises(InputError, match="would leave the folder"):
        read_nnunet(tmp_path / "bad.zip")
    assert not (tmp_path.parent / "escaped").exists()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ModelError, match="no trained nnU-Net model here"):
        read_nnunet(tmp_path)
    with pytest.raises(ModelError, match="got another kind of file"):
        read_nnunet(tmp_path / "notes.txt")


def test_models_of_version_1_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "plans.pkl").write_bytes(b"")
    with pytest.raises(ModelError, match="nnU-Net v1 cannot be read"):
        read_nnunet(tmp_path)


def test_an_imported_model_is_saved_and_loaded(tmp_path: Path) -> None:
    made.write_cascade(tmp_path / "tree")
    model = read_nnunet(tmp_path / "tree")
    save_model(tmp_path / "model", model)
    assert load_model(tmp_path / "model").digest == model.digest


def test_the_file_may_go_once_the_model_is_read(tmp_path: Path) -> None:
    folder = made.write_trained(tmp_path)
    model = read_nnunet(folder)
    os.truncate(folder / "fold_0" / "checkpoint_final.pth", 0)
    check_logits(model, made.Network(), made.PATCH)


def two_parts(tmp_path: Path) -> list[Path]:
    labels: list[Any] = [{"background": 0, "core": 1, "rim": 2}, {"background": 0, "vein": 1, "core": 2}]
    return [
        made.write_trained(tmp_path / f"part{n}", dataset_json=made.dataset(labels=names))
        for n, names in enumerate(labels)
    ]


def test_parts_share_one_label_map(tmp_path: Path) -> None:
    model = read_nnunet_parts(two_parts(tmp_path))
    assert dict(zip(model.labels.names, model.labels.values, strict=True)) == {"core": 1, "rim": 2, "vein": 3}
    assert [overlay.plan.labels for overlay in model.overlays] == [("vein", "core")]


def test_parts_take_their_values_from_a_table(tmp_path: Path) -> None:
    folders = two_parts(tmp_path)
    model = read_nnunet_parts(folders, values={"rim": 7, "vein": 2, "core": 40, "other": 1})
    assert dict(zip(model.labels.names, model.labels.values, strict=True)) == {"vein": 2, "rim": 7, "core": 40}
    with pytest.raises(LabelError, match=r"without a value.*got vein"):
        read_nnunet_parts(folders, values={"rim": 7, "core": 40})
    with pytest.raises(LabelError, match=r"the same value.*got rim, vein"):
        read_nnunet_parts(folders, values={"rim": 7, "core": 40, "vein": 7})


def test_parts_must_want_the_same_channels(tmp_path: Path) -> None:
    described = made.plans(configurations={"3d_fullres": made.configuration(
        normalization_schemes=["NoNormalization"] * 2, use_mask_for_norm=[False] * 2)})  # fmt: skip
    other = made.write_trained(
        tmp_path / "other",
        plans_json=described,
        dataset_json=made.dataset(channel_names={"0": "T1", "1": "T2"}),
        folds={"0": made.checkpoint(made.Network(inputs=2).state_dict())},
    )
    with pytest.raises(ModelError, match="different channels"):
        read_nnunet_parts([*two_parts(tmp_path), other])


def test_a_locator_is_kept_with_its_structures_and_margin(tmp_path: Path) -> None:
    model = read_nnunet(made.write_trained(tmp_path / "nnunet"))
    located = with_locator(model, replace(model), ["core"], 20)
    save_model(tmp_path / "model", located)
    loaded = load_model(tmp_path / "model").locator
    assert loaded is not None
    assert (loaded.structures, loaded.margin_mm) == (("core",), 20.0)
    with pytest.raises(LabelError, match="no such label"):
        with_locator(model, model, ["liver"], 20)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/nnunet")
def test_a_folder_of_nnunets_own_is_read() -> None:
    model = read_nnunet(REAL)
    assert model.labels.names == ("Anterior", "Posterior")
    assert model.provenance.step == 250
    assert model.network()(torch.zeros(1, 1, 16, 8, 24)).shape == (1, 3, 16, 8, 24)
