"""Runs and trials on a Ray cluster of this machine alone: the same results, whoever dies on the way."""

from __future__ import annotations

import os
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
from anatomy import tiny_plan, write_blobs

from delineate.dataset import open_dataset
from delineate.errors import InputError, ResourceError, UnreadableImage
from delineate.executors.cluster import Cluster, check_address, run_on_cluster
from delineate.planning import plan_to_json
from delineate.settings import detect
from delineate.workflow.experimenting import ExperimentOptions, experiment
from delineate.workflow.training_run import Budget
from delineate.workflow.tuning import Effort, SearchOptions, tune

ray = pytest.importorskip("ray", reason="needs Ray (extra cluster)")
HERE = Cluster(cpus=1)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Ray will do in its next version
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=80 * 2**20,
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
        )
        yield
        ray.shutdown()


def never() -> bool:
    return False


def ignore(done: int) -> None:
    pass


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def wait_for_word(marker: Path) -> str:
    """Until it is asked to stop."""
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    marker.touch()
    while not asked:
        time.sleep(0.05)
    return "stopped"


def fail_after(marker: Path) -> None:
    while not marker.exists():
        time.sleep(0.05)
    raise UnreadableImage("broken", path="a.nii", case="c7")


def test_a_piece_whose_process_dies_is_begun_again(tmp_path: Path) -> None:
    pieces = {name: partial(die_once, tmp_path / name) for name in ("a", "b")}
    assert run_on_cluster(HERE, pieces, watch=ignore, stopping=never) == {"a": "done", "b": "done"}


def test_a_stop_reaches_what_runs_and_what_waits(tmp_path: Path) -> None:
    marks = [tmp_path / name for name in "abc"]
    pieces = {mark.name: partial(wait_for_word, mark) for mark in marks}
    found = run_on_cluster(HERE, pieces, watch=ignore, stopping=lambda: sum(mark.exists() for mark in marks) == 2)
    assert list(found.values()) == ["stopped", "stopped"]  # there is room for two at once


def test_an_error_comes_back_as_it_is_and_stops_the_others(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pieces: dict[str, Callable[[], object]] = {
        "waits": partial(wait_for_word, mark),
        "fails": partial(fail_after, mark),
    }
    with pytest.raises(UnreadableImage, match=r"broken \(case c7, a.nii\)"):
        run_on_cluster(HERE, pieces, watch=ignore, stopping=never)


def test_pieces_that_no_machine_has_room_for_are_refused() -> None:
    with pytest.raises(ResourceError, match=r"no machine.*expected 3 CPUs, 1 GPUs.*at most 2 CPUs, 0 GPUs.*--threads"):
        run_on_cluster(Cluster(cpus=3, gpus=1), {"a": never}, watch=ignore, stopping=never)
    with pytest.raises(InputError, match="at least one CPU"):
        Cluster(cpus=0)


def test_an_address_where_nobody_answers_is_said_at_once() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"cluster 127.0.0.1:{port} cannot be reached.*ray start --head"):
            check_address(Cluster(f"127.0.0.1:{port}"))
    with pytest.raises(InputError, match="HOST:PORT"):
        check_address(Cluster("head"))


def test_an_experiment_on_a_cluster_is_what_it_is_on_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blobs(tmp_path / "data", 4)
    training = msgspec.structs.replace(tiny_plan().training, steps=4, validations=1)
    (tmp_path / "tiny.json").write_text(plan_to_json(tiny_plan(training=training)))
    monkeypatch.chdir(tmp_path)  # what is named relative to here is found there, too
    options = ExperimentOptions(budget=Budget(steps=4), folds=2, plans=(Path("tiny.json"),))
    settings = detect("cpu", threads=1, memory_gb=4, cache=Path("cache"))
    said: list[str] = []

    def watch(stage: str, done: float, total: float, note: str) -> None:
        said.append(f"{stage} {done:.0f} of {total:.0f}")

    dataset = open_dataset(Path("data"))
    there = experiment(dataset, Path("there"), options=options, settings=settings, cluster=HERE, watch=watch)
    alone = experiment(dataset, Path("alone"), options=options, settings=settings)
    assert there is not None
    assert alone is not None
    assert there.conclusion.nested.dice == alone.conclusion.nested.dice
    assert "Runs 2 of 2" in said
    assert not any(line.startswith("Training") for line in said)  # of runs here


@pytest.mark.slow
def test_trials_on_a_cluster_are_what_they_are_on_one_machine(tmp_path: Path) -> None:
    dataset = write_blobs(tmp_path / "data", 5)
    search = SearchOptions(space="learning_rate=1e-3..1e-1", sampler="random", trial=Budget(steps=4))
    settings = replace(detect("cpu", threads=1, memory_gb=4, cache=tmp_path / "cache"), save_seconds=0.0)
    found = [
        tune(
            dataset,
            tmp_path / name,
            options=search,
            effort=Effort(trials=2, processes=processes, confirm=0),
            settings=settings,
            plan=tiny_plan(),
            cluster=cluster,
        )
        for name, processes, cluster in (("there", 2, HERE), ("alone", 1, None))
    ]
    assert found[0].finished
    assert [trial.dice for trial in found[0].trials] == [trial.dice for trial in found[1].trials]
