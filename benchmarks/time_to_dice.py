"""Dice against minutes of training, delineate's and nnU-Net's: same data, split, machine and minutes, one run a time.

    NNUNET_PYTHON=.venv-nnunet/bin/python python benchmarks/time_to_dice.py hippocampus --minutes 5 20 60
                                          [--seeds 0 1 2] [--peer-minutes 30 60] [--steps-a-second] [--draw FILE.png]

Each run trains on folds 2 to 5 of five (by patient) and is scored on fold 1, whose cases choose nothing: the last
weights are taken. delineate's minutes begin with the command (reading, planning, preparing); nnU-Net's with its first
step. nnU-Net gets its own plan (3d_fullres), trainer and mirrored prediction, with epochs fitted to the time: see
`nnunet/peer_timed.py`. What was run is kept in .time_to_dice/ and not run again. Dice: mean over the cases whose
reference has the structure, then over structures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE / "nnunet"))

from models import ROOT, SHARED  # noqa: E402
from processes import run_alone  # noqa: E402

from delineate.dataset import Dataset, k_folds, open_dataset  # noqa: E402
from delineate.inference import dice_per_label  # noqa: E402

FOLDER = Path(os.environ.get("TIME_TO_DICE", ROOT / ".time_to_dice"))
PEER = [os.environ.get("NNUNET_PYTHON", str(ROOT / ".venv-nnunet/bin/python")), str(HERE / "nnunet" / "peer.py")]
DELINEATE = str(Path(sys.executable).with_name("delineate"))
NUMBERS = {"hippocampus": 201, "headneck": 202}
SELDOM = 60.0  # seconds between looks at the memory, which cost time
OPTIONS = {"hippocampus": [], "headneck": ["--missing-labels", "unknown"]}


@dataclass(frozen=True, slots=True)
class Point:
    """One run: `seconds` of training, `dice` of each structure on the scored cases."""

    who: str
    minutes: float
    seed: int
    seconds: float
    steps: int
    dice: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.dice))


def main() -> None:
    arguments = _parser().parse_args()
    dataset = open_dataset(SHARED / arguments.data)
    FOLDER.mkdir(parents=True, exist_ok=True)
    points = list(_points(dataset, arguments))
    names = " | ".join(dataset.labels.names)
    print(f"\n| | minutes | seed | steps | {names} | mean Dice |\n|{'---|' * (5 + len(dataset.labels))}")
    for point in points:
        dice = " | ".join(f"{value:.3f}" for value in point.dice)
        print(
            f"| {point.who} | {point.seconds / 60:.1f} | {point.seed} | {point.steps} | {dice} | **{point.mean:.3f}** |"
        )
    if arguments.draw is not None:
        draw(points, arguments.draw, title=arguments.data)
    if arguments.steps_a_second:
        print_steps(dataset, arguments)


def _points(dataset: Dataset, arguments: argparse.Namespace) -> Iterator[Point]:
    for seed in arguments.seeds:
        for minutes in arguments.minutes:
            yield _kept(ours, dataset, minutes, seed)
        for minutes in arguments.peer_minutes:
            yield _kept(peer, dataset, minutes, seed)


def _kept(
    run: Callable[[Dataset, float, int], Mapping[str, Any]], dataset: Dataset, minutes: float, seed: int
) -> Point:
    """The run as it was kept, or run now."""
    path = FOLDER / f"{_folder(dataset)}_{run.__name__}_{minutes:g}_{seed}.json"
    if not path.exists():
        path.write_text(json.dumps(run(dataset, minutes, seed), indent=1))
    content = json.loads(path.read_text())
    return Point(**content | {"dice": tuple(content["dice"])})


def ours(dataset: Dataset, minutes: float, seed: int) -> Mapping[str, Any]:
    """`delineate train`, with nothing prepared before, and `delineate predict` of the scored cases."""
    run = FOLDER / f"{_folder(dataset)}_delineate_{minutes:g}_{seed}"
    model, results, cache = (run / name for name in ("model", "results", "cache"))
    source = SHARED / _folder(dataset)
    options = ["--minutes", f"{minutes:g}", "--seed", str(seed), "--folds", "5", "--fold", "0", "--validations", "1"]
    command = [DELINEATE, "train", str(source), str(model), *options, *OPTIONS[_folder(dataset)]]
    seconds = run_alone([*command, "--cache", str(cache)], sample_seconds=SELDOM).seconds
    scored = _split(dataset)[1]
    images = run / "images"
    images.mkdir(exist_ok=True)
    for case in scored:
        link = images / f"{case}.nii.gz"
        link.unlink(missing_ok=True)
        link.symlink_to(source / "imagesTr" / f"{case}.nii.gz")
    predicted = run_alone([DELINEATE, "predict", str(model), str(images), str(results), "--again"])
    if not results.is_dir():
        raise RuntimeError(predicted.words)
    steps = json.loads((model / "model.json").read_text())["provenance"]["step"]
    who = {"who": "delineate", "minutes": minutes, "seed": seed}
    return who | {"seconds": seconds, "steps": steps, "dice": score(dataset, results, scored)}


def peer(dataset: Dataset, minutes: float, seed: int) -> Mapping[str, Any]:
    name = _peer_data(dataset)
    target = FOLDER / f"{_folder(dataset)}_nnunet_{minutes:g}_{seed}"
    report = _must([*PEER, "train-timed", name, f"{minutes:g}", str(target), "--seed", str(seed), "--mirror"])
    dice = score(dataset, target, _split(dataset)[1])
    who = {"who": "nnU-Net", "minutes": minutes, "seed": seed}
    return who | {"seconds": report["seconds"], "steps": report["steps"], "dice": dice}


def _peer_data(dataset: Dataset) -> str:
    training, scored = _split(dataset)
    split = FOLDER / f"{_folder(dataset)}_split.json"
    split.write_text(json.dumps({"training": training, "scored": scored}))
    folder = _folder(dataset)
    return str(_must([*PEER, "prepare-timed", str(SHARED / folder), str(NUMBERS[folder]), str(split)])["name"])


def _split(dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    split = k_folds(dataset, 5, seed=0)[0]
    return split.training, split.validation


def _folder(dataset: Dataset) -> str:
    reference = dataset.cases[0].reference
    assert reference is not None
    return reference.parent.parent.name


def score(dataset: Dataset, folder: Path, cases: Sequence[str]) -> tuple[float, ...]:
    """Mean Dice of each structure over the cases whose reference has it; a mask that is not there counts as 0."""
    rows = []
    for case in cases:
        reference = _array(SHARED / _folder(dataset) / "labelsTr" / f"{case}.nii.gz")
        path = folder / f"{case}.nii.gz"
        found = _array(path) if path.exists() else np.zeros_like(reference)
        dice = dice_per_label(found, reference, 1 + max(dataset.labels.values))
        present = np.isin(np.arange(1, 1 + len(dice)), reference)
        rows.append(np.where(present, dice, np.nan))
    return tuple(float(value) for value in np.nanmean(rows, axis=0))


def _array(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(nib.load(path).dataobj).round().astype(np.uint8)  # type: ignore[attr-defined]


def print_steps(dataset: Dataset, arguments: argparse.Namespace) -> None:
    """Seconds of a step of either trainer, waiting for patches included; one network, one batch."""
    from one_step import seconds_of_ours

    report = _must([*PEER, "step", _peer_data(dataset), "--batch", str(arguments.batch)])
    print(f"\n| patch {report['patch']}, batch {report['batch']} | seconds a step | steps a second, nnU-Net is 1 |")
    print("|---|---|---|")
    print(f"| nnU-Net (float32 on CPUs) | {report['seconds']:.2f} | 1.0 |")
    for precision in ("float32", "bfloat16"):
        seconds = seconds_of_ours(dataset, report, precision=precision)
        print(f"| delineate, {precision} | {seconds:.2f} | {report['seconds'] / seconds:.2f} |", flush=True)


def draw(points: Sequence[Point], path: Path, *, title: str) -> None:
    """Mean Dice against minutes on a logarithmic axis, a line a program, seeds as dots."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for who, colour in (("delineate", "#0b6e99"), ("nnU-Net", "#c2571a")):
        own = np.array([(p.minutes, p.seconds / 60, p.mean) for p in points if p.who == who])
        if len(own):
            means = [own[own[:, 0] == at, 1:].mean(axis=0) for at in np.unique(own[:, 0])]
            axes.plot(own[:, 1], own[:, 2], "o", color=colour, markersize=4)
            axes.plot(*np.transpose(means), "-", color=colour, label=who)
    axes.set(xscale="log", xlabel="minutes of training", ylabel="mean Dice on the held-out fold", title=title)
    ticks = sorted({p.minutes for p in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _must(command: Sequence[str]) -> Mapping[str, Any]:
    taken = run_alone(command, sample_seconds=SELDOM)
    if taken.report is None:
        raise RuntimeError(f"{' '.join(command)}\n{taken.words}")
    return taken.report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=list(NUMBERS))
    parser.add_argument("--minutes", type=float, nargs="*", default=[])
    parser.add_argument("--peer-minutes", type=float, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps-a-second", action="store_true")
    parser.add_argument("--batch", type=int, default=2, help="of the steps that are timed")
    parser.add_argument("--draw", type=Path)
    return parser


if __name__ == "__main__":
    main()
