"""How a server's memory is shared out."""

import subprocess
import sys

import pytest

from delineate.review.memory import PROGRAM_BYTES, shares_of


@pytest.mark.parametrize("memory_bytes", [250_000_000, 10**9, 4 * 10**9])
def test_shares_and_the_program_are_what_there_is_or_the_voxels_have_half(memory_bytes: int) -> None:
    shares = shares_of(memory_bytes)
    total = shares.labels + shares.scans + shares.answers
    assert total <= max(memory_bytes - PROGRAM_BYTES, memory_bytes // 2)
    assert total >= memory_bytes // 2 - 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's choice")
def test_freed_blocks_go_back_to_the_system() -> None:
    script = """
import threading, psutil
from delineate.review.memory import return_freed_memory
assert return_freed_memory()
kept = []
def work():
    for _ in range(20):
        blocks = [bytearray(2 << 20) for _ in range(5)]
        kept.append(bytearray(20_000))  # lies behind them, and stays
def grow():
    before = psutil.Process().memory_info().rss
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return psutil.Process().memory_info().rss - before
assert grow() < 12 << 20
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
