"""People, cases, edits and decisions: what goes in comes out, and what must not be is refused; in both databases."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from review_people import SEEN, Team, new_case

from delineate.errors import InputError
from delineate.review.records import (
    NewCase,
    NotAllowed,
    Person,
    PersonChange,
    ReviewCase,
    Role,
    StaleRevision,
    State,
    Verdict,
    WorklistQuery,
)
from delineate.review.store import Store
from delineate.review.store.worklist import ORDERS


def decide(team: Team, person: Person, verdict: Verdict = Verdict.APPROVE, structure: int | None = None) -> State:
    team.store.decide(
        team.case.id,
        person,
        verdict,
        revision=team.now().revision,
        seen=SEEN,
        signature=person.full_name,
        structure=structure,
        reason="" if verdict is Verdict.APPROVE else "cut off below",
    )
    return team.now().state


def test_a_case_comes_out_as_it_went_in(team: Team) -> None:
    assert team.case.new == new_case()
    assert (team.case.state, team.case.revision, team.case.reader) == (State.UNREVIEWED, 0, None)
    assert team.store.case("b") is None
    assert team.store.case("a\0") is None
    with pytest.raises(InputError, match="no such case"):
        team.store.case_by_id(77)


def test_a_known_case_stays_a_changed_one_is_replaced_until_somebody_looked(team: Team) -> None:
    renamed = replace(new_case(), pseudonym="other")
    assert team.store.add_cases([renamed, new_case("b")]) == ("b",)
    assert team.now().new.pseudonym == "P-a"
    assert team.store.add_cases([new_case(digest="d2")]) == ("a",)
    found = team.store.case("a")
    assert found is not None
    team.store.take(found, team.eva)
    with pytest.raises(InputError, match="has changed"):
        team.store.add_cases([new_case(digest="d3")])
    assert team.store.verify() == ()


def test_the_worklist_is_what_a_naive_one_is(team: Team) -> None:
    chance = random.Random(5)
    names = ["liver", "Läsion 腫瘤"]
    cases = [
        replace(
            new_case(f"k{n}", collection=chance.choice(["north", "south"]), patient_name=f"Name{n % 7}^X%_"),
            priority=chance.choice([0.5, 1.5, 2.0]),
            site=chance.choice(["Zürich", "Bern", ""]),
            structures=new_case().structures[: chance.choice([1, 2])],
        )
        for n in range(60)
    ]
    team.store.add_cases(cases)
    for n in range(0, 60, 3):
        found = team.store.case(f"k{n}")
        assert found is not None
        team.store.take(found, chance.choice([team.eva, team.max]))
    south = team.store.change_person("max", PersonChange(collections=("south",)))
    everything = team.store.cases()
    for person in (team.root, team.eva, south):
        for query in queries(chance, names):
            page = team.store.worklist(query, person)
            expected = naive(everything, query, person)
            assert [case.new.key for case in page.cases] == expected[query.offset :][: query.limit]
            assert page.total == len(expected)
            tabs = dict(page.by_state)
            assert tabs[State.IN_REVIEW] == len(naive(everything, replace(query, states=(State.IN_REVIEW,)), person))


def queries(chance: random.Random, names: list[str]) -> Iterator[WorklistQuery]:
    for _ in range(25):
        yield WorklistQuery(
            states=tuple(
                chance.sample([State.UNREVIEWED, State.IN_REVIEW, State.REJECTED], chance.choice([0, 0, 1, 2]))
            ),
            structure=chance.choice(["", "", *names, "none"]),
            model=chance.choice(["", "organs"]),
            site=chance.choice(["", "", "Bern"]),
            reader=chance.choice(["", "", "eva"]),
            search=chance.choice(["", "", "p-K1", "NAME3", "name2 k", "%", "_"]),
            order=chance.choice(["-priority", "priority", "key", "-key"]),
            offset=chance.choice([0, 0, 7]),
            limit=chance.choice([0, 5, 50]),
        )


def naive(cases: tuple[ReviewCase, ...], query: WorklistQuery, person: Person) -> list[str]:
    found = []
    for case in cases:
        new = case.new
        words = f"{new.key} {new.pseudonym} {new.patient_name if person.sees_names else ''}".casefold()
        keep = (
            (person.role is Role.ADMIN or person.collections is None or new.collection in person.collections)
            and (not query.states or case.state in query.states)
            and query.structure in ("", *(part.name for part in new.structures))
            and query.model in ("", new.model)
            and query.site in ("", new.site)
            and query.reader in ("", case.reader)
            and all(word in words for word in query.search.casefold().split())
        )
        if keep:
            found.append(case)
    found.sort(key=lambda case: case.new.key)
    if "priority" in query.order:
        found.sort(key=lambda case: case.new.priority, reverse=query.order.startswith("-"))
    elif query.order == "-key":
        found.reverse()
    return [case.new.key for case in found]


def test_every_order_of_the_worklist_works_and_others_are_refused(team: Team) -> None:
    for order in ORDERS:
        assert team.store.worklist(WorklistQuery(order=f"-{order}"), team.vera).total == 1
    for wrong in ("packed", "--key", "", "key; DROP TABLE cases"):
        with pytest.raises(InputError, match="no such order"):
            team.store.worklist(WorklistQuery(order=wrong), team.vera)
    with pytest.raises(InputError, match="no such page"):
        team.store.worklist(WorklistQuery(limit=100_000), team.vera)
    with pytest.raises(InputError, match="no text"):
        team.store.worklist(WorklistQuery(search="\0"), team.vera)


def test_who_may_not_see_a_case_cannot_change_it(team: Team) -> None:
    south = team.store.change_person("eva", PersonChange(collections=("south",)))
    assert not team.store.may_see(south, team.case)
    assert team.store.filters(south).structures == ()
    for act in (lambda: team.store.take(team.case, south), lambda: team.edit(south), lambda: decide(team, south)):
        with pytest.raises(NotAllowed, match="may not see"):
            act()
    with pytest.raises(NotAllowed, match="may look"):
        team.edit(team.vera)
    assert team.now().revision == 0


def test_filters_are_what_occurs(team: Team) -> None:
    team.store.take(team.case, team.max)
    found = team.store.filters(team.vera)
    assert (found.structures, found.readers) == (("Läsion 腫瘤", "liver"), ("max",))
    assert (found.models, found.sites, found.collections) == (("organs",), ("Zürich",), ("north",))


def test_an_edit_of_an_old_revision_is_told_the_new_one(team: Team) -> None:
    assert [team.edit(team.eva, b"one"), team.edit(team.max, b"two")] == [1, 2]
    with pytest.raises(StaleRevision, match="changed meanwhile") as caught:
        team.store.add_edit(
            team.case.id, team.eva, base_revision=1, layer=0, tool="brush", parameters="{}", packed=b"three"
        )
    assert caught.value.revision == 2
    assert [(edit.person, edit.packed) for edit in team.store.edits(team.case.id)] == [("eva", b"one"), ("max", b"two")]
    assert [edit.revision for edit in team.store.edits(team.case.id, 1)] == [2]
    assert (team.now().state, team.now().reader) == (State.IN_REVIEW, "eva")


def test_of_twenty_threads_with_one_revision_one_wins(team: Team) -> None:
    def attempt(number: int) -> int:
        try:
            team.store.add_edit(
                team.case.id, team.eva, base_revision=0, layer=0, tool="t", parameters="{}", packed=bytes([number])
            )
        except StaleRevision:
            return 0
        return 1

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1
    assert team.store.verify() == ()


def test_only_the_last_edit_can_be_undone_and_the_last_undo_redone(team: Team) -> None:
    team.edit()
    team.edit()
    with pytest.raises(InputError, match="only the last"):
        team.edit(undoes=1)
    assert team.edit(undoes=2) == 3
    assert (team.store.undo_target(team.case.id), team.store.redo_target(team.case.id)) == (1, 3)
    assert team.edit(undoes=3) == 4
    assert (team.store.undo_target(team.case.id), team.store.redo_target(team.case.id)) == (4, None)
    assert team.store.editors(team.case.id) == ("eva",)


def test_a_snapshot_is_found_at_or_after_its_revision(team: Team) -> None:
    for _ in range(3):
        team.edit()
    team.store.save_snapshot(team.case.id, 2, b"two")
    team.store.save_snapshot(team.case.id, 2, b"again")
    assert team.store.nearest_snapshot(team.case.id, 1) is None
    found = team.store.nearest_snapshot(team.case.id, 3)
    assert found is not None
    assert (found.revision, found.packed) == (2, b"two")
    with pytest.raises(InputError, match="no such revision"):
        team.store.save_snapshot(team.case.id, 4, b"future")


def test_an_approval_is_one_with_edits_where_an_edit_stands(team: Team) -> None:
    team.edit()
    assert decide(team, team.eva) is State.APPROVED_WITH_EDITS
    with pytest.raises(InputError, match="decided"):
        team.edit()
    assert team.store.reopen(team.case.id, team.eva, "too early").state is State.IN_REVIEW
    team.edit(undoes=1)
    assert decide(team, team.eva) is State.APPROVED
    assert [decision.revision for decision in team.store.decisions(team.case.id)] == [1, 2]


def test_a_rejected_structure_keeps_the_whole_from_approval(team: Team) -> None:
    assert decide(team, team.eva, Verdict.REJECT, structure=7) is State.IN_REVIEW
    with pytest.raises(InputError, match="structures are rejected: got Läsion"):
        decide(team, team.eva)
    decide(team, team.max, Verdict.APPROVE, structure=7)
    assert decide(team, team.eva) is State.APPROVED


def test_decisions_that_cannot_be_are_refused(team: Team) -> None:
    def attempt(**changed: object) -> None:
        asked = {"revision": 0, "seen": SEEN, "signature": "Eva Muster", "structure": None, "reason": ""} | changed
        verdict = asked.pop("verdict", Verdict.APPROVE)
        team.store.decide(team.case.id, team.eva, verdict, **asked)  # type: ignore[arg-type]

    for changed, error, match in (
        ({"revision": 1}, StaleRevision, "changed meanwhile"),
        ({"seen": "5E" * 32}, InputError, "64 hexadecimal"),
        ({"signature": "Max Beispiel"}, InputError, "another name"),
        ({"structure": 2}, InputError, "no such structure"),
        ({"verdict": Verdict.REJECT, "reason": "  "}, InputError, "reason is empty"),
    ):
        with pytest.raises(error, match=match):
            attempt(**changed)
    assert team.store.decisions(team.case.id) == ()
    attempt(signature="  eva  MUSTER ")


def test_a_second_reader_confirms_and_is_another_person(team: Team) -> None:
    team.store.take(team.case, team.eva)
    with pytest.raises(InputError, match="another person"):
        team.store.assign_second(team.case, "eva", by=team.root)
    with pytest.raises(InputError, match="no reviewer"):
        team.store.assign_second(team.case, "vera", by=team.root)
    team.store.assign_second(team.case, "max", by=team.root)
    with pytest.raises(NotAllowed, match="cannot be the first"):
        decide(team, team.max)
    assert decide(team, team.eva) is State.AWAITING_SECOND
    with pytest.raises(NotAllowed, match="another person"):
        decide(team, team.eva)
    with pytest.raises(NotAllowed, match="waits for its second reader"):
        team.edit(team.eva)
    team.edit(team.max)
    assert decide(team, team.max) is State.APPROVED_WITH_EDITS
    assert [(d.person, d.second) for d in team.store.decisions(team.case.id)] == [("eva", False), ("max", True)]
    assert (team.now().reader, team.now().second_reader) == ("eva", "max")
    assert team.store.verify() == ()


def test_a_second_reader_who_reopens_a_case_does_not_approve_it_alone(team: Team) -> None:
    team.store.assign_second(team.case, "max", by=team.root)
    assert decide(team, team.eva) is State.AWAITING_SECOND
    team.store.reopen(team.case.id, team.max, "the border is wrong")
    team.edit(team.max)
    assert decide(team, team.max) is State.AWAITING_SECOND
    assert (team.now().reader, team.now().second_reader) == ("max", "eva")
    assert decide(team, team.eva) is State.APPROVED_WITH_EDITS


def test_two_people_at_one_case_know_of_each_other(team: Team) -> None:
    team.store.beat(team.case, team.eva, 15)
    team.store.beat(team.case, team.max, 1e9)
    team.store.beat(team.case, team.eva, float("nan"))
    assert [name for name, _ in team.store.presence(team.case)] == ["eva", "max"]
    assert team.now().seconds == 75
    team.store.leave(team.case, team.eva)
    assert [name for name, _ in team.store.presence(team.case)] == ["max"]


def test_a_case_is_taken_once_and_given_back_by_who_has_it(team: Team) -> None:
    assert team.store.take(team.case, team.eva).reader == "eva"
    assert team.store.take(team.case, team.max).reader == "eva"
    with pytest.raises(NotAllowed, match="somebody else"):
        team.store.give_back(team.case, team.max)
    given = team.store.give_back(team.case, team.root)
    assert (given.reader, given.state) == (None, State.UNREVIEWED)


def test_names_of_patients_are_not_in_the_audit_trail(team: Team) -> None:
    assert not any("Doe" in event.facts for event in team.store.events())


def test_times_come_out_in_utc(team: Team) -> None:
    team.edit()
    made = team.store.edits(team.case.id)[0].made
    assert made.utcoffset() == timedelta(0)
    assert isinstance(team.store, Store)
    assert isinstance(team.case.new, NewCase)
