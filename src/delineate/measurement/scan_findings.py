"""All findings of one scan: structures, lesions, a planned resection, and how far they move over several results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from delineate.errors import InputError
from delineate.findings import Finding
from delineate.labels import LabelSet
from delineate.measurement.lesions import Lesion, LesionOptions, lesion_labels, measure_lesions
from delineate.measurement.quantities import COMPONENTS, LARGEST_COMPONENT_SHARE, VOLUME, VOXELS_WITHOUT_VALUE
from delineate.measurement.resection import BodySize, Resection, measure_remnant
from delineate.measurement.spread import Result, with_spread
from delineate.measurement.structures import measure_structures
from delineate.volume import Segmentation, Volume, align

_WHOLE = 95.0  # percent of a structure that stand for all of it


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """What is measured. `structures`: only these, by name, beside all lesions; none means all. `organ`: what is
    resected, one structure or several that make it up; `body`: of the patient, for livers.

    Raises `InputError` for a resection of no organ, and for an organ or a body size without resection.
    """

    structures: tuple[str, ...] = ()
    lesions: LesionOptions = LesionOptions()  # noqa: RUF009 - nothing in it changes
    resection: Resection | None = None
    organ: tuple[str, ...] = ()
    body: BodySize | None = None

    def __post_init__(self) -> None:
        if self.resection is not None and not self.organ:
            raise InputError("which organ is resected is not said", expected="the name of a structure, e.g. liver")
        if self.resection is None and (self.organ or self.body is not None):
            what = "an organ" if self.organ else "a body size"
            raise InputError(f"{what} without a resection", expected="a plane, a margin, or structures to remove")

    def check(self, labels: LabelSet) -> None:
        """Raises `LabelError` for a name that is not among the labels, before anything is measured."""
        removed = () if self.resection is None else self.resection.removed
        for name in (*self.structures, *self.lesions.names, *self.lesions.to, *self.organ, *removed):
            labels.named(name)


@dataclass(frozen=True, slots=True)
class ScanFindings:
    """What was found in a scan. `findings`: of structures and pairs, then of lesions, then of the resection.

    `lesions`: with their voxels; `remarks`: what people must know before they use the numbers, in sentences.
    """

    findings: tuple[Finding, ...]
    lesions: tuple[Lesion, ...]
    remarks: tuple[str, ...]


def measure_scan(
    segmentation: Segmentation,
    volume: Volume | None = None,
    *,
    variants: Sequence[Segmentation] = (),
    over: str = "",
    options: MeasureOptions | None = None,
    threads: int = 1,
) -> ScanFindings:
    """Everything of one scan. `variants`: other results for it, with the same names, whose findings give the spread.
    `over`: what the segmentation and they are, in words, e.g. "the result and its 5 folds".

    Raises `LabelError` for unknown names, `GeometryMismatch` for a scan or variants on another grid, and what
    `measure_remnant` raises.
    """
    options = options or MeasureOptions()
    placed = [align(variant, segmentation.grid) for variant in variants]
    for one in (segmentation, *placed):
        options.check(one.labels)
    main = _measure(segmentation, volume, options, threads=threads)
    if not placed:
        return main
    others = [_measure(variant, volume, options, threads=threads) for variant in placed]
    spread = with_spread(
        Result(main.findings, main.lesions), [Result(other.findings, other.lesions) for other in others], over=over
    )
    return replace(main, findings=spread.findings, remarks=(*main.remarks, *spread.remarks))


def _measure(
    segmentation: Segmentation, volume: Volume | None, options: MeasureOptions, *, threads: int
) -> ScanFindings:
    structures = measure_structures(segmentation, volume, structures=options.structures, threads=threads)
    lesions = measure_lesions(segmentation, volume, options=options.lesions)
    findings, remarks = (*structures, *lesions.findings), [*_noted(structures, segmentation.labels, options)]
    remarks += lesions.remarks
    if options.resection is not None:
        remnant = measure_remnant(segmentation, options.organ, options.resection, lesions, body=options.body)
        findings, remarks = (*findings, *remnant.findings), [*remarks, *remnant.remarks]
    return ScanFindings(findings, lesions.lesions, tuple(dict.fromkeys(remarks)))


def _noted(findings: Sequence[Finding], labels: LabelSet, options: MeasureOptions) -> Iterator[str]:
    """What structures have to say of themselves; lesions say it one by one."""
    sick = lesion_labels(labels, options.lesions.names)
    parts = {one.label.name: one.value for one in findings if one.quantity == COMPONENTS}
    for one in findings:
        if one.quantity == VOLUME and one.note and (one.label not in sick or not one.value):
            yield f"{one.label.name}: {one.note}"
        if one.quantity == LARGEST_COMPONENT_SHARE and one.value < _WHOLE and one.label not in sick:
            name = one.label.name
            yield f"{name}: in {parts[name]:.0f} parts; diameters are of the largest, {one.value:.0f} % of the volume"
        if one.quantity == VOXELS_WITHOUT_VALUE:
            yield f"{one.label.name}: the scan has no number in {one.value:.0f} of its voxels"
