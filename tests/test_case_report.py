"""The case report: what it says, what it hides, and whether everybody can read it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from identified import SECRETS, write_images
from lxml import html as lxml_html  # type: ignore[import-untyped]

from delineate import formats
from delineate.cli import main
from delineate.errors import ExportError, InputError, LabelError, ResourceError
from delineate.findings import Finding, Spread
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.geometry import Grid, compose_affine
from delineate.labels import LabelSet, label_set
from delineate.measurement import quantities as q
from delineate.measurement.lesions import LesionOptions, lesion_labels
from delineate.measurement.resection import Resection
from delineate.measurement.scan_findings import MeasureOptions, ScanFindings, measure_scan
from delineate.reports import case_drawings
from delineate.reports.case_drawings import CasePicture, CasePictures, draw_case
from delineate.reports.case_pages import CasePage, Review, render_case, scan_remarks
from delineate.reports.case_tables import (
    distance_tables,
    length,
    lesion_table,
    pair_table,
    remnant_table,
    structure_table,
    volume,
    with_unit,
)
from delineate.reports.renders import structures_render
from delineate.settings import detect
from delineate.volume import Kind, Segmentation, Volume
from delineate.workflow.case_identity import Naming
from delineate.workflow.case_reports import CaseRequest, report_case
from delineate.workflow.results import ResultRecord, write_record

EVIL = "<script>alert(1)</script>"
LABELS = label_set({1: "liver", 2: "liver_tumour", 3: "portal_vein", 4: "left_kidney", 5: "right_kidney", 6: EVIL})
GRID = Grid((40, 30, 16), compose_affine(np.diag([1.0, 1.5, 4.0]), (-20.0, 10.0, 5.0)))
NO_PICTURES = CasePictures(None, (), ())


def scene(*, labels: LabelSet = LABELS) -> tuple[Volume, Segmentation]:
    """A liver that the scan cuts on one side, two tumours in it, a vein beside it, and kidneys of unlike size."""
    array = np.zeros(GRID.shape, np.uint8)
    array[0:22, 3:25, 2:13] = 1
    array[4:10, 6:10, 5:8] = 2  # 6 x 6 x 12 mm, 4 voxels from the cut side, 3 slices below the vein's
    array[14:17, 14:17, 9:11] = 2
    array[25:28, 6:24, 3:12] = 3
    array[30:33, 20:24, 4:8] = 4
    array[35:38, 20:24, 4:6] = 5
    array[30:34, 3:5, 12:14] = 6
    noise = np.random.default_rng(4).normal(0, 20, GRID.shape)
    image = Volume((60.0 * (array > 0) + noise)[np.newaxis].astype(np.float32), GRID, Kind.CT)
    return image, Segmentation(array, GRID, labels)


def measured(**options: Any) -> ScanFindings:
    image, segmentation = scene()
    return measure_scan(segmentation, image, options=MeasureOptions(**options))


def case_page(found: ScanFindings, **more: Any) -> CasePage:
    return CasePage("Case A", (), GRID, found, NO_PICTURES, lesions=lesion_labels(LABELS), **more)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, but in the page that is drawn once for all."""
    for name in ("structures_render", "structure_slices"):
        monkeypatch.setattr(case_drawings, name, lambda *_, **__: b"PNG")


def settings() -> Any:
    return detect("cpu", threads=1)


@pytest.fixture(scope="module")
def drawn() -> Any:
    """The page of the scene with all its pictures, parsed."""
    image, segmentation = scene()
    found = measured(organ=("liver",), resection=Resection(margin_mm=2.0))
    lesions = lesion_labels(LABELS)
    pictures = draw_case(image, segmentation, found, lesions=lesions)
    page = CasePage("Case A", (("Modality", "CT"),), GRID, found, pictures, lesions, provenance=(("Model", "m"),))
    text = render_case(page)
    assert len(text) < 5_000_000
    return lxml_html.fromstring(text)


def identified_case(folder: Path, *, name: str = "liver") -> tuple[Path, Path]:
    """A series full of names, and a label map on its grid with the record of what made it."""
    series = folder / "series"
    write_images(series)
    scan = formats.read_volume(series)
    array = np.zeros(scan.grid.shape, np.uint8)
    array[1:4, 1:3, 1:3] = 1
    path = folder / "result.nii.gz"
    formats.write_segmentation(path, Segmentation(array, scan.grid, label_set({1: name})))
    record = ResultRecord(
        case="x", labels={name: 1}, volumes_ml={}, model="ab" * 32, series_uid=None, seconds=1.0, engine="torch"
    )
    write_record(path, replace_doubts(record))
    return path, series


def replace_doubts(record: ResultRecord) -> ResultRecord:
    import msgspec

    return msgspec.structs.replace(record, doubts=["the scan is unlike those that trained the model"])


def report(path: Path, series: Path, **more: Any) -> str:
    output = path.with_name("page.html")
    report_case(CaseRequest(path, output, image=series, **more), settings=settings())
    return output.read_text(encoding="utf-8")


def words(page: str) -> str:
    return " ".join(lxml_html.fromstring(page).text_content().split())


def test_headings_go_down_by_one_and_the_language_is_said(drawn: Any) -> None:
    levels = [int(one.tag[1]) for one in drawn.iter("h1", "h2", "h3", "h4")]
    assert drawn.get("lang") == "en"
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_picture_says_what_is_seen_with_numbers(drawn: Any) -> None:
    alts = [image.get("alt") for image in drawn.iter("img")]
    assert len(alts) >= 4
    assert all(image.get("src").startswith("data:image/png;base64,iVBOR") for image in drawn.iter("img"))
    assert all(len(alt) > 40 and re.search(r"\d", alt) for alt in alts)
    assert any("liver tumour\u00a01" in alt and "portal vein" in alt for alt in alts)


def test_tables_have_captions_and_cells_have_headers(drawn: Any) -> None:
    tables = list(drawn.iter("table"))
    assert len(tables) >= 5
    for table in tables:
        assert table.find("caption").text_content().strip()
        assert all(cell.get("scope") == "col" for cell in table.find("thead").iter("th"))
        assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in table.find("tbody"))


def test_the_page_needs_nothing_else(drawn: Any) -> None:
    addresses = [value for one in drawn.iter() for name, value in one.items() if name in ("src", "href", "srcset")]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    styles = "".join(style.text for style in drawn.iter("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    assert not list(drawn.iter("link"))


def test_a_name_that_is_markup_stays_a_name(drawn: Any) -> None:
    assert not list(drawn.iter("script"))
    assert sum(one.text_content().startswith(EVIL) for one in drawn.iter("th")) == 2  # a size, and distances


def test_texts_have_the_contrast_that_wcag_asks_for(drawn: Any) -> None:
    styles = "".join(style.text for style in drawn.iter("style"))
    boxes = re.findall(r"background: (#[0-9a-f]{6}); color: (#[0-9a-f]{6})", styles)
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", styles))
    pairs = [*boxes, *(("#ffffff", named[name]) for name in ("ink", "quiet", "accent", "warm"))]
    assert len(boxes) >= 3
    assert all(contrast(*pair) >= 4.5 for pair in pairs)


def contrast(first: str, second: str) -> float:
    """WCAG 2.1, relative luminance of sRGB."""
    values = []
    for colour in (first, second):
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
        values.append(float(np.dot([0.2126, 0.7152, 0.0722], linear)))
    return (max(values) + 0.05) / (min(values) + 0.05)


def test_nothing_of_the_patient_is_in_the_page(tmp_path: Path) -> None:
    page = report(*identified_case(tmp_path))
    assert not [one for one in SECRETS if one.lower() in page.lower().encode()]
    assert re.search(r"Case [0-9A-F]{4}-[0-9A-F]{4}", page)
    assert "withheld" in page


def test_an_identified_page_says_who_it_is(tmp_path: Path) -> None:
    page = words(report(*identified_case(tmp_path), naming=Naming(identified=True)))
    for told in ("Quastenbrink, Hildegard", "HQ-4711", "1951-12-24", "2023-05-17", "Case result"):
        assert told in page


def test_a_key_gives_a_pseudonym_and_moves_the_date(tmp_path: Path) -> None:
    page = report(*identified_case(tmp_path), naming=Naming(key=PseudonymKey(b"k" * 32)))
    assert not [one for one in SECRETS if one.lower() in page.lower().encode()]
    (date,) = re.findall(r"(\d{4}-\d\d-\d\d) \(date moved\)", page)
    assert "2013-05-17" <= date < "2023-05-17"
    assert re.search(r"P-[A-Z2-7]{12} \(pseudonym\)", page)


def test_a_structure_named_after_the_patient_is_refused(tmp_path: Path) -> None:
    path, series = identified_case(tmp_path, name="Tumour Quastenbrink")
    with pytest.raises(ExportError, match="the name of a structure gives the patient away: got text of") as caught:
        report(path, series)
    assert "Quastenbrink" not in str(caught.value)
    assert not path.with_name("page.html").exists()
    assert "Quastenbrink" in report(path, series, naming=Naming(identified=True))


def test_nobody_has_reviewed_it_until_somebody_has(tmp_path: Path) -> None:
    path, series = identified_case(tmp_path)
    assert "Not reviewed" in report(path, series)
    page = report(path, series, review=Review("A. Weiss", "2025-03-31"))
    assert "Reviewed by A. Weiss on 2025-03-31" in page
    assert "Not reviewed" not in page
    assert "Not for clinical use without review" in words(page)
    with pytest.raises(InputError, match="without a reviewer"):
        report(path, series, review=Review(on="2025-03-31"))


def test_the_page_says_what_made_the_result_and_what_it_doubts(tmp_path: Path) -> None:
    page = words(report(*identified_case(tmp_path)))
    assert "The scan is unlike those that trained the model." in page
    assert "ab" * 32 in page
    assert "torch" in page


def test_a_folder_and_an_unknown_structure_are_refused(tmp_path: Path) -> None:
    path, series = identified_case(tmp_path)
    with pytest.raises(InputError, match="about one case"):
        report(tmp_path, series)
    with pytest.raises(LabelError, match="no such label"):
        report(path, series, pictures=("spleen",))


def test_lesions_stand_with_organ_size_margin_and_distances() -> None:
    found = measured()
    table = lesion_table(found)
    assert table is not None
    first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (first["Lesion"], first["Lies in"], first["Volume ml"]) == ("liver tumour\u00a01", "liver", "0.43")
    assert float(first["Margin in organ mm"]) == pytest.approx(4.5, abs=0.8)  # 3 voxels of 1.5 mm to the front
    assert second["Volume ml"] == volume(18 * 0.006)
    (distances,) = distance_tables(found)
    nearest = dict(zip(distances.columns, distances.rows[0], strict=True))
    assert nearest["Structure"] == "portal vein"
    assert float(nearest["liver tumour\u00a02"]) == pytest.approx(8.0, abs=0.5)  # from voxel 16's face to 25's


def test_the_structures_that_the_scan_cuts_are_marked_and_gathered() -> None:
    found = measured()
    table = structure_table(found, lesion_labels(LABELS))
    rows = {row[0]: row for row in table.rows}
    assert next(iter(rows)) == "liver tumour, all"
    assert rows["liver (cut)"][1].startswith("≥ ")
    assert [one for one in case_page(found).warnings if one.startswith("Cut by the scan's border")] == [
        "Cut by the scan's border, and larger than measured: liver."
    ]
    assert not [one for one in case_page(found).warnings if one.startswith("Liver: touches")]


def test_kidneys_are_compared_and_a_resection_is_reckoned() -> None:
    found = measured(organ=("liver",), resection=Resection(margin_mm=2.0))
    pairs, remnant = pair_table(found), remnant_table(found)
    assert pairs is not None
    assert pairs.rows == (("left kidney, right kidney", "0.29", "0.14", "0.14", "2.00"),)
    assert remnant is not None
    assert [row[0] for row in remnant.rows[:2]] == ["Volume without lesions (liver)", "Remnant volume (liver)"]
    assert "farther than 2 mm from lesions" in remnant.rows[1][2]
    assert remnant_table(measured()) is None


def test_spreads_stand_in_brackets_and_the_caption_explains_them() -> None:
    found = measured()
    spread = Spread(20.0, 30.0, 5.0, "3 results")
    changed = [replace(one, spread=spread) if one.quantity == q.VOLUME else one for one in found.findings]
    table = structure_table(replace(found, findings=tuple(changed)))
    assert table.caption.startswith("Sizes; in brackets the lowest and the highest of 3 results")
    assert table.rows[2][1].endswith(" [20.0\u00a0to\u00a030.0]")
    assert "brackets" not in structure_table(found).caption


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1234.4, q.MILLILITRE, "1\u202f234 ml"),
        (0.004, q.MILLILITRE, "0.00 ml"),
        (-5.304, q.MILLILITRE, "−5.30 ml"),
        (99.97, q.PERCENT, "> 99.9 %"),
        (0.004, q.PERCENT, "< 0.01 %"),
        (100.0, q.PERCENT, "100 %"),
        (45.4, q.PERCENT, "45 %"),
        (-0.3, q.HOUNSFIELD, "0 HU"),
        (19.96, q.MILLIMETRE, "20.0 mm"),
    ],
)
def test_numbers_are_rounded_to_what_they_are_worth(value: float, unit: Any, shown: str) -> None:
    assert with_unit(Finding(LABELS.named("liver"), q.VOLUME, value, unit)).replace("\u00a0", " ") == shown


def test_lengths_are_whole_from_twenty_millimetres_on() -> None:
    assert [length(mm) for mm in (0.0, 4.26, 19.9, 20.4)] == ["0", "4.3", "19.9", "20"]


def test_thick_slices_are_named_and_thin_ones_are_not() -> None:
    assert "slices are 4 mm apart" in scan_remarks(GRID)[0]
    assert scan_remarks(Grid((4, 4, 4), np.diag([0.8, 0.8, 2.5, 1.0]))) == ()


def test_where_nothing_was_found_it_is_said_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_drawings, "structures_render", structures_render)
    image, segmentation = scene()
    empty = replace(segmentation, array=np.zeros(GRID.shape, np.uint8))
    found = measure_scan(empty, image)
    pictures = draw_case(image, empty, found, lesions=lesion_labels(LABELS))
    text = words(render_case(replace(case_page(found), pictures=pictures)))
    assert "That none was found does not mean that there is none" in text
    assert "liver (not found)" in text
    assert "No 3D picture: no structure has voxels" in text


def test_without_the_renderer_or_a_scan_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> bytes:
        raise ResourceError("3D pictures and films need PyVista")

    monkeypatch.setattr(case_drawings, "structures_render", missing)
    _, segmentation = scene()
    pictures = draw_case(None, segmentation, measure_scan(segmentation))
    assert pictures.render is None
    assert pictures.remarks == (
        "No 3D picture: 3D pictures and films need PyVista.",
        "No scan was given, so there are no slices.",
    )


def test_pictures_beyond_the_limit_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_drawings, "_render", lambda *_: (None, []))
    monkeypatch.setattr(case_drawings, "MOST_BYTES", 250_000)
    monkeypatch.setattr(
        case_drawings, "_structure_figure", lambda *a: CasePicture(a[2], b"x" * 100_000, "alt of 100 kB")
    )
    image, segmentation = scene()
    chosen = ("left_kidney", "liver", "right_kidney")
    found = measured(lesions=LesionOptions(("portal_vein",), smallest_ml=1e6))
    pictures = draw_case(image, segmentation, found, chosen=chosen)
    assert [one.title for one in pictures.figures][:2] == ["left_kidney", "liver"]
    assert "right_kidney: left out, so that the file does not become too large." in pictures.remarks


def test_the_command_writes_the_page_and_its_pdf(tmp_path: Path) -> None:
    pytest.importorskip("weasyprint")
    path, series = identified_case(tmp_path)
    output = tmp_path / "out" / "case.html"
    call = ["report", "case", path, "--image", series, "-o", output, "--pdf", output.with_suffix(".pdf")]
    result = CliRunner().invoke(main, [str(word) for word in call], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "The scan is unlike those that trained the model." in result.output
    assert output.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")


def test_a_model_that_made_another_result_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, series = identified_case(tmp_path)
    monkeypatch.setattr("delineate.model.read_provenance", lambda _: (None, "cd" * 32))
    with pytest.raises(InputError, match="this model has not made the segmentation: expected digest cdcdcd"):
        report(path, series, model=tmp_path)
    monkeypatch.setattr("delineate.model.read_provenance", lambda _: (None, "ab" * 32))
    assert tmp_path.name in words(report(path, series, model=tmp_path))


def test_the_command_shows_names_or_pseudonyms_but_not_both(tmp_path: Path) -> None:
    path, series = identified_case(tmp_path)
    call = ["report", "case", str(path), "--image", str(series), "--identified", "--deidentify", str(tmp_path / "k")]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 2
    assert "exclude each other" in result.output
