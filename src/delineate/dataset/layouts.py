"""Where datasets come from: Decathlon and nnU-Net folders, mixtures of both, and tables of pairs.

Medical Segmentation Decathlon: dataset.json with "modality" {"0": "CT"}, "labels" {"1": "liver"} and a
"training" list of {"image", "label"}; one file may hold all channels.
nnU-Net v2: dataset.json with "channel_names", "labels" {"liver": 1} and "file_ending"; cases are the files
imagesTr/CASE_0000.nii.gz (one a channel) and labelsTr/CASE.nii.gz. A label that consists of several values, {"whole":
[1, 2], "core": 2}, makes all of them regions, painted with "regions_class_order"; "ignore" has the highest value.
A case may lack a channel (in a list: null). Label maps of further readers lie in folders labelsTr_NAME, named as the
first one's (in a list: "label" is a list).
An optional cases.csv beside it (case, patient_id, site, and any further columns as groups) says who is who.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from delineate.dataset.cases import Case, Dataset
from delineate.dataset.readers import add_readers
from delineate.errors import DatasetError, LabelError
from delineate.files import write_text
from delineate.labels import LabelSet, label_set, make_regions, region_labels

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".tiff", ".tif", ".png", ".npy", ".npz", ".hdr")
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
_EXAMPLE = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}'


def open_dataset(path: Path) -> Dataset:
    """The dataset in a folder (or at its dataset.json). Files are listed, not read: see `check_files`.

    `path` may also be a table of files (see `from_csv`) beside a dataset.json that names channels and labels.

    Raises `DatasetError` for what makes it no dataset at all: no dataset.json or one that cannot be read,
    channels or labels that it does not name, no cases, a cases.csv that cannot be understood.
    """
    folder = path.parent if path.suffix in (".json", ".csv") else path
    content = _read_json(folder)
    channels = _channels(content, folder / "dataset.json")
    labels = _labels(content, folder / "dataset.json")
    if path.suffix == ".csv":
        return from_csv(path, labels, channels=channels)
    cases = _listed_cases(folder, content, channels) or _found_cases(folder, content, channels)
    if not cases:
        raise DatasetError(
            "the dataset has no cases",
            path=folder,
            remedy='List them under "training" in dataset.json, or put images in imagesTr and references in labelsTr.',
        )
    cases = add_readers(folder, cases)
    rows = read_case_table(folder)
    cases = tuple(_told_by_row(case, rows[case.id]) if case.id in rows else case for case in cases)
    return Dataset(str(content.get("name") or folder.resolve().name), channels, labels, cases)


def read_labels(path: Path) -> LabelSet:
    """The labels that a dataset.json (or the one in a folder) names; raises `DatasetError` as `open_dataset` does, and
    for a file of another name, beside which another dataset's may lie."""
    if path.is_file() and path.name != "dataset.json":
        raise DatasetError("labels are read from a dataset.json only", got=path.name, path=path)
    folder = path.parent if path.name == "dataset.json" else path
    return _labels(_read_json(folder), folder / "dataset.json")


def from_pairs(
    pairs: Sequence[tuple[Sequence[Path], Path | None]],
    labels: LabelSet,
    *,
    channels: Sequence[str],
    name: str = "dataset",
) -> Dataset:
    """A dataset from (images by channel, reference or None) pairs; each pair is a patient of its own.

    Ids are the references' file names without endings (the images' where there is no reference), or their
    folders' names where those tell the cases apart and file names do not. Raises `DatasetError` for no pairs.
    """
    if not pairs:
        raise DatasetError("no images were given", remedy="Give at least one image with its reference.")
    paths = [(tuple(Path(image) for image in images), reference) for images, reference in pairs]
    ids = _tell_apart([reference or images[0] for images, reference in paths])
    cases = tuple(
        Case(case_id, case_id, images, None if reference is None else Path(reference))
        for case_id, (images, reference) in zip(ids, paths, strict=True)
    )
    return Dataset(name, tuple(channels), labels, cases)


def from_csv(path: Path, labels: LabelSet, *, channels: Sequence[str], name: str | None = None) -> Dataset:
    """A dataset from a table of files, relative to the table's folder or absolute.

    Columns: image (or image, image2, ... one a channel; empty for one that a case lacks), label (may be empty; label2,
    ... of further readers); optionally case, patient_id, site; any other column is a group. Raises `DatasetError` for
    a table without rows or without "image".
    """
    rows = _read_table(path, needs="image")
    columns = sorted((c for c in rows[0] if re.fullmatch(r"image\d*", c)), key=lambda c: int(c[5:] or 1))
    pairs = [
        (
            [path.parent / row[column] for column in columns if row[column]],
            path.parent / row["label"] if row.get("label") else None,
        )
        for row in rows
    ]
    for line, (images, _) in enumerate(pairs, start=2):
        if not images:
            raise DatasetError(f"line {line} of the table names no image", path=path, remedy="Fill it in or remove it.")
    dataset = from_pairs(pairs, labels, channels=channels, name=name or path.stem)
    readers = sorted((c for c in rows[0] if re.fullmatch(r"label\d+", c)), key=lambda c: int(c[5:]))
    extra = [{k: v for k, v in row.items() if k not in {*columns, *readers, "label"}} for row in rows]
    cases = (
        replace(
            case,
            id=row.get("case") or case.id,
            patient_id=row.get("case") or case.id,
            absent=tuple(n for n, c in enumerate(columns) if not row[c]) if len(columns) == len(channels) else (),
            others=tuple(path.parent / row[c] for c in readers if row.get("label") and row[c]),
        )
        for case, row in zip(dataset.cases, rows, strict=True)
    )
    return replace(dataset, cases=tuple(_told_by_row(case, row) for case, row in zip(cases, extra, strict=True)))


def write_dataset_json(folder: Path, dataset: Dataset) -> Path:
    """Write `folder`/dataset.json so that `open_dataset(folder)` gives the same dataset; returns its path.

    Paths inside the folder are written relative to it. Colours and codes of labels are not kept. Raises
    `DatasetError` for labels that overlap and have no regions.
    """
    target = folder / "dataset.json"
    if dataset.labels.overlaps and not dataset.labels.regions:
        raise DatasetError("dataset.json cannot say that labels overlap without the values of each", path=target)
    first = next((case.reference or case.images[0] for case in dataset.cases), Path())
    content = {
        "name": dataset.name,
        "channel_names": {str(n): channel for n, channel in enumerate(dataset.channels)},
        **_labels_json(dataset.labels),
        "numTraining": len(dataset.cases),
        "file_ending": first.name[len(_stem(first)) :] or ".nii.gz",
        "training": [_entry(case, folder) for case in dataset.cases],
    }
    write_text(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return target


def put_cases(folder: Path, cases: Sequence[Case]) -> Path:
    """Write cases into `folder`/dataset.json, each in place of the one with its id or before all others; its path.

    Before them, because the last cases are those that trainings set aside: they stay the same. Everything else that
    stands there is kept. Where nothing was listed, all cases that `open_dataset` finds are listed from then on.
    Raises `DatasetError` as `open_dataset` does, but for a dataset without cases.
    """
    target = folder / "dataset.json"
    content = _read_json(folder)
    channels = _channels(content, target)
    listed = _listed_cases(folder, content, channels)
    if listed and content.get("training"):
        entries = dict(zip((case.id for case in listed), _entries(content, target), strict=True))
    else:
        known = open_dataset(folder).cases if listed or _found_cases(folder, content, channels) else ()
        entries = {case.id: _entry(case, folder) for case in known}
    given = {case.id: entries.get(case.id, {}) | _entry(case, folder) for case in cases}
    entries = {case_id: entry for case_id, entry in given.items() if case_id not in entries} | entries | given
    content |= {"numTraining": len(entries), "training": list(entries.values())}
    write_text(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return target


def _labels_json(labels: LabelSet) -> dict[str, Any]:
    """The labels as nnU-Net writes them."""
    values: dict[str, Any] = {"background": 0}
    if labels.regions:
        values |= {r.name: list(r.values) if len(r.values) > 1 else r.values[0] for r in labels.regions}
    else:
        values |= {label.name: label.value for label in labels}
    if labels.ignore is not None:
        values["ignore"] = labels.ignore
    order = {"regions_class_order": [region.paints for region in labels.regions]} if labels.regions else {}
    return {"labels": values, **order}


def _entry(case: Case, folder: Path) -> dict[str, Any]:
    images: list[str | None] = [_relative(image, folder) for image in case.images]
    for channel in sorted(case.absent):
        images.insert(channel, None)
    entry: dict[str, Any] = {"id": case.id, "image": images[0] if len(images) == 1 else images}
    if case.reference is not None:
        readers = [_relative(reference, folder) for reference in case.references]
        entry["label"] = readers if case.others else readers[0]
    entry["patient_id"] = case.patient_id
    if case.site is not None:
        entry["site"] = case.site
    if case.groups:
        entry["groups"] = dict(case.groups)
    return entry


def _relative(path: Path, folder: Path) -> str:
    absolute, base = path.absolute(), folder.absolute()
    return f"./{absolute.relative_to(base).as_posix()}" if absolute.is_relative_to(base) else absolute.as_posix()


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    if not path.is_file():
        found = [name for name in ("imagesTr", "labelsTr") if (folder / name).is_dir()]
        if found:
            raise DatasetError(
                f"the folder has {' and '.join(found)} but no dataset.json, so its channels and labels are unknown",
                path=folder,
                remedy=f"Write a dataset.json such as {_EXAMPLE}.",
            )
        what = "is no dataset: it has no dataset.json" if folder.is_dir() else "does not exist"
        raise DatasetError(
            f"the folder {what}",
            path=folder,
            remedy="Give a folder in the layout of the Medical Segmentation Decathlon or nnU-Net.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise DatasetError("dataset.json cannot be read", path=path, got=str(error)) from error
    if not isinstance(content, dict):
        raise DatasetError("dataset.json is not an object", expected="{...}", got=type(content).__name__, path=path)
    return content


def _channels(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    names = content.get("channel_names", content.get("modality"))
    if isinstance(names, dict) and names and all(str(key).isdecimal() for key in names):
        return tuple(str(names[key]) for key in sorted(names, key=int))
    if isinstance(names, list) and names:
        return tuple(str(name) for name in names)
    raise DatasetError(
        "dataset.json does not name the channels",
        expected='"channel_names": {"0": "CT"} (or "modality")',
        got=names,
        path=path,
    )


def _labels(content: Mapping[str, Any], path: Path) -> LabelSet:
    items = content.get("labels")
    if not isinstance(items, dict) or not items:
        raise DatasetError(
            "dataset.json does not name the labels",
            expected='"labels": {"background": 0, "liver": 1}',
            got=items,
            path=path,
        )
    decathlon = all(str(key).isdecimal() for key in items)
    pairs = [(key, item) if decathlon else (item, key) for key, item in items.items()]
    named = [(str(name), _values(value, str(name), path)) for value, name in pairs]
    found = {name: values for name, values in named if name not in ("background", "ignore") and values != (0,)}
    _check_special(dict(named), path)
    if not found:
        raise DatasetError("dataset.json names no label but the background", got=items, path=path)
    ignore = dict(named).get("ignore", (None,))[0]
    if any(len(values) > 1 for values in found.values()):
        return _regions(found, content.get("regions_class_order"), ignore, path)
    by_value: dict[int, str] = {}
    for name, (value,) in ((name, values) for name, values in named if values != (0,) and name != "ignore"):
        if value in by_value:
            raise DatasetError(f"labels {by_value[value]!r} and {name!r} have one value", got=value, path=path)
        by_value[value] = name
    try:
        return replace(label_set(by_value), ignore=ignore)
    except LabelError as error:
        raise error.at(path) from error


def _check_special(named: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """nnU-Net's two names with a meaning: background is 0, and what is ignored has the highest value of all."""
    if set(named.get("background", (0,))) != {0}:
        raise DatasetError("background must have value 0", got=list(named["background"]), path=path)
    ignore = named.get("ignore")
    highest = max((value for name, values in named.items() if name != "ignore" for value in values), default=0)
    if ignore is not None and (len(ignore) > 1 or ignore[0] <= highest):
        raise DatasetError(
            "'ignore' must have one value, above those of all labels",
            expected=highest + 1,
            got=list(ignore),
            path=path,
            remedy="Give it the highest value, in dataset.json and in the references.",
        )


def _regions(named: Mapping[str, tuple[int, ...]], order: object, ignore: int | None, path: Path) -> LabelSet:
    if order is not None and not (isinstance(order, list) and all(isinstance(value, int) for value in order)):
        raise DatasetError("regions_class_order is no list of whole numbers", got=order, path=path)
    try:
        return region_labels(make_regions(named, order), ignore=ignore)
    except LabelError as error:
        raise DatasetError(
            f"dataset.json: {error.problem}",
            expected=error.expected,
            got=error.got,
            path=path,
            remedy='Such as "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2].',
        ) from error


def _values(value: object, name: str, path: Path) -> tuple[int, ...]:
    """The value of a label, or those of a region."""
    members = value if isinstance(value, list) and value else [value]
    try:
        return tuple(int(str(member)) for member in members)
    except ValueError:
        raise DatasetError(
            f"label {name!r} has no whole number as its value", expected="0, 1, 2, ...", got=value, path=path
        ) from None


def _listed_cases(folder: Path, content: Mapping[str, Any], channels: Sequence[str]) -> tuple[Case, ...]:
    entries = _entries(content, folder / "dataset.json")
    images = [_with_channels(folder, entry["image"], len(channels)) for entry in entries]
    readers = [_with_readers(folder, entry.get("label")) for entry in entries]
    named = _tell_apart([(read or paths)[0] for paths, read in zip(images, readers, strict=True)])
    cases = []
    for entry, paths, read, name in zip(entries, images, readers, named, strict=True):
        case_id = str(entry.get("id") or name)
        groups, absent = entry.get("groups"), _absent(entry["image"])
        case = Case(case_id, case_id, paths, read[0] if read else None, absent=absent, others=read[1:])
        told = _told(case, entry)
        cases.append(replace(told, groups=_pairs(groups if isinstance(groups, dict) else {})))
    return tuple(cases)


def _entries(content: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Training entries as {"image", "label", ...}; also nnU-Net's {"dataset": {case: {"images", "label"}}}."""
    listed = content.get("training")
    if not listed and isinstance(content.get("dataset"), dict):
        listed = [
            {"id": case, "image": item.get("images"), "label": item.get("label")}
            for case, item in content["dataset"].items()
            if isinstance(item, dict)
        ]
    entries = [] if listed is None else listed
    if not isinstance(entries, list):
        raise DatasetError('"training" in dataset.json is not a list', got=type(entries).__name__, path=path)
    for entry in entries:
        image = entry.get("image") if isinstance(entry, dict) else None
        if not image or not isinstance(image, str | list) or (isinstance(image, list) and not any(image)):
            raise DatasetError(
                'an entry under "training" in dataset.json names no image',
                expected='{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}',
                got=entry,
                path=path,
            )
    return entries


def _with_channels(folder: Path, image: str | list[Any], channels: int) -> tuple[Path, ...]:
    """The files of an entry; nnU-Net's lists leave out or name only the first of the _0000, _0001 ... endings."""
    if isinstance(image, list):
        return tuple(folder / str(item) for item in image if item is not None)
    path = folder / image
    stem, ending = _stem(path), path.name[len(_stem(path)) :]
    base = stem.removesuffix("_0000")
    files = tuple(path.with_name(f"{base}_{n:04d}{ending}") for n in range(channels))
    first_of_several = stem.endswith("_0000") and channels > 1 and files[1].exists()
    return files if first_of_several or (not path.exists() and files[0].exists()) else (path,)


def _absent(image: str | list[Any]) -> tuple[int, ...]:
    return tuple(n for n, item in enumerate(image) if item is None) if isinstance(image, list) else ()


def _with_readers(folder: Path, label: object) -> tuple[Path, ...]:
    """The references of an entry, of one reader or a list of several."""
    several = label if isinstance(label, list) else [label]
    return tuple(folder / str(one) for one in several if one)


def _found_cases(folder: Path, content: Mapping[str, Any], channels: Sequence[str]) -> tuple[Case, ...]:
    ending = str(content.get("file_ending") or ".nii.gz")
    references = {_stem(path): path for path in data_files(folder / "labelsTr", ending)}
    found: dict[str, list[Path]] = defaultdict(list)
    for path in data_files(folder / "imagesTr", ending):
        stem = _stem(path)
        match = _CHANNEL.fullmatch(stem)
        # "liver_0007.nii.gz" is case liver_0007, not channel 7, where its reference has the same name.
        found[match["case"] if match and stem not in references else stem].append(path)
    cases = []
    for case_id, paths in sorted(found.items()):
        suffixed = _stem(paths[0]) != case_id
        images = [paths[0].with_name(f"{case_id}_{n:04d}{ending}") for n in range(len(channels))] if suffixed else paths
        absent = tuple(n for n, path in enumerate(images) if len(images) > 1 and not path.exists())
        there = tuple(path for n, path in enumerate(images) if n not in absent)
        cases.append(Case(case_id, case_id, there, references.get(case_id), absent=absent))
    return tuple(cases)


def data_files(folder: Path, ending: str) -> list[Path]:
    """Visible files of that ending, sorted; none for a folder that is not there. Skips macOS's "._" copies."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith("."))


def read_case_table(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of `folder`/cases.csv by case id; {} without the file. Raises `DatasetError` if it is not usable."""
    path = folder / "cases.csv"
    if not path.is_file():
        return {}
    rows = _read_table(path, needs="case")
    twice = sorted(case for case, times in Counter(row["case"] for row in rows).items() if times > 1)
    if twice:
        raise DatasetError("cases occur twice in the table", got=", ".join(twice[:5]), path=path)
    return {row["case"]: row for row in rows}


def _read_table(path: Path, *, needs: str) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError("the table cannot be read", path=path, got=str(error)) from error
    separator = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="", restkey="")
    rows = [{(key or "").strip(): str(cell or "").strip() for key, cell in row.items() if key} for row in reader]
    if not rows or needs not in rows[0]:
        raise DatasetError(
            f"the table has no {'rows' if not rows else f'column {needs!r}'}",
            got=[column.strip() for column in reader.fieldnames or []],
            path=path,
        )
    return rows


def _told(case: Case, facts: Mapping[str, Any]) -> Case:
    """The case with the patient and site that an entry or a row gives; silence changes nothing."""
    patient, site = facts.get("patient_id"), facts.get("site")
    return replace(
        case,
        patient_id=case.patient_id if patient in (None, "") else str(patient),
        site=case.site if site in (None, "") else str(site),
    )


def _told_by_row(case: Case, row: Mapping[str, str]) -> Case:
    more = {column: cell for column, cell in row.items() if cell and column not in ("case", "patient_id", "site")}
    return replace(_told(case, row), groups=_pairs(dict(case.groups) | more))


def _pairs(groups: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((str(name), str(value)) for name, value in groups.items()))


def _tell_apart(paths: Sequence[Path]) -> list[str]:
    """File names without endings, or the folders' names if only those are all different."""
    names = [_stem(path).removesuffix("_0000") for path in paths]
    folders = [path.parent.name for path in paths]
    return folders if len(set(names)) < len(names) and len(set(folders)) == len(folders) else names


def _stem(path: Path) -> str:
    name = path.name
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
