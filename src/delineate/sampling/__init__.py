"""Patches and batches from prepared cases.

Batch n is a function of the plan's seed and n alone. So batches can be made ahead by any number of workers, in any
order, and a run that was stopped goes on with the batches it would have seen.
"""

from delineate.sampling.batches import Batch, iterate_batches, make_batch, steps_per_epoch
from delineate.sampling.cases import MOST_LOCATIONS, TrainingCase, index_case
from delineate.sampling.drawing import Draw, draw
from delineate.sampling.patches import cut_patch

__all__ = [
    "MOST_LOCATIONS",
    "Batch",
    "Draw",
    "TrainingCase",
    "cut_patch",
    "draw",
    "index_case",
    "iterate_batches",
    "make_batch",
    "steps_per_epoch",
]
