"""A batch that is killed again and again: whether every result is there in the end, once and whole.

    python benchmarks/interruptions.py [--cases 20] [--kills 10] [--seed 0] [--keep FOLDER]

`delineate predict` is killed (SIGKILL) at random moments: the whole process group, as a scheduler does it, or the
watching process alone, whose worker has to end with it. After each kill every label map in the folder must be readable
to the end and have the record that belongs to it. After the last run the folder must hold the results of all cases,
equal to those of a run that was left alone byte by byte, and nothing else; and nothing may be left in the scratch
folder.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from delineate import formats
from delineate.geometry import Grid, compose_affine
from delineate.labels import label_set
from delineate.model import Model, Provenance, save_model
from delineate.networks import build_network
from delineate.planning import NetworkPlan, Plan, Tiling, TrainingPlan, ZScore
from delineate.volume import Kind, Volume
from delineate.workflow.results import read_record

PROVENANCE = Provenance(
    dataset="noise",
    dataset_digest="",
    training_cases=(),
    validation_cases=(),
    held_out_cases=(),
    step=0,
    seconds=0.0,
    validation_dice=None,
    created="",
    delineate="",
    torch="",
)
SHAPE, SPACING_MM = (64, 56, 32), (0.9, 1.1, 2.5)


def make_model(folder: Path) -> None:
    """Without training: what it finds is of no interest, only whether it is there."""
    plan = Plan(
        dataset="noise",
        channels=("MR",),
        kinds=(Kind.MR,),
        labels=("one", "two", "three"),
        spacing_mm=(1.0, 1.0, 2.0),
        normalisation=(ZScore(),),
        patch_size=(32, 32, 16),
        network=NetworkPlan(
            architecture="nnunet", features=(8, 16), strides=((1, 1, 1), (2, 2, 2)), kernels=((3, 3, 3), (3, 3, 3))
        ),
        training=TrainingPlan(batch_size=1, steps=1, precision="float32"),
        tiling=Tiling(),
    )
    network = build_network(plan.network, in_channels=1, out_channels=plan.classes)
    labels = label_set(dict(enumerate(plan.labels, start=1)))
    save_model(folder, Model(network.state_dict(), plan, labels, PROVENANCE))


def make_scans(folder: Path, cases: int, generator: np.random.Generator) -> None:
    """Oblique, anisotropic noise, smooth enough for structures of some size."""
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    grid = Grid(SHAPE, compose_affine(turn * np.asarray(SPACING_MM), (-31.0, 14.5, 207.25)))
    for number in range(cases):
        coarse = generator.normal(size=tuple(n // 4 for n in SHAPE))
        array = np.kron(coarse, np.ones((4, 4, 4))) * 100 + generator.normal(0, 10, SHAPE)
        formats.write_volume(
            folder / f"case_{number:02d}.nii.gz", Volume(array[None].astype(np.float32), grid, Kind.MR)
        )


def start(folder: Path, output: str) -> subprocess.Popen[str]:
    words = ["predict", "model", "scans", output, "--device", "cpu", "--threads", "1", "--cache", "cache"]
    code = "from delineate.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str], *, whole_group: bool) -> bool:
    """Whether there was anything to kill. Returns when the worker is gone, too."""
    running = process.poll() is None
    if running:
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    assert process.stderr is not None
    process.stderr.read()  # the worker holds the other end
    process.wait()
    return running


def wait_until_busy(process: subprocess.Popen[str], output: Path, *, results: int) -> None:
    """Until this run does its first case, and has `results` more than there were."""
    journals, before = set(output.glob(".*journal*")), count(output)
    while process.poll() is None and not set(output.glob(".*journal*")) - journals:
        time.sleep(0.01)
    while process.poll() is None and count(output) < before + results:
        time.sleep(0.01)


def count(output: Path) -> int:
    return len(list(output.glob("[!.]*.nii.gz")))


def problems(output: Path) -> list[str]:
    """Label maps that are not whole, or have no record."""
    found = []
    for path in sorted(output.glob("[!.]*.nii.gz")):
        try:
            formats.read_volume(path)
        except ValueError as error:
            found.append(str(error))
        if read_record(path) is None:
            found.append(f"{path.name} has no record")
    return found


def differences(folder: Path) -> list[str]:
    """What is not as it is in the run that was left alone."""
    alone, killed = ({path.name: path for path in (folder / name).iterdir()} for name in ("alone", "killed"))
    found = [f"missing: {name}" for name in sorted(alone.keys() - killed.keys())]
    found += [f"left over: {name}" for name in sorted(killed.keys() - alone.keys())]
    maps = [name for name in sorted(alone.keys() & killed.keys()) if name.endswith(".nii.gz")]
    found += [f"other voxels: {name}" for name in maps if alone[name].read_bytes() != killed[name].read_bytes()]
    scratch = folder / "cache" / "scratch"
    return found + [f"left over: {path}" for path in scratch.glob("*")]


def measure(folder: Path, *, cases: int, kills: int, seed: int) -> int:
    """How many things went wrong."""
    moments = random.Random(seed)
    make_model(folder / "model")
    make_scans(folder / "scans", cases, np.random.default_rng(seed))
    start(folder, "alone").communicate()
    alone = [read_record(path) for path in (folder / "alone").glob("*.nii.gz")]
    assert len(alone) == cases
    seconds = sum(record.seconds for record in alone if record is not None) / cases
    print(f"{cases} cases, {seconds:.2f} s each when left alone")
    wrong: list[str] = []
    done = 0
    while done < kills:
        process = start(folder, "killed")
        wait_until_busy(process, folder / "killed", results=moments.randrange(2))
        time.sleep(moments.uniform(0, seconds))
        whole_group = moments.random() < 0.5
        if not kill(process, whole_group=whole_group):
            break
        done += 1
        found = problems(folder / "killed")
        results = count(folder / "killed")
        hidden = len(list((folder / "killed").glob(".*")))
        who = "everything" if whole_group else "the watching process"
        print(f"kill {done:2d} of {who:20}: {results:2d} results, {hidden} hidden files; {found or 'all whole'}")
        wrong += found
    errors = start(folder, "killed").communicate()[1]
    print("the last run says:", "; ".join(line for line in errors.splitlines() if "cut off" in line) or "nothing")
    wrong += differences(folder)
    if done < kills:
        wrong.append(f"only {done} kills: the batch was done too soon")
    print("\n".join(wrong) or f"{done} kills, {cases} cases: every result there, once, whole; nothing left over")
    return len(wrong)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work here, and leave everything")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(measure(chosen.keep or Path(folder), cases=chosen.cases, kills=chosen.kills, seed=chosen.seed) > 0)


if __name__ == "__main__":
    main()
