"""Several models of the same structures as one: their probabilities are averaged in the scan's own grid.

Networks of different plans see different grids, so that only there can what they say be added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delineate.inference.regions import map_type
from delineate.labels import LabelSet
from delineate.planning import Region
from delineate.preprocessing import FloatImage
from delineate.volume import Allocate, Array

HALF = 0.5


@dataclass(slots=True)
class Mean:
    """A mean of probabilities (C, I, J, K) that are never all there at once."""

    total: FloatImage | None = None
    count: int = 0

    def add(self, probabilities: FloatImage) -> None:
        """Raises `ValueError` for another shape than before."""
        if self.total is None:
            self.total = np.array(probabilities, dtype=np.float32)
        else:
            np.add(self.total, probabilities, out=self.total)
        self.count += 1

    def take(self) -> FloatImage:
        """The mean, which this object gives up. Raises `ValueError` if nothing was added."""
        if self.total is None:
            raise ValueError("the mean of no probabilities")
        mean, self.total = self.total, None
        return np.multiply(mean, np.float32(1 / self.count), out=mean)


def most_probable(
    probabilities: FloatImage, labels: LabelSet, regions: tuple[Region, ...] = (), *, allocate: Allocate = np.empty
) -> Array:
    """The label map (I, J, K) of probabilities (C, I, J, K) in the labels' order.

    Background is channel 0, and each voxel gets the value of what is most probable, of equals the first; or there are
    `regions`, a channel each and none for the background: each that has more than half is painted, in their order.
    """
    high = max((region.paints for region in regions), default=0)
    label_map: Array = allocate(probabilities.shape[1:], map_type(labels) if high < 256 else np.uint16)
    values = np.array((0, *labels.values), dtype=label_map.dtype)
    channels = {name: n for n, name in enumerate(labels.names)}
    for plane in range(
        label_map.shape[0]
    ):  # an index as wide as argmax gives, of a whole scan, is larger than the scan
        if not regions:
            label_map[plane] = values[probabilities[:, plane].argmax(axis=0)]
            continue
        label_map[plane] = 0
        for region in regions:
            label_map[plane][probabilities[channels[region.name], plane] > HALF] = region.paints
    return label_map
