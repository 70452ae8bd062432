"""What losses have in common: overlaps of probabilities with a reference, from their sums.

Sums are (B, S): of each case and structure. `known` (B, S) is 1 where a case says something about a structure, else 0.
`whole_batch`: one overlap of all cases together, else the mean over cases. No structure at all gives 0.
"""

from __future__ import annotations

from torch import Tensor

_SMOOTH = 1e-5
_FALSE_POSITIVE, _FALSE_NEGATIVE = 0.3, 0.7
_GAMMA = 2.0


def mean_dice_loss(overlap: Tensor, both: Tensor, known: Tensor, *, whole_batch: bool) -> Tensor:
    """1 - mean soft Dice: 2 `overlap` / `both`, what was predicted and what was expected together."""
    (overlap, both), known = _pooled((overlap, both), known, whole_batch=whole_batch)
    return _mean_loss((2 * overlap + _SMOOTH) / (both + _SMOOTH), known)


def mean_tversky_loss(
    overlap: Tensor, predicted: Tensor, expected: Tensor, known: Tensor, *, whole_batch: bool
) -> Tensor:
    """1 - mean Tversky index: overlap / (overlap + 0.3 false positives + 0.7 false negatives).

    Salehi, Erdogmus, Gholipour 2017, Tversky loss function for image segmentation using 3D fully convolutional deep
    networks, equation 3, with the weights that were best there. With 0.5 and 0.5 it would be Dice.
    """
    (overlap, predicted, expected), known = _pooled((overlap, predicted, expected), known, whole_batch=whole_batch)
    errors = _FALSE_POSITIVE * (predicted - overlap) + _FALSE_NEGATIVE * (expected - overlap)
    return _mean_loss((overlap + _SMOOTH) / (overlap + errors + _SMOOTH), known)


def focal_weight(probability: Tensor) -> Tensor:
    """(1 - p)^2 of the probability p of what is right (Lin et al. 2017, Focal loss for dense object detection)."""
    return (1 - probability) ** _GAMMA


def _pooled(sums: tuple[Tensor, ...], known: Tensor, *, whole_batch: bool) -> tuple[tuple[Tensor, ...], Tensor]:
    if not whole_batch:
        return sums, known
    return tuple((one * known).sum(0) for one in sums), known.amax(0)


def _mean_loss(index: Tensor, known: Tensor) -> Tensor:
    return ((1 - index) * known).sum() / known.sum().clamp(min=1)
