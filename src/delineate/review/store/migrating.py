"""Brings the tables of a database up to date."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from delineate.errors import InputError

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x64656C696E656174  # an advisory lock of PostgreSQL is known by a number


def migrate(engine: Engine) -> None:
    """Make the tables, or bring them up to date, in one transaction; of several processes at once one does it.

    Raises `InputError` for a database that a newer version of delineate has changed.
    """
    with engine.execution_options(write=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        config = configuration(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise InputError(
                "the database was made by a newer version of delineate",
                expected=f"one of {sorted(known)}",
                got=current,
                remedy="Install that version, or choose another database.",
            )
        command.upgrade(config, "head")


def configuration(connection: Connection) -> Config:
    """What alembic needs to work on a connection."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
