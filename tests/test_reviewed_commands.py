"""The commands that use what was reviewed, on a review with a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner, Result
from reviewed_cases import new_case

from delineate.cli import main
from delineate.dataset import open_dataset
from delineate.editing.runs import difference
from delineate.review.live import LiveLabels
from delineate.review.places import places_in
from delineate.review.records import Role, Verdict
from delineate.review.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three cases: one corrected and approved, one rejected, one that nobody has looked at."""
    places = places_in(tmp_path)
    places.folder.mkdir()
    store = open_store(places.database_url)
    store.add_cases([new_case(tmp_path, key=f"p{n}", seed=n)[0] for n in range(3)], by="test")
    who = store.add_person("weiss", "Anna Weiss", Role.REVIEWER, None, by="test")
    live = LiveLabels(store, memory_bytes=1 << 26)
    first, second, _ = store.cases()
    now = live.segmentation(first).array
    after = now.copy()
    after[1:4, 2, 3] = 2
    live.edit(first, who, base_revision=0, layer=0, runs=difference(now, after), tool="lasso", parameters="{}")
    for case, verdict in ((first, Verdict.APPROVE), (second, Verdict.REJECT)):
        revision, seen = live.digest(case)
        store.decide(case.id, who, verdict, revision=revision, seen=seen, signature="Anna Weiss", reason="motion")
    return store


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_exports_what_was_approved_and_says_so_in_the_trail(tmp_path: Path, store: Store) -> None:
    result = run("review-export", tmp_path, "-f", "rtstruct", "-o", tmp_path / "out")
    assert (result.exit_code, "1 of 1 cases exported" in result.output) == (0, True)
    header = pydicom.dcmread(tmp_path / "out" / "p0.rtstruct.dcm")
    assert (header.ApprovalStatus, header.ReviewerName) == ("APPROVED", "Anna Weiss")
    event = store.events()[-1]
    assert (event.action, event.case, "p0.rtstruct.dcm" in event.facts) == ("exported", "p0", True)


def test_a_rejected_case_is_exported_as_a_draft_only(tmp_path: Path, store: Store) -> None:
    refused = run("review-export", tmp_path, "p1", "-f", "nifti", "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "not approved" in refused.output
    assert run("review-export", tmp_path, "p1", "-f", "nifti", "-o", tmp_path / "out", "--draft").exit_code == 0
    assert (tmp_path / "out" / "p1.draft.nii.gz").exists()


def test_corrected_cases_become_a_dataset(tmp_path: Path, store: Store) -> None:
    result = run("dataset", "add", tmp_path / "set", "--reviewed", tmp_path)
    assert (result.exit_code, "1 added" in result.output) == (0, True)
    assert [case.id for case in open_dataset(tmp_path / "set").cases] == ["p0"]
    assert run("dataset", "add", tmp_path / "set", "--reviewed", tmp_path).output.strip().endswith("1 as they were")
    assert [event.action for event in store.events()].count("taught") == 1


def test_the_next_case_is_the_one_nobody_has_seen(tmp_path: Path, store: Store) -> None:
    result = run("review-suggest", tmp_path, "--count", 5)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines() if line.startswith("p")] == ["p2"]


def test_readers_are_compared_in_tables_and_json(tmp_path: Path, store: Store) -> None:
    result = run("review-readers", tmp_path, "-o", tmp_path / "readers.json")
    assert result.exit_code == 0
    row = next(line.split() for line in result.output.splitlines() if "weiss" in line)
    assert row[:5] == ["weiss", "2", "0/2", "0–66", "%"]
    board = json.loads((tmp_path / "readers.json").read_text())
    assert (board["total"]["cases"], board["total"]["rejected"], board["pending"]) == (2, 1, 0)
    assert board["total"]["reasons"] == [{"reason": "motion", "count": 1}]
    assert 0.9 < board["total"]["dice"]["median"] < 1


@pytest.mark.parametrize("words", ["review-suggest", "review-audit verify", "review-people list", "review-readers"])
def test_a_folder_without_a_review_is_said(tmp_path: Path, words: str) -> None:
    result = run(*words.split(), tmp_path)
    assert result.exit_code == 2
    assert "nothing was reviewed here" in result.output
    assert list(tmp_path.iterdir()) == []


def test_states_that_no_case_is_in_are_told_with_those_that_are(tmp_path: Path, store: Store) -> None:
    result = run("review-export", tmp_path, "-o", tmp_path / "x", "--states", "escalated")
    assert result.exit_code == 2
    assert "1 approved_with_edits, 1 rejected, 1 unreviewed" in result.output


def test_an_unknown_format_is_said_once(tmp_path: Path, store: Store) -> None:
    result = run("review-export", tmp_path, "p0", "p1", "-f", "seg,dwg", "-o", tmp_path / "x")
    assert (result.exit_code, result.output.count("unknown format"), (tmp_path / "x").exists()) == (2, 1, False)


def test_unknown_states_and_cases_are_said(tmp_path: Path, store: Store) -> None:
    assert "no such state" in run("review-export", tmp_path, "-o", tmp_path / "x", "--states", "fine").output
    assert "no such case" in run("review-export", tmp_path, "p9", "-o", tmp_path / "x").output


def test_a_folder_with_nothing_to_review_stays_as_it_is(tmp_path: Path) -> None:
    result = run("review", tmp_path, "--no-browser", "--port", 0)
    assert (result.exit_code, "there is nothing to review" in result.output) == (2, True)
    assert list(tmp_path.iterdir()) == []
