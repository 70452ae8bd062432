"""Organs that come in pairs, left compared with right."""

from __future__ import annotations

from collections.abc import Sequence

from delineate.findings import Finding
from delineate.labels import LabelSet
from delineate.measurement.quantities import NO_UNITS, VOLUME_DIFFERENCE, VOLUME_RATIO


def pair_findings(labels: LabelSet, volumes: Sequence[Finding]) -> tuple[Finding, ...]:
    """Left minus right, and left over right, of each pair of which both sides have a finding in `volumes`.

    The finding's label is the left one, `other` the right one, the note what the notes of both volumes say. Where the
    right side is empty, there is no ratio; where both are, nothing is compared.
    """
    by_name = {one.label.name: one for one in volumes}
    findings = []
    for left, right in ((by_name.get(left), by_name.get(right)) for left, right in labels.pairs):
        if left is None or right is None or not (left.value or right.value):
            continue
        note = "; ".join(f"{one.label.name}: {one.note}" for one in (left, right) if one.note)
        difference = left.value - right.value
        findings.append(Finding(left.label, VOLUME_DIFFERENCE, difference, left.unit, other=right.label, note=note))
        if right.value:
            ratio = left.value / right.value
            findings.append(Finding(left.label, VOLUME_RATIO, ratio, NO_UNITS, other=right.label, note=note))
    return tuple(findings)
