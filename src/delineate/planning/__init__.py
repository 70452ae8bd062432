"""A Plan says everything about how a model is prepared for, trained and run; `make_plan` makes one for a dataset."""

from delineate.labels import Region
from delineate.planning.coarse import coarse_start
from delineate.planning.configurations import covered_share, make_configurations
from delineate.planning.explaining import Choice, explain
from delineate.planning.intensities import WINDOWS
from delineate.planning.levels import choose_strides
from delineate.planning.memory import training_bytes
from delineate.planning.options import Machine, PlanOptions, Preset, Speed, for_minutes
from delineate.planning.plan import (
    SCHEMA_VERSION,
    STORED,
    AugmentationPlan,
    ClipZScore,
    DistillationPlan,
    NetworkPlan,
    Normalisation,
    Plan,
    Preparation,
    PretrainingPlan,
    PromptingPlan,
    Rescale,
    Sums,
    Tiling,
    TrainingPlan,
    TransferPlan,
    Unchanged,
    Window,
    ZScore,
    labels_found,
)
from delineate.planning.plan_json import check_plan, plan_from_json, plan_to_json
from delineate.planning.rules import make_plan

__all__ = [
    "SCHEMA_VERSION",
    "STORED",
    "WINDOWS",
    "AugmentationPlan",
    "Choice",
    "ClipZScore",
    "DistillationPlan",
    "Machine",
    "NetworkPlan",
    "Normalisation",
    "Plan",
    "PlanOptions",
    "Preparation",
    "Preset",
    "PretrainingPlan",
    "PromptingPlan",
    "Region",
    "Rescale",
    "Speed",
    "Sums",
    "Tiling",
    "TrainingPlan",
    "TransferPlan",
    "Unchanged",
    "Window",
    "ZScore",
    "check_plan",
    "choose_strides",
    "coarse_start",
    "covered_share",
    "explain",
    "for_minutes",
    "labels_found",
    "make_configurations",
    "make_plan",
    "plan_from_json",
    "plan_to_json",
    "training_bytes",
]
