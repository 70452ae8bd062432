"""Cross-validation on data in which some organs were drawn in some patients only: is it worth using all of them?

    python benchmarks/partial_labels.py --minutes 20 --folds 3 --threads 2 [--data FOLDER] [--balance 0 --off-centre 0]

Two models a fold, with one plan and one number of steps, scored on the fold's held-out patients: "all" learns from
every training case, what is missing from a reference being unknown there; "complete" from the cases in which every
organ was drawn. `--minutes` is how long "all" trains, planning and preparing included; "complete" gets as many steps.
The last weights are taken. Figures are those of `delineate evaluate`, of the cases whose reference has the organ, over
all folds; the interval of a difference is of 2000 draws of patients with all their cases. Whatever was done lies in
.partial_labels/ and is not done again; Ctrl-C and the same command go on.

Of data in which everything was drawn everywhere, a structure can be taken out of the references that are learned from,
and be scored in all cases nevertheless:

    python benchmarks/partial_labels.py --data HIPPOCAMPUS --hide posterior_hippocampus --minutes 3 --folds 2
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from delineate import formats
from delineate.dataset import Case, Dataset, k_folds, open_dataset
from delineate.evaluation.cases import CaseScores, counted, score_case
from delineate.evaluation.intervals import bootstrap_means
from delineate.metrics.definitions import METRICS, Metric
from delineate.metrics.scores import Status
from delineate.model import load_model
from delineate.planning import Plan, PlanOptions, plan_from_json, plan_to_json
from delineate.reports.progress import watching
from delineate.settings import Settings, detect
from delineate.workflow.predicting import predict
from delineate.workflow.preparing import plan_dataset
from delineate.workflow.progress import Watch
from delineate.workflow.scoring import read_prediction
from delineate.workflow.training import Budget, Division, train

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("dice", "surface_dice")
STOPPED = 130
ARMS = ("all", "complete")

Table = npt.NDArray[np.float64]


class Done(msgspec.Struct, frozen=True):
    """What became of one model: `cases` that it learned from, `steps` and `seconds` of training."""

    cases: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What is the same for all folds. `scored`: the dataset with the references that results are compared with;
    `complete`: ids of the cases in which every organ was drawn."""

    dataset: Dataset
    scored: Dataset
    complete: frozenset[str]
    folder: Path
    options: PlanOptions
    settings: Settings
    folds: int
    minutes: float
    watch: Watch

    def fold(self, number: int) -> Path:
        return self.folder / f"fold_{number}"


def main() -> None:
    arguments = _parser().parse_args()
    with watching() as watch:
        bench = _open(arguments, watch)
        for number in range(arguments.folds):
            run_fold(bench, number)
    scores = {arm: list(_score(bench, arm)) for arm in ARMS}
    print_runs(bench)
    for metric in METRICS:
        if metric.name in SHOWN:
            print_table(bench.scored, scores, metric)
            print_kinds(bench, scores, metric)


def _open(arguments: argparse.Namespace, watch: Watch) -> Bench:
    scored = dataset = open_dataset(arguments.data)
    hidden = []
    if arguments.hide:
        hidden = [f"{arguments.data.name}_{arguments.keep:g}_{arguments.hide}"]
        dataset = hide(dataset, arguments.folder / "references" / hidden[0], arguments.hide, arguments.keep)
    complete = frozenset(case.id for case in dataset.cases if _has_all(case, dataset))
    print(f"{len(complete)} of {len(dataset.cases)} cases have every organ")
    options = PlanOptions(
        missing_labels="unknown",
        validations=1,
        minutes=arguments.minutes,
        balance=arguments.balance,
        off_centre=arguments.off_centre,
        seed=arguments.seed,
    )
    told = [f"{name}{value:g}" for name in ("balance", "off_centre") if (value := getattr(options, name)) is not None]
    name = "_".join([*hidden, f"{arguments.minutes:g}min", f"{arguments.folds}folds", f"seed{arguments.seed}", *told])
    folder = arguments.folder / name
    settings = detect("cpu", threads=arguments.threads, cache=arguments.folder / "cache")
    return Bench(dataset, scored, complete, folder, options, settings, arguments.folds, arguments.minutes, watch)


def hide(dataset: Dataset, folder: Path, structure: str, keep: float) -> Dataset:
    """The dataset with a structure taken out of all references but those of a share of the cases."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(dataset.cases))
    kept = set(order[: round(keep * len(order))].tolist())
    cases = [case if n in kept else _without(case, dataset, structure, folder) for n, case in enumerate(dataset.cases)]
    return replace(dataset, cases=tuple(cases))


def _without(case: Case, dataset: Dataset, structure: str, folder: Path) -> Case:
    assert case.reference is not None
    path = folder / f"{case.id}.nii.gz"
    if not path.exists():
        drawn = formats.read_segmentation(case.reference, dataset.labels)
        array = np.where(drawn.array == dataset.labels.named(structure).value, 0, drawn.array)
        formats.write_segmentation(path, replace(drawn, array=array))
    return replace(case, reference=path)


def _has_all(case: Case, dataset: Dataset) -> bool:
    assert case.reference is not None
    drawn = np.unique(formats.read_segmentation(case.reference, dataset.labels).array)
    return set(dataset.labels.values) <= set(drawn.tolist())


def run_fold(bench: Bench, number: int) -> None:
    """Train and predict whatever is not there yet."""
    split = k_folds(bench.dataset, bench.folds, seed=0)[number]
    learned = {
        "all": split.training,
        "complete": tuple(case for case in split.training if case in bench.complete),
    }
    plan = _plan(bench, number, split.training)
    scans = _scans(bench, number, split.validation)
    budget = Budget(minutes=bench.minutes)
    for arm in ARMS:
        done = _train(bench, bench.fold(number) / arm, learned[arm], plan, budget)
        budget = Budget(steps=done.steps)
        model = load_model(bench.fold(number) / arm)
        run = predict(model, scans, bench.folder / "results" / arm, settings=bench.settings, watch=bench.watch)
        if run.stopped:
            sys.exit(STOPPED)
        if run.failures:
            raise SystemExit("\n".join(str(failure.error) for failure in run.failures))


def _subset(dataset: Dataset, cases: Sequence[str]) -> Dataset:
    return replace(dataset, cases=tuple(case for case in dataset.cases if case.id in cases))


def _plan(bench: Bench, number: int, training: Sequence[str]) -> Plan:
    path = bench.fold(number) / "plan.json"
    if not path.exists():
        plan = plan_dataset(_subset(bench.dataset, training), bench.settings, bench.options, watch=bench.watch)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(plan_to_json(plan))
    return plan_from_json(path.read_bytes())


def _train(bench: Bench, folder: Path, cases: Sequence[str], plan: Plan, budget: Budget) -> Done:
    path = folder / "done.json"
    if not path.exists():
        began = time.monotonic()
        model = train(
            _subset(bench.dataset, cases),
            folder,
            budget=budget,
            division=Division(fold=None),
            settings=bench.settings,
            plan=plan,
            watch=bench.watch,
        )
        if model is None:
            sys.exit(STOPPED)
        told = Done(len(cases), model.provenance.step, model.provenance.seconds or time.monotonic() - began)
        path.write_bytes(msgspec.json.encode(told))
    return msgspec.json.decode(path.read_bytes(), type=Done)


def _scans(bench: Bench, number: int, cases: Sequence[str]) -> Path:
    """A folder with the held-out scans and nothing else."""
    folder = bench.fold(number) / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for image in bench.dataset.case(case).images:
            link = folder / image.name
            if not link.is_symlink():
                link.symlink_to(image.resolve())
    return folder


def _score(bench: Bench, arm: str) -> Iterator[CaseScores]:
    labels = bench.scored.labels
    for case in bench.scored.cases:
        assert case.reference is not None
        reference = formats.read_segmentation(case.reference, labels)
        prediction = read_prediction(bench.folder / "results" / arm / f"{case.id}.nii.gz", labels)
        yield score_case(case.id, reference, prediction, patient_id=case.patient_id)


def print_runs(bench: Bench) -> None:
    for arm in ARMS:
        runs = [
            msgspec.json.decode((bench.fold(n) / arm / "done.json").read_bytes(), type=Done) for n in range(bench.folds)
        ]
        told = ", ".join(f"{run.cases} cases, {run.steps} steps, {run.seconds / 60:.1f} min" for run in runs)
        print(f"{arm}: {told}")


def print_table(dataset: Dataset, scores: Mapping[str, Sequence[CaseScores]], metric: Metric) -> None:
    """A row an organ, and the mean over organs: means over cases, their difference and its interval."""
    names = dataset.labels.names
    everything, complete = (_values(scores[arm], names, metric) for arm in ARMS)
    gaps = (everything - complete)[:, None, :]
    patients = [case.patient_id for case in scores["all"]]
    intervals = bootstrap_means(gaps, patients, np.random.default_rng(0))
    # A draw's mean over organs is a mean over columns: the table is turned.
    overall = bootstrap_means(gaps.transpose(0, 2, 1), patients, np.random.default_rng(0)).of_means[0]
    print(f"\n| {metric.name} | cases | all | complete only | difference | 95 % interval |\n|---|---|---|---|---|---|")
    rows = [
        (name, f"{(~np.isnan(gaps[:, 0, n])).sum()}", everything[:, n], complete[:, n], intervals.of_columns[0, n])
        for n, name in enumerate(names)
    ]
    rows.append(("**mean**", "", np.nanmean(everything, axis=0), np.nanmean(complete, axis=0), overall))
    for name, cases, ours, theirs, (low, high) in rows:
        first, second = float(np.nanmean(ours)), float(np.nanmean(theirs))
        print(f"| {name} | {cases} | {first:.3f} | {second:.3f} | {first - second:+.3f} | {low:+.3f} to {high:+.3f} |")


def print_kinds(bench: Bench, scores: Mapping[str, Sequence[CaseScores]], metric: Metric) -> None:
    """The same means, of the cases in which every organ was drawn and of the others."""
    names = bench.dataset.labels.names
    tables = [_values(scores[arm], names, metric) for arm in ARMS]
    drawn = np.array([case.case_id in bench.complete for case in scores["all"]])
    print(f"\n| {metric.name} | complete cases | all | complete only | other cases | all | complete only |")
    print("|---|---|---|---|---|---|---|")
    for n, name in enumerate(names):
        kinds = [[table[kind, n] for table in tables] for kind in (drawn, ~drawn)]
        cells = [f"{(~np.isnan(a)).sum()} | {np.nanmean(a):.3f} | {np.nanmean(b):.3f}" for a, b in kinds]
        print(f"| {name} | {' | '.join(cells)} |")


def _values(scores: Sequence[CaseScores], names: Sequence[str], metric: Metric) -> Table:
    """(cases, organs): what counts, NaN where the reference lacks the organ, of which then nothing is known."""
    there = (Status.SCORED, Status.MISSED)
    return np.array(
        [
            [counted(case, name, metric) if case.scores[name].status in there else math.nan for name in names]
            for case in scores
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "headneck")
    parser.add_argument("--folder", type=Path, default=ROOT / ".partial_labels")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hide", metavar="STRUCTURE", help="take it out of references, but of a share of the cases")
    parser.add_argument("--keep", type=float, default=0.25, help="that share")
    parser.add_argument("--balance", type=float, help="as in `delineate plan`; left out: as planned")
    parser.add_argument("--off-centre", type=float, help="likewise")
    return parser


if __name__ == "__main__":
    main()
