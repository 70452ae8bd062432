"""Surface files out and back in: .stl, .obj, .glb and .3mf; what is in them, `writing` says."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delineate.errors import ExportError, InputError, UnreadableImage
from delineate.formats.meshes.surfaces import Mesh, is_closed, surface
from delineate.formats.meshes.threemf import read_3mf
from delineate.formats.meshes.writing import GLTF_FROM_LPS, joined_corners, write_3mf, write_glb, write_obj, write_stl
from delineate.volume import Segmentation

_WRITERS = {".stl": write_stl, ".obj": write_obj, ".glb": write_glb, ".3mf": write_3mf}

SUFFIXES = tuple(_WRITERS)

_LARGEST_INFLATION = 100  # of a 3MF file; text of coordinates deflates to about a fifth


def write_mesh(
    path: Path,
    segmentation: Segmentation,
    *,
    names: Sequence[str] | None = None,
    smooth: int = 0,
    simplify: float = 0.0,
) -> tuple[Mesh, ...]:
    """Write the surfaces of some structures, or all that have voxels, as one file; the meshes, as `surface` makes them.

    The suffix says the format: .obj, .glb and .3mf hold any number of named, coloured structures, .stl one. Raises
    `ExportError` for a structure that is asked for and empty, if there is nothing to write, or for another suffix, and
    what `surface` raises.
    """
    chosen = _with_voxels(segmentation) if names is None else tuple(names)
    if not chosen:
        raise ExportError("none of the structures has voxels", path=path, remedy="There is no surface to write.")
    _check_suffix(path)
    meshes = tuple(surface(segmentation, name, smooth=smooth, simplify=simplify) for name in chosen)
    write_meshes(path, meshes)
    return meshes


def write_meshes(path: Path, meshes: Sequence[Mesh]) -> None:
    """Write surfaces as one file, atomically; see `write_mesh`. Without any, a valid file that says so, but no STL.

    Raises `ExportError` also for an open one.
    """
    _check_suffix(path)
    for mesh in meshes:
        if not is_closed(mesh.faces):
            raise ExportError("only closed surfaces are written", got=mesh.name or "an open one", path=path)
    _WRITERS[path.suffix.lower()](path, meshes)


def read_meshes(path: Path) -> tuple[Mesh, ...]:
    """The surfaces in a file, in LPS millimetres, with their names where it has names; colours are not read.

    Files of other software are read as if they kept the conventions of `writing`. Raises `UnreadableImage` for a
    damaged file, one of another kind, and one without triangles.
    """
    meshes = read_scene(path)
    if not meshes:
        raise UnreadableImage("the file holds no triangles", path=path)
    return meshes


def read_scene(path: Path) -> tuple[Mesh, ...]:
    """The surfaces in a file, as `read_meshes` gives them; none if it is a sound one without triangles."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableImage("not a surface file", expected=f"one of {', '.join(SUFFIXES)}", path=path)
    try:
        data = path.read_bytes()
        _check_size(data, suffix, path)
        meshes = tuple(_meshes(data, suffix))
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    except InputError as error:
        raise error.at(path) from error
    # A damaged file ends in almost any exception inside the parsers.
    except Exception as error:
        raise UnreadableImage("not a sound surface file", got=str(error) or type(error).__name__, path=path) from error
    for mesh in meshes:
        _check_read(mesh, path)
    return meshes


def read_mesh(path: Path) -> Mesh:
    """The surface in a file with one. Raises `UnreadableImage` for several, and what `read_meshes` raises."""
    meshes = read_meshes(path)
    if len(meshes) > 1:
        raise UnreadableImage("the file holds several surfaces", got=[mesh.name for mesh in meshes], path=path)
    return meshes[0]


def _with_voxels(segmentation: Segmentation) -> tuple[str, ...]:
    return tuple(name for name in segmentation.labels.names if segmentation.mask(name).any())


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError("surfaces are not written as that", expected=f"one of {', '.join(SUFFIXES)}", path=path)


def _meshes(data: bytes, suffix: str) -> list[Mesh]:
    if suffix == ".3mf":
        return [Mesh(points, faces, name) for name, points, faces in read_3mf(data) if len(faces)]

    import trimesh

    options: dict[str, Any] = {"split_objects": True} if suffix == ".obj" else {}
    scene: Any = trimesh.load_scene(io.BytesIO(data), file_type=suffix[1:], process=False, **options)
    to_lps = np.linalg.inv(GLTF_FROM_LPS) if suffix == ".glb" else np.eye(3)
    found = []
    # trimesh gives the objects of an OBJ file in another order than the file.
    order = re.findall(r"(?m)^o (.*?)\r?$", data.decode()) if suffix == ".obj" else list(scene.geometry)
    for transform, key in sorted(
        (scene.graph[n] for n in scene.graph.nodes_geometry), key=lambda p: _place(p[1], order)
    ):
        shape = scene.geometry[key]
        points = trimesh.transform_points(np.asarray(shape.vertices, dtype=np.float64), transform) @ to_lps.T
        faces = np.asarray(shape.faces, dtype=np.int64)
        if suffix == ".stl":
            points, faces = joined_corners(points[faces].reshape(-1, 3))
        found.append(Mesh(points, faces, "" if suffix == ".stl" else str(key)))
    return [mesh for mesh in found if len(mesh.faces)]


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _check_size(data: bytes, suffix: str, path: Path) -> None:
    """Refuse files whose headers ask for far more memory than they have bytes."""
    if suffix == ".3mf":
        claimed = sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist())
        largest = len(data) * _LARGEST_INFLATION
    elif suffix == ".glb":
        (length,) = struct.unpack_from("<I", data, 12)
        accessors = json.loads(data[20 : 20 + length]).get("accessors", [])
        claimed, largest = sum(int(accessor["count"]) for accessor in accessors), len(data)
    else:
        return
    if claimed > largest:
        raise UnreadableImage(
            "the file claims more than it can hold", expected=f"at most {largest}", got=claimed, path=path
        )


def _check_read(mesh: Mesh, path: Path) -> None:
    if not 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices_mm):
        raise UnreadableImage("triangles with corners that are not there", got=mesh.name or None, path=path)
    if not np.isfinite(mesh.vertices_mm).all():
        raise UnreadableImage("corners that are no numbers", got=mesh.name or None, path=path)
