"""LabelSets: order, names, left/right pairs, and what is refused."""

from __future__ import annotations

import pickle

import pytest

from delineate.errors import LabelError
from delineate.labels import Label, LabelSet, is_one_line, label_set


def test_labels_are_in_order_of_value() -> None:
    labels = label_set({3: "liver", 1: "spleen"})
    assert labels.values == (1, 3)
    assert labels.names == ("spleen", "liver")
    assert [label.value for label in labels] == [1, 3]
    assert len(labels) == 2


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_kidney", "right_kidney"),
        ("kidney left", "kidney right"),
        ("Parotid_L", "Parotid_R"),
        ("lung-left-upper", "lung-right-upper"),
        ("LeftParotid", "RightParotid"),
        ("kidneyLeft", "kidneyRight"),
        ("root_L1_left", "root_L1_right"),
        ("LEFT LUNG", "RIGHT LUNG"),
    ],
)
def test_sides_are_paired(left: str, right: str) -> None:
    assert label_set({1: right, 2: "bladder", 3: left}).pairs == ((left, right),)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("left_kidney", "right_lung"),
        ("liver", "river"),
        ("cleft", "cright"),
        ("left_eye", "eye"),
        ("vertebra_L1", "rib_R1"),
    ],
)
def test_other_names_are_no_pair(first: str, second: str) -> None:
    assert label_set({1: first, 2: second}).pairs == ()


def test_label_by_name() -> None:
    assert label_set({1: "spleen", 7: "liver"}).named("liver").value == 7
    with pytest.raises(LabelError, match=r"no such label: expected one of \['spleen'\], got lung"):
        label_set({1: "spleen"}).named("lung")


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ((Label(0, "background", (0, 0, 0)),), "start at 1"),
        ((Label(1, "a", (0, 0, 0)), Label(1, "b", (0, 0, 0))), "values occur twice"),
        ((Label(1, "a", (0, 0, 0)), Label(2, "a", (0, 0, 0))), "names occur twice"),
    ],
)
def test_refused_label_sets(labels: tuple[Label, ...], match: str) -> None:
    with pytest.raises(LabelError, match=match):
        LabelSet(labels)


def test_default_colours_are_distinct_and_in_range() -> None:
    colours = [label.colour for label in label_set({n: f"organ {n}" for n in range(1, 60)})]
    assert len(set(colours)) == len(colours)
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_label_sets_pickle() -> None:
    labels = label_set({1: "spleen"}, overlaps=True)
    assert pickle.loads(pickle.dumps(labels)) == labels


@pytest.mark.parametrize("name", ["left kidney", "Ödem, <&>", "肝\u3000腫瘍", "a\u00a0b", "x" * 300])
def test_names_of_one_line(name: str) -> None:
    assert is_one_line(name)


@pytest.mark.parametrize("name", ["", " ", " a", "a\u3000", "a\nb", "a\tb", "a\u2028b", "a\x00", "a\ud800"])
def test_names_that_files_cannot_hold(name: str) -> None:
    assert not is_one_line(name)
