from io import StringIO
from pathlib import Path

import msgspec
import pytest
import torch
from anatomy import blob_case, tiny_plan
from rich.console import Console

from delineate import training
from delineate.errors import ModelError
from delineate.preprocessing import prepare
from delineate.reports.run_tables import incident_lines, profile_table
from delineate.sampling import index_case
from delineate.training import STEP_PARTS, Incident, Laps, Profile
from delineate.workspace import RunFolder

PLAN = tiny_plan(training=msgspec.structs.replace(tiny_plan().training, steps=5))
PROFILE = Profile(steps=4, seconds={"waiting for data": 0.1, "forward": 0.4, "backward": 0.5, "validation": 3.0})


def test_every_second_is_counted_once() -> None:
    now = iter([10.0, 10.5, 12.5, 12.75])
    laps = Laps(clock=lambda: next(now))
    laps.start()
    for what in ("waiting for data", "forward", "waiting for data"):
        laps.press(what)
    assert dict(laps.seconds) == {"waiting for data": 0.75, "forward": 2.0}


def test_a_profile_sees_all_parts_and_changes_no_weight() -> None:
    cases = [index_case(prepare(f"blob_{seed}", *blob_case(seed), PLAN), seed=0) for seed in range(2)]
    plain, profiled = training.start(PLAN), training.start(PLAN)
    profiled.laps.exact = True
    for state in (plain, profiled):
        for _ in training.train(state, cases, PLAN):
            pass
    for name, tensor in plain.average.items():
        assert torch.equal(tensor, profiled.average[name]), name
    assert set(STEP_PARTS) <= set(profiled.laps.seconds)
    assert "forward" not in plain.laps.seconds
    assert profiled.laps.seconds["forward"] > profiled.laps.seconds["average of weights"]
    assert not profiled.network._forward_hooks


def test_shares_by_hand() -> None:
    assert PROFILE.step_seconds == pytest.approx(1.0)
    assert PROFILE.waiting_share == pytest.approx(0.1)
    assert Profile(steps=0, seconds={}).waiting_share == 0


def test_the_table_says_what_a_step_takes_and_how_long_it_waits() -> None:
    console = Console(file=StringIO(), width=100)
    console.print(profile_table(PROFILE))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "A step takes 250.0 ms; it waits for data for 10.0 % of it (aim: under 5 %)." in " ".join(text.split())
    assert any(line.split() == ["backward", "125.00", "0.50", "12.5"] for line in text.splitlines())
    assert any(line.split() == ["validation", "3.00", "75.0"] for line in text.splitlines())


def test_a_profile_comes_back_from_the_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.profile() is None
    run.save_profile(PROFILE)
    assert run.profile() == PROFILE
    (tmp_path / "training" / "profile.json").write_text("{}")
    with pytest.raises(ModelError, match="profile cannot be read"):
        run.profile()


def test_incidents_are_told_a_sentence_a_kind() -> None:
    lost = [Incident(step=step, what="loss not finite", back_to=0) for step in (7, 90)]
    lines = incident_lines([*lost, Incident(step=3, what="memory ran out: batch of 1 instead of 2")])
    assert lines[0].startswith(
        "Loss not finite (at steps 7, 90). The run went back to weights before it, and on with 0.25"
    )
    assert lines[1] == "Memory ran out: batch of 1 instead of 2 (at step 3)."
    assert incident_lines(()) == ()
