"""What label maps' values mean, and whose the cases are: from a dataset, from what `predict` wrote, or from nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from delineate import formats
from delineate.dataset import Dataset, open_dataset, read_labels
from delineate.errors import DatasetError, DelineateError, InputError, LabelError
from delineate.labels import LabelSet, Region, label_set
from delineate.volume import Kind
from delineate.workflow.pairing import Pair, Pairing
from delineate.workflow.results import ResultRecord, read_record


@dataclass(frozen=True, slots=True)
class Names:
    """What the label maps' values mean, and who the cases are of: patient, groups and scan by case.

    `images`: the scan's first channel, which measures `kind`. `regions`: where structures overlap, what `predict` wrote
    of the values that each consists of.
    """

    labels: LabelSet
    patients: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)
    kind: Kind = Kind.OTHER
    regions: ResultRecord | None = None


def find_names(references: Path, pairing: Pairing) -> Names:
    """Names of the structures: of regions what the dataset says, else what predict wrote; else from the dataset, else
    what predict wrote, else values. A folder of references belongs to the dataset that it lies in.

    Raises `LabelError` if nothing but the predictions says what values mean, and they contradict each other,
    `InputError` if nothing says it and the references hold none.
    """
    records = [record for pair in pairing.pairs if pair.prediction and (record := read_record(pair.prediction))]
    told, dataset = _told_beside(references, pairing.dataset)
    regions = next((record for record in records if record.regions), None)
    if told is not None and told.regions:
        regions, labels = _record_of(told), told
    elif regions is not None:
        regions = _with_others(regions, told, pairing.pairs)
        labels = label_set({value: name for name, value in regions.labels.items()}, overlaps=True)
        if told is not None and told.ignore is not None:
            labels = replace(labels, regions=regions_of(regions), ignore=told.ignore)
    elif told is not None:
        labels = told
    else:
        labels = _labels_by_value(pairing.pairs, _named_values(records))
    if dataset is None:
        return Names(labels, regions=regions)
    return Names(
        labels,
        patients={case.id: case.patient_id for case in dataset.cases},
        groups=_groups(dataset),
        images={case.id: case.images[0] for case in dataset.cases if case.images},
        kind=next(iter(dataset.kinds), Kind.OTHER),
        regions=regions,
    )


def regions_of(record: ResultRecord) -> tuple[Region, ...]:
    """What a record says of overlapping structures; what they paint is of no account."""
    return tuple(
        Region(name=name, values=tuple(values), paints=values[0]) for name, values in record.regions.items() if values
    )


def _told_beside(references: Path, dataset: Dataset | None) -> tuple[LabelSet | None, Dataset | None]:
    """What a dataset.json says of references in its folder, or in one below it: names at least, cases maybe."""
    folder = references.parent if references.is_file() else references
    place = next((place for place in (folder, folder.parent) if (place / "dataset.json").is_file()), None)
    if dataset is not None or place is None:
        return None if dataset is None else dataset.labels, dataset
    try:
        found = open_dataset(place)
    except DatasetError:
        return read_labels(place), None
    return found.labels, found


def _groups(dataset: Dataset) -> dict[str, Mapping[str, str]]:
    return {
        case.id: {name: value for name, value in (("site", case.site), *case.groups) if value} for case in dataset.cases
    }


def _named_values(records: Sequence[ResultRecord]) -> dict[int, str]:
    """What all predictions say that values mean; they may know different structures."""
    names: dict[int, str] = {}
    for record in records:
        for name, value in record.labels.items():
            if names.get(value, name) != name or (name in names.values() and value not in names):
                raise LabelError(
                    "the predictions give values different names",
                    expected=f"as in others, {dict(sorted(names.items()))}",
                    got=f"{value} for {name}",
                    case=record.case,
                    remedy="Say what the references' values mean: in a dataset.json beside them.",
                )
            names[value] = name
    return names


def _labels_by_value(pairs: Sequence[Pair], names: Mapping[int, str]) -> LabelSet:
    """Those that are named, and label_N for each other value that a reference has: a structure that no prediction knows
    is one that all have missed."""
    values, problem = _values_in(pairs)
    if not (values := values | set(names) - {0}):
        raise InputError(
            "the references hold no structure",
            expected="values above 0",
            got=problem or "0 alone",
            path=pairs[0].reference.parent if pairs else None,
        )
    return label_set({value: names.get(value, f"label_{value}") for value in sorted(values)})


def _with_others(regions: ResultRecord, told: LabelSet | None, pairs: Sequence[Pair]) -> ResultRecord:
    """With what the references have outside all regions: structures that the predictions do not know."""
    if told is None:
        named = {value: f"label_{value}" for value in _values_in(pairs)[0]}
    else:
        named = {label.value: label.name for label in told}
    known = set().union(*regions.regions.values())
    others = {
        name: value for value, name in sorted(named.items()) if value not in known and name not in regions.regions
    }
    free = itertools.count(max(regions.labels.values()) + 1)
    return msgspec.structs.replace(
        regions,
        labels={**regions.labels, **dict(zip(others, free, strict=False))},
        regions={**regions.regions, **{name: [value] for name, value in others.items()}},
    )


def _record_of(labels: LabelSet) -> ResultRecord:
    """A dataset's regions, in the words of `predict`."""
    return ResultRecord(
        case="",
        labels={label.name: label.value for label in labels},
        regions={region.name: list(region.values) for region in labels.regions},
        volumes_ml={},
        model="",
        series_uid=None,
        seconds=0.0,
    )


def _values_in(pairs: Sequence[Pair]) -> tuple[set[int], str]:
    """The values above 0 of all references, and why one of them cannot be read."""
    values: set[int] = set()
    problem = ""
    for pair in pairs:
        try:
            values.update(np.unique(formats.read_label_values(pair.reference)[0]).tolist())
        except DelineateError as error:
            problem = str(error)
    return values - {0}, problem
