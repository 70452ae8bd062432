"""The whole way out, judged by other programs: a series on disk, structures on it, every format, each read by others.

What is true is said in the world: structures, and the scan's values, are functions of a place in LPS mm. Every witness
says by its own arithmetic where its voxels lie, and there the functions are asked. So nothing that writer and reader of
this package share can hide a mistake: neither which axis a row is, nor a sign, nor half a pixel.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hard_series
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import trimesh

from delineate import formats
from delineate.formats.exporters import EXPORTERS, ExportOptions
from delineate.geometry import FloatArray, Grid, compose_affine, index_to_world
from delineate.labels import LabelSet, label_set
from delineate.volume import Kind, Segmentation, Volume, reorient
from delineate.workflow.exporting import export, files_of

Mask = npt.NDArray[np.bool_]
World = Callable[[FloatArray], Mask]

LABELS = label_set({2: "left kidney", 7: "Tumor", 9: "lesions", 300: "empty"})
KINDS = (*EXPORTERS, "sr")


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(program(name) is None, reason=f"{name} is not installed")


def run(name: str, *words: object) -> str:
    done = subprocess.run([str(program(name)), *map(str, words)], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Case:
    """A series on disk, the truth, and what was exported. `voxel_mm`: the edges of a voxel, as they were chosen."""

    folder: Path
    series: Path
    segmentation: Segmentation
    truth: Mapping[str, World]
    voxel_mm: FloatArray
    files: Mapping[str, Path]

    def voxels(self, name: str) -> int:
        return int(np.count_nonzero(self.segmentation.mask(name)))

    def ml(self, name: str) -> float:
        return self.voxels(name) * float(np.prod(self.voxel_mm)) / 1000

    def file(self, kind: str) -> Path:
        if kind not in self.files:
            pytest.skip(f"overlapping structures do not fit into {kind}")
        return self.files[kind]


def shapes(middle: FloatArray, lesions: FloatArray, *, overlapping: bool = False) -> dict[str, World]:
    """A body with a cavity and a tunnel, cut in two parts that touch (or overlap), and lesions of one voxel each."""

    def body(points: FloatArray) -> Mask:
        x, y, z = np.moveaxis(points - middle, -1, 0)
        whole = ((x + 0.2 * z) / 7.3) ** 2 + (y / 5.7) ** 2 + ((z - 0.1 * y) / 6.9) ** 2 < 1
        cavity = (x - 2.2) ** 2 + (y + 1.3) ** 2 + (z - 0.7) ** 2 < 2.4**2
        tunnel = (x + 3.1) ** 2 + (y - 1.9) ** 2 < 1.7**2
        return np.asarray(whole & ~cavity & ~tunnel)

    def beyond(points: FloatArray, cut: float) -> Mask:
        return np.asarray((points - middle) @ (0.8, 0.5, -0.33) > cut)

    def near_lesions(points: FloatArray) -> Mask:
        return np.asarray(np.any([np.linalg.norm(points - one, axis=-1) < 0.2 for one in lesions], axis=0))

    return {
        "left kidney": lambda points: body(points) & beyond(points, -0.9 if overlapping else 1.13),
        "Tumor": lambda points: body(points) & ~beyond(points, 1.13),
        "lesions": near_lesions,
        "empty": lambda points: np.zeros(points.shape[:-1], dtype=bool),
    }


def written_series(folder: Path) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A CT series of this package's own; middle, places of the lesions, edges of a voxel."""
    voxel_mm = np.array([0.9, 0.7, 1.6])
    axes, start = hard_series.OBLIQUE, np.array([-31.4, 14.6, 207.3])
    grid = Grid((23, 25, 12), compose_affine(axes * voxel_mm, start))
    values = np.round(hard_series.intensity(index_to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))))
    volume = Volume(values.astype(np.int16)[None], grid, Kind.CT)
    formats.write_dicom_series(folder, volume, patient_name="Müller^Jörg=山田^太郎", patient_id="P 7", seed="w")
    at = [(1, 2, 2), (20, 3, 4), (2, 22, 6)]
    return start + axes @ ([11, 12, 5.5] * voxel_mm), start + (at * voxel_mm) @ axes.T, voxel_mm


def hard(
    folder: Path, *, tilt: tuple[float, float] = (0, 0), axes: FloatArray = hard_series.AXIAL, enhanced: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `written_series`, of headers that others might have written."""
    stack = hard_series.planes(12, axes=axes, step_mm=1.6, tilt=tilt, size=(25, 23), spacing_mm=(0.7, 0.9))
    if enhanced:
        hard_series.write_enhanced(folder / "mf.dcm", stack[::-1])
    else:
        hard_series.write_series(folder, stack)
    middle = (stack[5].points_mm[12, 11] + stack[6].points_mm[12, 11]) / 2
    return middle, np.array([stack[2].points_mm[2, 1], stack[4].points_mm[3, 20]]), np.array([0.9, 0.7, 1.6])


@dataclass(frozen=True, slots=True)
class Recipe:
    """`axes`: of the segmentation's array."""

    write: Callable[[Path], tuple[FloatArray, FloatArray, FloatArray]]
    axes: str
    overlapping: bool = False
    straightened: bool = False


RECIPES = {
    "oblique": Recipe(written_series, "LPS"),
    "overlapping": Recipe(written_series, "AIR", overlapping=True),
    "tilted": Recipe(lambda folder: hard(folder, tilt=(0, -14)), "LPS", straightened=True),
    "sagittal, left-handed": Recipe(lambda folder: hard(folder, axes=hard_series.SAGITTAL), "RPS"),
    "multi-frame": Recipe(lambda folder: hard(folder, axes=hard_series.OBLIQUE, enhanced=True), "IPL"),
}


@pytest.fixture(scope="module", params=RECIPES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    recipe = RECIPES[request.param]
    folder = tmp_path_factory.mktemp("witnesses")
    middle, lesions, voxel_mm = recipe.write(folder / "series")
    stack = formats.stack_at(folder / "series")
    truth = shapes(middle, lesions, overlapping=recipe.overlapping)
    segmentation = reorient(structures(stack.grid, truth, overlapping=recipe.overlapping), recipe.axes)
    kinds = [kind for kind in KINDS if not recipe.overlapping or kind not in ("nifti", "labelmap-seg")]
    files = export(segmentation, folder / "out" / "r", kinds, options=ExportOptions(sources=files_of(stack)))
    return Case(folder, folder / "series", segmentation, truth, voxel_mm, dict(zip(kinds, files, strict=True)))


def structures(grid: Grid, truth: Mapping[str, World], *, overlapping: bool) -> Segmentation:
    points = index_to_world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    masks = [truth[name](points) for name in LABELS.names]
    if overlapping:
        return Segmentation(np.stack(masks), grid, LabelSet(LABELS.labels, overlaps=True))
    array = np.zeros(grid.shape, dtype=np.uint16)
    for mask, value in zip(masks, LABELS.values, strict=True):
        array[mask] = value
    return Segmentation(array, grid, LABELS)


def places(image: Any) -> FloatArray:
    """(K, J, I, 3) LPS mm where SimpleITK has the voxels of an array of its own."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    indices = np.moveaxis(np.indices(image.GetSize()[::-1]), 0, -1)[..., ::-1]
    return np.asarray(origin + (indices * spacing) @ direction.T)


def dice(case: Case, name: str, found: Mask, points: FloatArray) -> float:
    """Of the voxels that a witness found, by where it has them, with all there are of a structure."""
    both = int(np.count_nonzero(found & case.truth[name](points)))
    voxels = np.count_nonzero(found) + case.voxels(name)
    return 2 * both / voxels if voxels else 1.0


def test_the_structures_are_what_they_should_be(case: Case) -> None:
    volumes = [case.voxels(name) for name in LABELS.names]
    assert min(volumes[:2]) > 150
    assert volumes[2] in (2, 3)
    assert volumes[3] == 0


def test_simpleitk_reads_the_series_as_we_do(case: Case) -> None:
    sitk = pytest.importorskip("SimpleITK")
    if formats.stack_at(case.series).action is not formats.Action.READ:
        pytest.skip("SimpleITK has no place for slices of a tilted gantry")
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(case.series))
    image = sitk.ReadImage(names if len(names) > 1 else names[0])
    image = image[..., 0] if image.GetDimension() == 4 else image
    values = sitk.GetArrayFromImage(image)
    assert np.abs(values - hard_series.intensity(places(image))).max() < 0.51
    volume = formats.read_volume(case.series)
    assert np.abs(volume.array[0] - hard_series.intensity(hard_series.voxel_points(volume))).max() < 0.51


def by_dcmqi(path: Path, folder: Path) -> Iterator[tuple[str, Mask, FloatArray]]:
    sitk = pytest.importorskip("SimpleITK")
    folder.mkdir()
    run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "w")
    described = json.loads((folder / "w-meta.json").read_text())["segmentAttributes"]
    files = sorted(folder.glob("*.nrrd"), key=lambda file: int(file.stem.split("-")[-1]))
    for segments, file in zip(described, files, strict=True):
        image = sitk.ReadImage(str(file))
        for segment in segments:
            yield segment["SegmentLabel"], sitk.GetArrayFromImage(image) == segment["labelID"], places(image)


@needs("segimage2itkimage")
@pytest.mark.parametrize("kind", ["seg", "labelmap-seg"])
def test_dcmqi_finds_every_voxel(case: Case, kind: str) -> None:
    masks = list(by_dcmqi(case.file(kind), case.folder / f"dcmqi {kind}"))
    assert {name for name, mask, _ in masks if mask.any()} == set(LABELS.names[:3])
    assert [dice(case, name, mask, points) for name, mask, points in masks] == [1.0] * len(masks)


@needs("plastimatch")
def test_plastimatch_fills_contours_to_the_same_voxels(case: Case) -> None:
    sitk = pytest.importorskip("SimpleITK")
    scan = formats.read_volume(case.series)
    if scan.grid.orientation[2] != "S":
        pytest.skip("plastimatch takes contours for axial ones")
    formats.write_volume(case.folder / "scan.nii.gz", scan)
    words = [
        "--fixed",
        case.folder / "scan.nii.gz",
        "--output-prefix",
        case.folder / "filled",
        "--prefix-format",
        "nii",
    ]
    run("plastimatch", "convert", "--input", case.file("rtstruct"), *words)
    for name in LABELS.names[:3]:
        image = sitk.ReadImage(str(case.folder / "filled" / f"{name}.nii"))
        mask = sitk.GetArrayFromImage(image) > 0
        assert dice(case, name, mask, places(image)) >= 0.99
        assert np.count_nonzero(mask) * np.prod(image.GetSpacing()) / 1000 == pytest.approx(case.ml(name), rel=5e-3)


def test_contours_hold_the_pixels_of_the_images_that_they_name(case: Case) -> None:
    if formats.stack_at(case.series).action is not formats.Action.READ:
        pytest.skip("the pixels of a tilted gantry are not the voxels")
    images = dict(pixels_of(case.series))
    structure_set = pydicom.dcmread(case.file("rtstruct"))
    names = {roi.ROINumber: roi.ROIName for roi in structure_set.StructureSetROISequence}
    for drawn in structure_set.ROIContourSequence:
        inside: dict[tuple[str, int], Mask] = {}
        for contour in drawn.get("ContourSequence", ()):
            (image,) = contour.ContourImageSequence
            key = (image.ReferencedSOPInstanceUID, int(image.get("ReferencedFrameNumber", 1)))
            mask = filled(np.array(contour.ContourData, dtype=float).reshape(-1, 3), images[key])
            inside[key] = inside.get(key, False) ^ mask
        name = names[drawn.ReferencedROINumber]
        truth = {key: mask for key, points in images.items() if (mask := case.truth[name](points)).any()}
        assert inside.keys() == truth.keys()
        assert all(np.array_equal(inside[key], mask) for key, mask in truth.items())


def pixels_of(series: Path) -> Iterator[tuple[tuple[str, int], FloatArray]]:
    """Of each image or frame, by UID and number, the places of its pixels (PS3.3 C.7.6.2.1.1)."""
    for dataset in map(pydicom.dcmread, series.iterdir()):
        shared = dataset.get("SharedFunctionalGroupsSequence", [dataset])[0]
        for n, frame in enumerate(dataset.get("PerFrameFunctionalGroupsSequence", [dataset]), start=1):
            position, orientation, measures = (
                next((holder[word][0] for holder in (frame, shared) if word in holder), dataset)
                for word in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
            )
            along_row, down_column = np.array(orientation.ImageOrientationPatient, dtype=float).reshape(2, 3)
            between_rows, between_columns = np.array(measures.PixelSpacing, dtype=float)
            rows, columns = np.indices((dataset.Rows, dataset.Columns))[..., np.newaxis]
            places = rows * down_column * between_rows + columns * along_row * between_columns
            yield (dataset.SOPInstanceUID, n), np.array(position.ImagePositionPatient, dtype=float) + places


def filled(polygon: FloatArray, points: FloatArray) -> Mask:
    """Which points of a plane are inside a polygon in it: those that see it go round them (the winding number)."""
    normal = np.cross(points[0, 1] - points[0, 0], points[1, 0] - points[0, 0])
    normal /= np.linalg.norm(normal)
    assert np.abs((polygon - points[0, 0]) @ normal).max() < 1e-3
    seen = polygon - points[..., np.newaxis, :]
    onwards = np.roll(seen, -1, axis=-2)
    angles = np.arctan2(np.cross(seen, onwards) @ normal, (seen * onwards).sum(axis=-1))
    return np.asarray(np.abs(angles.sum(axis=-1)) > 1)


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "masks"])
def test_simpleitk_finds_every_voxel(case: Case, kind: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for name in LABELS.names:
        path = case.file(kind)
        image = sitk.ReadImage(str(path / f"{name.replace(' ', '_')}.nii.gz" if path.is_dir() else path))
        layers = sitk.GetArrayFromImage(image).reshape(*image.GetSize()[::-1], -1)
        layer, value = segment_of(image, name) if kind == "nrrd" else (0, LABELS.named(name).value)
        mask = layers[..., layer] == (1 if kind == "masks" else value)
        assert dice(case, name, mask, places(image)) == 1.0


def segment_of(image: Any, name: str) -> tuple[int, int]:
    """Layer and value by the header's fields for 3D Slicer."""
    (n,) = (n for n in range(len(LABELS)) if image.GetMetaData(f"Segment{n}_Name") == name)
    return int(image.GetMetaData(f"Segment{n}_Layer")), int(image.GetMetaData(f"Segment{n}_LabelValue"))


@needs("dciodvfy")
@pytest.mark.parametrize("kind", ["seg", "rtstruct", "sr", "series"])
def test_dciodvfy_has_no_error(case: Case, kind: str) -> None:
    if kind == "series" and not pydicom.dcmread(next(case.series.iterdir())).get("PatientName"):
        pytest.skip("headers of the test's own")
    for path in case.series.iterdir() if kind == "series" else [case.file(kind)]:
        assert "Error" not in run("dciodvfy", path)


@needs("dsrdump")
def test_dcmtk_reads_the_report(case: Case) -> None:
    report = run("dsrdump", case.file("sr"))
    numbers = [float(number) for number in re.findall(r'"Volume"\)="([-+.e\d]+)" \(ml,UCUM,"ml"\)', report)]
    assert re.findall(r'"Tracking Identifier"\)="(.*)"', report) == list(LABELS.names)
    assert numbers == pytest.approx([case.ml(name) for name in LABELS.names], rel=1e-6)
    assert re.findall(r'"Referenced Segment"\)=\(SG image,,(\d)\)', report) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("kind", ["stl", "obj", "glb", "3mf"])
def test_trimesh_finds_closed_surfaces_in_their_place(case: Case, kind: str) -> None:
    path = case.file(kind)
    for name in LABELS.names[:3]:
        surface = surface_of(path, name)
        points = index_to_world(case.segmentation.grid, np.argwhere(case.segmentation.mask(name)))
        if kind == "glb":  # metres; y is up, z to the front
            surface.apply_transform([[1000, 0, 0, 0], [0, 0, -1000, 0], [0, 1000, 0, 0], [0, 0, 0, 1]])
        assert surface.is_watertight
        assert surface.is_winding_consistent
        assert surface.volume / 1000 == pytest.approx(case.ml(name), rel=5e-3)
        assert np.linalg.norm(surface.center_mass - points.mean(axis=0)) < 0.1


def surface_of(path: Path, name: str) -> trimesh.Trimesh:
    word = name.replace(" ", "_")
    if (path / f"{word}.stl").exists():
        return trimesh.load_mesh(path / f"{word}.stl")
    scene = trimesh.load_scene(path / "structures.obj" if path.is_dir() else path)
    found = {**{key.replace(" ", "_"): shape for key, shape in scene.geometry.items()}, **scene.geometry}
    surface: trimesh.Trimesh = found[word].copy()
    return surface


@needs("dcmdump")
@pytest.mark.parametrize("kind", ["seg", "labelmap-seg", "rtstruct", "sr"])
def test_dcmtk_reads_whose_it_is(case: Case, kind: str) -> None:
    source = pydicom.dcmread(next(case.series.iterdir()), stop_before_pixels=True)
    texts = run("dcmdump", "-q", "+U8", "+L", case.file(kind))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID")[: 3 if kind == "sr" else 4]:
        value = str(source.get(keyword, "")) and f"[{source[keyword].value}]"
        assert re.search(rf"\(\w+,\w+\) \w\w {re.escape(value)}.* {keyword}\n", texts)
