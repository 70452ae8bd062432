"""Lines that are only ever added, and what they say together."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from delineate.cli import main
from delineate.errors import InputError
from delineate.workflow.energy import Counters, metered, packages
from delineate.workflow.ledger import FIRST_PART, NAME, Entry, add, all_rows, read, rows_of
from delineate.workflow.ledger_reports import draw_ledger, shown_rows


def run(name: str = "2d", fold: int = 0, key: str = "a", **more: float) -> Entry:
    return Entry(what="run", name=name, fold=fold, key=key, seconds=more.get("seconds", 60.0), dice=more.get("dice"))


def part(name: str, fold: int, seconds: float, joules: float | None) -> Entry:
    return Entry(what="part", name=name, fold=fold, key="", seconds=seconds, joules=joules)


def test_what_is_written_down_is_not_written_again(tmp_path: Path) -> None:
    assert add(tmp_path, run())
    assert not add(tmp_path, run())
    assert add(tmp_path, run(key="b"))
    assert add(tmp_path, run(fold=1))
    assert [entry.key for entry in read(tmp_path)] == ["a", "b", "a"]
    assert all(entry.when for entry in read(tmp_path))


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    add(tmp_path, run())
    with (tmp_path / NAME).open("ab") as stream:
        stream.write(b'{"what":"run","name":"3d_fu')
    add(tmp_path, run(key="b"))
    assert [entry.key for entry in read(tmp_path)] == ["a", "b"]


def test_energy_adds_up_over_parts_and_members(tmp_path: Path) -> None:
    for one in (part("2d", 0, 20, 100.0), part("2d", 0, 40, None), part("2d", 1, 60, 300.0), part("3d", 0, 9, 50.0)):
        add(tmp_path, one)
    for entry in (run(), Entry(what="candidate", name="2d+3d", key="x", dice=0.8)):
        add(tmp_path, entry)
    candidate, alone = rows_of(tmp_path)
    assert (candidate.name, candidate.joules, candidate.measured_seconds) == ("2d+3d", 450.0, 89.0)
    assert (alone.name, alone.joules, alone.measured_seconds) == ("2d", 100.0, 20.0)


def test_a_run_that_was_removed_and_made_again_takes_its_own_energy_only(tmp_path: Path) -> None:
    first = msgspec.structs.replace(part("2d", 0, 60, 300.0), key=FIRST_PART)
    for one in (first, part("2d", 0, 10, 50.0), first, part("2d", 0, 20, 70.0), run(seconds=80)):
        add(tmp_path, one)
    (row,) = rows_of(tmp_path)
    assert (row.joules, row.measured_seconds) == (370.0, 80.0)


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "spleen", tmp_path / "b" / "spleen", tmp_path / "liver"]
    for folder in folders:
        add(folder, run())
    assert [row.experiment for row in all_rows(folders)] == [str(folders[0]), str(folders[1]), "liver"]


def test_the_last_entry_of_a_run_counts(tmp_path: Path) -> None:
    add(tmp_path, run(dice=0.5))
    add(tmp_path, run(key="longer", dice=0.7))
    assert [row.entry.dice for row in all_rows([tmp_path])] == [0.7]


def test_a_folder_without_ledger_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") == ()
    with pytest.raises(InputError, match="holds no ledger"):
        rows_of(tmp_path)


def package(folder: Path, number: str, joules: float, most: float = 1000.0) -> None:
    (folder / f"intel-rapl:{number}").mkdir(exist_ok=True)
    (folder / f"intel-rapl:{number}" / "energy_uj").write_text(str(int(joules * 1e6)))
    (folder / f"intel-rapl:{number}" / "max_energy_range_uj").write_text(str(int(most * 1e6)))


def test_counters_of_packages_add_up_and_start_again(tmp_path: Path) -> None:
    for number in ("0", "1", "0:0"):
        package(tmp_path, number, 900.0)
    counters = packages(tmp_path)
    assert len(counters.folders) == 2
    assert counters.spent() == 0.0
    package(tmp_path, "0", 950.0)
    package(tmp_path, "1", 30.0)
    assert counters.spent() == pytest.approx(50 + 130)


def test_a_machine_that_tells_nothing_has_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packages(tmp_path).spent() is None
    monkeypatch.setattr("delineate.workflow.energy.packages", lambda: Counters(()))
    with metered("cpu") as energy:
        pass
    assert energy.joules is None


def test_energy_is_read_at_the_end_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "0", 10.0)
    monkeypatch.setattr("delineate.workflow.energy.packages", lambda: packages(tmp_path))
    with metered("cpu") as energy:
        package(tmp_path, "0", 35.0)
    assert energy.joules == pytest.approx(25.0)


def candidates(folder: Path) -> Path:
    for name, seconds, dice in ("2d", 60.0, 0.7), ("2d+3d_fullres", 200.0, 0.8):
        interval = (dice - 0.05, dice + 0.05)
        add(folder, Entry(what="candidate", name=name, key="k", seconds=seconds, dice=dice, interval=interval, nsd=0.9))
    add(folder, msgspec.structs.replace(run(), steps=1200, plan="0123456789ab"))
    return folder


def test_the_table_fits_a_terminal_and_hides_runs_unless_asked(tmp_path: Path) -> None:
    candidates(tmp_path / "spleen")
    told = CliRunner().invoke(main, ["ledger", str(tmp_path / "spleen")])
    assert told.exit_code == 0
    assert "0.750–0.850" in told.output
    assert "fold 1" not in told.output
    assert "2d+3d_fullres" in told.output
    assert "fold 1" in CliRunner().invoke(main, ["ledger", str(tmp_path / "spleen"), "--runs"]).output
    assert max(map(len, told.output.splitlines())) <= 80


def test_dice_is_drawn_against_seconds(tmp_path: Path) -> None:
    rows = all_rows([candidates(tmp_path / "a"), candidates(tmp_path / "b")])
    draw_ledger(rows, tmp_path / "ledger.html")
    page = (tmp_path / "ledger.html").read_text()
    assert "2d+3d fullres: Dice 0.800 [0.750 to 0.850] in 3 min 20 s" in page
    assert "0123456" in page
    draw_ledger(rows, tmp_path / "ledger.png")
    assert (tmp_path / "ledger.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="no such kind of picture"):
        draw_ledger(rows, tmp_path / "ledger.pdf")


def test_energy_that_was_measured_in_part_is_at_least_so_much(tmp_path: Path) -> None:
    for one in (part("2d", 0, 30, 4000.0), part("2d", 1, 60, 9000.0)):
        add(tmp_path, one)
    add(tmp_path, run())
    add(tmp_path, run(fold=1))
    lines = shown_rows(rows_of(tmp_path), runs=True)
    assert [line.energy for line in lines] == ["≥ 4 kJ", "9 kJ"]
