"""Cases of trials that differ in nothing but the window: resampled once, then only normalised anew for each trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from delineate.dataset import Case
from delineate.labels import LabelSet
from delineate.planning import Plan, Unchanged
from delineate.preprocessing import PreparedCase, normalise
from delineate.settings import Settings
from delineate.workflow.preparing import prepare_cases
from delineate.workflow.progress import Watch
from delineate.workspace import PreparedCache


def prepare_by_window(
    cases: Sequence[Case], labels: LabelSet, plan: Plan, *, shared: Settings, own: Settings, watch: Watch
) -> None:
    """Put cases into the cache of `own`, as `prepare_cases` would; what all windows share stays in that of `shared`.

    Nothing is done where resampling follows normalising, and for cases that lack a channel: their blanks depend on it.
    """
    cache = PreparedCache(own.cache)
    keys = {} if plan.preparation.normalise_first else {c.id: cache.key(c, plan, labels) for c in cases if not c.absent}
    left = [case for case in cases if case.id in keys and cache.load(keys[case.id], case.id) is None]
    if not left:
        return
    raw = msgspec.structs.replace(plan, normalisation=(Unchanged(),) * len(plan.normalisation))
    for prepared in prepare_cases(left, labels, raw, shared, watch=watch):
        cache.save(keys[prepared.id], _normalised(prepared, plan))


def _normalised(prepared: PreparedCase, plan: Plan) -> PreparedCase:
    channels = [normalise(channel, how) for channel, how in zip(prepared.image, plan.normalisation, strict=True)]
    return replace(prepared, image=np.stack(channels))
