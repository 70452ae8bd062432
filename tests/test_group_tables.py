from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_comparing import case

from delineate.errors import InputError
from delineate.evaluation.cases import CaseScores
from delineate.workflow.group_tables import GroupOptions, Parted, part_cases, read_group_table


def cohort() -> list[CaseScores]:
    sites = ("A", "A", "B", "B")
    return [
        replace(case(f"c{n}", {"liver": 0.9 - 0.1 * n}, f"p{n // 2}"), groups={"site": site})
        for n, site in enumerate(sites)
    ]


def part(tmp_path: Path, text: str, *by: str, bands: dict[str, tuple[float, ...]] | None = None) -> Parted:
    table = tmp_path / "groups.csv"
    table.write_text(text, encoding="utf-8-sig")
    return part_cases(cohort(), GroupOptions(table, by=by, bands=bands or {}), np.random.default_rng(0))


def groups(parted: Parted, name: str) -> list[str | None]:
    return [one.groups.get(name) for one in parted.cases]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_by_case(tmp_path: Path, separator: str) -> None:
    lines = ("case,sex", "c0,F", "c1,M", "c2,F", "c3,M")
    parted = part(tmp_path, "\n".join(lines).replace(",", separator))
    assert groups(parted, "sex") == ["F", "M", "F", "M"]
    assert {(one.grouping, one.group) for one in parted.scores} == {("sex", "F"), ("sex", "M")}
    assert parted.remarks == ()


def test_a_table_by_patient_tells_all_of_a_patients_cases(tmp_path: Path) -> None:
    parted = part(tmp_path, "patient_id,sex\np0,F\np1,M\n")
    assert groups(parted, "sex") == ["F", "F", "M", "M"]


def test_what_the_dataset_knows_is_compared_when_asked_for(tmp_path: Path) -> None:
    text = "case,sex\nc0,F\nc1,M\nc2,F\nc3,M\n"
    assert {one.grouping for one in part(tmp_path, text).scores} == {"sex"}
    assert {one.grouping for one in part(tmp_path, text, "site", "size").scores} == {"sex", "site", "size"}


def test_the_table_counts_more_than_what_is_known(tmp_path: Path) -> None:
    assert groups(part(tmp_path, "case,site\nc0,Z\nc3,Z\n"), "site") == ["Z", "A", "B", "Z"]


def test_what_a_table_lacks_repeats_or_has_too_much_is_said(tmp_path: Path) -> None:
    parted = part(tmp_path, "case,sex\nc0,F\nc0,F\nc1,\nc2,M\nnobody,M\n")
    assert groups(parted, "sex") == ["F", None, "M", None]
    assert parted.remarks == (
        "groups.csv says nothing of 1 cases, which are not recorded: c3.",
        "groups.csv has 1 cases that were not scored: nobody.",
        "groups.csv says 1 rows twice.",
        "groups.csv: sex is empty for 1 cases, which are not recorded.",
    )
    assert [one.group for one in parted.scores if one.metric.name == "dice" and not one.structure] == [
        "F",
        "M",
        "not recorded",
    ]


def test_numbers_are_banded_by_given_edges(tmp_path: Path) -> None:
    text = "case,Age,dose\nc0,17,1\nc1,18,5\nc2,64,9\nc3,65,9.5\n"
    parted = part(tmp_path, text, bands={"Age": (18, 65), "dose": (5, 9.5)})
    assert groups(parted, "Age") == ["below 18", "18–64", "18–64", "65 and over"]
    assert groups(parted, "dose") == ["below 5", "5 to 9.5", "5 to 9.5", "9.5 and over"]


def test_columns_that_part_nothing_are_said(tmp_path: Path) -> None:
    assert part(tmp_path, "case,sex\nc0,F\nc1,F\nc2,F\nc3,F\n").remarks == ("All cases are alike in sex: no groups.",)


def test_a_table_of_other_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the cases: expected c0, c1, c2, c3, got x"):
        part(tmp_path, "case,sex\nx,F\n")


def test_rows_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contradict each other.*case c0"):
        part(tmp_path, "case,sex\nc0,F\nc0,M\n")


@pytest.mark.parametrize("text", ["", "sex,age\nF,3\n", "case\nc0\n", "case,sex\n", "case,sex,sex\nc0,F,M\n"])
def test_what_is_no_table_of_groups_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no table of groups"):
        part(tmp_path, text)


@pytest.mark.parametrize(("text", "words"), [("c0,F,3", "more cells than columns"), (",F", "has no case")])
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=f"row 2 .* {words}"):
        part(tmp_path, f"case,sex\n{text}\n")


def test_groups_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not known.*'sex', 'site', 'size'.*got \['scanner'\]"):
        part(tmp_path, "case,sex\nc0,F\nc1,M\n", "scanner")


def test_no_table_and_nothing_asked_changes_nothing() -> None:
    cases = cohort()
    assert part_cases(cases, GroupOptions(), np.random.default_rng(0)) == Parted(tuple(cases))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00case")
    with pytest.raises(InputError, match="cannot be read"):
        read_group_table(tmp_path / "x.csv")
