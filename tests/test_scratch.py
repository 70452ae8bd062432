"""Arrays on disk where memory is short, and journals of what was being done."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import ResourceError
from delineate.files import sweep
from delineate.workflow.batches import Phase
from delineate.workflow.journal import cut_off, open_journal
from delineate.workflow.scratch import Scratch


def test_large_arrays_are_files_without_a_name(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", 1000)
    array = scratch.allocate((5, 7, 11), np.float32)
    array[:] = np.arange(385).reshape(5, 7, 11)
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    assert array.sum() == 385 * 384 / 2
    assert list((tmp_path / "scratch").iterdir()) == []
    assert scratch.allocate((5, 7, 7), np.float32).base is None


def test_a_disk_without_room_is_known_before(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="the disk has no room for voxels"):
        Scratch(tmp_path, 1000).allocate((10**6, 10**6, 10), np.uint8)


def test_a_journal_that_ends_leaves_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.note("a", Phase.SEGMENTING)
        assert cut_off(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_killed_is_known_by_what_it_was_doing(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from delineate.workflow.journal import *; "
    code += f"opened = open_journal(Path({str(tmp_path)!r})); j = opened.__enter__(); j.note('a', Phase.SEGMENTING); "
    code += "j.note('ü', Phase.READING); j.note('a', Phase.WRITTEN); j.note('ü', Phase.SEGMENTING); "
    code += "j.note('c', Phase.READING); j._stream.write(b'[\"c'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert cut_off(tmp_path) == {"ü": Phase.SEGMENTING, "c": Phase.READING}
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
