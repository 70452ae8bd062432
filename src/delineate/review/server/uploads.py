"""Segmentations that people send: read by a child process with limits, checked, and stored as an edit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from fastapi import Form, UploadFile

from delineate.editing.runs import Runs, difference, wire_view
from delineate.errors import InputError, ResourceError
from delineate.files import check_writable
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.review.records import ReviewCase
from delineate.review.server.editing_routes import parameters_text, voxels_of
from delineate.review.server.parts import Asked, Here, Parts, Visitor
from delineate.review.server.slabs import layer_of
from delineate.review.server.tool_routes import layers_at_head
from delineate.review.server.upload_child import REFUSED
from delineate.review.server.wire import MOST, Uploaded
from delineate.volume import Segmentation, Source, align

_CHILD = "delineate.review.server.upload_child"
_GZIP = b"\x1f\x8b"
_BYTES_A_VOXEL = 40  # a file of float64, its conversion, and the checks of its values
_MORE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child process may use to read an upload."""

    memory_bytes: int
    seconds: int
    voxels: int


def upload(
    here: Here,
    person: Visitor,
    case: Asked,
    file: UploadFile,
    base_revision: Annotated[int, Form(alias="baseRevision", ge=0, le=MOST)],
    layer: Annotated[int, Form(ge=0, le=65535)] = 0,
) -> Uploaded:
    """Take a segmentation (.nii.gz or .nii on the case's grid) as the case's labels: an edit with the tool "upload"."""
    voxels = voxels_of(here, case)
    limits = Limits(voxels * _BYTES_A_VOXEL + _MORE_BYTES, here.options.upload_seconds, voxels)
    with here.slow_turns.one():
        sent = read_upload(file.file, here.options.places.uploads, limits)
        runs = _runs(here, case, sent, base_revision=base_revision, layer=layer)
        if len(runs) == 0:
            raise InputError("the file holds what the case holds already", remedy="There is nothing to store")
        edit = here.live.edit(
            case,
            person,
            base_revision=base_revision,
            layer=layer,
            runs=runs,
            tool="upload",
            parameters=parameters_text({"changed_runs": len(runs)}),
        )
    return Uploaded(revision=edit.revision)


def _runs(here: Parts, case: ReviewCase, sent: Segmentation, *, base_revision: int, layer: int) -> Runs:
    before = wire_view(layer_of(dict(layers_at_head(here, case, base_revision)), layer))
    _check_values(case, sent.array, layer)
    after = align(sent, here.volumes.about(case).grid).array
    return difference(before, (after != 0).astype(np.uint8) if layer else after)


def _check_values(case: ReviewCase, array: npt.NDArray[Any], layer: int) -> None:
    """Raises `InputError` if the file holds what no structure has; of a layer by itself 1 may be drawn as well."""
    known = {1, layer} if layer else {one.value for one in case.new.structures}
    unknown = sorted(set(np.unique(array).tolist()) - {0, *known})
    if unknown:
        raise InputError(
            "the file holds values that no structure of the case has", expected=sorted(known), got=unknown[:10]
        )


def read_upload(stream: BinaryIO, folder: Path, limits: Limits) -> Segmentation:
    """The label map in a file that somebody sent, its labels named by their values.

    Raises `InputError` for what is none, is larger than `limits` allow, or takes more memory or time to read.
    """
    if find_spec("resource") is None:
        raise ResourceError("this system cannot limit what reading a file takes", remedy="Serve from Linux or macOS")
    with _scratch(folder.absolute()) as scratch:
        start = stream.read(2)
        stream.seek(0)
        path = scratch / ("upload.nii.gz" if start == _GZIP else "upload.nii")
        with path.open("wb") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
        _run_child(path, scratch / "labels", limits)
        array = np.load(scratch / "labels.npy", allow_pickle=False)
        said = json.loads((scratch / "labels.json").read_text())
    grid = Grid(tuple(said["shape"]), np.array(said["affine"]))
    values = [int(value) for value in np.unique(array) if value]
    return Segmentation(array, grid, label_set({value: f"value {value}" for value in values}), Source())


def _run_child(path: Path, out: Path, limits: Limits) -> None:
    command = [sys.executable, "-I", "-m", _CHILD, str(path), str(out)]
    command += [str((limits.memory_bytes >> 20) + 1), str(limits.seconds), str(limits.voxels)]
    said = out.with_suffix(".txt")
    try:
        with said.open("wb") as words:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                cwd=path.parent,
                env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                timeout=limits.seconds + 30,
                check=False,
            )
        code = done.returncode
    except subprocess.TimeoutExpired:
        code = 1
    if code == REFUSED:
        problem = said.read_bytes()[:500].decode(errors="replace")
        raise InputError(problem, remedy="Send a .nii.gz label map on the scan's grid")
    if code != 0:
        # Short of memory Python ends in many ways, and by signals short of time.
        raise InputError("the file needs more memory or time to read than an upload may use")


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    check_writable(folder)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)
