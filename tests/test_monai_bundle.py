"""Bundles are run here piece by piece, because MONAI's evaluators need pytorch-ignite."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anatomy import blob_case, oblique_grid
from test_exchange_writing import STILL, model_of, network_plan, plan_of, replaced

from delineate import formats
from delineate.exchange.monai_bundle import bundle_differences, metadata_of, transforms_of, write_monai_bundle
from delineate.inference import segment
from delineate.labels import label_set
from delineate.planning import ClipZScore, Plan, Preparation, Rescale, Tiling, Window, ZScore
from delineate.preprocessing import prepare
from delineate.volume import Kind, Volume

# MONAI tries all of its readers, and warns of the one for DICOM that a GPU's codec is missing.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
SHAPE = (20, 16, 12)


def bundle_plan(**changes: Any) -> Plan:
    """On the scans' own grid, one window a scan: nothing is left that MONAI does otherwise."""
    values = {"preparation": Preparation(), "tiling": Tiling(), "spacing_mm": (0.9, 1.2, 2.5), "patch_size": SHAPE}
    return plan_of(network_plan("residual_unet", strides=((1, 1, 1), (2, 1, 2), (2, 2, 1))), **(values | changes))


def content(folder: Path) -> Any:
    from monai.bundle.config_parser import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser["bundle_root"] = str(folder)
    assert parser["postprocessing"]["transforms"].pop()["_target_"] == "SaveImaged"
    return parser


def scan(folder: Path) -> Volume:
    volume, _ = blob_case(3, shape=SHAPE)
    (folder / "scans").mkdir(exist_ok=True)
    formats.write_volume(folder / "scans" / "case.nii.gz", volume)
    return volume


def test_a_bundle_holds_the_networks_weights(tmp_path: Path) -> None:
    model = model_of(bundle_plan())
    write_monai_bundle(model, tmp_path)
    parser = content(tmp_path)
    network = parser.get_parsed_content("network").eval()
    parser.get_parsed_content("initialize")
    windows = torch.randn(2, 1, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(network(windows), model.network()(windows), rtol=0, atol=0)


@pytest.mark.parametrize("patch", [SHAPE, (24, 20, 12)])
def test_a_bundle_finds_the_same_voxels_where_nothing_is_resampled(tmp_path: Path, patch: Any) -> None:
    model = replace(model_of(bundle_plan(patch_size=patch)), labels=label_set({1: "core", 7: "rim"}))
    write_monai_bundle(model, tmp_path)
    volume = scan(tmp_path)
    parser = content(tmp_path)
    parser.get_parsed_content("initialize")
    data = parser.get_parsed_content("dataset")[0]
    with torch.inference_mode():
        network = parser.get_parsed_content("network").eval()
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    found = np.asarray(parser.get_parsed_content("postprocessing")(data)["pred"][0]).astype(int)
    expected = segment(model, volume).segmentation.array
    assert set(np.unique(expected)) == {0, 1, 7}
    assert (found == expected).mean() > 0.999


def prepared_by_monai(plan: Plan, path: Path) -> Any:
    from monai.bundle.config_parser import ConfigParser

    steps = {"_target_": "Compose", "transforms": transforms_of(replaced(plan, tiling=STILL))}
    parser = ConfigParser({"imports": ["$import torch"], "steps": steps})
    return np.asarray(parser.get_parsed_content("steps")({"image": str(path)})["image"])


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (ZScore(), Kind.MR),
        (ZScore(lower_percentile=2, upper_percentile=97), Kind.MR),
        (ClipZScore(lower=80, upper=200, mean=110, std=30), Kind.CT),
        (Window(lower=90, upper=220, to_lower=-1, to_upper=3), Kind.CT),
        (Rescale(), Kind.OTHER),
    ],
)
@pytest.mark.parametrize("orientation", ["RAS", "PSL", "stored"])
def test_scans_are_prepared_alike(tmp_path: Path, how: Any, kind: Kind, orientation: str) -> None:
    spacing = {"RAS": (0.9, 1.2, 2.5), "PSL": (1.2, 2.5, 0.9), "stored": (0.9, 1.2, 2.5)}[orientation]
    plan = bundle_plan(normalisation=(how,), kinds=(kind,), orientation=orientation, spacing_mm=spacing)
    volume = scan(tmp_path)
    array = volume.array.copy()
    array[:, :3] = -500  # air, to be cropped
    formats.write_volume(tmp_path / "air.nii.gz", replace(volume, array=array))
    read = formats.read_volume(tmp_path / "air.nii.gz", kind=kind)
    found = prepared_by_monai(plan, tmp_path / "air.nii.gz")
    expected = prepare("", read, None, plan).image
    np.testing.assert_allclose(found, expected, atol=2e-3 * float(np.ptp(expected)))


def test_what_is_resampled_lies_at_most_half_a_voxel_away(tmp_path: Path) -> None:
    plan = bundle_plan(spacing_mm=(1.3, 1.0, 2.1), normalisation=(Rescale(),), kinds=(Kind.OTHER,))
    grid = oblique_grid(SHAPE)
    i, j, k = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in SHAPE), indexing="ij")
    ramp = Volume((1 + i + 2 * j + 5 * k)[None], grid, Kind.OTHER)
    formats.write_volume(tmp_path / "ramp.nii.gz", ramp)
    found = prepared_by_monai(plan, tmp_path / "ramp.nii.gz")
    expected = prepare("", ramp, None, plan).image
    assert tuple(found.shape) == expected.shape
    inside = (0, *(slice(2, -2),) * 3)
    step = float(np.abs(np.diff(expected[0], axis=2)).max())
    assert np.abs(found[inside] - expected[inside]).max() < step / 2


def test_metadata_name_the_structures_and_channels() -> None:
    found = metadata_of(model_of(bundle_plan()))
    assert found["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "core",
        "2": "rim",
    }
    assert found["network_data_format"]["inputs"]["image"]["spatial_shape"] == list(SHAPE)


def test_what_monai_does_otherwise_is_said(tmp_path: Path) -> None:
    model = model_of(bundle_plan(tiling=Tiling(mirror_axes=(0,))))
    said = " ".join(write_monai_bundle(model, tmp_path))
    for words in ("linearly", "not mirrored", "pytorch-ignite"):
        assert words in said
    assert set(bundle_differences(model_of(bundle_plan()))) < set(bundle_differences(model))
    assert "linearly" in (tmp_path / "docs" / "README.md").read_text()


def test_slices_are_gone_over_by_networks_in_2d(tmp_path: Path) -> None:
    plan = plan_of(network_plan("residual_unet", 2), preparation=replaced(Preparation(), keep_slices=True))
    write_monai_bundle(model_of(plan), tmp_path)
    inferer = json.loads((tmp_path / "configs" / "inference.json").read_text())["inferer"]
    assert (inferer["_target_"], inferer["roi_size"], inferer["spatial_dim"]) == ("SliceInferer", [16, 12], 2)
    parser = content(tmp_path)
    network = parser.get_parsed_content("network").eval()
    with torch.inference_mode():
        logits = parser.get_parsed_content("inferer")(torch.randn(1, 1, 20, 16, 5), network)
    assert tuple(logits.shape) == (1, 3, 20, 16, 5)
