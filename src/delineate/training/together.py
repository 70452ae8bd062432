"""Several processes that take the steps of one run together, and end with the same weights each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import torch
from torch import Tensor, nn

from delineate.errors import PlanError
from delineate.groups import Group, waiting_for_others
from delineate.planning import Plan
from delineate.training.facts import Facts
from delineate.training.state import TrainingState, pack, unpack

_BUCKET_BYTES = 32 * 2**20  # of gradients that travel at once


def check_shares(plan: Plan, group: Group) -> None:
    """Raises `PlanError` if the processes of a group cannot have equal shares of a plan's batch."""
    size = plan.training.batch_size
    if size % group.size:
        raise PlanError(
            f"the plan's batch cannot be divided among {group.size} processes",
            expected=f"a multiple of {group.size}",
            got=f"a batch of {size}",
            remedy=f"Give --batch {-(-size // group.size) * group.size}, or edit training.batch_size of the plan, or "
            "start another number of processes.",
        )


def of_one(plan: Plan, group: Group) -> Plan:
    """The plan as each process of a group sees it, with its own share of the batch: for what a step takes there."""
    share = max(1, plan.training.batch_size // group.size)
    return msgspec.structs.replace(plan, training=msgspec.structs.replace(plan.training, batch_size=share))


def share_batch(plan: Plan, group: Group) -> Plan:
    """A plan whose batch can be divided, and a word on it where that made it larger."""
    size = plan.training.batch_size
    if size % group.size == 0:
        return plan
    whole = -(-size // group.size) * group.size
    reason = f"batch of {whole} instead of {size}, to be divided among {group.size} processes"
    training = msgspec.structs.replace(plan.training, batch_size=whole)
    return msgspec.structs.replace(plan, training=training, reasons=(*plan.reasons, reason))


def sum_gradients(network: nn.Module, group: Group) -> None:
    """Give every process the gradients of the whole batch.

    One after the other, once all are there, and not while they are computed as torch's DDP does: the networks here have
    few weights for the time that a step takes, and gradients can be added up as what `Group.sum` says they are.
    """
    if group.size == 1:
        return
    import torch.distributed as dist

    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    with waiting_for_others(), torch.no_grad():
        sent = []
        for bucket in _buckets(gradients):
            together = torch.cat([gradient.reshape(-1) for gradient in bucket])
            sent.append((bucket, together, dist.all_reduce(together, async_op=True)))
        for bucket, together, work in sent:
            work.wait()
            for gradient, part in zip(bucket, torch.split(together, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view(gradient.shape))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, some at a time, of one type each."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and (held + tensor.nbytes > _BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket


class _Contents(msgspec.Struct, frozen=True):
    """What a run consists of: its facts, and each tensor's name, type and shape."""

    facts: Facts
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]


def match(state: TrainingState | None, plan: Plan, group: Group, *, device: str = "cpu") -> TrainingState:
    """The run of the process that leads, in every process; the others have None."""
    if state is not None:
        state.group = group
    if group.size == 1:
        assert state is not None
        return state
    tensors = {} if state is None else pack(state)
    described = tuple((n, str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in tensors.items())
    known = b"" if state is None else msgspec.json.encode(_Contents(state.facts, described))
    contents = msgspec.json.decode(broadcast_bytes(known, group), type=_Contents)
    import torch.distributed as dist

    received = {}
    with waiting_for_others():
        for name, dtype, shape in contents.tensors:
            tensor = tensors[name] if state is not None else torch.empty(shape, dtype=getattr(torch, dtype))
            # One that has no dimension cannot be sent by every backend.
            dist.broadcast(tensor.view(-1), src=0)
            received[name] = tensor
    if state is None:
        state = unpack(received, contents.facts, plan, device=device)
        state.group = group
    share_statistics(state.network, group)
    return state


def broadcast_bytes(data: bytes, group: Group) -> bytes:
    """What the process that leads has, in every process; the others' own is not looked at."""
    if group.size == 1:
        return data
    import torch.distributed as dist

    with waiting_for_others():
        length = torch.tensor([len(data)])
        dist.broadcast(length, src=0)
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8) if group.leads else None
        content = torch.empty(int(length), dtype=torch.uint8) if sent is None else sent
        dist.broadcast(content, src=0)
    return content.numpy().tobytes()


def agree(state: TrainingState, *, stopped: bool, validations: int) -> tuple[bool, int]:
    """What the processes of a run know of each other before a step: whether any was asked to stop, and how many
    validations there are, by the one that leads. The end of the run becomes that one's, too.
    """
    group = state.group
    if group.size == 1:
        return stopped, validations
    phase = state.facts.phases[-1]
    moved = -1 if phase.moved is None else phase.moved
    own = [phase.last, moved, phase.share, validations] if group.leads else [0] * 4
    asked, last, moved_at, share, times = group.sum(torch.tensor([stopped, *own], dtype=torch.float64)).tolist()
    if not group.leads:
        at = None if moved_at < 0 else int(moved_at)
        led = msgspec.structs.replace(phase, last=int(last), moved=at, share=share)
        state.facts = msgspec.structs.replace(state.facts, phases=(*state.facts.phases[:-1], led))
    return asked > 0, int(times)


def leaders_answer(answer: bool, group: Group) -> bool:
    """The answer of the process that leads."""
    if group.size == 1:
        return answer
    return bool(group.sum(torch.tensor([float(answer and group.leads)])).item() > 0)


def gathered_rows(rows: Tensor, numbers: Sequence[int], count: int, group: Group) -> Tensor:
    """(count, ...) from the rows that each process has: these are the ones with these numbers. NaN stays NaN."""
    whole = rows.new_zeros((count, *rows.shape[1:]))
    whole[list(numbers)] = rows
    return group.sum(whole)


def share_statistics(network: nn.Module, group: Group) -> None:
    """Let batch normalisation take its mean and variance over the whole batch, as one process would."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, _SharedBatchNorm):
                setattr(module, name, _SharedBatchNorm(child, group))


class _SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation (Ioffe and Szegedy 2015) over the shares of all processes; PyTorch's own needs a GPU."""

    def __init__(self, single: nn.modules.batchnorm._BatchNorm, group: Group) -> None:
        super().__init__(single.num_features, eps=single.eps, momentum=single.momentum, affine=single.affine)
        self.weight, self.bias = single.weight, single.bias
        self.running_mean, self.running_var = single.running_mean, single.running_var
        self.num_batches_tracked = single.num_batches_tracked
        self.train(single.training)
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        group = self._group
        axes = [0, *range(2, x.ndim)]
        each = (1, -1, *(1,) * (x.ndim - 2))
        exact = x.float()
        count = exact[:, 0].numel() * group.size
        mean = group.sum_within(exact.sum(axes)) / count
        centred = exact - mean.view(each)
        variance = group.sum_within(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        y = centred * (variance + self.eps).rsqrt().view(each)
        if self.weight is not None:
            y = y * self.weight.view(each) + self.bias.view(each)
        return y.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""
