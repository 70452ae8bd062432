"""`python -m delineate COMMAND`, and `torchrun ... -m delineate COMMAND`: the command line."""

from __future__ import annotations

import os
import sys

from delineate.cli import main
from delineate.settings import launched


def _exit_code(code: object) -> int:
    return 0 if code is None else code if isinstance(code, int) else 1


def _run() -> None:
    if launched() is None:
        main()
        return
    # Libraries report every connection that ends, with their own stack; what it means for the run is said by it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # What is left of a group's connections ends about one process in twenty with an abort, after its work is done.
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_code(end.code))


if __name__ == "__main__":
    _run()
