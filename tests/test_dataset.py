"""Datasets: layouts, tables, digests and splits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.dataset import (
    Case,
    Dataset,
    Split,
    cases,
    channel_kind,
    check_split,
    digest,
    fingerprint_file,
    from_csv,
    from_pairs,
    hold_out_last,
    k_folds,
    open_dataset,
    split_from_json,
    split_to_json,
    train_on_all,
    write_dataset_json,
)
from delineate.errors import DatasetError
from delineate.labels import label_set
from delineate.volume import Kind

DATA = Path(__file__).parents[2] / "shared" / "data"
LABELS = label_set({1: "liver", 2: "tumour"})
V2 = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "file_ending": ".nii.gz"}


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def write_json(folder: Path, content: dict[str, Any]) -> None:
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def made_up(patients: str, tmp_path: Path = Path()) -> Dataset:
    """One case for each letter, which is its patient."""
    cases = [Case(f"case{n}", p, (tmp_path / f"{n}.nii",), tmp_path / "r.nii") for n, p in enumerate(patients)]
    return Dataset("made up", ("CT",), LABELS, tuple(cases))


def test_reads_the_decathlon_layout(tmp_path: Path) -> None:
    entry = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    write_json(tmp_path, {"name": "Liver", "modality": {"0": "CT"}, "labels": labels, "training": [entry]})
    dataset = open_dataset(tmp_path)
    case = Case("a", "a", (tmp_path / "imagesTr/a.nii.gz",), tmp_path / "labelsTr/a.nii.gz")
    assert dataset == Dataset("Liver", ("CT",), LABELS, (case,))


def test_reads_the_nnunet_layout_with_several_channels(tmp_path: Path) -> None:
    write_json(tmp_path, V2 | {"channel_names": {"1": "noNorm", "0": "T1"}})
    write(tmp_path, *(f"imagesTr/{c}_000{n}.nii.gz" for c in "ba" for n in range(2)), "labelsTr/a.nii.gz")
    write(tmp_path, "imagesTr/._a_0000.nii.gz", "imagesTr/.DS_Store")
    dataset = open_dataset(tmp_path / "dataset.json")
    assert dataset.channels == ("T1", "noNorm")
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert [path.name for path in dataset.case("a").images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert dataset.case("b").reference is None


def test_a_case_number_of_four_digits_is_no_channel(tmp_path: Path) -> None:
    write_json(tmp_path, V2)
    write(tmp_path, "imagesTr/liver_0007.nii.gz", "labelsTr/liver_0007.nii.gz")
    assert [case.id for case in open_dataset(tmp_path).cases] == ["liver_0007"]


def test_a_missing_channel_keeps_its_place(tmp_path: Path) -> None:
    write_json(tmp_path, V2 | {"channel_names": {"0": "T1", "1": "T2"}})
    write(tmp_path, "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    (case,) = open_dataset(tmp_path).cases
    assert [path.name for path in case.images] == ["a_0001.nii.gz"]
    assert case.absent == (0,)


@pytest.mark.parametrize("listed", ["a.nii.gz", "a_0000.nii.gz"])
def test_listed_images_find_their_channel_files(tmp_path: Path, listed: str) -> None:
    entry = {"image": f"imagesTr/{listed}", "label": "labelsTr/a.nii.gz"}
    write_json(tmp_path, V2 | {"channel_names": {"0": "T1", "1": "T2"}, "training": [entry]})
    write(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    (case,) = open_dataset(tmp_path).cases
    assert case.id == "a"
    assert [path.name for path in case.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_one_file_with_all_channels_stays_one_file(tmp_path: Path) -> None:
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    write_json(tmp_path, V2 | {"modality": {"0": "T1", "1": "T2"}, "training": [entry]})
    write(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    (case,) = open_dataset(tmp_path).cases
    assert case.images == (tmp_path / "imagesTr/a.nii.gz",)


def test_nnunets_own_list_of_cases_is_read(tmp_path: Path) -> None:
    write_json(tmp_path, V2 | {"dataset": {"x": {"images": ["far/1.nii.gz"], "label": "far/2.nii.gz"}}})
    (case,) = open_dataset(tmp_path).cases
    assert case == Case("x", "x", (tmp_path / "far/1.nii.gz",), tmp_path / "far/2.nii.gz")


def test_entries_and_the_table_tell_patient_site_and_groups(tmp_path: Path) -> None:
    entry = {"image": "a.nii.gz", "label": "a.nii.gz", "patient_id": 7, "site": "Ulm", "groups": {"sex": "f"}}
    write_json(tmp_path, V2 | {"training": [entry, {"image": "b.nii.gz"}]})
    (tmp_path / "cases.csv").write_text("\ufeffcase;patient_id;site;scanner\na;;Bern;\nb;7;;GE\n", encoding="utf-8")
    a, b = open_dataset(tmp_path).cases
    assert (a.patient_id, a.site, a.groups) == ("7", "Bern", (("sex", "f"),))
    assert (b.patient_id, b.site, b.groups) == ("7", None, (("scanner", "GE"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "all": [1, 2], "part": [0, 2]}}, "region 'part' needs values, from 1"),
        ({"labels": {"background": 0, "all": [1, 2], "same": [2, 1]}}, "regions must differ in their values"),
        ({"labels": {"all": [1, 2], "core": 2}, "regions_class_order": [1]}, "expected 2 values, got .1."),
        ({"labels": {"all": [1, 2], "core": 2}, "regions_class_order": [1, 1]}, "'core' is painted with a value"),
        ({"labels": {"all": [1, 2], "core": 2}, "regions_class_order": "1,2"}, "no list of whole numbers"),
        ({"labels": {"background": 0, "ignore": 1, "liver": 2}}, "'ignore' must have one value, above those of all"),
        ({"labels": {"background": 0, "liver": 2, "ignore": 2}}, "expected 3, got .2."),
        ({"labels": {"background": 0, "liver": "one"}}, "'liver' has no whole number"),
        ({"labels": {"background": 1, "liver": 2}}, "background must have value 0"),
        ({"labels": {"liver": 1, "tumour": 1}}, "'liver' and 'tumour' have one value"),
        ({"labels": {"background": 0}}, "no label but the background"),
        ({"labels": {}}, "does not name the labels"),
        ({"channel_names": {}}, "does not name the channels"),
        ({"training": [{"label": "a.nii.gz"}]}, "names no image"),
        ({"training": {"a": "b"}}, "is not a list"),
        ({"training": []}, "has no cases"),
    ],
)
def test_a_dataset_json_that_makes_no_dataset_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_json(tmp_path, V2 | {"training": [{"image": "a.nii.gz"}]} | change)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)


def test_images_without_dataset_json_ask_for_one(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/a_0000.nii.gz")
    with pytest.raises(DatasetError, match=r"has imagesTr but no dataset.json.*Write a dataset.json such as"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=r"the folder (is no dataset|does not exist)"):
        open_dataset(tmp_path / name)


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read"), ("[]", "is not an object")])
def test_broken_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [("patient,site\nx,y\n", "no column 'case'"), ("case\na\na\n", "occur twice"), ("case\n", "no rows")],
)
def test_a_table_of_cases_that_misleads_is_refused(tmp_path: Path, table: str, message: str) -> None:
    write_json(tmp_path, V2 | {"training": [{"image": "a.nii.gz"}]})
    (tmp_path / "cases.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)


def test_pairs_are_named_by_folder_where_file_names_repeat() -> None:
    pairs = [([Path(f"p{n}/ct.nii.gz")], Path(f"p{n}/seg.nii.gz")) for n in (2, 1)]
    dataset = from_pairs(pairs, LABELS, channels=["CT"])
    assert [case.id for case in dataset.cases] == ["p2", "p1"]
    assert [case.patient_id for case in dataset.cases] == ["p2", "p1"]


def test_no_pairs_are_refused() -> None:
    with pytest.raises(DatasetError, match="no images were given"):
        from_pairs([], LABELS, channels=["CT"])


def test_a_table_of_files_makes_a_dataset(tmp_path: Path) -> None:
    table = (
        "image,image2,label,patient_id,scanner\nt1/a.nii.gz,/t2/a.nii.gz,r/a.nii.gz,P1,GE\nt1/b.nii.gz,t2/b.nii.gz,,,\n"
    )
    (tmp_path / "files.csv").write_text(table, encoding="utf-8")
    dataset = from_csv(tmp_path / "files.csv", LABELS, channels=["T1", "T2"])
    images = (tmp_path / "t1/a.nii.gz", Path("/t2/a.nii.gz"))
    assert dataset.name == "files"
    assert dataset.cases[0] == Case("a", "P1", images, tmp_path / "r/a.nii.gz", None, (("scanner", "GE"),))
    assert dataset.cases[1].reference is None


@pytest.mark.parametrize(("table", "message"), [("scan\na\n", "no column 'image'"), ("image,label\n,b\n", "line 2")])
def test_a_table_without_images_is_refused(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "files.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        from_csv(tmp_path / "files.csv", LABELS, channels=["CT"])


def test_a_written_dataset_reads_back_the_same(tmp_path: Path) -> None:
    cases = (
        Case("a", "P", (tmp_path / "x/1.nrrd", tmp_path / "x/2.nrrd"), tmp_path / "r/1.nrrd", "Bern", (("sex", "f"),)),
        Case("b", "P", (Path("/elsewhere/all.nrrd"),), None),
    )
    dataset = Dataset("Größe", ("T1", "T2"), LABELS, cases)
    write_dataset_json(tmp_path, dataset)
    assert open_dataset(tmp_path) == dataset


def test_overlapping_labels_are_not_written(tmp_path: Path) -> None:
    dataset = Dataset("x", ("CT",), label_set({1: "a"}, overlaps=True), ())
    with pytest.raises(DatasetError, match="cannot say that labels overlap"):
        write_dataset_json(tmp_path, dataset)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("CT", Kind.CT), ("T1w", Kind.MR), ("MRI", Kind.MR), ("t2_FLAIR", Kind.MR), ("PET", Kind.PET)]
    + [(name, Kind.OTHER) for name in ("noNorm", "zscore", "octopus", "reflection", "")],
)
def test_a_channels_name_tells_its_kind(name: str, kind: Kind) -> None:
    assert channel_kind(name) is kind


def test_the_digest_follows_content_and_not_places(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("0.nii", "1.nii", "r.nii"):
            (tmp_path / folder / name).write_bytes(name.encode())
    first, second = (made_up("AB", tmp_path / folder) for folder in ("one", "two"))
    assert digest(first) == digest(Dataset("other name", ("CT",), LABELS, second.cases[::-1]))
    (tmp_path / "two" / "1.nii").write_bytes(b"changed")
    assert digest(first) != digest(second)
    assert digest(first) != digest(made_up("AA", tmp_path / "one"))


def test_the_digest_of_a_dicom_folder_follows_its_slices(tmp_path: Path) -> None:
    write(tmp_path, "series/1.dcm", "series/2.dcm", "series/.DS_Store")
    dataset = from_pairs([([tmp_path / "series"], None)], LABELS, channels=["CT"])
    before = digest(dataset)
    (tmp_path / "series/.DS_Store").write_bytes(b"other")
    assert digest(dataset) == before
    (tmp_path / "series/2.dcm").rename(tmp_path / "series/3.dcm")
    assert digest(dataset) != before


@pytest.mark.parametrize(("settled_ns", "reads"), [(-1, 2), (10**15, 3)])
def test_a_file_is_read_again_when_it_changed_or_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled_ns: int, reads: int
) -> None:
    path, read, hash_file = tmp_path / "1.nii", list[Path](), cases._hash

    def noted(file: Path) -> str:
        read.append(file)
        return hash_file(file)

    monkeypatch.setattr(cases, "_SETTLED_NS", settled_ns)
    monkeypatch.setattr(cases, "_hash", noted)
    path.write_bytes(b"first")
    before = fingerprint_file(path)
    assert fingerprint_file(path) == before
    path.write_bytes(b"other")
    os.utime(path, ns=(0, 0))
    assert fingerprint_file(path) != before
    assert len(read) == reads


def test_the_digest_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is missing \(case case0, .*0.nii\)"):
        digest(made_up("A", tmp_path))


@given(patients=st.text("ABCDEFG", min_size=4).filter(lambda p: len(set(p)) >= 3), seed=st.integers(0, 99))
def test_folds_cover_all_cases_once_and_keep_patients_whole(patients: str, seed: int) -> None:
    dataset = made_up(patients)
    splits = k_folds(dataset, 3, seed=seed, dataset_digest="d")
    assert sorted(i for s in splits for i in s.validation) == sorted(case.id for case in dataset.cases)
    for split in splits:
        assert len(split.training) + len(split.validation) == len(patients)
        check_split(split, dataset)


def test_folds_are_even_and_follow_the_seed() -> None:
    dataset = made_up("AAABBCDEFGHI")
    splits = k_folds(dataset, 3, seed=1, dataset_digest="d")
    assert [len(split.validation) for split in splits] == [4, 4, 4]
    backwards = Dataset("", ("CT",), LABELS, dataset.cases[::-1])
    again = k_folds(backwards, 3, seed=1, dataset_digest="d")
    assert [set(s.validation) for s in again] == [set(s.validation) for s in splits]
    others = k_folds(dataset, 3, seed=2, dataset_digest="d")
    assert {frozenset(s.validation) for s in others} != {frozenset(s.validation) for s in splits}


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"expected at least 3 patients, got 2 \(4 cases\)"):
        k_folds(made_up("AABB"), 3, seed=0, dataset_digest="d")


def test_one_fold_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 2 folds"):
        k_folds(made_up("AB"), 1, seed=0, dataset_digest="d")


def test_holding_out_the_last_takes_earlier_cases_of_their_patients() -> None:
    split = hold_out_last(made_up("ABCDBE"), 2, dataset_digest="d")
    assert split.training == ("case0", "case2", "case3")
    assert split.validation == ("case1", "case4", "case5")
    assert split.how == "the last 2 cases held out, with 1 earlier of the same patients"


def test_holding_out_every_patient_is_refused() -> None:
    with pytest.raises(DatasetError, match="leaves none to train on"):
        hold_out_last(made_up("ABA"), 2, dataset_digest="d")


def test_splits_leave_out_cases_without_reference(tmp_path: Path) -> None:
    pairs = [([Path(f"{n}.nii")], None if n == 1 else Path(f"{n}.nii")) for n in range(3)]
    dataset = from_pairs(pairs, LABELS, channels=["CT"])
    assert train_on_all(dataset, dataset_digest="d") == Split(("0", "2"), (), "d", "all cases train, none validates")


def test_splits_without_any_reference_are_refused() -> None:
    dataset = from_pairs([([Path("a.nii")], None)], LABELS, channels=["CT"])
    with pytest.raises(DatasetError, match="no case with a reference"):
        train_on_all(dataset, dataset_digest="d")


def test_repeated_ids_cannot_be_split() -> None:
    case = made_up("A").cases[0]
    with pytest.raises(DatasetError, match="occur twice"):
        train_on_all(Dataset("", ("CT",), LABELS, (case, case)), dataset_digest="d")


def test_a_split_reads_back_the_same() -> None:
    split = Split(("a", "b"), ("ü",), "d", "by hand")
    assert split_from_json(split_to_json(split)) == split


@pytest.mark.parametrize("text", ["", "[]", '{"training": ["a"]}', '{"training": 1}'])
def test_text_that_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(DatasetError, match="not a split"):
        split_from_json(text)


@pytest.mark.parametrize(
    ("training", "validation", "held_out", "message"),
    [
        (("case0",), ("case1",), (), "patients both in training and in validation"),
        (("case0",), ("case2",), ("case1",), "patients both in training and in the held-out cases"),
        (("case2",), ("case0",), ("case1",), "patients both in validation and in the held-out cases"),
        (("case0", "case0"), ("case2",), (), "names cases twice"),
        (("case0",), (), ("case0",), "names cases twice"),
        (("case0",), ("nobody",), (), r"no case of this id \(case nobody\)"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(
    training: tuple[str, ...], validation: tuple[str, ...], held_out: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        check_split(Split(training, validation, "d", "", held_out), made_up("AAB"))


def test_held_out_cases_need_not_be_in_the_dataset() -> None:
    check_split(Split(("case0",), ("case2",), "d", "", held_out=("elsewhere",)), made_up("AAB"))


@pytest.mark.parametrize(("name", "kind", "labels"), [("hippocampus", Kind.MR, 2), ("headneck", Kind.CT, 7)])
def test_real_datasets_open(name: str, kind: Kind, labels: int) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"no shared data: {name}")
    dataset = open_dataset(DATA / name)
    assert (dataset.kinds, len(dataset.labels)) == ((kind,), labels)
    assert all(path.is_file() for case in dataset.cases for path in (*case.images, case.reference or Path()))
    assert len({case.patient_id for case in dataset.cases}) == len(dataset.cases) >= 120


def test_a_table_beside_a_dataset_json_is_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}')
    (tmp_path / "pairs.csv").write_text("image,label,patient_id,site\nx/a.nii.gz,y/a.nii.gz,p1,north\n")
    dataset = open_dataset(tmp_path / "pairs.csv")
    assert (dataset.channels, dataset.labels.names) == (("CT",), ("liver",))
    assert (dataset.cases[0].patient_id, dataset.cases[0].site) == ("p1", "north")
    assert dataset.cases[0].reference == tmp_path / "y" / "a.nii.gz"
