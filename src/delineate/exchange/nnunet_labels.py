"""The labels and regions of nnU-Net's dataset.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delineate.errors import ModelError
from delineate.exchange.nnunet_json import DATASET, DatasetFile
from delineate.labels import LabelSet, Region, is_one_line, label_set, region_labels

_LARGEST_VALUE = 2**16 - 1  # of a label map


@dataclass(frozen=True, slots=True)
class Structures:
    """`names` in the order of the network's outputs, background left out; `regions` as in `Plan`."""

    names: tuple[str, ...]
    regions: tuple[Region, ...]
    labels: LabelSet


def structures_of(dataset: DatasetFile, folder: Path) -> Structures:
    """The labels, or regions, of dataset.json; without background and what nnU-Net ignores.

    Raises `ModelError` for labels that nnU-Net itself would not accept.
    """
    path = folder / DATASET
    named = {name: (v,) if isinstance(v, int) else tuple(v) for name, v in dataset.labels.items() if name != "ignore"}
    if set(named.pop("background", ())) != {0}:
        raise ModelError("dataset.json has no background label of value 0", got=dict(dataset.labels), path=path)
    for name, values in named.items():
        if not is_one_line(name) or not values or min(values) < 1 or max(values) > _LARGEST_VALUE:
            raise ModelError("dataset.json has a label that is none", got=f"{name!r}: {values}", path=path)
    if not named:
        raise ModelError("dataset.json has no labels besides background", path=path)
    if any(len(values) > 1 for values in named.values()):
        return _regions(named, dataset, path)
    ordered = sorted(named, key=lambda name: named[name])
    found = [named[name][0] for name in ordered]
    if found != list(range(1, len(found) + 1)):
        raise ModelError("dataset.json's labels must be 1, 2, 3, ...", got=found, path=path)
    return Structures(tuple(ordered), (), label_set(dict(zip(found, ordered, strict=True))))


def _regions(named: dict[str, tuple[int, ...]], dataset: DatasetFile, path: Path) -> Structures:
    order = dataset.regions_class_order or ()
    if len(order) != len(named) or min(order) < 1 or max(order) > _LARGEST_VALUE:
        raise ModelError(
            "dataset.json needs a regions_class_order with one value a region",
            expected=f"{len(named)} values",
            got=list(order),
            path=path,
        )
    regions = tuple(
        Region(name=name, values=values, paints=paints)
        for (name, values), paints in zip(named.items(), order, strict=True)
    )
    return Structures(tuple(named), regions, region_labels(regions))
