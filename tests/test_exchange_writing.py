import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import nnunet_models
import pytest
import torch
from anatomy import LABELS, tiny_plan
from test_model import PROVENANCE

from delineate.errors import ExportError
from delineate.exchange import MODEL_EXPORTERS, read_nnunet
from delineate.exchange.monai_bundle import write_monai_bundle
from delineate.exchange.nnunet_plans_writing import nnunet_mirror_axes, nnunet_transposition
from delineate.exchange.nnunet_writing import differences, write_nnunet
from delineate.exchange.onnx import check_onnx, write_onnx
from delineate.exchange.torchscript import check_torchscript, write_torchscript
from delineate.labels import label_set
from delineate.model import Locator, Model, Weights
from delineate.networks import ARCHITECTURES, build_network
from delineate.planning import ClipZScore, NetworkPlan, Plan, Preparation, Region, Rescale, Tiling, Window, ZScore

LIKE_NNUNET = Preparation(crop_to="nonzero", normalise_first=True, resampling="nnunet", slice_wise="auto")
STILL = Tiling(centre="nnunet", padding="zero")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network_plan(architecture: str = "nnunet", dimensions: int = 3, **changes: Any) -> NetworkPlan:
    """Three levels whose kernels and strides differ by axis."""
    values: dict[str, Any] = {
        "architecture": architecture,
        "features": (4, 6, 8),
        "strides": tuple(size[:dimensions] for size in ((1, 1, 1), (2, 1, 2), (2, 2, 1))),
        "kernels": tuple(size[:dimensions] for size in ((3, 3, 1), (3, 1, 3), (3, 3, 3))),
        "convolutions": (1, 2, 1) if architecture == "nnunet_res" else (),
        "norm": "batch" if architecture in ("residual_unet", "vnet") else "instance",
    }
    return NetworkPlan(**(values | changes))


def plan_of(network: NetworkPlan, **changes: Any) -> Plan:
    flat = len(network.strides[0]) == 2
    own = replaced(LIKE_NNUNET, keep_slices=flat)
    values = {"preparation": own, "tiling": STILL, "patch_size": (16, 12, 1 if flat else 8), "network": network}
    return tiny_plan(**(values | changes))


def replaced(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


def random_weights(plan: Plan, seed: int) -> Weights:
    """Weights no two of which are the same, running variances positive."""
    network = build_network(plan.network, in_channels=plan.inputs, out_channels=plan.classes)
    chance = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, tensor in network.state_dict().items():
        values = torch.rand(tensor.shape, generator=chance) if "running_var" in name else None
        values = torch.randn(tensor.shape, generator=chance) / 3 if values is None else values + 0.5
        drawn[name] = values if tensor.is_floating_point() else tensor
    return drawn


def model_of(plan: Plan, *, folds: int = 1, **parts: Any) -> Model:
    weights = [random_weights(plan, seed) for seed in range(folds)]
    return Model(weights[0], plan, LABELS, PROVENANCE, more_folds=tuple(weights[1:]), **parts)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def configuration(folder: Path, name: str = "3d_fullres") -> Any:
    return read_json(folder / "plans.json")["configurations"][name]


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", ["nnunet", "nnunet_res"])
def test_what_is_written_for_nnunet_is_read_back_the_same(
    tmp_path: Path, architecture: str, dimensions: int, norm: str
) -> None:
    network = network_plan(architecture, dimensions, norm=norm, decoder_convolutions=(1, 3))
    model = model_of(plan_of(network, orientation="stored", tiling=replaced(STILL, mirror_axes=(0, 1))), folds=2)
    assert write_nnunet(model, tmp_path / "m") == ()
    back = read_nnunet(tmp_path / "m")
    for weights, again in zip(model.folds, back.folds, strict=True):
        assert set(weights) == set(again)
        assert all(torch.equal(weights[name], again[name]) for name in weights)
    kept = ("patch_size", "normalisation", "preparation", "orientation", "labels", "channels")
    assert {name: getattr(back.plan, name) for name in kept} == {name: getattr(model.plan, name) for name in kept}
    assert replaced(back.plan.tiling, batch_size=1) == model.plan.tiling


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("residual", [False, True])
def test_what_came_from_nnunet_goes_back_as_it_was(tmp_path: Path, residual: bool, norm: str) -> None:
    network = nnunet_models.Network(residual=residual, norm=norm)
    described = nnunet_models.configuration(architecture=nnunet_models.architecture(residual=residual, norm=norm))
    nnunet_models.write_trained(
        tmp_path / "came",
        plans_json=nnunet_models.plans(configurations={"3d_fullres": described}, transpose_forward=[1, 0, 2]),
        folds={"0": nnunet_models.checkpoint(network.state_dict())},
    )
    assert write_nnunet(read_nnunet(tmp_path / "came"), tmp_path / "went") == ()
    found = configuration(tmp_path / "went")
    assert {name: found[name] for name in described if name in found} == described
    assert read_json(tmp_path / "went" / "plans.json")["transpose_forward"] == [1, 0, 2]
    again = nnunet_models.Network(residual=residual, norm=norm)
    checkpoint = torch.load(tmp_path / "went" / "fold_0" / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["inference_allowed_mirroring_axes"] == (0, 1)
    again.load_state_dict(checkpoint["network_weights"])
    windows = torch.randn(2, 1, 8, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(again(windows), network(windows), rtol=1e-4, atol=1e-4)


def test_nnunet_gets_its_own_order_of_axes(tmp_path: Path) -> None:
    write_nnunet(model_of(plan_of(network_plan(), spacing_mm=(0.7, 0.8, 2.5))), tmp_path / "m")
    found = configuration(tmp_path / "m")
    assert (found["patch_size"], found["spacing"]) == ([8, 12, 16], [2.5, 0.8, 0.7])
    assert found["architecture"]["arch_kwargs"]["strides"] == [[1, 1, 1], [2, 1, 2], [1, 2, 2]]
    assert found["architecture"]["arch_kwargs"]["kernel_sizes"][0] == [1, 3, 3]


def test_a_kernel_lies_under_all_of_its_names_with_its_axes_reversed(tmp_path: Path) -> None:
    model = model_of(plan_of(network_plan()))
    write_nnunet(model, tmp_path / "m")
    checkpoint = torch.load(tmp_path / "m" / "fold_0" / "checkpoint_final.pth", weights_only=True)
    kernel = model.weights["encoder.levels.1.0.conv.weight"]
    for name in ("encoder", "decoder.encoder"):
        for module in ("conv", "all_modules.0"):
            found = checkpoint["network_weights"][f"{name}.stages.1.0.convs.0.{module}.weight"]
            assert torch.equal(found, kernel.permute(0, 1, 4, 3, 2))
    assert checkpoint["inference_allowed_mirroring_axes"] is None
    assert checkpoint["init_args"]["configuration"] == "3d_fullres"


def test_axes_are_numbered_as_in_nnunets_patches() -> None:
    turned = plan_of(network_plan(), preparation=replaced(LIKE_NNUNET, axes=(1, 2, 0)), tiling=Tiling(mirror_axes=(0,)))
    # Our prepared axes are the file's y, z, x; nnU-Net's are x, z, y, of the file's (z, y, x).
    assert nnunet_transposition(turned) == [2, 0, 1]
    assert nnunet_mirror_axes(turned) == (2,)
    assert nnunet_mirror_axes(plan_of(network_plan(dimensions=2), tiling=Tiling(mirror_axes=(0,)))) == (1,)


def test_windows_become_ct_normalisation_with_other_numbers(tmp_path: Path) -> None:
    window = Window(lower=-57, upper=164, to_lower=-1, to_upper=1)
    write_nnunet(model_of(plan_of(network_plan(), normalisation=(window,))), tmp_path / "m")
    numbers = read_json(tmp_path / "m" / "plans.json")["foreground_intensity_properties_per_channel"]["0"]
    assert configuration(tmp_path / "m")["normalization_schemes"] == ["CTNormalization"]
    assert (numbers["percentile_00_5"], numbers["percentile_99_5"]) == (-57, 164)
    assert (-57 - numbers["mean"]) / numbers["std"] == pytest.approx(-1)
    assert (164 - numbers["mean"]) / numbers["std"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("how", "scheme"),
    [
        (ClipZScore(lower=-10, upper=90, mean=30, std=9), "CTNormalization"),
        (ZScore(masked=True), "ZScoreNormalization"),
        (Rescale(), "RescaleTo01Normalization"),
        (Window(lower=0, upper=255), "RGBTo01Normalization"),
    ],
)
def test_a_normalisation_comes_back(tmp_path: Path, how: Any, scheme: str) -> None:
    write_nnunet(model_of(plan_of(network_plan(), normalisation=(how,))), tmp_path / "m")
    assert configuration(tmp_path / "m")["normalization_schemes"] == [scheme]
    assert read_nnunet(tmp_path / "m").plan.normalisation == (how,)


def test_regions_keep_their_order_and_what_they_paint(tmp_path: Path) -> None:
    regions = (Region(name="core", values=(1, 2), paints=1), Region(name="rim", values=(2,), paints=2))
    model = model_of(plan_of(network_plan(), regions=regions))
    write_nnunet(model, tmp_path / "m")
    dataset = read_json(tmp_path / "m" / "dataset.json")
    assert dataset["labels"] == {"background": 0, "core": [1, 2], "rim": 2}
    assert dataset["regions_class_order"] == [1, 2]
    assert read_nnunet(tmp_path / "m").plan.regions == regions


def test_a_cascade_becomes_two_folders_that_belong_together(tmp_path: Path) -> None:
    first = model_of(plan_of(network_plan(), spacing_mm=(2.0, 2.0, 4.0)))
    write_nnunet(model_of(plan_of(network_plan(), previous=("core", "rim")), previous=first), tmp_path / "m")
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {"nnUNetTrainer__nnUNetPlans__3d_lowres", "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"}
    back = read_nnunet(tmp_path / "m")
    assert back.previous is not None
    assert (back.plan.previous, back.previous.plan.spacing_mm) == (("core", "rim"), (2.0, 2.0, 4.0))


def test_what_nnunet_does_otherwise_is_said(tmp_path: Path) -> None:
    own = model_of(plan_of(network_plan(), preparation=Preparation(), tiling=Tiling(), orientation="LPS"))
    said = " ".join(write_nnunet(replace(own, labels=label_set({1: "core", 5: "rim"})), tmp_path / "m"))
    for words in ("axes to LPS", "above 0", "after it normalises", "own way", "surrounds", "half a voxel", "'rim': 5"):
        assert words in said
    assert differences(model_of(plan_of(network_plan()))) == ()


def test_scans_are_turned_to_ras_by_the_reader_that_nnunet_has_for_it(tmp_path: Path) -> None:
    for orientation, reader in (("RAS", "NibabelIOWithReorient"), ("stored", "SimpleITKIO")):
        write_nnunet(model_of(plan_of(network_plan(), orientation=orientation)), tmp_path / orientation)
        assert read_json(tmp_path / orientation / "plans.json")["image_reader_writer"] == reader
        assert read_nnunet(tmp_path / orientation).plan.orientation == orientation


def test_models_that_nnunet_cannot_hold_are_refused(tmp_path: Path) -> None:
    plan = plan_of(network_plan())
    part = model_of(plan)
    refused = {
        "no such network": model_of(plan_of(network_plan("unet"))),
        "no models of several parts": replace(part, locator=Locator(part, ("core",), 10.0)),
        "not to a shape": model_of(replaced(plan, resize_to=(32, 32, 32))),
        "the same structures in both stages": model_of(replaced(plan, previous=("rim",)), previous=part),
        "keeps this name": replace(part, plan=replaced(plan, labels=("core", "ignore"))),
    }
    for words, model in refused.items():
        with pytest.raises(ExportError, match=words):
            write_nnunet(model, tmp_path / "m")


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_torchscript_gives_the_networks_logits(tmp_path: Path, architecture: str, dimensions: int) -> None:
    model = model_of(plan_of(network_plan(architecture, dimensions)), folds=2)
    assert any("2 networks" in note for note in write_torchscript(model, tmp_path))
    windows = torch.randn(3, 1, *(32, 24, 16)[:dimensions])  # another batch, another size
    for fold, name in enumerate(("network.ts", "network_1.ts")):
        assert check_torchscript(tmp_path / name, model.network(fold), windows) < 1e-5
    with pytest.raises(ExportError, match="gives other logits"):
        check_torchscript(tmp_path / "network.ts", model.network(1), windows)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_onnx_gives_the_networks_logits(tmp_path: Path, architecture: str, dimensions: int) -> None:
    onnx = pytest.importorskip("onnx")
    model = model_of(plan_of(network_plan(architecture, dimensions)), previous=None)
    write_onnx(model, tmp_path)
    windows = torch.randn(3, 1, *model.plan.patch_size[:dimensions])
    assert check_onnx(tmp_path / "network.onnx", model.network(), windows) < 1e-5
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "network.onnx").metadata_props}
    assert properties["digest"] == model.digest
    assert properties["plan.json"] == (tmp_path / "plan.json").read_text()


def test_every_stage_is_exported(tmp_path: Path) -> None:
    first = model_of(plan_of(network_plan()))
    model = model_of(plan_of(network_plan(), previous=("core", "rim")), previous=first, overlays=(first,))
    notes = " ".join(write_torchscript(model, tmp_path))
    assert "previous/" in notes
    assert "overlay_1/" in notes
    for name, stage in model.stages.items():
        windows = torch.randn(1, stage.plan.inputs, 16, 12, 8)
        assert check_torchscript(tmp_path / name / "network.ts", stage.network(), windows) < 1e-5


def test_bundles_hold_monais_networks_only(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="MONAI has no such network"):
        write_monai_bundle(model_of(plan_of(network_plan())), tmp_path)
    two = (ZScore(), ClipZScore(lower=0, upper=9, mean=3, std=2))
    plan = plan_of(network_plan("residual_unet"), channels=("a", "b"), kinds=plan_of(network_plan()).kinds * 2)
    with pytest.raises(ExportError, match="prepares all channels alike"):
        write_monai_bundle(model_of(replaced(plan, normalisation=two)), tmp_path)
    with pytest.raises(ExportError, match="one network"):
        write_monai_bundle(model_of(plan_of(network_plan("residual_unet")), folds=2), tmp_path)


def test_the_command_line_offers_every_format() -> None:
    from delineate.cli.models import FORMATS

    assert tuple(MODEL_EXPORTERS) == FORMATS
