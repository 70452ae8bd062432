"""People of the store: accounts, passwords and sessions."""

from __future__ import annotations

import functools
import hashlib
import secrets
import threading
from datetime import datetime, timedelta

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as Work

from delineate.errors import InputError
from delineate.labels import is_one_line
from delineate.review.records import Keep, NotAllowed, Person, PersonChange, Role, Session
from delineate.review.store.database import Database, Writing
from delineate.review.store.rows import check_sees
from delineate.review.store.schema import CaseRow, PersonRow, SessionRow, column_values
from delineate.review.store.texts import checked_text, is_text
from delineate.review.store.trail import canonical, content_digest

_SHORTEST, _LONGEST = 8, 256
_FREE_FAILURES = 5
_LOCK_SECONDS, _LONGEST_LOCK_SECONDS = 30, 900
_HASHING = threading.BoundedSemaphore(2)  # each takes 64 MiB, and anybody can ask
_CONTENT = ("name", "full_name", "role", "sees_names", "collections", "active", "password")


class PeopleStore(Database):
    """Accounts. Names are case-sensitive; what a person may see is asked of the store for each case."""

    def add_person(
        self,
        name: str,
        full_name: str,
        role: Role,
        password: str | None,
        *,
        sees_names: bool = False,
        collections: tuple[str, ...] | None = None,
        by: Person | str = "",
    ) -> Person:
        """Add a user; without a password nobody signs in as them, but by a one-time token. `by`: who adds them.

        Raises `InputError` for a name that is taken or no plain line, and a password of fewer than 8 characters.
        """
        _check_names(name, full_name)
        hashed = None if password is None else _hashed(password)
        with self.writing() as writing:
            check_manages(writing.work, by)
            if writing.work.scalar(select(PersonRow.id).where(PersonRow.name == name)) is not None:
                raise InputError("there is a user of this name", got=name, remedy="Choose another name.")
            row = PersonRow(
                name=name,
                full_name=full_name,
                role=role.value,
                sees_names=sees_names,
                collections=_collections_text(collections),
                active=True,
                password=hashed,
                failures=0,
                locked_until=None,
            )
            writing.work.add(row)
            writing.work.flush()
            _note(writing, by, "person_added", row)
            return _person(row)

    def change_person(self, name: str, change: PersonChange, *, by: Person | str = "") -> Person:
        """Change a user, and give them as they are then. An empty change is none.

        Raises `InputError` for an unknown name and a password that is too short, `NotAllowed` where no active
        administrator would be left.
        """
        if change == PersonChange():
            return self._known(name)
        hashed = None if change.password is None else _hashed(change.password)
        with self.writing() as writing:
            check_manages(writing.work, by)
            row = _row(writing.work, name)
            ruled = row.active and row.role == Role.ADMIN.value
            _apply(row, change, hashed)
            writing.work.flush()
            if ruled:
                _check_somebody_rules(writing.work)
            if hashed is not None or not row.active:
                writing.work.execute(delete(SessionRow).where(SessionRow.person_id == row.id))
            if hashed is not None:
                row.failures, row.locked_until = 0, None
            _note(writing, by, "person_changed", row)
            return _person(row)

    def person(self, name: str) -> Person | None:
        """The user of that name, active or not; None if there is none."""
        with self.reading() as work:
            row = work.scalar(select(PersonRow).where(PersonRow.name == name)) if is_text(name) else None
            return None if row is None else _person(row)

    def people(self) -> tuple[Person, ...]:
        """All users by name."""
        with self.reading() as work:
            return tuple(_person(row) for row in work.scalars(select(PersonRow).order_by(PersonRow.name)))

    def can_somebody_sign_in(self) -> bool:
        """Whether there is an active user with a password."""
        wanted = select(func.count()).where(PersonRow.active, PersonRow.password.is_not(None))
        with self.reading() as work:
            return bool(work.scalar(wanted))

    def check_password(self, name: str, password: str, *, trusted: bool = False) -> Person | None:
        """The active user of that name and password, None otherwise; hashing is done for a name that does not exist.

        After five failures in a row a name is locked for half a minute, longer after each further one. Failures of
        known names are events. `trusted`: who asks is known to be this user's browser, and does not wait for the lock:
        strangers could keep it closed for ever. How often such a one may try is for the caller to bound.
        """
        row = self._account(name)
        locked = row is not None and not trusted and _is_locked(row, datetime.now().astimezone())
        right = _verified(None if row is None or locked or not row.active else row.password, password)
        if row is None or locked:
            return None
        if right and (trusted or row.failures == 0):
            return _person(row)
        with self.writing() as writing:
            fresh = _row(writing.work, name)
            if not trusted and _is_locked(fresh, writing.now):
                return None  # by others who guessed at the same time
            fresh.failures = 0 if right else fresh.failures + 1
            fresh.locked_until = None if right else _locked_until(fresh.failures, writing.now)
            if not right:
                writing.note(name, "sign_in_failed", "", {"failures": fresh.failures})
            return _person(fresh) if right and fresh.active else None

    def begin_session(self, person: Person, *, seconds: float) -> Session:
        """A session that ends after so many seconds. Its token is known to the caller alone."""
        token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with self.writing() as writing:
            expires = writing.now + timedelta(seconds=seconds)
            writing.work.execute(delete(SessionRow).where(SessionRow.expires <= writing.now))
            writing.work.add(SessionRow(token=_digest(token), person_id=person.id, csrf=csrf, expires=expires))
            writing.note(person, "signed_in", "", {"expires": expires.isoformat()})
        return Session(token, csrf, expires)

    def session(self, token: str) -> tuple[Person, str] | None:
        """Whose session a token is, and what their changes must come with; None if it is none, or has ended."""
        wanted = select(PersonRow, SessionRow).join(SessionRow, SessionRow.person_id == PersonRow.id)
        with self.reading() as work:
            found = work.execute(wanted.where(SessionRow.token == _digest(token))).first()
            if found is None or not found[0].active or found[1].expires <= datetime.now().astimezone():
                return None
            return _person(found[0]), found[1].csrf

    def end_session(self, token: str, *, why: str = "") -> None:
        """End a session; nothing happens if it has ended. `why`: "idle" where nobody asked for it."""
        with self.writing() as writing:
            owner = select(PersonRow.name).join(SessionRow, SessionRow.person_id == PersonRow.id)
            name = writing.work.scalar(owner.where(SessionRow.token == _digest(token)))
            if name is not None:
                writing.work.execute(delete(SessionRow).where(SessionRow.token == _digest(token)))
                writing.note(name, "signed_out", "", {"why": why} if why else {})

    def _known(self, name: str) -> Person:
        with self.reading() as work:
            return _person(_row(work, name))

    def _account(self, name: str) -> PersonRow | None:
        with self.reading() as work:
            row = work.scalar(select(PersonRow).where(PersonRow.name == name)) if is_text(name) else None
            if row is not None:
                work.expunge(row)
            return row


def may_review(person: Person) -> bool:
    """Whether somebody may correct and decide."""
    return person.active and person.role in (Role.REVIEWER, Role.ADMIN)


def check_may_review(work: Work, person: Person, case: CaseRow) -> None:
    """Raises `NotAllowed` unless the person may correct and decide a case, now: a request may have taken its time."""
    now = _as_now(work, person)
    if not may_review(now):
        raise NotAllowed("this user may look, not change", expected="a reviewer", got=now.role.value)
    check_sees(now, case)


def check_manages(work: Work, by: Person | str) -> None:
    """Raises `NotAllowed` for a person who does not administer, now; a name alone is of who has the database itself."""
    if isinstance(by, Person) and _as_now(work, by).role is not Role.ADMIN:
        raise NotAllowed("this user may not manage accounts", expected="an administrator")


def _as_now(work: Work, person: Person) -> Person:
    row = work.get(PersonRow, person.id)
    if row is None or not row.active:
        raise NotAllowed("this user may not do anything any more")
    return _person(row)


def person_content(row: PersonRow) -> str:
    """The digest of a person's row that the audit trail holds."""
    return content_digest(column_values(row, *_CONTENT))


def person_row(work: Work, name: str) -> PersonRow | None:
    return work.scalar(select(PersonRow).where(PersonRow.name == name))


def as_person(row: PersonRow) -> Person:
    return _person(row)


def _person(row: PersonRow) -> Person:
    collections = None if row.collections is None else msgspec.json.decode(row.collections, type=tuple[str, ...])
    return Person(row.id, row.name, row.full_name, Role(row.role), row.sees_names, collections, row.active)


def _row(work: Work, name: str) -> PersonRow:
    row = person_row(work, checked_text(name, "the user's name"))
    if row is None:
        raise InputError("no such user", got=name)
    return row


def _apply(row: PersonRow, change: PersonChange, hashed: str | None) -> None:
    if change.full_name is not None:
        _check_names(row.name, change.full_name)
        row.full_name = change.full_name
    row.role = row.role if change.role is None else change.role.value
    row.sees_names = row.sees_names if change.sees_names is None else change.sees_names
    row.active = row.active if change.active is None else change.active
    row.password = row.password if hashed is None else hashed
    if not isinstance(change.collections, Keep):
        row.collections = _collections_text(change.collections)


def _note(writing: Writing, by: Person | str, action: str, row: PersonRow) -> None:
    facts = column_values(row, "name", "full_name", "role", "sees_names", "collections", "active")
    writing.note(by, action, "", {**facts, "content": person_content(row)})


def _check_somebody_rules(work: Work) -> None:
    rulers = select(func.count()).where(PersonRow.role == Role.ADMIN.value, PersonRow.active)
    if not work.scalar(rulers):
        raise NotAllowed("nobody would be left who may manage users", remedy="Make somebody else administrator first.")


def _check_names(name: str, full_name: str) -> None:
    for text, what, longest in ((name, "the user's name", 64), (full_name, "the full name", 200)):
        if not is_one_line(text):
            raise InputError(f"{what} must be one line, without blanks around it", got=repr(text)[:100])
        checked_text(text, what, longest=longest)


def _collections_text(collections: tuple[str, ...] | None) -> str | None:
    if collections is None:
        return None
    return canonical(sorted({checked_text(name, "a collection", longest=200) for name in collections}))


def _is_locked(row: PersonRow, now: datetime) -> bool:
    return row.locked_until is not None and row.locked_until > now


def _locked_until(failures: int, now: datetime) -> datetime | None:
    if failures < _FREE_FAILURES:
        return None
    doubled = _LOCK_SECONDS * 2 ** min(failures - _FREE_FAILURES, 10)
    return now + timedelta(seconds=min(doubled, _LONGEST_LOCK_SECONDS))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


@functools.cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@functools.cache
def _nobodys_hash() -> str:
    return _hasher().hash(secrets.token_hex(16))


def _hashed(password: str) -> str:
    checked_text(password, "the password", longest=_LONGEST)
    if len(password) < _SHORTEST:
        raise InputError("the password is too short", expected=f"at least {_SHORTEST} characters")
    with _HASHING:
        return _hasher().hash(password)


def _verified(hashed: str | None, password: str) -> bool:
    tried = password[:_LONGEST].encode(errors="replace")
    try:
        with _HASHING:
            _hasher().verify(hashed or _nobodys_hash(), tried)
    except (VerificationError, InvalidHashError):
        return False
    return hashed is not None and len(password) <= _LONGEST
