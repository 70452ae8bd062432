"""3MF files of others: units and transforms as trimesh understands them, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from delineate.errors import UnreadableImage
from delineate.formats.meshes.files import read_mesh, read_scene

CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
LINKS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r0" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel" Target="{}"/></Relationships>'
)
CORNERS = [(0, 0, 0), (3, 0, 0), (0, 2, 0), (0, 0, 1.5)]
FACES = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]
TURNED = "0 2 0 -1 0 0 0 0 1.5 10 -20 30.5"


def written(
    path: Path,
    *,
    item: str = 'objectid="4"',
    unit: str = "inch",
    head: str = "",
    inside: str = "",
    part: str = "a/b.model",
) -> Path:
    """A tetrahedron."""
    corners = "".join(f'<m:vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in CORNERS)
    faces = "".join(f'<m:triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in FACES)
    mesh = f"<m:mesh><m:vertices>{corners}</m:vertices><m:triangles>{faces}</m:triangles></m:mesh>"
    body = f'<m:resources><m:object id="4" name="Ödem">{mesh}{inside}</m:object></m:resources><m:build><m:item {item}/>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_rels/.rels", LINKS.format(f"/{part}"))
        archive.writestr(part, f'{head}<m:model unit="{unit}" xmlns:m="{CORE}">{body}</m:build></m:model>')
    return path


def test_units_become_millimetres_after_the_transform(tmp_path: Path) -> None:
    mesh = read_mesh(written(tmp_path / "a.3mf", item=f'objectid="4" transform="{TURNED}"'))
    by_hand = [((-y + 10) * 25.4, (2 * x - 20) * 25.4, (1.5 * z + 30.5) * 25.4) for x, y, z in CORNERS]
    np.testing.assert_allclose(mesh.vertices_mm, by_hand)
    assert (mesh.name, mesh.faces.tolist()) == ("Ödem", [list(face) for face in FACES])


def test_trimesh_places_it_alike(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.3mf", item=f'objectid="4" transform="{TURNED}"', unit="millimeter", part="3D/3dmodel.model"
    )
    theirs = trimesh.load_scene(path).to_mesh()
    np.testing.assert_allclose(np.unique(theirs.vertices, axis=0), np.unique(read_mesh(path).vertices_mm, axis=0))


def test_what_is_not_built_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a.3mf")
    with zipfile.ZipFile(path) as archive:
        model = archive.read("a/b.model").decode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_rels/.rels", LINKS.format("a/b.model"))
        archive.writestr("a/b.model", model.replace('<m:item objectid="4"/>', ""))
    assert read_scene(path) == ()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"inside": '<m:components><m:component objectid="4"/></m:components>'}, "objects made of other objects"),
        ({"head": '<!DOCTYPE m [<!ENTITY a "b">]>'}, "a document type, which 3MF does not allow"),
        ({"item": 'objectid="5"'}, "not a sound surface file: got '5'"),
        ({"item": 'objectid="4" transform="1 0 0"'}, "not a sound surface file"),
        ({"unit": "ell"}, "not a sound surface file: got 'ell'"),
        ({"part": "_rels/x.model", "head": "<"}, "not a sound surface file: got not well-formed"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, changes: dict[str, str], match: str) -> None:
    with pytest.raises(UnreadableImage, match=rf"{match}.* \(.*a\.3mf\)"):
        read_scene(written(tmp_path / "a.3mf", **changes))


def test_a_package_without_a_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.3mf", "w") as archive:
        archive.writestr("_rels/.rels", LINKS.format("x").replace("3dmodel", "thumbnail"))
    with pytest.raises(UnreadableImage, match="not one 3D model in the file: got 0"):
        read_scene(tmp_path / "a.3mf")
