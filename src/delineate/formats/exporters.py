"""What a segmentation can be written as, and how each is read back by the house's independent reader.

One more format is one more `Exporter` in `EXPORTERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate.files import atomic_path
from delineate.formats import nifti
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.seg import Encoding, read_seg
from delineate.formats.dicom_results.seg_writing import write_seg
from delineate.formats.dicom_results.structure_sets import labels_from
from delineate.formats.meshes.files import read_mesh, read_meshes, write_mesh
from delineate.formats.meshes.surfaces import Mesh
from delineate.formats.meshes.voxels import mesh_mask
from delineate.formats.nrrd_files import read_nrrd, write_nrrd
from delineate.labels import LabelSet
from delineate.volume import Segmentation


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """`sources`: the files of the DICOM series that was segmented, none where it was another file. `smooth`: rounds of
    smoothing of surfaces, `simplify`: the share of their triangles to take away."""

    sources: tuple[Path, ...] = ()
    smooth: int = 0
    simplify: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """What reading back must show of every structure: overlap at least; relative volume error and shift at most."""

    dice: float
    volume_error: float
    shift_mm: float


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format. `suffix`: of the file ("" makes a folder). `write` a segmentation; `read` gives it back, on the grid of
    the file or, for contours and surfaces, on that of the segmentation that was written."""

    suffix: str
    write: Callable[[Path, Segmentation, ExportOptions], None]
    read: Callable[[Path, Segmentation], Segmentation]
    bar: Bar
    needs_series: bool = False

    def bar_for(self, options: ExportOptions) -> Bar:
        changed = self.suffix in _SURFACES and (options.smooth or options.simplify)
        return _CHANGED_SURFACE if changed else self.bar


# Positions and voxel sizes are rounded to 32 bits by NIfTI, to 16 characters by DICOM.
_EXACT = Bar(dice=1.0, volume_error=1e-5, shift_mm=0.01)
_CONTOURS = Bar(dice=0.99, volume_error=5e-3, shift_mm=0.5)
_SURFACE = Bar(dice=0.999, volume_error=5e-3, shift_mm=0.5)
# Smoothing moves the surface of a thin structure by up to a voxel.
_CHANGED_SURFACE = Bar(dice=0.8, volume_error=1e-2, shift_mm=1.0)
_SURFACES = (".glb", ".3mf", "")
_OBJ = "structures.obj"


def _write_nifti(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    nifti.write_segmentation(path, segmentation)


def _read_nifti(path: Path, expected: Segmentation) -> Segmentation:
    array, grid = nifti.read_label_values(path)
    return Segmentation(array, grid, expected.labels)


def _write_nrrd(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_nrrd(path, segmentation)


def _read_nrrd(path: Path, expected: Segmentation) -> Segmentation:
    return read_nrrd(path)


def _write_seg(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_seg(path, segmentation, options.sources)


def _write_label_map_seg(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_seg(path, segmentation, options.sources, encoding=Encoding.LABELMAP)


def _read_seg(path: Path, expected: Segmentation) -> Segmentation:
    return read_seg(path).segmentation


def _write_rtstruct(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_rtstruct(path, segmentation, options.sources)


def _read_rtstruct(path: Path, expected: Segmentation) -> Segmentation:
    found = read_rtstruct(path)
    if not any(roi.contours for roi in found.rois):
        return _of_meshes((), expected)
    return labels_from(found, expected.grid).segmentation


def _write_scene(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_mesh(path, segmentation, smooth=options.smooth, simplify=options.simplify)


def _write_obj_folder(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    # A folder, because colours are in a second file that the first one names.
    with atomic_path(path) as temporary:
        temporary.mkdir()
        _write_scene(temporary / _OBJ, segmentation, options)


def _read_obj_folder(path: Path, expected: Segmentation) -> Segmentation:
    return _read_scene(path / _OBJ, expected)


def _read_scene(path: Path, expected: Segmentation) -> Segmentation:
    return _of_meshes(read_meshes(path), expected)


def _write_stl_folder(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    with atomic_path(path) as temporary:
        temporary.mkdir()
        for name in segmentation.labels.names:
            if segmentation.mask(name).any():
                target = temporary / f"{_file_name(name)}.stl"
                write_mesh(target, segmentation, names=[name], smooth=options.smooth, simplify=options.simplify)


def _read_stl_folder(path: Path, expected: Segmentation) -> Segmentation:
    files = {_file_name(name): name for name in expected.labels.names}
    return _of_meshes([replace(read_mesh(file), name=files[file.stem]) for file in sorted(path.iterdir())], expected)


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _of_meshes(meshes: Sequence[Mesh], expected: Segmentation) -> Segmentation:
    """Named surfaces on the grid of what was written: a label map, or masks where they overlap."""
    # OBJ separates by spaces, so that its names have none.
    labels = {key: label for label in expected.labels for key in (label.name.replace(" ", "_"), label.name)}
    array = np.zeros(expected.grid.shape, dtype=np.uint16, order="F")
    if not expected.labels.overlaps:
        for mesh in meshes:
            mask = mesh_mask(mesh, expected.grid)
            if np.logical_and(array, mask).any():
                break
            np.copyto(array, np.uint16(labels[mesh.name].value), where=mask)
        else:
            return Segmentation(array, expected.grid, expected.labels)
    masks = np.zeros((len(expected.labels), *expected.grid.shape), dtype=np.bool_)
    for mesh in meshes:
        masks[expected.labels.names.index(labels[mesh.name].name)] = mesh_mask(mesh, expected.grid)
    return Segmentation(masks, expected.grid, LabelSet(expected.labels.labels, overlaps=True))


EXPORTERS: dict[str, Exporter] = {
    "nifti": Exporter(".nii.gz", _write_nifti, _read_nifti, _EXACT),
    "nrrd": Exporter(".seg.nrrd", _write_nrrd, _read_nrrd, _EXACT),
    "seg": Exporter(".seg.dcm", _write_seg, _read_seg, _EXACT, needs_series=True),
    "labelmap-seg": Exporter(".labelmap.dcm", _write_label_map_seg, _read_seg, _EXACT, needs_series=True),
    "rtstruct": Exporter(".rtstruct.dcm", _write_rtstruct, _read_rtstruct, _CONTOURS, needs_series=True),
    "stl": Exporter("", _write_stl_folder, _read_stl_folder, _SURFACE),
    "obj": Exporter("", _write_obj_folder, _read_obj_folder, _SURFACE),
    "glb": Exporter(".glb", _write_scene, _read_scene, _SURFACE),
    "3mf": Exporter(".3mf", _write_scene, _read_scene, _SURFACE),
}
