"""Who trains and who validates. Patients, not cases, are divided, so that no patient is on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

import msgspec

from delineate.dataset.cases import Case, Dataset, digest
from delineate.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Split:
    """Case ids to train on and to validate on. `how` says in words how they were divided.

    `held_out` cases are touched by neither: the score on them was not chosen on them.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    dataset_digest: str
    how: str
    held_out: tuple[str, ...] = ()


def k_folds(dataset: Dataset, folds: int, *, seed: int, dataset_digest: str | None = None) -> tuple[Split, ...]:
    """Divide the cases that have a reference into `folds` parts; each part validates once.

    All cases of a patient fall into one part, and the parts' numbers of cases are as even as that allows
    (largest patients first, each to the smallest part). Depends on seed and patient ids only, not on the
    order of the cases, the machine or library versions. `dataset_digest`, if known, saves reading every
    file. Raises `DatasetError` for no cases, or fewer patients than folds.
    """
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 folds: {folds}")
    cases = _usable(dataset)
    sizes = Counter(case.patient_id for case in cases)
    if len(sizes) < folds:
        raise DatasetError(
            "too few patients for so many folds",
            expected=f"at least {folds} patients",
            got=f"{len(sizes)} ({len(cases)} cases)",
            remedy="Ask for fewer folds, or hold out single cases.",
        )
    fold_of = _spread(sizes, folds, seed)
    known = dataset_digest or digest(dataset)
    return tuple(
        _divide(
            cases,
            {patient for patient, n in fold_of.items() if n == fold},
            dataset_digest=known,
            how=f"fold {fold + 1} of {folds}, divided by patient, seed {seed}",
        )
        for fold in range(folds)
    )


def hold_out_last(dataset: Dataset, count: int, *, dataset_digest: str | None = None) -> Split:
    """Validate on the last `count` cases with a reference, in the dataset's order; train on the others.

    If a patient of the last `count` has earlier cases too, those are held out as well, so more than `count`
    can be validated on. Raises `DatasetError` if nothing stays to train on.
    """
    if count < 1:
        raise ValueError(f"hold out at least one case: {count}")
    cases = _usable(dataset)
    held_out = {case.patient_id for case in cases[-count:]}
    if all(case.patient_id in held_out for case in cases):
        raise DatasetError(
            f"holding out the last {count} cases leaves none to train on",
            got=f"{len(cases)} cases of {len({case.patient_id for case in cases})} patients",
            remedy="Hold out fewer cases.",
        )
    how = f"the last {count} cases held out"
    extra = sum(case.patient_id in held_out for case in cases) - count
    how += f", with {extra} earlier of the same patients" if extra else ""
    return _divide(cases, held_out, dataset_digest=dataset_digest or digest(dataset), how=how)


def train_on_all(dataset: Dataset, *, dataset_digest: str | None = None) -> Split:
    """Train on every case with a reference and validate on none. Raises `DatasetError` for no cases."""
    cases = _usable(dataset)
    return _divide(cases, (), dataset_digest=dataset_digest or digest(dataset), how="all cases train, none validates")


def check_split(split: Split, dataset: Dataset) -> None:
    """Raises `DatasetError` for unknown or repeated case ids, or a patient on two sides.

    The digest is not compared: a dataset may have grown since without harm to the split. Held-out cases need not be
    part of the dataset: it may have been opened without them.
    """
    named = Counter(split.training + split.validation + split.held_out)
    repeated = sorted(case_id for case_id, times in named.items() if times > 1)
    if repeated:
        raise DatasetError("the split names cases twice", got=_some(repeated), remedy="Make the split again.")
    ids = {case.id for case in dataset.cases}
    sides = {
        "training": split.training,
        "validation": split.validation,
        "the held-out cases": tuple(case_id for case_id in split.held_out if case_id in ids),
    }
    patients = {name: {dataset.case(case_id).patient_id for case_id in side} for name, side in sides.items()}
    for one, other in combinations(patients, 2):
        shared = sorted(patients[one] & patients[other])
        if shared:
            raise DatasetError(
                f"the split has patients both in {one} and in {other}",
                got=_some(shared),
                remedy="Make the split again: scores on patients seen before say nothing.",
            )


def split_to_json(split: Split) -> str:
    return msgspec.json.format(msgspec.json.encode(split), indent=1).decode()


def split_from_json(text: str) -> Split:
    """The split that `split_to_json` wrote. Raises `DatasetError` for text that is none."""
    try:
        return msgspec.json.decode(text, type=Split)
    except msgspec.DecodeError as error:
        raise DatasetError("not a split", got=str(error), remedy="Make the split again.") from error


def _usable(dataset: Dataset) -> tuple[Case, ...]:
    cases = tuple(case for case in dataset.cases if case.reference is not None)
    if not cases:
        raise DatasetError(
            f"dataset {dataset.name!r} has no case with a reference",
            got=f"{len(dataset.cases)} cases",
            remedy="Training and validation need references (labelsTr, or label in dataset.json).",
        )
    repeated = sorted(case_id for case_id, times in Counter(case.id for case in cases).items() if times > 1)
    if repeated:
        raise DatasetError("case ids occur twice", got=_some(repeated), remedy="Give every case an id of its own.")
    return cases


def _spread(sizes: Counter[str], folds: int, seed: int) -> dict[str, int]:
    # Sorted by a hash instead of shuffled: random streams may change between library versions.
    def key(patient: str) -> tuple[int, str]:
        return -sizes[patient], hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()

    totals: dict[int, int] = defaultdict(int)
    fold_of = {}
    for patient in sorted(sizes, key=key):
        fold = min(range(folds), key=lambda n: totals[n])
        fold_of[patient] = fold
        totals[fold] += sizes[patient]
    return fold_of


def _divide(cases: Iterable[Case], held_out: Collection[str], *, dataset_digest: str, how: str) -> Split:
    sides: tuple[list[str], list[str]] = ([], [])
    for case in cases:
        sides[case.patient_id in held_out].append(case.id)
    return Split(tuple(sides[0]), tuple(sides[1]), dataset_digest, how)


def _some(items: list[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
