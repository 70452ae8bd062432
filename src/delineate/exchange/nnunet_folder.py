"""Where nnU-Net keeps trained models: folders, trees of them, and exported archives.

A trained model is a folder `Trainer__Plans__configuration` with plans.json, dataset.json and `fold_N` folders; it lies
in a folder of its dataset. An export is a ZIP archive of such a tree.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import ModelError
from delineate.exchange.nnunet_json import DATASET, PLANS, configuration, read_plans
from delineate.formats.archives import Limits, extract, is_zip

_FOLD = re.compile(r"fold_(\d+|all)")
_DEPTH = 5  # of folders below the one that was given
_LIMITS = Limits(total_bytes=64 * 2**30)
_CHECKPOINTS = ("final", "best")  # in the order in which they are taken


@dataclass(frozen=True, slots=True)
class TrainedFolder:
    """One trained model. `configuration`: by the folder's name, None where that does not say."""

    path: Path
    configuration: str | None
    trainer: str | None

    @property
    def shown(self) -> str:
        return f"{self.configuration or 'a configuration not named'} in {self.path.parent.name}/{self.path.name}"


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder at `path`, or the one that an archive holds, unpacked for as long as the context lasts.

    Raises `ModelError` if there is neither, `InputError` for an archive that is not to be trusted.
    """
    if path.is_dir():
        yield path
    elif is_zip(path):
        with tempfile.TemporaryDirectory(prefix="delineate-") as scratch:
            yield extract(path, Path(scratch) / path.stem, limits=_LIMITS).folder
    else:
        raise ModelError(
            "no nnU-Net model",
            expected="a folder, or a ZIP archive that nnU-Net exported",
            got="another kind of file" if path.exists() else "nothing",
            path=path,
        )


def find_trained(root: Path) -> tuple[TrainedFolder, ...]:
    """All trained models in a folder, itself included. Raises `ModelError` if there is none."""
    found = tuple(_trained(folder) for folder in _folders(root) if _looks_trained(folder))
    if found:
        return found
    version_1 = any("plans.pkl" in _names(folder) for folder in _folders(root))
    raise ModelError(
        "a model of nnU-Net v1 cannot be read" if version_1 else "no trained nnU-Net model here",
        expected=f"a folder with {PLANS}, {DATASET} and fold_* folders",
        path=root,
        remedy="Give the folder that training or export left, e.g. nnUNetTrainer__nnUNetPlans__3d_fullres.",
    )


def choose(found: Sequence[TrainedFolder], wanted: str | None, root: Path) -> TrainedFolder:
    """The one that is wanted; without a wish the only one, or the last stage where all are stages of one cascade.

    Raises `ModelError` listing what is there.
    """
    fitting = [each for each in found if wanted is None or _configuration_of(each) == wanted]
    if len(fitting) == 1:
        return fitting[0]
    last = [each for each in fitting if len(_with_stages_before(each, found)) == len(found)]
    if wanted is None and len(last) == 1:
        return last[0]
    raise ModelError(
        "several trained models are here" if fitting else "no such configuration is here",
        expected=f"configuration {wanted}" if wanted else "one of them",
        got="; ".join(sorted(each.shown for each in found)),
        path=root,
        remedy="Choose a configuration, or give the trained model's own folder.",
    )


def stage_before(last: TrainedFolder, name: str, found: Sequence[TrainedFolder]) -> TrainedFolder:
    """The trained model of a cascade's earlier stage: beside the later one, and by preference of the same trainer.

    Raises `ModelError` if it is not there.
    """
    siblings = (last.path.parent / folder for folder in _names(last.path.parent))
    beside = {*found, *(_trained(folder) for folder in siblings if _looks_trained(folder))}
    fitting = [each for each in beside if each.path.parent == last.path.parent and _configuration_of(each) == name]
    same = [each for each in fitting if each.path.name == last.path.name.rpartition("__")[0] + f"__{name}"]
    for candidates in (same, fitting):
        if len(candidates) == 1:
            return candidates[0]
    raise ModelError(
        f"the cascade's stage before, {name}, is {'not unique' if fitting else 'missing'}",
        expected=str(last.path.parent / f"{last.path.name.rpartition('__')[0]}__{name}"),
        path=last.path,
        remedy="Keep both trained folders side by side, as nnU-Net leaves them.",
    )


def checkpoints(trained: TrainedFolder, folds: Sequence[int | str] | None, name: str | None) -> tuple[Path, ...]:
    """The checkpoint files of the folds that were asked for, or of all; as nnU-Net, fold_all only for want of others.

    `name`: "final", "best" or "latest"; None: final ones, or best ones if no fold has a final one. Raises `ModelError`
    for what is not there.
    """
    present = _folds(trained.path)
    names = _CHECKPOINTS if name is None else (name,)
    if folds is None:
        numbered = [fold for fold in present if fold != "all"]
        for each in names:
            for some in (numbered, ["all"]):
                files = [_file(trained.path, fold, each) for fold in some]
                if there := [file for file in files if file.is_file()]:
                    return tuple(there)
        raise _no_checkpoint(trained.path, f"a checkpoint_{names[0]}.pth in some fold")
    wanted = list(dict.fromkeys(str(fold) for fold in folds))
    for each in names:
        files = [_file(trained.path, fold, each) for fold in wanted]
        if files and all(file.is_file() for file in files):
            return tuple(files)
    raise _no_checkpoint(trained.path, f"checkpoint_{names[0]}.pth of fold {', '.join(wanted) or 'none'}")


def _no_checkpoint(folder: Path, expected: str) -> ModelError:
    there = sorted(str(file.relative_to(folder)) for file in folder.glob("fold_*/checkpoint_*.pth"))
    return ModelError(
        "no such checkpoint",
        expected=expected,
        got=", ".join(there) or "none at all",
        path=folder,
        remedy="Choose other folds or another checkpoint, or copy the folder again.",
    )


def _file(folder: Path, fold: str, name: str) -> Path:
    return folder / f"fold_{fold}" / f"checkpoint_{name}.pth"


def _folds(folder: Path) -> list[str]:
    """The folds' names: numbers in their order, then "all"."""
    matches = (_FOLD.fullmatch(name) for name in _names(folder))
    names = [match.group(1) for match in matches if match]
    return sorted(names, key=lambda name: (name == "all", int(name) if name != "all" else 0))


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those below it, not deeper than nnU-Net's trees, in the order of their names."""
    for folder, below, _ in os.walk(root):
        here = Path(folder)
        is_deep = len(here.relative_to(root).parts) >= _DEPTH
        below[:] = [] if is_deep else sorted(name for name in below if not _FOLD.fullmatch(name))
        yield here


def _looks_trained(folder: Path) -> bool:
    return any(_FOLD.fullmatch(name) for name in _names(folder))


def _names(folder: Path) -> list[str]:
    """What is in a folder; nothing if it is none, or cannot be looked into."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _trained(folder: Path) -> TrainedFolder:
    parts = folder.name.split("__")
    return TrainedFolder(folder, parts[2], parts[0]) if len(parts) == 3 else TrainedFolder(folder, None, None)


def _configuration_of(trained: TrainedFolder) -> str | None:
    """By the folder's name, or the only one that its plans have."""
    if trained.configuration is not None:
        return trained.configuration
    names = list(read_plans(trained.path).configurations)
    return names[0] if len(names) == 1 else None


def _with_stages_before(last: TrainedFolder, found: Sequence[TrainedFolder]) -> list[TrainedFolder]:
    """A trained model and those of `found` that it builds upon."""
    chain, stage = [last], last
    while (name := _configuration_of(stage)) is not None:
        before = configuration(read_plans(stage.path), name, stage.path).previous_stage
        fitting = [each for each in found if each not in chain and _configuration_of(each) == before]
        if before is None or len(fitting) != 1:
            break
        stage = fitting[0]
        chain.append(stage)
    return chain
