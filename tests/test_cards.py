import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from anatomy import LABELS, tiny_plan, write_blobs
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from delineate.cli import main
from delineate.dataset import digest
from delineate.errors import InputError
from delineate.model import Model, Population, Provenance, save_model
from delineate.postprocessing import Rule
from delineate.reports.about import FIELDS, blank_about, parse_about
from delineate.reports.card_scores import ScoreFacts
from delineate.reports.cards import ModelFacts, find_limits, model_card
from delineate.reports.claim import ITEMS
from delineate.reports.datasheets import data_sheet
from delineate.reports.documents import Answer, Document, Section, Table, to_html, to_markdown
from delineate.reports.score_records import (
    CaseRecord,
    MetricRecord,
    ScoresRecord,
    Standing,
    StructureRecord,
    parse_scores,
    standing_of,
)
from delineate.settings import Settings, detect
from delineate.training import start
from delineate.workflow.carding import CardSources, write_card
from delineate.workflow.results import ResultRecord, write_record

PROVENANCE = Provenance(
    dataset="blobs",
    dataset_digest="d" * 64,
    training_cases=("blob_0", "blob_1"),
    validation_cases=("blob_2",),
    held_out_cases=("blob_3",),
    step=6,
    seconds=90,
    validation_dice=0.5,
    created="2026-01-01",
    delineate="0.1.0",
    torch="2",
    populations={"training": Population(cases=2, patients=2, sites={"Ulm": 2}, groups={"phase": {"late": 2}})},
)
FACTS = ModelFacts(name="blobber", digest="a" * 64, labels=("core", "rim"), plan=tiny_plan(), provenance=PROVENANCE)
SIDES: Mapping[str, tuple[str, ...]] = {"training": ("a", "b"), "validation": ("c",), "held_out": ("d", "e")}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return detect("cpu", threads=1, cache=tmp_path / "cache")


def scores(*cases: str, missed: bool = False) -> ScoresRecord:
    dice = MetricRecord(mean=0.8, interval=(0.7, 0.9), median=0.8, count=len(cases))
    structure = StructureRecord(
        cases=len(cases), patients=len(cases), missed=int(missed), few_patients=True, metrics={"dice": dice}
    )
    status = "missed" if missed else "scored"
    case = CaseRecord(patient="", groups={}, mean={"dice": 0.8}, structures={"core": {"status": status}})
    return ScoresRecord(
        schema_version=2,
        structures={"core": structure},
        cases={name: msgspec.structs.replace(case, patient=name, groups={"phase": name}) for name in cases},
        mean={"dice": 0.8},
        mean_interval={"dice": (0.7, 0.9)},
        patients=len(cases),
    )


def scored(*cases: str, missed: bool = False) -> ScoreFacts:
    standings = standing_of(
        cases,
        training=PROVENANCE.training_cases,
        validation=PROVENANCE.validation_cases,
        held_out=PROVENANCE.held_out_cases,
    )
    return ScoreFacts("scores.json", scores(*cases, missed=missed), standings)


@given(st.sets(st.sampled_from("abcdefg"), min_size=1))
def test_scores_with_a_case_that_was_seen_are_never_test_scores(cases: set[str]) -> None:
    found = standing_of(cases, **SIDES)
    assert (found.standing is Standing.TEST) == cases.isdisjoint("abc")
    assert ("Not a test score" in found.words) == found.is_no_test


def test_another_scan_of_a_trained_patient_makes_no_test_score() -> None:
    found = standing_of(["f"], **SIDES, shared_patients=["p"])
    assert found.standing is Standing.TRAINING
    assert "have other scans among those that trained" in found.words


def test_where_nobody_recorded_who_trained_nothing_is_shown_to_be_a_test() -> None:
    found = standing_of(["f"], training=(), validation=(), held_out=())
    assert found.standing is Standing.UNKNOWN


def test_a_card_says_what_its_scores_are() -> None:
    assert "Tested on 1 case of 1 patient: mean Dice 0.800" in model_card(FACTS, [scored("blob_3")], {}).summary
    trained = model_card(FACTS, [scored("blob_0", "blob_3")], {})
    assert "None of the scores below is shown to be a test score" in trained.summary
    page = to_html(trained)
    assert "Not a test score: 1 of 2 cases trained this model" in page
    assert "Test scores" not in page


def test_what_nobody_stated_is_not_stated_and_counted() -> None:
    card = model_card(FACTS, [], {})
    assert "Nobody has stated in full what this model is meant for" in to_html(card)
    assert {"intended_use", "licence"} <= {answer.key for answer in card.open}
    told = model_card(FACTS, [], {"intended_use": "Blobs.", "out_of_scope": "All else."})
    assert len(told.open) == len(card.open) - 2
    assert "- What it is meant for: Blobs. (stated)" in to_markdown(told)


def test_every_question_of_the_about_file_is_asked_once_somewhere() -> None:
    documents = (model_card(FACTS, [], {}), data_sheet(None, PROVENANCE, LABELS.names, {}))
    asked = [answer.key for doc in documents for section in doc.sections for answer in section.answers]
    titles = {"name", "data_name"}
    assert sorted(key for key in asked if key in FIELDS) == sorted(set(FIELDS) - titles)


def test_every_item_of_the_checklist_points_to_something_that_exists() -> None:
    documents = (model_card(FACTS, [scored("blob_3")], {}), data_sheet(None, PROVENANCE, LABELS.names, {}))
    known = {key for document in documents for key in document.answers} | {"voxel_sizes"}
    assert [item.number for item in ITEMS] == list(range(1, 45))
    assert {key for item in ITEMS for key in item.keys} <= known


def test_the_checklist_tells_what_is_answered_where_and_what_is_to_be_stated() -> None:
    sheet = data_sheet(None, PROVENANCE, LABELS.names, {"reference_method": "By hand."})
    claim = model_card(FACTS, [], {}, sheet=sheet).sections[-1]
    rows = {row[0]: row[2:] for row in claim.tables[0].rows}
    assert rows["14"] == ("Data sheet: Preparation and references, “How the references were drawn”", "")
    assert rows["44"] == ("not stated", "funding")
    assert "Sites of the training cases" in rows["7"][0]


def test_limits_are_read_from_the_records() -> None:
    found = " ".join(find_limits(FACTS, [scored("blob_3", missed=True)]))
    assert "2 patients only" in found
    assert "one site (Ulm)" in found
    assert "missed core" in found
    assert "There is no test score" not in found
    assert "There is no test score." in find_limits(FACTS, [scored("blob_2")])


def test_few_cases_and_poor_structures_are_limits_though_nobody_recorded_patients() -> None:
    bare = replace(FACTS, provenance=msgspec.structs.replace(PROVENANCE, populations={}))
    facts = scored("blob_3")
    dice = msgspec.structs.replace(facts.record.structures["core"].metrics["dice"], mean=0.2)
    poor = msgspec.structs.replace(facts.record.structures["core"], metrics={"dice": dice})
    facts = replace(
        facts, record=msgspec.structs.replace(facts.record, structures={"core": poor, "rim": StructureRecord()})
    )
    found = find_limits(bare, [facts])
    assert "Trained on 2 cases only." in found
    assert "In scores.json mean Dice is below 0.5 for core." in found


def test_without_scores_the_checklist_asks_for_them_and_failures_are_not_known() -> None:
    card = model_card(FACTS, [], {})
    rows = {row[0]: row[3] for row in card.sections[-1].tables[0].rows}
    assert rows["28"] == "--scores"
    assert "None are known, because there are no scores" in to_markdown(card)


def test_scores_stand_with_their_intervals_and_by_group() -> None:
    text = to_markdown(model_card(FACTS, [scored("blob_3", "x")], {}))
    assert "0.800 (0.70–\u20600.90)" in text
    assert "scores.json by phase" in text


def test_no_text_of_others_acts_as_markup() -> None:
    odd = "a|b `c` <script>x</script> *d* [e](f)\n# g"
    answers = (Answer("k", odd, odd), Answer("r", "asked", odd, recorded=True))
    section = Section("s", odd, (odd,), (odd,), answers, (Table(odd, (odd,), ((odd,),)),))
    document = Document("Model card", odd, odd, odd, (section,))
    assert "<script>x" not in to_html(document)
    markdown = to_markdown(document)
    for sign in ("a|b", "<script>", "`c`", "*d*", "[e]", "\n# g"):
        assert sign not in markdown


def test_an_about_file_is_filled_in_and_read_back() -> None:
    blank = json.loads(blank_about())
    assert list(blank) == list(FIELDS)
    assert parse_about(blank_about()) == {}
    blank["licence"]["answer"] = " MIT "
    assert parse_about(json.dumps(blank | {"caveats": ["one", "two"]})) == {"licence": "MIT", "caveats": "one; two"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"use": "x"}', "fields that there are not"),
     ('{"licence": 3}', "an answer is text")],
)  # fmt: skip
def test_an_about_file_that_means_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse_about(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("[1]", "cannot be read"), ('{"mean": {}}', "another version"), ('{"schema_version": 1}', "another version"),
     ('{"schema_version": 2, "structures": {}, "cases": {}}', "of no case")],
)  # fmt: skip
def test_scores_that_are_none_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        parse_scores(text)


def test_a_card_is_written_from_a_folder_with_scores_and_dataset(tmp_path: Path, settings: Settings) -> None:
    dataset = write_blobs(tmp_path / "data", 4)
    plan = tiny_plan()
    known = msgspec.structs.replace(PROVENANCE, dataset_digest=digest(dataset), populations={})
    model = Model(start(plan).average, plan, LABELS, known, (Rule(label="core", largest_only=True),))
    save_model(tmp_path / "blobber", model)
    prediction = tmp_path / "results" / "blob_3.nii.gz"
    write_record(prediction, _record(model.digest))
    content = msgspec.to_builtins(scores("blob_3")) | {"files": {"blob_3": {"prediction": str(prediction)}}}
    (tmp_path / "results" / "scores.json").write_text(json.dumps(content))
    sources = CardSources(scores=(tmp_path / "results",), dataset=tmp_path / "data")
    made = write_card(tmp_path / "blobber", tmp_path / "card", sources, settings=settings)
    assert {path.name for path in made.files} == {
        "model_card.html", "model_card.md", "model_card.json", "data_sheet.html", "data_sheet.md"
    }  # fmt: skip
    facts = json.loads((tmp_path / "card" / "model_card.json").read_text())
    assert facts["model"]["digest"] == model.digest
    assert facts["model"]["provenance"]["populations"]["training"]["patients"] == 2
    assert (facts["scores"][0]["standing"], facts["scores"][0]["doubts"]) == ("test", [])
    assert "of core only its largest part" in made.card.read_text()
    assert "this is the one that the model was trained with" in (tmp_path / "card" / "data_sheet.md").read_text()
    assert made.about is not None
    made.about.write_text('{"licence": "MIT"}')
    write_card(tmp_path / "blobber", tmp_path / "card", sources, settings=settings)
    assert made.about.read_text() == '{"licence": "MIT"}'


def _record(model: str) -> ResultRecord:
    return ResultRecord(case="blob_3", labels={"core": 1}, volumes_ml={}, model=model, series_uid=None, seconds=0)


def test_predictions_of_another_model_are_not_this_ones(tmp_path: Path, settings: Settings) -> None:
    plan = tiny_plan()
    save_model(tmp_path / "m", Model(start(plan).average, plan, LABELS, PROVENANCE))
    prediction = tmp_path / "blob_3.nii.gz"
    write_record(prediction, _record("of another"))
    content = msgspec.to_builtins(scores("blob_3")) | {"files": {"blob_3": {"prediction": prediction.name}}}
    (tmp_path / "scores.json").write_text(json.dumps(content))
    made = write_card(tmp_path / "m", tmp_path / "card", CardSources(scores=(tmp_path,)), settings=settings)
    page = made.card.read_text()
    assert "1 of 1 predictions were made by another model" in page
    assert "Test scores" not in page
    assert "None of the scores below is shown to be a test score" in page


def test_scores_given_twice_are_refused(tmp_path: Path, settings: Settings) -> None:
    plan = tiny_plan()
    save_model(tmp_path / "m", Model(start(plan).average, plan, LABELS, PROVENANCE))
    twice = CardSources(scores=(tmp_path, tmp_path / "scores.json"))
    with pytest.raises(InputError, match="given twice"):
        write_card(tmp_path / "m", tmp_path / "card", twice, settings=settings)


def test_an_imported_model_says_that_its_cases_are_not_recorded() -> None:
    imported = msgspec.structs.replace(
        PROVENANCE, training_cases=(), validation_cases=(), origin="nnU-Net", populations={}
    )
    card = model_card(replace(FACTS, provenance=imported), [], {})
    answers = {key: answer.text for key, (_, answer) in card.answers.items()}
    assert "Which cases trained it was not recorded." in answers["limits"]
    assert answers["training"] == answers["initialisation"] == ""
    assert "as they were imported: nnU-Net" in answers["weights"]


def test_the_command_says_what_is_still_to_be_stated(tmp_path: Path) -> None:
    plan = tiny_plan()
    save_model(tmp_path / "m", Model(start(plan).average, plan, LABELS, PROVENANCE))
    (tmp_path / "scores.json").write_text(json.dumps(msgspec.to_builtins(scores("blob_0"))))
    words = ["card", str(tmp_path / "m"), "--scores", str(tmp_path / "scores.json"), "-o", str(tmp_path / "card")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "Not a test score: 1 of 1 cases trained this model" in result.output
    assert "questions are not answered; fill in" in result.output
