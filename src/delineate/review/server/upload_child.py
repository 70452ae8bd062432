"""Reads an uploaded segmentation, as a process of its own that may use so much memory and time and no more.

`python -m delineate.review.server.upload_child UPLOAD OUT MEMORY_MB SECONDS MOST_VOXELS`: writes OUT.npy, the labels
(I, J, K), and OUT.json, their grid. What is wrong with the file is one line on stderr, and exit code 2.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from pathlib import Path

import psutil

REFUSED = 2


def main(arguments: list[str]) -> int:
    """Read, check and write; the exit code."""
    upload, out, memory_mb, seconds, most_voxels = arguments
    import numpy as np

    from delineate.errors import DelineateError
    from delineate.formats import nifti, read_label_values

    _limit(int(memory_mb) << 20, int(seconds), int(most_voxels) * 2 + (1 << 20))
    try:
        shape = nifti.read_grid(Path(upload)).shape
        if math.prod(shape) > int(most_voxels):
            return _refuse("the file has more voxels than the scan")
        array, grid = read_label_values(Path(upload))
    except DelineateError as error:
        return _refuse(error.problem)
    except MemoryError:
        return _refuse("the file needs more memory than an upload may use")
    np.save(f"{out}.npy", array, allow_pickle=False)
    Path(f"{out}.json").write_text(json.dumps({"affine": grid.affine.tolist(), "shape": list(grid.shape)}))
    return 0


def _limit(memory_bytes: int, seconds: int, file_bytes: int) -> None:
    # The libraries' own memory is not what an upload asks for.
    now = psutil.Process().memory_info().vms
    for what, most in (
        (resource.RLIMIT_AS, now + memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _refuse(problem: str) -> int:
    sys.stderr.write(problem)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
