import os
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs

from delineate import training
from delineate.dataset import Split
from delineate.errors import DatasetError, ModelError
from delineate.planning import Preparation
from delineate.preprocessing import prepare
from delineate.workspace import PreparedCache, RunFolder

PLAN = tiny_plan()
SPLIT = Split(("a",), ("b",), "digest", "by hand", ("c",))


def test_a_prepared_case_comes_back_as_it_was(tmp_path: Path) -> None:
    turned = tiny_plan(orientation="stored", preparation=Preparation(axes=(1, 2, 0), resampling="nnunet"))
    case = prepare("a", *blob_case(0), turned)
    cache = PreparedCache(tmp_path)
    cache.save("key", case)
    loaded = cache.load("key", "a")
    assert loaded is not None
    np.testing.assert_array_equal(loaded.image, case.image)
    np.testing.assert_array_equal(loaded.target, case.target)
    assert loaded.trace == case.trace
    assert isinstance(loaded.image, np.memmap)


def test_what_is_not_there_or_damaged_is_made_again(tmp_path: Path) -> None:
    cache = PreparedCache(tmp_path)
    assert cache.load("key", "a") is None
    cache.save("key", prepare("a", *blob_case(0), PLAN))
    image = tmp_path / "prepared" / "key" / "image.npy"
    image.write_bytes(image.read_bytes()[:50])
    assert cache.load("key", "a") is None


def test_the_key_follows_the_preparation_and_the_files(tmp_path: Path) -> None:
    case = write_blobs(tmp_path, 2).cases[0]
    cache = PreparedCache(tmp_path)
    key = cache.key(case, PLAN)
    assert cache.key(case, tiny_plan(patch_size=(8, 8, 8))) == key
    assert cache.key(case, tiny_plan(spacing_mm=(1.0, 1.0, 2.0))) != key
    assert cache.key(case, tiny_plan(preparation=Preparation(crop_to="nonzero"))) != key
    assert case.reference is not None
    case.reference.write_bytes((tmp_path / "labelsTr" / "blob_1.nii.gz").read_bytes())
    assert cache.key(case, PLAN) != key


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    case = write_blobs(tmp_path, 1).cases[0]
    case.images[0].unlink()
    with pytest.raises(DatasetError, match=r"missing.*blob_0_0000"):
        PreparedCache(tmp_path).key(case, PLAN)


def test_a_run_writes_down_what_it_will_do(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "model")
    assert not run.exists
    run.start(PLAN, SPLIT)
    assert (run.exists, run.plan(), run.split()) == (True, PLAN, SPLIT)


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    name, cache = ".0123abcd.partial.", PreparedCache(tmp_path)
    left = [tmp_path / "m" / "training" / f"{name}state.safetensors", tmp_path / "prepared" / f"{name}case"]
    for path in (*left, tmp_path / "prepared" / "whole"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    cache.sweep()
    with RunFolder(tmp_path / "m").taken():
        assert [path.exists() for path in left] == [False, False]
    assert (tmp_path / "prepared" / "whole").exists()


def test_state_comes_back_with_its_facts(tmp_path: Path) -> None:
    run, state = RunFolder(tmp_path), training.start(PLAN)
    assert run.load_state(PLAN, device="cpu") is None
    state.facts.step, state.facts.best_dice = 5, 0.25
    run.save_state(state)
    loaded = run.load_state(PLAN, device="cpu")
    assert loaded is not None
    assert loaded.facts == state.facts
    for name, tensor in training.pack(state).items():
        assert torch.equal(training.pack(loaded)[name], tensor)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.save_state(training.start(PLAN))
    path = run.folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"checkpoint cannot be read.*start the run again"):
        run.load_state(PLAN, device="cpu")


def test_the_history_is_a_table_with_a_column_a_structure(tmp_path: Path) -> None:
    state = training.start(PLAN)
    state.facts.step = 4
    training.record(state, PLAN, 2, (0.5, None))
    RunFolder(tmp_path).write_history(state.facts, PLAN.labels)
    header, row = (tmp_path / "training" / "history.csv").read_text().splitlines()
    assert header.endswith("validation_dice,validation_dice_core,validation_dice_rim")
    assert row.endswith("0.5,0.5,")
