"""`delineate report evaluation`: a page from scores.json, with pictures of the worst cases read from their files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from delineate import formats
from delineate.errors import DelineateError, InputError
from delineate.files import check_writable, write_text
from delineate.geometry import Grid, aligned
from delineate.labels import Label, LabelSet
from delineate.reports.error_pictures import error_slices
from delineate.reports.evaluation_figures import counted, worst_first
from delineate.reports.evaluation_pages import MOST_WORST, render_evaluation
from delineate.reports.score_parts import LabelsRecord
from delineate.reports.score_records import CaseRecord, FilesRecord, ScoresRecord, parse_scores
from delineate.volume import Kind, Volume, reorient
from delineate.workflow.naming import regions_of
from delineate.workflow.pairing import Pair
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.results import ResultRecord
from delineate.workflow.scoring import ScoreOptions, read_reference, usable_prediction

SCORES, PAGE = "scores.json", "report.html"
_PICTURES_BYTES = 1_900_000  # so that a page stays below 5 MB, with base64's third more, and its charts


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The page that was written, and how many of the worst cases have a picture. `remark`: why others have none."""

    html: Path
    pictures: int
    remark: str = ""


def report_evaluation(scores: Path, output: Path | None = None, *, watch: Watch = nobody) -> EvaluationReport:
    """Write a page from a scores.json, or a folder with one, without scoring anew; report.html beside it by default.

    A worst case whose files are not where they were has no picture. Raises `InputError` if there are no scores that can
    be read.
    """
    path = scores / SCORES if scores.is_dir() else scores
    if not path.is_file():
        raise InputError(
            "there are no scores", path=path, remedy="Name a folder that `delineate evaluate` wrote scores.json into."
        )
    record = parse_scores(path.read_bytes(), path)
    target = output or path.with_name(PAGE)
    check_writable(target.parent)
    pictures, remark = _pictures(record, watch)
    write_text(target, render_evaluation(record, path.parent.resolve().name, pictures, remark))
    return EvaluationReport(target, len(pictures), remark)


def _pictures(record: ScoresRecord, watch: Watch) -> tuple[dict[str, bytes], str]:
    """Pictures of the worst cases that have a prediction, and a sentence on those that have none."""
    worst = [case_id for case_id, case in worst_first(record)[:MOST_WORST] if not case.failed]
    drawn: dict[str, bytes] = {}
    lacking: dict[str, list[str]] = {}
    for done, case_id in enumerate(worst, start=1):
        if sum(map(len, drawn.values())) > _PICTURES_BYTES:
            return drawn, f"{len(worst) - len(drawn)} of them have no picture here, to keep the page small."
        try:
            drawn[case_id] = _picture(record, case_id)
        except (DelineateError, OSError) as error:
            lacking.setdefault(_why(record.files.get(case_id), error), []).append(case_id)
        watch("Drawing the worst cases", done, len(worst), case_id)
    return drawn, " ".join(f"No picture of {', '.join(cases)}: {why}" for why, cases in lacking.items())


def _why(files: FilesRecord | None, error: Exception) -> str:
    paths = [] if files is None else [path for path in (files.reference, files.prediction) if path is not None]
    if paths and all(Path(path).is_file() for path in paths):
        return str(error)
    return "the files are not where they were when they were scored."


def _picture(record: ScoresRecord, case_id: str) -> bytes:
    files = record.files.get(case_id, FilesRecord())
    if record.labels is None or files.reference is None or files.prediction is None:
        raise InputError("the scores do not say where a case's files are", case=case_id)
    regions = _regions(record.labels)
    labels = LabelSet(
        tuple(Label(one.value, name, one.colour) for name, one in record.labels.structures.items()),
        overlaps=record.labels.overlaps,
        regions=() if regions is None else regions_of(regions),
        ignore=record.labels.ignore,
    )
    pair = Pair(case_id, Path(files.reference), Path(files.prediction))
    reference = read_reference(pair, labels, regions)
    if reference.labels.names != labels.names:
        raise InputError(
            "the scores do not say which values are which structure, and the prediction does not know all of them",
            expected=list(labels.names),
            got=list(reference.labels.names),
            case=case_id,
            remedy="Evaluate again.",
        )
    options = ScoreOptions({}, resample=record.provenance.resampled)
    prediction, _ = usable_prediction(pair, labels, reference, options)
    image = _image(files, record.provenance.kind, reference.grid)
    return error_slices(image, reference, prediction, _worst_structure(record.cases[case_id]))


def _regions(labels: LabelsRecord) -> ResultRecord | None:
    """What values structures consist of, as it was when they were scored; None where that is not known or needed."""
    known = {name: list(one.consists_of) for name, one in labels.structures.items() if one.consists_of}
    if not labels.overlaps or len(known) < len(labels.structures):
        return None
    values = {name: one.value for name, one in labels.structures.items()}
    return ResultRecord(case="", labels=values, volumes_ml={}, model="", series_uid=None, seconds=0, regions=known)


def _image(files: FilesRecord, kind: str, grid: Grid) -> Volume | None:
    """The scan on the reference's grid; None where it cannot be read, or lies elsewhere."""
    if files.image is None:
        return None
    measures = next((one for one in Kind if one.value == kind), Kind.OTHER)
    with suppress(DelineateError, OSError):
        found = formats.read_volume(Path(files.image), kind=measures)
        turned = found if aligned(grid, found.grid) else reorient(found, grid.orientation)
        return replace(turned, grid=grid) if aligned(grid, turned.grid) else None
    return None


def _worst_structure(case: CaseRecord) -> str:
    """The structure with the lowest Dice; of several, the one with the largest volume."""
    found = [
        (counted(values, "dice"), -float(values.get("reference_ml") or 0), name)
        for name, values in case.structures.items()
        if values.get("status") != "absent"
    ]
    return min(found)[2] if found else ""
