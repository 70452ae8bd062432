"""Plain labels united into regions that overlap, as a person asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delineate.dataset.cases import Dataset
from delineate.errors import LabelError
from delineate.labels import LabelSet, is_one_line, make_regions, region_labels


def unite_labels(dataset: Dataset, wishes: Sequence[str]) -> Dataset:
    """The dataset with regions in place of its labels: "whole=1,2,3" or "whole=edema,core,rim", one a region.

    The references stay as they are. No wishes give the dataset as it is. Raises `LabelError` for what is no wish,
    labels that are not there, and a dataset that has regions already.
    """
    if not wishes:
        return dataset
    if dataset.labels.overlaps:
        raise LabelError(
            "the dataset has regions already", got=list(dataset.labels.names), remedy="Change them in dataset.json."
        )
    named: dict[str, tuple[int, ...]] = {}
    for wish in wishes:
        name, _, members = wish.partition("=")
        name, parts = name.strip(), [part.strip() for part in members.split(",") if part.strip()]
        if not is_one_line(name) or not parts:
            raise LabelError("no region", expected='a name and its labels, such as "whole=1,2,3"', got=wish)
        if name in named:
            raise LabelError(f"region {name!r} is given twice", got=list(wishes))
        named[name] = tuple(_value(part, dataset.labels) for part in parts)
    return replace(dataset, labels=region_labels(make_regions(named), ignore=dataset.labels.ignore))


def _value(part: str, labels: LabelSet) -> int:
    value = labels.named(part).value if part in labels.names else int(part) if part.isdecimal() else None
    if value not in labels.values:
        raise LabelError(
            "a region of a label that is not there",
            expected=f"among {', '.join(f'{label.value} {label.name}' for label in labels)}",
            got=part,
        )
    return value
