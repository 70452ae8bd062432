"""What is in a dataset, case by case, and which cases stand apart from the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.dataset import Case, Dataset
from delineate.fingerprint import CaseMeasurements
from delineate.geometry import Triple, TripleMM
from delineate.reports.charts.words import number
from delineate.volume import Kind, Volume

FARTHEST = 3.5
"""Robust z beyond which a value stands apart (Iglewicz and Hoaglin, "How to detect and handle outliers", 1993)."""
FEWEST = 8  # cases below which nobody can say what is usual
GROUP_SHARE, GROUP_CASES = 0.1, 5  # of more cases that lie apart in one figure nobody would say that they stand alone
USUAL_SHARE = 0.9  # of the cases that have a structure: a case without it then stands apart
_MAD_TO_STD = 1.4826  # of a normal distribution
AXES = ("left-right", "front-back", "head-foot")
_UNITS = {Kind.CT: "HU", Kind.PET: "SUV"}


@dataclass(frozen=True, slots=True)
class Spread:
    """A channel's intensities inside a case's structures (in the foreground, without): the 5, 50, 95 percentiles."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case. `shape` and `spacing_mm` are along left-right, front-back, head-foot; `orientation` as it is stored.

    `volumes_ml`: by structure, 0 where the reference lacks it; empty without a reference. `intensities`: by channel.
    """

    case: str
    patient: str
    site: str
    groups: tuple[tuple[str, str], ...]
    shape: Triple
    spacing_mm: TripleMM
    orientation: str
    intensities: Mapping[str, Spread]
    volumes_ml: Mapping[str, float]

    @property
    def extent_mm(self) -> TripleMM:
        i, j, k = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        return i, j, k


@dataclass(frozen=True, slots=True)
class Quantity:
    """One figure of every case that has it. `unit` may be ""; `structure`: whose volume it is, or "".

    `logarithmic`: ratios count, not differences. `least`: a robust standard deviation below which nothing is taken to
    differ, of the values or of their natural logarithms.
    """

    name: str
    unit: str
    values: Mapping[str, float]
    logarithmic: bool
    least: float
    structure: str = ""

    def show(self, *values: float) -> str:
        """A value, or a range, with its unit."""
        return " to ".join(dict.fromkeys(map(number, values))) + (f" {self.unit}" if self.unit else "")


@dataclass(frozen=True, slots=True)
class Faction:
    """So many cases that lie apart in one quantity that they are a second group, and no outliers.

    `theirs`: their lowest and highest value; `others`: that of the cases that are in no such group.
    """

    quantity: Quantity
    cases: tuple[str, ...]
    theirs: tuple[float, float]
    others: tuple[float, float]

    @property
    def words(self) -> str:
        known = len(self.quantity.values)
        share = f"{len(self.cases)} of {known} cases ({100 * len(self.cases) / known:.0f} %)"
        ranges = f"{self.quantity.show(*self.theirs)}, the others {self.quantity.show(*self.others)}"
        return f"{self.quantity.name}: {share} have {ranges}."


@dataclass(frozen=True, slots=True)
class Outlier:
    """A case that stands apart in one quantity; `z`: how far, in robust standard deviations (NaN where it has none).

    `usual`: the quartiles of all cases.
    """

    case: str
    quantity: Quantity
    value: float
    z: float
    usual: tuple[float, float]

    @property
    def words(self) -> str:
        if math.isnan(self.z):
            return f"No {self.quantity.structure.replace('_', ' ')}, which nearly all other cases have"
        usual = self.quantity.show(*self.usual)
        shown = f"{self.quantity.name}: {self.quantity.show(self.value)}"
        return f"{shown}; the middle half of cases has {usual} (z {self.z:+.1f})"


def name_channels(channels: Sequence[str], kinds: Sequence[Kind]) -> str:
    """A case's scans, with what each measures where its name does not say it: "CT", or "T1 (MR), T2 (MR)"."""
    pairs = zip(channels, kinds, strict=True)
    return ", ".join(name if name.lower() == kind.value.lower() else f"{name} ({kind.value})" for name, kind in pairs)


def describe_case(case: Case, image: Volume, measured: CaseMeasurements, dataset: Dataset) -> CaseFacts:
    """The facts of a case that was read and measured."""
    fingerprint = measured.fingerprint
    voxel_ml = math.prod(fingerprint.spacing_mm) / 1000
    return CaseFacts(
        case=case.id,
        patient=case.patient_id,
        site=case.site or "",
        groups=case.groups,
        shape=fingerprint.shape,
        spacing_mm=fingerprint.spacing_mm,
        orientation=image.grid.orientation,
        intensities={
            name: Spread(*np.percentile(values[np.isfinite(values)], (5, 50, 95)).tolist())
            for name, values in zip(dataset.channels, measured.samples, strict=True)
        },
        volumes_ml={
            name: voxels * voxel_ml
            for name, voxels in zip(dataset.labels.names, fingerprint.label_voxels, strict=False)
        },
    )


def quantities(facts: Sequence[CaseFacts], channels: Sequence[str], kinds: Sequence[Kind]) -> tuple[Quantity, ...]:
    """Everything in which cases are compared: spacing, size, intensities, volumes of structures. () for no cases."""
    found = [
        Quantity(f"Voxel size {axis}", "mm", {f.case: f.spacing_mm[n] for f in facts}, True, 0.05)
        for n, axis in enumerate(AXES)
    ]
    found += [
        Quantity(f"Scan size {axis}", "mm", {f.case: f.extent_mm[n] for f in facts}, True, 0.05)
        for n, axis in enumerate(AXES)
    ]
    for channel, kind in zip(channels, kinds, strict=True):
        found += _of_channel(facts, channel, kind)
    for name in dict.fromkeys(name for f in facts for name in f.volumes_ml):
        volumes = {f.case: f.volumes_ml[name] for f in facts if f.volumes_ml.get(name, 0) > 0}
        title = f"Volume of {name.replace('_', ' ')}"
        found.append(Quantity(title, "mL", volumes, True, 0.05, structure=name))
    return tuple(found)


def _of_channel(facts: Sequence[CaseFacts], channel: str, kind: Kind) -> list[Quantity]:
    medians = {f.case: f.intensities[channel].median for f in facts}
    widths = {f.case: f.intensities[channel].high - f.intensities[channel].low for f in facts}
    unit = _UNITS.get(kind, "")
    # Hounsfield units are a scale with a zero of its own; other units are of any size, so that ratios tell more.
    ratios = kind is not Kind.CT and min((*medians.values(), *widths.values()), default=0) > 0
    return [
        Quantity(f"{channel} median", unit, medians, ratios, 0.03 if ratios else _least(medians, kind)),
        Quantity(f"{channel} 5 to 95 % range", unit, widths, ratios, 0.03 if ratios else _least(widths, kind)),
    ]


def _least(values: Mapping[str, float], kind: Kind) -> float:
    return 5.0 if kind is Kind.CT else 0.01 * max((abs(value) for value in values.values()), default=0.0)


def find_outliers(quantity: Quantity, *, farthest: float = FARTHEST) -> list[Outlier]:
    """Cases whose value lies more than `farthest` robust standard deviations from the median, the farthest first.

    The standard deviation is 1.4826 times the median distance from the median. [] for fewer than 8 cases.
    """
    if len(quantity.values) < FEWEST:
        return []
    cases = list(quantity.values)
    values = np.array([quantity.values[case] for case in cases], dtype=np.float64)
    compared = np.log(values) if quantity.logarithmic else values
    middle = np.median(compared)
    spread = max(_MAD_TO_STD * float(np.median(np.abs(compared - middle))), quantity.least, np.finfo(float).tiny)
    z = (compared - middle) / spread
    low, high = np.percentile(values, (25, 75)).tolist()
    apart = [n for n in np.argsort(-np.abs(z), kind="stable").tolist() if abs(z[n]) > farthest]
    return [Outlier(cases[n], quantity, float(values[n]), float(z[n]), (low, high)) for n in apart]


def find_missing(quantity: Quantity, facts: Sequence[CaseFacts]) -> list[Outlier]:
    """Cases with a reference that lacks a structure which at least 90 % of the references have; [] for fewer than 8."""
    drawn = [f.case for f in facts if quantity.structure in f.volumes_ml]
    lacking = [case for case in drawn if case not in quantity.values]
    if len(drawn) < FEWEST or len(quantity.values) < USUAL_SHARE * len(drawn):
        return []
    low, high = np.percentile(list(quantity.values.values()), (25, 75)).tolist()
    return [Outlier(case, quantity, 0.0, math.nan, (low, high)) for case in lacking]


def outliers_by_case(
    facts: Sequence[CaseFacts], compared: Sequence[Quantity]
) -> tuple[dict[str, tuple[Outlier, ...]], tuple[Faction, ...]]:
    """Cases that stand apart with all their reasons, the most conspicuous case first, and second groups of cases."""
    found: list[Outlier] = []
    factions: list[Faction] = []
    for quantity in compared:
        apart = find_outliers(quantity)
        sides = ([low for low in apart if low.z < 0], [high for high in apart if high.z > 0])
        large = [side for side in sides if len(side) >= GROUP_CASES and len(side) > GROUP_SHARE * len(quantity.values)]
        grouped = {outlier.case for side in large for outlier in side}
        factions += [_faction(quantity, side, grouped) for side in large]
        found += [outlier for outlier in apart if outlier.case not in grouped]
        found += find_missing(quantity, facts) if quantity.structure else []
    by_case: dict[str, list[Outlier]] = {}
    for outlier in sorted(found, key=_conspicuous, reverse=True):
        by_case.setdefault(outlier.case, []).append(outlier)
    return {case: tuple(reasons) for case, reasons in by_case.items()}, tuple(factions)


def _faction(quantity: Quantity, apart: Sequence[Outlier], grouped: Collection[str]) -> Faction:
    theirs = [outlier.value for outlier in apart]
    cases = tuple(outlier.case for outlier in apart)
    others = [value for case, value in quantity.values.items() if case not in grouped]
    return Faction(quantity, cases, (min(theirs), max(theirs)), (min(others), max(others)))


def _conspicuous(outlier: Outlier) -> float:
    return math.inf if math.isnan(outlier.z) else abs(outlier.z)
