"""The mean of all windows' logits, for only as many planes along one axis as are not finished."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from delineate.geometry import Triple
from delineate.inference.windows import Float32Array, Layout
from delineate.preprocessing import FloatImage

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Blend:
    """Weighted means of logits, for up to `extent` planes along `axis`, from the first unfinished one on.

    They lie in a ring (plane n of the padded image is plane n % extent of the ring), so that nothing is moved. The sum
    of the weights at every voxel is known beforehand, since there is a window at every combination of the starts: so
    each window is added with its share of it, and a window that is left out counts as logits of `base`. Means in
    float16 take half the memory; they round logits to about a thousandth. `shared`: how many planes taken are handed
    out again with the next.
    """

    windows: Layout
    weight: Float32Array
    base: Sequence[float]
    axis: int
    extent: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    shared: int = 0
    _means: Tensor = field(init=False, repr=False)
    _weight: Tensor = field(init=False, repr=False)
    _totals: tuple[int, Tensor] | None = field(init=False, repr=False, default=None)
    _last: FloatImage = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (len(self.base), *self._across(self.windows.padded, self.extent))
        self._means = torch.zeros(shape, dtype=self.dtype, device=self.device)
        self._weight = torch.from_numpy(self.weight).to(self.device)
        self._last = np.empty((len(self.base), *self._across(self.windows.shape, 0)), dtype=np.float32)

    def add(self, logits: Tensor, start: Triple) -> None:
        """Add the logits (classes, *patch) of the window at `start`; windows must come in the order of the planes."""
        share = self._weight / self._at_window(self._total_weights(start[self.axis]), start)
        means = self._at_window(self._means, start)
        for ring, part in self._parts(start[self.axis], self.windows.patch[self.axis]):
            self._add(_cut(means, 1 + self.axis, ring), _cut(logits, 1 + self.axis, part), _cut(share, self.axis, part))

    def _add(self, means: Tensor, logits: Tensor, share: Tensor) -> None:
        # On the CPU one plane at a time stays in the cache, whether logits of a voxel or of a class lie together.
        planes = range(share.shape[0]) if self.device == "cpu" else (slice(None),)
        for plane in planes:
            means[:, plane].addcmul_(logits[:, plane], share[plane])
        for channel, value in enumerate(self.base):
            if value:
                means[channel].sub_(share, alpha=value)

    def take(self, planes: slice) -> tuple[slice, FloatImage]:
        """The mean logits (classes, I, J, K) of finished planes of the image without its padding; they are freed.

        The last `shared` planes of those taken before come first. Returns the range of planes, and their logits.
        """
        before, count = self._last.shape[1 + self.axis], planes.stop - planes.start
        # From NumPy, which asks for huge pages: what reads this goes through many classes at once.
        out = np.empty((len(self.base), *self._across(self.windows.shape, before + count)), dtype=np.float32)
        np.moveaxis(out, 1 + self.axis, 0)[:before] = np.moveaxis(self._last, 1 + self.axis, 0)
        self._take(planes.start, torch.from_numpy(out).narrow(1 + self.axis, before, count))
        kept = min(self.shared, before + count)
        self._last = np.take(out, range(before + count - kept, before + count), axis=1 + self.axis)
        return slice(planes.start - before, planes.stop), out

    def _take(self, start: int, out: Tensor) -> None:
        first = start + self.windows.padding[self.axis][0]
        for ring, part in self._parts(first, out.shape[1 + self.axis]):
            means = _cut(self._means, 1 + self.axis, ring)
            target = _cut(out, 1 + self.axis, part)
            target.copy_(self._without_padding(means))
            for channel, value in enumerate(self.base):
                if value:
                    target[channel].add_(value)
            means.zero_()

    def _parts(self, start: int, count: int) -> Iterator[tuple[slice, slice]]:
        """Where `count` planes from `start` on lie: (planes of the ring, which of the planes these are)."""
        done = 0
        while done < count:
            at = (start + done) % self.extent
            size = min(count - done, self.extent - at)
            yield slice(at, at + size), slice(done, done + size)
            done += size

    def _total_weights(self, start: int) -> Tensor:
        """The summed weights of all windows, on the planes of those that start at `start` along the axis."""
        if self._totals is None or self._totals[0] != start:
            self._totals = (start, self._sum_weights(start))
        return self._totals[1]

    def _sum_weights(self, start: int) -> Tensor:
        width = self.windows.patch[self.axis]
        total = torch.zeros(tuple(self._across(self.windows.padded, width)), device=self.device)
        near = [n for n in self.windows.starts[self.axis] if abs(n - start) < width]
        for at in itertools.product(*self._across(self.windows.starts, near)):
            low, high = max(start, at[self.axis]), min(start, at[self.axis]) + width
            planes = _cut(self._at_window(total, at), self.axis, slice(low - start, high - start))
            planes.add_(_cut(self._weight, self.axis, slice(low - at[self.axis], high - at[self.axis])))
        return total

    def _at_window(self, array: Tensor, start: Sequence[int]) -> Tensor:
        """The rows and columns of an array (..., I, J, K) that a window covers; all its planes along the axis."""
        for axis in range(3):
            if axis != self.axis:
                array = array.narrow(axis - 3, start[axis], self.windows.patch[axis])
        return array

    def _without_padding(self, array: Tensor) -> Tensor:
        """The rows and columns of an array (..., I, J, K) that belong to the image itself."""
        for axis in range(3):
            if axis != self.axis:
                array = array.narrow(axis - 3, self.windows.padding[axis][0], self.windows.shape[axis])
        return array

    def _across(self, values: Sequence[T], along: T) -> list[T]:
        """One value an axis: `along` for the axis itself."""
        return [along if axis == self.axis else value for axis, value in enumerate(values)]


@dataclass(slots=True, eq=False)
class NnunetBlend(Blend):
    """The means as nnU-Net makes and rounds them: weighted logits and weights are summed in float16, one window after
    the other, and divided at the end; then the folds' means are summed in float16. No window may be left out.

    Logits are added for all folds at once: (folds * classes, *patch).
    """

    folds: int = 1
    _counts: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super(NnunetBlend, self).__post_init__()  # a class with slots is made anew, which super() knows nothing of
        planes = self._across(self.windows.padded, self.extent)
        self._means = torch.zeros((self.folds * len(self.base), *planes), dtype=torch.float16, device=self.device)
        self._counts = torch.zeros(planes, dtype=torch.float16, device=self.device)

    def add(self, logits: Tensor, start: Triple) -> None:
        sums, counts = self._at_window(self._means, start), self._at_window(self._counts, start)
        for ring, part in self._parts(start[self.axis], self.windows.patch[self.axis]):
            weight = _cut(self._weight, self.axis, part)
            weighted = _cut(logits, 1 + self.axis, part) * weight
            _cut(sums, 1 + self.axis, ring).add_(weighted)
            _cut(counts, self.axis, ring).add_(weight)

    def _take(self, start: int, out: Tensor) -> None:
        first = start + self.windows.padding[self.axis][0]
        for ring, part in self._parts(first, out.shape[1 + self.axis]):
            sums, counts = _cut(self._means, 1 + self.axis, ring), _cut(self._counts, self.axis, ring)
            means = self._without_padding(sums) / self._without_padding(counts)
            total, *others = torch.split(means, len(self.base))
            for other in others:
                total.add_(other)
            if others:
                total.div_(self.folds)
            _cut(out, 1 + self.axis, part).copy_(total)
            sums.zero_()
            counts.zero_()


def _cut(tensor: Tensor, axis: int, part: slice) -> Tensor:
    return tensor.narrow(axis, part.start, part.stop - part.start)
