"""Databases of review are made and brought up to date, or refused; both kinds."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from review_people import team_at
from sqlalchemy import create_engine, inspect, text

from delineate.errors import InputError, ResourceError
from delineate.review.store import open_store
from delineate.review.store.schema import TABLES


def test_migrations_make_exactly_the_tables_that_the_code_knows(url: str) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, TABLES) == []
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(op, "execute", fails)
        with pytest.raises(RuntimeError, match="the power went"):
            open_store(url)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    store = open_store(url)
    assert store.verify() == ()
    store.close()


def test_several_processes_worth_of_stores_open_an_empty_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_store, [url] * 4))
    team_at(stores[0])
    assert all(store.count_cases() == 1 for store in stores)
    for store in stores:
        store.close()


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(InputError, match="newer version"):
        open_store(url)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, and longer than the header of one that SQLite would make" * 30)
    for wrong, error, match in (
        ("mysql://x/y", InputError, "not a database that review can use"),
        ("sqlite://", InputError, "needs a database that stays"),
        ("no url", InputError, "not the URL"),
        (f"sqlite:///{tmp_path}/notes.txt", ResourceError, "no database"),
        ("postgresql+psycopg://nobody@127.0.0.1:1/none", ResourceError, "cannot be used"),
    ):
        with pytest.raises(error, match=match):
            open_store(wrong, witness=tmp_path / "end")
