"""A trained model over a whole scan: windows, blended by a Gaussian, then back into the scan's own grid."""

from delineate.inference.locating import Locate
from delineate.inference.predicting import InferenceOptions, StageResult, predict_stage
from delineate.inference.prediction import Prediction, apply_rules_to
from delineate.inference.running import place, run_network
from delineate.inference.segmenting import prepare_scan, segment
from delineate.inference.stages import Runners, open_stage_runners
from delineate.inference.validating import dice_of_case, dice_per_label, paint, predict_logits
from delineate.inference.windows import Progress, gaussian_weight

__all__ = [
    "InferenceOptions",
    "Locate",
    "Prediction",
    "Progress",
    "Runners",
    "StageResult",
    "apply_rules_to",
    "dice_of_case",
    "dice_per_label",
    "gaussian_weight",
    "open_stage_runners",
    "paint",
    "place",
    "predict_logits",
    "predict_stage",
    "prepare_scan",
    "run_network",
    "segment",
]
