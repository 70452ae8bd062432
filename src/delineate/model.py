"""A trained model: weights, plan, labels, provenance; on disk one folder of JSON and safetensors, never pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from delineate.planning import Plan, Sums, plan_from_json, plan_to_json
from delineate.postprocessing import Rule

PLAN_FILE, LABELS_FILE, WEIGHTS_FILE, MODEL_FILE = "plan.json", "labels.json", "weights.safetensors", "model.json"


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """Whose scans one side of a split holds: numbers of cases and patients, and cases by site and by other groups."""

    cases: int
    patients: int
    sites: dict[str, int] = {}
    groups: dict[str, dict[str, int]] = {}


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from. `validation_dice`: mean over structures at `step`, None if nothing was validated.

    `populations`: of "training", "validation" and "held_out"; `environment`: the machine and the software, in words.
    Both are empty in models that were made before they were recorded.
    """

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
    origin: str = ""  # what it was imported from, if it was not trained by delineate
    populations: dict[str, Population] = {}
    environment: dict[str, str] = {}


class _Locate(msgspec.Struct, frozen=True, kw_only=True):
    structures: tuple[str, ...]
    margin_mm: float


class _Card(msgspec.Struct, frozen=True, kw_only=True):
    """model.json: what else belongs to the model, and the digests that show whether a piece was changed."""

    schema_version: int = 1
    digest: str
    files: dict[str, str]
    postprocessing: tuple[Rule, ...]
    provenance: Provenance
    stages: dict[str, str] = {}
    locate: _Locate | None = None


Weights = Mapping[str, Tensor]
"""A network's state by name, on the CPU."""


@dataclass(frozen=True, slots=True, eq=False)
class Locator:
    """Where to look first: the model runs only in the box of `structures`, as `model` sees them, and a margin."""

    model: Model
    structures: tuple[str, ...]
    margin_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Weights with everything needed to use them.

    `more_folds`: further weights of the same plan; the logits of all are averaged. `previous`: the cascade's stage
    before, whose masks the network sees as well. `partners`: further models of the same structures by other plans; the
    probabilities of all are averaged in the scan. `overlays`: further models; what they find is painted over what this
    one found, in their order. `plan.labels` are what this network finds, `labels` all structures of the result.
    """

    weights: Weights
    plan: Plan
    labels: LabelSet
    provenance: Provenance
    postprocessing: tuple[Rule, ...] = ()
    more_folds: tuple[Weights, ...] = ()
    previous: Model | None = None
    overlays: tuple[Model, ...] = ()
    locator: Locator | None = None
    partners: tuple[Model, ...] = ()
    _digests: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    @property
    def folds(self) -> tuple[Weights, ...]:
        return (self.weights, *self.more_folds)

    @property
    def stages(self) -> dict[str, Model]:
        """The other models this one consists of, by the name of their folder."""
        found = {} if self.previous is None else {"previous": self.previous}
        found |= {f"partner_{n}": partner for n, partner in enumerate(self.partners, start=1)}
        found |= {f"overlay_{n}": overlay for n, overlay in enumerate(self.overlays, start=1)}
        return found if self.locator is None else found | {"locator": self.locator.model}

    @property
    def digest(self) -> str:
        """sha256 over weights, plan, labels, the other stages and where to look: results refer to their model by it."""
        if not self._digests:  # hashing takes a while, and every result asks
            files = {name: _sha256(data) for name, data in _pieces(self)}
            self._digests["model"] = _combined(files, _stage_digests(self), _locate(self))
        return self._digests["model"]

    def network(self, fold: int = 0) -> nn.Module:
        """The network with the weights of a fold, for inference. Raises `ModelError` if they do not fit the plan."""
        net = build_network(self.plan.network, in_channels=self.plan.inputs, out_channels=self.plan.classes)
        try:
            net.load_state_dict(dict(self.folds[fold]))
        except RuntimeError as error:
            raise ModelError("the weights do not fit the plan's network", got=str(error).splitlines()[-1]) from error
        return net.eval()


def save_model(folder: Path, model: Model) -> None:
    """Write the model's files into `folder`, each atomically, the card with the digests last."""
    for name, stage in model.stages.items():
        save_model(folder / name, stage)
    files = {}
    for name, data in _pieces(model):
        files[name] = _sha256(data)
        write_bytes(folder / name, data)
    stages, locate = _stage_digests(model), _locate(model)
    digest = _combined(files, stages, locate)
    card = _Card(
        digest=digest,
        files=files,
        postprocessing=model.postprocessing,
        provenance=model.provenance,
        stages=stages,
        locate=locate,
    )
    write_text(folder / MODEL_FILE, msgspec.json.format(msgspec.json.encode(card), indent=2).decode() + "\n")
    model._digests["model"] = digest


def read_provenance(folder: Path) -> tuple[Provenance, str]:
    """Where the model in a folder came from, and its digest, without reading its weights. Raises `ModelError`."""
    card = _read_card(folder)
    return card.provenance, card.digest


def load_model(folder: Path) -> Model:
    """Read a model folder; beside the weights themselves, one file of them is in memory at a time.

    Raises `ModelError` for a missing or changed piece, an edited plan.json included.
    """
    card = _read_card(folder)
    weights = _weight_files(card.files, folder)
    stages = {name: load_model(folder / name) for name in card.stages}
    for name, digest in card.stages.items():
        _check_digest(stages[name].digest, digest, folder / name)
    try:
        plan = plan_from_json(_read_piece(folder, PLAN_FILE, card))
        labels = msgspec.json.decode(_read_piece(folder, LABELS_FILE, card), type=LabelSet)
        folds = [load(_read_piece(folder, name, card)) for name in weights]
    except (SafetensorError, msgspec.DecodeError, PlanError) as error:
        raise ModelError("a piece of the model cannot be read", got=str(error), path=folder) from error
    model = Model(
        weights=folds[0],
        plan=plan,
        labels=labels,
        provenance=card.provenance,
        postprocessing=card.postprocessing,
        more_folds=tuple(folds[1:]),
        previous=stages.get("previous"),
        overlays=tuple(stages[name] for name in sorted(stages, key=_number) if name.startswith("overlay_")),
        partners=tuple(stages[name] for name in sorted(stages, key=_number) if name.startswith("partner_")),
        locator=_locator(card, stages, folder),
    )
    model._digests["model"] = _combined(card.files, card.stages, card.locate)
    return model


def _weight_files(files: Mapping[str, str], folder: Path) -> list[str]:
    """The files with weights, in the order of the folds."""
    weights = [_weights_file(n) for n in range(len(files) - 2)]
    if len(weights) < 1 or set(files) != {PLAN_FILE, LABELS_FILE, *weights}:
        raise ModelError("the model's list of files is wrong", got=sorted(files), path=folder / MODEL_FILE)
    return weights


def _read_piece(folder: Path, name: str, card: _Card) -> bytes:
    data = _read(folder, name)
    _check_digest(_sha256(data), card.files[name], folder / name)
    return data


def _check_digest(got: str, expected: str, path: Path) -> None:
    if got != expected:
        raise ModelError(
            f"{path.name} was changed after the model was saved",
            expected=expected[:12],
            got=got[:12],
            path=path,
            remedy="Copy the model folder again, or train anew with the changed plan.",
        )


def _locator(card: _Card, stages: Mapping[str, Model], folder: Path) -> Locator | None:
    if (card.locate is None) != ("locator" not in stages):
        raise ModelError("the model's locator is incomplete", path=folder / MODEL_FILE, remedy="Copy the folder again.")
    return None if card.locate is None else Locator(stages["locator"], card.locate.structures, card.locate.margin_mm)


def _locate(model: Model) -> _Locate | None:
    locator = model.locator
    return None if locator is None else _Locate(structures=locator.structures, margin_mm=locator.margin_mm)


def _number(stage: str) -> int:
    digits = stage.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _stage_digests(model: Model) -> dict[str, str]:
    return {name: stage.digest for name, stage in model.stages.items()}


def _weights_file(fold: int) -> str:
    return f"weights_{fold}.safetensors" if fold else WEIGHTS_FILE


def with_tiling(
    model: Model, *, overlap: float | None = None, mirror: bool | None = None, sums: Sums | None = None
) -> Model:
    """The same model, its stages included, run with another overlap, with mirroring along the axes that training
    flipped or without, or with other sums.

    Raises `ModelError` for sums as nnU-Net makes them of a model that was not prepared as nnU-Net prepares.
    """
    if overlap is None and mirror is None and sums is None:
        return model
    tiling = model.plan.tiling
    if sums is not None:
        if sums == "nnunet" and tiling.centre != "nnunet":
            raise ModelError(
                "nnU-Net's masks are those of its own models",
                expected="an imported model, or one trained with --like nnunet",
                got=f"one of {model.plan.dataset!r} made delineate's way",
            )
        tiling = msgspec.structs.replace(tiling, sums=sums)
    if overlap is not None:
        tiling = msgspec.structs.replace(tiling, overlap=overlap)
    if mirror is not None:
        tiling = msgspec.structs.replace(tiling, mirror_axes=model.plan.augmentation.flip_axes if mirror else ())

    def tiled(stage: Model) -> Model:
        return with_tiling(stage, overlap=overlap, mirror=mirror, sums=sums)

    return replace(
        model,
        plan=msgspec.structs.replace(model.plan, tiling=tiling),
        previous=None if model.previous is None else tiled(model.previous),
        overlays=tuple(map(tiled, model.overlays)),
        partners=tuple(map(tiled, model.partners)),
        locator=None if model.locator is None else replace(model.locator, model=tiled(model.locator.model)),
    )


def _pieces(model: Model) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the model's own files; one after the other, because weights are large."""
    yield PLAN_FILE, plan_to_json(model.plan).encode()
    yield LABELS_FILE, msgspec.json.format(msgspec.json.encode(model.labels), indent=2) + b"\n"
    for fold, weights in enumerate(model.folds):
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}
        yield _weights_file(fold), save(tensors)


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


def _combined(files: Mapping[str, str], stages: Mapping[str, str], locate: _Locate | None) -> str:
    digests = {**files, **stages}
    if locate is not None:
        digests[MODEL_FILE] = _sha256(msgspec.json.encode(locate))
    return _sha256("\n".join(f"{name} {digest}" for name, digest in sorted(digests.items())).encode())


def versions() -> tuple[str, str]:
    """Versions of delineate and torch that made a model."""
    from importlib.metadata import version

    return version("delineate"), str(torch.__version__)
