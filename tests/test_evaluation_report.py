"""The page of an evaluation: what it says, and that a miss makes nothing on it look better."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anatomy import LABELS, blob_case, oblique_grid, write_blobs
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lxml import html as parser  # type: ignore[import-untyped]
from test_evaluation_misses import LABELS as ORGANS
from test_evaluation_misses import LabelMap, pairs, scored

from delineate import evaluation, formats
from delineate.cli import main
from delineate.errors import InputError
from delineate.evaluation import CaseScores
from delineate.evaluation.comparison_output import group_json
from delineate.evaluation.subgroups import score_groups, size_grouping
from delineate.labels import label_set
from delineate.metrics import Status
from delineate.metrics.definitions import METRICS, Better
from delineate.reports.error_pictures import error_slices
from delineate.reports.evaluation_details import calibration_sheet, sides_sheet
from delineate.reports.evaluation_figures import counted, ranked_median, worst_first
from delineate.reports.evaluation_groups import group_kinds, group_sheet, unshown_kinds
from delineate.reports.evaluation_pages import render_evaluation, view_evaluation
from delineate.reports.evaluation_tables import advice_sheet, failed_sheet, lost_sheet
from delineate.reports.score_records import ScoresRecord, parse_scores
from delineate.settings import Settings, detect
from delineate.volume import Kind, Segmentation, Volume
from delineate.workflow import evaluation_reports
from delineate.workflow.evaluating import evaluate
from delineate.workflow.evaluation_reports import report_evaluation
from delineate.workflow.results import ResultRecord, write_record

SPURIOUS = {"status": "spurious", "dice": 0.0, "surface_dice": 0.0, "reference_ml": 0.0, "prediction_ml": 2.0}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=2, cache=tmp_path / "cache")


def write_cohort(folder: Path) -> None:
    """Four blobs; blob_1 lacks its core in the prediction, blob_2 has no prediction, the others are right."""
    write_blobs(folder / "data", 4)
    shutil.copytree(folder / "data" / "labelsTr", folder / "out")
    reference = blob_case(1)[1]
    lost = replace(reference, array=np.where(reference.array == 1, 0, reference.array))
    formats.write_segmentation(folder / "out" / "blob_1.nii.gz", lost)
    (folder / "out" / "blob_2.nii.gz").unlink()


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    write_cohort(tmp_path)
    return tmp_path


def record_of(cases: Sequence[CaseScores]) -> ScoresRecord:
    """Through the file's text, as the page gets them."""
    summary = evaluation.summarise(cases, generator=np.random.default_rng(3), resamples=20)
    dice = [metric for metric in METRICS if metric.name == "dice"]
    sizes = score_groups(cases, size_grouping(cases, edges=[0.05]), np.random.default_rng(4), metrics=dice)
    groups = {"scores": [group_json(one) for one in sizes]}
    return parse_scores(json.dumps(evaluation.to_json(summary) | {"subgroups": groups}))


def case(dice: float | None, **others: Any) -> dict[str, Any]:
    """A case of one structure, as scores.json has it; None: missed."""
    values = {"status": "missed", "dice": 0.0} if dice is None else {"status": "scored", "dice": dice}
    values |= {"reference_ml": 10.0, "prediction_ml": 0.0 if dice is None else 9.0, "counted": {}}
    return {"patient": "p", "groups": {}, "mean": {"dice": dice or 0.0}, "structures": {"liver": values}} | others


def record(cases: Mapping[str, Mapping[str, Any]], **others: Any) -> ScoresRecord:
    missed = sum(one["structures"]["liver"]["status"] == "missed" for one in cases.values())
    liver = {"cases": len(cases), "patients": len(cases), "scored": len(cases) - missed, "missed": missed}
    content = {"schema_version": 2, "patients": len(cases), "structures": {"liver": liver}, "cases": cases} | others
    return parse_scores(json.dumps(content))


@hypothesis_settings(deadline=None, max_examples=12)
@given(cases=st.lists(pairs(), min_size=2, max_size=3), data=st.data())
def test_missing_a_structure_makes_no_figure_of_the_page_better(
    cases: list[tuple[LabelMap, LabelMap]], data: st.DataObject
) -> None:
    before = [replace(scored(f"{'abb'[n]}{n}", *pair), groups={"site": "ABA"[n]}) for n, pair in enumerate(cases)]
    found = [
        (n, label.name, label.value)
        for n, one in enumerate(before)
        for label in ORGANS
        if one.scores[label.name].status is Status.SCORED
    ]
    assume(found)
    n, name, value = data.draw(st.sampled_from(found))
    reference, prediction = cases[n]
    lost = scored(before[n].case_id, reference, np.where(prediction == value, 0, prediction).astype(np.uint8))
    assert lost.scores[name].status is Status.MISSED
    after = [*before[:n], replace(lost, groups=before[n].groups), *before[n + 1 :]]
    good, bad = (
        {what: (better, number) for what, better, number in view_evaluation(record_of(some), "x", {}).figures()}
        for some in (before, after)
    )
    assert len(good) > 30
    # A row that is only there because of a miss has no partner.
    assert {what for what in good.keys() ^ bad.keys() if not what.startswith("lost ")} == set()
    for what, (better, first) in good.items():
        second = bad.get(what, (better, math.nan))[1]
        if not (math.isnan(first) or math.isnan(second)) and first != second:
            gain = second - first if better is Better.HIGHER else first - second
            assert gain <= 1e-9 * max(1, abs(first)), (what, first, second)
        else:
            assert math.isnan(first) == math.isnan(second), what


def test_a_lost_structure_ranks_last_in_a_median() -> None:
    assert ranked_median([-10, 4, math.nan], 0) == 7
    assert ranked_median([-10, 4], 1) == 10
    assert math.isinf(ranked_median([1, 2], 2))
    assert math.isnan(ranked_median([], 0))


def test_what_counts_instead_of_a_value_is_read() -> None:
    assert counted({"hd95_mm": None, "counted": {"hd95_mm": 300.0}}, "hd95_mm") == 300
    assert counted({"hd95_mm": 2.5, "counted": {}}, "hd95_mm") == 2.5
    assert math.isnan(counted({}, "hd95_mm"))


def test_failures_come_first_then_the_lowest_and_last_cases_without_structures() -> None:
    cases = {"b": case(0.9), "c": case(0.2), "d": case(None, failed="no file"), "a": case(0.5, mean={"dice": None})}
    assert [name for name, _ in worst_first(record(cases))] == ["d", "c", "b", "a"]


def test_failures_and_misses_are_named_with_their_cases() -> None:
    cases = {"a": case(0.9), "b": case(None), "c": case(None, failed="another grid"), "d": case(0.8)}
    cases["d"]["structures"]["liver"] |= SPURIOUS
    failed, lost = failed_sheet(record(cases)), lost_sheet(record(cases))
    assert failed is not None
    assert failed.rows == (("c", "another grid"),)
    assert lost is not None
    assert lost.rows == (("liver", "2 of 4", "b, 1 without usable prediction", "d"),)
    assert failed_sheet(record({"a": case(0.9)})) is None


def test_the_same_advice_for_several_structures_is_given_once() -> None:
    advice = {"trusted": ["cldice"], "distrusted": ["dice"], "reasons": [{"doubt": "tube", "words": "a tube"}]}
    structures = {name: {"cases": 1, "advice": advice} for name in ("aorta", "vena_cava")}
    sheet = advice_sheet(record({"a": case(0.5)}, structures=structures))
    assert sheet is not None
    assert sheet.rows[0][:3] == ("aorta", "A tube.", "Dice")
    assert sheet.rows[1][3] == "--tubes vena_cava"
    same = {name: {"cases": 1, "advice": advice | {"trusted": []}} for name in ("aorta", "vena_cava")}
    once = advice_sheet(record({"a": case(0.5)}, structures=same))
    assert once is not None
    assert once.rows == (("aorta, vena cava", "A tube.", "Dice", "–"),)


def test_groups_are_compared_with_all_others_and_small_ones_say_so() -> None:
    cases = {f"a{n}": case(0.8, patient=f"a{n}", groups={"site": "A"}) for n in range(10)}
    cases |= {f"b{n}": case(dice, patient="b", groups={"site": "B"}) for n, dice in enumerate((0.5, None))}
    cases["c"] = case(0.6, patient="c")
    (kind,) = group_kinds(record(cases))
    a, b, unknown = kind.groups
    assert (a.name, a.patients, a.small) == ("A", 10, False)
    assert a.dice == pytest.approx((0.8, 0.8, 0.8))
    assert (b.patients, b.cases, b.with_misses, b.small) == (1, 2, 1, True)
    assert b.gap == pytest.approx(0.25 - 8.6 / 11)
    assert unknown.name == "not recorded"


def test_groups_that_were_tested_say_how_sure_their_gap_is() -> None:
    cases = {f"a{n}": case(0.8, patient=f"a{n}", groups={"site": "A"}) for n in range(10)}
    cases |= {"b": case(0.5, patient="b", groups={"site": "B"})}
    found = {"metric": "dice", "by": "site", "gap": 0.3, "gap_interval": [-0.04, 0.4], "p_holm": 0.0004}
    sized = found | {"by": "size", "structure": "liver", "group": "small", "cases": 3, "patients": 3, "small": True}
    alone = found | {"structure": "liver", "group": "A", "cases": 10, "patients": 10}
    scores = [found | {"group": "A"}, found | {"group": "A", "metric": "hd95_mm", "p_holm": 0.9}, alone, sized]
    view = view_evaluation(record(cases, subgroups={"scores": scores}), "x", {})
    sheet = group_sheet(view.groups[0])
    assert [row[4] for row in sheet.rows] == ["+0.300 (\N{MINUS SIGN}0.04 to +0.40)", "\N{MINUS SIGN}0.300"]
    assert [row[-1] for row in sheet.rows] == ["<0.001", "–"]
    assert "Small, with fewer than 10 patients: B." in sheet.note
    assert "p" not in group_sheet(group_kinds(record(cases))[0]).columns
    sizes, sites = view.sheets["sizes"], view.sheets["structures by site"]
    assert sizes is not None
    assert sites is not None
    assert sizes.rows[0][:2] == ("liver, small", "3 (few)")
    assert [row[0] for row in sites.rows] == ["liver, A"]


def test_of_one_patient_no_intervals_are_spoken_of() -> None:
    verdict = " ".join(view_evaluation(record({"a": case(0.9)}), "x", {}).verdict)
    assert "Of 1 patient there are no intervals." in verdict
    assert "say little" not in verdict


def test_sides_are_shown_with_what_was_found_of_them() -> None:
    sides = [{"left": "l", "right": "r", "left_as_right": 30, "right_as_left": 0}]
    voxels = [[0, 0, 0], [50, 120, 30], [0, 0, 80]]
    confusion = {"structures": ["background", "l", "r"], "voxels": voxels}
    sheet = sides_sheet(record({"a": case(0.9)}, sides=sides, confusion=confusion))
    assert sheet is not None
    assert list(map(str, sheet.rows[0])) == ["l, r", "75.0 %", "100.0 %", "30 (20.0 % of found)", "0 (0.0 % of found)"]
    # What is no longer found takes its mistakes along, but not unseen.
    confusion["voxels"] = [[0, 0, 0], [200, 0, 0], [0, 0, 80]]
    gone = sides_sheet(record({"a": case(0.9)}, sides=[sides[0] | {"left_as_right": 0}], confusion=confusion))
    assert gone is not None
    assert list(map(str, gone.rows[0]))[1:4] == ["0.0 %", "100.0 %", "0"]
    old = sides_sheet(record({"a": case(0.9)}, sides=sides))
    assert old is not None
    assert list(map(str, old.rows[0]))[1:4] == ["–", "–", "30"]


def test_cases_without_probability_maps_are_counted() -> None:
    cases = {name: case(0.9) for name in "abc"}
    some = calibration_sheet(record(cases, calibration={"liver": {"cases": 2}, "spleen": {"cases": 3}}))
    assert some is not None
    assert [row[1] for row in some.rows] == ["2 of 3", "3 of 3"]
    assert "do not count here: liver: 1." in some.note
    every = calibration_sheet(record(cases, calibration={"liver": {"cases": 3}}))
    assert every is not None
    assert every.note.startswith("All cases have")


def test_a_group_that_names_every_case_is_not_compared() -> None:
    cases = {f"c{n}": case(0.8, groups={"id": str(n)}) for n in range(30)}
    assert group_kinds(record(cases)) == ()
    assert unshown_kinds(record(cases)) == ("id",)


def pixels(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(BytesIO(png))[..., :3] * 255).round()


def tinted(png: bytes, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour laid with its opacity over black."""
    return int((np.abs(pixels(png) - 0.65 * np.array(colour)).max(axis=-1) < 4).sum())


def test_what_is_missed_and_what_is_made_up_have_their_colours() -> None:
    array = np.zeros((20, 16, 12), np.uint8)
    array[4:10, 4:9, 3:8] = 1
    reference = Segmentation(array, oblique_grid(), LABELS)
    nothing, moved = replace(reference, array=array * 0), replace(reference, array=np.roll(array, 12, axis=0))
    missed = error_slices(None, reference, nothing, "core")
    assert tinted(missed, (0xD5, 0x5E, 0x00)) > 3000
    assert tinted(missed, (0x56, 0xB4, 0xE9)) == 0
    both = error_slices(None, reference, moved)
    assert tinted(both, (0xD5, 0x5E, 0x00)) > 500
    assert tinted(both, (0x56, 0xB4, 0xE9)) > 500
    renamed = error_slices(None, reference, replace(reference, array=array * 2), "rim")
    assert tinted(renamed, (0xCC, 0x79, 0xA7)) > 3000


def test_overlapping_structures_have_pictures_too() -> None:
    masks = np.zeros((2, 20, 16, 12), bool)
    masks[0, 4:10, 4:9, 3:8] = masks[1, 8:14, 4:9, 3:8] = True
    labels = label_set({1: "core", 2: "rim"}, overlaps=True)
    reference = Segmentation(masks, oblique_grid(), labels)
    wrong = replace(reference, array=np.stack([masks[0], masks[1] & False]))
    scan = Volume(np.full((1, 20, 16, 12), -1000, np.float32), reference.grid, Kind.CT)
    assert tinted(error_slices(scan, reference, wrong, "rim"), (0xD5, 0x5E, 0x00)) > 3000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an evaluation from the command line wrote its scores and its page."""
    folder = tmp_path_factory.mktemp("written")
    write_cohort(folder)
    words = ["evaluate", str(folder / "data" / "labelsTr"), str(folder / "out"), "-o", str(folder / "scores")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1, result.output
    return folder / "scores"


def test_evaluate_writes_the_page_and_report_makes_the_same_again(written: Path, tmp_path: Path) -> None:
    page = (written / "report.html").read_text()
    assert "1 case without usable prediction: blob_2." in page
    assert "1 structure missed in 1 other case (core 1)." in page
    assert page.count("data:image/png") == 3
    again = CliRunner().invoke(main, ["report", "evaluation", str(written), "-o", str(tmp_path / "again.html")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.html").read_text() == page


def test_no_page_is_written_when_none_is_asked_for(cohort: Path) -> None:
    words = ["evaluate", str(cohort / "data"), str(cohort / "out"), "--no-report"]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert not (cohort / "out" / "report.html").exists()


def test_files_that_moved_take_the_pictures_and_nothing_else(cohort: Path, settings: Settings) -> None:
    result = evaluate(cohort / "data", cohort / "out", output=cohort / "scores", settings=settings)
    (cohort / "data" / "labelsTr" / "blob_1.nii.gz").unlink()
    (cohort / "data" / "imagesTr" / "blob_0_0000.nii.gz").unlink()
    made = report_evaluation(result.scores)
    assert (made.pictures, made.html) == (2, cohort / "scores" / "report.html")
    assert made.remark.startswith("No picture of blob_1:")
    assert made.remark in made.html.read_text()


def test_scores_of_an_older_form_have_a_shorter_page() -> None:
    page = render_evaluation(record({"a": case(0.9), "b": case(None)}), "old", {})
    assert "1 structure missed in 1 case (liver 1)." in page
    assert "What was called what" not in page
    assert "Calibration" not in page


def write_regions(path: Path, labels: dict[str, int], regions: dict[str, list[int]]) -> None:
    record = ResultRecord(case="", labels=labels, regions=regions, volumes_ml={}, model="", series_uid=None, seconds=0)
    write_record(path, record)


def test_regions_that_one_prediction_does_not_know_are_drawn_as_missed(
    cohort: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_reports, "render_evaluation", lambda *_: "")
    out = cohort / "out"
    for n in (0, 3):
        write_regions(out / f"blob_{n}.nii.gz", {"all": 1, "core": 2}, {"all": [1, 2], "core": [1]})
    write_regions(out / "blob_1.nii.gz", {"all": 1}, {"all": [1, 2]})
    result = evaluate(cohort / "data", out, output=cohort / "scores", settings=settings)
    made = report_evaluation(result.scores)
    assert (made.pictures, made.remark) == (3, "")
    # Scores of an older form do not say what each structure consists of.
    content = json.loads(result.scores.read_bytes())
    for structure in content["labels"]["structures"].values():
        del structure["consists_of"]
    result.scores.write_text(json.dumps(content))
    assert "No picture of blob_1: the scores do not say which values" in report_evaluation(result.scores).remark


def test_a_folder_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="delineate evaluate"):
        report_evaluation(tmp_path)


def test_probabilities_beside_predictions_are_calibrated(cohort: Path, settings: Settings) -> None:
    reference = blob_case(0)[1]
    half = np.where(reference.array == 1, 0.7, 0.0).astype(np.float32)
    formats.write_volume(cohort / "out" / "blob_0_probability_core.nii.gz", Volume(half[None], reference.grid))
    broken = Volume(np.full((1, 20, 16, 12), np.nan, np.float32), blob_case(3)[1].grid)
    formats.write_volume(cohort / "out" / "blob_3_probability_core.nii.gz", broken)
    result = evaluate(cohort / "data", cohort / "out", settings=settings)
    found = parse_scores(result.scores.read_bytes()).calibration["core"]
    hits = int((reference.array == 1).sum())
    assert found.cases == 1
    assert found.expected_error == pytest.approx(0.3 * hits / found.voxels, rel=1e-4)
    assert any("blob_3" in remark and "no probabilities" in remark for remark in result.remarks)
    assert result.case_dice["blob_3"] == 1
    sheet = calibration_sheet(parse_scores(result.scores.read_bytes()))
    assert sheet is not None
    assert sheet.rows[0][0] == "core"


def many(cases: int, structures: int) -> ScoresRecord:
    generator = np.random.default_rng(0)
    names = [f"structure_{n}" for n in range(structures)]

    def values() -> dict[str, Any]:
        dice, ml = generator.random(), float(generator.lognormal(3, 2))
        figures = {"dice": dice, "surface_dice": dice, "hd95_mm": 30 * (1 - dice), "volume_error_percent": 9 * dice}
        return {"status": "scored", "reference_ml": ml, "prediction_ml": ml * (0.5 + dice), "counted": {}} | figures

    found = {
        f"case_{n}": {"patient": f"p{n}", "mean": {"dice": 0.5}, "structures": {name: values() for name in names}}
        for n in range(cases)
    }
    rows = {name: {"cases": cases, "patients": cases, "scored": cases} for name in names}
    voxels = generator.integers(0, 9000, (structures + 1, structures + 1)).tolist()
    confusion = {"structures": ["background", *names], "voxels": voxels}
    content = {"schema_version": 2, "structures": rows, "cases": found, "patients": cases, "confusion": confusion}
    return parse_scores(json.dumps(content))


def test_a_page_of_hundreds_of_cases_and_many_structures_stays_small() -> None:
    scores = many(300, 25)
    pictures = {name: bytes(190_000) for name, _ in worst_first(scores)[:10]}
    page = render_evaluation(scores, "large", pictures)
    assert page.count("data:image/png") == 10
    assert len(page.encode()) < 5_000_000
    assert page.count("<td>p") == 300


def test_the_page_can_be_read_without_seeing_it_and_needs_nothing_else(written: Path) -> None:
    text = (written / "report.html").read_text()
    page = parser.fromstring(text)
    assert page.get("lang") == "en"
    assert page.findtext(".//title") == "Evaluation: scores"
    levels = [int(found.tag[1]) for found in page.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert all(len(image.get("alt")) > 20 for image in page.xpath("//img"))
    assert all(
        len(drawn.xpath("string(./*[local-name()='desc'])")) > 20
        for drawn in page.xpath("//figure/*[local-name()='svg']")
    )
    assert all(table.xpath("./caption") and table.xpath("./thead//th[@scope='col']") for table in page.xpath("//table"))
    targets = {link.get("href")[1:] for link in page.xpath("//nav//a")}
    ids = page.xpath("//@id")
    assert targets <= set(ids)
    assert len(ids) == len(set(ids))
    sources = page.xpath("//img/@src | //link/@href | //script/@src | //iframe/@src")
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.findall(r"https?://(?!www\.w3\.org)", text)


def test_names_cannot_act_on_the_page() -> None:
    odd = "<script>alert(1)</script>"
    cases = {odd: case(None, failed=odd, patient=odd, groups={odd: odd}), "b": case(0.5, groups={odd: "<i>"})}
    for one in cases.values():
        one["structures"][odd] = one["structures"].pop("liver")
    rows = {odd: {"cases": 2, "patients": 2, "scored": 1, "missed": 1, "failed": 1}}
    content = {"schema_version": 2, "structures": rows, "cases": cases, "patients": 2, "problems": [odd]}
    page = render_evaluation(parse_scores(json.dumps(content)), odd, {})
    assert odd not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page
