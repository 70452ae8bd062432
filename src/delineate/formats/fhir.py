"""Findings as HL7 FHIR: a Bundle of Observations, one for each number, and the Device that made them.

FHIR R4B is written, the release whose Observation, Device and Bundle are those of R4, which hospitals run and profiles
such as the International Patient Summary build on; R5 servers read it by a conversion. Every resource is checked by
`fhir.resources` before it is written. Quantities, units and structures are coded as in the structured report
(`dicom_results.sr`), and what TID 1411 and 1419 say beside a number is a component of its Observation.

Nobody's name, birth date or identifier is written, except a patient identifier that the caller gives. The study's UID
is a reference to it, and stays out if it is not given.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from delineate.errors import ExportError, ResourceError
from delineate.files import write_text
from delineate.findings import Finding
from delineate.labels import Code
from delineate.terminology import ABNORMAL_STRUCTURE, PRIVATE_SCHEME, concept_of

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "IBSI": "urn:oid:1.2.840.10008.2.16.13",
    # Of our own scheme 99DELINEATE: made once, never to change.
    "99DELINEATE": "urn:uuid:6f0ecb5e-6a3c-5d0e-9a43-2c1f7e8d4b11",
}

_SPACE = uuid.UUID("0b9a2f6e-3f0e-5f0a-8a55-6d1f2c7b9e42")  # of the identifiers that are made here
_FINDING = Code("121071", "DCM", "Finding")
_OTHER = Code("SECOND_STRUCTURE", PRIVATE_SCHEME, "Second structure of a distance, share or comparison")
_SIDE = Code("272741003", "SCT", "Laterality")
_TRACKING = Code("112039", "DCM", "Tracking Identifier")
_UPWARD = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
_DOWNWARD = Code("371885007", "SCT", "-, range of lower measurement uncertainty")


@dataclass(frozen=True, slots=True)
class Occasion:
    """What findings were made on, by what and for whom; None or "" stays out of the file.

    `study_uid`: StudyInstanceUID of the scan. `patient_id`: only where the receiver may know it. `made`: when the
    segmentation was measured; a time without zone is taken as local. `model`: digest of the model that segmented.
    `reviewed_by`: who looked at the findings; without it they are preliminary.
    """

    study_uid: str | None = None
    patient_id: str | None = None
    made: datetime | None = None
    model: str | None = None
    reviewed_by: str | None = None


def write_fhir(path: Path, findings: Sequence[Finding], occasion: Occasion | None = None) -> None:
    """Write findings as one JSON Bundle of type "collection", atomically, in their order; the Device comes first.

    The same findings of the same study by the same model get the same identifiers; without a study, every bundle has
    its own, because the next one may be another patient's. Raises `ExportError` for no findings, two findings on the
    same thing, or a resource that is not valid FHIR; `ResourceError` if `fhir.resources` is not installed.
    """
    write_text(path, bundle_json(findings, occasion, path=path) + "\n")


def bundle_json(findings: Sequence[Finding], occasion: Occasion | None = None, *, path: Path | None = None) -> str:
    """What `write_fhir` writes; `path` is named in its errors."""
    if not findings:
        raise ExportError("a bundle without findings", path=path)
    bundle = _bundle_type()
    made = occasion or Occasion()
    device = _urn("device", made.model or "", version("delineate"))
    entries = [{"fullUrl": device, "resource": _device(made)}]
    about = made.study_uid or str(uuid.uuid4()), made.model or ""
    entries += [{"fullUrl": _url(one, about), "resource": _observation(one, made, device)} for one in findings]
    urls = [str(entry["fullUrl"]) for entry in entries]
    if len(set(urls)) < len(urls):
        twice = next(one for n, one in enumerate(findings, 1) if urls.index(urls[n]) < n)
        raise ExportError(f"{twice.meaning} of {twice.label.name} is there twice", path=path)
    content: dict[str, Any] = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    if made.made is not None:
        content["timestamp"] = made.made.astimezone().isoformat()
    try:
        bundle.model_validate(content)
    except ValueError as error:
        raise ExportError("not valid FHIR", got=str(error)[:300], path=path) from error
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _bundle_type() -> Any:
    try:
        from fhir.resources.R4B.bundle import Bundle
    except ImportError as error:
        raise ResourceError("fhir.resources is not installed", remedy="pip install 'delineate[fhir]'.") from error
    return Bundle


def _device(occasion: Occasion) -> dict[str, Any]:
    device: dict[str, Any] = {
        "resourceType": "Device",
        "deviceName": [{"name": "delineate", "type": "user-friendly-name"}],
        "version": [{"value": version("delineate")}],
    }
    if occasion.model:
        device["identifier"] = [{"type": {"text": "digest of the model"}, "value": occasion.model}]
    return device


def _observation(finding: Finding, occasion: Occasion, device: str) -> dict[str, Any]:
    concept = concept_of(finding.label)
    is_lesion = concept.category == ABNORMAL_STRUCTURE
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final" if occasion.reviewed_by else "preliminary",
        "category": [_category()],
        "code": {"coding": [_coding(finding.quantity)], "text": _words(finding)},
        "valueQuantity": _quantity(finding.value, finding.unit),
        "method": _method(finding),
        "device": {"reference": device},
        "component": list(_components(finding)),
    }
    if not is_lesion:  # where a lesion lies is not what it is
        observation["bodySite"] = {"coding": [_coding(concept.type)], "text": finding.label.name}
    if finding.note:
        observation["note"] = [{"text": finding.note}]
    return {**observation, **_references(occasion)}


def _references(occasion: Occasion) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if occasion.study_uid:
        study = {"system": "urn:dicom:uid", "value": f"urn:oid:{occasion.study_uid}"}
        found["derivedFrom"] = [{"type": "ImagingStudy", "identifier": study}]
    if occasion.patient_id:
        found["subject"] = {"type": "Patient", "identifier": {"value": occasion.patient_id}}
    if occasion.made is not None:
        found["issued"] = found["effectiveDateTime"] = occasion.made.astimezone().isoformat()
    if occasion.reviewed_by:
        found["performer"] = [{"display": occasion.reviewed_by}]
    return found


def _components(finding: Finding) -> Iterator[dict[str, Any]]:
    """What is said beside the number: what it is on, which lesion, its side, the other structure, the uncertainty."""
    concept = concept_of(finding.label)
    part = "" if finding.component is None else f", part {finding.component}"
    yield {"code": _concept(_FINDING), "valueCodeableConcept": _concept(concept.type, finding.label.name)}
    yield {"code": _concept(_TRACKING), "valueString": f"{finding.label.name}{part}"}
    if concept.laterality is not None:
        yield {"code": _concept(_SIDE), "valueCodeableConcept": _concept(concept.laterality)}
    if finding.other is not None:
        other = concept_of(finding.other)
        # No finding site: a tumour 80 mm from the spleen is not one of the spleen.
        yield {"code": _concept(_OTHER), "valueCodeableConcept": _concept(other.type, finding.other.name)}
    if finding.spread is not None:
        for code, apart in (
            (_UPWARD, finding.spread.highest - finding.value),
            (_DOWNWARD, finding.value - finding.spread.lowest),
        ):
            quantity = _quantity(max(apart, 0.0), finding.unit)
            yield {"code": _concept(code, f"over {finding.spread.over}"), "valueQuantity": quantity}


def _words(finding: Finding) -> str:
    return finding.meaning if finding.other is None else f"{finding.meaning} ({finding.other.name})"


def _method(finding: Finding) -> dict[str, Any]:
    method: dict[str, Any] = {"text": "measured on a segmentation"}
    if finding.derivation is not None:
        method["coding"] = [_coding(finding.derivation)]
    return method


def _category() -> dict[str, Any]:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {"coding": [{"system": system, "code": "imaging", "display": "Imaging"}]}


def _quantity(value: float, unit: Code) -> dict[str, Any]:
    return {"value": value, "unit": unit.meaning, "system": SYSTEMS["UCUM"], "code": unit.value}


def _concept(code: Code, words: str = "") -> dict[str, Any]:
    return {"coding": [_coding(code)], "text": words or code.meaning}


def _coding(code: Code) -> dict[str, Any]:
    if code.scheme not in SYSTEMS:  # no address is better than a made-up one
        return {"code": code.value, "display": f"{code.meaning} ({code.scheme})"}
    return {"system": SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}


def _url(finding: Finding, made_on: tuple[str, str]) -> str:
    about = (finding.label.name, finding.quantity, finding.derivation, finding.component, finding.other)
    return _urn("finding", *made_on, repr(about))


def _urn(*words: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_SPACE, json.dumps(words))}"
