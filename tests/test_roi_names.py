"""Names of regions onto labels: what is one name, what never is, and tables that people edit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import LabelError
from delineate.labels import label_set
from delineate.roi_names import (
    How,
    RoiMatches,
    RoiRow,
    RoiTable,
    default_table,
    match_rois,
    table_from_csv,
    table_to_csv,
)

NAMES = [
    "liver",
    "left_kidney",
    "right_kidney",
    "spinal_cord",
    "brainstem",
    "parotid_left",
    "parotid_right",
    "tumor",
    "oesophagus",
    "femoral head left",
    "lungs",
    "LungLeft",
    "bladder",
    "vertebra L1",
]
LABELS = label_set(dict(enumerate(NAMES, start=1)))
TABLE = default_table(LABELS)


def matched(name: str, table: RoiTable = TABLE) -> str | None:
    return match_rois([name], table).mapped.get(name)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Liver", "liver"),
        ("liver_final", "liver"),
        ("LIVER 1", "liver"),
        ("liver2", "liver"),
        ("Liver v2", "liver"),
        ("ROI-liver", "liver"),
        ("Copy of Liver", "liver"),
        ("liver new copy", "liver"),
        ("Leber", "liver"),
        ("Kidney_L", "left_kidney"),
        ("LT KIDNEY", "left_kidney"),
        ("kidney.right", "right_kidney"),
        ("KidneyRight", "right_kidney"),
        ("RKidney", "right_kidney"),
        ("ren l", "left_kidney"),
        ("SpinalCord", "spinal_cord"),
        ("cord", "spinal_cord"),
        ("Brain Stem", "brainstem"),
        ("Glnd_Parotid_R", "parotid_right"),
        ("Parotis links", "parotid_left"),
        ("GTV", "tumor"),
        ("Tumour 2", "tumor"),
        ("Esophagus", "oesophagus"),
        ("Oesophage", "oesophagus"),
        ("Femur_Head_L", "femoral head left"),
        ("lt femoral-head", "femoral head left"),
        ("both lungs", "lungs"),
        ("lung l", "LungLeft"),
        ("Vessie", "bladder"),
        ("Vertebra_L1", "vertebra L1"),
    ],
)
def test_one_name_in_many_ways(name: str, label: str) -> None:
    assert matched(name) == label


@pytest.mark.parametrize(
    "name",
    [
        "liver tumour",
        "PTV-liver",
        "liver minus gtv",
        "kidney left minus gtv",
        "left liver",
        "kidney",
        "kidneys",
        "Kidney L+R",
        "Femur_Head_R",
        "Cord+5",
        "cord prv",
        "Cord 05",
        "Lung~_L",
        "liver & spleen",
        "liver 2019",
        "GTV 60",
        "CTV",
        "vertebra 1",
        "L 1",
        "final 1",
        "L",
        "",
        " ",
        "liver" * 40,
        "肝臓",
    ],
)
def test_another_name_is_not_mapped(name: str) -> None:
    found = match_rois([name], TABLE)
    assert (dict(found.mapped), found.unmapped, dict(found.ambiguous)) == ({}, (name,), {})


def test_accents_do_not_count() -> None:
    table = RoiTable((RoiRow("spinal_cord", How.SYNONYM, "Rückenmark"),))
    assert matched("ruckenmark", table) == matched("RÜCKENMARK 1", table) == "spinal_cord"


def test_a_name_with_all_its_words_wins_over_one_without_its_counter() -> None:
    table = default_table(label_set({1: "lesion", 2: "lesion 2"}))
    assert matched("Lesion_2", table) == "lesion 2"
    assert matched("Lesion_1", table) == "lesion"


def test_exact_wins_over_synonym_and_synonym_over_pattern() -> None:
    rows = [RoiRow("c", How.PATTERN, "gtv.*"), RoiRow("b", How.SYNONYM, "gtv"), RoiRow("a", How.EXACT, "GTV")]
    assert [matched("gtv", RoiTable(tuple(rows[:n]))) for n in (1, 2, 3)] == ["c", "b", "a"]


def test_two_labels_of_one_rank_are_ambiguous_and_listed() -> None:
    table = RoiTable((RoiRow("a", How.SYNONYM, "mass"), RoiRow("b", How.SYNONYM, "Mass"), RoiRow("a", How.EXACT, "x")))
    found = match_rois(["mass", "x", "y"], table)
    assert found == RoiMatches({"x": "a"}, ("y",), {"mass": ("a", "b")})


def test_a_pattern_sees_the_words_with_the_side_in_front() -> None:
    table = RoiTable((RoiRow("kidney_left", How.PATTERN, "left (kidney|ren)( cortex)?"),))
    assert matched("Kidney_Cortex-L", table) == "kidney_left"
    assert matched("xKidney_L", table) is None


def test_no_pattern_maps_a_side_onto_the_other_or_onto_none() -> None:
    rows = (RoiRow("kidney_left", How.PATTERN, ".*kidney.*"), RoiRow("liver", How.PATTERN, ".*"))
    found = match_rois(["kidney right", "kidney l cyst", "kidney"], RoiTable(rows))
    assert dict(found.mapped) == {"kidney l cyst": "kidney_left", "kidney": "liver"}


def test_the_default_table_maps_every_label_onto_itself() -> None:
    assert dict(match_rois(LABELS.names, TABLE).mapped) == {name: name for name in LABELS.names}


def test_tumour_and_gtv_as_two_labels_stay_apart() -> None:
    table = default_table(label_set({1: "tumor", 2: "GTV"}))
    assert [matched(name, table) for name in ("gtv 1", "tumour")] == ["GTV", "tumor"]


def test_a_table_comes_back_from_csv() -> None:
    table = RoiTable((*TABLE.rows, RoiRow('a, "b"', How.PATTERN, r"gtv\b,? .{1,3}")))
    assert table_from_csv(table_to_csv(table)) == table
    assert table_to_csv(table).startswith("label,how,text\nliver,exact,liver\n")


def test_csv_as_spreadsheets_leave_it_is_read() -> None:
    table = table_from_csv("\ufeffLabel, How ,Text\r\n\r\n liver , Exact ,Liver \r\n")
    assert table == RoiTable((RoiRow("liver", How.EXACT, "Liver"),))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "header label,how,text, got nothing"),
        ("name,kind\n", "header label,how,text, got 'name,kind'"),
        ("label;how;text\n", "header label,how,text"),
        ("label,how,text\nliver,exact\n", "line 2 .* expected label,how,text, got 'liver,exact'"),
        (
            "label,how,text\n\nliver,same,Liver\n",
            r"line 3 .* expected one of \['exact', 'synonym', 'pattern'\], got same",
        ),
        ("label,how,text\n,exact,Liver\n", "line 2 .* no label or no text"),
        ("label,how,text\nliver,exact,__\n", "line 2 .* has no word"),
        ('label,how,text\nliver,exact,"a\n', "line 2 .* is no CSV"),
        ("label,how,text\nliver,pattern,(a\n", "line 2 .* broken pattern: got '\\(a'"),
        (f"label,how,text\nliver,exact,{'a' * 201}\n", "line 2 .* too long: expected at most 200 characters, got 201"),
        ("label,how,text\n" + "liver,exact,liver\n" * 20_001, "too long: expected 20000 rows"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(text: str, match: str) -> None:
    with pytest.raises(LabelError, match=match):
        table_from_csv(text)


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|a)*b", "(a{9}){9}", "a*a*a*a*b", "a?" * 17, r"(a)\1", "(?=a)b", "(?i)a", "(a|b)" * 17]
)
def test_patterns_that_could_run_forever_are_refused(pattern: str) -> None:
    with pytest.raises(LabelError, match=r"row 1 .* endlessly long"):
        RoiTable((RoiRow("a", How.PATTERN, pattern),))


@pytest.mark.parametrize(
    "pattern", ["gtv( mass)?( ct| mr t1| pet)?", "[a-z+*?|]+ x", r"\(a\)\*\*\*\*", "(?:a|b) [)*]+"]
)
def test_plain_patterns_are_taken(pattern: str) -> None:
    assert RoiTable((RoiRow("a", How.PATTERN, pattern),)).rows[0].text == pattern


@given(st.lists(st.text(max_size=30)))
def test_every_name_ends_in_one_place(names: list[str]) -> None:
    found = match_rois(names, TABLE)
    assert sorted((*found.mapped, *found.unmapped, *found.ambiguous)) == sorted(set(names))
