"""`delineate convert`: one scan from one disk format to the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from delineate import formats
from delineate.dataset import channel_kind
from delineate.errors import InputError
from delineate.formats.nifti import is_nifti_name
from delineate.volume import Kind, Volume


def convert(source: Path, target: Path) -> str:
    """DICOM to NIfTI, NIfTI to DICOM, or NIfTI to NIfTI, by the names; one line that says what was written."""
    volume = formats.read_volume(source)
    if is_nifti_name(target):
        formats.write_volume(target, volume)
        files = f"{target}"
    elif target.suffix and not target.is_dir():
        raise InputError("unknown format", expected="a name ending in .nii.gz, or a folder", path=target)
    else:
        paths = formats.write_dicom_series(target, _with_kind(volume), description=formats.image_stem(source))
        files = f"{len(paths)} DICOM files in {target}"
    spacing = " x ".join(f"{s:.3g}" for s in volume.grid.spacing_mm)
    shape = " x ".join(str(n) for n in volume.grid.shape)
    return f"{files}: {shape} voxels of {spacing} mm, {volume.grid.orientation}"


def _with_kind(volume: Volume) -> Volume:
    """NIfTI does not say what was measured: the file's name, else air at -1000 HU, tells."""
    if volume.kind is not Kind.OTHER:
        return volume
    named = channel_kind(volume.source.path.name if volume.source.path else "")
    if named in (Kind.CT, Kind.MR):
        return replace(volume, kind=named)
    return replace(volume, kind=Kind.CT if float(volume.array.min()) <= -500 else Kind.MR)
