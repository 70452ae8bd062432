"""What was approved comes out exactly, and says who approved it; what was not is refused or marked."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from reviewed_cases import NOON, SEEN, approval, approved, edit

from delineate import formats
from delineate.errors import ExportError
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.dicom_results.approval import Approval, person_name
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.seg_writing import AlgorithmKind
from delineate.formats.exporters import ExportOptions
from delineate.labels import label_set
from delineate.review.export_formats import check_formats, formats_of
from delineate.review.exports import Reviewed, export_case, made_by, signed
from delineate.review.records import ReviewCase, State, Verdict
from delineate.volume import align, reorient
from delineate.workflow.exporting import export


@pytest.fixture
def case(tmp_path: Path) -> Reviewed:
    return approved(tmp_path)


def test_the_seg_holds_exactly_what_was_seen(tmp_path: Path, case: Reviewed) -> None:
    turned = replace(case, segmentation=reorient(case.segmentation, "SRA"), model=reorient(case.model, "SRA"))
    file, *_ = export_case(turned, ["seg"], tmp_path / "out")
    # The object leaves out planes without voxels.
    found = reorient(read_seg(file.path).segmentation, case.segmentation.grid.orientation)
    back = np.zeros_like(case.segmentation.array)
    first = np.rint(np.linalg.solve(case.segmentation.grid.affine, found.grid.affine[:, 3])[:3]).astype(int)
    box = tuple(slice(start, start + size) for start, size in zip(first, found.grid.shape, strict=True))
    back[box] = found.array
    np.testing.assert_array_equal(back, case.segmentation.array)


def test_the_seg_says_who_approved_and_what_was_edited(tmp_path: Path, case: Reviewed) -> None:
    file, *_ = export_case(case, ["seg"], tmp_path / "out")
    header = pydicom.dcmread(file.path)
    kinds = {str(one.SegmentLabel): one.SegmentAlgorithmType for one in header.SegmentSequence}
    # The corner where the core has grown was nobody's.
    assert kinds == {"core": "SEMIAUTOMATIC", "rim": "AUTOMATIC"}
    assert (header.ContentCreatorName, header.ContentDescription) == ("Anna Weiss", "Approved with edits")
    contribution = header.ContributingEquipmentSequence[-1]
    assert contribution.OperatorsName == "Anna Weiss"
    assert SEEN in contribution.ContributionDescription


def test_the_structure_set_is_approved(tmp_path: Path, case: Reviewed) -> None:
    file, *_ = export_case(case, ["rtstruct"], tmp_path / "out")
    header = pydicom.dcmread(file.path)
    assert (header.ApprovalStatus, header.ReviewerName) == ("APPROVED", "Anna Weiss")
    assert header.ReviewDate + header.ReviewTime == NOON.astimezone().strftime("%Y%m%d%H%M%S")
    assert [one.ROIGenerationAlgorithm for one in header.StructureSetROISequence] == ["SEMIAUTOMATIC", "AUTOMATIC"]
    assert {str(one.ROIInterpreter) for one in header.RTROIObservationsSequence} == {"Anna Weiss"}


def test_a_report_is_verified_by_both_readers(tmp_path: Path, case: Reviewed) -> None:
    both = replace(case, decisions=(approval(), replace(approval("klein", minutes=90), second=True)))
    _, file, *_ = export_case(both, ["sr"], tmp_path / "out")
    header = pydicom.dcmread(file.path)
    assert (header.VerificationFlag, header.PreliminaryFlag) == ("VERIFIED", "FINAL")
    assert [str(one.VerifyingObserverName) for one in header.VerifyingObserverSequence] == ["Anna Weiss", "Anna Klein"]
    assert header.VerifyingObserverSequence[1].VerificationDateTime == "20260304140000+0000"
    assert header.VerifyingObserverSequence[0].VerifyingOrganization == "North"


def test_files_say_in_json_who_saw_what(tmp_path: Path, case: Reviewed) -> None:
    *files, record = export_case(case, ["nifti", "stl", "glb"], tmp_path / "out")
    content = json.loads(record.path.read_text())
    assert (content["approved"], content["signers"], content["seen"]) == (True, ["Anna Weiss"], SEEN)
    assert content["structures"] == {"core": "SEMIAUTOMATIC", "rim": "AUTOMATIC"}
    assert [one["name"] for one in content["files"]] == [file.name for file in files]
    assert content["edits"] == [{"person": "weiss", "tool": "brush", "count": 1}]
    back = formats.read_segmentation(files[0].path, case.segmentation.labels)
    np.testing.assert_array_equal(align(back, case.segmentation.grid).array, case.segmentation.array)
    with zipfile.ZipFile(files[1].path) as archive:
        assert archive.namelist() == ["p1_stl/core.stl", "p1_stl/rim.stl"]


def test_the_json_speaks_of_earlier_files_of_the_same_that_are_as_they_were(tmp_path: Path, case: Reviewed) -> None:
    first, *_ = export_case(case, ["nifti", "nrrd"], tmp_path / "out")
    first.path.write_bytes(b"another")
    record = export_case(case, ["glb"], tmp_path / "out")[-1]
    assert [one["name"] for one in json.loads(record.path.read_text())["files"]] == ["p1.seg.nrrd", "p1.glb"]
    signed_by_another = replace(case, decisions=(approval("klein"),))
    record = export_case(signed_by_another, ["glb"], tmp_path / "out")[-1]
    assert [one["name"] for one in json.loads(record.path.read_text())["files"]] == ["p1.glb"]


def test_formats_that_do_not_fit_a_case_say_why(tmp_path: Path) -> None:
    def fits(case: ReviewCase) -> dict[str, str | None]:
        return {one.format: one.problem for one in formats_of(case)}

    series, plain = (approved(tmp_path / name, dicom=name == "d").case for name in "dn")
    assert set(fits(series).values()) == {None}
    assert {kind for kind, why in fits(plain).items() if why and "DICOM series" in why} == {"seg", "rtstruct", "sr"}
    overlapping = replace(plain, new=replace(plain.new, overlaps=True))
    assert {kind for kind, why in fits(overlapping).items() if why and "overlap" in why} == {"nifti"}
    named = replace(series.new, structures=(replace(series.new.structures[0], name="a\\b"),))
    assert {kind for kind, why in fits(replace(series, new=named)).items() if why} == {"seg", "rtstruct", "sr"}
    with pytest.raises(ExportError, match=r"as seg: a DICOM series is needed.*Choose among nifti, glb, stl, report"):
        check_formats(plain, ("glb", "seg"))


def test_the_page_says_who_reviewed_it(tmp_path: Path, case: Reviewed) -> None:
    files = {file.format: file.path for file in export_case(case, ["report"], tmp_path / "out")}
    page = files["report"].read_text()
    assert f"Reviewed by Anna Weiss on {NOON.astimezone():%Y-%m-%d}" in page
    assert SEEN in page
    assert "Secret" not in page


def test_what_is_not_approved_is_refused(tmp_path: Path, case: Reviewed) -> None:
    waiting = replace(case, case=replace(case.case, state=State.AWAITING_SECOND))
    with pytest.raises(ExportError, match=r"not approved.*got awaiting second.*draft"):
        export_case(waiting, ["seg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_differs_from_what_was_seen_is_refused(tmp_path: Path, case: Reviewed) -> None:
    with pytest.raises(ExportError, match="not what was approved"):
        export_case(replace(case, seen="0" * 64), ["nifti"], tmp_path / "out")


def test_a_draft_is_marked_as_one(tmp_path: Path, case: Reviewed) -> None:
    open_case = replace(case, case=replace(case.case, state=State.IN_REVIEW), decisions=())
    kinds = ["rtstruct", "seg", "sr"]
    structures, seg, report, record = export_case(open_case, kinds, tmp_path / "out", draft=True)
    assert {file.name.split(".", 1)[1].split(".")[0] for file in (structures, seg, report, record)} == {"draft"}
    assert pydicom.dcmread(structures.path).ApprovalStatus == "UNAPPROVED"
    assert pydicom.dcmread(seg.path).ContentDescription == "Draft: not approved"
    assert (header := pydicom.dcmread(report.path)).VerificationFlag == "UNVERIFIED"
    assert header.PreliminaryFlag == "PRELIMINARY"
    assert json.loads(record.path.read_text())["approved"] is False


def test_exporting_again_keeps_segments_and_report_together(tmp_path: Path, case: Reviewed) -> None:
    export_case(case, ["sr"], tmp_path / "out")
    assert [file.format for file in export_case(case, ["seg"], tmp_path / "out")] == ["seg", "sr", "review"]


def test_drawn_by_hand_is_what_no_algorithm_proposed(case: Reviewed) -> None:
    nothing = replace(case.model, array=np.zeros_like(case.model.array))
    assert set(made_by(nothing, case.segmentation, [edit()]).values()) == {AlgorithmKind.MANUAL}
    proposed = made_by(nothing, case.segmentation, [edit(), edit(tool="proposal")])
    assert set(proposed.values()) == {AlgorithmKind.SEMIAUTOMATIC}
    masks = replace(
        case.model,
        array=np.stack([case.model.array == 1, case.model.array == 2]),
        labels=label_set({1: "core", 2: "rim"}, overlaps=True),
    )
    assert set(made_by(masks, replace(masks), [edit()]).values()) == {AlgorithmKind.AUTOMATIC}


def test_signatures_are_of_what_is_there() -> None:
    first, again = approval(), approval(minutes=5)
    second = replace(approval("klein", minutes=9), second=True)
    assert signed([second, first, again], revision=1, seen=SEEN) == (again, second)
    assert signed([replace(first, revision=0), second], revision=1, seen=SEEN) == (second,)
    rejected = replace(approval("klein", minutes=7), verdict=Verdict.REJECT)
    assert signed([first, rejected], revision=1, seen=SEEN) == ()
    assert signed([first, rejected, approval(minutes=11)], revision=1, seen=SEEN) == (approval(minutes=11),)
    assert signed([first], revision=2, seen=SEEN) == ()


def test_an_approval_stays_out_of_pseudonymous_objects(tmp_path: Path, case: Reviewed) -> None:
    stack = formats.stack_at(case.case.new.scan)
    options = ExportOptions(
        sources=tuple(slice_.path for slice_ in stack.slices), approval=Approval((), {}, "Approved", SEEN)
    )
    with pytest.raises(ExportError, match="beside a pseudonym"):
        export(case.segmentation, tmp_path / "x", ["seg"], options=options, key=PseudonymKey(bytes(32)))


def test_a_name_is_written_as_it_was_signed() -> None:
    assert person_name("Ana  Núñez^MD\\x=") == "Ana Núñez MD x"
    assert len(person_name("n" * 100)) == 64


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("state", [State.APPROVED_WITH_EDITS, State.IN_REVIEW])
def test_approvals_and_drafts_keep_to_the_standard(tmp_path: Path, case: Reviewed, state: State) -> None:
    # The rim is drawn by hand: its segment has no algorithm.
    array = np.where(case.model.array == 2, 0, case.model.array).astype(np.uint8)
    drawn = replace(case, model=replace(case.model, array=array), case=replace(case.case, state=state))
    made = export_case(drawn, ["seg", "sr", "rtstruct"], tmp_path / "out", draft=True)
    paths = [file.path for file in made if file.path.suffix == ".dcm"]
    assert len(paths) == 3
    for path in paths:
        said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []
