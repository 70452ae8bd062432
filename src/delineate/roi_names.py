"""Names of regions onto labels: a table that people can edit, and the rules by which a name is compared with it.

Planning systems leave naming to people: one liver is "Liver", "LIVER 1", "liver_final". A name is compared by its
words: case, accents, spaces, underscores and punctuation do not count, "LeftKidney" is two words, and the side (l, lt,
left, ...) counts wherever it stands. Words at the ends that say nothing of anatomy (final, new, copy, v2, contour) and
a single trailing counter may be left away, if nothing in the table has them. No other word is ever left away: "liver
tumour", "PTV-liver" and "kidney left minus gtv" are no liver and no kidney. A name with a side fits labels of that side
only, and a name without fits no label of one side.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from delineate.errors import LabelError
from delineate.labels import LabelSet

LONGEST_NAME = 128
LONGEST_TEXT = 200
MOST_ROWS = 20_000
MOST_REPEATS, MOST_OPTIONS = 3, 16
"""Unbounded repeats, and optional parts or alternatives, in one pattern: matching time grows with a power of the
first and doubles with each of the second."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])")  # "LeftKidney", "LKidney"
# A word ends before a number ("liver2"), but "L1" and "v2" are one. Signs that make another region of a name count.
_WORD = re.compile(r"[^\W\d_]{3,}|[^\W_]+|[+&<>=*~%^]")
_SIDES = {
    "left": ("l", "lt", "left", "lft", "links", "linke", "linker", "gauche"),
    "right": ("r", "rt", "right", "rgt", "rechts", "rechte", "rechter", "droit", "droite"),
}
_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words}
_FILLERS = frozenset(
    ("approved", "auto", "automatic", "checked", "contour", "copy", "corrected", "edited", "final", "manual")
) | frozenset(("mask", "new", "revised", "roi", "seg", "segmentation", "structure"))
_COPY_OF = re.compile(r"^\W*copy[\W_]+of[\W_]+")
_VERSION = re.compile(r"(?:v|ver|rev|version)\d{1,3}")
_COUNTER = re.compile(r"[0-9]")  # longer ones are doses, margins, dates


class How(Enum):
    """What a row's text is, from the strongest to the weakest."""

    EXACT = "exact"
    SYNONYM = "synonym"
    PATTERN = "pattern"


@dataclass(frozen=True, slots=True)
class RoiRow:
    """Names like `text` mean `label`. For `How.PATTERN`, `text` is a regular expression for the whole of the name's
    words in lower case, joined by single spaces, with "left " or "right " in front where it has a side."""

    label: str
    how: How
    text: str


@dataclass(frozen=True, slots=True)
class RoiTable:
    """Rows in any order. Raises `LabelError` for empty or overlong rows, and for patterns that are broken or could take
    endlessly long."""

    rows: tuple[RoiRow, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        if len(self.rows) > MOST_ROWS:
            raise LabelError("a table of ROI names that is too long", expected=f"{MOST_ROWS} rows", got=len(self.rows))
        for number, row in enumerate(self.rows, start=1):
            _check_row(row, number)


@dataclass(frozen=True, slots=True)
class RoiMatches:
    """`mapped`: label of each name; `ambiguous`: names that fit several labels equally well; `unmapped`: the rest."""

    mapped: Mapping[str, str]
    unmapped: tuple[str, ...]
    ambiguous: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Name:
    """`side`: "left", "right", "both" or ""; `words`: the others in order."""

    side: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join((self.side, *self.words) if self.side else self.words)


def match_rois(names: Iterable[str], table: RoiTable) -> RoiMatches:
    """The label of each name: by an exact row, else a synonym, else a pattern; with all its words rather than without
    fillers. Names that fit two labels at the same rank are not mapped but listed."""
    ranked = _Ranked(table)
    mapped: dict[str, str] = {}
    ambiguous: dict[str, tuple[str, ...]] = {}
    unmapped = []
    for name in dict.fromkeys(names):
        found = ranked.labels(name)
        if len(found) == 1:
            mapped[name] = found[0]
        elif found:
            ambiguous[name] = found
        else:
            unmapped.append(name)
    return RoiMatches(MappingProxyType(mapped), tuple(unmapped), MappingProxyType(ambiguous))


def canonical(name: str) -> str:
    """The words by which a name is compared; "" for one that no table maps."""
    return _parsed(name).text if len(name) <= LONGEST_NAME and _parsed(name).words else ""


def table_from_csv(text: str) -> RoiTable:
    """A table from CSV with the header `label,how,text`; empty lines, and spaces around cells, do not count.

    Raises `LabelError` with the number of the line at fault.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if not numbered or [cell.strip().lower() for cell in _cells(*numbered[0])] != ["label", "how", "text"]:
        raise LabelError(
            "not a table of ROI names",
            expected="the header label,how,text",
            got=repr(numbered[0][1][:80]) if numbered else "nothing",
        )
    if len(numbered) > MOST_ROWS:
        raise LabelError("a table of ROI names that is too long", expected=f"{MOST_ROWS} rows", got=len(numbered))
    return RoiTable(tuple(_row(n, line) for n, line in numbered[1:]))


def table_to_csv(table: RoiTable) -> str:
    """CSV that `table_from_csv` reads."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(("label", "how", "text"))
    writer.writerows((row.label, row.how.value, row.text) for row in table.rows)
    return target.getvalue()


def default_table(labels: LabelSet) -> RoiTable:
    """A table to begin with: every label by its own name, and by the usual names of common organs and targets."""
    return RoiTable(tuple(row for label in labels for row in _default_rows(label.name)))


def _default_rows(label: str) -> Iterator[RoiRow]:
    yield RoiRow(label, How.EXACT, label)
    own = _parsed(label)
    words = " ".join(own.words)
    groups = [group for group in _SYNONYMS if words in group or _ALSO.get(words) == group[0]]
    for synonym in (synonym for group in groups for synonym in group if synonym != words):
        yield RoiRow(label, How.SYNONYM, _Name(own.side, (synonym,)).text)


class _Ranked:
    """A table made ready to look names up."""

    def __init__(self, table: RoiTable) -> None:
        self.labels_of: dict[tuple[How, _Name], list[str]] = {}
        self.patterns = []
        self.side_of = {row.label: _parsed(row.label).side for row in table.rows}
        for row in table.rows:
            if row.how is How.PATTERN:
                self.patterns.append((re.compile(row.text), row.label))
            else:
                self.labels_of.setdefault((row.how, _parsed(row.text)), []).append(row.label)

    def labels(self, name: str) -> tuple[str, ...]:
        """Those of the best rank; none for a name without words."""
        whole = _parsed(name)
        bare = _without_fillers(whole)
        if not bare.words or len(name) > LONGEST_NAME:
            return ()
        for how in (How.EXACT, How.SYNONYM):
            for form in dict.fromkeys((whole, bare)):
                found = self._of_side(self.labels_of.get((how, form), ()), form.side)
                if found:
                    return found
        texts = {whole.text, bare.text}
        fitting = [label for pattern, label in self.patterns if any(pattern.fullmatch(text) for text in texts)]
        return self._of_side(fitting, whole.side)

    def _of_side(self, labels: Sequence[str], side: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(label for label in labels if self.side_of[label] == side))


def _parsed(name: str) -> _Name:
    plain = unicodedata.normalize("NFKD", name[: 2 * LONGEST_NAME])
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = _WORD.findall(_COPY_OF.sub("", _HUMP.sub(" ", plain).lower()))
    sides = {_SIDE_OF[word] for word in words if word in _SIDE_OF}
    side = "both" if len(sides) == 2 else next(iter(sides), "")
    return _Name(side, tuple(word for word in words if word not in _SIDE_OF))


def _without_fillers(name: _Name) -> _Name:
    words = list(name.words)
    counters = 0
    while words and (_says_nothing(words[-1]) or (_COUNTER.fullmatch(words[-1]) and not counters)):
        counters += bool(_COUNTER.fullmatch(words.pop()))
    while words and _says_nothing(words[0]):
        words.pop(0)
    return _Name(name.side, tuple(words))


def _says_nothing(word: str) -> bool:
    return word in _FILLERS or _VERSION.fullmatch(word) is not None


def _cells(number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise LabelError(f"line {number} of the table of ROI names is no CSV", got=str(error)) from error


def _row(number: int, line: str) -> RoiRow:
    cells = [cell.strip() for cell in _cells(number, line)]
    if len(cells) != 3:
        raise LabelError(f"line {number} of the table of ROI names", expected="label,how,text", got=repr(line[:80]))
    hows = {how.value: how for how in How}
    if cells[1].lower() not in hows:
        raise LabelError(f"line {number} of the table of ROI names", expected=f"one of {list(hows)}", got=cells[1][:80])
    row = RoiRow(cells[0], hows[cells[1].lower()], cells[2])
    _check_row(row, number, where="line")
    return row


def _check_row(row: RoiRow, number: int, *, where: str = "row") -> None:
    def refuse(problem: str, *, expected: object = None, got: object = None) -> None:
        raise LabelError(f"{where} {number} of the table of ROI names {problem}", expected=expected, got=got)

    if not row.label.strip() or not row.text.strip():
        refuse("has no label or no text")
    if len(row.text) > LONGEST_TEXT:
        refuse("is too long", expected=f"at most {LONGEST_TEXT} characters", got=len(row.text))
    if row.how is not How.PATTERN:
        if not _parsed(row.text).words:
            refuse("has no word", got=row.text)
        return
    try:
        re.compile(row.text)
    except (re.error, RecursionError, OverflowError) as error:
        refuse("has a broken pattern", got=f"{row.text!r}: {error}")
    slow = _why_slow(row.text)
    if slow:
        refuse("has a pattern that could take endlessly long", expected=slow, got=repr(row.text))


def _why_slow(pattern: str) -> str | None:
    """What a pattern must keep to so that matching a short name is quick, or None."""
    skeleton = re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "x", re.sub(r"\\[^0-9]", "x", pattern))
    if re.search(r"\)[*+{]", skeleton):
        return "no repeated groups"
    if re.search(r"\\[0-9]|\(\?(?!:)", skeleton):
        return "no back-references, no look-around, no flags"
    repeats = len(re.findall(r"[*+]|\{", skeleton))
    options = len(re.findall(r"\||(?<![*+}(])\?", skeleton))
    if repeats > MOST_REPEATS or options > MOST_OPTIONS:
        return f"at most {MOST_REPEATS} repeats and {MOST_OPTIONS} options"
    return None


_SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("adrenal gland", "adrenal", "suprarenal gland"),
    ("anus", "anal canal"),
    ("aorta", "a aorta"),
    ("bladder", "urinary bladder", "harnblase", "vessie"),
    ("body", "external"),
    ("bowel", "bag bowel", "bowel bag"),
    ("brain", "encephalon", "gehirn", "cerveau"),
    ("brainstem", "brain stem", "hirnstamm", "tronc cerebral"),
    ("breast", "mamma", "brust", "sein"),
    ("cerebellum", "kleinhirn", "cervelet"),
    ("cochlea", "inner ear"),
    ("colon", "bowel large", "large bowel", "large intestine"),
    ("ctv", "clinical target volume"),
    ("duodenum", "zwolffingerdarm"),
    ("esophagus", "oesophagus", "oesophage", "speiserohre"),
    ("eye", "eyeball", "globe", "bulbus"),
    ("femoral head", "femur head", "head of femur", "head femur", "huftkopf", "tete femorale"),
    ("femur", "thigh bone"),
    ("gallbladder", "gall bladder", "gallenblase", "vesicule biliaire"),
    ("gtv", "gross tumor volume", "gross tumour volume"),
    ("heart", "cor", "herz", "coeur"),
    ("inferior vena cava", "ivc", "v venacava i", "vena cava inferior", "postcava"),
    ("itv", "internal target volume"),
    ("kidney", "ren", "niere", "rein"),
    ("lacrimal gland", "lacrimal", "glnd lacrimal"),
    ("larynx", "kehlkopf"),
    ("lens", "lens eye", "linse", "cristallin"),
    ("liver", "hepar", "leber", "foie"),
    ("lung", "pulmo", "lunge", "poumon"),
    ("lungs", "both lungs", "lungs both", "lung both", "lung total", "total lung"),
    ("kidneys", "both kidneys", "kidneys both", "kidney both"),
    ("mandible", "bone mandible", "mandibula", "lower jaw", "unterkiefer", "mandibule"),
    ("optic chiasm", "chiasm", "chiasma", "opticchiasm", "optic chiasma"),
    ("optic nerve", "opticnrv", "opticnerve", "optic nrv", "nervus opticus", "nerf optique"),
    ("oral cavity", "cavity oral", "mundhohle"),
    ("pancreas", "bauchspeicheldruse"),
    ("parotid", "parotid gland", "glnd parotid", "parotis", "parotide"),
    ("pituitary", "pituitary gland", "hypophysis", "hypophyse"),
    ("prostate", "prostata"),
    ("ptv", "planning target volume"),
    ("rectum", "rektum"),
    ("seminal vesicles", "seminal vesicle", "seminalves", "sv"),
    ("small bowel", "bowel small", "small intestine", "dunndarm"),
    ("spinal cord", "spinalcord", "cord", "myelon", "medulla spinalis", "ruckenmark", "moelle"),
    ("spinal canal", "spinalcanal", "canal spinal"),
    ("spleen", "lien", "milz", "rate"),
    ("stomach", "gaster", "magen", "estomac"),
    ("submandibular gland", "submandibular", "glnd submand", "submandibularis", "smg"),
    ("temporal lobe", "lobe temporal"),
    ("thyroid", "thyroid gland", "glnd thyroid", "schilddruse"),
    ("trachea", "windpipe", "luftrohre"),
    ("tumor", "tumour", "lesion"),
    ("uterus", "gebarmutter"),
)
_ALSO = {"tumor": "gtv", "tumour": "gtv", "lesion": "gtv"}  # a label that takes another group's names, not the reverse
