"""What a result is made of, to notice that it would not be the same any more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from delineate.formats import Stack


def stack_recipe(stack: Stack) -> list[object]:
    """What a volume is made of: it differs if a slice is added or gone, a file changed, or it is repaired otherwise."""
    slices = [(one.instance_uid, one.frame) for one in stack.slices]
    return [stack.facts.series_uid, stack.name, stack.action.value, slices, files_recipe(stack.files)]


def files_recipe(paths: Iterable[Path]) -> list[tuple[int, int] | None]:
    """Sizes and times of files; None for one that is gone."""
    return [_state(path) for path in paths]


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
