"""A small network that learns what a large one says (Hinton et al. 2015), beside what references say."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.inference import place
from delineate.losses import shrink_target
from delineate.model import Model
from delineate.planning import DistillationPlan, NetworkPlan, Plan
from delineate.planning.adopting import Matching
from delineate.preprocessing import IGNORE
from delineate.sampling import Batch
from delineate.training.objectives import outputs_of, reference_loss

_FEW = 4  # features that widths are a multiple of, for the processor's sake
_SHARES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625)


def narrower(network: NetworkPlan) -> Iterator[NetworkPlan]:
    """The network, and others like it with fewer features, from the widest to the narrowest."""
    seen = set()
    for share in _SHARES:
        features = tuple(min(f, max(_FEW, round(share * f / _FEW) * _FEW)) for f in network.features)
        if features not in seen:
            seen.add(features)
            yield msgspec.structs.replace(network, features=features)


def with_features(network: NetworkPlan, features: Sequence[int]) -> NetworkPlan:
    """The network with these features a level; of fewer levels the lowest resolutions are left out."""
    levels = min(len(features), len(network.features))
    return msgspec.structs.replace(
        network,
        features=tuple(features),
        strides=network.strides[:levels],
        kernels=network.kernels[:levels],
        convolutions=network.convolutions[:levels],
        decoder_convolutions=network.decoder_convolutions[: levels - 1],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """The networks of a model's folds on a device, and which of their outputs the student's are.

    `outputs`: of the student's outputs the number of the teacher's. What the student does not learn is background.
    """

    networks: tuple[nn.Module, ...]
    plan: Plan
    outputs: tuple[int, ...]

    @torch.no_grad()
    def probabilities(self, images: Tensor, temperature: float) -> Tensor:
        """(B, classes, I, J, K), float32: the mean of the folds' softened probabilities, in the student's order."""
        total: Tensor | None = None
        for network in self.networks:
            logits = outputs_of(network, images, self.plan)
            assert isinstance(logits, Tensor)
            softened = logits.float() / temperature
            mean = (softened.sigmoid() if self.plan.regions else softened.softmax(1)) / len(self.networks)
            total = mean if total is None else total + mean
        assert total is not None
        if self.outputs == tuple(range(total.shape[1])):
            return total
        chosen = total[:, list(self.outputs)]
        if not self.plan.regions:
            chosen[:, 0] = (1 - chosen[:, 1:].sum(1)).clamp(min=0)
        return chosen


def open_teacher(model: Model, matching: Matching, *, device: str = "cpu", precision: str | None = None) -> Teacher:
    """A model's folds as a teacher; `matching`: of the student's outputs, each of which must have one of the model's.

    `precision`: the student's, or the model's own if None.
    """
    plan = model.plan
    if precision is not None:
        changed = msgspec.structs.replace(plan.training, precision=precision)
        plan = msgspec.structs.replace(plan, training=changed)
    networks = tuple(place(model.network(fold), device).eval() for fold in range(len(model.folds)))
    for parameter in itertools.chain.from_iterable(network.parameters() for network in networks):
        parameter.requires_grad_(False)
    return Teacher(networks, plan, tuple(n for n in matching.outputs if n is not None))


@dataclass(frozen=True, slots=True, eq=False)
class Distilled:
    """The objective of a student: `how.weight` times what differs from the teacher, and the rest from references.

    The teacher sees the very patch that the student sees, augmented as it is. Cases in `unlabelled` have no reference,
    and only the teacher speaks of them.
    """

    teacher: Teacher
    how: DistillationPlan
    unlabelled: Collection[str] = ()

    def __call__(self, network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
        soft = self.teacher.probabilities(batch.images, self.how.temperature)
        outputs = outputs_of(network, batch.images, plan)
        levels = (outputs,) if isinstance(outputs, Tensor) else outputs
        said = soft_loss(levels, soft, self.how.temperature, regions=bool(plan.regions))
        loss = self.how.weight * batch.group.mean(said)
        if self.how.weight == 1:
            return loss
        return loss + (1 - self.how.weight) * reference_loss(outputs, self._without_unlabelled(batch), plan)

    def _without_unlabelled(self, batch: Batch) -> Batch:
        """The batch with nothing known of unlabelled cases, not even of what was padded beyond their scans."""
        unknown = torch.tensor([case in self.unlabelled for case in batch.cases], device=batch.targets.device)
        targets = batch.targets.masked_fill(unknown[:, None, None, None], IGNORE)
        annotated = None if batch.annotated is None else batch.annotated & ~unknown[:, None]
        return replace(batch, targets=targets, annotated=annotated)


def soft_loss(outputs: Sequence[Tensor], soft: Tensor, temperature: float, *, regions: bool = False) -> Tensor:
    """Kullback-Leibler divergence of a student from softened probabilities, times the temperature's square.

    `outputs`: logits (B, C, ...), highest resolution first, weighted 1, 1/2, 1/4, ...; `soft`: (B, C, I, J, K), of
    which lower resolutions see every n-th voxel. The mean over voxels; with `regions` the sum over independent outputs.
    0 if the student says the same at that temperature. The square keeps gradients as large at any temperature (Hinton
    et al. 2015, section 2.1).
    """
    weights = [0.5**n for n in range(len(outputs))]
    parts = [
        weight / sum(weights) * _divergence(logits.float() / temperature, _shrunk(soft, logits), regions=regions)
        for weight, logits in zip(weights, outputs, strict=True)
    ]
    return temperature**2 * torch.stack(parts).sum()


def _divergence(logits: Tensor, soft: Tensor, *, regions: bool) -> Tensor:
    if regions:
        crossed = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none").sum(1)
        own = _entropy(soft) + _entropy(1 - soft)
        return (crossed + own.sum(1)).mean()
    return (_entropy(soft).sum(1) - (soft * logits.log_softmax(1)).sum(1)).mean()


def _entropy(soft: Tensor) -> Tensor:
    """p log p, 0 where p is."""
    product: Tensor = torch.special.xlogy(soft, soft)
    return product


def _shrunk(soft: Tensor, like: Tensor) -> Tensor:
    if soft.shape[2:] == like.shape[2:]:
        return soft
    flat = shrink_target(soft.flatten(0, 1), like.shape[2:])
    return flat.reshape(*soft.shape[:2], *like.shape[2:])
