"""A trained model: weights, plan, labels, provenance; on disk one folder of JSON and safetensors, never pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from delineate.errors import ModelError, PlanError
from delineate.files import write_bytes, write_text
from delineate.labels import LabelSet
from delineate.networks import build_network
from delineate.planning import Plan, plan_from_json, plan_to_json
from delineate.postprocessing import Rule

PLAN_FILE, LABELS_FILE, WEIGHTS_FILE, MODEL_FILE = "plan.json", "labels.json", "weights.safetensors", "model.json"


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from. `validation_dice`: mean over structures at `step`, None if nothing was validated."""

    dataset: str
    dataset_digest: str
    training_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    held_out_cases: tuple[str, ...]
    step: int
    seconds: float
    validation_dice: float | None
    created: str
    delineate: str
    torch: str


class _Card(msgspec.Struct, frozen=True, kw_only=True):
    """model.json: what else belongs to the model, and the digests that show whether a piece was changed."""

    schema_version: int = 1
    digest: str
    files: dict[str, str]
    postprocessing: tuple[Rule, ...]
    provenance: Provenance


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Weights with everything needed to use them. `weights` are the network's state by name, on the CPU."""

    weights: Mapping[str, Tensor]
    plan: Plan
    labels: LabelSet
    provenance: Provenance
    postprocessing: tuple[Rule, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over weights, plan and labels: the name by which results refer to their model."""
        return _combined({name: _sha256(data) for name, data in _pieces(self).items()})

    def network(self) -> nn.Module:
        """The network with these weights, for inference. Raises `ModelError` if they do not fit the plan."""
        net = build_network(self.plan.network, in_channels=len(self.plan.channels), out_channels=self.plan.classes)
        try:
            net.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise ModelError("the weights do not fit the plan's network", got=str(error).splitlines()[-1]) from error
        return net.eval()


def save_model(folder: Path, model: Model) -> None:
    """Write the model's files into `folder`, each atomically, the card with the digests last."""
    pieces = _pieces(model)
    files = {name: _sha256(data) for name, data in pieces.items()}
    card = _Card(digest=_combined(files), files=files, postprocessing=model.postprocessing, provenance=model.provenance)
    for name, data in pieces.items():
        write_bytes(folder / name, data)
    write_text(folder / MODEL_FILE, msgspec.json.format(msgspec.json.encode(card), indent=2).decode() + "\n")


def load_model(folder: Path) -> Model:
    """Read a model folder.

    Raises `ModelError` for a missing or changed piece, an edited plan.json included.
    """
    card = _read_card(folder)
    pieces = {name: _read(folder, name) for name in card.files}
    if set(pieces) != {PLAN_FILE, LABELS_FILE, WEIGHTS_FILE}:
        raise ModelError("the model's list of files is wrong", got=sorted(pieces), path=folder / MODEL_FILE)
    for name, digest in card.files.items():
        if _sha256(pieces[name]) != digest:
            raise ModelError(
                f"{name} was changed after the model was saved",
                expected=digest[:12],
                got=_sha256(pieces[name])[:12],
                path=folder / name,
                remedy="Copy the model folder again, or train anew with the changed plan.",
            )
    try:
        return Model(
            weights=load(pieces[WEIGHTS_FILE]),
            plan=plan_from_json(pieces[PLAN_FILE]),
            labels=msgspec.json.decode(pieces[LABELS_FILE], type=LabelSet),
            provenance=card.provenance,
            postprocessing=card.postprocessing,
        )
    except (SafetensorError, msgspec.DecodeError, PlanError) as error:
        raise ModelError("a piece of the model cannot be read", got=str(error), path=folder) from error


def with_tiling(model: Model, *, overlap: float | None = None, mirror: bool | None = None) -> Model:
    """The same model, run with another overlap, or with mirroring along the axes that training flipped, or without."""
    tiling = model.plan.tiling
    if overlap is not None:
        tiling = msgspec.structs.replace(tiling, overlap=overlap)
    if mirror is not None:
        tiling = msgspec.structs.replace(tiling, mirror_axes=model.plan.augmentation.flip_axes if mirror else ())
    return replace(model, plan=msgspec.structs.replace(model.plan, tiling=tiling))


def _pieces(model: Model) -> dict[str, bytes]:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.weights.items())}
    return {
        PLAN_FILE: plan_to_json(model.plan).encode(),
        LABELS_FILE: msgspec.json.format(msgspec.json.encode(model.labels), indent=2) + b"\n",
        WEIGHTS_FILE: save(weights),
    }


def _read_card(folder: Path) -> _Card:
    if not folder.is_dir():
        raise ModelError("no such model folder", path=folder, remedy="Train one with `delineate train`.")
    try:
        return msgspec.json.decode(_read(folder, MODEL_FILE), type=_Card)
    except msgspec.DecodeError as error:
        raise ModelError("the model's card cannot be read", got=str(error), path=folder / MODEL_FILE) from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(
            f"the model folder lacks {name}",
            got=error.strerror,
            path=folder,
            remedy="If it is still training, wait for the first checkpoint; else copy it again.",
        ) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _combined(files: Mapping[str, str]) -> str:
    return _sha256("\n".join(f"{name} {digest}" for name, digest in sorted(files.items())).encode())


def versions() -> tuple[str, str]:
    """Versions of delineate and torch that made a model."""
    from importlib.metadata import version

    return version("delineate"), str(torch.__version__)
