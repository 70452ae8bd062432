"""`delineate measure`: from files to tables, findings.json, findings.csv, FHIR and a structured report."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anatomy import blob_case
from click.testing import CliRunner, Result
from rich.console import Console

from delineate import formats
from delineate.cli import main
from delineate.errors import InputError
from delineate.findings import Finding, Spread
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.sr import read_sr
from delineate.formats.exporters import ExportOptions
from delineate.formats.nrrd_files import write_nrrd
from delineate.labels import label_set
from delineate.measurement.quantities import LONG_AXIS, MILLILITRE, MILLIMETRE, SHORT_AXIS, VOLUME
from delineate.reports.finding_tables import findings_tables
from delineate.volume import Segmentation, Volume, align
from delineate.workflow.exporting import export, files_of
from delineate.workflow.finding_files import COLUMNS, FindingsFile, read_json
from delineate.workflow.results import ResultRecord, write_record
from delineate.workflow.structures import read_any_segmentation, read_scan

LIVER = label_set({1: "tumour", 2: "liver"})


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["measure", *(str(word) for word in words)], catch_exceptions=False)


def write_case(folder: Path, name: str = "p1", *, seed: int = 5) -> tuple[Path, Path]:
    """A tumour in a liver as a label map with what predict writes beside it, and the scan."""
    volume, blobs = blob_case(seed)
    segmentation = replace(blobs, labels=LIVER)
    results, scan = folder / "results" / f"{name}.nii.gz", folder / "scans" / f"{name}_0000.nii.gz"
    formats.write_segmentation(results, segmentation)
    formats.write_volume(scan, volume)
    labels = dict(zip(LIVER.names, LIVER.values, strict=True))
    record = ResultRecord(case=name, labels=labels, volumes_ml={}, model="5a" * 32, series_uid=None, seconds=1.0)
    write_record(results, record)
    return results, scan


def found_in(folder: Path) -> FindingsFile:
    return read_json(folder / "findings.json")


def test_a_case_is_measured_into_tables_and_files(tmp_path: Path) -> None:
    results, scan = write_case(tmp_path)
    result = call(results, "--image", scan, "-o", tmp_path / "out", "--structures", "liver")
    assert result.exit_code == 0, result.output
    assert "in liver" in result.output
    (case,) = found_in(tmp_path / "out").cases
    assert (case.case, case.segmentation, case.image) == ("p1", "p1.nii.gz", "p1_0000.nii.gz")
    (tumour,) = case.lesions
    assert (tumour.structure, tumour.lesion, tumour.organ) == ("tumour", 1, "liver")
    mask = blob_case(5)[1].array == 1
    volume = next(one for one in case.findings if one.lesion == 1 and one.quantity.meaning == "Volume")
    assert volume.value == pytest.approx(mask.sum() * 0.9 * 1.2 * 2.5 / 1000)
    assert (volume.unit.value, volume.quantity.scheme) == ("ml", "SCT")


def test_the_table_for_spreadsheets_has_the_same_numbers(tmp_path: Path) -> None:
    results, _ = write_case(tmp_path)
    call(results, "-o", tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "findings.csv").read_text().splitlines()))
    (case,) = found_in(tmp_path / "out").cases
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["value"]) for row in rows] == [one.value for one in case.findings]
    assert [row["lesion"] for row in rows] == ["" if one.lesion is None else str(one.lesion) for one in case.findings]


def test_every_quantity_in_the_file_is_defined(tmp_path: Path) -> None:
    results, scan = write_case(tmp_path)
    call(results, "--image", scan, "-o", tmp_path, "--organ", "liver", "--margin-mm", 2)
    found = found_in(tmp_path)
    assert {one.quantity.value for one in found.cases[0].findings} == set(found.definitions)
    assert not found.reviewed


def test_a_folder_is_measured_case_by_case_and_a_broken_one_is_said(tmp_path: Path) -> None:
    write_case(tmp_path, "p1")
    write_case(tmp_path, "p2", seed=6)
    (tmp_path / "results" / "p3.nii.gz").write_bytes(b"no image")
    formats.write_volume(tmp_path / "scans" / "p3.nii.gz", blob_case(5)[0])
    result = call(tmp_path / "results", "--image", tmp_path / "scans", "-o", tmp_path / "out")
    assert result.exit_code == 1
    found = found_in(tmp_path / "out")
    assert [case.case for case in found.cases] == ["p1", "p2"]
    assert len(found.problems) == 1
    assert "p3" in found.problems[0]
    assert "not measured: " in result.output


def test_a_case_without_its_scan_is_a_problem_and_not_measured_by_half(tmp_path: Path) -> None:
    write_case(tmp_path, "p1")
    _, scan = write_case(tmp_path, "p2")
    scan.unlink()
    result = call(tmp_path / "results", "--image", tmp_path / "scans", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "the folder has no scan of this case" in found_in(tmp_path / "out").problems[0]


def test_a_scan_of_other_voxels_is_refused(tmp_path: Path) -> None:
    results, _ = write_case(tmp_path)
    volume, _ = blob_case(5, shape=(21, 16, 12))
    formats.write_volume(tmp_path / "other.nii.gz", volume)
    result = call(results, "--image", tmp_path / "other.nii.gz", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "do not lie in the same place" in result.output


def test_other_results_give_the_spread(tmp_path: Path) -> None:
    results, _ = write_case(tmp_path / "a")
    others = [write_case(tmp_path / name, seed=seed)[0] for name, seed in (("b", 6), ("c", 7))]
    result = call(results, *(word for one in others for word in ("--variants", one)), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (case,) = found_in(tmp_path / "out").cases
    spread = next(one.spread for one in case.findings if one.quantity.meaning == "Volume" and one.structure == "liver")
    volumes = [float((blob_case(seed)[1].array == 2).sum()) * 0.0027 for seed in (5, 6, 7)]
    assert spread is not None
    assert (spread.lowest, spread.highest) == pytest.approx((min(volumes), max(volumes)))
    assert spread.over == "3 results"


def test_a_resection_is_planned_from_the_command_line(tmp_path: Path) -> None:
    results, _ = write_case(tmp_path)
    plane = "-31,14.5,207.25,0,0,1"
    words = ("--organ", "liver", "--plane", plane, "--height-cm", 180, "--weight-kg", 80, "-o", tmp_path / "out")
    result = call(results, *words)
    assert result.exit_code == 0, result.output
    assert "Planned resection: liver" in result.output
    values = {one.quantity.meaning: one.value for one in found_in(tmp_path / "out").cases[0].findings}
    assert values["Volume estimated from body size"] == pytest.approx(1740.15)
    assert values["Remnant volume"] == pytest.approx(values["Volume without lesions"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lesions", "cyst"), "no such label"),
        (("--margin-mm", 5), "which organ is resected is not said"),
        (("--organ", "liver"), "what is taken away"),
        (("--height-cm", 180), "belong together"),
        (("--plane", "1,2,3"), "expected 6 numbers"),
        (("--organ", "liver", "--plane", "1,2,3,0,0,0"), "not a plane"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[object, ...], said: str) -> None:
    results, _ = write_case(tmp_path)
    result = call(results, *words, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.output


def series_and_segmentation(folder: Path) -> tuple[Path, Segmentation]:
    volume, blobs = blob_case(5)
    formats.write_dicom_series(folder / "series", volume, patient_id="P1", patient_name="", seed="x")
    grid = formats.stack_at(folder / "series").grid
    return folder / "series", align(replace(blobs, labels=LIVER), grid)


def test_a_report_carries_the_findings_of_structures_and_lesions(tmp_path: Path) -> None:
    series, segmentation = series_and_segmentation(tmp_path)
    formats.write_segmentation(tmp_path / "p1.nii.gz", segmentation)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1, "liver": 2}}))
    words = (
        "--labels",
        tmp_path / "dataset.json",
        "--image",
        series,
        "--sr",
        series,
        "--fhir",
        "--structures",
        "tumour",
    )
    result = call(tmp_path / "p1.nii.gz", *words, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    written = read_sr(tmp_path / "out" / "p1.sr.dcm")
    (case,) = found_in(tmp_path / "out").cases
    assert sorted(one.value for one in written) == pytest.approx(sorted(one.value for one in case.findings))
    assert {one.tracking_id for one in written} == {"tumour", "tumour, part 1"}
    bundle = json.loads((tmp_path / "out" / "p1.fhir.json").read_text())
    assert len(bundle["entry"]) == len(case.findings) + 1


def test_contours_and_segments_are_measured_like_label_maps(tmp_path: Path) -> None:
    series, segmentation = series_and_segmentation(tmp_path)
    sources = files_of(formats.stack_at(series))
    write_rtstruct(tmp_path / "structures.dcm", segmentation, sources)
    write_nrrd(tmp_path / "p1.seg.nrrd", segmentation)
    export(segmentation, tmp_path / "p1", ["seg"], options=ExportOptions(sources=sources))
    for path in (tmp_path / "structures.dcm", tmp_path / "p1.seg.nrrd", tmp_path / "p1.seg.dcm"):
        found = read_any_segmentation(path, grid=segmentation.grid)
        assert set(found.labels.names) == {"tumour", "liver"}
        assert (found.mask("tumour") == segmentation.mask("tumour")).all()
    with pytest.raises(InputError, match="contours have no voxels"):
        read_any_segmentation(tmp_path / "structures.dcm")


def test_values_stand_for_names_where_nothing_says_them(tmp_path: Path) -> None:
    formats.write_segmentation(tmp_path / "p1.nii.gz", blob_case(5)[1])
    assert read_any_segmentation(tmp_path / "p1.nii.gz").labels.names == ("value 1", "value 2")


def test_what_a_scan_measures_is_not_guessed_from_a_name(tmp_path: Path) -> None:
    volume, _ = blob_case(5)
    formats.write_volume(tmp_path / "pt_100.nii.gz", volume)
    assert read_scan(tmp_path / "pt_100.nii.gz").kind.value == "other"
    body = Volume(np.linspace(-1000, 1200, volume.array.size).reshape(volume.array.shape), volume.grid)
    formats.write_volume(tmp_path / "p1.nii.gz", body)
    assert read_scan(tmp_path / "p1.nii.gz").kind.value == "CT"


def test_names_are_never_those_of_another_file(tmp_path: Path) -> None:
    results, _ = write_case(tmp_path)
    for name in ("dataset.json", "names.json"):
        (tmp_path / name).write_text('{"labels": {"background": 0, "spleen": 1}}')
    result = call(results, "--labels", tmp_path / "names.json", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "from a dataset.json only" in result.output


def test_a_scan_without_numbers_is_said_and_measures_nothing(tmp_path: Path) -> None:
    results, scan = write_case(tmp_path)
    volume, _ = blob_case(5)
    formats.write_volume(scan, replace(volume, array=np.full(volume.array.shape, np.nan, dtype=np.float32)))
    result = call(results, "--image", scan, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (case,) = found_in(tmp_path / "out").cases
    assert [one for one in case.warnings if one.startswith("liver: the scan has no number in ")]
    assert not [one for one in case.findings if one.statistic is not None]


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_and_show_spreads(width: int) -> None:
    liver = LIVER.named("liver")
    spread = Spread(1400.0, 1625.0, 80.0, "3 results")
    findings = [
        Finding(liver, VOLUME, 1500.0, MILLILITRE, spread=spread),
        Finding(liver, LONG_AXIS, 210.04, MILLIMETRE),
        Finding(liver, SHORT_AXIS, 140.0, MILLIMETRE),
        Finding(replace(liver, name="kidney\x1b[31m"), VOLUME, 0.0, MILLILITRE),
    ]
    console = Console(width=width, record=True, file=io.StringIO())
    for table in findings_tables(findings, title="p1"):
        console.print(table)
    text = console.export_text()
    assert "(1400–1625)" in text
    assert "210.0 x 140.0" in text
    assert "\x1b[31m" not in text
    assert max(map(len, text.splitlines())) <= width


def shown(findings: list[Finding], width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in findings_tables(findings, title="p1"):
        console.print(table)
    return console.export_text()


@pytest.mark.parametrize("width", [70, 100, 118, 160])
def test_numbers_are_never_cut_off(width: int) -> None:
    tumour = replace(LIVER.named("tumour"), name="a rather long name of a tumour")
    spread = Spread(1111.4, 1114.2, 1.0, "3 results")
    numbers = (
        Finding(tumour, quantity, 1112.0, unit, component=component, spread=spread)
        for component in (None, 1)
        for quantity, unit in ((VOLUME, MILLILITRE), (LONG_AXIS, MILLIMETRE), (SHORT_AXIS, MILLIMETRE))
    )
    text = shown([*numbers], width)
    assert text.count("(1111–1114)") == 2
    assert text.count("(1111.4–1114.2)") == 2
    assert "…" not in text


def test_small_lesions_are_not_nothing_and_lie_somewhere() -> None:
    tumour = LIVER.named("tumour")
    text = shown([Finding(tumour, VOLUME, 0.004, MILLILITRE, component=1)], 140)
    assert "<0.01" in text
    assert "in no organ" in text
