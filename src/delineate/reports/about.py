"""What no run can record, and people may state about a model and its data: about.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delineate.errors import InputError

MODEL_FIELDS: Mapping[str, str] = {
    "name": "Name of the model",
    "version": "Version",
    "developers": "Who made it",
    "contact": "Whom to ask",
    "licence": "Licence",
    "citation": "How to cite it",
    "regulatory_status": "Regulatory status",
    "intended_use": "What it is meant for",
    "intended_users": "Who is meant to use it",
    "clinical_role": "Its place in the clinical workflow",
    "out_of_scope": "What it must not be used for",
    "background": "Clinical and scientific background",
    "objectives": "Aims and hypotheses",
    "study_design": "Prospective or retrospective",
    "study_goal": "Goal of the study (a feasibility study, a model for use, a comparison, ...)",
    "factors": "People, devices and conditions that may change how well it works",
    "sample_size": "How many test cases were meant, and why",
    "external_data": "Whether the test cases come from other institutions, and which",
    "robustness": "How robust it is to other scanners, noise, protocols",
    "explainability": "How its results can be explained",
    "diagnostic_performance": "Performance for the clinical question (sensitivity, specificity, ...)",
    "caveats": "Known limits",
    "implications": "What it means for practice",
    "ethics": "Ethical considerations: risks, harms, fairness",
    "registration": "Registration of the trial",
    "protocol": "Where the full protocol is",
    "availability": "Where software, model and data are",
    "funding": "Funding, and the part of the funders",
}
DATA_FIELDS: Mapping[str, str] = {
    "data_name": "Name of the data set",
    "data_purpose": "Why it was made",
    "data_creators": "Who made it, and for whom",
    "data_funding": "Who paid for it",
    "data_sources": "Which institutions, registries or public collections it comes from",
    "data_dates": "When the scans were made",
    "inclusion": "Who was included",
    "exclusion": "Who was excluded, and how many",
    "acquisition": "Scanners, protocols, contrast agent",
    "demographics": "Age, sex, ancestry, disease of the patients, on each side of the split",
    "data_selection": "How cases were chosen out of all there were",
    "ethics_approval": "Approval of an ethics committee",
    "consent": "Consent of the patients, and how it can be withdrawn",
    "deidentification": "How patients were made unrecognisable",
    "missing_data": "What was done about missing data",
    "reference_method": "How the references were drawn",
    "reference_rationale": "Why this way",
    "reference_annotators": "Who drew them, with what training and experience",
    "reference_tools": "With what software",
    "test_annotation": "How the references of the test cases were made, if otherwise",
    "reader_variability": "How far readers differ, and what was done about it",
    "data_processing": "What was done to the scans before delineate saw them",
    "known_errors": "Known errors, noise, redundancies",
    "data_uses": "What it has been used for, and what it should not be used for",
    "data_licence": "Licence of the data",
    "data_distribution": "How it can be had",
    "data_maintenance": "Who looks after it; corrections and further versions",
}
FIELDS: Mapping[str, str] = {**MODEL_FIELDS, **DATA_FIELDS}


def blank_about() -> str:
    """JSON to fill in: each field with what it asks and an empty answer."""
    return json.dumps({key: {"asks": asks, "answer": ""} for key, asks in FIELDS.items()}, indent=1) + "\n"


def parse_about(text: str | bytes, path: Path | None = None) -> dict[str, str]:
    """Answers by field; those that were left empty are left out.

    An answer is a text, a list of texts, or an object with "answer", as `blank_about` writes it. Raises `InputError`
    for text that is no JSON object, a field that there is not, or an answer of another kind.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError("not JSON", got=str(error), path=path, remedy="Correct that place of the file.") from error
    if not isinstance(content, dict):
        raise InputError("not a JSON object", expected='{"intended_use": "..."}', path=path)
    unknown = [key for key in content if key not in FIELDS]
    if unknown:
        raise InputError(
            "fields that there are not",
            got=", ".join(unknown[:5]),
            path=path,
            remedy=f"The fields are: {', '.join(FIELDS)}.",
        )
    answers = {key: _answer(key, value, path) for key, value in content.items()}
    return {key: answer for key, answer in answers.items() if answer}


def _answer(key: str, value: Any, path: Path | None) -> str:
    if isinstance(value, dict):
        value = value.get("answer", "")
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "; ".join(value)
    if not isinstance(value, str):
        raise InputError("an answer is text", expected=f'"{key}": "..."', got=type(value).__name__, path=path)
    return value.strip()
