"""The commands of review: the server, who may come in, and the audit trail."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import EXISTING, PATH, UNUSABLE, complain, open_watch, say, users_errors, warn
from delineate.errors import InputError, ResourceError

if TYPE_CHECKING:
    from delineate.review.records import Person
    from delineate.review.store import Store

_NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "argon2", "isal", "python_multipart")
_MOST_MEMORY_BYTES = 4_000_000_000

database_option = click.option(
    "--database",
    metavar="URL",
    help="postgresql+psycopg://USER:PASSWORD@HOST/NAME. [default: SQLite in the review's folder]",
)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=EXISTING, metavar="WORKSPACE | SCANS SEGMENTATIONS")
@click.option(
    "--workspace", type=PATH, help="With SCANS SEGMENTATIONS: where the review is kept. [default: the latter]"
)
@click.option("--references", type=EXISTING, help="Segmentations to compare with, named as the scans.")
@click.option("--collection", default="", help="What these cases are called together; accounts can be limited to it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Any other than this machine needs TLS, accounts.")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: the first free one from 8765]")
@click.option(
    "--tls-cert", type=EXISTING, metavar="PEM", help="The server's certificate, with those that vouch for it."
)
@click.option("--tls-key", type=EXISTING, metavar="PEM", help="Its private key.")
@click.option(
    "--idle-minutes",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    help="Who touches nothing for so long is signed out; not on this machine alone.",
)
@click.option("--full-name", default="", help="Of you, as you sign. [default: as the system knows you]")
@click.option("--memory-gb", type=click.FloatRange(0.25), help="For the server. [default: 3/4 of the free, up to 4]")
@click.option("--promptable", type=EXISTING, metavar="MODEL", help="Ask it for proposals: of train --promptable.")
@click.option("--device", default="cpu", show_default=True, help="That it runs on: cpu, cuda, auto.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@database_option
@users_errors
def review(folders: tuple[Path, ...], no_browser: bool, memory_gb: float | None, **options: Any) -> None:
    """Look at results in the browser, correct them, approve them: a worklist, with a record of who did what.

    WORKSPACE is a folder with results of `delineate predict` beside their scans, such as the demo's; or give SCANS and
    their SEGMENTATIONS. Everything that people do is kept in its folder "review"; the results stay as they are. The
    server is for this machine's user alone, unless it is given TLS and accounts (see `delineate review-people`).

    \b
    Example: delineate review demo
    Example: delineate review scans results --references labels
    Example: delineate review demo --host review.hospital.org --tls-cert cert.pem --tls-key key.pem
    """
    check_installed()
    from delineate.review.keeping import Sources
    from delineate.review.places import places_in
    from delineate.review.serving import Address, ReviewRequest, serve

    if len(folders) > 2:
        raise click.UsageError("give one WORKSPACE, or SCANS and SEGMENTATIONS")
    keeping = options["workspace"] or (folders[-1].absolute().parent if folders[-1].is_file() else folders[-1])
    chosen: dict[str, Any] = {"references": options["references"], "collection": options["collection"]}
    sources = Sources(*folders, **chosen) if len(folders) == 1 else Sources(None, folders[0], folders[1], **chosen)
    address = Address(options["host"], options["port"], options["tls_cert"], options["tls_key"])
    request = ReviewRequest(
        sources=sources,
        places=places_in(keeping),
        address=address,
        memory_bytes=_memory_bytes(memory_gb),
        promptable=options["promptable"],
        device=_device(options["device"]),
        database=options["database"],
        full_name=options["full_name"],
        idle_minutes=options["idle_minutes"],
    )
    with open_watch() as watch:
        serve(request, say=say, warn=warn, open_browser=not no_browser, watch=watch)


def _memory_bytes(memory_gb: float | None) -> int:
    from delineate.settings import detect

    free = detect("cpu", memory_gb=memory_gb).memory_bytes
    return free if memory_gb is not None else min(free, _MOST_MEMORY_BYTES)


def _device(name: str) -> str:
    from delineate.settings import detect

    return detect(name).device if name == "auto" else name


@click.group("review-people")
def review_people() -> None:
    """Who may sign in to a review: viewers look, reviewers correct and decide, admins also manage people.

    \b
    Example: delineate review-people add demo meier --full-name "Dr. Anna Meier" --role reviewer
    Example: delineate review-people list demo
    """


_account_options = (
    click.option("--full-name", help="As they sign."),
    click.option("--role", type=click.Choice(["viewer", "reviewer", "admin"])),
    click.option("--sees-names/--no-names", default=None, help="Whether they see patients' names. [default: not]"),
    click.option(
        "--collection", "collections", multiple=True, help="Only these cases; may be repeated. [default: all]"
    ),
)


def _with_account_options(command: Any) -> Any:
    for option in reversed(_account_options):
        command = option(command)
    return command


@review_people.command("add")
@click.argument("workspace", type=PATH)
@click.argument("name")
@_with_account_options
@click.password_option(help="Asked for if it is not given, which is better: others can read command lines.")
@database_option
@users_errors
def add_person(workspace: Path, name: str, password: str, database: str | None, **options: Any) -> None:
    """Add an account; its password is asked for.

    \b
    Example: delineate review-people add demo meier --full-name "Dr. Anna Meier" --role reviewer
    """
    store = _open(workspace, database)
    from delineate.review.records import Role

    added = store.add_person(
        name,
        options["full_name"] or name,
        Role(options["role"] or "reviewer"),
        password,
        sees_names=bool(options["sees_names"]),
        collections=options["collections"] or None,
        by="delineate review-people",
    )
    say(_line(added))


@review_people.command("list")
@click.argument("workspace", type=EXISTING)
@database_option
@users_errors
def list_people(workspace: Path, database: str | None) -> None:
    """All accounts.

    \b
    Example: delineate review-people list demo
    """
    for person in open_existing(workspace, database).people():
        say(_line(person))


@review_people.command("change")
@click.argument("workspace", type=EXISTING)
@click.argument("name")
@_with_account_options
@click.option("--all-collections", is_flag=True, help="Let them see all cases again.")
@click.option("--active/--inactive", default=None, help="Whether they may sign in. Nobody is ever removed.")
@click.option("--new-password", is_flag=True, help="Ask for a new password; it ends their sessions.")
@database_option
@users_errors
def change_person(workspace: Path, name: str, database: str | None, **options: Any) -> None:
    """Change an account: only what is named.

    \b
    Example: delineate review-people change demo meier --inactive
    """
    store = open_existing(workspace, database)
    from delineate.review.records import Keep, PersonChange, Role

    every: bool = options["all_collections"]
    if every and options["collections"]:
        raise click.UsageError("--collection and --all-collections contradict each other")
    asked = options["new_password"]
    change = PersonChange(
        full_name=options["full_name"],
        role=None if options["role"] is None else Role(options["role"]),
        password=click.prompt("New password", hide_input=True, confirmation_prompt=True) if asked else None,
        sees_names=options["sees_names"],
        collections=None if every else options["collections"] or Keep.KEEP,
        active=options["active"],
    )
    say(_line(store.change_person(name, change, by="delineate review-people")))


@click.group("review-audit")
def review_audit() -> None:
    """The audit trail of a review: who did what, in a chain that shows what was changed afterwards.

    \b
    Example: delineate review-audit verify demo
    Example: delineate review-audit export demo trail.jsonl
    """


@review_audit.command("verify")
@click.argument("source", type=EXISTING, metavar="WORKSPACE | EXPORT.jsonl")
@database_option
@users_errors
def verify_audit(source: Path, database: str | None) -> None:
    """Whether a review, or an exported trail, is as it was written. Exit code 2 if not.

    \b
    Example: delineate review-audit verify demo
    """
    if source.is_file():
        check_installed()
        from delineate.review.store import verify_export

        problems = verify_export(source)
    else:
        problems = open_existing(source, database).verify()
    for line in problems:
        complain(line)
    if problems:
        sys.exit(UNUSABLE)
    say(f"{source}: whole, every link fits the one before")


@review_audit.command("export")
@click.argument("workspace", type=EXISTING)
@click.argument("output", type=PATH)
@database_option
@users_errors
def export_audit(workspace: Path, output: Path, database: str | None) -> None:
    """Write the audit trail as JSON lines; `delineate review-audit verify` checks the file by itself.

    \b
    Example: delineate review-audit export demo trail.jsonl
    """
    say(f"{open_existing(workspace, database).export(output)} events in {output}")


def check_installed() -> None:
    """Raises `ResourceError`, which names the extra, if a library that review needs is not there."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        remedy = 'Install them: pip install "delineate[review]".'
        raise ResourceError(
            "review needs libraries that are not installed", got=f"no {', '.join(missing)}", remedy=remedy
        )


def open_existing(workspace: Path, database: str | None) -> Store:
    """The store of a review that has begun. Raises `InputError` where none has, and nothing is made there."""
    check_installed()
    from delineate.review.places import places_in

    places = places_in(workspace)
    if database is None and not places.database.is_file():
        raise InputError(
            "nothing was reviewed here",
            expected=f"{places.database}",
            path=workspace,
            remedy="Begin with `delineate review`, or name the database.",
        )
    return _open(workspace, database)


def _open(workspace: Path, database: str | None) -> Store:
    check_installed()
    from delineate.review.keeping import open_review
    from delineate.review.places import places_in

    return open_review(places_in(workspace), database)


def _line(person: Person) -> str:
    seen = "all cases" if person.collections is None else f"cases of {', '.join(person.collections) or 'nothing'}"
    names = "sees patients' names" if person.sees_names else "sees no names"
    active = "" if person.active else ", may not sign in"
    return f"{person.name} ({person.full_name}): {person.role.value}, {seen}, {names}{active}"
