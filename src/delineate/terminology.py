"""What a structure's name means: coded concepts (SNOMED CT, DICOM PS3.16) for the names that label maps use.

A name is taken apart into words, in any order and spelling style ("kidney_left", "LeftKidney", "Kidney (L)"): sides,
numbers and fill words are set aside, and the rest must be a known structure as a whole. A name that is not known gets a
private code and keeps its words as meaning; nothing is guessed, because a wrong code is worse than none.

Codes and meanings are those of PS3.16: CID 7150 (categories), CID 7151 with the lists it includes, CID 6300, 7601 and
8134 (types), CID 244 (laterality).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from delineate.labels import Code, Label

PRIVATE_SCHEME = "99DELINEATE"

ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")

RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
BILATERAL = Code("51440002", "SCT", "Bilateral")


@dataclass(frozen=True, slots=True)
class Concept:
    """What a segment is (PS3.3 C.8.20.2): property category, property type, and the side where the type has none."""

    category: Code
    type: Code
    laterality: Code | None = None


def concept(name: str) -> Concept:
    """The concept that a structure's name says.

    A name that is not known gets a private code: scheme "99DELINEATE", a value of 16 characters made from the name's
    SHA-256, and the name (its first 64 characters) as meaning.
    """
    words = _words(name)
    side = _side(words)
    body = words - _SIDES.keys() - _FILLERS
    known = _lookup(body | {side}) if side in ("left", "right") else None
    if known is not None:
        return known  # the side is part of the concept: "left atrium"
    known = _lookup(body)
    if known is not None:
        return Concept(known.category, known.type, _LATERALITY.get(side))
    # One letter may mean anything in a name whose other words are not understood.
    spelled = side if words & {"left", "right", "bilateral"} else ""
    return Concept(ANATOMICAL_STRUCTURE, _private(name), _LATERALITY.get(spelled))


def concept_of(label: Label) -> Concept:
    """The concept of a label; its own code wins over what its name says."""
    named = concept(label.name)
    if label.code is None:
        return named
    if (label.code.value, label.code.scheme) == (named.type.value, named.type.scheme):
        return Concept(named.category, label.code, named.laterality)
    known = _BY_CODE.get((label.code.value, label.code.scheme))
    sided = label.code.meaning.lower().startswith(("left", "right"))
    return Concept(
        ANATOMICAL_STRUCTURE if known is None else known.category, label.code, None if sided else named.laterality
    )


def known_concepts() -> tuple[Concept, ...]:
    """Every concept that a name can mean, without side."""
    return tuple(_BY_CODE.values())


_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # between the words of "LeftKidney"
_SIDES = {"left": "left", "lt": "left", "l": "left", "right": "right", "rt": "right", "r": "right", "bilateral": "both"}
_LATERALITY = {"left": LEFT, "right": RIGHT, "both": BILATERAL}
_FILLERS = frozenset({"of", "the", "and", "structure"})


def _words(name: str) -> set[str]:
    split = re.split(r"[^a-z0-9]+", _HUMP.sub(" ", name).lower())
    words: set[str] = set()
    for word in split:
        words.update(_SYNONYMS.get(word, word).split())
    return words


def _side(words: set[str]) -> str:
    sides = {_SIDES[word] for word in words if word in _SIDES}
    return "both" if {"left", "right"} <= sides or "both" in sides else next(iter(sides), "")


def _lookup(words: set[str]) -> Concept | None:
    found = _BY_WORDS.get(frozenset(words))
    if found is not None:
        return found
    # Numbers count instances: "lesion_2", "rib_7".
    counted = {word for word in words if not word.isdigit()}
    found = _BY_WORDS.get(frozenset(counted))
    return found if found is not None else _lesion(counted)


def _lesion(words: set[str]) -> Concept | None:
    """A kind of lesion in a known place, e.g. "liver tumor"; what is found counts, not where."""
    for kind, found in _LESIONS.items():
        place = frozenset(words - {kind} - _TUMOR_PARTS)
        if kind in words and (not place or place in _BY_WORDS):
            return found
    return None


def _private(name: str) -> Code:
    value = hashlib.sha256(name.encode()).hexdigest()[:16].upper()
    return Code(value, PRIVATE_SCHEME, " ".join(name.replace("\\", "/").split())[:64] or "unnamed")


_SYNONYMS = {
    "adrenals": "bilateral adrenal",
    "bowel": "intestine",
    "brainstem": "brain stem",
    "cancer": "tumor",
    "carcinoma": "tumor",
    "cartilages": "cartilage",
    "clavicula": "clavicle",
    "cysts": "cyst",
    "esophageal": "esophagus",
    "eyes": "bilateral eye",
    "femurs": "bilateral femur",
    "gallbladder": "gall bladder",
    "glands": "gland",
    "gtv": "tumor",
    "gtvp": "tumor",
    "hips": "bilateral hip",
    "kidneys": "bilateral kidney",
    "lesions": "lesion",
    "lungs": "bilateral lung",
    "lymphnode": "lymph node",
    "lymphnodes": "lymph node",
    "metastases": "metastasis",
    "muscles": "muscle",
    "neoplasm": "tumor",
    "nodes": "node",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "parotids": "bilateral parotid",
    "ribs": "rib",
    "spinalcord": "spinal cord",
    "submandibulars": "bilateral submandibular",
    "tumors": "tumor",
    "tumour": "tumor",
    "tumours": "tumor",
    "vertebrae": "vertebra",
}

_TUMOR_PARTS = frozenset({"whole", "core", "enhancing", "primary"})
_LESION_KINDS = {
    "tumor": ("108369006", "Neoplasm"),
    "metastasis": ("14799000", "Neoplasm, Secondary"),
    "cyst": ("367643001", "Cyst"),
    "lesion": ("52988006", "Lesion"),
    "mass": ("4147007", "Mass"),
    "edema": ("79654002", "Edema"),
    "necrosis": ("6574001", "Necrosis"),
    "hemorrhage": ("50960005", "Hemorrhage"),
}

_TISSUES = {
    "fat": ("55603005", "Fat"),
    "adipose tissue": ("55603005", "Fat"),
    "subcutaneous tissue": ("71966008", "Subcutaneous tissue"),
    "subcutaneous fat": ("71966008", "Subcutaneous tissue"),
    "soft tissue": ("87784001", "Soft tissue"),
    "skin": ("39937001", "Skin"),
    "bone": ("3138006", "Bone"),
    "muscle": ("91727004", "Muscle"),
    "cartilage": ("309312004", "Cartilage"),
}

_STRUCTURES = {
    # Abdomen and pelvis
    "adrenal": ("23451007", "Adrenal gland"),
    "adrenal gland": ("23451007", "Adrenal gland"),
    "anus": ("53505006", "Anus"),
    "bladder": ("89837001", "Bladder"),
    "urinary bladder": ("89837001", "Bladder"),
    "colon": ("71854001", "Colon"),
    "ascending colon": ("9040008", "Ascending colon"),
    "transverse colon": ("485005", "Transverse colon"),
    "descending colon": ("32622004", "Descending colon"),
    "sigmoid colon": ("60184004", "Sigmoid colon"),
    "duodenum": ("38848004", "Duodenum"),
    "gall bladder": ("28231008", "Gallbladder"),
    "kidney": ("64033007", "Kidney"),
    "liver": ("10200004", "Liver"),
    "ovary": ("15497006", "Ovary"),
    "pancreas": ("15776009", "Pancreas"),
    "penis": ("18911002", "Penis"),
    "prostate": ("41216001", "Prostate"),
    "rectum": ("34402009", "Rectum"),
    "seminal vesicle": ("64739004", "Seminal Vesicle"),
    "small intestine": ("30315005", "Small intestine"),
    "spleen": ("78961009", "Spleen"),
    "stomach": ("69695003", "Stomach"),
    "testis": ("40689003", "Testis"),
    "uterus": ("35039007", "Uterus"),
    "vagina": ("76784001", "Vagina"),
    # Chest
    "breast": ("76752008", "Breast"),
    "bronchus": ("955009", "Bronchus"),
    "esophagus": ("32849002", "Esophagus"),
    "heart": ("80891009", "Heart"),
    "heart atrium left": ("82471001", "Left atrium"),
    "atrium left": ("82471001", "Left atrium"),
    "heart atrium right": ("73829009", "Right atrium"),
    "atrium right": ("73829009", "Right atrium"),
    "heart ventricle left": ("87878005", "Left ventricle"),
    "heart ventricle right": ("53085002", "Right ventricle"),
    "atrial appendage left": ("33626005", "Left auricular appendage"),
    "atrial appendage right": ("68300000", "Right auricular appendage"),
    "heart myocardium": ("122448007", "Cardiac muscle"),
    "myocardium": ("122448007", "Cardiac muscle"),
    "lung": ("39607008", "Lung"),
    "lung upper lobe": ("45653009", "Upper lobe of lung"),
    "lung lower lobe": ("90572001", "Lower lobe of lung"),
    "lung middle lobe": ("72481006", "Middle lobe of right lung"),
    "lung middle lobe right": ("72481006", "Middle lobe of right lung"),
    "thymus": ("9875009", "Thymus"),
    "trachea": ("44567001", "Trachea"),
    # Vessels
    "aorta": ("15825003", "Aorta"),
    "brachiocephalic trunk": ("12691009", "Brachiocephalic trunk"),
    "brachiocephalic vein": ("8887007", "Brachiocephalic vein"),
    "common carotid artery": ("32062004", "Common carotid artery"),
    "hepatic vein": ("8993003", "Hepatic vein"),
    "iliac artery": ("10293006", "Iliac artery"),
    "iliac vena": ("244411005", "Iliac vein"),
    "iliac vein": ("244411005", "Iliac vein"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    "portal vein": ("32764006", "Portal vein"),
    "portal vein splenic": ("29092000", "Vein"),
    "pulmonary artery": ("81040000", "Pulmonary artery"),
    "pulmonary artery left": ("50408007", "Left pulmonary artery"),
    "pulmonary artery right": ("78480002", "Right pulmonary artery"),
    "pulmonary vein": ("122972007", "Pulmonary vein"),
    "renal artery": ("2841007", "Renal artery"),
    "renal vein": ("56400007", "Renal vein"),
    "splenic vein": ("35819009", "Splenic vein"),
    "subclavian artery": ("36765005", "Subclavian artery"),
    "subclavian vein": ("9454009", "Subclavian vein"),
    "superior mesenteric artery": ("42258001", "Superior mesenteric artery"),
    "superior mesenteric vein": ("90771006", "Superior Mesenteric Vein"),
    "superior vena cava": ("48345005", "Superior vena cava"),
    # Bones and muscles; PS3.16 has no concept for some muscles, ribs by number and S1, which get the next wider one
    "autochthon": ("71616004", "Muscle"),
    "clavicle": ("51299004", "Clavicle"),
    "costal cartilage": ("50016007", "Costal Cartilage"),
    "erector spinae": ("44947003", "Erector spinae muscle"),
    "femur": ("71341001", "Femur"),
    "gluteus maximus": ("71616004", "Muscle"),
    "gluteus medius": ("71616004", "Muscle"),
    "gluteus minimus": ("71616004", "Muscle"),
    "hip": ("29836001", "Hip"),
    "humerus": ("85050009", "Humerus"),
    "iliopsoas": ("71616004", "Muscle"),
    "mandible": ("91609006", "Mandible"),
    "rib": ("113197003", "Rib"),
    "sacrum": ("54735007", "Sacrum"),
    "scapula": ("79601000", "Scapula"),
    "skull": ("89546000", "Skull"),
    "spine": ("421060004", "Spine"),
    "sternum": ("56873002", "Sternum"),
    "vertebra": ("51282000", "Vertebra"),
    "vertebra s1": ("51282000", "Vertebra"),
    # Head and neck
    "amygdala": ("4958002", "Amygdala"),
    "brain": ("12738006", "Brain"),
    "brain stem": ("119238007", "Brain Stem"),
    "brain ventricle": ("35764002", "Brain ventricle"),
    "caudate": ("11000004", "Caudate Nucleus"),
    "caudate nucleus": ("11000004", "Caudate Nucleus"),
    "cerebellum": ("113305005", "Cerebellum"),
    "eye": ("81745001", "Eye"),
    "face": ("89545001", "Face"),
    "globus pallidus": ("14738005", "Globus Pallidus"),
    "gray matter": ("389081007", "Gray Matter"),
    "hippocampus": ("5366008", "Hippocampus"),
    "anterior hippocampus": ("5366008", "Hippocampus"),
    "posterior hippocampus": ("5366008", "Hippocampus"),
    "lacrimal gland": ("13561001", "Lacrimal gland"),
    "larynx": ("4596009", "Larynx"),
    "lens": ("78076003", "Lens"),
    "optic chiasm": ("244453006", "Optic chiasm"),
    "optic nerve": ("18234004", "Optic nerve"),
    "oral cavity": ("74262004", "Oral cavity"),
    "parotid": ("45289007", "Parotid gland"),
    "parotid gland": ("45289007", "Parotid gland"),
    "pharynx": ("54066008", "Pharynx"),
    "pituitary": ("56329008", "Pituitary"),
    "pituitary gland": ("56329008", "Pituitary"),
    "putamen": ("89278009", "Putamen"),
    "spinal cord": ("2748008", "Spinal cord"),
    "submandibular": ("54019009", "Submandibular gland"),
    "submandibular gland": ("54019009", "Submandibular gland"),
    "thalamus": ("42695009", "Thalamus"),
    "thyroid": ("69748006", "Thyroid"),
    "thyroid gland": ("69748006", "Thyroid"),
    "tongue": ("21974007", "Tongue"),
    "white matter": ("389080008", "White Matter"),
    # Anywhere
    "body": ("38266002", "Entire body"),
    "lymph node": ("59441001", "Lymph Node"),
}

_VERTEBRAE = {
    "c1": "14806007",
    "c2": "39976000",
    "c3": "113205007",
    "c4": "5329002",
    "c5": "36978003",
    "c6": "36054005",
    "c7": "87391001",
    "t1": "64864005",
    "t2": "53733008",
    "t3": "1626008",
    "t4": "73071006",
    "t5": "56401006",
    "t6": "45296009",
    "t7": "62487009",
    "t8": "11068009",
    "t9": "82687006",
    "t10": "7610001",
    "t11": "12989004",
    "t12": "23215003",
    "l1": "66794005",
    "l2": "14293000",
    "l3": "36470004",
    "l4": "11994002",
    "l5": "49668003",
}


def _coded(category: Code, entries: dict[str, tuple[str, str]]) -> dict[str, Concept]:
    return {name: Concept(category, Code(value, "SCT", meaning)) for name, (value, meaning) in entries.items()}


_NAMED = {
    **_coded(ANATOMICAL_STRUCTURE, _STRUCTURES),
    **_coded(
        ANATOMICAL_STRUCTURE, {f"vertebra {v}": (code, f"{v.upper()} vertebra") for v, code in _VERTEBRAE.items()}
    ),
    **_coded(TISSUE, _TISSUES),
}
_LESIONS = _coded(ABNORMAL_STRUCTURE, _LESION_KINDS)
_BY_WORDS = {frozenset(name.split()): found for name, found in _NAMED.items()}
_BY_CODE = {(c.type.value, c.type.scheme): c for c in (*_NAMED.values(), *_LESIONS.values())}
