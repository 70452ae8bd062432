"""The parts of scores.json that say more than a score: advice, lesions, confusion, calibration, provenance."""

from __future__ import annotations

from typing import Any

import msgspec


class LesionsRecord(msgspec.Struct, frozen=True):
    """One structure's lesions in all cases."""

    cases: int = 0
    lesions: int = 0
    found: int = 0
    missed: int = 0
    false_positives: int = 0
    false_positives_a_case: float | None = None


class DoubtRecord(msgspec.Struct, frozen=True):
    """Why some figures say little about a structure; `about`: their names."""

    doubt: str = ""
    words: str = ""
    about: tuple[str, ...] = ()


class AdviceRecord(msgspec.Struct, frozen=True):
    """Names of figures to trust and to distrust, and why."""

    trusted: tuple[str, ...] = ()
    distrusted: tuple[str, ...] = ()
    reasons: tuple[DoubtRecord, ...] = ()


class ErrorsRecord(msgspec.Struct, frozen=True):
    """Where one structure's wrong voxels lie in one case."""

    false_positive_ml: float | None = None
    false_negative_ml: float | None = None
    boundary_ml: float | None = None
    near_mm: float | None = None


class ConfusionRecord(msgspec.Struct, frozen=True):
    """Voxels of each pair of structures, reference by prediction, background first."""

    structures: tuple[str, ...]
    voxels: tuple[tuple[int, ...], ...]


class SideRecord(msgspec.Struct, frozen=True):
    """Voxels of a left/right pair that got the other side's label."""

    left: str
    right: str
    left_as_right: int
    right_as_left: int


class LabelRecord(msgspec.Struct, frozen=True):
    """A structure's value and colour. `consists_of`: where structures overlap, the values in the files that are it."""

    value: int
    colour: tuple[int, int, int]
    consists_of: tuple[int, ...] = ()


class LabelsRecord(msgspec.Struct, frozen=True):
    """The structures by name. `ignore`: the value of voxels that were left out."""

    structures: dict[str, LabelRecord]
    overlaps: bool = False
    ignore: int | None = None


class BinRecord(msgspec.Struct, frozen=True):
    """Voxels of one range of probabilities."""

    confidence: float | None = None
    frequency: float | None = None
    count: int = 0


class CalibrationRecord(msgspec.Struct, frozen=True):
    """How well one structure's probabilities are calibrated, over all its cases."""

    cases: int = 0
    voxels: int = 0
    within_mm: float | None = None
    expected_error: float | None = None
    overconfidence: float | None = None
    brier: float | None = None
    curve: tuple[BinRecord, ...] = ()


class GroupRecord(msgspec.Struct, frozen=True):
    """One figure of one structure (None: the cases' means) in one group of cases against all others.

    `gap`: the group's mean minus that of the rest; `p_holm`: of a permutation test, corrected over what it was tested
    with. None where there is no value.
    """

    by: str = ""
    group: str = ""
    structure: str | None = None
    metric: str = ""
    cases: int = 0
    patients: int = 0
    small: bool = False
    missed: int = 0
    mean: float | None = None
    interval: tuple[float | None, float | None] = (None, None)
    gap: float | None = None
    gap_interval: tuple[float | None, float | None] = (None, None)
    p_holm: float | None = None


class GroupsRecord(msgspec.Struct, frozen=True):
    """Scores of the groups that were asked for."""

    scores: tuple[GroupRecord, ...] = ()


class DefinitionRecord(msgspec.Struct, frozen=True):
    """What a figure is."""

    title: str = ""
    unit: str = ""
    better: str = ""
    miss: str = ""
    definition: str = ""
    source: str = ""


class DefinitionsRecord(msgspec.Struct, frozen=True):
    """What all figures are."""

    metrics: dict[str, DefinitionRecord] = {}


class ProvenanceRecord(msgspec.Struct, frozen=True):
    """When, of what and with what the scores were made."""

    written: str = ""
    delineate: str = ""
    references: str = ""
    predictions: str = ""
    kind: str = ""
    resampled: bool = False
    models: dict[str, int] = {}
    without_record: int = 0


Values = dict[str, Any]
"""What was measured of one structure in one case: figures by name, `status`, `counted`, `lesions`."""
