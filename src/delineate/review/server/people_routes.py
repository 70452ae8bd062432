"""Accounts: who may come in, as what, and to which cases. For administrators."""

from __future__ import annotations

from delineate.review.records import Keep, PersonChange
from delineate.review.server.parts import Here, Visitor
from delineate.review.server.showing import account_of
from delineate.review.server.wire import Account, AccountChange, Accounts, NewAccount


def people(here: Here, person: Visitor) -> Accounts:
    """All accounts."""
    return Accounts(people=[account_of(one) for one in here.store.people()])


def add_person(here: Here, person: Visitor, body: NewAccount) -> Account:
    """Add an account."""
    added = here.store.add_person(
        body.name,
        body.full_name,
        body.role,
        body.password,
        sees_names=body.sees_names,
        collections=None if body.collections is None else tuple(body.collections),
        by=person,
    )
    return account_of(added)


def change_person(here: Here, person: Visitor, name: str, body: AccountChange) -> Account:
    """Change an account; what is not named stays. Null as collections: all of them."""
    asked = "collections" in body.model_fields_set
    collections = None if body.collections is None else tuple(body.collections)
    change = PersonChange(
        full_name=body.full_name,
        role=body.role,
        password=body.password,
        sees_names=body.sees_names,
        collections=collections if asked else Keep.KEEP,
        active=body.active,
    )
    return account_of(here.store.change_person(name, change, by=person))
