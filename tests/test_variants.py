"""What else a model would have found: by fold, mirrored, written beside the result, and as ranges of findings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
import torch
from anatomy import LABELS, blob_case, tiny_plan
from click.testing import CliRunner, Result
from test_model import PROVENANCE

from delineate import formats, inference
from delineate.cli import main
from delineate.errors import PlanError
from delineate.files import temporary_name
from delineate.labels import LabelSet, label_set
from delineate.model import Locator, Model, Weights, save_model
from delineate.planning import AugmentationPlan, Plan, Region
from delineate.settings import Settings, detect
from delineate.training import start
from delineate.volume import Array
from delineate.workflow.finding_files import FindingsFile
from delineate.workflow.predicting import PredictionOptions, predict
from delineate.workflow.results import (
    ResultRecord,
    read_record,
    read_result,
    remove_variants,
    standing_variants,
    variant_path,
    write_record,
)
from delineate.workflow.variants import variants_of

WISHED = PredictionOptions(variants=True)
MIRRORED = AugmentationPlan(flip_axes=(0, 2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, memory_gb=4, cache=tmp_path / "cache")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    formats.write_volume(tmp_path / "a.nii.gz", blob_case(3)[0])
    return tmp_path / "a.nii.gz"


def weights(plan: Plan, seed: int) -> Weights:
    noise = torch.Generator().manual_seed(seed)
    return {
        name: one + 0.2 * torch.randn(one.shape, generator=noise) if one.is_floating_point() else one
        for name, one in start(plan).average.items()
    }


def model_of(*seeds: int, plan: Plan | None = None, labels: LabelSet = LABELS) -> Model:
    """A model with a fold for each seed."""
    plan = plan or tiny_plan()
    first, *others = (weights(plan, seed) for seed in seeds)
    return Model(first, plan, labels, PROVENANCE, more_folds=tuple(others))


def alone(model: Model, fold: int) -> Model:
    return replace(model, weights=model.folds[fold], more_folds=())


def values(path: Path) -> Array:
    return formats.read_label_values(path)[0]


def found_by(model: Model, scan: Path) -> Array:
    return inference.segment(model, formats.read_volume(scan)).label_map


def record_of(path: Path) -> ResultRecord:
    record = read_record(path)
    assert record is not None
    return record


def test_a_variant_of_each_fold_is_what_that_fold_finds_alone(scan: Path, tmp_path: Path, settings: Settings) -> None:
    model = model_of(1, 2, 3)
    (result,) = predict(model, scan, tmp_path / "out", settings=settings, options=WISHED).written
    record = record_of(result)
    assert (record.variants, record.variant_kind) == (["fold_0", "fold_1", "fold_2"], "3 folds")
    maps = [values(variant_path(result, name)) for name in record.variants]
    for fold, found in enumerate(maps):
        np.testing.assert_array_equal(found, found_by(alone(model, fold), scan))
    assert len({found.tobytes() for found in maps}) == 3
    np.testing.assert_array_equal(values(result), found_by(model, scan))


def test_a_model_of_one_fold_varies_by_the_mirrored_views_it_was_trained_with(
    scan: Path, tmp_path: Path, settings: Settings
) -> None:
    model = model_of(1, plan=tiny_plan(augmentation=MIRRORED))
    (result,) = predict(model, scan, tmp_path / "out", settings=settings, options=WISHED).written
    record = record_of(result)
    assert (record.variants, record.variant_kind) == (["mirror_1", "mirror_2", "mirror_3"], "3 mirrored views")
    maps = [values(variant_path(result, name)) for name in record.variants]
    for found, axes in zip(maps, [(2,), (4,), (2, 4)], strict=True):
        # Twice: one pass alone is never mirrored back.
        with patch("delineate.inference.streaming.mirrors", return_value=[axes, axes]):
            np.testing.assert_array_equal(found, found_by(model, scan))
    assert len({found.tobytes() for found in (*maps, values(result))}) == 4


def test_stages_take_part_with_their_folds_and_what_only_looks_does_not(scan: Path) -> None:
    alike, single = model_of(4, 5), model_of(6)
    model = replace(model_of(1, 2), overlays=(alike, single), locator=Locator(model_of(7, 8, 9), ("core",), 9.0))
    found = variants_of(model)
    assert found.kind == "2 folds"
    for fold, variant in enumerate(found.members):
        parts = [variant.model, *variant.model.overlays]
        expected = [model.folds[fold], alike.folds[fold], single.weights]
        assert all(part.folds == (those,) for part, those in zip(parts, expected, strict=True))
        assert variant.model.locator is model.locator


def test_a_variant_of_several_stages_is_run_by_the_networks_of_its_fold(
    scan: Path, tmp_path: Path, settings: Settings
) -> None:
    model = replace(model_of(1, 2), overlays=(model_of(4, 5), model_of(6)))
    (result,) = predict(model, scan, tmp_path / "out", settings=settings, options=WISHED).written
    for fold in (0, 1):
        overlays = (alone(model.overlays[0], fold), model.overlays[1])
        expected = found_by(replace(alone(model, fold), overlays=overlays), scan)
        np.testing.assert_array_equal(values(variant_path(result, f"fold_{fold}")), expected)


def test_variants_of_overlapping_structures_overlap(scan: Path, tmp_path: Path, settings: Settings) -> None:
    regions = (Region(name="all", values=(1, 2), paints=1), Region(name="core", values=(2,), paints=2))
    labels = LabelSet(label_set({1: "all", 2: "core"}).labels, overlaps=True)
    model = model_of(1, 2, plan=tiny_plan(labels=("all", "core"), regions=regions), labels=labels)
    (result,) = predict(model, scan, tmp_path / "out", settings=settings, options=WISHED).written
    path = variant_path(result, "fold_1")
    found = read_result(path, record_of(path))
    np.testing.assert_array_equal(found.mask("all"), values(path) > 0)
    assert record_of(path).recipe == record_of(result).recipe


def test_a_model_that_cannot_vary_is_refused_before_scans_are_looked_for(tmp_path: Path, settings: Settings) -> None:
    paired = replace(model_of(1), labels=label_set({1: "core", 2: "rim", 3: "kidney_left", 4: "kidney_right"}))
    for model, got in ((model_of(1), "mirrored scans"), (paired, "got structures that have a side")):
        with pytest.raises(PlanError, match="the model cannot vary") as refused:
            predict(model, tmp_path / "nothing", tmp_path / "out", settings=settings, options=WISHED)
        assert got in str(refused.value)
        assert "--fold" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_variants_that_are_asked_for_later_are_made_and_kept(scan: Path, tmp_path: Path, settings: Settings) -> None:
    model, out = model_of(1, 2), tmp_path / "out"
    assert predict(model, scan, out, settings=settings).written
    (result,) = predict(model, scan, out, settings=settings, options=WISHED).written
    assert predict(model, scan, out, settings=settings, options=WISHED).kept
    assert predict(model, scan, out, settings=settings).kept
    variant_path(result, "fold_1").unlink()
    assert predict(model, scan, out, settings=settings, options=WISHED).written
    assert standing_variants(result, record_of(result)).names == {"fold_0", "fold_1"}


def test_a_result_that_is_made_anew_leaves_no_variants_of_the_old_one(
    scan: Path, tmp_path: Path, settings: Settings
) -> None:
    out = tmp_path / "out"
    (result,) = predict(model_of(1, 2, 3), scan, out, settings=settings, options=WISHED).written
    variant_path(result, "notes").with_name("notes.txt").write_text("mine")
    predict(model_of(4, 5), scan, out, settings=settings, options=WISHED)
    folder = variant_path(result, "fold_0").parent
    assert sorted(path.name for path in folder.iterdir()) == [
        *("fold_0.json", "fold_0.nii.gz", "fold_1.json", "fold_1.nii.gz", "notes.txt"),
    ]
    predict(model_of(6), scan, out, settings=settings)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_the_variants_of_a_batch_that_was_cut_off_count_for_no_other_result(
    scan: Path, tmp_path: Path, settings: Settings
) -> None:
    (result,) = predict(model_of(1, 2), scan, tmp_path / "out", settings=settings, options=WISHED).written
    path = variant_path(result, "fold_1")
    write_record(path, msgspec.structs.replace(record_of(path), recipe="another"))
    standing = standing_variants(result, record_of(result))
    assert standing.names == {"fold_0"}
    assert standing.lost == 1
    assert standing_variants(result, None).lost == 0


def test_what_a_killed_run_left_of_a_variant_is_swept(scan: Path, tmp_path: Path, settings: Settings) -> None:
    mine = temporary_name(variant_path(tmp_path / "out" / "a.nii.gz", "fold_0"))
    dead = mine.with_name(re.sub(r"-\d+\.partial", "-1000000000.partial", mine.name))
    dead.parent.mkdir(parents=True)
    dead.write_bytes(b"half")
    predict(model_of(1), scan, tmp_path / "out", settings=settings)
    assert not dead.exists()


def test_names_of_a_stranger_s_record_lead_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.nii.gz"
    stranger = record_with(("../../mine", "fold_0"))
    variant_path(path, "fold_0").parent.mkdir(parents=True)
    formats.write_segmentation(tmp_path / "out" / "mine.nii.gz", blob_case(1)[1])
    write_record(tmp_path / "out" / "mine.nii.gz", stranger)
    assert standing_variants(path, stranger).paths == ()
    remove_variants(path, stranger.variants)
    assert (tmp_path / "out" / "mine.nii.gz").exists()


def record_with(names: Sequence[str]) -> ResultRecord:
    named = {"core": 1, "rim": 2}
    return ResultRecord(
        case="a", labels=named, volumes_ml={}, model="m", series_uid=None, seconds=1, recipe="r", variants=list(names)
    )


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def findings_in(folder: Path) -> FindingsFile:
    return msgspec.json.decode((folder / "findings.json").read_bytes(), type=FindingsFile)


def test_findings_have_the_range_over_a_model_s_folds(scan: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model", model_of(1, 2))
    out, result = tmp_path / "out", tmp_path / "out" / "a.nii.gz"
    words = ("--device", "cpu", "--threads", 1, "--engine", "torch")
    made = call("predict", tmp_path / "model", scan, out, "--variants", *words)
    assert made.exit_code == 0, made.output
    assert call("measure", result, "-o", tmp_path / "f").exit_code == 0
    records = [record_of(path) for path in (result, *(variant_path(result, f"fold_{n}") for n in (0, 1)))]
    (case,) = findings_in(tmp_path / "f").cases
    for name in ("core", "rim"):
        volumes = [record.volumes_ml[name] for record in records]
        (spread,) = (one.spread for one in case.findings if one.quantity.meaning == "Volume" and one.structure == name)
        assert spread is not None
        assert (spread.lowest, spread.highest) == pytest.approx((min(volumes), max(volumes)), abs=1e-3)
        assert spread.over == "the result and its 2 folds"
    assert call("measure", result, "--no-variants", "-o", tmp_path / "g").exit_code == 0
    assert all(one.spread is None for one in findings_in(tmp_path / "g").cases[0].findings)


def test_variants_that_are_gone_are_said_and_give_no_range(scan: Path, tmp_path: Path, settings: Settings) -> None:
    (result,) = predict(model_of(1, 2), scan, tmp_path / "out", settings=settings, options=WISHED).written
    variant_path(result, "fold_0").unlink()
    measured = call("measure", tmp_path / "out", "-o", tmp_path / "f")
    assert "1 of the 2 variants of this result are gone" in measured.output
    (case,) = findings_in(tmp_path / "f").cases
    assert all(one.spread is None for one in case.findings)
