"""3MF files in (core specification 1.3), element by element.

A tree of the millions of elements that a scan's surfaces make would take gigabytes.
"""

from __future__ import annotations

import io
import zipfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np

from delineate.errors import UnreadableImage
from delineate.formats.meshes.marching_cubes import IntArray
from delineate.geometry import FloatArray

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02 "
_RELATIONSHIP = "http://schemas.openxmlformats.org/package/2006/relationships Relationship"
_MODEL = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
_MM_PER_UNIT = {"micron": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "inch": 25.4, "foot": 304.8, "meter": 1000.0}


@dataclass(slots=True)
class _Object:
    name: str
    corners: array[float] = field(default_factory=lambda: array("d"))
    triangles: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class _Model:
    """What has been met so far. `items`: the objects that are built, each with its transform as text."""

    mm_per_unit: float = 1.0
    objects: dict[str, _Object] = field(default_factory=dict)
    items: list[tuple[str, str]] = field(default_factory=list)
    current: _Object = field(default_factory=lambda: _Object(""))


def read_3mf(data: bytes) -> Iterator[tuple[str, FloatArray, IntArray]]:
    """Name, corners (V, 3) in mm and triangles (F, 3) of each object that the file builds, in its order.

    Raises `UnreadableImage` for objects made of others and for entities; what damage leads to is left to the caller.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        model = _parsed(archive, _model_part(archive))
    for key, transform in model.items:
        found = model.objects[key]
        corners = np.frombuffer(found.corners, dtype=np.float64).reshape(-1, 3)
        matrix = np.eye(4, 3)
        if transform:
            matrix = np.array(transform.split(), dtype=np.float64).reshape(4, 3)
        triangles = np.frombuffer(found.triangles, dtype=np.int64).reshape(-1, 3)
        yield found.name, (corners @ matrix[:3] + matrix[3]) * model.mm_per_unit, triangles


def _model_part(archive: zipfile.ZipFile) -> str:
    targets: list[str] = []

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        if tag == _RELATIONSHIP and attributes["Type"] == _MODEL:
            targets.append(attributes["Target"].lstrip("/"))

    _parse(archive, "_rels/.rels", start)
    if len(targets) != 1:
        raise UnreadableImage("not one 3D model in the file", got=len(targets))
    return targets[0]


def _parsed(archive: zipfile.ZipFile, part: str) -> _Model:
    model = _Model()
    vertex, triangle = f"{_CORE}vertex", f"{_CORE}triangle"

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        if tag == triangle:
            corners = (int(attributes["v1"]), int(attributes["v2"]), int(attributes["v3"]))
            model.current.triangles.extend(corners)
        elif tag == vertex:
            place = (float(attributes["x"]), float(attributes["y"]), float(attributes["z"]))
            model.current.corners.extend(place)
        else:
            _other(model, tag.removeprefix(_CORE), attributes)

    _parse(archive, part, start)
    return model


def _other(model: _Model, tag: str, attributes: Mapping[str, str]) -> None:
    if tag == "object":
        model.current = _Object(attributes.get("name") or attributes["id"])
        model.objects[attributes["id"]] = model.current
    elif tag == "item":
        model.items.append((attributes["objectid"], attributes.get("transform", "")))
    elif tag == "model":
        model.mm_per_unit = _MM_PER_UNIT[attributes.get("unit", "millimeter")]
    elif tag == "component":
        raise UnreadableImage("objects made of other objects", expected="a mesh in each object")


def _parse(archive: zipfile.ZipFile, part: str, start: Callable[[str, Mapping[str, str]], None]) -> None:
    def refuse(*_: object) -> None:
        raise UnreadableImage("a document type, which 3MF does not allow")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    with archive.open(part) as stream:
        parser.ParseFile(stream)
