"""Few labelled scans, many without: does it pay to begin with weights from elsewhere? MSD hippocampus (Task04).

    python benchmarks/transfer.py --labelled 8 --unlabelled 150 --steps 300 --seeds 0 1 2 [--threads 1] [--arms ...]

The last 40 cases are scored and seen by nobody. Of the first `--labelled` the references are learnt from, by the same
plan, in the same number of steps (of the same network: the same time), the last weights kept; what differs is where the
weights begin:

    scratch      at random
    pretrained   `delineate pretrain` on all scans but the 40, without references, in `--before` steps
    other        a model of another labelling: the whole hippocampus as one structure, of the unlabelled cases' scans
    frozen       as other, the encoder frozen for the first fifth of the run
    slow         as other, what is taken learns at a tenth of the rate

Times of the models before are not counted into the arms' own. What was run is kept in .time_to_dice/transfer/ and not
run again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from delineate.dataset import Dataset, Split, open_dataset
from delineate.inference import place
from delineate.labels import label_set
from delineate.model import load_model
from delineate.planning import Plan, PlanOptions
from delineate.preprocessing import PreparedCase
from delineate.settings import Settings, detect
from delineate.training import case_dice
from delineate.workflow.preparing import plan_dataset, prepare_cases, use_threads
from delineate.workflow.pretraining import pretrain
from delineate.workflow.training import Budget, Division, train
from delineate.workflow.transferring import Beginning, begin_from

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".time_to_dice" / "transfer"
ARMS = ("scratch", "pretrained", "other", "frozen", "slow")
SCORED = 40


@dataclass(frozen=True, slots=True)
class Trial:
    """What stays the same: the data, who is labelled, the plan of a seed."""

    dataset: Dataset
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    scored: tuple[str, ...]
    plan: Plan
    settings: Settings


def main() -> None:
    arguments = _parser().parse_args()
    settings = detect("cpu", threads=arguments.threads, cache=FOLDER / "cache")
    use_threads(settings)
    trial = _trial(arguments, settings)
    scored = _scored(trial)
    for seed in arguments.seeds:
        for arm in arguments.arms:
            _run(trial, arm, seed, arguments, scored)
    _show(arguments)


def _trial(arguments: argparse.Namespace, settings: Settings) -> Trial:
    dataset = open_dataset(arguments.data)
    names = [case.id for case in dataset.cases]
    seen, scored = names[:-SCORED], names[-SCORED:]
    labelled, others = tuple(seen[: arguments.labelled]), tuple(seen[arguments.labelled :][: arguments.unlabelled])
    few = replace(dataset, cases=tuple(case for case in dataset.cases if case.id in labelled))
    options = PlanOptions(features=arguments.features)
    plan = plan_dataset(few, settings, options)
    quick = msgspec.structs.replace(plan.training, validations=1, steps=arguments.steps)
    return Trial(dataset, labelled, others, tuple(scored), msgspec.structs.replace(plan, training=quick), settings)


def _scored(trial: Trial) -> list[PreparedCase]:
    cases = [trial.dataset.case(name) for name in trial.scored]
    return prepare_cases(cases, trial.dataset.labels, trial.plan, trial.settings)


def _seeded(plan: Plan, seed: int) -> Plan:
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, seed=seed))


def _run(trial: Trial, arm: str, seed: int, arguments: argparse.Namespace, scored: list[PreparedCase]) -> None:
    folder = FOLDER / _name(arguments) / f"{arm}_{seed}"
    result = folder.with_suffix(".json")
    if result.exists():
        return
    plan = _seeded(trial.plan, seed)
    division = Division(given=Split(trial.labelled, (), "", "few labelled cases", held_out=trial.scored))
    beginning = _beginning(trial, arm, arguments)
    start = begin_from(trial.dataset, folder, beginning, division=division, settings=trial.settings, plan=plan)
    began = time.monotonic()
    model = train(
        trial.dataset,
        folder,
        budget=Budget(steps=arguments.steps),
        division=division,
        settings=trial.settings,
        plan=start.plan,
        course=start.course,
    )
    if model is None:
        raise SystemExit("stopped")
    seconds = time.monotonic() - began
    dice = np.nanmean(case_dice(place(model.network(), "cpu"), scored, model.plan), axis=0)
    result.write_text(json.dumps({"arm": arm, "seed": seed, "dice": dice.tolist(), "seconds": seconds}))
    print(f"{arm:11} seed {seed}: {dice.mean():.3f} in {seconds / 60:.1f} minutes", flush=True)


def _beginning(trial: Trial, arm: str, arguments: argparse.Namespace) -> Beginning | None:
    if arm == "scratch":
        return None
    if arm == "pretrained":
        return Beginning(_pretrained(trial, arguments))
    freeze = "encoder" if arm == "frozen" else "nothing"
    return Beginning(_other(trial, arguments), freeze=freeze, backbone_rate=0.1 if arm == "slow" else 1.0)  # type: ignore[arg-type]


def _pretrained(trial: Trial, arguments: argparse.Namespace) -> Path:
    folder = FOLDER / _name(arguments) / "before_pretrained"
    seen = (*trial.labelled, *trial.unlabelled)
    scans = replace(trial.dataset, cases=tuple(case for case in trial.dataset.cases if case.id in seen))
    budget, plan = Budget(steps=arguments.before), trial.plan
    began = time.monotonic()
    made = pretrain(scans, folder, budget=budget, settings=trial.settings, hold_out=4, plan=plan)
    if made is None:
        raise SystemExit("stopped")
    print(
        f"pretrained: {made[1].unexplained:.2f} unexplained, {(time.monotonic() - began) / 60:.1f} minutes", flush=True
    )
    return folder


def _other(trial: Trial, arguments: argparse.Namespace) -> Path:
    """A model of the whole hippocampus, trained on the scans that have no references for the arms."""
    folder = FOLDER / _name(arguments) / "before_other"
    whole = _whole(trial.dataset, folder.parent / "whole", trial.unlabelled)
    plan = msgspec.structs.replace(trial.plan, labels=whole.labels.names)
    train(
        whole,
        folder,
        budget=Budget(steps=arguments.before),
        division=Division(fold=None),
        settings=trial.settings,
        plan=plan,
    )
    load_model(folder)
    return folder


def _whole(dataset: Dataset, folder: Path, names: tuple[str, ...]) -> Dataset:
    """The cases with both halves drawn as one structure."""
    import nibabel as nib

    cases = []
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for name in names:
        case = dataset.case(name)
        assert case.reference is not None
        target = folder / "labels" / f"{name}.nii.gz"
        if not target.exists():
            drawn: Any = nib.load(case.reference)
            both = (np.asanyarray(drawn.dataobj) > 0).astype(np.uint8)
            image: Any = nib.Nifti1Image(both, drawn.affine)  # type: ignore[no-untyped-call]
            nib.save(image, target)
        cases.append(replace(case, reference=target))
    return replace(dataset, name="whole hippocampus", labels=label_set({1: "hippocampus"}), cases=tuple(cases))


def _name(arguments: argparse.Namespace) -> str:
    width = "x".join(map(str, arguments.features))
    return f"{arguments.labelled}_{arguments.unlabelled}_{width}_{arguments.steps}_{arguments.before}"


def _show(arguments: argparse.Namespace) -> None:
    print(f"\n{arguments.labelled} labelled cases, {arguments.steps} steps; mean Dice of {SCORED} cases")
    for arm in arguments.arms:
        results = [json.loads(path.read_text()) for path in sorted((FOLDER / _name(arguments)).glob(f"{arm}_*.json"))]
        if results:
            means = [float(np.mean(result["dice"])) for result in results]
            each = " ".join(f"{value:.3f}" for value in means)
            print(f"{arm:11} {np.mean(means):.3f}   ({each})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "hippocampus")
    parser.add_argument("--labelled", type=int, default=8)
    parser.add_argument("--unlabelled", type=int, default=150)
    parser.add_argument("--steps", type=int, default=300, help="of each arm")
    parser.add_argument("--before", type=int, default=600, help="steps of what is begun with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--features", type=int, nargs="+", default=(8, 16, 32, 64))
    return parser


if __name__ == "__main__":
    main()
