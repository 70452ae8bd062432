"""Approved labels become training cases: by name, once, with who signed them, and nothing is lost on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anatomy import write_blobs
from reviewed_cases import NOON, SEEN, approval, approved, new_case

from delineate import formats
from delineate.dataset import Case, check_files, open_dataset, put_cases
from delineate.errors import DatasetError, LabelError
from delineate.labels import label_set, make_regions, region_labels
from delineate.review.exports import Reviewed
from delineate.review.records import ReviewCase, State, Verdict
from delineate.review.training_cases import Added, add_reviewed
from delineate.review.training_labels import accepted, painted
from delineate.review.training_records import read_training_record
from delineate.volume import Segmentation, align, from_values


def add(folder: Path, *cases: Reviewed, **options: Any) -> Added:
    by_key = {what.case.new.key: what for what in cases}
    return add_reviewed(folder, [what.case for what in cases], lambda case: by_key[case.new.key], **options)


@pytest.fixture
def case(tmp_path: Path) -> Reviewed:
    return approved(tmp_path)


def test_a_new_dataset_trains_on_what_was_approved(tmp_path: Path, case: Reviewed) -> None:
    assert add(tmp_path / "set", case).added == ("p1",)
    dataset = open_dataset(tmp_path / "set")
    assert (dataset.channels, dataset.labels.names) == (("MR",), ("core", "rim"))
    assert check_files(dataset) == []
    (one,) = dataset.cases
    assert (one.patient_id, one.site) == ("P-p1", "North")
    assert one.reference is not None
    back = align(formats.read_segmentation(one.reference, dataset.labels), case.segmentation.grid)
    np.testing.assert_array_equal(back.array, case.segmentation.array)
    scan, stored = formats.read_volume(case.case.new.scan), formats.read_volume(one.images[0])
    np.testing.assert_array_equal(scan.array, stored.array)


def test_labels_are_mapped_by_name_and_other_cases_stay(tmp_path: Path, case: Reviewed) -> None:
    folder = tmp_path / "set"
    write_blobs(folder, 2, labels=label_set({1: "rim", 2: "core", 7: "cyst"}))
    facts = json.loads((folder / "dataset.json").read_text()) | {"licence": "CC0"}
    facts["training"][0]["quality"] = "good"
    (folder / "dataset.json").write_text(json.dumps(facts))
    made = add(folder, case)
    # The last cases are those that a training sets aside.
    assert [one.id for one in open_dataset(folder).cases] == ["p1", "blob_0", "blob_1"]
    after = json.loads((folder / "dataset.json").read_text())
    assert (after["licence"], after["training"][1]["quality"], after["numTraining"]) == ("CC0", "good", 3)
    values, _ = formats.read_label_values(folder / "labelsTr" / "p1.nii.gz")
    assert np.count_nonzero(values == 2) == np.count_nonzero(case.segmentation.array == 1)
    assert made.remarks[0].startswith("1 case(s) say nothing of cyst")
    assert "--missing-labels unknown" in made.remarks[0]


def test_the_same_review_twice_adds_nothing(tmp_path: Path, case: Reviewed) -> None:
    add(tmp_path / "set", case)
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert add(tmp_path / "set", case) == Added(unchanged=("p1",))
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == before


def test_a_newer_approval_replaces_labels_and_keeps_a_note(tmp_path: Path, case: Reviewed) -> None:
    add(tmp_path / "set", case)
    seen = "77" * 32
    newer = replace(
        case,
        case=replace(case.case, revision=2),
        segmentation=case.model,
        seen=seen,
        decisions=(*case.decisions, approval("klein", revision=2, seen=seen, minutes=60)),
    )
    assert add(tmp_path / "set", newer).replaced == ("p1",)
    record = read_training_record(tmp_path / "set", "p1")
    assert record is not None
    assert (record.now.seen, [one.seen for one in record.earlier]) == (seen, [SEEN])
    assert [one.signature for one in record.now.signatures] == ["Anna Klein"]
    dataset = open_dataset(tmp_path / "set")
    back = formats.read_segmentation(tmp_path / "set" / "labelsTr" / "p1.nii.gz", dataset.labels)
    np.testing.assert_array_equal(align(back, case.model.grid).array, case.model.array)


def test_labels_from_elsewhere_stay(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_blobs(folder, 1)
    new, result = new_case(tmp_path, key="blob_0", seed=0, dicom=False)
    case = Reviewed(ReviewCase(1, new, State.APPROVED, 0), result, SEEN, result, (approval(revision=0),))
    before = (folder / "labelsTr" / "blob_0.nii.gz").read_bytes()
    made = add(folder, case)
    assert made.changed == ()
    assert "come from no review" in made.refused[0]
    assert (folder / "labelsTr" / "blob_0.nii.gz").read_bytes() == before


def test_a_scan_without_labels_gets_them_under_its_own_name(tmp_path: Path) -> None:
    case = approved(tmp_path, dicom=False)
    folder = tmp_path / "set"
    write_blobs(folder, 1)
    target = folder / "imagesTr" / "other_0000.nii.gz"
    target.write_bytes(case.case.new.scan.read_bytes())
    put_cases(folder, [Case("other", "patient 9", (target,), None)])
    assert add(folder, case).labelled == ("other",)
    one = open_dataset(folder).case("other")
    assert (one.patient_id, one.reference) == ("patient 9", folder / "labelsTr" / "other.nii.gz")
    assert not (folder / "imagesTr" / "p1_0000.nii.gz").exists()


def test_what_is_not_approved_stays_out(tmp_path: Path, case: Reviewed) -> None:
    changed = replace(case, case=replace(case.case, revision=2))
    made = add(tmp_path / "set", changed)
    assert made.refused == ("nothing of it is approved as it is now: got approved with edits (case p1)",)
    assert not (tmp_path / "set" / "dataset.json").exists()


def test_rejected_structures_are_left_out(case: Reviewed) -> None:
    part = replace(approval(minutes=1), structure=2, verdict=Verdict.REJECT, reason="leaks")
    assert accepted(replace(case, decisions=(*case.decisions, part)))[0] == {"core"}
    again = replace(part, verdict=Verdict.APPROVE, made=NOON.replace(hour=20))
    assert accepted(replace(case, decisions=(*case.decisions, part, again)))[0] == {"core", "rim"}
    rejected = replace(case, case=replace(case.case, state=State.REJECTED), decisions=(again,))
    assert accepted(rejected) == (frozenset({"rim"}), (again,))


def test_where_a_dataset_ignores_nothing_is_taught_of_what_is_not_known(case: Reviewed) -> None:
    labels = replace(label_set({1: "core", 2: "rim"}), ignore=3)
    values = painted(case.segmentation, labels, {"core"})
    np.testing.assert_array_equal(np.unique(values), [1, 3])
    np.testing.assert_array_equal(values == 1, case.segmentation.mask("core"))
    assert 3 not in painted(case.segmentation, labels, {"core", "rim"})


def test_overlapping_structures_go_into_regions_or_nowhere(case: Reviewed) -> None:
    core = case.segmentation.mask("core")
    whole = core | case.segmentation.mask("rim")
    names = label_set({1: "whole", 2: "core"}, overlaps=True)
    nested = Segmentation(np.stack([whole, core]), case.segmentation.grid, names)
    regions = region_labels(make_regions({"whole": (1, 2), "core": (2,)}))
    back = from_values(painted(nested, regions, {"whole", "core"}), nested.grid, regions)
    np.testing.assert_array_equal(back.mask("whole"), whole)
    np.testing.assert_array_equal(back.mask("core"), core)
    with pytest.raises(LabelError, match="structures overlap"):
        painted(nested, label_set({1: "whole", 2: "core"}), {"whole", "core"})


def test_a_patient_that_a_model_was_tested_on_is_named(
    tmp_path: Path, case: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Provenance:
        held_out_cases = ("old_scan", "blob_0")
        validation_cases = ("blob_1",)

    folder = tmp_path / "set"
    dataset = write_blobs(folder, 2)
    put_cases(folder, [replace(dataset.cases[0], id="old_scan", patient_id="P-p1")])
    monkeypatch.setattr("delineate.model.read_provenance", lambda path: (Provenance(), "digest"))
    (remark,) = add(folder, case, model=tmp_path / "liver").remarks
    assert remark.startswith("1 patient(s) of these are among those that liver was tested on: P-p1.")


def test_cases_of_several_channels_are_refused(tmp_path: Path, case: Reviewed) -> None:
    folder = tmp_path / "set"
    write_blobs(folder, 1)
    facts = json.loads((folder / "dataset.json").read_text()) | {"channel_names": {"0": "T1", "1": "T2"}}
    (folder / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(DatasetError, match="one scan"):
        add(folder, case)


def test_no_label_in_common_is_said(tmp_path: Path, case: Reviewed) -> None:
    folder = tmp_path / "set"
    write_blobs(folder, 1, labels=label_set({1: "a", 2: "b"}))
    assert "no structure of the dataset" in add(folder, case).refused[0]
