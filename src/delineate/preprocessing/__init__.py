"""`prepare` turns a scan into what a network sees; `restore_...` put what the network says back, exactly there.

Both ways lead along one `Trace`, so that geometry is undone by the code that did it. A plan says which conventions
hold: delineate's own, or those of the system that a network was trained in (`planning.Preparation`).
"""

from delineate.preprocessing.boxes import find_box
from delineate.preprocessing.doubts import doubts
from delineate.preprocessing.intensities import FloatImage, blank_values, normalise
from delineate.preprocessing.memory import prepare_bytes, prepared_shape
from delineate.preprocessing.preparing import PreparedCase, check_absent, prepare, with_readers
from delineate.preprocessing.restoring import (
    label_type,
    reduce_slabs,
    restore_labels,
    restore_logits,
    restore_probabilities,
)
from delineate.preprocessing.targets import IGNORE
from delineate.preprocessing.traces import (
    Focus,
    Trace,
    logit_matrices,
    prepared_grid,
    restored_view,
    trace_scan,
    turn,
    uncrop,
)

__all__ = [
    "IGNORE",
    "FloatImage",
    "Focus",
    "PreparedCase",
    "Trace",
    "blank_values",
    "check_absent",
    "doubts",
    "find_box",
    "label_type",
    "logit_matrices",
    "normalise",
    "prepare",
    "prepare_bytes",
    "prepared_grid",
    "prepared_shape",
    "reduce_slabs",
    "restore_labels",
    "restore_logits",
    "restore_probabilities",
    "restored_view",
    "trace_scan",
    "turn",
    "uncrop",
    "with_readers",
]
