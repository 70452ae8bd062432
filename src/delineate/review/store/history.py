"""What undo and redo take back, without end: found from the stored edits alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from delineate.errors import InputError


@dataclass(frozen=True, slots=True)
class History:
    """Revisions whose change stands, and those of the undos that can be taken back; the last one is the next.

    What an edit put back by a redo is called from then on is the redo's revision.
    """

    standing: tuple[int, ...] = ()
    undone: tuple[int, ...] = ()

    @property
    def undo_target(self) -> int | None:
        """The revision that an undo takes back; None if nothing is left but the model's own."""
        return self.standing[-1] if self.standing else None

    @property
    def redo_target(self) -> int | None:
        """The revision, of an undo, that a redo takes back; None after another edit."""
        return self.undone[-1] if self.undone else None


def history_of(edits: Iterable[tuple[int, int | None]]) -> History:
    """The history after (revision, what it undoes) in order of revision; empty for none.

    Raises `InputError` for one that undoes what was not the last to stand or to be undone.
    """
    standing: list[int] = []
    undone: list[int] = []
    for revision, undoes in edits:
        if undoes is None:
            standing.append(revision)
            undone.clear()
        elif standing and standing[-1] == undoes:
            standing.pop()
            undone.append(revision)
        elif undone and undone[-1] == undoes:
            undone.pop()
            standing.append(revision)
        else:
            expected = f"{standing[-1:] or 'nothing'} to undo, {undone[-1:] or 'nothing'} to redo"
            raise InputError("only the last edit can be taken back", expected=expected, got=f"revision {undoes}")
    return History(tuple(standing), tuple(undone))
