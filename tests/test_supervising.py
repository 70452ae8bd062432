"""A batch in a process of its own: deaths are told of, cost one case, and never the batch.

The processes import this module, which is why it imports nothing heavy.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from delineate.errors import ResourceError, UnreadableImage
from delineate.executors.supervised import Death, Tell
from delineate.workflow import supervising
from delineate.workflow.batches import Attempt, CaseReport, Needs, Phase, PredictionRequest, PredictionRun, summary
from delineate.workflow.progress import nobody
from delineate.workflow.supervising import predict_apart

REQUEST = PredictionRequest(Path("model"), Path("scans"), Path("out"))
CASES = ("a", "b", "c", "d")


def play(tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt) -> PredictionRun:
    """Cases that overlap as they do in a batch; reading those that `request.structures` names is deadly."""
    ended = dict(attempt.ended)
    running: str | None = None
    for case in [case for case in CASES if case not in ended]:
        if running is not None and case in attempt.alone | {running}.intersection(attempt.alone):
            end(tell, ended, running)
            running = None
        tell(CaseReport(case, Phase.READING))
        if case in request.structures:
            os.kill(os.getpid(), signal.SIGKILL)
        if running is not None:
            end(tell, ended, running)
        tell(CaseReport(case, Phase.SEGMENTING))
        running = case
    if running is not None:
        end(tell, ended, running)
    return summary(CASES, ended, busy=attempt.cut_off)


def end(tell: Tell, ended: dict[str, CaseReport], case: str) -> None:
    ended[case] = CaseReport(case, Phase.WRITTEN, Path(case))
    tell(ended[case])


def run(monkeypatch: pytest.MonkeyPatch, *deadly: str) -> tuple[PredictionRun, list[CaseReport]]:
    monkeypatch.setattr(supervising, "_work", play)
    heard: list[CaseReport] = []
    request = PredictionRequest(Path("model"), Path("scans"), Path("out"), structures=deadly)
    return predict_apart(request, hear=heard.append), heard


def test_a_batch_without_incident_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    result, heard = run(monkeypatch)
    assert result.written == tuple(map(Path, CASES))
    assert [report.case for report in heard if report.phase.is_end] == list(CASES)


def test_a_case_that_kills_is_named_and_the_others_are_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, heard = run(monkeypatch, "b", "d")
    assert result.written == (Path("a"), Path("c"))
    ends = [report.case for report in heard if report.phase.is_end]
    assert sorted(ends) == list(CASES)
    assert [failure.case for failure in result.failures] == ["b", "d"]
    assert "was killed, most likely for lack of memory, while this case was being read (case b)" in str(
        result.failures[0].error
    )


def test_the_memory_that_a_killed_case_needs_is_said() -> None:
    needs = Needs("torch float32", 2_100_000_000, 5_000_000_000)
    log = supervising._Log(nobody, lambda report: None, {}, busy={"a": CaseReport("a", Phase.SEGMENTING, needs=needs)})
    attempt = supervising.after(Death(-signal.SIGKILL), log, Attempt())
    assert "being segmented: expected it to need about 2.1 GB of 5.0 GB (case a)" in str(attempt.ended["a"].error)


def die(tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt) -> PredictionRun:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def test_a_death_before_any_case_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "_work", die)
    with pytest.raises(ResourceError, match=r"crashed \(SIGSEGV\).*before any case"):
        predict_apart(REQUEST)


def refuse(tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt) -> PredictionRun:
    raise UnreadableImage("no model", path=request.model)


def test_what_the_other_process_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "_work", refuse)
    with pytest.raises(UnreadableImage, match=r"no model \(model\)"):
        predict_apart(REQUEST)


def stop_in_the_middle(
    tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt
) -> PredictionRun:
    tell(CaseReport("a", Phase.SEGMENTING))
    assert stop.wait(20)
    tell(CaseReport("a", Phase.WRITTEN, Path("a")))
    return summary(CASES, {"a": CaseReport("a", Phase.WRITTEN, Path("a"))}, busy={})


def test_the_first_interruption_stops_after_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "_work", stop_in_the_middle)

    def interrupt(report: CaseReport) -> None:
        if report.phase is Phase.SEGMENTING:
            os.kill(os.getpid(), signal.SIGINT)

    result = predict_apart(REQUEST, hear=interrupt)
    assert result.stopped
    assert result.written == (Path("a"),)


def hang(tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt) -> PredictionRun:
    tell(CaseReport("a", Phase.SEGMENTING))
    time.sleep(60)
    raise AssertionError


def test_the_second_interruption_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(report: CaseReport) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    monkeypatch.setattr(supervising, "_work", hang)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        predict_apart(REQUEST, hear=interrupt)
    assert time.monotonic() - began < 30


def kill_when_reading(
    tell: Tell, stop: threading.Event, *, request: PredictionRequest, attempt: Attempt
) -> PredictionRun:
    """The real work, but that reading case b kills, as a decoder does that damaged voxels send astray."""
    from delineate.workflow.choosing import Scan

    read = Scan.read

    def deadly(scan: Scan, *rest: object, **options: object) -> object:
        if scan.id == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        return read(scan, *rest, **options)  # type: ignore[arg-type]

    Scan.read = deadly  # type: ignore[method-assign, assignment]
    return _REAL_WORK(tell, stop, request=request, attempt=attempt)


_REAL_WORK = supervising._work


@pytest.mark.slow
def test_a_batch_of_scans_survives_a_scan_that_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anatomy import blob_case
    from test_model import tiny_model

    from delineate import formats
    from delineate.model import save_model

    save_model(tmp_path / "model", tiny_model())
    for number, name in enumerate("abcd"):
        formats.write_volume(tmp_path / "scans" / f"{name}.nii.gz", blob_case(number)[0])
    monkeypatch.setattr(supervising, "_work", kill_when_reading)
    request = PredictionRequest(
        tmp_path / "model", tmp_path / "scans", tmp_path / "out", device="cpu", threads=1, cache=tmp_path / "cache"
    )
    result = predict_apart(request)
    assert [path.name for path in result.written] == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert "crashed (SIGSEGV)" in str(result.failures[0].error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{name}{suffix}" for name in "acd" for suffix in (".json", ".nii.gz")
    )
