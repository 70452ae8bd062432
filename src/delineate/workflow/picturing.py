"""`delineate film` and `delineate contact-sheet`: pictures of what lies on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from delineate.dataset import Case, Dataset, open_dataset
from delineate.errors import DelineateError, InputError
from delineate.files import write_bytes
from delineate.formats.nifti import is_nifti_name
from delineate.formats.nrrd_files import is_nrrd_name
from delineate.labels import LabelSet
from delineate.reports.contact_sheets import Tile, contact_sheets, draw_tile, failed_tile
from delineate.reports.display import Plane
from delineate.reports.films import check_film, slice_sweep, write_film
from delineate.reports.renders import turntable
from delineate.settings import Settings
from delineate.volume import Kind, Segmentation, Volume, align
from delineate.workflow.assembling import ChannelWish
from delineate.workflow.choosing import Scan, find_scans
from delineate.workflow.pairing import label_maps
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import read_record
from delineate.workflow.scratch import Scratch, scratch_of
from delineate.workflow.structures import kind_near, read_any_segmentation, read_case, read_scan

_SEGMENTATION = re.compile(r"(?P<case>[^.].*?)(\.seg|\.labelmap|\.rtstruct)?\.(nrrd|nhdr|dcm)", re.IGNORECASE)

Read = Callable[[], tuple[Volume | None, Segmentation | None]]


@dataclass(frozen=True, slots=True)
class SheetRun:
    """The sheets that were written, how many cases are on them, and why some of these have no picture."""

    sheets: tuple[Path, ...]
    cases: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    case: str
    read: Read


def film(
    scan: Path,
    segmentation: Path | None,
    output: Path,
    *,
    rotate: bool = False,
    plane: Plane = "axial",
    kind: Kind | None = None,
) -> int:
    """Write a film of a scan's slices with outlines, or of the structures turning; its size in bytes is returned.

    With `rotate` the scan may be the segmentation itself. `kind`: what a NIfTI file's numbers measure; see
    `structures.read_scan` where it is not said. Raises `ExportError` for a suffix that is no film's, `ResourceError`
    without the extra `pictures`, `InputError` for a rotation without structures, and what reading raises.
    """
    check_film(output)
    if rotate:
        # Contours have no voxels: they take the scan's.
        has_voxels = segmentation is None or is_nifti_name(segmentation) or is_nrrd_name(segmentation)
        grid = None if has_voxels else read_scan(scan, kind).grid
        drawn = read_any_segmentation(segmentation or scan, grid=grid)
        if not drawn.array.any():
            raise InputError("there are no structures to show", path=drawn.source.path)
        return write_film(
            output, lambda size: turntable(drawn, size=size), colours=[one.colour for one in drawn.labels]
        )
    image = read_scan(scan, kind)
    outlined = None if segmentation is None else read_any_segmentation(segmentation, grid=image.grid)
    colours = [] if outlined is None else [label.colour for label in outlined.labels]
    return write_film(output, lambda size: slice_sweep(image, outlined, plane=plane, size=size), colours=colours)


def contact_sheet(
    source: Path,
    output: Path,
    *,
    segmentations: Path | None = None,
    per_sheet: tuple[int, int] = (6, 5),
    settings: Settings,
    watch: Watch = nobody,
) -> SheetRun:
    """Write sheets of all cases of a dataset, of a folder or tree of scans, or of a folder of results.

    `segmentations`: a folder of label maps, NRRD files or DICOM objects named as the cases, instead of a dataset's
    references; a case without one is shown without outlines. `per_sheet`: columns and rows; further sheets are
    numbered: out.png, out-2.png. A case that cannot be read has its place on the sheet, with the reason.

    Raises `InputError` where there is no case, and what `open_dataset` raises.
    """
    if output.suffix.lower() != ".png":
        raise InputError("a contact sheet is a PNG file", expected="a name that ends in .png", got=output.name)
    title, entries = _entries(source, segmentations, settings, watch)
    if not entries:
        raise InputError("there is nothing to show", expected="a dataset, scans or label maps", path=source)
    _check_names(entries, segmentations)
    problems: list[str] = []
    sheets: list[Path] = []
    for png in contact_sheets(_tiles(entries, problems, watch), title=title, columns=per_sheet[0], rows=per_sheet[1]):
        path = output if not sheets else output.with_name(f"{output.stem}-{len(sheets) + 1}{output.suffix}")
        write_bytes(path, png)
        sheets.append(path)
    return SheetRun(tuple(sheets), len(entries), tuple(problems))


def _check_names(entries: Sequence[_Entry], segmentations: Path | None) -> None:
    drawn = _drawn_in(segmentations)
    if segmentations is not None and not any(entry.case in drawn for entry in entries):
        raise InputError(
            "no label map has the name of a case",
            expected=f"such as {entries[0].case}.nii.gz",
            got=", ".join(list(drawn)[:5]) or "no label map",
            path=segmentations,
        )


def _drawn_in(folder: Path | None) -> dict[str, Path]:
    """The segmentations of a folder by case: label maps, else what has the name of an NRRD or DICOM export."""
    if folder is None:
        return {}
    # Of several of a case the last counts: contours, which are the least exact, come before voxels.
    found = [(_SEGMENTATION.fullmatch(path.name), path) for path in sorted(folder.iterdir())]
    return {name["case"]: path for name, path in found if name is not None} | label_maps(folder)


def _entries(source: Path, segmentations: Path | None, settings: Settings, watch: Watch) -> tuple[str, list[_Entry]]:
    """A title, and every case with how to read it."""
    drawn = _drawn_in(segmentations)
    if (source / "dataset.json").is_file() and not label_maps(source):
        dataset = open_dataset(source)
        return dataset.name, [_Entry(case.id, _reader(dataset, case, drawn)) for case in dataset.cases]
    results = label_maps(source) if source.is_dir() else {}
    if results and all(read_record(path) is not None for path in results.values()):
        return source.name, [_Entry(case, partial(_read_map, path)) for case, path in results.items()]
    scratch = scratch_of(settings)
    found = find_scans(source, (ChannelWish("", ""),), settings=settings, watch=watch)
    files = [scan.paths[0] for scan in found.scans if scan.assembly is None]
    kind = kind_near(files[0]) if files else None
    return source.name, [
        _Entry(scan.id, partial(_read_scan, scan, drawn.get(scan.id), kind=kind, scratch=scratch))
        for scan in found.scans
    ]


def _reader(dataset: Dataset, case: Case, drawn: Mapping[str, Path]) -> Read:
    if not drawn:
        return lambda: read_case(case, dataset.labels, dataset.kinds)
    alone = replace(case, reference=None)

    def read() -> tuple[Volume, Segmentation | None]:
        image, _ = read_case(alone, dataset.labels, dataset.kinds)
        return image, _aligned(drawn.get(case.id), image, dataset.labels)

    return read


def _read_map(path: Path) -> tuple[None, Segmentation]:
    return None, read_any_segmentation(path)


def _read_scan(
    scan: Scan, drawn: Path | None, *, kind: Kind | None, scratch: Scratch
) -> tuple[Volume, Segmentation | None]:
    image = read_scan(scan.paths[0], kind) if scan.assembly is None else scan.read((Kind.OTHER,), scratch)
    return image, _aligned(drawn, image)


def _aligned(path: Path | None, image: Volume, labels: LabelSet | None = None) -> Segmentation | None:
    if path is None:
        return None
    # The names that predict wrote beside a label map are those of its model.
    known = None if read_record(path) is not None else labels
    return read_any_segmentation(path, labels=known, grid=image.grid)


def _tiles(entries: Sequence[_Entry], problems: list[str], watch: Watch) -> Iterator[Tile]:
    for done, entry in enumerate(entries, start=1):
        try:
            volume, drawn = entry.read()
            # Where voxels are not the same, the outlines would lie beside what they show.
            placed = drawn if drawn is None or volume is None else align(drawn, volume.grid)
            yield draw_tile(entry.case, volume, placed)
        except DelineateError as error:
            problems.append(str(error.in_case(entry.case)))
            yield failed_tile(entry.case, error.problem)
        watch("Drawing", done, len(entries), entry.case)
