"""Runs in which something goes wrong, and which go on."""

import errno
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from anatomy import blob_case, tiny_plan, write_blobs
from safetensors.torch import load_file
from torch import Tensor, nn

from delineate import training, workspace
from delineate.dataset import Dataset
from delineate.errors import ResourceError, TrainingError
from delineate.planning import Plan, plan_from_json
from delineate.preprocessing import prepare
from delineate.sampling import Batch, TrainingCase, index_case, make_batch
from delineate.settings import Settings, detect
from delineate.training import Facts, Objective, guarding, loop, supervised
from delineate.workflow.training import Budget, Course, Division, train
from delineate.workflow.training_memory import is_out_of_memory
from delineate.workflow.training_reports import report_training

PLAN = tiny_plan(training=msgspec.structs.replace(tiny_plan().training, steps=12))


@functools.cache
def cases() -> list[TrainingCase]:
    return [index_case(prepare(f"blob_{seed}", *blob_case(seed), PLAN), seed=0) for seed in range(3)]


class Poisoned:
    """A loss that is NaN, or whose gradients are, the n-th time it is asked for (from 0)."""

    def __init__(self, *calls: int, finite: bool = False) -> None:
        self.calls, self.finite, self.asked = calls, finite, 0

    def __call__(self, network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        loss = supervised(network, batch, plan)
        self.asked += 1
        if self.asked - 1 not in self.calls:
            return loss
        weight = next(network.parameters())
        # The square root's slope at 0 has no end.
        return loss + (weight.flatten()[0] * 0).sqrt() if self.finite else loss * math.nan


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "KEEP_EVERY", 4)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("finite", [False, True])
def test_a_step_that_is_not_finite_is_refused_and_the_run_goes_back(finite: bool) -> None:
    state, kept = training.start(PLAN), {}
    for step, _ in enumerate(training.train(state, cases(), PLAN, objective=Poisoned(9, finite=finite)), start=1):
        if step in (4, 10):
            kept[step] = {name: tensor.clone() for name, tensor in training.pack(state).items()}
    assert all(torch.equal(kept[4][name], kept[10][name]) for name in kept[4])
    [incident] = state.facts.incidents
    assert (incident.step, incident.back_to) == (9, 4)
    assert incident.what == ("gradients not finite" if finite else "loss not finite")
    assert incident.cases == state.refusals[0].batch.cases
    assert (state.facts.step, state.facts.rate_factor) == (12, 0.5)
    assert all(tensor.isfinite().all() for tensor in training.pack(state).values())


def test_a_run_that_nothing_happens_to_is_what_it_was() -> None:
    watched, state = training.start(PLAN), training.start(PLAN)
    for _ in training.train(watched, cases(), PLAN):
        pass
    for batch in range(12):
        loss = supervised(state.network, loop_batch(batch), PLAN)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.network.parameters(), PLAN.training.gradient_clip)
        for group in state.optimiser.param_groups:
            group["lr"] = training.learning_rate(state.facts.phases, batch, PLAN.training)
        state.optimiser.step()
    for name, tensor in watched.network.state_dict().items():
        assert torch.equal(tensor, state.network.state_dict()[name]), name


def loop_batch(step: int) -> Batch:
    return make_batch(cases(), PLAN, step)


def test_one_incident_after_the_other_ends_the_run_with_a_word_on_the_case() -> None:
    state, poisoned = training.start(PLAN), Poisoned(*range(12))
    with pytest.raises(TrainingError, match=r"again and again.*4 times.*0, 1, 2, 3.*Lower the learning rate"):
        for _ in training.train(state, cases()[:1], PLAN, objective=poisoned):
            pass
    assert len(state.refusals) == 4
    with pytest.raises(TrainingError, match="Case blob_0 was in every one"):
        for _ in training.train(training.start(PLAN), cases()[:1], PLAN, objective=Poisoned(*range(12))):
            pass


@pytest.mark.usefixtures("often")
def test_outcomes_may_be_read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where the optimiser itself leaves the step out."""
    monkeypatch.setattr(loop, "_skips_by_itself", lambda optimiser: True)
    plan = msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, steps=20))
    state = training.start(plan)
    for _ in training.train(state, cases(), plan, objective=Poisoned(9, 19)):
        assert all(tensor.isfinite().all() for tensor in training.pack(state).values())
    assert [(incident.step, incident.back_to) for incident in state.facts.incidents] == [(9, 4), (19, 12)]
    assert state.facts.step == 20


@pytest.mark.usefixtures("often")
def test_weights_that_were_left_behind_are_not_gone_back_to() -> None:
    plan = msgspec.structs.replace(PLAN, training=msgspec.structs.replace(PLAN.training, steps=15))
    state = training.start(plan)
    for _ in training.train(state, cases(), plan, objective=Poisoned(9, 13)):
        pass
    assert [(incident.step, incident.back_to) for incident in state.facts.incidents] == [(9, 4), (13, 4)]


@pytest.mark.parametrize("finite", [True, False])
def test_the_optimiser_leaves_a_step_out_on_the_devices_word(monkeypatch: pytest.MonkeyPatch, finite: bool) -> None:
    monkeypatch.setattr(loop, "_skips_by_itself", lambda optimiser: True)
    state = training.start(PLAN)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    supervised(state.network, loop_batch(0), PLAN).backward()  # type: ignore[no-untyped-call]
    loop.step_if(state.optimiser, torch.tensor(finite))
    changed = any(not torch.equal(before[name], tensor) for name, tensor in state.network.state_dict().items())
    assert changed == finite


def test_losses_that_are_not_finite_are_not_counted() -> None:
    state = training.start(PLAN)
    state.recent_losses.extend(torch.tensor([2.0, math.nan, 4.0]))
    assert training.take_recent_loss(state) == 3.0
    assert training.take_recent_loss(state) is None


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return write_blobs(tmp_path / "data", 4)


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, memory_gb=4, cache=tmp_path / "cache")


def run(data: Dataset, folder: Path, machine: Settings, objective: Objective, plan: Plan = PLAN) -> list[str]:
    """What is said during a run."""
    said: list[str] = []

    def watch(stage: str, done: float, total: float, note: str) -> None:
        said.append(f"{stage}: {note}")

    division, course = Division(hold_out=1), Course(objective=objective)
    train(data, folder, budget=Budget(), division=division, settings=machine, plan=plan, course=course, watch=watch)
    return said


def test_the_batch_is_written_out_and_the_incident_remembered(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    said = run(data, tmp_path / "m", machine, Poisoned(5))
    folder = tmp_path / "m" / "training"
    batch, record = load_file(folder / "incidents" / "step_5.safetensors"), folder / "incidents" / "step_5.json"
    assert batch["images"].shape == (2, 1, 16, 16, 8)
    assert batch["targets"].shape == (2, 16, 16, 8)
    known = json.loads(record.read_text())
    assert (known["step"], known["loss"], known["back_to"]) == (5, "nan", 0)
    assert len(known["cases"]) == 2
    assert any("Step 5: loss not finite (blob_" in line and "0.5 of the learning rate" in line for line in said)
    facts = workspace.RunFolder(tmp_path / "m").facts()
    assert facts is not None
    assert [incident.step for incident in facts.incidents] == [5]
    report = report_training(tmp_path / "m", tmp_path / "page.html")
    assert report.doubts[0].startswith("Loss not finite (at step 5). The run went back to weights before it")


class Hungry:
    """A batch of more than `most` patches does not fit."""

    def __init__(self, most: int, error: Callable[[], Exception]) -> None:
        self.most, self.error = most, error

    def __call__(self, network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        if len(batch.images) > self.most:
            raise self.error()
        return supervised(network, batch, plan)


def allocate_too_much() -> Exception:
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("error", [allocate_too_much, lambda: torch.OutOfMemoryError("CUDA out of memory.")])
def test_the_batch_is_halved_where_memory_runs_out(
    tmp_path: Path, data: Dataset, machine: Settings, error: Callable[[], Exception]
) -> None:
    said = run(data, tmp_path / "m", machine, Hungry(1, error))
    plan = plan_from_json((tmp_path / "m" / "training" / "plan.json").read_text())
    assert plan.training.batch_size == 1
    assert plan.reasons[-1] == "memory ran out: batch of 1 instead of 2, from step 0 on"
    assert any("batch of 1 instead of 2" in line for line in said)
    assert run(data, tmp_path / "m", machine, supervised) is not None  # the finished run opens again
    facts = workspace.RunFolder(tmp_path / "m").facts()
    assert facts is not None
    assert facts.step == 12


def test_no_memory_for_a_batch_of_one_is_said(tmp_path: Path, data: Dataset, machine: Settings) -> None:
    with pytest.raises(ResourceError, match=r"batch of 1.*got step 0.*smaller --patch"):
        run(data, tmp_path / "m", machine, Hungry(0, MemoryError))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    wrapped = TrainingError("making a batch failed")
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(wrapped)


def test_a_plan_that_cannot_fit_is_refused_before_the_run(tmp_path: Path, data: Dataset) -> None:
    small = detect("cpu", threads=1, memory_gb=0.002, cache=tmp_path / "cache")
    with pytest.raises(ResourceError, match=r"does not fit the memory.*at most 0.00 GB.*batch of 2.*--memory-gb"):
        run(data, tmp_path / "m", small, supervised)
    assert not (tmp_path / "m").exists()


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_what_could_not_be_written_is_written_later(
    tmp_path: Path, data: Dataset, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Poisoned()  # counts the steps

    def objective(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        full = 4 <= space.asked < 10
        monkeypatch.setattr("delineate.files._flush", full_disk if full else lambda path: None)
        return space(network, batch, plan)

    said = run(data, tmp_path / "m", machine, objective)
    assert any("Not written: the checkpoint at step 6: the disk is full; tried again later" in line for line in said)
    assert any("Not written: history.csv" in line for line in said)
    facts = workspace.RunFolder(tmp_path / "m").facts()
    assert facts is not None
    assert facts.step == 12
    assert len((tmp_path / "m" / "training" / "history.csv").read_text().splitlines()) == 13


def test_a_disk_that_stays_full_is_an_error_and_keeps_the_checkpoint(
    tmp_path: Path, data: Dataset, machine: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, tmp_path / "m", machine, supervised)
    before = (tmp_path / "m" / "training" / "state.safetensors").read_bytes()
    monkeypatch.setattr("delineate.files._flush", full_disk)
    with pytest.raises(ResourceError, match=r"cannot be saved at step 20.*disk is full.*goes on from the last"):
        train(data, tmp_path / "m", budget=Budget(steps=20), division=Division(), settings=machine)
    assert (tmp_path / "m" / "training" / "state.safetensors").read_bytes() == before
    monkeypatch.undo()
    assert train(data, tmp_path / "m", budget=Budget(steps=20), division=Division(), settings=machine) is not None


def test_a_checkpoint_that_the_system_cuts_off_is_an_error_with_its_reason(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    import signal

    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            workspace.RunFolder(tmp_path).save_state(training.start(PLAN))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "training").iterdir()) == []


def test_facts_of_older_runs_have_no_incidents() -> None:
    facts = msgspec.json.decode(b'{"phases": [{"first": 0, "last": 9, "start": 0, "peak": 0.1}]}', type=Facts)
    assert (facts.incidents, facts.rate_factor) == ((), 1.0)
