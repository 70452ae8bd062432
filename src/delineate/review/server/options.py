"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delineate.review.places import Places
from delineate.review.records import Person

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`places`: where exports and uploads are kept. `page`: the built page, None where there is none.

    `local`: who the one-time token of a server on loopback stands for; None on a network, where people have accounts.
    `hosts`: the names that a request may call this server by, without ports; None for any. `secure`: whether it is
    reached by TLS. `memory_bytes`: for what is kept to answer again.
    `session_seconds`: that a session lasts at most; `idle_seconds`: without anybody at the machine, None for no limit.
    `logins_a_minute`: that may fail, from one address; behind one there may be a whole hospital. `refusal_seconds`:
    that the answer to a sign-in that fails takes at least, so that its time does not tell which names there are.
    """

    places: Places
    page: Path | None
    local: Person | None
    hosts: frozenset[str] | None
    secure: bool
    version: str
    session_seconds: float = 12 * 3600.0
    idle_seconds: float | None = None
    memory_bytes: int = 512 * MEBIBYTE
    slab_bytes: int = 64 * MEBIBYTE
    upload_bytes: int = 256 * MEBIBYTE
    logins_a_minute: int = 30
    refusal_seconds: float = 0.5
    busy_seconds: float = 60.0
    upload_seconds: int = 60


LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
