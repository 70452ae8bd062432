"""Names to coded concepts: every code as the standard has it, and no name taken for another."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from delineate.labels import Code, Label
from delineate.phantom import PATIENT_LABELS
from delineate.terminology import (
    ABNORMAL_STRUCTURE,
    ANATOMICAL_STRUCTURE,
    BILATERAL,
    LEFT,
    PRIVATE_SCHEME,
    RIGHT,
    TISSUE,
    Concept,
    concept,
    concept_of,
    known_concepts,
)

SCT: dict[str, dict[str, tuple[str, list[int]]]] = concepts["SCT"]  # type: ignore[assignment]

TOTAL_BODY = """
spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right esophagus
trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left kidney_cyst_right sacrum
vertebrae_S1 vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1 vertebrae_T12 vertebrae_T11 vertebrae_T10
vertebrae_T9 vertebrae_T8 vertebrae_T7 vertebrae_T6 vertebrae_T5 vertebrae_T4 vertebrae_T3 vertebrae_T2 vertebrae_T1
vertebrae_C7 vertebrae_C6 vertebrae_C5 vertebrae_C4 vertebrae_C3 vertebrae_C2 vertebrae_C1 heart aorta pulmonary_vein
brachiocephalic_trunk subclavian_artery_right subclavian_artery_left common_carotid_artery_right
common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right atrial_appendage_left superior_vena_cava
inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right
humerus_left humerus_right scapula_left scapula_right clavicula_left clavicula_right femur_left femur_right hip_left
hip_right spinal_cord gluteus_maximus_left gluteus_maximus_right gluteus_medius_left gluteus_medius_right
gluteus_minimus_left gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain skull
rib_left_1 rib_left_12 rib_right_7 sternum costal_cartilages heart_myocardium heart_atrium_left heart_ventricle_right
pulmonary_artery face
"""
HEAD_AND_NECK = ["brainstem", "spinal_cord", "right_parotid", "left_parotid", "esophagus", "larynx", "mandible"]
HIPPOCAMPUS = ["anterior_hippocampus", "hippocampus_posterior"]


def meanings(code: Code) -> set[str]:
    """What pydicom's copy of PS3.16 and SNOMED CT says that a code means."""
    return {
        meaning.lower() for entries in SCT.values() for value, (meaning, _) in entries.items() if value == code.value
    }


@pytest.mark.parametrize("known", known_concepts(), ids=lambda c: c.type.meaning)
def test_codes_and_meanings_are_the_standards(known: Concept) -> None:
    for code in (known.category, known.type):
        assert code.meaning.lower() in meanings(code)


def test_sides_are_the_standards() -> None:
    assert all(code.meaning.lower() in meanings(code) for code in (LEFT, RIGHT, BILATERAL))


@pytest.mark.parametrize("name", [*TOTAL_BODY.split(), *HEAD_AND_NECK, *HIPPOCAMPUS, *PATIENT_LABELS.names])
def test_usual_names_are_known(name: str) -> None:
    assert concept(name).type.scheme == "SCT"


@pytest.mark.parametrize(
    ("name", "value", "side"),
    [
        ("left_kidney", "64033007", LEFT),
        ("KidneyRight", "64033007", RIGHT),
        ("Kidney (L)", "64033007", LEFT),
        ("Parotid_R", "45289007", RIGHT),
        ("lungs", "39607008", BILATERAL),
        ("left and right kidney", "64033007", BILATERAL),
        ("vertebrae_L5", "49668003", None),
        ("rib_left_12", "113197003", LEFT),
        ("heart_atrium_left", "82471001", None),
        ("LIVER", "10200004", None),
        ("lung_upper_lobe_left", "45653009", LEFT),
    ],
)
def test_names_are_taken_apart(name: str, value: str, side: Code | None) -> None:
    found = concept(name)
    assert (found.type.value, found.laterality, found.category) == (value, side, ANATOMICAL_STRUCTURE)


@pytest.mark.parametrize(
    ("name", "value"), [("GTV", "108369006"), ("liver tumour", "108369006"), ("lesion_2", "52988006")]
)
def test_lesions_are_abnormal_structures(name: str, value: str) -> None:
    assert concept(name).category == ABNORMAL_STRUCTURE
    assert concept(name).type.value == value


def test_tissue_is_a_category_of_its_own() -> None:
    assert concept("subcutaneous_fat").category == TISSUE


@pytest.mark.parametrize(
    "name", ["non_tumor_liver", "liver and spleen", "L1_left", "ventricle", "anterior", "T2", "peri kidney", "core", ""]
)
def test_what_is_not_certain_is_not_guessed(name: str) -> None:
    assert concept(name).type.scheme == PRIVATE_SCHEME


def test_private_codes_are_short_stable_and_different() -> None:
    code = concept("Müller's cell").type
    assert code == Code("8270FC41572205D8", PRIVATE_SCHEME, "Müller's cell")
    assert len({concept(name).type.value for name in ("a b", "a_b", "A b")}) == 3
    assert len(concept("x" * 200).type.meaning) == 64


def test_one_letter_is_no_side_of_an_unknown_name() -> None:
    assert concept("r_region").laterality is None
    assert concept("right_region").laterality == RIGHT


def test_a_labels_own_code_wins() -> None:
    tumor = Code("108369006", "SCT", "Neoplasm")
    found = concept_of(Label(1, "left kidney", (0, 0, 0), tumor))
    assert (found.type, found.category, found.laterality) == (tumor, ABNORMAL_STRUCTURE, LEFT)


def test_a_code_with_a_side_gets_no_second_one() -> None:
    atrium = Code("82471001", "SCT", "Left atrium")
    assert concept_of(Label(1, "left chamber", (0, 0, 0), atrium)).laterality is None
    kidney = Code("64033007", "SCT", "Kidney")
    assert concept_of(Label(1, "left_kidney", (0, 0, 0), kidney)).laterality == LEFT
