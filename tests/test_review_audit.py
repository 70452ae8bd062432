"""What is changed behind the store's back shows, and what was acknowledged stays, whatever is killed."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_people import SEEN, Team, new_case, team_at
from sqlalchemy import Boolean, Column, create_engine, text

from delineate.errors import InputError
from delineate.review.records import Event, Verdict
from delineate.review.store import open_store, verify_export
from delineate.review.store.schema import TABLES, Time
from delineate.review.store.trail import broken_links, canonical, link_digest, linked, write_export


@pytest.fixture
def team(url: str, tmp_path: Path) -> Iterator[Team]:
    """With an edit, a snapshot and a decision."""
    store = open_store(url, witness=tmp_path / "trail.end")
    team = team_at(store)
    team.edit()
    store.save_snapshot(team.case.id, 1, b"all layers")
    store.decide(team.case.id, team.eva, Verdict.APPROVE, revision=1, seen=SEEN, signature="Eva Muster")
    yield team
    store.close()


@contextmanager
def behind_the_back(url: str) -> Iterator[Callable[[str], Any]]:
    """SQL as who owns the database can run it, the guards against mistakes taken away."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in ("edits", "decisions", "events"):
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"DROP TRIGGER {table}_append_only ON {table}"))
            else:
                connection.execute(text(f"DROP TRIGGER {table}_no_update"))
                connection.execute(text(f"DROP TRIGGER {table}_no_delete"))
        yield lambda sql: connection.execute(text(sql))
    engine.dispose()


def test_a_store_that_nobody_touched_is_whole(team: Team) -> None:
    assert team.store.verify() == ()
    assert [event.number for event in team.store.events()] == list(range(1, team.store.count_events() + 1))


CHANGES = [
    ("UPDATE edits SET packed = '\\x00'", "Edit 1 of case 'a' was changed: its voxels"),
    ("UPDATE edits SET person = 'max'", "Edit 1 of case 'a' was changed"),
    ("UPDATE edits SET parameters = '{}'", "Edit 1 of case 'a' was changed"),
    ("DELETE FROM edits", "Edit 1 of case 'a' is missing"),
    ("UPDATE decisions SET verdict = 'reject'", "Decision 1 about case 'a' was changed"),
    ("UPDATE decisions SET seen = upper(seen)", "Decision 1 about case 'a' was changed"),
    ("DELETE FROM decisions", "Decision 1 about case 'a' is missing"),
    ("UPDATE snapshots SET packed = '\\x00'", "The snapshot of case 'a' at 1 was changed"),
    ("UPDATE cases SET segmentation = '/other.nii.gz'", "Case 'a' was changed"),
    ("UPDATE cases SET state = 'approved'", "Where case 'a' stands was changed"),
    ("UPDATE cases SET reader = 'max'", "Where case 'a' stands was changed"),
    ("UPDATE structures SET name = 'spleen' WHERE value = 1", "Case 'a' was changed"),
    ("UPDATE people SET role = 'admin' WHERE name = 'vera'", "The account of 'vera' was changed"),
    ("UPDATE people SET password = 'x' WHERE name = 'eva'", "The account of 'eva' was changed"),
    ("DELETE FROM people WHERE name = 'max'", "The account of 'max' is missing"),
    ("UPDATE events SET person = 'max' WHERE number = 6", "Event 6 was changed"),
    ("UPDATE events SET made = '2026-01-01T00:00:00.000000+00:00' WHERE number = 2", "Event 2 was changed"),
    ("DELETE FROM events WHERE number = 3", "Events 3 to 3 are missing"),
    ("DELETE FROM events WHERE number >= 7", "The end of the audit trail is missing: events 7 to 8"),
    ("UPDATE chain_head SET number = 2", "The audit trail ends with event 8"),
]


@pytest.mark.parametrize(("sql", "sentence"), CHANGES)
def test_every_change_behind_the_stores_back_is_named(team: Team, url: str, sql: str, sentence: str) -> None:
    with behind_the_back(url) as run:
        assert run(sql).rowcount >= 1
    assert any(problem.startswith(sentence) for problem in team.store.verify()), team.store.verify()


UNWATCHED = {
    *("cases.seconds", "people.id", "people.failures", "people.locked_until"),
    *(f"sessions.{name}" for name in ("token", "person_id", "csrf", "expires")),
    *(f"presence.{name}" for name in ("case_id", "person", "last_seen")),
}
"""What docs/decisions/0013 says that the trail does not cover."""


def other(column: Column[Any], value: Any) -> Any:
    match value:
        case bool() | None:
            return int(not value)
        case int() | float():
            return value + 1
        case bytes():
            return value + b"x"
        case _:
            return "2027-01-01T00:00:00.000000+00:00" if isinstance(column.type, Time) else f"{value}x"


def test_a_change_of_every_column_but_those_that_the_docs_name_is_found(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'made.sqlite'}")
    team = team_at(store)
    team.edit()
    store.save_snapshot(team.case.id, 1, b"all layers")
    store.decide(team.case.id, team.eva, Verdict.APPROVE, revision=1, seen=SEEN, signature="Eva Muster", reason="good")
    store.begin_session(team.eva, seconds=60)
    store.beat(team.case, team.eva, 3)
    store.close()
    unseen = {
        f"{table.name}.{column.name}"
        for table in TABLES.sorted_tables
        for column in table.c
        if not problems_after(tmp_path, table.name, column)
    }
    assert unseen == UNWATCHED


def problems_after(folder: Path, table: str, column: Column[Any]) -> tuple[str, ...]:
    """What is said after one value of the last row was changed in a copy of a store."""
    shutil.copy(folder / "made.sqlite", folder / "copy.sqlite")
    shutil.copy(folder / "made.sqlite.end", folder / "copy.sqlite.end")
    with closing(sqlite3.connect(folder / "copy.sqlite")) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        last = f"rowid = (SELECT max(rowid) FROM {table})"
        (value,) = connection.execute(f'SELECT "{column.name}" FROM {table} WHERE {last}').fetchone()
        value = bool(value) if isinstance(column.type, Boolean) else value
        connection.execute(f'UPDATE {table} SET "{column.name}" = ? WHERE {last}', (other(column, value),))
    store = open_store(f"sqlite:///{folder / 'copy.sqlite'}")
    problems = store.verify()
    store.close()
    return problems


def test_an_end_cut_off_with_all_that_belongs_to_it_is_found_by_the_file_beside(team: Team, url: str) -> None:
    last = team.store.events()[-2]
    with behind_the_back(url) as run:
        run("DELETE FROM decisions")
        run("DELETE FROM events WHERE number = 8")
        run(f"UPDATE chain_head SET number = 7, digest = '{last.digest}'")
        run("UPDATE cases SET state = 'in_review', decided = NULL")
    assert team.store.verify() == ("The end of the audit trail is missing: it reached event 8, and ends with 7.",)


def test_the_database_itself_refuses_to_change_what_is_kept(team: Team, url: str) -> None:
    engine = create_engine(url)
    for table in ("edits", "decisions", "events"):
        for sql in (f"UPDATE {table} SET person = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(Exception, match=f"{table} is append-only"), engine.begin() as connection:
                connection.execute(text(sql))
    engine.dispose()


def test_a_file_beside_with_half_a_line_still_tells_the_end(team: Team, tmp_path: Path) -> None:
    witness = tmp_path / "trail.end"
    whole = witness.read_text()
    witness.write_text(whole + "9 abc")
    assert team.store.verify() == ()
    witness.write_text(f"12 {'0' * 64}\n" + whole)
    assert any("it reached event 12" in problem for problem in team.store.verify())


def test_that_the_file_beside_is_gone_is_said(team: Team, tmp_path: Path) -> None:
    (tmp_path / "trail.end").unlink()
    assert [problem.partition(":")[0] for problem in team.store.verify()] == [
        "Nothing beside the database tells how far the trail reached"
    ]
    team.store.audit(team.eva, "exported")
    assert team.store.verify() == ()


@pytest.mark.parametrize("line", ["[]", '{"number": "1"}', "[" * 100_000, '"\\ud800"', "1"])
def test_a_line_of_an_export_that_is_no_event_is_named(team: Team, tmp_path: Path, line: str) -> None:
    path = tmp_path / "trail.jsonl"
    team.store.export(path)
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    assert verify_export(path)[0].startswith("Line 2 is not as it was written")


def test_an_event_whose_number_became_a_text_is_named(team: Team, tmp_path: Path) -> None:
    path = tmp_path / "trail.jsonl"
    team.store.export(path)
    path.write_text(path.read_text().replace('"number":2,', '"number":"2",'))
    assert verify_export(path)[0].startswith("Line 2 is not as it was written")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["", "eva", "Jörg 🩻"]),
        st.sampled_from(["edited", "signed_in"]),
        st.sampled_from(["", "a", "b\nc"]),
        st.dictionaries(st.text('ab"\\é', max_size=3), st.one_of(st.integers(), st.booleans(), st.text(max_size=4))),
    ),
    max_size=4,
)


def chain(events: list[tuple[str, str, str, dict[str, Any]]]) -> list[Event]:
    made: list[Event] = []
    for number, (person, action, case, facts) in enumerate(events):
        at = datetime(2026, 3, 29, 1, 59, 59, 1, tzinfo=UTC) + timedelta(seconds=number)
        previous = made[-1] if made else None
        made.append(linked(previous, at, person, action, case=case, facts=canonical(facts)))
    return made


@given(events=EVENTS, data=st.data())
def test_every_single_byte_change_of_an_export_is_found(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str, str, dict[str, Any]]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("trail") / "trail.jsonl"
    write_export(path, chain(events))
    assert verify_export(path) == ()
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    for changed in (
        whole[:place] + bytes([other]) + whole[place + 1 :],
        whole[:place] + whole[place + 1 :],
        whole[:place] + bytes([other]) + whole[place:],
    ):
        path.write_bytes(changed)
        assert verify_export(path) or changed == whole


def test_a_change_of_each_byte_of_an_export_is_found(tmp_path: Path) -> None:
    path = tmp_path / "trail.jsonl"
    write_export(path, chain([("eva", "edited", "a", {"revision": 1, "é": None})]))
    whole, missed = path.read_bytes(), []
    for place, byte in enumerate(whole):
        # One bit, the other case, another digit, and what JSON does not care about.
        for other in {byte ^ 1, byte ^ 0x20, 0x20, 0x0A, 0x0D, 0x30} - {byte}:
            path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
            if verify_export(path) == ():
                missed.append((place, other))
    assert missed == []


def test_an_export_without_its_last_lines_is_found(team: Team, tmp_path: Path) -> None:
    path = tmp_path / "trail.jsonl"
    count = team.store.export(path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert (len(lines), verify_export(path)) == (count + 1, ())
    for kept in (lines[:-1], lines[:-2], lines[:-2] + lines[-1:], []):
        path.write_bytes(b"".join(kept))
        assert verify_export(path)
    with pytest.raises(InputError, match="cannot be read"):
        verify_export(tmp_path / "none.jsonl")


def test_fields_of_an_event_cannot_flow_into_each_other() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    digests = {linked(None, at, person, action, case="", facts="{}").digest for person, action in pairs}
    assert len(digests) == 4


def test_a_link_put_in_between_does_not_follow() -> None:
    first, second = chain([("eva", "edited", "a", {}), ("eva", "edited", "b", {})])
    false = linked(None, second.made, "eva", "edited", case="b", facts="{}")
    again = Event(2, false.made, "eva", "edited", "b", "{}", false.previous, "")
    again = Event(2, again.made, "eva", "edited", "b", "{}", again.previous, link_digest(again))
    assert list(broken_links([first, second])) == []
    assert list(broken_links([first, again])) == ["Event 2 does not follow from the event before it."]


def test_what_fails_leaves_no_event(team: Team) -> None:
    before = team.store.count_events()
    with pytest.raises(InputError, match="twice"):
        team.store.add_cases([new_case("b"), new_case("b")])
    with pytest.raises(InputError, match="no text"):
        team.store.add_cases([new_case("c"), new_case("d\0")])
    assert team.store.case("c") is None
    assert team.store.count_events() == before
