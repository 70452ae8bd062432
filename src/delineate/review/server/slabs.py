"""Voxels on the wire: slices k0 to k1 of a scan or a layer of labels, i fastest, little-endian, compressed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from delineate.errors import InputError
from delineate.formats.nifti import is_nifti_name
from delineate.review.layers import labels_of
from delineate.review.records import ReviewCase
from delineate.review.server.page import accepts_gzip
from delineate.review.server.parts import Parts
from delineate.review.server.problems import NotFound
from delineate.review.volumes import compress
from delineate.workflow.results import read_record
from delineate.workflow.structures import labels_near, read_any_segmentation

Layers = Mapping[int, npt.NDArray[Any]]

OCTETS = "application/octet-stream"


def label_type(case: ReviewCase) -> str:
    """What labels of a case travel as: bytes, unless a structure's value is above 255."""
    largest = 1 if case.new.overlaps else max((one.value for one in case.new.structures), default=0)
    return "uint8" if largest <= 255 else "uint16"


def check_slab(shape: tuple[int, int, int], itemsize: int, start: int, stop: int, *, most: int) -> None:
    """Raises `InputError` for slices that are not there, and for more bytes than one request may ask for."""
    if not 0 <= start < stop <= shape[2]:
        raise InputError(
            "there are no such slices", expected=f"from below to, within 0 to {shape[2]}", got=f"{start} to {stop}"
        )
    size = shape[0] * shape[1] * (stop - start) * itemsize
    if size > most:
        raise InputError(
            "these are too many slices for one request",
            expected=f"up to {most / 1e6:g} MB",
            got=f"{size / 1e6:g} MB",
            remedy="Ask for fewer at a time.",
        )


def layer_of(layers: Layers, layer: int) -> npt.NDArray[Any]:
    """A layer as (K, J, I). Raises `NotFound` if there is none of that number."""
    if layer not in layers:
        raise NotFound("this case has no such layer", expected=sorted(layers), got=layer)
    return layers[layer]


def wire_bytes(array_kji: npt.NDArray[Any], kind: str) -> bytes:
    """Labels (K, J, I) as they travel."""
    return np.ascontiguousarray(array_kji, dtype=np.dtype(kind).newbyteorder("<")).tobytes()


def sent(
    request: Request, here: Parts, key: Hashable, make: Callable[[], bytes], *, revision: int | None = None
) -> Response:
    """Bytes as an answer: compressed, and kept for who asks again, where the visitor takes gzip. `key`: what `make`
    depends on."""
    headers = {"Vary": "Accept-Encoding"} | ({} if revision is None else {"X-Revision": str(revision)})
    if not accepts_gzip(request):
        return Response(make(), headers=headers, media_type=OCTETS)
    packed = here.kept.get(("gzip", key), lambda: compress(make()))
    return Response(packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=OCTETS)


def reference_layer(here: Parts, case: ReviewCase, layer: int) -> bytes:
    """A layer of the reference on the whole grid of a case, as it travels: structures by their names, or by their
    values where the file does not tell names.

    Raises `NotFound` if the case has no reference, or no such layer; and what reading it raises.
    """
    if case.new.reference is None:
        raise NotFound("this case has no reference")
    values = {one.name: one.value for one in case.new.structures}
    layers = sorted(values.values()) if case.new.overlaps else [0]
    if layer not in layers:
        raise NotFound("this case has no such layer", expected=layers, got=layer)
    return here.kept.get(("reference", case.id, layer), lambda: _read_reference(here, case, values, layer))


def _read_reference(here: Parts, case: ReviewCase, values: Mapping[str, int], layer: int) -> bytes:
    assert case.new.reference is not None
    grid = here.volumes.about(case).grid
    path = case.new.reference
    says_names = not is_nifti_name(path) or read_record(path) is not None or labels_near(path) is not None
    reference = read_any_segmentation(path, labels=None if says_names else labels_of(case), grid=grid)
    drawn = np.zeros(grid.shape, label_type(case))
    for name in reference.labels.names:
        if name in values and (layer == 0 or values[name] == layer):
            drawn[reference.mask(name)] = 1 if layer else values[name]
    return wire_bytes(drawn.transpose(2, 1, 0), label_type(case))
