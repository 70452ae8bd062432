"""From batches to weights: a loop over steps, what it minimises, and the state it leaves after each of them."""

from delineate.training.facts import Facts, HistoryRow, Incident, Phase, extend, learning_rate, mean_dice, refit
from delineate.training.laps import STEP_PARTS, Laps, Profile
from delineate.training.loop import plan_before, record, take_recent_loss, time_step, train
from delineate.training.objectives import Objective, supervised
from delineate.training.optimisers import make_optimiser
from delineate.training.state import Refusal, TrainingState, averaged_network, pack, start, unpack
from delineate.training.together import agree, leaders_answer, match
from delineate.training.validation import case_dice, validate

__all__ = [
    "STEP_PARTS",
    "Facts",
    "HistoryRow",
    "Incident",
    "Laps",
    "Objective",
    "Phase",
    "Profile",
    "Refusal",
    "TrainingState",
    "agree",
    "averaged_network",
    "case_dice",
    "extend",
    "leaders_answer",
    "learning_rate",
    "make_optimiser",
    "match",
    "mean_dice",
    "pack",
    "plan_before",
    "record",
    "refit",
    "start",
    "supervised",
    "take_recent_loss",
    "time_step",
    "train",
    "unpack",
    "validate",
]
