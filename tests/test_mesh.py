import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from anatomy import oblique_grid

from delineate.errors import ExportError, InputError, UnreadableImage
from delineate.formats.meshes.files import SUFFIXES, read_mesh, read_meshes, read_scene, write_mesh, write_meshes
from delineate.formats.meshes.surfaces import Mesh, mesh_centroid_mm, mesh_volume_ml, surface
from delineate.formats.meshes.voxels import mesh_mask
from delineate.geometry import index_to_world
from delineate.labels import Label, LabelSet
from delineate.volume import Segmentation, reorient

LABELS = LabelSet(
    (Label(1, "left kidney", (230, 20, 60)), Label(3, 'Ödem & <"co">', (10, 200, 0)), Label(7, "none", (0, 0, 0)))
)


def scene(orientation: str = "LPS") -> Segmentation:
    """Two structures off the centre: a block with a cavity, and an L of voxels with one that touches it at a corner."""
    array = np.zeros((20, 16, 12), dtype=np.uint8)
    array[3:9, 4:12, 2:9] = 1
    array[5:7, 6:9, 4:6] = 0
    array[12:16, 2:7, 3:6] = 3
    array[16, 7, 6] = 3
    return reorient(Segmentation(array, oblique_grid(), LABELS), orientation)


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".stl"])
@pytest.mark.parametrize("orientation", ["LPS", "RPS", "SAL"])
def test_a_scene_comes_back(tmp_path: Path, suffix: str, orientation: str) -> None:
    segmentation = scene(orientation)
    meshes = write_mesh(tmp_path / f"scene{suffix}", segmentation)
    found = read_meshes(tmp_path / f"scene{suffix}")
    assert [mesh.name for mesh in meshes] == ["left kidney", 'Ödem & <"co">']
    assert [mesh.name.replace("_", " ") for mesh in found] == [mesh.name for mesh in meshes]
    for mesh, original in zip(found, meshes, strict=True):
        assert np.array_equal(mesh_mask(mesh, segmentation.grid), segmentation.mask(original.name))
        assert mesh_volume_ml(mesh) == pytest.approx(mesh_volume_ml(original), rel=1e-5)
        assert np.linalg.norm(mesh_centroid_mm(mesh) - mesh_centroid_mm(original)) < 1e-3


@pytest.mark.parametrize("name", LABELS.names[:2])
@pytest.mark.parametrize("orientation", ["LPS", "ARI"])
def test_an_stl_file_comes_back(tmp_path: Path, name: str, orientation: str) -> None:
    segmentation = scene(orientation)
    write_mesh(tmp_path / "a.stl", segmentation, names=[name])
    mesh = read_mesh(tmp_path / "a.stl")
    assert np.array_equal(mesh_mask(mesh, segmentation.grid), segmentation.mask(name))
    assert len(mesh.vertices_mm) == len(surface(segmentation, name).vertices_mm)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_trimesh_finds_it_watertight(tmp_path: Path, suffix: str) -> None:
    segmentation = scene()
    write_mesh(tmp_path / f"a{suffix}", segmentation, names=["left kidney"], smooth=5)
    loaded = trimesh.load_mesh(tmp_path / f"a{suffix}")
    cubic_mm = loaded.volume * (1e9 if suffix == ".glb" else 1)
    assert loaded.is_watertight
    assert loaded.is_winding_consistent
    assert cubic_mm / 1000 == pytest.approx(int(segmentation.mask("left kidney").sum()) * 0.0027, rel=2e-3)


@pytest.mark.parametrize("suffix", [".stl", ".obj", ".3mf"])
def test_numbers_are_lps_millimetres(tmp_path: Path, suffix: str) -> None:
    segmentation = scene()
    write_mesh(tmp_path / f"a{suffix}", segmentation, names=["left kidney"])
    expected = index_to_world(segmentation.grid, np.argwhere(segmentation.mask("left kidney")).mean(axis=0))
    centre = trimesh.load_mesh(tmp_path / f"a{suffix}").center_mass
    assert np.linalg.norm(centre - expected) < 0.05


def test_glb_is_in_metres_with_the_head_up(tmp_path: Path) -> None:
    segmentation = scene()
    write_mesh(tmp_path / "a.glb", segmentation, names=["left kidney"])
    left, posterior, superior = mesh_centroid_mm(read_mesh(tmp_path / "a.glb"))
    centre = trimesh.load_mesh(tmp_path / "a.glb").center_mass
    assert centre == pytest.approx(np.array([left, superior, -posterior]) / 1000, abs=1e-6)


def test_headers_say_the_space(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.stl", scene(), names=["left kidney"])
    write_mesh(tmp_path / "a.obj", scene())
    assert b"SPACE=LPS" in (tmp_path / "a.stl").read_bytes()[:80]
    assert not (tmp_path / "a.stl").read_bytes().startswith(b"solid")
    assert (tmp_path / "a.obj").read_text().startswith("# delineate SPACE=LPS")


def test_materials_of_obj_have_the_colours(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.obj", scene())
    text = (tmp_path / "a.mtl").read_text()
    colours = {
        name: [float(part) for part in values.split()] for name, values in re.findall(r"newmtl (.*)\nKd (.*)\n", text)
    }
    assert colours["left_kidney"] == pytest.approx([230 / 255, 20 / 255, 60 / 255], abs=1e-5)
    assert "mtllib a.mtl\n" in (tmp_path / "a.obj").read_text()
    assert re.findall(r"(?m)^usemtl (.*)$", (tmp_path / "a.obj").read_text()) == list(colours)


def test_materials_of_glb_are_linear(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.glb", scene())
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, total, length = struct.unpack_from("<4sIII", data)
    document = json.loads(data[20 : 20 + length])
    factor = document["materials"][1]["pbrMetallicRoughness"]["baseColorFactor"]
    assert (magic, version, total) == (b"glTF", 2, len(data))
    assert factor == pytest.approx([0.003035, 0.577580, 0, 1], abs=1e-5)  # sRGB 10, 200, 0
    assert [node["name"] for node in document["nodes"]] == ["left kidney", 'Ödem & <"co">']


def test_materials_of_3mf_have_the_colours(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.3mf", scene())
    with zipfile.ZipFile(tmp_path / "a.3mf") as archive:
        model = archive.read("3D/3dmodel.model").decode()
    assert re.findall(r'displaycolor="(#\w+)"', model) == ["#E6143C", "#0AC800"]
    assert '<model unit="millimeter"' in model
    assert re.findall(r'pindex="(\d)"', model) == ["0", "1"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_surfaces_give_equal_files(tmp_path: Path, suffix: str) -> None:
    for folder in ("a", "b"):
        write_mesh(tmp_path / folder / f"mesh{suffix}", scene(), names=["left kidney"], smooth=3, simplify=0.3)
    assert (tmp_path / "a" / f"mesh{suffix}").read_bytes() == (tmp_path / "b" / f"mesh{suffix}").read_bytes()


def test_an_stl_file_holds_one_structure(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="an STL file holds one structure: got 2 structures"):
        write_mesh(tmp_path / "a.stl", scene())


def test_an_empty_structure_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="none has no voxels"):
        write_mesh(tmp_path / "a.glb", scene(), names=["none"])
    assert not (tmp_path / "a.glb").exists()


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    empty = Segmentation(np.zeros((3, 4, 5), np.uint8), oblique_grid((3, 4, 5)), LABELS)
    with pytest.raises(ExportError, match="none of the structures has voxels"):
        write_mesh(tmp_path / "a.glb", empty)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"not written as that: expected one of \.stl"):
        write_mesh(tmp_path / "a.ply", scene())
    with pytest.raises(UnreadableImage, match="not a surface file"):
        read_mesh(tmp_path / "a.ply")


def test_open_surfaces_are_not_written(tmp_path: Path) -> None:
    mesh = surface(scene(), "left kidney")
    with pytest.raises(ExportError, match="only closed surfaces are written: got left kidney"):
        write_meshes(tmp_path / "a.obj", [Mesh(mesh.vertices_mm, mesh.faces[1:], mesh.name)])


def test_corners_that_coincide_in_float32_are_not_written_as_stl(tmp_path: Path) -> None:
    mesh = surface(scene(), "left kidney")
    with pytest.raises(ExportError, match="corners of the surface would coincide"):
        write_meshes(tmp_path / "a.stl", [Mesh(mesh.vertices_mm * 1e-9 + 300, mesh.faces, mesh.name)])


def test_equal_names_are_numbered(tmp_path: Path) -> None:
    mesh = surface(scene(), "left kidney")
    write_meshes(tmp_path / "a.glb", [mesh, mesh])
    assert [found.name for found in read_meshes(tmp_path / "a.glb")] == ["left kidney", "left kidney_2"]


def test_one_surface_is_not_several(tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.glb", scene())
    with pytest.raises(UnreadableImage, match="the file holds several surfaces"):
        read_mesh(tmp_path / "a.glb")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_truncated_files_are_refused_or_read(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    write_mesh(path, scene(), names=["left kidney"])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    if suffix == ".obj" and share > 0.5:  # text of whole lines: the surface then is open, and no proof is made with it
        with pytest.raises(InputError):
            mesh_mask(read_mesh(path), oblique_grid())
    else:
        with pytest.raises(UnreadableImage, match=f"a{suffix}"):
            read_mesh(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bytes_end_in_a_mesh_or_an_input_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_mesh(path, scene(), names=[LABELS.names[1]])
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 2000), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            found = read_meshes(path)
        except InputError:
            continue
        assert all(np.isfinite(mesh.vertices_mm).all() for mesh in found)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="there is no such file"):
        read_mesh(tmp_path / "a.stl")


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    text = json.dumps(
        {"asset": {"version": "2.0"}, "accessors": [{"count": 10**12, "componentType": 5126, "type": "VEC3"}]}
    ).encode()
    text += b" " * (-len(text) % 4)
    path.write_bytes(struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text)
    with pytest.raises(UnreadableImage, match="claims more than it can hold"):
        read_mesh(path)


def test_an_archive_that_inflates_too_much_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.3mf", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", bytes(20_000_000))
    with pytest.raises(UnreadableImage, match="claims more than it can hold"):
        read_mesh(tmp_path / "a.3mf")


def test_importing_it_is_light() -> None:
    code = (
        "import sys, delineate.formats.meshes.files; print({'trimesh', 'skimage', 'torch', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".stl"])
def test_each_surface_has_its_own_corners_only(tmp_path: Path, suffix: str) -> None:
    meshes = write_mesh(tmp_path / f"a{suffix}", scene())
    for mesh, original in zip(read_meshes(tmp_path / f"a{suffix}"), meshes, strict=True):
        assert len(mesh.vertices_mm) == len(original.vertices_mm) == len(np.unique(mesh.faces))


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".stl"])
def test_a_scene_of_nothing_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    write_meshes(tmp_path / f"a{suffix}", ())
    assert read_scene(tmp_path / f"a{suffix}") == ()
    with pytest.raises(UnreadableImage, match="the file holds no triangles"):
        read_meshes(tmp_path / f"a{suffix}")
