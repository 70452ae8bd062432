"""A DICOM series in groups of consecutive slices, each a series of its own, and their segmentations as one again.

Groups give networks with a fixed number of slices their input. No slice is lost: the last group reaches back into the
one before. The record beside the groups says where each belongs, so that what was found in them comes back exactly onto
the slices of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from delineate.errors import (
    DelineateError,
    ExportError,
    GeometryMismatch,
    InconsistentSeries,
    InputError,
    LabelError,
    UnreadableImage,
)
from delineate.files import atomic_path, system_error
from delineate.geometry import Box, Grid, Triple, crop_grid, index_to_world, world_to_index
from delineate.volume import Segmentation, Source, reorient

if TYPE_CHECKING:
    from pydicom import Dataset

RECORD_FILE = "groups.json"
VERSION = 1
FEWEST_SLICES = 3  # fewer do not make a volume that can be read again

_PLACE_TOLERANCE_MM = 0.1 + 1e-6  # what readers of series allow for positions rounded to 0.1 mm
_PLACE_TOLERANCE_VOXELS = 0.25  # a group's grid, from its own rounded positions; a wrong one is off by a slice or more
_LONGEST_DESCRIPTION = 64  # characters of a value of VR LO (PS3.5 6.2)


class SliceGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One group: the slices `start` <= k < `stop` of the source, in the folder `name`, as the series `series_uid`."""

    name: str
    start: int
    stop: int
    series_uid: str


class SliceGroups(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a series in groups. `instance_uids`: of the source, in slice order; `affine`: index to LPS mm."""

    version: int = VERSION
    study_uid: str | None
    series_uid: str
    frame_of_reference_uid: str | None
    shape: Triple
    affine: tuple[tuple[float, float, float, float], ...]
    instance_uids: tuple[str, ...]
    groups: tuple[SliceGroup, ...]

    @property
    def grid(self) -> Grid:
        """The source's grid. Raises `GeometryMismatch` for an affine that is none."""
        return Grid(self.shape, np.array(self.affine, dtype=np.float64), self.frame_of_reference_uid)

    def grid_of(self, group: SliceGroup) -> Grid:
        """The part of the source's grid that a group covers."""
        i, j, _ = self.shape
        return crop_grid(self.grid, Box((0, 0, group.start), (i, j, group.stop)))

    @property
    def summary(self) -> str:
        """One line for people."""
        count = len(self.instance_uids)
        if len(self.groups) == 1:
            return f"{count} slices in one group: there are no more than a group takes"
        before, last = self.groups[-2:]
        shared = before.stop - last.start
        text = f"{count} slices in {len(self.groups)} groups of {last.stop - last.start}"
        return f"{text}; {last.name} has {shared} slice(s) in common with {before.name}" if shared else text


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A segmentation put together from groups, and how many voxels of it groups that overlap disagreed on."""

    segmentation: Segmentation
    disagreeing_voxels: int


def write_groups(
    files: Sequence[Path], out: Path, *, grid: Grid, slices: int = 65, tick: Callable[[int], None] = lambda done: None
) -> SliceGroups:
    """Write the files of a series, one slice each and in slice order, as groups in `out`/01, `out`/02, ...

    `grid` is the series' own, and slice k must lie at its index (0, 0, k). A series with no more slices than a group
    takes makes one group. Every group is a series of the same study, frame of reference and positions, with identifiers
    derived from the source's, so that equal calls give equal files; pixel data stays as it is, to the byte; each
    instance names the one it was copied from (Source Image Sequence, PS3.3 C.7.6.1.1.4). Digital signatures, which a
    copy breaks, are left out. The folder appears as a whole and replaces an older one of groups. `tick` is told
    how many files are written.
    Raises `ExportError` for fewer than three slices a group, or a folder with other content; `InconsistentSeries` for
    files that are not one series or hold several frames; `GeometryMismatch` for a slice that is not at its place.
    """
    _check_target(files, out, slices)
    if len(files) != grid.shape[2]:
        raise GeometryMismatch("a file for each slice is needed", expected=grid.shape[2], got=len(files))
    with _typed(files[0]):
        first = _read(files[0])
        series_uid = _text(first, "SeriesInstanceUID")
    groups = tuple(_group(n, a, b, series_uid) for n, (a, b) in enumerate(_ranges(len(files), slices)))
    uids: dict[int, str] = {}
    with atomic_path(out) as temporary:
        temporary.mkdir()
        done = 0
        for number, group in enumerate(groups, start=1):
            (temporary / group.name).mkdir()
            for k in range(group.start, group.stop):
                with _typed(files[k]):
                    source = _read(files[k])
                    _check_slice(source, first, grid, k=k, path=files[k])
                    uids[k] = _text(source, "SOPInstanceUID")
                    copy = _copy(source, group, place=f"group {number} of {len(groups)}", number=number, k=k)
                    _save(copy, temporary / group.name / f"slice_{k - group.start + 1:04d}.dcm")
                done += 1
                tick(done)
        record = _record(first, grid, tuple(uids[k] for k in range(len(files))), groups)
        text = msgspec.json.format(msgspec.json.encode(record), indent=2)
        (temporary / RECORD_FILE).write_bytes(text + b"\n")
    return record


def read_groups(out: Path) -> SliceGroups:
    """The record in a folder that `write_groups` wrote. Raises `InputError` if there is none, or it is damaged."""
    path = out / RECORD_FILE
    try:
        record = msgspec.json.decode(path.read_bytes(), type=SliceGroups)
    except OSError as error:
        raise InputError("no record of slice groups", expected=RECORD_FILE, got=error.strerror, path=out) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError("the record of slice groups is damaged", got=str(error), path=path) from error
    problem = _contradiction(record)
    if problem:
        raise InputError(f"the record of slice groups is damaged: {problem}", path=path, remedy="Group again.")
    return record


def join_groups(record: SliceGroups, segmentations: Mapping[str, Segmentation]) -> Joined:
    """The segmentations of all groups, by the group's name, as one on the source's grid.

    A slice that two groups have comes from the one in which it is farther from that group's end, where a network saw
    more of its surroundings; if it is as far in both, from the earlier one. Array axes of a segmentation may be turned.
    Raises `InputError` for a group without a segmentation, `GeometryMismatch` for one that lies elsewhere, `LabelError`
    for other labels than the first group's; each names the group.
    """
    missing = [group.name for group in record.groups if group.name not in segmentations]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(record.groups)} groups have no segmentation",
            expected=[group.name for group in record.groups],
            got=f"none of {', '.join(missing)}",
            remedy="Segment these groups too.",
        )
    parts = [_aligned(record, group, segmentations[group.name]) for group in record.groups]
    labels = parts[0].labels
    for group, part in zip(record.groups, parts, strict=True):
        if part.labels != labels:
            raise LabelError(
                f"group {group.name} has other labels than group {record.groups[0].name}",
                expected=dict(zip(labels.values, labels.names, strict=True)),
                got=dict(zip(part.labels.values, part.labels.names, strict=True)),
                path=part.source.path,
            )
    dtype = np.result_type(*(part.array.dtype for part in parts))
    array = np.empty((*parts[0].array.shape[:-1], record.shape[2]), dtype=dtype, order="F")
    disagreeing = 0
    for k, owners in enumerate(_owners(record)):
        best, *others = (parts[n].array[..., k - record.groups[n].start] for n in owners)
        array[..., k] = best
        differs = [np.any(best != other, axis=0) if labels.overlaps else best != other for other in others]
        disagreeing += int(np.count_nonzero(np.any(differs, axis=0))) if differs else 0
    authors = {part.author for part in parts}
    source = Source(None, record.study_uid, record.series_uid, record.instance_uids)
    author = authors.pop() if len(authors) == 1 else None
    return Joined(Segmentation(array, record.grid, labels, source, author), disagreeing)


def _owners(record: SliceGroups) -> Iterator[list[int]]:
    """For each slice the groups that have it, the one in which it is farthest from the end first."""
    for k in range(record.shape[2]):
        holders = [n for n, group in enumerate(record.groups) if group.start <= k < group.stop]
        yield sorted(holders, key=lambda n: (-_depth(record.groups[n], k), n))


def _depth(group: SliceGroup, k: int) -> int:
    return min(k - group.start, group.stop - 1 - k)


def _aligned(record: SliceGroups, group: SliceGroup, segmentation: Segmentation) -> Segmentation:
    frames = {segmentation.grid.frame_of_reference_uid, record.frame_of_reference_uid} - {None}
    if len(frames) > 1:
        raise GeometryMismatch(
            f"the segmentation of group {group.name} is in another frame of reference",
            expected=record.frame_of_reference_uid,
            got=segmentation.grid.frame_of_reference_uid,
            path=segmentation.source.path,
        )
    expected = record.grid_of(group)
    turned = segmentation
    if _voxels_apart(expected, turned.grid) > _PLACE_TOLERANCE_VOXELS:
        turned = reorient(segmentation, expected.orientation)
    apart = _voxels_apart(expected, turned.grid)
    if apart > _PLACE_TOLERANCE_VOXELS:
        raise GeometryMismatch(
            f"the segmentation of group {group.name} does not lie on its slices",
            expected=f"shape {expected.shape}, within {_PLACE_TOLERANCE_VOXELS} voxels",
            got=f"{apart:.3g} voxels apart" if np.isfinite(apart) else f"shape {turned.grid.shape}",
            path=segmentation.source.path,
            remedy="Segment the group as it was written.",
        )
    return replace(turned, grid=expected)


def _voxels_apart(expected: Grid, other: Grid) -> float:
    """The largest distance between voxels of one index, along an axis in its own voxels; infinite for other shapes."""
    if expected.shape != other.shape:
        return float("inf")
    corners = np.array(list(product(*((0, n - 1) for n in expected.shape))))
    return float(np.abs(world_to_index(expected, index_to_world(other, corners)) - corners).max())


def _contradiction(record: SliceGroups) -> str | None:
    """What makes a record useless, if anything does."""
    if record.version != VERSION:
        return f"version {record.version}, and only {VERSION} is known"
    if min(record.shape) < 1 or len(record.instance_uids) != record.shape[2] or len(record.affine) != 4:
        return "its grid and its slices do not fit together"
    names = [group.name for group in record.groups]
    if len(set(names)) != len(names) or not all(re.fullmatch(r"\d{2,9}", name) for name in names):
        return "the names of its groups"
    if any(not 0 <= group.start < group.stop <= record.shape[2] for group in record.groups):
        return "a group outside the series"
    if not all(_owners(record)):
        return "a slice in no group"
    try:
        record.grid  # noqa: B018
    except GeometryMismatch as error:
        return error.problem
    return None


def _check_target(files: Sequence[Path], out: Path, slices: int) -> None:
    if slices < FEWEST_SLICES:
        raise ExportError("too few slices for a group", expected=f"at least {FEWEST_SLICES}", got=slices)
    if not files:
        raise ValueError("no files: a series needs slices")
    if any(path.resolve().is_relative_to(out.resolve()) for path in files):
        raise ExportError("the groups would replace the series they are made from", path=out, remedy="Choose another.")
    # A folder is replaced as a whole, so it must be one of ours.
    if out.exists() and not (out.is_dir() and ((out / RECORD_FILE).is_file() or not any(out.iterdir()))):
        raise ExportError("the folder holds something else", path=out, remedy="Choose a new or an empty folder.")


def _ranges(count: int, slices: int) -> list[tuple[int, int]]:
    starts = [min(start, max(count - slices, 0)) for start in range(0, count, slices)]
    return [(start, min(start + slices, count)) for start in starts]


def _group(n: int, start: int, stop: int, series_uid: str) -> SliceGroup:
    return SliceGroup(
        name=f"{n + 1:02d}", start=start, stop=stop, series_uid=_derived(series_uid, "group", f"{start}-{stop}")
    )


def _derived(*names: str) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["delineate", *names]))


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    """pydicom reads values only when they are asked for, and raises what the damaged one happens to lead to."""
    from delineate.formats.dicom.headers import quiet

    try:
        with quiet():
            yield
    except FileNotFoundError as error:
        raise UnreadableImage("there is no such file", path=path) from error
    except DelineateError:
        raise
    except Exception as error:
        system = system_error(error)
        if system is not None:
            raise system from error  # of the disk, not of the file's content
        raise UnreadableImage("not a sound DICOM file", got=str(error), path=path) from error


def _read(path: Path) -> Dataset:
    import pydicom

    return pydicom.dcmread(path, force=True)


def _check_slice(source: Dataset, first: Dataset, grid: Grid, *, k: int, path: Path) -> None:
    if int(source.get("NumberOfFrames") or 1) != 1 or "PerFrameFunctionalGroupsSequence" in source:
        raise InconsistentSeries(
            "a multi-frame image cannot be split into groups of files",
            path=path,
            remedy="Convert it to NIfTI, and that to a DICOM series of single slices.",
        )
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if _text(source, keyword) != _text(first, keyword):
            got = _text(source, keyword) or "none"
            raise InconsistentSeries(f"files that differ in {keyword}", expected=first.get(keyword), got=got, path=path)
    position = np.array(source.get("ImagePositionPatient") or (), dtype=np.float64)
    place = index_to_world(grid, (0, 0, k))
    if position.shape != (3,) or not np.linalg.norm(position - place) <= _PLACE_TOLERANCE_MM:
        raise GeometryMismatch(
            "a slice is not where the series' grid has it",
            expected=np.round(place, 3).tolist(),
            got=position.tolist(),
            path=path,
            remedy="Write the volume as an even DICOM series first.",
        )


def _copy(source: Dataset, group: SliceGroup, *, place: str, number: int, k: int) -> Dataset:
    """The instance as one of its group; pixel data and all else is shared with the source."""
    from pydicom import Dataset

    instance = Dataset(source)
    instance.file_meta = source.file_meta
    origin = Dataset()
    origin.ReferencedSOPClassUID = source.SOPClassUID
    origin.ReferencedSOPInstanceUID = source.SOPInstanceUID
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    origin.PurposeOfReferenceCodeSequence = [purpose]
    instance.SourceImageSequence = [origin]
    instance.SeriesInstanceUID = group.series_uid
    instance.SOPInstanceUID = _derived(group.series_uid, _text(source, "SOPInstanceUID"))
    instance.InstanceNumber = k - group.start + 1
    instance.SeriesNumber = int(source.get("SeriesNumber") or 0) % 100_000 * 100 + number
    described = _text(source, "SeriesDescription")[: _LONGEST_DESCRIPTION - len(place) - 3]
    instance.SeriesDescription = f"{described} [{place}]".lstrip()
    for keyword in ("DigitalSignaturesSequence", "MACParametersSequence"):
        if keyword in instance:
            delattr(instance, keyword)
    return instance


def _save(instance: Dataset, path: Path) -> None:
    meta = instance.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    instance.save_as(path, enforce_file_format=True)


def _record(first: Dataset, grid: Grid, uids: tuple[str, ...], groups: tuple[SliceGroup, ...]) -> SliceGroups:
    return SliceGroups(
        study_uid=_text(first, "StudyInstanceUID") or None,
        series_uid=_text(first, "SeriesInstanceUID"),
        frame_of_reference_uid=grid.frame_of_reference_uid,
        shape=grid.shape,
        affine=tuple(tuple(row) for row in grid.affine.tolist()),
        instance_uids=uids,
        groups=groups,
    )
