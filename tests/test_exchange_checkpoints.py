"""Checkpoints: what they may hold, and that code in them does not run."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import nnunet_models as made
import numpy as np
import pytest
import torch

from delineate.errors import ModelError
from delineate.exchange.checkpoints import read_checkpoint


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def saved(folder: Path, content: Any, **how: Any) -> Path:
    path = folder / "checkpoint_final.pth"
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize("format_of_today", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, format_of_today: bool) -> None:
    content = made.checkpoint(logging=Evil(tmp_path / "ran"))
    path = saved(tmp_path, content, _use_new_zipfile_serialization=format_of_today)
    with pytest.raises(ModelError, match=r"could run code, so it was not opened.*got \w+\.system"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_does_not_run_either(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(ModelError, match=r"not opened|damaged"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_types_that_are_not_on_the_list_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path, made.checkpoint(logging=collections.deque([1])))
    with pytest.raises(ModelError, match=r"got collections\.deque"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(2**50),
        torch.eye(2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, device="meta"),
    ],
)
def test_tensors_that_no_network_has_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="real numbers in dense arrays"):
        read_checkpoint(saved(tmp_path, made.checkpoint({"encoder.weight": tensor})))


def test_numpys_numbers_are_allowed(tmp_path: Path) -> None:
    log = [np.float32(1), np.float64(2), np.int64(3), np.bool_(True), np.ones((2, 3)), np.arange(3)]
    assert read_checkpoint(saved(tmp_path, made.checkpoint(logging=log))).epochs == 4


def test_the_module_paths_of_numpy_1_are_allowed(tmp_path: Path) -> None:
    path = saved(tmp_path, made.checkpoint(), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert read_checkpoint(path).trainer == "nnUNetTrainer"


def test_what_nnunet_says_of_the_model_is_read(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path, made.checkpoint(inference_allowed_mirroring_axes=[2, 0])))
    assert (found.configuration, found.mirror_axes, found.epochs) == ("3d_fullres", (0, 2), 4)


def test_old_checkpoints_that_say_less_are_read(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path, {"network_weights": made.Network().state_dict()}))
    assert (found.configuration, found.trainer, found.mirror_axes, found.epochs) == (None, None, (), None)


@pytest.mark.parametrize("keep", [0, 3, 1000, -1000])
def test_a_truncated_checkpoint_is_damaged(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path, made.checkpoint())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged or cut off"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"network_weights": {"a": 1}}])
def test_what_is_no_checkpoint_of_nnunet_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ModelError, match="not a checkpoint of nnU-Net v2"):
        read_checkpoint(saved(tmp_path, content))


def test_mirroring_axes_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mirroring axes that are none"):
        read_checkpoint(saved(tmp_path, made.checkpoint(inference_allowed_mirroring_axes=(3,))))
