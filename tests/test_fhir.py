"""FHIR bundles: valid, coded, with units, and without anybody's name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from delineate.errors import ExportError, ResourceError
from delineate.findings import MILLILITRE, VOLUME, Finding, Spread
from delineate.formats.fhir import SYSTEMS, Occasion, bundle_json, write_fhir
from delineate.labels import Code, label_set
from delineate.measurement import quantities as q

pytest.importorskip("fhir.resources")

LABELS = label_set({1: "left_kidney", 2: "liver tumor", 3: "odd one"})
KIDNEY, TUMOR, ODD = LABELS
DISTANCE = Finding(
    TUMOR, q.DISTANCE, 4.0, q.MILLIMETRE, component=2, other=KIDNEY, spread=Spread(3.5, 6.0, 1.0, "5 folds")
)
FINDINGS = (
    Finding(KIDNEY, VOLUME, 171.5, MILLILITRE, note="touches the scan's border"),
    Finding(KIDNEY, q.ATTENUATION, 103.25, q.HOUNSFIELD, derivation=q.MEAN),
    DISTANCE,
    Finding(ODD, q.MARGIN, 2.0, q.MILLIMETRE),
)


def observations(*findings: Finding, occasion: Occasion | None = None) -> list[dict[str, Any]]:
    bundle = json.loads(bundle_json(findings or FINDINGS, occasion))
    assert bundle["entry"][0]["resource"]["resourceType"] == "Device"
    return [entry["resource"] for entry in bundle["entry"][1:]]


def components(observation: dict[str, Any]) -> dict[str, Any]:
    return {
        one["code"]["coding"][0]["display"]: next(value for key, value in one.items() if key.startswith("value"))
        for one in observation["component"]
    }


def test_a_file_is_read_back_by_fhir_resources(tmp_path: Path) -> None:
    from fhir.resources.R4B.bundle import Bundle

    write_fhir(tmp_path / "findings.fhir.json", FINDINGS)
    bundle: Any = Bundle.model_validate_json((tmp_path / "findings.fhir.json").read_text())
    found = [entry.resource for entry in bundle.entry[1:]]
    assert [float(one.valueQuantity.value) for one in found] == [171.5, 103.25, 4.0, 2.0]
    assert [one.valueQuantity.code for one in found] == ["ml", "[hnsf'U]", "mm", "mm"]
    assert {one.device.reference for one in found} == {bundle.entry[0].fullUrl}


def test_quantities_and_sites_are_coded() -> None:
    volume, mean, distance, margin = observations()
    assert volume["code"]["coding"] == [{"system": SYSTEMS["SCT"], "code": "118565006", "display": "Volume"}]
    assert volume["bodySite"]["coding"][0]["code"] == "64033007"
    assert mean["code"]["text"] == "Attenuation Coefficient, mean"
    assert mean["method"]["coding"][0]["code"] == "373098007"
    assert "bodySite" not in distance  # a lesion is not its own site
    assert margin["code"]["coding"][0]["system"].startswith("urn:uuid:")


def test_lesions_sides_and_uncertainty_are_components() -> None:
    said = components(observations(DISTANCE)[0])
    assert said["Finding"]["coding"][0]["code"] == "108369006"
    assert said["Tracking Identifier"] == "liver tumor, part 2"
    assert said["Second structure of a distance, share or comparison"]["coding"][0]["display"] == "Kidney"
    assert said["+, range of upper measurement uncertainty"]["value"] == 2.0
    assert said["-, range of lower measurement uncertainty"]["value"] == 0.5
    assert components(observations()[0])["Laterality"]["coding"][0]["code"] == "7771000"


def test_notes_are_kept() -> None:
    assert [one.get("note") for one in observations()][:2] == [[{"text": "touches the scan's border"}], None]


def test_findings_are_preliminary_until_somebody_looked() -> None:
    assert {one["status"] for one in observations()} == {"preliminary"}
    reviewed = observations(occasion=Occasion(reviewed_by="Dr A. Reader"))
    assert {one["status"] for one in reviewed} == {"final"}
    assert reviewed[0]["performer"] == [{"display": "Dr A. Reader"}]


def test_nobody_is_named_unless_told() -> None:
    assert not {"subject", "derivedFrom", "performer", "issued"} & observations()[0].keys()
    told = observations(occasion=Occasion(study_uid="1.2.840.99", patient_id="P7"))[0]
    assert told["subject"] == {"type": "Patient", "identifier": {"value": "P7"}}
    assert told["derivedFrom"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.99"}


def test_times_and_the_model_are_said() -> None:
    occasion = Occasion(made=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), model="abc123")
    bundle = json.loads(bundle_json(FINDINGS, occasion))
    made = datetime.fromisoformat(bundle["entry"][1]["resource"]["effectiveDateTime"])
    assert made == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert bundle["entry"][0]["resource"]["identifier"][0]["value"] == "abc123"


def test_the_same_findings_are_the_same_resources() -> None:
    occasion = Occasion(study_uid="1.2.3")
    assert bundle_json(FINDINGS, occasion) == bundle_json(FINDINGS, occasion)
    urls = [entry["fullUrl"] for entry in json.loads(bundle_json(FINDINGS, occasion))["entry"]]
    others = [entry["fullUrl"] for entry in json.loads(bundle_json(FINDINGS, Occasion(study_uid="4.5")))["entry"]]
    assert len({*urls, *others}) == 2 * len(urls) - 1  # the device is the same


def test_findings_of_nobody_known_are_never_taken_for_each_others() -> None:
    first, second = ([one["fullUrl"] for one in json.loads(bundle_json(FINDINGS))["entry"]] for _ in range(2))
    assert first[0] == second[0]
    assert not {*first[1:]} & {*second[1:]}
    study = Occasion(study_uid="1.2.3")
    by_model = (
        json.loads(bundle_json(FINDINGS, study))["entry"],
        json.loads(bundle_json(FINDINGS, replace(study, model="abc")))["entry"],
    )
    assert not {one["fullUrl"] for one in by_model[0]} & {one["fullUrl"] for one in by_model[1]}


def test_what_is_far_away_is_no_finding_site() -> None:
    (found,) = observations(DISTANCE)
    assert DISTANCE.other is not None
    assert DISTANCE.other.name in found["code"]["text"]
    assert "363698007" not in json.dumps(found)


def test_every_quantity_and_unit_is_valid() -> None:
    codes = [code for code in vars(q).values() if isinstance(code, Code)]
    assert {code.scheme for code in codes} <= SYSTEMS.keys()
    measured = [code for code in codes if code.scheme != "UCUM"]
    found = observations(*(Finding(KIDNEY, code, 1.5, q.NO_UNITS) for code in measured))
    assert [one["code"]["coding"][0]["code"] for one in found] == [code.value for code in measured]


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="a bundle without findings"):
        write_fhir(tmp_path / "a.json", ())
    with pytest.raises(ExportError, match="Distance of liver tumor is there twice"):
        write_fhir(tmp_path / "a.json", (*FINDINGS, DISTANCE))
    with pytest.raises(ExportError, match="not valid FHIR"):
        write_fhir(tmp_path / "a.json", (Finding(KIDNEY, Code(" ", "SCT", "blank"), 1.0, MILLILITRE),))
    monkeypatch.setitem(sys.modules, "fhir.resources.R4B.bundle", None)
    with pytest.raises(ResourceError, match=r"not installed.*delineate\[fhir\]"):
        write_fhir(tmp_path / "a.json", FINDINGS)
    assert not list(tmp_path.iterdir())
