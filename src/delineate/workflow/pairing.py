"""Which prediction belongs to which reference, by name, and what has no partner."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from delineate import formats
from delineate.dataset import Dataset, open_dataset, split_from_json
from delineate.errors import InputError
from delineate.formats.nifti import is_nifti_name


@dataclass(frozen=True, slots=True)
class Pair:
    """A case's files; `prediction` is None where there is none."""

    case: str
    reference: Path
    prediction: Path | None


@dataclass(frozen=True, slots=True)
class Pairing:
    """Cases to score, by name. `problems`: what cannot be scored; `remarks`: what was left out, in sentences.

    `dataset`: whose references they are, where they are a dataset's.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    dataset: Dataset | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CaseChoice:
    """Which cases count. `cases`: these, all of them; None: see `pair_up`. `only_predicted`: not those without
    prediction."""

    cases: tuple[str, ...] | None = None
    only_predicted: bool = False


def pair_up(references: Path, predictions: Path, choice: CaseChoice = CaseChoice()) -> Pairing:
    """Predictions with their references. `references`: a label map, a folder of them, or a dataset.

    All cases of a folder of references count: one without prediction is a failure. Of a dataset, which mostly holds
    what was trained on too, those count that have a prediction, unless `choice` names the cases. Raises `InputError`
    for a file against a folder, no case at all, a case that is there twice, and chosen cases without reference;
    `DatasetError` for a dataset that cannot be read.
    """
    if references.is_file() and predictions.is_file() and is_nifti_name(references):
        return Pairing((Pair(formats.image_stem(predictions), references, predictions),))
    if predictions.is_file() or (references.is_file() and is_nifti_name(references)):
        raise InputError("a file is scored against a file, a folder against a folder", path=references)
    dataset = open_dataset(references) if _is_dataset(references) else None
    known = label_maps(references) if dataset is None else _references(dataset)
    found = label_maps(predictions)
    if not known:
        raise InputError("there is no reference", expected="NIfTI label maps or a dataset", path=references)
    paired = _choose(known, found, choice, whole=dataset is None)
    if not paired.pairs:
        raise InputError(
            "no case could be scored",
            expected=f"label maps named as the {len(known)} references, e.g. {next(iter(known))}",
            got=", ".join(list(found)[:5]) or "no label map",
            path=predictions,
        )
    return Pairing(paired.pairs, paired.problems, paired.remarks, dataset)


def name_folders(folders: Sequence[Path], *, taken: Collection[str] = ()) -> dict[str, Path]:
    """Folders of label maps by their names; where these are equal, or taken, by as much of their paths as tells them
    apart.

    Raises `InputError` for fewer than two, one that is given twice, and a file.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(folders) < 2 or len(set(parts)) < len(parts):
        raise InputError("only several can be compared", expected="two folders or more, all different", got=len(parts))
    file = next((folder for folder in folders if not folder.is_dir()), None)
    if file is not None:
        raise InputError("results are compared by the folder", expected="a folder of label maps", path=file)
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names) and not set(names) & set(taken):
            break
    return dict(zip(names, folders, strict=True))


def label_maps(folder: Path) -> dict[str, Path]:
    """The label maps (NIfTI) of a folder by case, sorted; probabilities are none. Raises `InputError` for a case that
    has two files."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if not is_nifti_name(file) or file.name.startswith(".") or "_probability_" in file.name:
            continue
        case = formats.image_stem(file)
        if case in found:
            raise InputError(
                "two files for one case",
                got=f"{found[case].name} and {file.name}",
                case=case,
                path=folder,
                remedy="Remove the one that is not meant.",
            )
        found[case] = file
    return found


def cases_set_aside(model: Path) -> tuple[str, ...]:
    """The cases that a model's training set aside for testing, of its folder or of a split.json.

    Raises `InputError` if there is no split, or if it set no case aside.
    """
    path = model if model.is_file() else model / "training" / "split.json"
    try:
        split = split_from_json(path.read_text())
    except FileNotFoundError as error:
        raise InputError("there is no record of how the cases were divided", path=path) from error
    if not split.held_out:
        raise InputError(
            "the training set no case aside",
            got=split.how,
            path=path,
            remedy="Train with --test N, or score other cases than the model's own.",
        )
    return split.held_out


def _is_dataset(references: Path) -> bool:
    if references.is_file():
        return True
    # nnU-Net leaves a dataset.json beside label maps, too: it names them, and lists no cases.
    return (references / "dataset.json").is_file() and not label_maps(references)


def _references(dataset: Dataset) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for case in dataset.cases:
        if case.id in found:
            raise InputError("a case is in the dataset twice", case=case.id, remedy="Remove one of them.")
        if case.reference is not None:
            found[case.id] = case.reference
    return found


def _choose(known: Mapping[str, Path], found: Mapping[str, Path], choice: CaseChoice, *, whole: bool) -> Pairing:
    wanted = _wanted(known, choice.cases)
    without = [case for case in wanted if case not in found]
    problems, remarks = [], []
    strangers = [case for case in found if case not in wanted]
    if choice.cases is None:
        problems = [f"{case}: there is no reference of this name" for case in strangers]
    elif strangers:
        remarks.append(f"{_count(strangers, 'prediction')} of other cases than the chosen ones left out.")
    leave_out = choice.only_predicted or (choice.cases is None and not whole)
    if leave_out and without:
        remarks.append(f"{_count(without, 'reference')} without prediction left out: {_listed(without)}.")
    pairs = [Pair(case, known[case], found.get(case)) for case in wanted if not leave_out or case in found]
    # References alone are no evaluation: a wrong folder was named.
    anything = any(pair.prediction for pair in pairs)
    return Pairing(tuple(pairs) if anything else (), tuple(problems), tuple(remarks))


def _wanted(known: Mapping[str, Path], cases: tuple[str, ...] | None) -> Collection[str]:
    if cases is None:
        return known.keys()
    missing = [case for case in cases if case not in known]
    if missing:
        raise InputError("chosen cases have no reference", got=_listed(missing), remedy="Name the dataset they are of.")
    return dict.fromkeys(cases).keys()


def _count(items: Collection[str], what: str) -> str:
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'}"


def _listed(items: Collection[str], most: int = 5) -> str:
    return ", ".join(list(items)[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
