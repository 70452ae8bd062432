"""`delineate tune` with three processes, each killed once, against the plan it began with, on cases nobody has seen.

    python benchmarks/tuning.py [--folder .tuning] [--trials 18] [--steps 150] [--processes 3] [--seeds 0 1 2]

The data are synthetic CT of the abdomen (30 patients, 8 organs). The plan to beat is no good one: `delineate plan`
would choose better. It is one that a newcomer may begin with, Hounsfield units from -1000 to 3000 on 0..1 and a
learning rate of 1e-4, so that there is something to find. The last 8 patients are set aside before anything. In the end
the tuned plan, the plan as it was, and the one that delineate makes by itself are trained on all others, with seeds
that no trial had, and scored on those 8 by the last weights: the difference patient by patient, with a 95 % interval
from drawing patients.

Each of the first processes is killed (`kill -9`) at a random moment. One thread a process. What is there already is not
made again.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from delineate import formats, training
from delineate.dataset import Case, Dataset, open_dataset, write_dataset_json
from delineate.evaluation.intervals import bootstrap_means
from delineate.files import write_text
from delineate.inference import place
from delineate.phantom import PATIENT_LABELS, make_patient
from delineate.planning import Plan, PlanOptions, plan_from_json, plan_to_json
from delineate.settings import Settings, detect
from delineate.workflow.preparing import plan_dataset, prepare_cases
from delineate.workflow.training import Budget, Division, train

PATIENTS, TEST, FOLDS = 30, 8, 4
MATRIX = (96, 80, 40)
NEWCOMERS = {"window": (-1000.0, 3000.0, 0.0, 1.0), "learning_rate": 1e-4}
SPACE = "learning_rate=1e-5..3e-2,window,augmentation"
KILLS_WITHIN = (20.0, 90.0)  # seconds after a process has begun


@dataclass(frozen=True, slots=True)
class Kill:
    """When which process was killed, in seconds from the beginning of the search."""

    seconds: float
    pid: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".tuning"))
    parser.add_argument("--trials", type=int, default=18)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    folder: Path = asked.folder
    settings = detect("cpu", threads=1, memory_gb=2, cache=folder / "cache")
    dataset = make_cohort(folder / "cohort")
    start, planned = folder / "plan.json", folder / "planned.json"
    for path, wishes in ((start, NEWCOMERS), (planned, {})):
        if not path.exists():
            write_text(path, plan_to_json(make_plan(dataset, settings, wishes, steps=asked.steps)))
    began = time.monotonic()
    kills = search(folder, start, trials=asked.trials, processes=asked.processes)
    print(f"search: {(time.monotonic() - began) / 60:.1f} minutes, {len(kills)} processes killed")
    for kill in kills:
        print(f"  process {kill.pid} after {kill.seconds:.0f} s")
    report(folder / "search" / "trials.csv")
    plans = {"tuned": folder / "search" / "best_plan.json", "as it was": start, "delineate's": planned}
    compare(
        dataset,
        folder,
        {name: plan_from_json(path.read_bytes()) for name, path in plans.items()},
        asked.seeds,
        settings,
    )


def make_cohort(folder: Path) -> Dataset:
    if (folder / "dataset.json").exists():
        return open_dataset(folder)
    cases = []
    for seed in range(PATIENTS):
        patient = make_patient(5000 + seed, matrix=MATRIX)
        image, reference = (folder / sub / f"{patient.id}{end}.nii.gz" for sub, end in _PLACES)
        formats.write_volume(image, patient.image)
        formats.write_segmentation(reference, patient.reference)
        cases.append(Case(patient.id, patient.id, (image,), reference))
    write_dataset_json(folder, Dataset("Synthetic abdomen, coarse", ("CT",), PATIENT_LABELS, tuple(cases)))
    return open_dataset(folder)


_PLACES = (("imagesTr", "_0000"), ("labelsTr", ""))


def make_plan(dataset: Dataset, settings: Settings, wishes: Mapping[str, Any], *, steps: int) -> Plan:
    """A small network on a coarse grid; planned without the cases set aside."""
    seen = replace(dataset, cases=dataset.cases[:-TEST])
    wanted = PlanOptions(
        spacing_mm=(8.0, 8.0, 8.0),
        patch_size=(32, 24, 24),
        features=(8, 16, 32),
        batch_size=2,
        validations=5,
        **wishes,
    )
    plan = plan_dataset(seen, settings, wanted)
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, steps=steps))


def search(folder: Path, plan: Path, *, trials: int, processes: int) -> list[Kill]:
    """Run `delineate tune` and kill each of its processes once; the kills."""
    command = [
        str(Path(sys.executable).with_name("delineate")), "tune", str(folder / "cohort"), str(folder / "search"),
        "--plan", str(plan), "--space", SPACE, "--trials", str(trials), "--test", str(TEST), "--folds", str(FOLDS),
        "--processes", str(processes), "--threads", str(processes), "--memory-gb", "4",
        "--cache", str(folder / "cache"),
    ]  # fmt: skip
    chance, kills, began = random.Random(0), list[Kill](), time.monotonic()
    running = subprocess.Popen(command)
    due: dict[int, float] = {}
    while running.poll() is None:
        time.sleep(0.5)
        for worker in workers(running.pid):
            if worker not in due and len(due) < processes:
                due[worker] = time.monotonic() + chance.uniform(*KILLS_WITHIN)
            if worker in due and time.monotonic() > due[worker]:
                psutil.Process(worker).kill()
                kills.append(Kill(time.monotonic() - began, worker))
                due[worker] = float("inf")
    if running.returncode:
        raise SystemExit(f"delineate tune ended with {running.returncode}")
    return kills


def workers(pid: int) -> list[int]:
    try:
        children = psutil.Process(pid).children()
        return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def report(table: Path) -> None:
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items() if value))
    states = [row["state"] for row in rows]
    print({state: states.count(state) for state in dict.fromkeys(states)})


def compare(
    dataset: Dataset, folder: Path, plans: Mapping[str, Plan], seeds: Sequence[int], settings: Settings
) -> None:
    """Train each on all cases but those set aside, score those, and print the first one's paired differences."""
    aside = dataset.cases[-TEST:]
    means = {
        name: np.array([_held_out_dice(dataset, folder / "final" / f"{name}_{seed}", plan, seed, settings)
                        for seed in seeds])
        for name, plan in plans.items()
    }  # fmt: skip
    for name, dice in means.items():
        runs = ", ".join(f"{value:.3f}" for value in dice.mean(axis=1))
        print(f"{name}: mean Dice {dice.mean():.3f} on {TEST} held-out patients (seeds: {runs})")
    first, *others = means
    for other in others:
        gaps = (means[first] - means[other]).mean(axis=0)  # (cases,), over seeds
        patients = [case.patient_id for case in aside]
        low, high = bootstrap_means(gaps[:, None, None], patients, np.random.default_rng(0)).of_means[0]
        print(f"{first} minus {other}: {gaps.mean():.3f}, 95 % interval {low:.3f} to {high:.3f}, "
              f"better in {np.count_nonzero(gaps > 0)} of {TEST} patients")  # fmt: skip


def _held_out_dice(
    dataset: Dataset, folder: Path, plan: Plan, seed: int, settings: Settings
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(cases,) mean Dice over structures of each case set aside."""
    schedule = msgspec.structs.replace(plan.training, seed=100 + seed)
    plan = msgspec.structs.replace(plan, training=schedule)
    division = Division(fold=None, test=TEST)
    model = train(dataset, folder, budget=Budget(), division=division, settings=settings, plan=plan)
    assert model is not None
    cases = [dataset.case(case) for case in model.provenance.held_out_cases]
    prepared = prepare_cases(cases, dataset.labels, plan, settings)
    dice = training.case_dice(place(model.network(), "cpu"), prepared, plan)
    return np.asarray(np.nan_to_num(dice, nan=1.0).mean(axis=1), dtype=np.float64)


if __name__ == "__main__":
    main()
