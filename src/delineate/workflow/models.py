"""`delineate import-model` and `export-model`: between nnU-Net's, MONAI's and other folders and a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from delineate.errors import DelineateError, ExportError, ModelError
from delineate.exchange import MODEL_EXPORTERS, read_nnunet, read_nnunet_parts, with_locator
from delineate.exchange.notes import write_readme
from delineate.files import atomic_path, check_writable, write_text
from delineate.model import MODEL_FILE, Model, load_model, save_model

_EXPORT_FILE = "export.json"
TITLES = {"nnunet": "nnU-Net model", "onnx": "ONNX networks", "torchscript": "TorchScript networks"}


class _Export(msgspec.Struct, frozen=True, kw_only=True):
    """export.json: it also shows that a folder is an export, and may be replaced by another."""

    format: str
    model: str
    delineate: str


@dataclass(frozen=True, slots=True)
class ModelImport:
    """What of an nnU-Net model is taken, and how; None leaves the choice to `read_nnunet`.

    `values`: a JSON file, structure to value or value to structure, for models of several parts. `within`: a model
    folder that finds `structures` first; this one then runs only there, with `margin_mm` around.
    """

    configuration: str | None = None
    folds: tuple[int | str, ...] | None = None
    checkpoint: str | None = None
    orientation: str | None = None
    values: Path | None = None
    within: Path | None = None
    structures: tuple[str, ...] = ()
    margin_mm: float = 20.0


def import_model(sources: Sequence[Path], folder: Path, options: ModelImport, *, again: bool = False) -> Model:
    """Read nnU-Net models (several are parts of one) and write a model folder, whole or not at all.

    Raises `ModelError` for what cannot be read, or if `folder` holds something that is not to be replaced.
    """
    if folder.exists() and not (again and (folder / MODEL_FILE).is_file() and not (folder / "training").exists()):
        trained = "It holds a training run: choose another." if again else "Choose another, or give --again."
        raise ModelError("the folder is there already", path=folder, remedy=trained)
    check_writable(folder.parent)
    locator = None if options.within is None else load_model(options.within)
    for name in options.structures:
        if locator is None:
            raise ModelError("structures to look for, and no model that finds them", got=name, remedy="Give --within.")
        locator.labels.named(name)
    model = _read(sources, options)
    if locator is not None:
        model = with_locator(model, locator, options.structures, options.margin_mm)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_model(temporary, model)
    return model


def _read(sources: Sequence[Path], options: ModelImport) -> Model:
    values = None if options.values is None else read_values(options.values)
    if len(sources) == 1 and values is None:
        return read_nnunet(
            sources[0],
            configuration=options.configuration,
            folds=options.folds,
            checkpoint=options.checkpoint,
            orientation=options.orientation,
        )
    return read_nnunet_parts(
        sources,
        values=values,
        configuration=options.configuration,
        folds=options.folds,
        checkpoint=options.checkpoint,
        orientation=options.orientation,
    )


def read_values(path: Path) -> dict[str, int]:
    """Values of structures by name, from a JSON object of either name to value or value to name.

    Raises `ModelError` if it is neither.
    """
    try:
        table = msgspec.json.decode(path.read_bytes(), type=dict[str, int | str])
        if all(isinstance(value, int) for value in table.values()):
            return {name: int(value) for name, value in table.items()}
        return {str(name): int(value) for value, name in table.items()}
    except (OSError, msgspec.DecodeError, ValueError) as error:
        remedy = 'Write {"liver": 5, "spleen": 1}.'
        raise ModelError("the table of values cannot be read", got=str(error), path=path, remedy=remedy) from error


def export_model(source: Path, folder: Path, *, to: str, again: bool = False) -> tuple[str, ...]:
    """Write a model for another system, whole or not at all; what differs there, or must be known, in sentences.

    Raises `ExportError` for an unknown format, for a model that it cannot hold, or if `folder` is there already; with
    `again` another export is replaced.
    """
    if to not in MODEL_EXPORTERS:
        raise ExportError("no such format of models", expected=f"one of {', '.join(MODEL_EXPORTERS)}", got=to)
    if folder.exists() and not again:
        raise ExportError("the folder is there already", path=folder, remedy="Choose another, or give --again.")
    if folder.exists() and not (folder / _EXPORT_FILE).is_file():
        raise ExportError("the folder is no export, and is not replaced", path=folder, remedy="Choose another.")
    model = load_model(source)
    check_writable(folder.parent)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        try:
            notes = MODEL_EXPORTERS[to](model, temporary)
        except DelineateError as error:
            raise error if error.path else error.at(source) from error
        _complete(temporary, model, to, notes)
    return notes


def _complete(folder: Path, model: Model, to: str, notes: tuple[str, ...]) -> None:
    if to in TITLES:  # bundles have their own place for it
        write_readme(folder, TITLES[to], model, notes)
    export = _Export(format=to, model=model.digest, delineate=model.provenance.delineate)
    write_text(folder / _EXPORT_FILE, msgspec.json.format(msgspec.json.encode(export), indent=2).decode() + "\n")
