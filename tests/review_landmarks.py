"""Scans with a bright cross at a known point of the world, a reader who traces it in the page, and what was saved.

Where things lie is worked out from each file's own header, by nibabel and pydicom: nothing here asks the house's code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

import hard_series
import nibabel
import numpy as np
import numpy.typing as npt
from review_tabs import Tab

Floats = npt.NDArray[np.float64]

SHAPE, SPACING_MM = (44, 36, 24), (1.1, 1.4, 2.3)
CROSS = (17, 20, 10)
# Arms reach further along each array axis than against it, so that a mirrored picture shows.
AGAINST, ALONG = 3, 5
BODY_HU, BRIGHT_HU = -500, 1300
# A millimetre's tenth is the last digit that the page shows.
SHOWN_MM = 0.051
LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FLIPS = {"".join("pn"[sign < 0] for sign in signs): signs for signs in product((1, -1), repeat=3)}
_ORDERS = list(permutations(range(3)))


@dataclass(frozen=True)
class Landmark:
    """A scan's cross. `affine`: index to RAS mm. `voxel`: the cross's middle; `point`: the world point that it marks,
    RAS mm, up to a third of a voxel beside that voxel's middle."""

    affine: Floats
    shape: tuple[int, ...]
    voxel: tuple[int, ...]

    @property
    def point(self) -> Floats:
        beside = np.add(self.voxel, (0.3, -0.25, 0.2))
        return np.asarray(self.affine[:3, :3] @ beside + self.affine[:3, 3])

    @property
    def spacing_mm(self) -> Floats:
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def codes(self) -> tuple[str, ...]:
        """What the patient's directions are called that the array's axes run to."""
        return tuple(nibabel.aff2axcodes(self.affine))  # type: ignore[no-untyped-call]

    def scan(self) -> npt.NDArray[np.int16]:
        """In HU: a body of one value, and a cross of one voxel wide arms."""
        scan = np.full(self.shape, BODY_HU, np.int16)
        for axis, at in enumerate(self.voxel):
            arm: list[Any] = list(self.voxel)
            arm[axis] = slice(at - AGAINST, at + ALONG + 1)
            scan[tuple(arm)] = BRIGHT_HU
        return scan


def place(flips: Sequence[int], order: Sequence[int]) -> Landmark:
    """An oblique, anisotropic grid whose array axes run about along the world's axes `order`, or against them."""
    turned = hard_series.turned(8, -6, 17)
    linear = np.column_stack([flips[axis] * SPACING_MM[axis] * turned[:, order[axis]] for axis in range(3)])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, (-31.0, 14.5, 207.25)
    return Landmark(affine, SHAPE, CROSS)


def write_scans(scans: Path, results: Path) -> dict[str, Landmark]:
    """Eight flips as NIfTI, of which half are left-handed, and a DICOM series; each with a result of one structure."""
    scans.mkdir()
    results.mkdir()
    made = {}
    for (name, flips), order in zip(FLIPS.items(), [*_ORDERS, *_ORDERS], strict=False):
        landmark = place(flips, order)
        _save(scans / f"flip_{name}.nii.gz", landmark.scan(), landmark)
        made[f"flip_{name}"] = landmark
    made["series"] = _write_series(scans / "series")
    for name, landmark in made.items():
        _save(results / f"{name}.nii.gz", result_labels(), landmark)
    return made


def result_labels() -> npt.NDArray[np.uint8]:
    """What the model found, away from the cross."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 3:8, 15:20] = 1
    return labels


def _save(path: Path, array: Any, landmark: Landmark) -> None:
    nibabel.save(nibabel.Nifti1Image(array, landmark.affine), path)  # type: ignore[no-untyped-call]


def _write_series(folder: Path) -> Landmark:
    """Slices towards the feet: rows, columns and the order of the files make a left-handed grid."""
    axes = hard_series.turned(8, -6, 17)
    stack = hard_series.planes(
        SHAPE[2],
        axes=axes,
        step_mm=-SPACING_MM[2],
        size=(SHAPE[1], SHAPE[0]),
        spacing_mm=(SPACING_MM[1], SPACING_MM[0]),
    )
    lps = np.eye(4)
    lps[:3, :3] = axes * (SPACING_MM[0], SPACING_MM[1], -SPACING_MM[2])
    lps[:3, 3] = stack[0].position_mm
    landmark = Landmark(LPS_OF_RAS @ lps, SHAPE, CROSS)
    scan, inverse = landmark.scan(), np.linalg.inv(lps)

    def world(points_mm: Floats) -> Floats:
        index = np.rint(points_mm @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        return np.asarray(scan[tuple(np.moveaxis(index, -1, 0))], np.float64)

    hard_series.write_series(folder, stack, world=world)
    return landmark


# Keeps what is written on each picture, as it stands there now.
LISTEN = """
const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  (this.canvas.written ??= []).push([text, x, y]);
  return fillText.call(this, text, x, y);
};
CanvasRenderingContext2D.prototype.clearRect = function (...box) {
  this.canvas.written = [];
  return clearRect.call(this, ...box);
};
"""
_BRIGHT = """top => {
  const base = top.parentElement.querySelector(".viewer-base");
  const { data, width } = base.getContext("2d").getImageData(0, 0, base.width, base.height);
  const found = [];
  for (let at = 0; at < data.length / 4; at++) if (data[4 * at] > 127) found.push([at % width, Math.floor(at / width)]);
  return found;
}"""


@dataclass(frozen=True)
class Seen:
    """A bright cross as pixels of the page: its middle, and how far its arms reach."""

    x: float
    y: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def voxel(self) -> tuple[float, float]:
        """Pixels of a voxel across and down."""
        arm = AGAINST + 1 + ALONG
        return (self.right - self.left) / arm, (self.bottom - self.top) / arm


class Reader:
    """Somebody with a case open, who sees only what is on the screen."""

    def __init__(self, tab: Tab, key: str) -> None:
        self.tab, self.page = tab, tab.page
        tab.page.goto(f"{tab.address}#/case/{key}")
        tab.page.locator(".saving", has_text="All saved").wait_for()
        tab.page.locator(".view-bar progress").wait_for(state="detached")
        tab.page.get_by_label("Window").select_option(label="Bone")
        tab.page.get_by_label("Opacity").fill("0")
        tab.page.get_by_label("Crosshair").uncheck()

    def show(self, plane: str) -> Any:
        """One plane's picture alone."""
        self.page.get_by_label("Layout").select_option(plane)
        picture = self.picture(plane)
        picture.wait_for()
        self.settle()
        return picture

    def picture(self, plane: str) -> Any:
        return self.page.locator(f"[data-plane={plane}]:not([hidden]) .viewer-top")

    def settle(self) -> None:
        """Until what was asked for is drawn."""
        self.page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(() => go())))")

    def go_to(self, landmark: Landmark, plane: str) -> None:
        """To the slice of the landmark, counted from the end at the head, the front, or the patient's left."""
        axis, ends = self.axis(landmark, plane)
        at, slices = landmark.voxel[axis], landmark.shape[axis]
        steps = slices - 1 - at if landmark.codes[axis] == ends else at
        picture = self.show(plane)
        picture.press("Home")
        for key in ["Shift+PageDown"] * (steps // 10) + ["PageDown"] * (steps % 10):
            picture.press(key)
        self.settle()

    @staticmethod
    def axis(landmark: Landmark, plane: str) -> tuple[int, str]:
        """The array axis across a plane, and the letter of the end where its slices begin."""
        letters, ends = {"axial": ("SI", "S"), "coronal": ("AP", "A"), "sagittal": ("LR", "L")}[plane]
        return next(axis for axis, code in enumerate(landmark.codes) if code in letters), ends

    def told(self, plane: str) -> Floats:
        """Where the crosshair is, as the picture tells: RAS mm."""
        label = self.picture(plane).get_attribute("aria-label")
        ways = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
        world = np.full(3, np.nan)
        for letter, number in re.findall(r"\b([LRPAIS]) (\d+\.\d)", label):
            axis, sign = ways[letter]
            world[axis] = sign * float(number)
        return world

    def letters(self, plane: str) -> dict[str, str]:
        """What is written in the middle of each edge of the picture."""
        picture = self.picture(plane)
        box = picture.bounding_box()
        written = picture.evaluate("top => top.written")
        beside = sorted((x, text) for text, x, y in written if abs(y - box["height"] / 2) < 1)
        over = sorted((y, text) for text, x, y in written if abs(x - box["width"] / 2) < 1)
        return {"left": beside[0][1], "right": beside[-1][1], "top": over[0][1], "bottom": over[-1][1]}

    def see(self, plane: str) -> Seen:
        """The bright cross, found among the picture's pixels."""
        picture = self.picture(plane)
        box = picture.bounding_box()
        pixels = np.array(picture.evaluate(_BRIGHT))
        columns, rows = (np.bincount(pixels[:, axis]) for axis in range(2))
        upright, level = (np.flatnonzero(count > 0.7 * count.max()) for count in (columns, rows))
        (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0) + 1
        x, y = (float(middle.min() + middle.max() + 1) / 2 for middle in (upright, level))
        return Seen(*np.add((x, y, left, top, right, bottom), [box["x"], box["y"]] * 3).tolist())

    def trace(self, plane: str) -> None:
        """Both arms of the cross with the chosen tool, from the middle of one end to the middle of the other."""
        seen = self.see(plane)
        across, down = seen.voxel
        self.drag((seen.left + across / 2, seen.y), (seen.right - across / 2, seen.y))
        self.drag((seen.x, seen.top + down / 2), (seen.x, seen.bottom - down / 2))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=6)
        mouse.up()

    def measured(self) -> list[str]:
        """What the list of measurements says."""
        self.page.get_by_role("tab", name="Measurements").click()
        return list(self.page.locator("[role=tabpanel] .finding").all_inner_texts())
