"""The labels of a case as layers: what edits change.

A label map is one layer, number 0, that holds the structures' values. Where structures overlap each is a layer of its
own, numbered as its value, that holds 0 and 1. Arrays of layers are (K, J, I) and C-contiguous, so that their memory
has the wire's order (i fastest); segmentations are (I, J, K).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.editing.runs import Runs, difference, pack, put_runs, unpack, wire_view
from delineate.errors import DelineateError, InputError
from delineate.formats.dicom_results.seg_placing import with_labels
from delineate.geometry import Grid
from delineate.labels import Label, LabelSet
from delineate.review.records import DamagedStore, ReviewCase
from delineate.review.scan_headers import grid_of
from delineate.volume import Segmentation, Source
from delineate.workflow.structures import read_any_segmentation

LayerArray = npt.NDArray[Any]
Layers = dict[int, LayerArray]

_PART = struct.Struct("<IQ")  # of a snapshot: layer, bytes of its runs
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ModelResult:
    """What a model made of a case, on the scan's own grid. `layers`: new arrays, which the caller may change."""

    grid: Grid
    layers: Layers


def labels_of(case: ReviewCase) -> LabelSet:
    """The structures of a case with their colours."""
    found = tuple(Label(part.value, part.name, part.colour) for part in case.new.structures)
    return LabelSet(found, overlaps=case.new.overlaps)


def read_model_result(case: ReviewCase) -> ModelResult:
    """The model's own result of a case, from its file.

    Raises `DamagedStore` if the file is not the one that was taken into the worklist, `GeometryMismatch` if it does not
    lie on the scan's grid, and what reading raises.
    """
    _check_file(case)
    labels, grid = labels_of(case), grid_of(case.new.scan)
    known = None if labels.overlaps else labels
    found = read_any_segmentation(case.new.segmentation, labels=known, grid=grid)
    if (found.labels.names, found.labels.values) != (labels.names, labels.values):
        found = with_labels(replace(found, labels=replace(found.labels, regions=())), labels)
    if not labels.overlaps:
        kind = np.uint16 if max(labels.values, default=0) > 255 else np.uint8
        return ModelResult(grid, {0: np.array(wire_view(found.array), dtype=kind, order="C")})
    masks = zip(labels.values, found.array, strict=True)
    return ModelResult(grid, {value: np.array(wire_view(mask), dtype=np.uint8, order="C") for value, mask in masks})


def _check_file(case: ReviewCase) -> None:
    path = case.new.segmentation
    hashed = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_READ_BYTES):
                hashed.update(chunk)
    except OSError as error:
        raise InputError("the model's result cannot be read", path=path, case=case.new.key) from error
    if hashed.hexdigest() != case.new.digest:
        raise DamagedStore(
            "the model's result was changed since it was taken into the worklist",
            case=case.new.key,
            path=path,
            remedy="Put the file back: all edits were made of it.",
        )


def put_edit(layers: Mapping[int, LayerArray], layer: int, packed: bytes) -> None:
    """Apply packed runs to a layer, in place. Raises `DamagedStore` if they do not fit: edits were stored that do."""
    try:
        put_runs(layers[layer], unpack(packed, layers[layer].size))
    except (KeyError, DelineateError) as error:
        raise DamagedStore("a stored edit does not fit the labels before it", got=str(error)) from error


def check_runs(case: ReviewCase, layers: Mapping[int, LayerArray], layer: int, runs: Runs) -> None:
    """Raises `InputError` unless the layer exists and the runs' new values are those of structures, or background."""
    if layer not in layers:
        raise InputError(
            "the case has no such layer", expected=f"one of {sorted(layers)}", got=layer, case=case.new.key
        )
    known = {0, 1} if case.new.overlaps else {0, *(part.value for part in case.new.structures)}
    wrong = set(np.unique(runs.after).tolist()) - known
    if wrong:
        raise InputError("no structure has these values", expected=sorted(known), got=sorted(wrong), case=case.new.key)
    if len(runs) == 0:
        raise InputError("the edit changes nothing", case=case.new.key)


def pack_layers(before: Mapping[int, LayerArray], after: Mapping[int, LayerArray]) -> bytes:
    """What differs between the model's layers and others, compressed: a snapshot."""
    parts = []
    for layer in sorted(after):
        packed = pack(difference(wire_view(before[layer]), wire_view(after[layer])))
        parts += [_PART.pack(layer, len(packed)), packed]
    return zlib.compress(b"".join(parts), level=1)


def put_layers(layers: Mapping[int, LayerArray], packed: bytes) -> None:
    """Turn the model's layers into those that `pack_layers` was given, in place.

    Raises `DamagedStore` if the bytes are none, or belong to other layers.
    """
    try:
        data = zlib.decompress(packed)
        start = 0
        while start < len(data):
            layer, size = _PART.unpack_from(data, start)
            start += _PART.size + size
            put_edit(layers, layer, data[start - size : start])
    except (zlib.error, struct.error) as error:
        raise DamagedStore("a snapshot is none", got=str(error)) from error


def as_segmentation(case: ReviewCase, grid: Grid, layers: Mapping[int, LayerArray], author: str | None) -> Segmentation:
    """Layers as a segmentation (I, J, K) on the scan's grid; of a label map a view of the layer."""
    labels, source = labels_of(case), Source(path=case.new.segmentation)
    if not labels.overlaps:
        return Segmentation(wire_view(layers[0]), grid, labels, source, author)
    masks = np.stack([wire_view(layers[value]) != 0 for value in labels.values])
    return Segmentation(masks, grid, labels, source, author)


def bytes_of(layers: Iterable[LayerArray]) -> int:
    """How much memory layers take."""
    return sum(array.nbytes for array in layers)
