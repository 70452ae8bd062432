"""Measurement reports: numbers come back, tied to their segments, and other programs can read them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from seg_scans import edited, series, structures

from delineate.errors import DelineateError, ExportError, UnreadableImage
from delineate.findings import MILLILITRE, VOLUME, Finding, Spread, volumes_ml
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.seg_writing import Algorithm, write_seg
from delineate.formats.dicom_results.sr import read_sr, write_sr
from delineate.labels import Code, Label, label_set
from delineate.measurement import quantities

DATA = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "seg"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/dicom/seg is not there")
LABELS = label_set({2: "left_kidney", 7: "odd one", 300: "liver tumor", 301: "empty"})
DIAMETER = Code("81827009", "SCT", "Diameter")
MILLIMETRE = Code("mm", "UCUM", "mm")


def written(folder: Path) -> tuple[list[Path], tuple[Finding, ...]]:
    """Source files and findings; the report is sr.dcm, its segmentation seg.dcm."""
    files, grid = series(folder / "ct")
    segmentation = structures(grid, labels=LABELS)
    findings = (*volumes_ml(segmentation), Finding(LABELS.named("liver tumor"), DIAMETER, 12.3456789, MILLIMETRE))
    write_seg(folder / "seg.dcm", segmentation, files)
    write_sr(folder / "sr.dcm", findings, folder / "seg.dcm", sources=files)
    return files, findings


def test_numbers_come_back_exactly(tmp_path: Path) -> None:
    _, findings = written(tmp_path)
    found = read_sr(tmp_path / "sr.dcm")
    assert [m.tracking_id for m in found] == ["left_kidney", "odd one", "liver tumor", "liver tumor", "empty"]
    assert [m.value for m in found] == [findings[n].value for n in (0, 1, 2, 4, 3)]
    assert {(m.quantity, m.unit) for m in found} == {(VOLUME, MILLILITRE), (DIAMETER, MILLIMETRE)}


def test_numbers_point_to_their_segments(tmp_path: Path) -> None:
    written(tmp_path)
    seg = read_seg(tmp_path / "seg.dcm")
    uids = {segment.label.value: segment.tracking_uid for segment in seg.segments}
    for measured in read_sr(tmp_path / "sr.dcm"):
        assert measured.segment_number is not None
        assert seg.segments[measured.segment_number - 1].label.name == measured.tracking_id
        assert uids[measured.segment_number] == measured.tracking_uid
        assert (measured.segmentation_uid,) == seg.segmentation.source.instance_uids


def test_structures_are_their_own_site_and_lesions_are_not(tmp_path: Path) -> None:
    written(tmp_path)
    found = {measured.tracking_id: measured for measured in read_sr(tmp_path / "sr.dcm")}
    kidney = Code("64033007", "SCT", "Kidney")
    assert (found["left_kidney"].finding, found["left_kidney"].site) == (kidney, kidney)
    assert (found["liver tumor"].finding, found["liver tumor"].site) == (Code("108369006", "SCT", "Neoplasm"), None)


def test_every_quantity_statistic_and_unit_comes_back(tmp_path: Path) -> None:
    files, _ = written(tmp_path)
    codes = [code for code in vars(quantities).values() if isinstance(code, Code)]
    units = [code for code in codes if code.scheme == "UCUM"]
    tumor = LABELS.named("liver tumor")
    findings = [Finding(tumor, code, 1.5, units[0], derivation=code) for code in codes if code not in units]
    findings += [Finding(tumor, VOLUME, 2.5, unit) for unit in units]
    write_sr(tmp_path / "b.dcm", findings, tmp_path / "seg.dcm", sources=files)
    found = read_sr(tmp_path / "b.dcm")
    assert [(m.quantity, m.derivation, m.unit) for m in found] == [(f.quantity, f.derivation, f.unit) for f in findings]
    assert len({(code.value, code.scheme) for code in codes}) == len(codes) > 40
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in codes)  # VR SH and LO


def test_lesions_of_one_structure_are_apart(tmp_path: Path) -> None:
    files, _ = written(tmp_path)
    tumor = LABELS.named("liver tumor")
    findings = [Finding(tumor, VOLUME, float(n), MILLILITRE, component=n) for n in (2, 1)]
    write_sr(tmp_path / "b.dcm", [*findings, volumes(tumor)], tmp_path / "seg.dcm", sources=files)
    found = read_sr(tmp_path / "b.dcm")
    assert [(m.tracking_id, m.value) for m in found] == [
        ("liver tumor", 9.0),
        ("liver tumor, part 1", 1.0),
        ("liver tumor, part 2", 2.0),
    ]
    assert len({m.tracking_uid for m in found}) == 3
    assert len({m.segment_number for m in found}) == 1


def test_a_distance_says_to_what_and_how_sure(tmp_path: Path) -> None:
    files, _ = written(tmp_path)
    to_kidney = Finding(
        LABELS.named("liver tumor"),
        quantities.DISTANCE,
        4.0,
        MILLIMETRE,
        other=LABELS.named("left_kidney"),
        spread=Spread(3.5, 6.0, 1.0, "5 folds"),
    )
    write_sr(tmp_path / "b.dcm", [to_kidney], tmp_path / "seg.dcm", sources=files)
    (found,) = read_sr(tmp_path / "b.dcm")
    assert found.other == Code("64033007", "SCT", "Kidney")
    assert found.other_side == Code("7771000", "SCT", "Left")
    assert (found.upward, found.downward) == (2.0, 0.5)


def test_what_must_be_known_of_a_number_is_a_comment_of_its_group(tmp_path: Path) -> None:
    files, _ = written(tmp_path)
    cut = "touches the scan's border (foot): what lies outside is not measured"
    tumor = LABELS.named("liver tumor")
    findings = [replace(volumes(tumor), note=cut), Finding(tumor, quantities.LONG_AXIS, 4.0, MILLIMETRE, note=cut)]
    write_sr(tmp_path / "b.dcm", [*findings, volumes(LABELS.named("left_kidney"))], tmp_path / "seg.dcm", sources=files)
    report = pydicom.dcmread(tmp_path / "b.dcm").to_json()
    assert report.count(f"{cut} (Volume, Long Axis)") == 1
    assert [one.value for one in read_sr(tmp_path / "b.dcm")] == [9.0, 9.0, 4.0]


def volumes(label: Label) -> Finding:
    return Finding(label, VOLUME, 9.0, MILLILITRE)


def test_the_report_belongs_to_the_patient_and_study(tmp_path: Path) -> None:
    files, _ = written(tmp_path)
    source, report = pydicom.dcmread(files[0]), pydicom.dcmread(tmp_path / "sr.dcm")
    assert (report.PatientID, report.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert sorted(len(one.ReferencedSOPSequence) for one in evidence) == [1, 6]


def test_objects_say_when_they_were_made(tmp_path: Path) -> None:
    files, findings = written(tmp_path)
    made = datetime(2024, 5, 6, 7, 8, 9)
    write_seg(
        tmp_path / "seg.dcm",
        structures(series(tmp_path / "again")[1], labels=LABELS),
        files,
        algorithm=Algorithm(at=made),
    )
    write_sr(tmp_path / "sr.dcm", findings[:1], tmp_path / "seg.dcm", sources=files, created=made)
    for name in ("seg.dcm", "sr.dcm"):
        dataset = pydicom.dcmread(tmp_path / name)
        days = {str(e.value)[:8] for e in dataset.iterall() if e.VR in ("DA", "DT") and not e.is_empty}
        assert days == {"20240506"}
        assert (dataset.ContentTime, dataset.SeriesTime, dataset.InstanceCreationTime) == ("070809",) * 3


def test_findings_that_fit_no_segment(tmp_path: Path) -> None:
    files, findings = written(tmp_path)
    other = Finding(label_set({1: "spleen"}).named("spleen"), VOLUME, 1.0, MILLILITRE)
    with pytest.raises(ExportError, match=r"that the segmentation does not have.*got \['spleen'\]"):
        write_sr(tmp_path / "b.dcm", [*findings, other], tmp_path / "seg.dcm", sources=files)
    with pytest.raises(ExportError, match="a report without findings"):
        write_sr(tmp_path / "b.dcm", [], tmp_path / "seg.dcm", sources=files)


def test_another_series_is_refused(tmp_path: Path) -> None:
    files, findings = written(tmp_path)
    for file in files:
        edited(file, lambda dataset: setattr(dataset, "SeriesInstanceUID", "1.2.3"))
    with pytest.raises(ExportError, match=r"made on another series than the images given.*got 1\.2\.3"):
        write_sr(tmp_path / "b.dcm", findings, tmp_path / "seg.dcm", sources=files)


def test_what_is_no_segmentation_or_report(tmp_path: Path) -> None:
    files, findings = written(tmp_path)
    with pytest.raises(UnreadableImage, match=r"not a DICOM segmentation: .* got CT"):
        write_sr(tmp_path / "b.dcm", findings, files[0], sources=files)
    with pytest.raises(UnreadableImage, match="not a structured report: expected SR, got CT"):
        read_sr(files[0])
    with pytest.raises(UnreadableImage, match="no such file"):
        read_sr(tmp_path / "none.dcm")


def test_damaged_reports_end_in_our_errors(tmp_path: Path) -> None:
    written(tmp_path)
    whole, rng = (tmp_path / "sr.dcm").read_bytes(), np.random.default_rng(7)
    for _ in range(60):
        damaged = np.frombuffer(whole[: rng.integers(200, len(whole))], dtype=np.uint8).copy()
        damaged[rng.integers(132, len(damaged), 6)] = rng.integers(0, 256, 6)
        (tmp_path / "bad.dcm").write_bytes(damaged.tobytes())
        try:
            found = read_sr(tmp_path / "bad.dcm")
        except DelineateError:
            continue
        assert all(np.isfinite(measured.value) for measured in found)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_reports_are_valid(tmp_path: Path) -> None:
    written(tmp_path)
    report = subprocess.run(["dciodvfy", tmp_path / "sr.dcm"], capture_output=True, text=True, check=False)
    assert report.returncode == 0
    assert "Error" not in report.stdout + report.stderr


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="dsrdump (dcmtk) is not installed")
def test_dcmtk_reads_the_report(tmp_path: Path) -> None:
    _, findings = written(tmp_path)
    report = subprocess.run(["dsrdump", tmp_path / "sr.dcm"], capture_output=True, text=True, check=True).stdout
    assert report.count('"Measurement Group"') == 4
    assert f'"Volume")="{findings[0].value:.6f}'.rstrip("0") in report
    assert 'CODE:(,,"Finding Site")=(64033007,SCT,"Kidney")' in report
    assert 'CODE:(,,"Laterality")=(7771000,SCT,"Left")' in report
    assert 'IMAGE:(,,"Referenced Segment")=(SG image,,3)' in report


@needs_data
@pytest.mark.parametrize(
    ("name", "quantity", "value", "unit"),
    [
        ("dcmqi/data/sr-example/sr.dcm", "SUVbw", 6.01529, "{SUVbw}g/ml"),
        ("highdicom/data/test_files/sr_document_with_multiple_groups.dcm", "Diameter", 10.0, "mm"),
    ],
)
def test_reports_of_others(name: str, quantity: str, value: float, unit: str) -> None:
    found = read_sr(DATA / name)
    assert (quantity, value, unit) in {(m.quantity.meaning, m.value, m.unit.value) for m in found}
