"""3D pictures of structures as a surgeon would look at them: from the front, the left and above, or all around.

Nothing of it is for measuring: surfaces are coarse and smoothed. They need the extra `pictures`, no display and no
graphics card.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from delineate.errors import ExportError
from delineate.geometry import FloatArray
from delineate.reports.drawing import heading, png_drawing
from delineate.reports.scenes import Picture, Scene, open_scene
from delineate.reports.slices import legend, letters, scale_bar
from delineate.reports.solids import Solid, solids
from delineate.volume import Segmentation

_DPI = 130
_WIDTH, _HEIGHT = 9.25, 3.85  # inches: about 1200 x 500 pixels
_PANE_PIXELS = (440, 400)
_LEGEND_INCHES, _LEGEND_COLUMNS = 0.2, 5


@dataclass(frozen=True, slots=True)
class Side:
    """A side to look from. `looking`, `up`: LPS directions; `borders`: letters left, right, on top and below."""

    name: str
    looking: tuple[float, float, float]
    up: tuple[float, float, float]
    borders: tuple[str, str, str, str]


FRONT = Side("From the front", (0, 1, 0), (0, 0, 1), ("R", "L", "S", "I"))
LEFT = Side("From the patient's left", (-1, 0, 0), (0, 0, 1), ("A", "P", "S", "I"))
ABOVE = Side("From above", (0, 0, -1), (0, -1, 0), ("L", "R", "A", "P"))
SIDES = (FRONT, LEFT, ABOVE)


def structures_render(segmentation: Segmentation, *, structures: Collection[str] = (), title: str = "") -> bytes:
    """PNG of about 1200 x 500 pixels: the structures from three sides at one scale, with letters and their names.

    `structures`: only these. What encloses others is translucent; lesions never are. Raises `ExportError` if there is
    nothing to be seen, `ResourceError` without the extra `pictures`, `LabelError` for an unknown name.
    """
    shown = _something(segmentation, structures)
    with open_scene(shown, size=_PANE_PIXELS) as scene:
        pictures = [(side, scene.seen(_vector(side.looking), _vector(side.up))) for side in SIDES]
        height_mm = scene.height_mm
    labels = [label for label in segmentation.labels if any(label.name == solid.mesh.name for solid in shown)]
    rows = max(0, math.ceil(len(labels) / _LEGEND_COLUMNS) - 1)
    with png_drawing(width=_WIDTH, height=_HEIGHT + _LEGEND_INCHES * rows, dpi=_DPI) as (figure, png):
        for pane, (side, picture) in zip(figure.subplots(1, len(SIDES)), pictures, strict=True):
            pane.imshow(picture)
            pane.set(xticks=[], yticks=[])
            pane.set_title(side.name)
            pane.grid(visible=False)
            pane.spines[:].set_visible(False)
            letters(pane, side.borders, dark=False)
            scale_bar(pane, picture.shape[1], height_mm / picture.shape[0], dark=False)
        legend(figure, labels)
        heading(figure, title)
    return png.getvalue()


def turntable(
    segmentation: Segmentation, *, structures: Collection[str] = (), frames: int = 48, size: int = 480
) -> Iterator[Picture]:
    """(size, size, 3) pictures once around the patient, from the front by his left; one at a time.

    Raises what `structures_render` raises, at the first one.
    """
    shown = _something(segmentation, structures)
    with open_scene(shown, size=(size, size), turning=True) as scene:
        for n in range(frames):
            yield _around(scene, 2 * math.pi * n / frames)


def _around(scene: Scene, angle: float) -> Picture:
    # From the front the eye looks to posterior, from the left to the right.
    return scene.seen(np.array([-math.sin(angle), math.cos(angle), 0.0]), np.array([0.0, 0.0, 1.0]))


def _something(segmentation: Segmentation, structures: Collection[str]) -> tuple[Solid, ...]:
    shown = solids(segmentation, structures=structures)
    if not shown:
        raise ExportError(
            "no structure has voxels, so there is nothing to be seen",
            path=segmentation.source.path,
            remedy="Leave the picture out.",
        )
    return shown


def _vector(values: tuple[float, float, float]) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
