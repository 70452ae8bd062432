"""Accounts, passwords and sessions of review, in both databases."""

import pytest
from argon2 import PasswordHasher
from review_people import Team

from delineate.errors import InputError
from delineate.review.records import (
    NotAllowed,
    PersonChange,
    Role,
)
from delineate.review.store import people


def test_a_password_is_right_or_wrong_and_locks_after_five_failures(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(people, "_hasher", lambda: quick)
    store = team.store
    person = store.add_person("ida", "Ida Neu", Role.REVIEWER, "Schöne Aussicht")
    assert store.check_password("ida", "Schöne Aussicht") == person
    for name, password in (("nobody", "Schöne Aussicht"), ("root", ""), ("a\0", "x"), ("ida", "y" * 10_000)):
        assert store.check_password(name, password) is None
    for _ in range(4):
        store.check_password("ida", "falsch")
    assert store.check_password("ida", "Schöne Aussicht") is None
    monkeypatch.setattr(people, "_FREE_FAILURES", 99)
    store.change_person("ida", PersonChange(password="Neue Aussicht"))
    assert store.check_password("ida", "Schöne Aussicht") is None
    assert store.check_password("ida", "Neue Aussicht") == person


def test_a_session_ends_by_time_by_leaving_and_with_the_account(team: Team) -> None:
    def begin(seconds: float = 60) -> str:
        return team.store.begin_session(team.eva, seconds=seconds).token

    token, other, late = begin(), begin(), begin(-1)
    found = team.store.session(token)
    assert found is not None
    assert found[0] == team.eva
    assert team.store.session(late) is None
    team.store.end_session(token)
    assert team.store.session(token) is None
    team.store.change_person("eva", PersonChange(active=False))
    assert team.store.session(other) is None
    assert not any(secret in event.facts for event in team.store.events() for secret in (token, other, late))


def test_somebody_always_administers(team: Team) -> None:
    with pytest.raises(NotAllowed, match="nobody would be left"):
        team.store.change_person("root", PersonChange(role=Role.REVIEWER))
    team.store.change_person("eva", PersonChange(role=Role.ADMIN), by="root")
    assert team.store.change_person("root", PersonChange(active=False)).active is False


@pytest.mark.parametrize(
    ("name", "full_name", "password", "match"),
    [
        ("eva", "Eva Zwei", None, "a user of this name"),
        (" eva", "Eva Zwei", None, "one line"),
        ("new", "", None, "one line"),
        ("new", "Eva Zwei", "short", "too short"),
        ("n" * 65, "Eva Zwei", None, "too long"),
    ],
)
def test_accounts_that_cannot_be_are_refused(
    team: Team, name: str, full_name: str, password: str | None, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        team.store.add_person(name, full_name, Role.VIEWER, password)
