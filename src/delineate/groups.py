"""Processes that train one network together, each with its share of every batch.

A loss of the whole batch is computed by every process alike, from sums over all of them. So there is one loss, and its
gradient is the sum of what each process finds for its own share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from delineate.errors import ResourceError


class LostProcess(ResourceError):
    """Another process of the group is gone, or does not answer."""


@dataclass(frozen=True, slots=True)
class Group:
    """This process is number `rank` (from 0) of `size`. All of them must ask for the same sums in the same order.

    Raises `LostProcess` where another one does not come to it. A group of one does nothing at all.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Of `count` things in a row those of this process; together the shares are all of them."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, for what is computed from it by each of them alike: a loss.

        Its gradient is known to every process already, and is handed down as it is.
        """
        return values if self.size == 1 else _Sum.apply(values, False)  # type: ignore[no-untyped-call]

    def sum_within(self, values: Tensor) -> Tensor:
        """The sum over all processes, for what each uses for its own share: statistics within a network.

        Its gradient is the sum of what each process has found.
        """
        return values if self.size == 1 else _Sum.apply(values, True)  # type: ignore[no-untyped-call]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of what shares of equal size give, as `sum`."""
        return values if self.size == 1 else self.sum(values) / self.size


ALONE = Group()


class _Sum(torch.autograd.Function):
    """The sum over processes; backwards, the gradient summed too, or as it is."""

    @staticmethod
    def forward(ctx, values: Tensor, both_ways: bool) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.both_ways = both_ways
        return _summed(values)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return (_summed(gradient) if ctx.both_ways else gradient), None


def _summed(values: Tensor) -> Tensor:
    import torch.distributed as dist

    total = values.detach().contiguous().clone()
    with waiting_for_others():
        dist.all_reduce(total)
    return total


@contextmanager
def waiting_for_others() -> Iterator[None]:
    """What the processes exchange in this context raises `LostProcess` if one of them is gone."""
    try:
        yield
    except RuntimeError as error:  # that is all that gloo says
        raise LostProcess(
            "another process of this run is gone, or does not answer",
            got=in_short(error),
            remedy="Run the same command again: it goes on from the last checkpoint.",
        ) from error


def in_short(error: BaseException) -> str:
    """What a library says of a connection, without its own files' names and advice."""
    lines = str(error).splitlines() or [type(error).__name__]
    return re.sub(r"^\[[^]]*\]\s*", "", lines[0]).split(". ")[0].rstrip(".")[:160]
