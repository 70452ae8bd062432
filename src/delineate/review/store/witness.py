"""The end of the audit trail, kept beside the database, so that a trail whose end was cut off is found out."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import ResourceError
from delineate.files import write_text

_COMPACT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Witness:
    """A file of lines "number digest". Lines of several processes may come in any order: the highest number counts.

    One line is one write at the file's end, so that no process breaks another's.
    """

    path: Path

    def write(self, number: int, digest: str) -> None:
        """Say that the trail reached an event. Raises `ResourceError` if the file cannot be written."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, f"{number} {digest}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            remedy = "The change itself is stored. Make the folder writable."
            raise ResourceError(
                "the end of the audit trail cannot be noted", path=self.path, got=error.strerror, remedy=remedy
            ) from error

    def read(self) -> tuple[int, str] | None:
        """The highest number and its digest; None if nothing was noted yet. A line that is cut off does not count."""
        try:
            lines = self.path.read_text("ascii", errors="replace").splitlines()
        except OSError:
            return None
        found = [parts for parts in map(str.split, lines) if _is_whole(parts)]
        return max(((int(number), digest) for number, digest in found), default=None)

    def compact(self) -> None:
        """Keep only the last line of a long file."""
        with suppress(OSError):
            if self.path.stat().st_size > _COMPACT_BYTES and (last := self.read()) is not None:
                write_text(self.path, f"{last[0]} {last[1]}\n")


def _is_whole(parts: list[str]) -> bool:
    return len(parts) == 2 and parts[0].isascii() and parts[0].isdecimal() and len(parts[1]) == 64
