"""Surfaces as bytes: STL, OBJ with MTL, GLB (glTF 2.0) and 3MF (core specification 1.3).

STL, OBJ and 3MF hold LPS millimetres. STL and OBJ say so by the comment SPACE=LPS that 3D Slicer looks for; 3MF by its
unit. glTF prescribes metres, +Y up, +Z forward and +X to the model's left (3.4): x is the patient's left, y superior, z
anterior. STL has neither names nor colours.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from delineate.errors import ExportError
from delineate.files import write_bytes
from delineate.formats.meshes.surfaces import Mesh, is_closed
from delineate.labels import Colour

GLTF_FROM_LPS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]) / 1000.0

_STL_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_FLOAT, _UNSIGNED, _VERTICES, _INDICES = 5126, 5125, 34962, 34963  # glTF 2.0, 3.6.2.2 and 3.6.1
_ROUGHNESS = 0.8


def write_stl(path: Path, meshes: Sequence[Mesh]) -> None:
    """One surface as binary STL. Raises `ExportError` for several, or if rounding to float32 would tear it."""
    if len(meshes) != 1:
        raise ExportError(
            "an STL file holds one structure",
            got=f"{len(meshes)} structures",
            path=path,
            remedy="Write one file each, or .obj, .glb or .3mf.",
        )
    mesh = meshes[0]
    facets = np.zeros(len(mesh.faces), dtype=_STL_FACET)
    corners = mesh.vertices_mm.astype("<f4")[mesh.faces]
    # The format knows corners only by their places, so two that round to one would be one.
    if not is_closed(joined_corners(corners.reshape(-1, 3))[1]):
        raise ExportError(
            "corners of the surface would coincide in an STL file",
            got=mesh.name,
            path=path,
            remedy="Write .obj or .glb, or smooth and simplify less.",
        )
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facets["corners"] = corners
    facets["normal"] = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-20)
    header = b"delineate SPACE=LPS UNIT=mm".ljust(80)
    write_bytes(path, header + struct.pack("<I", len(facets)) + facets.tobytes())


def joined_corners(corners: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The distinct places among (3F, 3) corners of triangles, and faces (F, 3) that refer to them."""
    plain = np.ascontiguousarray(corners) + 0  # -0 is 0
    _, first, inverse = np.unique(
        plain.view(np.dtype((np.void, plain.dtype.itemsize * 3))).reshape(-1), return_index=True, return_inverse=True
    )
    return corners[first], inverse.reshape(-1, 3).astype(np.int64)


def write_obj(path: Path, meshes: Sequence[Mesh]) -> None:
    """Surfaces as Wavefront OBJ, one object and material each; the materials are in an MTL file beside it."""
    names = object_names([mesh.name for mesh in meshes])
    materials = path.with_suffix(".mtl")
    kinds = (f"newmtl {name}\nKd {_unit_colour(mesh.colour)}\n" for name, mesh in zip(names, meshes, strict=True))
    write_bytes(materials, "".join(kinds).encode())
    parts = [f"# delineate SPACE=LPS UNIT=mm\nmtllib {materials.name}\n"]
    first = 1
    for name, mesh in zip(names, meshes, strict=True):
        parts += [f"o {name}\nusemtl {name}\n", _lines("v %.5f %.5f %.5f\n", mesh.vertices_mm)]
        parts.append(_lines("f %d %d %d\n", mesh.faces + first))
        first += len(mesh.vertices_mm)
    write_bytes(path, "".join(parts).encode())


def object_names(names: Sequence[str]) -> list[str]:
    """What structures are called in an OBJ file, where a name ends at a blank."""
    return _unique([re.sub(r"\s+", "_", name.strip()) for name in names])


def write_glb(path: Path, meshes: Sequence[Mesh]) -> None:
    """Surfaces as a binary glTF scene, one node, mesh and material each; an empty scene of none."""
    names = _unique([mesh.name for mesh in meshes])
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for mesh in meshes:
        points = (mesh.vertices_mm @ GLTF_FROM_LPS.T).astype("<f4")
        bounds = {"min": points.min(axis=0).tolist(), "max": points.max(axis=0).tolist()}
        for data, target in ((points, _VERTICES), (mesh.faces.astype("<u4"), _INDICES)):
            start = sum(view["byteLength"] for view in views)
            views.append({"buffer": 0, "byteOffset": start, "byteLength": data.nbytes, "target": target})
            chunks.append(data.tobytes())
        view = len(views) - 2
        accessors += [
            {"bufferView": view, "componentType": _FLOAT, "count": len(points), "type": "VEC3", **bounds},
            {"bufferView": view + 1, "componentType": _UNSIGNED, "count": mesh.faces.size, "type": "SCALAR"},
        ]
    head: dict[str, Any] = {"asset": {"version": "2.0", "generator": "delineate"}, "scene": 0}
    if not meshes:  # no list may be empty (5.)
        write_bytes(path, _glb({**head, "scenes": [{}]}, b""))
        return
    document = {
        **head,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"name": name, "mesh": n} for n, name in enumerate(names)],
        "meshes": [{"name": name, "primitives": [_primitive(n)]} for n, name in enumerate(names)],
        "materials": [_material(name, mesh.colour) for name, mesh in zip(names, meshes, strict=True)],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(len(chunk) for chunk in chunks)}],
    }
    write_bytes(path, _glb(document, b"".join(chunks)))


def _primitive(n: int) -> dict[str, Any]:
    return {"attributes": {"POSITION": 2 * n}, "indices": 2 * n + 1, "material": n}


def _material(name: str, colour: Colour) -> dict[str, Any]:
    factor = [*(_linear(part / 255) for part in colour), 1.0]
    look = {"baseColorFactor": factor, "metallicFactor": 0.0, "roughnessFactor": _ROUGHNESS}
    return {"name": name, "pbrMetallicRoughness": look}


def _linear(value: float) -> float:
    # glTF's factors are linear (3.9.2), colours of labels are sRGB (IEC 61966-2-1).
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _glb(document: dict[str, Any], binary: bytes) -> bytes:
    """glTF 2.0, 4.4: a header, a JSON chunk and a binary chunk, each a multiple of four bytes long."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    rest = struct.pack("<I4s", len(binary), b"BIN\0") + binary if binary else b""
    total = 12 + 8 + len(text) + len(rest)
    return struct.pack("<4sIII4s", b"glTF", 2, total, len(text), b"JSON") + text + rest


def write_3mf(path: Path, meshes: Sequence[Mesh]) -> None:
    """Surfaces as 3MF, one object and base material each, in millimetres."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, text in (
            ("[Content_Types].xml", _CONTENT_TYPES),
            ("_rels/.rels", _RELATIONSHIPS),
            ("3D/3dmodel.model", _model(meshes)),
        ):
            # A fixed date, so that equal surfaces give equal files.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    write_bytes(path, buffer.getvalue())


def _model(meshes: Sequence[Mesh]) -> str:
    names = _unique([mesh.name for mesh in meshes])
    parts = [f'{_XML}<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}"><resources>']
    bases = [
        '<base name={} displaycolor="#{:02X}{:02X}{:02X}"/>'.format(_quoted(n), *m.colour)
        for n, m in zip(names, meshes, strict=True)
    ]
    if bases:  # a group of materials has at least one (5.1)
        parts.append(f'<basematerials id="1">{"".join(bases)}</basematerials>')
    for n, (name, mesh) in enumerate(zip(names, meshes, strict=True)):
        parts.append(f'<object id="{n + 2}" type="model" name={_quoted(name)} pid="1" pindex="{n}"><mesh><vertices>')
        parts.append(_lines('<vertex x="%.5f" y="%.5f" z="%.5f"/>', mesh.vertices_mm))
        parts.append("</vertices><triangles>")
        parts.append(_lines('<triangle v1="%d" v2="%d" v3="%d"/>', mesh.faces))
        parts.append("</triangles></mesh></object>")
    items = "".join(f'<item objectid="{n + 2}"/>' for n in range(len(meshes)))
    return "".join([*parts, f"</resources><build>{items}</build></model>"])


_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_CONTENT_TYPES = (
    f'{_XML}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>'
)
_RELATIONSHIPS = (
    f'{_XML}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rel0" Target="/3D/3dmodel.model" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>'
)


def _lines(pattern: str, rows: npt.NDArray[Any]) -> str:
    """Every row of (N, 3) numbers in the pattern."""
    return "".join((pattern * len(part)) % tuple(part.reshape(-1).tolist()) for part in _parts(rows))


def _parts(rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [rows[n : n + 10_000] for n in range(0, len(rows), 10_000)]


def _unit_colour(colour: Colour) -> str:
    return " ".join(f"{part / 255:.6f}" for part in colour)


def _quoted(text: str) -> str:
    # XML 1.0 has no way to write control characters.
    return quoteattr(re.sub(r"[\x00-\x1f\x7f\ufffe\uffff]", " ", text))


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with a number where one is empty or was there before."""
    given: list[str] = []
    for name in names:
        wanted, n = name or "surface", 2
        while wanted in given:
            wanted, n = f"{name or 'surface'}_{n}", n + 1
        given.append(wanted)
    return given
