"""What a segmentation can be written as, and how each is read back by the house's independent reader.

One more format is one more `Exporter` in `EXPORTERS`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.errors import UnreadableImage
from delineate.files import atomic_path
from delineate.findings import Finding
from delineate.formats import nifti, read_segmentation
from delineate.formats.dicom_results.approval import Approval
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.formats.dicom_results.seg import Encoding, read_seg, smallest_type
from delineate.formats.dicom_results.seg_writing import Algorithm, write_seg
from delineate.formats.dicom_results.structure_sets import labels_from
from delineate.formats.meshes.files import read_mesh, read_scene, write_mesh, write_meshes
from delineate.formats.meshes.surfaces import Mesh, mesh_volume_ml
from delineate.formats.meshes.voxels import mesh_mask
from delineate.formats.meshes.writing import object_names
from delineate.formats.nrrd_files import read_nrrd, write_nrrd
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.volume import Segmentation

Mask = npt.NDArray[np.bool_]
Masks = Callable[[], Iterator[tuple[str, Mask]]]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """`sources`: the files of the DICOM series that was segmented, none where it was another file. `smooth`: rounds of
    smoothing of surfaces, `simplify`: the share of their triangles to take away. `created`: the date and time that
    DICOM objects are given, now where None. `findings`: what a report says; the structures' volumes where None.
    `approval`: what people decided, for DICOM objects."""

    sources: tuple[Path, ...] = ()
    smooth: int = 0
    simplify: float = 0.0
    created: datetime | None = None
    findings: tuple[Finding, ...] | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """What reading back must show of every structure: overlap at least; relative volume error and shift at most."""

    dice: float
    volume_error: float
    shift_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class ReadBack:
    """What a file holds: a segmentation, or masks by name on `grid`.

    Masks are made one by one, at every call, where structures overlap: all of them at once may take more memory than
    there is. `volumes_ml`: what each surface encloses, by name; elsewhere the voxels say it.
    """

    segmentation: Segmentation | None
    grid: Grid
    masks: Masks = lambda: iter(())
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exporter:
    """A format. `suffix`: of the file, or of the folder. `write` a segmentation; `read` gives it back, on the grid of
    the file or, for contours and surfaces, on that of the segmentation that was written.

    `changed_bar`: of surfaces that are smoothed or simplified. `is_dicom`: an object that belongs to a series.
    `overlaps`: it can hold structures that do.
    """

    suffix: str
    write: Callable[[Path, Segmentation, ExportOptions], None]
    read: Callable[[Path, Segmentation], ReadBack]
    bar: Bar
    changed_bar: Bar | None = None
    is_dicom: bool = False
    overlaps: bool = True

    def bar_for(self, options: ExportOptions) -> Bar:
        return self.changed_bar if self.changed_bar and (options.smooth or options.simplify) else self.bar


# Positions and voxel sizes are rounded to 32 bits by NIfTI, to 16 characters by DICOM.
_EXACT = Bar(dice=1.0, volume_error=1e-5, shift_mm=0.01)
_CONTOURS = Bar(dice=0.99, volume_error=5e-3, shift_mm=0.5)
_SURFACE = Bar(dice=0.999, volume_error=5e-3, shift_mm=0.5)
# Smoothing moves the surface of a thin structure by up to a voxel.
_CHANGED_SURFACE = Bar(dice=0.8, volume_error=1e-2, shift_mm=1.0)
_OBJ = "structures.obj"
_LONGEST_FILE_NAME = 120  # bytes; a file system takes 255, of which a temporary name and a suffix need some


def _write_nifti(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    nifti.write_segmentation(path, segmentation)


def _read_nifti(path: Path, expected: Segmentation) -> ReadBack:
    return _whole(read_segmentation(path, expected.labels))


def _write_masks(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    files = file_names(segmentation.labels.names)
    with atomic_path(path) as temporary:
        temporary.mkdir()
        for name in segmentation.labels.names:
            mask = Segmentation(segmentation.mask(name).astype(np.uint8), segmentation.grid, label_set({1: name}))
            nifti.write_segmentation(temporary / f"{files[name]}.nii.gz", mask)


def _read_masks(path: Path, expected: Segmentation) -> ReadBack:
    files = {name: path / f"{stem}.nii.gz" for name, stem in file_names(expected.labels.names).items()}
    if {file.name for file in files.values()} != {file.name for file in path.iterdir()}:
        raise UnreadableImage("other files than one for each structure", path=path)
    grids = {nifti.read_grid(file) for file in files.values()}
    if len(grids) != 1:
        raise UnreadableImage("masks on different grids", path=path)

    def masks() -> Iterator[tuple[str, Mask]]:
        for name, file in files.items():
            yield name, read_segmentation(file, label_set({1: name})).array == 1

    return _joined(masks, expected.labels, grids.pop())


def _write_nrrd(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_nrrd(path, segmentation)


def _read_nrrd(path: Path, expected: Segmentation) -> ReadBack:
    return _whole(read_nrrd(path))


def _write_seg(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_seg(path, segmentation, options.sources, algorithm=Algorithm(at=options.created))


def _write_label_map_seg(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    algorithm = Algorithm(at=options.created)
    write_seg(path, segmentation, options.sources, encoding=Encoding.LABELMAP, algorithm=algorithm)


def _read_seg(path: Path, expected: Segmentation) -> ReadBack:
    return _whole(read_seg(path).segmentation)


def _write_rtstruct(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    write_rtstruct(path, segmentation, options.sources, created=options.created or datetime.now())


def _read_rtstruct(path: Path, expected: Segmentation) -> ReadBack:
    found = read_rtstruct(path)
    if not any(roi.contours for roi in found.rois):
        return _joined(lambda: iter(()), expected.labels, expected.grid)
    return _whole(labels_from(found, expected.grid).segmentation)


def _with_voxels(segmentation: Segmentation) -> tuple[str, ...]:
    return tuple(name for name in segmentation.labels.names if segmentation.mask(name).any())


def _write_scene(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    names = _with_voxels(segmentation)
    if names:
        write_mesh(path, segmentation, names=names, smooth=options.smooth, simplify=options.simplify)
    else:  # that nothing was found is a result as well
        write_meshes(path, ())


def _read_scene(path: Path, expected: Segmentation) -> ReadBack:
    return _of_meshes({mesh.name: mesh for mesh in read_scene(path)}, expected)


def _write_obj_folder(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    # A folder, because colours are in a second file that the first one names.
    with atomic_path(path) as temporary:
        temporary.mkdir()
        _write_scene(temporary / _OBJ, segmentation, options)


def _read_obj_folder(path: Path, expected: Segmentation) -> ReadBack:
    names = _with_voxels(expected)
    given = dict(zip(object_names(names), names, strict=True))
    return _of_meshes({given.get(mesh.name, mesh.name): mesh for mesh in read_scene(path / _OBJ)}, expected)


def _write_stl_folder(path: Path, segmentation: Segmentation, options: ExportOptions) -> None:
    files = file_names(segmentation.labels.names)
    with atomic_path(path) as temporary:
        temporary.mkdir()
        for name in _with_voxels(segmentation):
            target = temporary / f"{files[name]}.stl"
            write_mesh(target, segmentation, names=[name], smooth=options.smooth, simplify=options.simplify)


def _read_stl_folder(path: Path, expected: Segmentation) -> ReadBack:
    files = {f"{stem}.stl": name for name, stem in file_names(expected.labels.names).items()}
    found = {files.get(file.name, file.name): read_mesh(file) for file in sorted(path.iterdir())}
    return _of_meshes(found, expected)


def file_names(names: Sequence[str]) -> dict[str, str]:
    """A name for the file of each structure, without suffix: letters, digits and -_. only, different in any case."""
    given: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        letters = (letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        plain = unicodedata.normalize("NFC", "".join(letters)).encode()[:_LONGEST_FILE_NAME].decode(errors="ignore")
        plain = plain.lstrip(".") or "structure"
        stem, n = plain, 2
        while stem.casefold() in taken:
            stem, n = f"{plain}_{n}", n + 1
        taken.add(stem.casefold())
        given[name] = stem
    return given


def _of_meshes(meshes: Mapping[str, Mesh], expected: Segmentation) -> ReadBack:
    """Surfaces by their structure's name, as voxels on the grid of what was written."""
    unknown = [name for name in meshes if name not in expected.labels.names]
    if unknown:
        raise UnreadableImage("surfaces of structures that nobody wrote", got=unknown[:10])

    def masks() -> Iterator[tuple[str, Mask]]:
        for name, mesh in meshes.items():
            yield name, mesh_mask(mesh, expected.grid)

    volumes_ml = {name: mesh_volume_ml(meshes[name]) if name in meshes else 0.0 for name in expected.labels.names}
    return replace(_joined(masks, expected.labels, expected.grid), volumes_ml=volumes_ml)


def _whole(segmentation: Segmentation) -> ReadBack:
    return ReadBack(segmentation, segmentation.grid)


def _joined(masks: Masks, labels: LabelSet, grid: Grid) -> ReadBack:
    """Masks as a label map with values 1 to n in the order of `labels`; as they are where some overlap."""
    if labels.overlaps:
        return ReadBack(None, grid, masks)
    labels = LabelSet(tuple(replace(label, value=n) for n, label in enumerate(labels, start=1)))
    array: npt.NDArray[Any] = np.zeros(grid.shape, dtype=smallest_type(labels.values), order="F")
    for name, mask in masks():
        if np.logical_and(array, mask).any():
            return ReadBack(None, grid, masks)
        np.copyto(array, array.dtype.type(labels.named(name).value), where=mask)
    return _whole(Segmentation(array, grid, labels))


EXPORTERS: dict[str, Exporter] = {
    "nifti": Exporter(".nii.gz", _write_nifti, _read_nifti, _EXACT, overlaps=False),
    "nrrd": Exporter(".seg.nrrd", _write_nrrd, _read_nrrd, _EXACT),
    "masks": Exporter("_masks", _write_masks, _read_masks, _EXACT),
    "seg": Exporter(".seg.dcm", _write_seg, _read_seg, _EXACT, is_dicom=True),
    "labelmap-seg": Exporter(".labelmap.dcm", _write_label_map_seg, _read_seg, _EXACT, is_dicom=True),
    "rtstruct": Exporter(".rtstruct.dcm", _write_rtstruct, _read_rtstruct, _CONTOURS, is_dicom=True),
    "stl": Exporter("_stl", _write_stl_folder, _read_stl_folder, _SURFACE, _CHANGED_SURFACE),
    "obj": Exporter("_obj", _write_obj_folder, _read_obj_folder, _SURFACE, _CHANGED_SURFACE),
    "glb": Exporter(".glb", _write_scene, _read_scene, _SURFACE, _CHANGED_SURFACE),
    "3mf": Exporter(".3mf", _write_scene, _read_scene, _SURFACE, _CHANGED_SURFACE),
}
