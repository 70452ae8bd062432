"""Which formats a reviewed case can be exported in, and why not in the others: known before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.errors import ExportError
from delineate.formats.exporters import EXPORTERS
from delineate.formats.nifti import is_nifti_name
from delineate.review.layers import labels_of
from delineate.review.records import ReviewCase
from delineate.workflow.exporting import REPORT, check_kinds

PAGE = "report"
"""The case report, beside the formats of `EXPORTERS` and "sr"."""

FORMATS = ("seg", "rtstruct", REPORT, "nifti", "glb", "stl", PAGE)
"""What the page offers, the most asked for first."""


@dataclass(frozen=True, slots=True)
class FormatFit:
    """`problem`: why a case cannot be written in this format; None where it can."""

    format: str
    problem: str | None


def formats_of(case: ReviewCase) -> tuple[FormatFit, ...]:
    """For each of `FORMATS` whether it can hold this case."""
    return tuple(FormatFit(kind, _problem(case, kind)) for kind in FORMATS)


def check_formats(case: ReviewCase, kinds: tuple[str, ...]) -> None:
    """Raises `ExportError` for the first of `kinds` that does not fit, with those that do."""
    fits = {fit.format: fit.problem for fit in formats_of(case)}
    for kind in kinds:
        problem = fits.get(kind, "it is not known")
        if problem is not None:
            others = ", ".join(name for name, why in fits.items() if why is None)
            raise ExportError(
                f"this case cannot be exported as {kind}: {problem}",
                case=case.new.key,
                remedy=f"Choose among {others}" if others else "Ask who keeps the model to correct it",
            )


def _problem(case: ReviewCase, kind: str) -> str | None:
    labels = labels_of(case)
    if _is_of_series(kind) and is_nifti_name(case.new.scan):
        return "a DICOM series is needed, and this scan is a NIfTI file"
    if kind in EXPORTERS and labels.overlaps and not EXPORTERS[kind].overlaps:
        return "a voxel holds one structure there, and here structures overlap"
    try:
        # What a format is written together with is held to the same names.
        check_kinds({REPORT: ("seg", REPORT), PAGE: ("nrrd",)}.get(kind, (kind,)), labels, with_series=True)
    except ExportError as error:
        return error.problem if error.got is None else f"{error.problem}, {error.got}"
    return None


def _is_of_series(kind: str) -> bool:
    return kind == REPORT or (kind in EXPORTERS and EXPORTERS[kind].is_dicom)
