"""A trained network over a whole scan: windows, blended by a Gaussian, then back into the scan's own grid."""

from delineate.inference.running import PRECISIONS, place, run_network
from delineate.inference.segmenting import Prediction, segment
from delineate.inference.validating import dice_per_label, predict_logits
from delineate.inference.windows import Progress, gaussian_weight, window_starts

__all__ = [
    "PRECISIONS",
    "Prediction",
    "Progress",
    "dice_per_label",
    "gaussian_weight",
    "place",
    "predict_logits",
    "run_network",
    "segment",
    "window_starts",
]
