"""PyTorch checkpoints, read without trusting them.

A checkpoint is a pickle, and a pickle can run code. `torch.load(weights_only=True)` runs none: it knows tensors and
plain containers. What nnU-Net's training log adds to them (numpy's numbers) is allowed here by name; any other type
refuses the file.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delineate.errors import ModelError

_PREFIXES = ("module.", "_orig_mod.")  # of distributed and of compiled training
_BLOCKED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)|types allowlisted.*?but got (.+)")
_NUMBERS = (
    np.bool_,
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64),
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What nnU-Net writes for one fold. `weights`: the network's state, lazily read from the file, so it must stay.

    `mirror_axes`: spatial axes of the network's own input that may be mirrored. `configuration`, `trainer`, `epochs`:
    None where the file does not say.
    """

    path: Path
    weights: Mapping[str, Tensor]
    configuration: str | None
    trainer: str | None
    mirror_axes: tuple[int, ...]
    epochs: int | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one of nnU-Net's checkpoints.

    Raises `ModelError` for a file that is missing, damaged, holds a type that is not on the list (it could run code),
    or is no checkpoint of nnU-Net v2.
    """
    content = load_safely(path)
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights or not all(map(_is_plain, weights.values())):
        raise ModelError(
            "not a checkpoint of nnU-Net v2",
            expected="a dictionary with network_weights, real numbers in dense arrays",
            got=sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__,
            path=path,
        )
    arguments = content.get("init_args")
    axes = content.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, list | tuple) or not all(axis in (0, 1, 2) for axis in axes):
        raise ModelError("mirroring axes that are none", expected="some of 0, 1, 2", got=axes, path=path)
    return Checkpoint(
        path=path,
        weights={_bare(str(name)): tensor for name, tensor in weights.items()},
        configuration=_text(arguments.get("configuration")) if isinstance(arguments, dict) else None,
        trainer=_text(content.get("trainer_name")),
        mirror_axes=tuple(sorted({int(axis) for axis in axes})),
        epochs=content["current_epoch"] if isinstance(content.get("current_epoch"), int) else None,
    )


def _is_plain(value: object) -> bool:
    """Whether it is a tensor as networks have them: dense, of real numbers, none of them repeated by its strides.

    A file of a few bytes could else ask for any amount of memory.
    """
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    if value.is_complex() or value.is_quantized:
        return False
    return value.numel() * value.itemsize <= value.untyped_storage().nbytes()


def load_safely(path: Path) -> Any:
    """The content of a checkpoint; tensors are mapped from the file where its format allows that.

    Raises `ModelError` as `read_checkpoint` does.
    """
    if not path.is_file():
        raise ModelError(
            "no such checkpoint", path=path, remedy="Copy the model folder again, with its fold_* folders."
        )
    with _explained(path), torch.serialization.safe_globals(_allowed()):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))


def _is_zip(path: Path) -> bool:
    """Whether it has the format since PyTorch 1.6, whose tensors can be mapped."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\3\4"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: they are refused with an error, or read
            yield
    except pickle.UnpicklingError as error:
        blocked = _BLOCKED.search(str(error))
        if blocked is None:
            raise _damaged(path, "not the weights of a network, or only a part of them") from error
        raise ModelError(
            "the checkpoint holds more than weights and could run code, so it was not opened",
            expected="tensors, plain containers and numbers",
            got=blocked.group(1) or blocked.group(2),
            path=path,
            remedy="Take no such file from people you do not know. If it is your own, save its network_weights, "
            "init_args, trainer_name and inference_allowed_mirroring_axes as a new checkpoint.",
        ) from error
    except OSError as error:
        raise ModelError("the checkpoint cannot be read", got=error.strerror or str(error), path=path) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle or archive ends in any kind
        raise _damaged(path, (str(error).splitlines() or [type(error).__name__])[0]) from error


def _damaged(path: Path, got: str) -> ModelError:
    return ModelError("the checkpoint is damaged or cut off", got=got, path=path, remedy="Copy it again.")


def _allowed() -> list[Any]:
    """What may be in a checkpoint besides torch's own list: numpy's numbers, types and arrays of them.

    Both module paths of numpy are named: numpy 2 writes `numpy._core`, numpy 1 wrote `numpy.core`.
    """
    scalar = np.float64(0).__reduce__()[0]
    rebuild = np.zeros(1).__reduce__()[0]
    named = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for function, name in ((scalar, "scalar"), (rebuild, "_reconstruct"))
    ]
    return [np.dtype, np.ndarray, *named, *_NUMBERS, *(type(np.dtype(number)) for number in _NUMBERS)]


def _bare(name: str) -> str:
    """A tensor's name without what wrappers of the network put before it."""
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
