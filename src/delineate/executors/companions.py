"""One command in several processes of this machine that do its work together, begun again if one of them dies.

Each finds in its environment, as torchrun would set it, which of them it is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

from delineate.errors import ResourceError
from delineate.executors.supervised import Death, die_with

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 20.0  # for those that are left when one has ended
_MOST_STARTS = 4


def run_companions(
    words: Sequence[str], count: int, *, say: Callable[[str], None], environment: Mapping[str, str] | None = None
) -> int:
    """Run `words` in so many processes until all have ended: 0, or the exit code of the first that failed.

    If one is killed, the others end, and all are started again; what they go on with is their business. Ctrl-C and
    SIGTERM are passed on; then the code is that of the first that ended with one. Raises `ResourceError` if one dies
    again and again.
    """
    for start in range(1, _MOST_STARTS + 1):
        with _Companions(words, count, dict(os.environ if environment is None else environment)).started() as running:
            ended = running.wait()
        if ended.code >= 0 or running.asked:
            return max(0, ended.code) if not running.asked else running.stopped_code
        cause = Death(ended.code).cause
        if start < _MOST_STARTS:
            say(f"Process {ended.rank + 1} of {count} {cause}; all are started again.")
    raise ResourceError(
        f"process {ended.rank + 1} of {count} {cause}, the last of {_MOST_STARTS} times",
        remedy="Start fewer processes, or with a smaller batch or patch.",
    )


@dataclass(frozen=True, slots=True)
class _Ended:
    """The process that ended first of those that failed, or any if none did."""

    rank: int
    code: int


@dataclass(slots=True)
class _Companions:
    words: Sequence[str]
    count: int
    environment: dict[str, str]
    asked: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @contextmanager
    def started(self) -> Iterator[_Companions]:
        """Processes that end with the context, however it ends."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        port = str(_free_port())
        try:
            for rank in range(self.count):
                self.processes.append(self._start(rank, port))
            yield self
        finally:
            for process in self.processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, rank: int, port: str) -> subprocess.Popen[bytes]:
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.count, "LOCAL_WORLD_SIZE": self.count}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} | {name: str(value) for name, value in own.items()}
        # Keys of the terminal are for the process that was called; it passes them on, once.
        return subprocess.Popen(
            self.words,
            env=self.environment | place,
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid()) if sys.platform == "linux" else None,
        )

    def wait(self) -> _Ended:
        first: _Ended | None = None
        since = 0.0
        while True:
            codes = [process.poll() for process in self.processes]
            failed = [rank for rank, code in enumerate(codes) if code]
            if failed and first is None:
                # One that was killed is why the others failed.
                rank = min(failed, key=lambda n: (codes[n] or 0) > 0)
                first, since = _Ended(rank, codes[rank] or 0), time.monotonic()
            if all(code is not None for code in codes):
                return first or _Ended(0, 0)
            if first is not None and time.monotonic() - since > _PATIENCE_SECONDS:
                return first
            time.sleep(_POLL_SECONDS)

    @property
    def stopped_code(self) -> int:
        """What a process that was asked to stop says of it."""
        return max((process.returncode or 0 for process in self.processes), default=0)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked > 1:
            raise KeyboardInterrupt
        for process in self.processes:
            process.send_signal(signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
