from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from delineate.reports.tables import Reference, SeriesRow, printable, series_table

ROW = SeriesRow(
    patient_id="P1",
    study_uid="1.2",
    study_date="20200131",
    series_uid="1.2.3",
    series_number=4,
    modality="MR",
    description="t2 [tse]",
    volume="echo 2",
    action="straighten",
    problem="",
    notes=("straightened: by 12.00 degrees",),
    files=("a",),
    slices=30,
    size=(320, 256),
    spacing_mm=(0.75, 0.8, 2.5),
    orientation="LPS",
    tilt_degrees=12.0,
)
LOST = replace(
    ROW, action="refuse", problem="1 slice(s) missing", notes=(), spacing_mm=None, orientation="", tilt_degrees=0
)


def shown(*rows: SeriesRow, width: int) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(series_table(rows))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 150, 250])
def test_every_fact_is_there_at_every_width(width: int) -> None:
    text = " ".join(shown(ROW, LOST, width=width).split())
    for fact in ("P1", "2020-01-31", "MR", "4", "320x256", "0.75x0.8x2.5", "LPS", "12.0°", "straighten:", "refuse:"):
        assert fact in text
    assert "[tse]" in text


@pytest.mark.parametrize("width", [40, 80, 149, 150, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    row = replace(ROW, description="x" * 300, problem="y" * 300, patient_id="z" * 64)
    assert max(len(line) for line in shown(row, LOST, width=width).splitlines()) <= width


def test_a_patient_is_named_once_a_study_on_narrow_terminals() -> None:
    assert shown(ROW, LOST, replace(ROW, study_uid="1.3"), width=80).count("P1 2020-01-31") == 2


def test_many_remarks_are_cut_short() -> None:
    text = shown(replace(ROW, notes=tuple(f"dropped {n}" for n in range(50))), width=200)
    assert "dropped 2" in text
    assert "dropped 3" not in text
    assert "and 47 more remarks" in text


def test_an_object_says_how_many_of_its_series_are_here() -> None:
    here, lost = Reference("1.2.3", found=True), Reference("1.2.4", found=False)
    assert "refers to 1 series, here; refers to 2 series, not here" in shown(
        replace(ROW, notes=(), refers_to=(lost, here, lost)), width=250
    )


def test_what_acts_on_a_terminal_is_replaced() -> None:
    assert printable("a\x1b[2Jb\n\u202ec") == "a\ufffd[2Jb\ufffd\ufffdc"
    assert "\x1b" not in shown(replace(ROW, description="\x1b[31mred", patient_id="\x1b]0;title\x07"), width=80)


def test_missing_facts_are_dashes() -> None:
    bare = replace(LOST, patient_id="", study_date="", series_number=None, modality="", size=None, slices=0)
    assert "no patient ID –" in shown(bare, width=80)
    assert "no modality" in shown(bare, width=80)
    assert shown(bare, width=160).count("–") >= 8
