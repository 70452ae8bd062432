"""Cases worked by hand that the page answers too: page/tests/editing/shared.test.ts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from delineate.editing.boxes import whole
from delineate.editing.changes import changed
from delineate.editing.drawing import Region, box_region, lasso, stroke, threshold
from delineate.editing.runs import difference, pack, unpack, wire_view
from delineate.geometry import Grid
from delineate.review.seen import seen_digest, slice_digests

CASES = json.loads((Path(__file__).parent / "review_fixtures" / "drawing.json").read_text())
SEEN = json.loads((Path(__file__).parent / "review_fixtures" / "seen.json").read_text())
SHAPE, SPACING = tuple(CASES["shape"]), tuple(CASES["spacingMm"])


def _each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", CASES[kind], ids=[case["name"] for case in CASES[kind]])


def _offsets(region: Region) -> list[int]:
    mask = np.zeros(SHAPE, np.bool_)
    mask[region.box.slices] = region.mask
    return np.flatnonzero(wire_view(mask)).tolist()


def _labels(values: dict[str, int]) -> npt.NDArray[np.uint16]:
    flat = np.zeros(np.prod(SHAPE), np.uint16)
    for offset, value in values.items():
        flat[int(offset)] = value
    return wire_view(flat.reshape(SHAPE[::-1]))


@_each("strokes")
def test_strokes(case: dict[str, Any]) -> None:
    radius = case["radiusMm"]
    drawn = stroke(case["path"], radius_mm=radius, spacing_mm=SPACING, shape=SHAPE, axis=case["axis"])
    assert _offsets(drawn) == case["offsets"]


@_each("lassos")
def test_lassos(case: dict[str, Any]) -> None:
    drawn = lasso(case["polygon"], axis=case["axis"], number=case["slice"], shape=SHAPE)
    assert _offsets(drawn) == case["offsets"]


@_each("thresholds")
def test_thresholds(case: dict[str, Any]) -> None:
    stored = np.array(case["stored"], np.int16).reshape(-1, 1, 1)
    image = stored.astype(np.float32) * np.float32(case["slope"]) + np.float32(case["intercept"])
    labels = np.zeros(image.shape, np.uint8)
    window = case["lower"], case["upper"]
    painted = changed(labels, threshold(labels, image, box_region(whole(labels.shape)), value=1, window=window))
    assert np.flatnonzero(painted).tolist() == case["chosen"]


@_each("changes")
def test_changes(case: dict[str, Any]) -> None:
    runs = difference(_labels(case["before"]), _labels(case["after"]))
    assert base64.b64encode(pack(runs)).decode() == case["packed"]
    assert pack(unpack(base64.b64decode(case["packed"]), int(np.prod(SHAPE)))) == pack(runs)
    assert runs.lengths.sum() == case["voxels"]


@pytest.mark.parametrize("case", SEEN["cases"], ids=[case["name"] for case in SEEN["cases"]])
def test_what_is_seen(case: dict[str, Any]) -> None:
    shape = SEEN["shape"]
    slices = {}
    for number, layer in case["layers"].items():
        array = np.zeros(np.prod(shape), layer["type"])
        for offset, value in layer["values"].items():
            array[int(offset)] = value
        slices[int(number)] = array.itemsize, slice_digests(array.reshape(shape[::-1]))
    assert seen_digest(SEEN["scan"], Grid(tuple(shape), np.array(SEEN["affine"])), slices) == case["seen"]
