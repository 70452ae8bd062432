"""A fixed part of the damaged files of `fuzzing`, which runs many more by hand."""

from __future__ import annotations

from pathlib import Path

import fuzzing
import numpy as np
import pytest


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[fuzzing.Seed]:
    return fuzzing.sound_files(tmp_path_factory.mktemp("sound"))


def test_sound_files_are_read(seeds: list[fuzzing.Seed]) -> None:
    for seed in seeds:
        if seed.name != "lossless JPEG":  # one slice
            seed.read(seed.path)


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_are_read_or_refused(tmp_path: Path, seeds: list[fuzzing.Seed], part: int) -> None:
    for number in range(100 * part, 100 * part + 100):
        chosen, path = fuzzing.case(number, 1, seeds, tmp_path / "case")
        assert fuzzing.outcome(chosen, path) is None, f"case {number} ({chosen.name})"


def test_a_case_is_the_same_damage_every_time(seeds: list[fuzzing.Seed]) -> None:
    for seed in seeds:
        once, again = (fuzzing.damaged(seed, seed.path, np.random.default_rng(5)) for _ in range(2))
        assert once == again


def test_what_is_wrong_is_seen() -> None:
    def refuse(_: Path) -> None:
        raise KeyError("no such thing")

    def wait(_: Path) -> None:
        while True:
            pass

    assert "KeyError" in str(fuzzing.outcome(fuzzing.Seed("a", Path(), refuse), Path()))
    fuzzing_seconds, fuzzing.SECONDS = fuzzing.SECONDS, 0.2
    try:
        assert "took over 0.2 s" in str(fuzzing.outcome(fuzzing.Seed("a", Path(), wait), Path()))
    finally:
        fuzzing.SECONDS = fuzzing_seconds
