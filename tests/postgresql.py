"""A PostgreSQL server of the tests' own, where the machine has the programs for one; no settings are needed."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


def programs() -> Path | None:
    """The folder with initdb and pg_ctl; None if there is none that can be used."""
    if os.geteuid() == 0 and "postgres" not in {account.pw_name for account in pwd.getpwall()}:
        return None
    found = shutil.which("pg_ctl")
    if found is not None and (Path(found).resolve().parent / "initdb").is_file():
        return Path(found).resolve().parent
    places = [place for pattern in _PLACES for place in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)]
    return next((place for place in places if (place / "initdb").is_file() and (place / "pg_ctl").is_file()), None)


@contextmanager
def server(bin_folder: Path, *, waits_for_disk: bool = False) -> Iterator[int]:
    """A server on a free port of this machine, gone afterwards with all its data; its port.

    PostgreSQL refuses to run as root: then it runs as the user postgres. `waits_for_disk`: as it does where people
    work; a test kills clients, not the server, and need not.
    """
    with tempfile.TemporaryDirectory(prefix="delineate-postgresql-") as name:
        folder, port = Path(name), _free_port()
        data = folder / "data"
        account = "postgres" if os.geteuid() == 0 else None
        if account is not None:
            os.chown(folder, pwd.getpwnam(account).pw_uid, -1)
        _run([bin_folder / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync"], account)
        fsync = "on" if waits_for_disk else "off"
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync={fsync} -c max_connections=200"
        ctl: list[str | Path] = [bin_folder / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
        _run([*ctl, "-o", options, "start"], account)
        with _stopping([*ctl, "-m", "immediate", "stop"], folder, account):
            yield port


@contextmanager
def _stopping(stop: Sequence[str | Path], folder: Path, account: str | None) -> Iterator[None]:
    """Stops the server and removes its folder at the end, also where that is this process's being killed."""
    script = f"cat >/dev/null; {shlex.join(map(str, stop))}; rm -rf {shlex.quote(str(folder))}/*"
    with subprocess.Popen(
        ["sh", "-c", script],
        user=account,
        cwd="/",
        stdin=subprocess.PIPE,  # it ends with this process
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ):
        yield


@contextmanager
def server_or_skip() -> Iterator[int]:
    """The port of a server; skips the test where there are no programs for one."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    with server(folder) as port:
        yield port


@contextmanager
def database(port: int) -> Iterator[str]:
    """The URL of a new, empty database, which is removed afterwards."""
    name = f"t{uuid.uuid4().hex[:12]}"
    owner = f"host=127.0.0.1 port={port} user=tests dbname=postgres"
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        yield f"postgresql+psycopg://tests@127.0.0.1:{port}/{name}"
    finally:
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: Sequence[str | Path], account: str | None) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        user=account,
        cwd="/",
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never end
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(str(command[0])).name} ended with {done.returncode}")
