"""Read the next item, run this one, write the last one, all at once; results in the items' order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from delineate.errors import DelineateError

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Stages(Generic[Item, Read, Made, Kept]):
    """What is done with an item. `read` and `write` run in a thread each, `run` in the caller's; it also gets the item
    that is read meanwhile, if one is."""

    read: Callable[[Item], Read]
    run: Callable[[Item, Read, Item | None], Made]
    write: Callable[[Item, Made], Kept]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Kept]):
    """What became of an item: what `write` returned, or the error that a stage raised."""

    item: Item
    kept: Kept | None = None
    error: DelineateError | None = None


def run_pipeline(
    items: Sequence[Item],
    stages: Stages[Item, Read, Made, Kept],
    *,
    alone: Callable[[Item], bool],
    beside: Callable[[Item, Read, Item], bool] = lambda item, read, following: True,
    stopping: Callable[[], bool],
) -> Iterator[Outcome[Item, Kept]]:
    """Take items through the stages, at most one being read, one running and one being written.

    Beside an item that is `alone` nothing else is read, run or written; `beside` says whether the following one may be
    read while an item runs. Once `stopping`, no further item is run; those that were run are written. A
    `DelineateError` ends its item, any other exception everything.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead: Future[Read] | None = None
        behind: tuple[Item, Future[Kept]] | None = None
        try:
            for number, item in enumerate(items):
                if stopping():
                    break
                by_itself = alone(item)
                if by_itself:
                    yield from _written(behind)
                    behind = None
                reading, ahead = ahead or reader.submit(stages.read, item), None
                try:
                    read = reading.result()
                    del reading  # or what was read would stay as long as what is being read
                    following = next(iter(items[number + 1 : number + 2]), None)
                    if following is None or by_itself or alone(following) or not beside(item, read, following):
                        following = None
                    else:
                        ahead = reader.submit(stages.read, following)
                    made = stages.run(item, read, following)
                    del read
                except DelineateError as error:
                    yield from _written(behind)
                    behind = None
                    yield Outcome(item, error=error)
                    continue
                yield from _written(behind)
                behind = (item, writer.submit(stages.write, item, made))
                del made
                if by_itself:
                    yield from _written(behind)
                    behind = None
            yield from _written(behind)
        finally:
            if ahead is not None:
                ahead.cancel()


def _written(behind: tuple[Item, Future[Kept]] | None) -> Iterator[Outcome[Item, Kept]]:
    if behind is None:
        return
    item, writing = behind
    try:
        yield Outcome(item, kept=writing.result())
    except DelineateError as error:
        yield Outcome(item, error=error)
