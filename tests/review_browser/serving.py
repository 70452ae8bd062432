"""`delineate review` as a process of its own, which can be killed and started again at the same address."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ReviewServer:
    """The server of a workspace. `start` gives the address with its one-time token; `origin`: without."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.origin = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        command = [sys.executable, "-m", "delineate", "review", str(self.workspace), "--no-browser"]
        with (self.workspace / "server.err").open("a") as problems:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=subprocess.PIPE, stderr=problems, text=True
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"Listening on (\S+)", line)
            if found is not None:
                return found[1]
        raise AssertionError((self.workspace / "server.err").read_text())

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    @contextmanager
    def down(self) -> Iterator[None]:
        """Killed, and started again afterwards."""
        self.kill()
        try:
            yield
        finally:
            self.start()
