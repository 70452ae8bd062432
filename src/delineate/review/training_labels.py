"""What was approved as a label map of a dataset: its values, and what is not known in it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import LabelError
from delineate.labels import LabelSet
from delineate.review.exports import Reviewed, signed
from delineate.review.records import Decision, Verdict
from delineate.volume import Segmentation, from_values


def accepted(what: Reviewed) -> tuple[frozenset[str], tuple[Decision, ...]]:
    """The structures that were approved as they are now, and the decisions that say so; none where nothing was.

    Where the whole is approved, all but those whose own last decision is a rejection; else those that were approved
    one by one, at this revision, and not rejected since.
    """
    case = what.case
    names = {structure.value: structure.name for structure in case.new.structures}
    last: dict[int, Decision] = {}
    for decision in sorted(what.decisions, key=lambda one: one.made):
        if decision.structure is not None:
            last[decision.structure] = decision
    rejected = {names.get(value) for value, one in last.items() if one.verdict is Verdict.REJECT}
    whole = signed(what.decisions, revision=case.revision, seen=what.seen) if what.is_accepted else ()
    if whole:
        return frozenset(what.segmentation.labels.names) - rejected, whole
    own = [
        one
        for one in last.values()
        if one.verdict is Verdict.APPROVE and (one.revision, one.seen) == (case.revision, what.seen)
    ]
    return frozenset(names[one.structure] for one in own if one.structure in names), tuple(own)


def painted(
    segmentation: Segmentation, labels: LabelSet, names: Collection[str]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The structures `names` as a label map (I, J, K) with the values of a dataset's `labels`, found by name.

    Where the dataset has a value to ignore and some of its structures are not among `names`, all that is background is
    ignored: one of them may be there. Raises `LabelError` for structures that overlap where one label map cannot say
    so, and for names that `labels` or the segmentation do not have.
    """
    dtype = np.uint8 if max(labels.stored_values) <= np.iinfo(np.uint8).max else np.uint16
    values: npt.NDArray[np.unsignedinteger[Any]] = np.zeros(segmentation.grid.shape, dtype=dtype)
    pairs = [(region.name, region.paints) for region in labels.regions]
    for name, value in pairs or [(label.name, label.value) for label in labels]:
        if name in names:
            np.copyto(values, dtype(value), where=segmentation.mask(name))
    back = from_values(values, segmentation.grid, labels)
    lost = [name for name in sorted(names) if not np.array_equal(back.mask(name), segmentation.mask(name))]
    if lost:
        raise LabelError(
            "structures overlap where the dataset's label maps cannot hold both",
            got=lost,
            remedy="Correct them so that they do not, or add regions to the dataset's labels.",
        )
    if labels.ignore is not None and unknown(labels.names, names):
        values[values == 0] = labels.ignore
    return values


def unknown(known: Sequence[str], names: Collection[str]) -> list[str]:
    """The dataset's structures of which a case says nothing."""
    return [name for name in known if name not in names]
