"""Processes that were started to train together: they find one another, wait for one another, and end together."""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from delineate import errors
from delineate.dataset import Split, split_from_json, split_to_json
from delineate.errors import DelineateError, ResourceError
from delineate.groups import ALONE, Group, LostProcess, in_short
from delineate.planning import Plan, plan_from_json, plan_to_json
from delineate.settings import Launch, launched

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Record = TypeVar("Record")

_TIMEOUT = timedelta(minutes=30)  # how long the others may take for their part of a step, or of a validation
_POLL_SECONDS = 0.1
_HEARING_SECONDS = 5.0  # that a process which failed waits until the others know why
_UNUSABLE = 2  # the exit code of a process whose error another one tells
_ERROR, _FAILED, _HEARD, _DONE, _GONE = "error", "failed", "heard", "done", "gone"


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """An error in words, for the other processes. `machine`: where it is told to people already."""

    kind: str
    problem: str
    facts: dict[str, str]
    machine: str


@dataclass(frozen=True, slots=True, eq=False)
class Company:
    """This process and those that train with it; by itself, it is alone."""

    group: Group = ALONE
    _store: Store | None = None
    _launch: Launch | None = None

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.group.leads

    def from_leader(self, what: str, make: Callable[[], bytes]) -> bytes:
        """What the process that leads makes, in every process, however long that takes. Each `what` is made once.

        Raises the leader's error, if it fails.
        """
        if self._store is None:
            return make()
        if self.leads:
            made = make()
            self._store.set(what, made.decode())
            return made
        self._await(what)
        return bytes(self._store.get(what))

    def told(self, what: str, make: Callable[[], Record], kind: type[Record]) -> Record:
        """A record that the process that leads makes, in every process; see `from_leader`."""
        return msgspec.json.decode(self.from_leader(what, lambda: msgspec.json.encode(make())), type=kind)

    def settled(self, what: str, settle: Callable[[], tuple[Plan, Split]]) -> tuple[Plan, Split]:
        """The plan and the split of a run, as the process that leads settles them; see `from_leader`."""

        def written() -> tuple[str, str]:
            plan, split = settle()
            return plan_to_json(plan), split_to_json(split)

        plan, split = self.told(what, written, tuple[str, str])
        return plan_from_json(plan), split_from_json(split)

    def _await(self, what: str, *, count: int | None = None) -> None:
        assert self._store is not None
        while True:
            try:
                there = self._store.check([what]) if count is None else self._store.add(what, 0) >= count
                failed = self._store.check([_ERROR])
            except RuntimeError as error:
                raise _alone_now(error) from error
            if failed:
                raise LostProcess("another process failed")
            if there:
                return
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Wait until all are done, so that none takes the end of another for its death."""
        if self._store is None:
            return
        self._store.add(_DONE, 1)
        self._await(_DONE, count=self.group.size)
        if not self.leads:
            self._store.add(_GONE, 1)  # the last word: what was asked later would find nobody
            return
        self._linger(_GONE)

    def explained(self, error: BaseException) -> BaseException:
        """Why this process ends, after the others were told if it is the first; `SystemExit` if somebody says it for
        all on this machine."""
        assert self._store is not None
        try:
            if isinstance(error, LostProcess):
                told = self._heard()
                return error if told is None else self._retold(told)
            if self._store.add(_FAILED, 1) > 1:
                self._store.add(_HEARD, 1)
                told = self._heard()
                return error if told is None or told.machine != platform.node() else SystemExit(_UNUSABLE)
            self._store.set(_ERROR, msgspec.json.encode(_told(error)).decode())
            leave()
            self._linger(_HEARD)
        except RuntimeError:
            pass  # nobody is there to be told
        return error

    def _heard(self) -> _Told | None:
        """What another process failed of; None if it was killed without a word."""
        assert self._store is not None
        until = time.monotonic() + _HEARING_SECONDS
        with suppress(RuntimeError):
            while time.monotonic() < until:
                if self._store.check([_ERROR]):
                    told = msgspec.json.decode(self._store.get(_ERROR), type=_Told)
                    self._store.add(_HEARD, 1)
                    return told
                time.sleep(_POLL_SECONDS)
        return None

    def _retold(self, told: _Told) -> BaseException:
        assert self._launch is not None
        if told.machine == platform.node() or self._launch.local_rank != 0:
            return SystemExit(_UNUSABLE)
        kind = getattr(errors, told.kind, None)
        known = kind if isinstance(kind, type) and issubclass(kind, DelineateError) else ResourceError
        facts: dict[str, object] = dict(told.facts)
        if "path" in facts:
            facts["path"] = Path(told.facts["path"])
        return known(f"{told.problem} [on {told.machine}]", **facts)  # type: ignore[arg-type]

    def _linger(self, what: str) -> None:
        """Until all others have said so, or have had the time to."""
        assert self._store is not None
        until = time.monotonic() + _HEARING_SECONDS
        while time.monotonic() < until and self._store.add(what, 0) < self.group.size - 1:
            time.sleep(_POLL_SECONDS)


BY_ITSELF = Company()


@contextmanager
def company(device: str) -> Iterator[Company]:
    """The processes that torchrun, or `delineate train --processes`, started with this one; it is alone if none did.

    An error of one ends all. Raises `ResourceError` if the others cannot be reached, `LostProcess` if one dies.
    """
    launch = launched()
    if launch is None:
        yield BY_ITSELF
        return
    ours = _join(launch, device)
    try:
        yield ours
        ours.close()
    except SystemExit:
        raise
    except BaseException as error:
        explained = ours.explained(error)
        if explained is error:
            raise
        raise explained from error
    finally:
        leave()


def leave() -> None:
    """Close the connections to the other processes; twice does no harm."""
    import torch.distributed as dist

    if dist.is_initialized():
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _join(launch: Launch, device: str) -> Company:
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    on_gpu = device.startswith("cuda")
    if on_gpu:
        if launch.local_rank >= torch.cuda.device_count():
            raise ResourceError(
                "more processes than GPUs on this machine",
                expected=f"at most {torch.cuda.device_count()}",
                got=launch.local_size,
                remedy="Start one a GPU.",
            )
        torch.cuda.set_device(device)
    try:
        common, rank, size = next(iter(rendezvous("env://", timeout=_TIMEOUT)))
        store = PrefixStore(_meet(common, rank, size), common)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            "the other processes of this run cannot be reached",
            got=in_short(error),
            remedy="Check MASTER_ADDR and MASTER_PORT, or torchrun's --rdzv-endpoint.",
        ) from error
    return Company(Group(rank, size), PrefixStore("company", store), launch)


def _meet(store: Store, rank: int, size: int) -> str:
    """A name for this meeting of the processes, the same in all.

    A store may outlive processes that were killed, and still hold what they left there: torchrun starts others with it.
    So each process leaves a word that nobody could know, and takes the name only from who has read it.
    """
    word, until = uuid.uuid4().hex, time.monotonic() + _TIMEOUT.total_seconds()
    store.set(f"word {rank}", word)
    while time.monotonic() < until:
        if rank == 0:
            others = [store.get(f"word {n}").decode() for n in range(1, size) if store.check([f"word {n}"])]
            store.set("meeting", " ".join((word, *others)))
            if store.add(f"met {word}", 0) == size - 1:
                return word
        elif store.check(["meeting"]):
            name, *heard = store.get("meeting").decode().split()
            if word in heard:
                store.add(f"met {name}", 1)
                return name
        time.sleep(_POLL_SECONDS / 2)
    raise RuntimeError("not all of them came")


def _alone_now(error: RuntimeError) -> LostProcess:
    return LostProcess(
        "the process that leads this run is gone",
        got=in_short(error),
        remedy="Run the same command again: it goes on from the last checkpoint.",
    )


def _told(error: BaseException) -> _Told:
    if not isinstance(error, DelineateError):
        return _Told(kind="", problem=f"{type(error).__name__}: {error}", facts={}, machine=platform.node())
    values = {n: getattr(error, n) for n in ("expected", "got", "path", "case", "remedy")}
    facts = {name: str(value) for name, value in values.items() if value is not None}
    return _Told(kind=type(error).__name__, problem=error.problem, facts=facts, machine=platform.node())
