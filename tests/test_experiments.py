"""A whole experiment on tiny scans: who sees whom, what goes on, and what comes out."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from click.testing import CliRunner
from safetensors.torch import save_file

from delineate import formats
from delineate.cli import main
from delineate.dataset import Dataset
from delineate.errors import DatasetError, InputError, ModelError, PlanError
from delineate.evaluation.rule_finding import FoundRule
from delineate.inference import segment
from delineate.model import Model, load_model, save_model
from delineate.planning import NetworkPlan, PlanOptions, Tiling, ZScore, plan_to_json
from delineate.postprocessing import Rule
from delineate.settings import Settings
from delineate.training import Facts, Phase
from delineate.volume import Kind
from delineate.workflow.experiment_choosing import pack, work_of
from delineate.workflow.experiment_folder import ExperimentFolder, Setup
from delineate.workflow.experiment_planning import begin, check_plans
from delineate.workflow.experiment_predicting import is_done, known_structures
from delineate.workflow.experiment_runs import fold_model, fold_split, is_finished, minutes_for
from delineate.workflow.experimenting import ExperimentOptions, ExperimentResult, experiment
from delineate.workflow.joining import join_folders, join_models
from delineate.workflow.ledger import read
from delineate.workflow.pairing import cases_set_aside
from delineate.workflow.progress import nobody
from delineate.workflow.structures import read_case
from delineate.workflow.training_run import Budget
from delineate.workflow.variants import variants_of
from delineate.workspace import RunFolder

FLAT = NetworkPlan(architecture="nnunet", features=(8, 16), strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))


@dataclass(frozen=True)
class Lab:
    """A dataset, an experiment that was run on it, and how."""

    dataset: Dataset
    folder: ExperimentFolder
    options: ExperimentOptions
    settings: Settings
    result: ExperimentResult

    @property
    def setup(self) -> Setup:
        return self.result.setup

    def go(self, **changes: object) -> ExperimentResult | None:
        options = replace(self.options, **changes)  # type: ignore[arg-type]
        return experiment(self.dataset, self.folder.path, options=options, settings=self.settings)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    dataset = write_blobs(folder / "data", 6)
    training = msgspec.structs.replace(tiny_plan().training, steps=4, validations=2)
    volumes = tiny_plan(training=training)
    slices = tiny_plan(training=training, patch_size=(16, 16, 1), network=FLAT)
    plans = (folder / "volumes.json", folder / "slices.json")
    for path, plan in zip(plans, (volumes, slices), strict=True):
        path.write_text(plan_to_json(plan))
    options = ExperimentOptions(budget=Budget(steps=4), folds=2, test=2, plans=plans)
    settings = Settings("cpu", 1, 6 * 10**9, folder / "cache")
    place = ExperimentFolder(folder / "out")
    result = experiment(dataset, place.path, options=options, settings=settings)
    assert result is not None
    return Lab(dataset, place, options, settings, result)


def models_of(lab: Lab, name: str) -> list[Model]:
    return [fold_model(lab.folder.run(name, fold)) for fold in range(2)]


def test_cases_set_aside_are_in_no_fold_and_no_run(lab: Lab) -> None:
    assert lab.setup.test == ("blob_4", "blob_5") == cases_set_aside(lab.result.model)
    assert sorted(lab.setup.cases) == ["blob_0", "blob_1", "blob_2", "blob_3"]
    for name, fold in lab.setup.runs:
        split = lab.folder.run(name, fold).split()
        assert sorted((*split.training, *split.validation)) == sorted(lab.setup.cases)
        assert not set(split.training) & set(lab.setup.folds[fold])
    assert not list(lab.folder.path.glob("predictions/*/blob_[45]*"))


def test_every_case_is_segmented_by_networks_that_never_saw_it(lab: Lab) -> None:
    model, case = models_of(lab, "slices")[1], lab.dataset.case(lab.setup.folds[1][0])
    assert case.id not in model.provenance.training_cases
    volume, _ = read_case(case, lab.dataset.labels, lab.dataset.kinds)
    written = formats.read_segmentation(lab.folder.prediction("slices", case.id), lab.dataset.labels)
    np.testing.assert_array_equal(written.array, segment(model, volume).segmentation.array)


def test_an_ensemble_out_of_fold_is_what_the_packed_model_would_find(lab: Lab) -> None:
    first, second = (models_of(lab, name)[0] for name in ("volumes", "slices"))
    case = lab.dataset.case(lab.setup.folds[0][1])
    volume, _ = read_case(case, lab.dataset.labels, lab.dataset.kinds)
    written = formats.read_segmentation(lab.folder.prediction("volumes+slices", case.id), lab.dataset.labels)
    found = segment(replace(first, partners=(second,)), volume).segmentation
    np.testing.assert_array_equal(written.array, found.array)


def test_weights_are_those_of_the_last_step_and_not_the_best(lab: Lab, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(lab.folder.run("volumes", 0).model, tmp_path / "run")))
    best = load_model(run.model)
    save_model(run.model, replace(best, weights={name: 0 * tensor for name, tensor in best.weights.items()}))
    state = run.load_state(run.plan(), device="cpu")
    assert state is not None
    model = fold_model(run)
    assert model.provenance.step == state.facts.step == 4
    assert all((model.weights[name] == tensor).all() for name, tensor in state.average.items())


def test_one_model_holds_all_folds_of_what_was_chosen(lab: Lab) -> None:
    model, nested = load_model(lab.result.model), lab.result.conclusion.nested
    parts = [model, *model.partners]
    members = lab.result.conclusion.chosen.candidate.members
    for part, name in zip(parts, members, strict=True):
        assert [fold.keys() for fold in part.folds] == [one.weights.keys() for one in models_of(lab, name)]
        assert len(part.folds) == 2
    assert sorted(model.provenance.training_cases) == sorted(lab.setup.cases)
    assert model.provenance.validation_dice == pytest.approx(nested.dice)
    assert variants_of(model).kind == "2 folds"


def test_the_chosen_rules_are_the_models(lab: Lab) -> None:
    rule = Rule(label="rim", largest_only=True)
    choice = replace(lab.result.conclusion.choice, rules=(FoundRule(rule, 0.5, 0.6, 0.01, 4),))
    models = {name: models_of(lab, name) for name in lab.setup.configurations}
    model = pack(replace(lab.result.conclusion, choice=choice), models, lab.dataset, lab.setup)
    assert model.postprocessing == (rule,)
    assert all(not partner.postprocessing for partner in model.partners)


def test_the_work_of_a_plan_counts_every_mirrored_pass() -> None:
    mirrored = tiny_plan(tiling=Tiling(mirror_axes=(0, 2)))
    work = work_of({"mirrored": mirrored, "plain": tiny_plan()})
    assert work["mirrored"] == pytest.approx(4 * work["plain"])


def test_results_of_other_networks_are_made_again(lab: Lab) -> None:
    record = lab.folder.record("blob_1")
    assert record is not None
    candidates = [one.candidate for one in lab.result.conclusion.candidates]
    assert is_done(lab.folder, "blob_1", record.models, candidates)
    assert not is_done(lab.folder, "blob_1", record.models | {"slices": "longer trained"}, candidates)
    assert not is_done(lab.folder, "blob_1", record.models, candidates[:1])


def test_what_lacks_is_unknown_to_all_if_it_is_to_one_plan() -> None:
    reference, absent = blob_case(0)[1], tiny_plan()
    reference = replace(reference, array=reference.array // 2)  # the rim alone, with the core's value
    unknown = tiny_plan(training=msgspec.structs.replace(absent.training, missing_labels="unknown"))
    assert known_structures(reference, [absent]) == ("core", "rim")
    assert known_structures(reference, [absent, unknown]) == ("core",)


def test_what_is_done_is_not_done_again(lab: Lab) -> None:
    def times() -> dict[Path, int]:
        kept = ("*.safetensors", "*.nii.gz", "scores/*", "ledger.jsonl")
        return {path: path.stat().st_mtime_ns for name in kept for path in lab.folder.path.rglob(name)}

    before = times()
    assert lab.go() is not None
    assert times() == before
    assert len(before) > 20


def test_what_is_lost_is_made_again(lab: Lab) -> None:
    result, weights = lab.folder.prediction("volumes", "blob_2"), lab.result.model / "weights.safetensors"
    before = formats.read_segmentation(result, lab.dataset.labels).array, load_model(lab.result.model).digest
    result.unlink()
    weights.write_bytes(weights.read_bytes()[:-4])
    assert lab.go() is not None
    np.testing.assert_array_equal(formats.read_segmentation(result, lab.dataset.labels).array, before[0])
    assert load_model(lab.result.model).digest == before[1]


def test_ctrl_c_waits_for_the_case_that_is_segmented(lab: Lab) -> None:
    def stop(stage: str, done: float, total: float, note: str) -> None:
        if stage == "Out of fold":
            signal.raise_signal(signal.SIGINT)

    scores = [lab.folder.path / "scores" / f"{case}.json" for case in lab.setup.folds[1]]
    for path in scores:
        path.unlink()
    assert experiment(lab.dataset, lab.folder.path, options=lab.options, settings=lab.settings, watch=stop) is None
    assert [path.exists() for path in scores] == [True, False]
    assert lab.go() is not None
    assert scores[1].exists()


def test_the_ledger_has_every_run_and_candidate_once(lab: Lab) -> None:
    entries = read(lab.folder.path)
    kinds = [entry.what for entry in entries]
    assert {kind: kinds.count(kind) for kind in kinds} == {"part": 4, "run": 4, "candidate": 3, "choice": 1}
    assert all(entry.dice is not None for entry in entries if entry.what != "part")


def test_the_page_says_what_was_chosen_and_how_good_it_is(lab: Lab) -> None:
    page = lab.result.page.read_text()
    assert lab.result.conclusion.choice.words.split(":")[0] in page
    assert f"{lab.result.conclusion.nested.dice:.3f}" in page
    assert "There are 4 patients" in page
    assert page.count("<svg") == 2


def test_other_options_than_those_it_was_begun_with_are_refused(lab: Lab) -> None:
    planning = PlanOptions(spacing_mm=(1.0, 1.0, 2.0))
    for changes, what in (
        ({"folds": 4}, "folds"),
        ({"test": 0}, "set aside"),
        ({"ensembles": False}, "ensembles"),
        ({"plans": (), "planning": planning}, "options of the plan: expected .*None.*, got .*spacing_mm"),
    ):
        with pytest.raises(InputError, match=f"begun with other .*{what}"):
            lab.go(**changes)


def test_another_plan_of_the_same_name_is_refused(lab: Lab, tmp_path: Path) -> None:
    changed = tmp_path / "slices.json"
    changed.write_text(plan_to_json(msgspec.structs.replace(lab.folder.plan("slices"), crop_foreground=False)))
    with pytest.raises(InputError, match="plan slices is another than the experiment was begun with"):
        lab.go(plans=(lab.options.plans[0], changed))


def test_options_that_plan_files_would_leave_unseen_are_refused(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"plan files say themselves.*loss dice"):
        lab.go(planning=PlanOptions(loss="dice"))
    with pytest.raises(InputError, match=r"plan files say themselves.*--configurations"):
        lab.go(configurations=("volumes", "slices"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"labels": ("core",)}, "other structures"),
        ({"channels": ("MR", "T2"), "kinds": (Kind.MR, Kind.MR), "normalisation": (ZScore(), ZScore())}, "channels"),
        ({"labels": ("rim", "core")}, "order their structures in two ways"),
        ({"previous": ("core",)}, "nothing comes before it"),
    ],
)
def test_plans_that_cannot_be_compared_are_refused(lab: Lab, changes: dict[str, object], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        check_plans({"good": tiny_plan(), "other": tiny_plan(**changes)}, lab.dataset)


def test_a_structure_that_a_fold_could_not_learn_is_refused_before_any_run(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 3)
    for case in dataset.cases[1:]:
        assert case.reference is not None
        drawn = formats.read_segmentation(case.reference, dataset.labels)
        formats.write_segmentation(case.reference, replace(drawn, array=drawn.array // 2 * 2))
    options = ExperimentOptions(budget=Budget(steps=2), folds=3, configurations=("3d_fullres",))
    settings = Settings("cpu", 1, 6 * 10**9, tmp_path / "cache")
    with pytest.raises(DatasetError, match=r"no training case of fold \d has these structures: got core"):
        begin(dataset, ExperimentFolder(tmp_path / "out"), options, settings, nobody)


def test_labels_are_united_once(tmp_path: Path) -> None:
    write_blobs(tmp_path / "data", 2)
    words = ["experiment", str(tmp_path / "data"), str(tmp_path / "out"), "--region", "whole=1,2", "--folds", "3"]
    assert "too few patients" in CliRunner().invoke(main, words).output


def test_a_dataset_that_changed_is_refused(lab: Lab) -> None:
    fewer = replace(lab.dataset, cases=lab.dataset.cases[1:])
    with pytest.raises(DatasetError, match="has changed"):
        experiment(fewer, lab.folder.path, options=lab.options, settings=lab.settings)


def test_more_steps_leave_runs_unfinished(lab: Lab) -> None:
    run = lab.folder.run("volumes", 0)
    assert is_finished(run, Budget(steps=4))
    assert is_finished(run, Budget(minutes=1))
    assert not is_finished(run, Budget(steps=5))
    assert not is_finished(run, Budget(epochs=100))


def test_configurations_come_from_planning(lab: Lab, tmp_path: Path) -> None:
    options = ExperimentOptions(budget=Budget(steps=2), folds=3, test=2, configurations=("2d",))
    seen: list[str] = []
    setup = begin(lab.dataset, ExperimentFolder(tmp_path), options, lab.settings, lambda *told: seen.append(told[3]))
    assert setup.configurations == ("2d",)
    assert ExperimentFolder(tmp_path).plan("2d").dimensions == 2
    assert sorted(seen) == sorted(case for fold in setup.folds for case in fold) == [f"blob_{n}" for n in range(4)]
    unknown = replace(options, configurations=("4d",))
    with pytest.raises(PlanError, match="not planned here"):
        begin(lab.dataset, ExperimentFolder(tmp_path / "x"), unknown, lab.settings, nobody)


def test_folds_trained_one_by_one_are_joined(lab: Lab, tmp_path: Path) -> None:
    folders = [lab.folder.run("volumes", fold).model for fold in range(2)]
    joined = join_folders(folders, tmp_path / "joined")
    assert load_model(tmp_path / "joined").digest == joined.digest
    assert len(joined.folds) == 2
    assert sorted(joined.provenance.training_cases) == sorted(lab.setup.cases)
    assert joined.provenance.held_out_cases == lab.setup.test
    with pytest.raises(ModelError, match="there already"):
        join_folders(folders, tmp_path / "joined")
    assert join_folders(folders, tmp_path / "joined", again=True).digest == joined.digest


def test_only_what_was_joined_is_replaced(lab: Lab, tmp_path: Path) -> None:
    folders = [lab.folder.run("volumes", fold).model for fold in range(2)]
    imported = tmp_path / "imported"
    save_model(imported, load_model(folders[0]))
    for output in (folders[1], imported):
        with pytest.raises(ModelError, match="there already"):
            join_folders(folders, output, again=True)


def test_models_that_are_no_folds_of_one_are_not_joined(lab: Lab) -> None:
    first, second = models_of(lab, "volumes")
    other = replace(second, provenance=msgspec.structs.replace(second.provenance, dataset_digest="other"))
    cases = [
        (models_of(lab, "slices")[1], "different plans"),
        (other, "different datasets"),
        (first, "of the same fold"),
    ]
    for model, why in cases:
        with pytest.raises(ModelError, match=why):
            join_models({"a": first, "b": model})


def test_a_fold_that_ran_out_of_memory_is_still_a_fold(lab: Lab) -> None:
    first, second = models_of(lab, "volumes")
    smaller = msgspec.structs.replace(second.plan, training=msgspec.structs.replace(second.plan.training, batch_size=1))
    assert len(join_models({"a": first, "b": replace(second, plan=smaller)}).folds) == 2


def test_each_fold_trains_on_the_others(lab: Lab) -> None:
    split = fold_split(lab.setup, 1)
    assert split.validation == lab.setup.folds[1]
    assert split.training == lab.setup.folds[0]
    assert split.held_out == lab.setup.test


def trained_for(run: RunFolder, seconds: float, *, step: int = 10) -> None:
    facts = Facts(step=step, seconds=seconds, phases=(Phase(first=0, last=10, start=0.0, peak=1.0),))
    run.folder.mkdir(parents=True)
    text = {"facts": msgspec.json.encode(facts).decode()}
    save_file({"nothing": torch.zeros(1)}, run.folder / "state.safetensors", metadata=text)


def test_runs_share_the_minutes_that_are_left(lab: Lab, tmp_path: Path) -> None:
    folder, setup = ExperimentFolder(tmp_path), msgspec.structs.replace(lab.setup, planning_seconds=60.0)
    assert minutes_for(folder, setup, 100) == pytest.approx((0.9 * 100 - 1) / 4)
    trained_for(folder.run("volumes", 0), 30 * 60)
    trained_for(folder.run("slices", 0), 10 * 60, step=3)
    assert minutes_for(folder, setup, 100) == pytest.approx((0.9 * 100 - 1 - 40) / 3)
    trained_for(folder.run("volumes", 1), 58 * 60)
    assert minutes_for(folder, setup, 100) == pytest.approx(0.25 * 100 / 4)


def test_segmenting_is_given_the_time_it_was_seen_to_take(lab: Lab, tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path)
    record = lab.folder.record("blob_1")
    assert record is not None
    folder.save_record(msgspec.structs.replace(record, total_seconds=90.0))
    setup = msgspec.structs.replace(lab.setup, planning_seconds=0.0)
    assert minutes_for(folder, setup, 100) == pytest.approx((100 - 4 * 1.5) / 4)
