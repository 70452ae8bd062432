import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delineate.workflow import claims
from delineate.workflow.claims import Claim, claimed, is_claimed

ELSEWHERE = "another-17-1700000000"  # a process of another machine

HOLD = """
import sys, time
from pathlib import Path
from delineate.workflow.claims import claimed
with claimed(Path(sys.argv[1])) as claim:
    print(claim is not None, flush=True)
    time.sleep(60)
"""


def write_claim(folder: Path, process: str, *, seconds_ago: float) -> None:
    path = folder / "claim-000001"
    path.write_text(process)
    os.utime(path, (time.time() - seconds_ago,) * 2)


def test_work_is_done_by_one_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "work") as first, claimed(tmp_path / "work") as second:
        assert first is not None
        assert second is None
        assert is_claimed(tmp_path / "work")
    assert not is_claimed(tmp_path / "work")
    with claimed(tmp_path / "work") as again:
        assert again is not None


def test_a_killed_process_loses_its_work_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "True\n"
        with claimed(tmp_path) as claim:
            assert claim is None
        process.kill()
        process.wait()
        with claimed(tmp_path) as claim:
            assert claim is not None


@pytest.mark.parametrize(("seconds_ago", "free"), [(30, False), (1000, True)])
def test_a_process_of_another_machine_is_gone_when_it_is_long_silent(
    tmp_path: Path, seconds_ago: float, free: bool
) -> None:
    write_claim(tmp_path, ELSEWHERE, seconds_ago=seconds_ago)
    with claimed(tmp_path) as claim:
        assert (claim is not None) is free


def test_who_slept_too_long_learns_that_its_work_was_taken(tmp_path: Path) -> None:
    write_claim(tmp_path, ELSEWHERE, seconds_ago=1000)
    sleeper = Claim(tmp_path, 1)
    assert not sleeper.is_lost
    with claimed(tmp_path) as claim:
        assert claim is not None
        assert sleeper.is_lost


def test_of_two_that_take_over_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_claim(tmp_path, ELSEWHERE, seconds_ago=1000)
    newest = claims._newest
    with claimed(tmp_path) as first:
        # The second one has looked before the first one made its claim.
        monkeypatch.setattr(claims, "_newest", lambda folder: 1)
        monkeypatch.setattr(claims, "_is_free", lambda path: True)
        assert claims._take(tmp_path) is None
        monkeypatch.setattr(claims, "_newest", newest)
        assert first is not None
        assert not first.is_lost


def test_who_looked_long_ago_does_not_take_what_was_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter((1,))
    newest = claims._newest
    (tmp_path / "claim-000003").write_text(ELSEWHERE)
    monkeypatch.setattr(claims, "_newest", lambda folder: next(looks, None) or newest(folder))
    monkeypatch.setattr(claims, "_is_free", lambda path: True)
    assert claims._take(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["claim-000003"]


def test_work_is_a_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_TOUCH_SECONDS", 0.02)
    with claimed(tmp_path) as claim:
        assert claim is not None
        os.utime(claim.path, (1000, 1000))
        for _ in range(100):
            if claim.path.stat().st_mtime > 1000:
                break
            time.sleep(0.02)
        assert claim.path.stat().st_mtime > 1000
