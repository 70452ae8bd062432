"""What can be wrong with a dataset, found before hours of training and not after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from delineate.dataset.cases import Case, Dataset, channel_kind, fingerprint_file, folder_files
from delineate.dataset.layouts import data_files, read_case_table
from delineate.dataset.readers import FIRST, reader_folders
from delineate.errors import DelineateError
from delineate.geometry import Grid, aligned, axis_change, change_axes, index_to_world, largest_distance_mm
from delineate.labels import LabelSet
from delineate.volume import Kind, Volume

Severity = Literal["error", "warning", "information"]

LARGEST_SPACING_MM = 20.0
SMALLEST_SPACING_MM = 0.01
LARGEST_ANISOTROPY = 10.0
AIR_BELOW_HU = -200.0
_COUNTED, _PIECE = 65536, 1 << 22


@dataclass(frozen=True, slots=True)
class Problem:
    """Something found. An "error" makes the case unusable; a "warning" should be looked at; "information" need not.

    `case`: its id, or None for the dataset as a whole. `what`: a clause; `remedy`: a sentence.
    """

    case: str | None
    severity: Severity
    what: str
    file: Path | None = None
    remedy: str = ""


def problem_of(error: DelineateError, case: str | None = None) -> Problem:
    """A file that could not be read, as a problem of its case."""
    facts = type(error)(error.problem, expected=error.expected, got=error.got)
    return Problem(case or error.case, "error", str(facts), error.path, error.remedy or "")


def check_files(dataset: Dataset, folder: Path | None = None) -> list[Problem]:
    """Problems of files and ids, without reading an image; [] if there are none.

    `folder`: where the dataset was opened; files in its imagesTr and labelsTr that no case uses are
    reported. Images of equal size are compared by the SHA-256 of their bytes.
    """
    problems = [problem for case in dataset.cases for problem in _missing_files(case, dataset.channels)]
    problems += _repeated_ids(dataset.cases)
    problems += _equal_images(dataset.cases)
    problems += _shared_patients(dataset.cases)
    problems += _several_readers(dataset.cases)
    if folder is not None:
        problems += _unused_files(dataset, folder)
    return problems


def _missing_files(case: Case, names: Sequence[str]) -> Iterator[Problem]:
    channels = len(names)
    for what, path in [*(("image", image) for image in case.images), *(("reference", r) for r in case.references)]:
        if not path.exists():
            yield Problem(
                case.id, "error", f"the {what} is missing on disk", path, "Restore the file, or remove the case."
            )
    if case.reference is None:
        yield Problem(
            case.id,
            "warning",
            "has no reference",
            case.images[0],
            "It cannot be trained on or scored: add the reference, or leave it.",
        )
    if case.absent and len(case.images) + len(case.absent) == channels:
        yield Problem(
            case.id,
            "warning",
            f"channel {' and '.join(names[n] for n in case.absent)} is not there",
            case.images[0],
            "Add it; or train with channel dropout (--channel-dropout 0.2), so that the network can do without.",
        )
    elif case.absent or len(case.images) not in (1, channels):
        yield Problem(
            case.id,
            "error",
            f"has {len(case.images)} images for {channels} channels",
            case.images[0],
            "Give one file a channel, or one file with all channels.",
        )


def _repeated_ids(cases: Iterable[Case]) -> Iterator[Problem]:
    for case_id, same in _grouped(cases, lambda case: case.id).items():
        if len(same) > 1:
            what = f"{len(same)} cases have this id"
            yield Problem(case_id, "error", what, same[1].images[0], "Give every case an id of its own.")


def _equal_images(cases: Iterable[Case]) -> Iterator[Problem]:
    images = [(case, path) for case in cases for path in case.images if path.exists()]
    for candidates in _grouped(images, lambda item: _size(item[1])).values():
        if len(candidates) < 2:
            continue
        for same in _grouped(candidates, lambda item: fingerprint_file(item[1])).values():
            yield from _equal_pairs(same)


def _equal_pairs(same: Sequence[tuple[Case, Path]]) -> Iterator[Problem]:
    first, path = same[0]
    for other, copy in same[1:]:
        if other.id == first.id and copy == path:
            continue
        leak = other.patient_id != first.patient_id
        within = f"another channel, {path.name}" if other.id == first.id else f"that of case {first.id}"
        remedy = "Keep one of them" + (": a copy in training and validation makes scores too good." if leak else ".")
        yield Problem(other.id, "error" if leak else "warning", f"the image is a copy of {within}", copy, remedy)


def _shared_patients(cases: Iterable[Case]) -> Iterator[Problem]:
    for patient, same in _grouped(cases, lambda case: case.patient_id).items():
        if len({case.id for case in same}) > 1:
            ids = ", ".join(case.id for case in same)
            yield Problem(None, "information", f"patient {patient} has {len(same)} cases, split as one: {ids}")


def _several_readers(cases: Iterable[Case]) -> Iterator[Problem]:
    read = [case for case in cases if case.others]
    if read:
        folders = ", ".join(sorted({path.parent.name for case in read for path in case.references}))
        what = f"{len(read)} cases were drawn by several readers: {folders}"
        remedy = "The first reader's references are learned from; of all of them with --annotators sample."
        yield Problem(None, "information", what, remedy=remedy)


def _unused_files(dataset: Dataset, folder: Path) -> Iterator[Problem]:
    used = {path.resolve() for case in dataset.cases for path in (*case.images, *case.references)}
    labels = [(reader.name, "a reference that no case uses") for reader in (folder / FIRST, *reader_folders(folder))]
    for name, what in (("imagesTr", "an image that no case uses"), *labels):
        for path in data_files(folder / name, ""):
            if path.resolve() not in used:
                remedy = "List it with its partner in dataset.json, or remove it."
                yield Problem(None, "warning", f"{name} has {what}", path, remedy)
    unknown = set(read_case_table(folder)) - {case.id for case in dataset.cases}
    for case_id in sorted(unknown):
        remedy = "Correct the id, or remove the row."
        yield Problem(case_id, "warning", "cases.csv has a row for an unknown case", folder / "cases.csv", remedy)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in folder_files(path)) if path.is_dir() else path.stat().st_size


def _grouped(items: Iterable[Any], key: Any) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def check_case(
    case: Case,
    image: Volume,
    *,
    channels: Sequence[str],
    labels: LabelSet,
    label_array: npt.NDArray[Any] | None = None,
    label_grid: Grid | None = None,
) -> list[Problem]:
    """Problems of what is in one case's files; [] if there are none.

    `image`: (C, I, J, K) as read. `label_array`: the reference's label map (I, J, K) as read, before any
    rounding or casting, of any number type, on `label_grid`; None where the case has no reference.
    Of overlapping labels without regions only the geometry is checked.
    Raises `ValueError` for an array without its grid.
    """
    problems = [*_check_spacing(case, image.grid), *_check_channels(case, image, channels)]
    if label_array is None:
        return problems
    if label_grid is None:
        raise ValueError("label_array needs label_grid")
    return [*problems, *check_reference(case, image.grid, labels, label_array, label_grid)]


def check_reference(
    case: Case, grid: Grid, labels: LabelSet, label_array: npt.NDArray[Any], label_grid: Grid
) -> list[Problem]:
    """Problems of a label map, the case's `reference`, for a scan on `grid`; see `check_case`."""
    problems = list(_check_alignment(case, grid, label_grid))
    if labels.overlaps and not labels.regions:
        return problems
    problems += _check_values(case, label_array, labels)
    if not labels.regions:
        problems += _check_sides(case, label_array, label_grid, labels)
    return problems


def _check_spacing(case: Case, grid: Grid) -> Iterator[Problem]:
    spacing = grid.spacing_mm
    shown = " x ".join(f"{s:.3g}" for s in spacing)
    remedy = "Compare with the scanner's values; the header may be wrong or in other units."
    if max(spacing) > LARGEST_SPACING_MM or min(spacing) < SMALLEST_SPACING_MM:
        yield Problem(case.id, "warning", f"implausible voxel spacing {shown} mm", case.images[0], remedy)
    if max(spacing) > LARGEST_ANISOTROPY * min(spacing):
        ratio = max(spacing) / min(spacing)
        what = f"voxels are {ratio:.3g} times longer than wide: {shown} mm"
        yield Problem(case.id, "warning", what, case.images[0], remedy)


def _check_channels(case: Case, image: Volume, channels: Sequence[str]) -> Iterator[Problem]:
    file = case.images[0]
    if image.channels != len(channels):
        what = f"has {image.channels} channels, the dataset {len(channels)} ({', '.join(channels)})"
        yield Problem(case.id, "error", what, file, "Give one image a channel, in the dataset's order.")
        return
    for n, name in enumerate(channels):
        if n in image.absent:
            continue
        values = image.array[n]
        path = case.images[n] if len(case.images) == len(channels) else file
        bad = 0 if values.dtype.kind in "iub" else int(values.size - np.count_nonzero(np.isfinite(values)))
        if bad:
            what = f"channel {name} has {bad} voxels that are NaN or infinite"
            yield Problem(case.id, "error", what, path, "Replace them, or export the image again.")
            continue
        low, high = float(values.min()), float(values.max())
        if low == high:
            yield Problem(case.id, "error", f"channel {name} is {low:g} everywhere", path, "Export the image again.")
        elif channel_kind(name) is Kind.CT and low > AIR_BELOW_HU:
            what = f"channel {name} has no value below {AIR_BELOW_HU:g} HU (lowest {low:g}): scaled wrongly, or masked"
            yield Problem(case.id, "warning", what, path, "Check that rescale slope and intercept were applied.")


def _check_alignment(case: Case, image: Grid, reference: Grid) -> Iterator[Problem]:
    if aligned(image, reference):
        return
    turned = change_axes(reference, axis_change(reference.orientation, image.orientation))
    remedy = "Resample the reference onto the image's grid, or correct the wrong header."
    if aligned(image, turned):
        what = f"the reference is stored as {reference.orientation}, the image as {image.orientation}; the voxels agree"
        yield Problem(case.id, "warning", what, case.reference, "Store both in one orientation to be sure.")
    elif image.shape != reference.shape:
        what = f"reference and image differ in shape: {_by(reference.shape)} and {_by(image.shape)} voxels"
        yield Problem(case.id, "error", what, case.reference, remedy)
    else:
        what = f"reference and image lie up to {largest_distance_mm(image, reference):.3g} mm apart"
        yield Problem(case.id, "error", what, case.reference, remedy)


def _check_values(case: Case, array: npt.NDArray[Any], labels: LabelSet) -> Iterator[Problem]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        yield Problem(
            case.id,
            "error",
            f"the reference has {bad} voxels that are NaN or infinite",
            case.reference,
            "Replace them.",
        )
        return
    counts = _count_values(array)
    broken = {value: n for value, n in counts.items() if value != round(value)}
    if broken:
        what = f"the reference has values that are not whole numbers: {_listed(broken)}"
        remedy = "It was resampled with interpolation, or is a probability map: make it again with nearest neighbour."
        yield Problem(case.id, "error", what, case.reference, remedy)
    known = {0, *labels.stored_values}
    unknown = {value: n for value, n in counts.items() if value not in known and value not in broken}
    if unknown:
        what = f"the reference has values that dataset.json does not name: {_listed(unknown)}"
        yield Problem(case.id, "error", what, case.reference, "Add the labels to dataset.json, or correct the values.")
    values = {region.name: region.values for region in labels.regions} or {one.name: (one.value,) for one in labels}
    missing = [name for name in labels.names if not any(value in counts for value in values[name])]
    if len(missing) == len(labels) and not unknown and not broken:
        remedy = "If the structures are truly absent, keep it; otherwise leave the case out."
        yield Problem(case.id, "warning", "the reference is empty", case.reference, remedy)
    elif missing:
        remedy = "If they are in the scan but were not drawn, train with --missing-labels unknown."
        what = f"not in the reference: {', '.join(missing)}"
        yield Problem(case.id, "warning", what, case.reference, remedy)


def _check_sides(case: Case, array: npt.NDArray[Any], grid: Grid, labels: LabelSet) -> Iterator[Problem]:
    if array.shape != grid.shape:
        return
    for left, right in labels.pairs:
        centres = [_centre_mm(array == labels.named(name).value, grid) for name in (left, right)]
        if centres[0] is None or centres[1] is None:
            continue
        towards_left = float(centres[0][0] - centres[1][0])
        if towards_left < 0:
            what = f"{left} lies {-towards_left:.3g} mm to the right of {right}: left and right look swapped"
            remedy = "Check the orientation in the header, and which label was drawn on which side."
            yield Problem(case.id, "warning", what, case.reference, remedy)


def _centre_mm(mask: npt.NDArray[np.bool_], grid: Grid) -> npt.NDArray[np.float64] | None:
    """World position of a mask's centroid, or None for an empty mask."""
    centre = []
    for axis in range(3):
        profile = np.count_nonzero(mask, axis=tuple(other for other in range(3) if other != axis))
        if not profile.any():
            return None
        centre.append(float(np.average(np.arange(profile.size), weights=profile)))
    return index_to_world(grid, centre)


def _count_values(array: npt.NDArray[Any]) -> dict[float, int]:
    """Voxels of each value, in order of value. Small whole numbers, the usual case, are counted without sorting."""
    if array.size == 0:
        return {}
    flat = array.ravel(order="K")
    if flat.min() >= 0 and flat.max() < _COUNTED:
        counts = _count_whole(flat)
        if counts is not None:
            return {float(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(flat, return_counts=True)
    return {float(value): int(n) for value, n in zip(values, numbers, strict=True)}


def _count_whole(flat: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    """Voxels of each value from 0 to 65535, or None if a value is not whole; in pieces, to spare memory."""
    counts = np.zeros(_COUNTED, np.int64)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        whole = piece.astype(np.int64)
        if piece.dtype.kind == "f" and not np.array_equal(whole, piece):
            return None
        counts += np.bincount(whole, minlength=_COUNTED)
    return counts


def _listed(counts: dict[float, int]) -> str:
    shown = [f"{value:g} ({n} voxel{'s' if n != 1 else ''})" for value, n in list(counts.items())[:5]]
    return ", ".join(shown) + (f" and {len(counts) - 5} more" if len(counts) > 5 else "")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
