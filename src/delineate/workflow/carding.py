"""`delineate card`: a model card and the data sheet of its training data, written from what runs recorded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from delineate import formats
from delineate.dataset import Case, Dataset, digest, open_dataset
from delineate.errors import DelineateError, InputError, ModelError
from delineate.files import write_once, write_text
from delineate.geometry import Grid, axis_change, change_axes
from delineate.model import Model, Provenance, load_model
from delineate.postprocessing import Rule
from delineate.reports.about import blank_about, parse_about
from delineate.reports.card_scores import ScoreFacts
from delineate.reports.cards import ModelFacts, find_limits, model_card
from delineate.reports.datasheets import DataFacts, data_sheet
from delineate.reports.documents import Document, to_html, to_markdown
from delineate.reports.score_records import ScoresRecord, Standing, Standings, parse_scores, standing_of
from delineate.settings import Settings
from delineate.workflow.import_records import read_import
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import read_record
from delineate.workflow.run_records import population
from delineate.workspace import RunFolder

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class CardFiles:
    """What was written; `open`: questions that nobody has answered; `doubts`: why scores are no test scores."""

    card: Path
    files: tuple[Path, ...]
    about: Path | None
    open: int
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CardSources:
    """What a card is written from beside the model: files that `evaluate` wrote, a dataset, what people stated."""

    scores: tuple[Path, ...] = ()
    dataset: Path | None = None
    about: Path | None = None


def write_card(
    model_folder: Path, folder: Path, sources: CardSources, *, settings: Settings, watch: Watch = nobody
) -> CardFiles:
    """Write model_card (.html, .md, .json) and data_sheet (.html, .md) into `folder`.

    Without `about`, an about.json to fill in is left there, unless there is one. Raises what reading a model, scores,
    a dataset or the about file raises.
    """
    about = {} if sources.about is None else parse_about(_read(sources.about), sources.about)
    model = load_model(model_folder)
    opened = None if sources.dataset is None else open_dataset(sources.dataset)
    scores = [_scores(path, model, opened) for path in _apart(sources.scores)]
    data = None if opened is None else _data_facts(opened, model.provenance, sources.dataset, settings, watch)
    provenance = _completed(model.provenance, data)
    facts = _model_facts(model_folder, model, provenance)
    sheet = data_sheet(data, provenance, model.labels.names, about)
    card = model_card(facts, scores, about, sheet=sheet)
    files = [folder / "model_card.json"]
    write_text(files[0], _json(facts, scores, about, (card, sheet)))
    for name, document in (("data_sheet", sheet), ("model_card", card)):
        files += [folder / f"{name}.html", folder / f"{name}.md"]
        write_text(files[-2], to_html(document))
        write_text(files[-1], to_markdown(document))
    blank = None
    if sources.about is None:
        blank = folder / "about.json"
        write_once(blank, blank_about().encode())
    doubts = tuple(f"{found.name}: {found.standings.words}" for found in scores if found.standings.is_no_test)
    return CardFiles(folder / "model_card.html", tuple(files), blank, len(card.open) + len(sheet.open), doubts)


def _completed(provenance: Provenance, data: DataFacts | None) -> Provenance:
    """What older models did not record of whose scans trained them, from the very dataset that did."""
    if provenance.populations or data is None or not data.is_trained:
        return provenance
    return msgspec.structs.replace(provenance, populations=dict(data.populations))


def _model_facts(folder: Path, model: Model, provenance: Provenance) -> ModelFacts:
    try:
        split = RunFolder(folder).split().how
    except ModelError:
        split = ""  # the training folder is not given away with every model
    return ModelFacts(
        name=folder.resolve().name,
        digest=model.digest,
        labels=model.labels.names,
        plan=model.plan,
        provenance=provenance,
        rules=tuple(map(_rule, model.postprocessing)),
        folds=len(model.folds),
        stages=tuple(model.stages),
        parameters=sum(tensor.numel() for tensor in model.weights.values()),
        split=split,
    )


def _rule(rule: Rule) -> str:
    return f"of {rule.label.replace('_', ' ')} {rule.words}"


def _apart(paths: Sequence[Path]) -> list[Path]:
    files = [path / "scores.json" if path.is_dir() else path for path in paths]
    if len({file.resolve() for file in files}) < len(files):
        raise InputError("scores given twice", got=", ".join(map(str, files)), remedy="Name each file once.")
    return files


def _scores(path: Path, model: Model, dataset: Dataset | None) -> ScoreFacts:
    """One file of scores, with what its cases mean for this model."""
    record, known = parse_scores(_read(path), path), model.provenance
    made_by = _made_by(record, path.parent)
    standings = standing_of(
        record.cases,
        training=known.training_cases,
        validation=known.validation_cases,
        held_out=known.held_out_cases,
        shared_patients=_shared_patients(record, known, dataset),
    )
    others = sum(count for found, count in made_by.items() if found not in ("", model.digest))
    if others:
        words = f"{others} of {sum(made_by.values())} predictions were made by another model, as their records say."
        standings = Standings(Standing.FOREIGN, f"Not this model's scores: {words}")
    name = f"{path.resolve().parent.name}/{path.name}"
    return ScoreFacts(name, record, standings, _doubts(record, model, made_by))


def _shared_patients(record: ScoresRecord, known: Provenance, dataset: Dataset | None) -> tuple[str, ...]:
    """Patients who were scored, and have a case among those that trained the model, as the dataset says."""
    if dataset is None:
        return ()
    trained = {case.patient_id for case in dataset.cases if case.id in known.training_cases}
    return tuple(sorted(trained & {case.patient or name for name, case in record.cases.items()}))


def _doubts(record: ScoresRecord, model: Model, made_by: Counter[str]) -> tuple[str, ...]:
    doubts = []
    strangers = [name for name in record.structures if name not in model.labels.names]
    if strangers:
        doubts.append(f"it has structures that this model does not find: {', '.join(strangers[:5])}.")
    unsaid = made_by[""] if made_by else len(record.cases)
    if unsaid:
        doubts.append(f"of {unsaid} predictions no record says which model made them.")
    return tuple(doubts)


def _made_by(record: ScoresRecord, folder: Path) -> Counter[str]:
    """Digests of the models that made the predictions, "" where no record says so."""
    files = [Path(files.prediction) for files in record.files.values() if files.prediction]
    # Scores may have been moved together with their predictions.
    records = [read_record(file) or read_record(folder / file.name) for file in files]
    return Counter("" if found is None else found.model for found in records)


def _data_facts(
    dataset: Dataset, known: Provenance, folder: Path | None, settings: Settings, watch: Watch
) -> DataFacts:
    watch("Comparing the dataset with the one that trained", 0, 1, "")
    is_trained = bool(known.dataset_digest) and digest(dataset) == known.dataset_digest
    watch("Comparing the dataset with the one that trained", 1, 1, "")
    grids, unreadable = _grids(dataset.cases, settings, watch)
    place = None if folder is None else folder if folder.is_dir() else folder.parent
    imported = 0 if place is None else sum(read_import(place, case.id) is not None for case in dataset.cases)
    sides = {"training": known.training_cases, "validation": known.validation_cases, "held_out": known.held_out_cases}
    found = {side: [case for case in dataset.cases if case.id in set(ids)] for side, ids in sides.items()}
    return DataFacts(
        name=dataset.name,
        is_trained=is_trained,
        channels=dataset.channels,
        labels=dataset.labels.names,
        populations={side: population(cases) for side, cases in found.items() if cases},
        cases=len(dataset.cases),
        patients=len({case.patient_id for case in dataset.cases}),
        with_reference=sum(case.reference is not None for case in dataset.cases),
        shapes=tuple(grid.shape for grid in grids),
        spacings_mm=tuple(grid.spacing_mm for grid in grids),
        unreadable=unreadable,
        imported=imported,
    )


def _grids(cases: Sequence[Case], settings: Settings, watch: Watch) -> tuple[list[Grid], tuple[str, ...]]:
    """Where the cases' voxels lie, axes turned to RAS, and the ids of those whose header could not be read."""

    def one(case: Case) -> Grid | None:
        try:
            grid = formats.read_grid(case.images[0])
        except (DelineateError, OSError):
            return None
        return change_axes(grid, axis_change(grid.orientation, "RAS"))

    grids: list[Grid | None] = []
    with ThreadPoolExecutor(settings.threads) as pool:
        for done, grid in enumerate(pool.map(one, cases), start=1):
            grids.append(grid)
            watch("Reading headers", done, len(cases), cases[done - 1].id)
    unreadable = tuple(case.id for case, grid in zip(cases, grids, strict=True) if grid is None)
    return [grid for grid in grids if grid is not None], unreadable


def _json(
    model: ModelFacts, scores: Sequence[ScoreFacts], about: Mapping[str, str], documents: Sequence[Document]
) -> str:
    """The card's facts for other programs: NaN is null; what nobody has said is ""."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": about.get("name") or model.name,
            "digest": model.digest,
            "structures": model.labels,
            "channels": model.plan.channels,
            "provenance": msgspec.to_builtins(model.provenance),
            "split": model.split,
            "limits": find_limits(
                model, [facts for facts in scores if facts.standings.standing is not Standing.FOREIGN]
            ),
        },
        "scores": [
            {
                "name": facts.name,
                "standing": facts.standings.standing.name.lower(),
                "why": facts.standings.words,
                "doubts": facts.doubts,
                "mean": facts.record.mean,
                "mean_interval": facts.record.mean_interval,
                "structures": msgspec.to_builtins(facts.record.structures),
                "worst": [case_id for case_id, _ in facts.record.lowest[:10]],
            }
            for facts in scores
        ],
        "stated": dict(about),
        "sections": {
            f"{document.kind}: {section.title}": {answer.asks: answer.text for answer in section.answers}
            for document in documents
            for section in document.sections
            if section.answers
        },
        "claim_2024": [
            dict(zip(("item", "asks", "answered_in", "to_be_stated"), row, strict=True))
            for document in documents
            for section in document.sections
            if section.id == "claim"
            for row in section.tables[0].rows
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("the file cannot be read", got=error.strerror, path=path) from error
