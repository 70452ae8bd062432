"""CLAIM 2024 item by item: what each asks, in our words, and which answers of a card give it.

Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology: Artificial
Intelligence 6(4), e240300, 2024. The numbers are the checklist's; the words are ours, so read the checklist itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from delineate.reports.about import FIELDS
from delineate.reports.documents import NOT_STATED, Answer, Document, Section, Table


@dataclass(frozen=True, slots=True)
class ClaimItem:
    """`keys`: of the answers that give it, any of which is enough to point at."""

    number: int
    asks: str
    keys: tuple[str, ...]


def _item(number: int, asks: str, *keys: str) -> ClaimItem:
    return ClaimItem(number, asks, keys)


ITEMS: tuple[ClaimItem, ...] = (
    _item(1, "The title says that it is AI, and of what kind", "kind"),
    _item(2, "A summary of design, methods, results", "study_design", "scores"),
    _item(3, "Background; what the model is for", "background", "intended_use", "clinical_role"),
    _item(4, "Aims and hypotheses", "objectives"),
    _item(5, "Prospective or retrospective", "study_design"),
    _item(6, "What kind of study it is", "study_goal"),
    _item(7, "Where the data come from", "data_sources", "data_dates", "training_sites"),
    _item(8, "Who was included, who was not", "inclusion", "exclusion"),
    _item(9, "How scans were prepared", "preparation", "data_processing"),
    _item(10, "Which part of the data was used", "data_selection", "training_data"),
    _item(11, "De-identification", "deidentification"),
    _item(12, "What was done about missing data", "missing_data", "missing_labels"),
    _item(13, "How scans were acquired", "acquisition", "voxel_sizes"),
    _item(14, "How references were obtained", "reference_method"),
    _item(15, "Why in this way", "reference_rationale"),
    _item(16, "Who drew them", "reference_annotators", "reference_tools"),
    _item(17, "References of the test cases", "test_annotation"),
    _item(18, "How far readers differ", "reader_variability"),
    _item(19, "How cases were divided", "split", "sides"),
    _item(20, "What the sides do not share (patients, sites)", "disjoint"),
    _item(21, "How many test cases were meant, and why", "sample_size"),
    _item(22, "The model in full", "network", "outputs", "postprocessing"),
    _item(23, "Software and versions", "software"),
    _item(24, "What the weights began with", "initialisation"),
    _item(25, "How it was trained", "training", "augmentation", "hardware"),
    _item(26, "How the final weights were chosen", "weights"),
    _item(27, "Several models as one", "ensemble"),
    _item(28, "Which figures measure it", "metrics"),
    _item(29, "Uncertainty and significance", "uncertainty"),
    _item(30, "Robustness", "robustness"),
    _item(31, "How results can be explained", "explainability"),
    _item(32, "Evaluation on data of the same source", "internal_test"),
    _item(33, "Testing on data from elsewhere", "external_data"),
    _item(34, "Registration of a trial", "registration"),
    _item(35, "How many were included and excluded", "sides", "exclusion"),
    _item(36, "Who the patients are, on each side", "demographics", "groups"),
    _item(37, "Scores with their uncertainty", "scores"),
    _item(38, "Performance for the clinical question", "diagnostic_performance"),
    _item(39, "What goes wrong, and where", "failures"),
    _item(40, "Limits", "limits", "caveats"),
    _item(41, "What it means for practice", "implications", "intended_use"),
    _item(42, "Where the full protocol is", "protocol"),
    _item(43, "Where software, model, data are", "availability"),
    _item(44, "Funding", "funding"),
)


_SCORED = ("scores", "metrics", "uncertainty", "internal_test", "failures")
_OPTIONS = {**dict.fromkeys(_SCORED, "--scores"), "voxel_sizes": "--dataset"}


def claim_section(documents: Sequence[Document], items: Sequence[ClaimItem] = ITEMS) -> Section:
    """A table of the items: where each is answered in some documents, and what of it is missing."""
    found: dict[str, tuple[str, Answer]] = {}
    for document in documents:
        for key, (section, answer) in document.answers.items():
            if answer.text or key not in found:
                found[key] = (f"{document.kind}: {section.title}", answer)
    rows = tuple((str(item.number), item.asks, *_answered(item, found)) for item in items)
    answered = sum(bool(row[2]) for row in rows)
    return Section(
        "claim",
        "CLAIM 2024 checklist",
        paragraphs=(
            f"{answered} of {len(items)} items have at least part of their answer here. The words are a reminder of "
            "each item, not its text.",
        ),
        tables=(
            Table(
                "Items of the checklist, and where each is answered",
                ("Item", "Asks", "Answered in", "To be stated in about.json, or given"),
                tuple((number, asks, where or NOT_STATED, need) for number, asks, where, need in rows),
                words=True,
            ),
        ),
    )


def _answered(item: ClaimItem, found: dict[str, tuple[str, Answer]]) -> tuple[str, str]:
    known = [found[key] for key in item.keys if key in found and found[key][1].text]
    places = dict.fromkeys(f"{place}, “{answer.asks}”" for place, answer in known)
    open_keys = [key for key in item.keys if not (key in found and found[key][1].text)]
    need = dict.fromkeys(key if key in FIELDS else _OPTIONS.get(key, "") for key in open_keys)
    return "; ".join(places), ", ".join(filter(None, need))
