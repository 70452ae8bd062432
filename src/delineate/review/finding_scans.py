"""What lies in a folder that is to be reviewed: results, scans, datasets and models; and which scan a result is of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from delineate import formats
from delineate.dataset import Case, Dataset, open_dataset
from delineate.errors import DatasetError, DelineateError, InputError
from delineate.formats.deidentification.objects import read_names
from delineate.formats.dicom.headers import is_dicom
from delineate.formats.nifti import is_nifti_name
from delineate.review.places import FOLDER

IMAGES = ("CT", "MR", "PT")

EXPERIMENT = "experiment.json"
"""As `workflow.experiment_folder` names it, which imports PyTorch."""

_NOT_LOOKED_AT = frozenset({FOLDER, "variants", "stages", "training", "previews"})
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ModelNote:
    """A model that lies near: what its results refer to, and what to call it."""

    digest: str
    name: str


@dataclass(frozen=True)
class Tree:
    """The files below a folder; a file alone is all of its tree. `nifti`: files; `folders`: that hold anything else,
    with these files."""

    root: Path
    nifti: tuple[Path, ...]
    folders: tuple[tuple[Path, tuple[Path, ...]], ...]
    datasets: tuple[tuple[Path, Dataset], ...] = ()
    models: tuple[ModelNote, ...] = ()
    experiments: tuple[Path, ...] = ()

    @cached_property
    def named(self) -> Mapping[str, tuple[Path, ...]]:
        """NIfTI files by their stem."""
        found: dict[str, list[Path]] = {}
        for path in self.nifti:
            found.setdefault(formats.image_stem(path), []).append(path)
        return {stem: tuple(paths) for stem, paths in found.items()}

    @cached_property
    def cases(self) -> Mapping[str, tuple[Case, ...]]:
        """The datasets' cases by id."""
        found: dict[str, list[Case]] = {}
        for _, dataset in self.datasets:
            for case in dataset.cases:
                found.setdefault(case.id, []).append(case)
        return {name: tuple(cases) for name, cases in found.items()}

    @cached_property
    def references(self) -> frozenset[Path]:
        """People's segmentations, which are no scans."""
        paths = (path for cases in self.cases.values() for case in cases for path in case.references)
        return frozenset(path.resolve() for path in paths)


def look_through(root: Path) -> Tree:
    """The tree of a folder, of names and small files alone. Hidden folders and a review's own are left out.

    Raises `InputError` if there is nothing at `root`.
    """
    if not root.exists():
        raise InputError("there is no such file or folder", path=root)
    if root.is_file():
        return Tree(root, (root,), ()) if is_nifti_name(root) else Tree(root, (), ((root.parent, (root,)),))
    nifti, folders, datasets, models, experiments = [], [], [], [], []
    for folder, files in _walk(root):
        names = {path.name for path in files}
        nifti += [path for path in files if is_nifti_name(path)]
        others = tuple(path for path in files if not is_nifti_name(path))
        folders += [(folder, others)] if others else []
        experiments += [folder] if EXPERIMENT in names else []
        models += list(_model(folder)) if "model.json" in names else []
        with suppress(DatasetError):
            datasets += [(folder, open_dataset(folder))] if "dataset.json" in names else []
    return Tree(root, tuple(nifti), tuple(folders), tuple(datasets), tuple(models), tuple(experiments))


def _walk(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    for parent, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in _NOT_LOOKED_AT)
        yield Path(parent), [Path(parent, name) for name in sorted(names) if not name.startswith(".")]


class _Provenance(msgspec.Struct):
    dataset: str = ""


class _Card(msgspec.Struct):
    digest: str
    provenance: _Provenance = msgspec.field(default_factory=_Provenance)


def _model(folder: Path) -> Iterator[ModelNote]:
    """Read without PyTorch, which reading a model imports."""
    with suppress(OSError, msgspec.DecodeError):
        card = msgspec.json.decode((folder / "model.json").read_bytes(), type=_Card)
        name = folder.name if folder.name != "model" else card.provenance.dataset or folder.parent.name
        yield ModelNote(card.digest, f"{name} {card.digest[:8]}")


@dataclass(frozen=True, slots=True)
class Series:
    """Where a DICOM series lies: its folder, or its only file. `several`: that folder holds others, too."""

    path: Path
    several: bool = False


def find_series_at(tree: Tree, wanted: Sequence[str]) -> dict[str, Series]:
    """Where the series of these UIDs lie, by headers: of one image a folder, and of all where some were not found."""
    missing, found = set(wanted), dict[str, Series]()
    if not missing:
        return found
    for folder, files in tree.folders:
        uid = next(_series_in(files), None)
        if uid in missing:
            found[uid] = Series(folder)
            missing.discard(uid)
    for folder, files in tree.folders if missing else ():
        counts: dict[str, list[Path]] = {}
        for path in files:
            for uid in _series_in([path]):
                counts.setdefault(uid, []).append(path)
        for uid in missing & counts.keys():
            alone, single = len(counts) == 1, len(counts[uid]) == 1
            found[uid] = Series(counts[uid][0] if single and not alone else folder, several=not alone and not single)
        missing -= counts.keys()
    return found


def _series_in(files: Sequence[Path]) -> Iterator[str]:
    """The series UIDs of the images among files, one after the other."""
    for path in files:
        if path.is_file() and is_dicom(path):
            with suppress(DelineateError):
                header = read_names(path, ("Modality", "SeriesInstanceUID"))
                if str(header.get("Modality", "")) in IMAGES and header.get("SeriesInstanceUID"):
                    yield str(header.SeriesInstanceUID)


def scan_of(tree: Tree, case: str, series: Series | None, *, other_than: frozenset[Path]) -> Path:
    """The scan that a result of that name is of: its series, an image of a dataset, CASE_0000, CASE, or a folder CASE.

    `other_than`: results, which are no scans. Raises `InputError` if there is none, or more than one may be it.
    """
    if series is not None:
        if series.several:
            raise InputError(
                "the scan's folder holds several series", path=series.path, remedy="Put each into a folder of its own."
            )
        return series.path
    imaged = [one.images[0] for one in tree.cases.get(case, ()) if one.images]
    first = tree.named.get(f"{case}_0000", ())
    plain = [path for path in tree.named.get(case, ()) if path not in other_than]
    plain = [path for path in plain if path.resolve() not in tree.references]
    folders = [folder for folder, files in tree.folders if folder.name == case and next(_series_in(files), None)]
    for found in (imaged, first, plain, folders):
        places = {path.resolve(): path for path in found}
        if len(places) > 1:
            shown = ", ".join(str(path) for path in list(places.values())[:_MOST_SHOWN])
            raise InputError(
                "several files may be its scan", got=shown, case=case, remedy="Give the folder of scans by itself."
            )
        if places:
            return next(iter(places.values()))
    raise InputError(
        "its scan is not there",
        expected=f"the DICOM series it was made of, {case}_0000.nii.gz, {case}.nii.gz, or a folder {case}",
        case=case,
        path=tree.root,
        remedy="Name the folder that holds the scans: delineate review SCANS SEGMENTATIONS.",
    )
