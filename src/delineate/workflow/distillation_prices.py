"""What a student costs in Dice, and what it gains in time and size, beside its teacher on the same cases."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.dataset import Case, Dataset
from delineate.engines import EngineChoice
from delineate.engines.torch_engine import torch_precisions
from delineate.errors import ModelError
from delineate.evaluation.intervals import bootstrap_means
from delineate.files import write_text
from delineate.inference import Runners, open_stage_runners, segment
from delineate.model import Model
from delineate.planning.adopting import NO_NAMES, match_plans
from delineate.settings import Settings
from delineate.volume import Segmentation, Volume
from delineate.workflow.progress import Watch
from delineate.workflow.structures import read_case
from delineate.workspace import RunFolder

FILE = "distillation.json"
_SEED = 0  # of the bootstrap

Table = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class CasePrice(msgspec.Struct, frozen=True, kw_only=True):
    """One case: Dice of each structure, None where neither the reference nor the model has it; seconds of a scan."""

    case: str
    patient: str
    teacher_dice: tuple[float | None, ...]
    student_dice: tuple[float | None, ...]
    teacher_seconds: float
    student_seconds: float


class PriceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Teacher and student on the same cases. Sizes in numbers (weights) and megabytes of all folds."""

    teacher: str
    student: str
    structures: tuple[str, ...]
    cases: tuple[CasePrice, ...]
    how: str
    device: str
    threads: int
    teacher_weights: int
    student_weights: int
    teacher_mb: float
    student_mb: float


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One structure: mean Dice over the cases that count for both, the difference, and its 95 % interval."""

    structure: str
    cases: int
    teacher: float
    student: float
    difference: float
    interval: tuple[float, float]


def weigh(
    teacher: Model,
    student: Model,
    cases: Sequence[Case],
    dataset: Dataset,
    folder: Path,
    *,
    settings: Settings,
    how: str,
    watch: Watch,
) -> PriceRecord:
    """Segment cases with both models, one after the other on each, and write what was found into the student's folder.

    Each model's runners are opened once, before any time is taken.
    """
    runners = [_runners(model, settings) for model in (teacher, student)]
    prices = []
    for done, case in enumerate(cases, start=1):
        image, reference = read_case(case, dataset.labels, dataset.kinds)
        assert reference is not None
        if done == 1:  # the first scan also warms the processor's caches and the device up
            segment(student, image, runners=runners[1])
        prices.append(_price(case, image, reference, (teacher, student), runners))
        watch("Weighing", done, len(cases), case.id)
    record = PriceRecord(
        teacher=teacher.digest,
        student=student.digest,
        structures=student.plan.labels,
        cases=tuple(prices),
        how=how,
        device=settings.device,
        threads=settings.threads,
        teacher_weights=_weights(teacher),
        student_weights=_weights(student),
        teacher_mb=_megabytes(teacher),
        student_mb=_megabytes(student),
    )
    path = RunFolder(folder).folder / FILE
    write_text(path, msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n")
    return record


def _runners(model: Model, settings: Settings) -> Runners:
    precision = model.plan.training.precision
    known = precision if precision in torch_precisions(settings.device) else "float32"
    return open_stage_runners(model, EngineChoice(precision=known, device=settings.device))


def _price(
    case: Case, image: Volume, reference: Segmentation, models: tuple[Model, Model], runners: Sequence[Runners]
) -> CasePrice:
    names = models[1].plan.labels
    unknown = models[1].plan.training.missing_labels == "unknown"
    dice, seconds = [], []
    for own, model, opened in zip(_own_names(*models), models, runners, strict=True):
        began = time.perf_counter()
        found = segment(model, image, runners=opened).segmentation
        seconds.append(time.perf_counter() - began)
        pairs = zip(names, own, strict=True)
        dice.append(tuple(_dice(found.mask(theirs), reference, name, unknown=unknown) for name, theirs in pairs))
    return CasePrice(
        case=case.id,
        patient=case.patient_id,
        teacher_dice=dice[0],
        student_dice=dice[1],
        teacher_seconds=seconds[0],
        student_seconds=seconds[1],
    )


def _own_names(teacher: Model, student: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What each of the two calls the student's structures."""
    how = student.plan.training.distillation
    outputs = match_plans(teacher.plan, student.plan, NO_NAMES if how is None else how.names).outputs
    first = 0 if student.plan.regions else 1  # background
    theirs = tuple(teacher.plan.labels[n - first] for n in outputs[first:] if n is not None)
    return theirs, student.plan.labels


def _dice(found: Mask, reference: Segmentation, name: str, *, unknown: bool) -> float | None:
    drawn = reference.mask(name)
    if reference.ignored is not None:
        found, drawn = found[~reference.ignored], drawn[~reference.ignored]
    size = int(found.sum()) + int(drawn.sum())
    if size == 0 or (unknown and not drawn.any()):
        return None
    return 2 * int((found & drawn).sum()) / size


def _weights(model: Model) -> int:
    return sum(tensor.numel() for fold in model.folds for tensor in fold.values())


def _megabytes(model: Model) -> float:
    return sum(tensor.numel() * tensor.element_size() for fold in model.folds for tensor in fold.values()) / 1e6


def read_prices(folder: Path) -> PriceRecord | None:
    """What was found of the student in a model folder; None if nothing was. Raises `ModelError` for a damaged file."""
    path = RunFolder(folder).folder / FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=PriceRecord)
    except msgspec.DecodeError as error:
        raise ModelError(
            "the student's prices cannot be read", got=str(error), path=path, remedy="Remove it."
        ) from error


def price_rows(record: PriceRecord) -> tuple[PriceRow, ...]:
    """A row a structure, and with several a last one of their mean; none for no cases.

    A case counts where both models have a Dice. The interval is a bootstrap of paired differences over patients; NaN
    for fewer than two.
    """
    if not record.cases:
        return ()
    teacher, student = (
        np.array([[math.nan if value is None else value for value in row] for row in rows], dtype=np.float64)
        for rows in ([c.teacher_dice for c in record.cases], [c.student_dice for c in record.cases])
    )
    both = np.isfinite(teacher) & np.isfinite(student)
    teacher, student = (np.where(both, table, math.nan) for table in (teacher, student))
    limits = bootstrap_means(
        (student - teacher)[:, :, None], [case.patient for case in record.cases], np.random.default_rng(_SEED)
    )
    rows = [
        _row(name, teacher[:, n], student[:, n], limits.of_columns[n, 0]) for n, name in enumerate(record.structures)
    ]
    if len(rows) > 1:
        rows.append(_mean_row(rows, len(record.cases), limits.of_means[0]))
    return tuple(rows)


def _row(name: str, teacher: Table, student: Table, limits: Table) -> PriceRow:
    known = np.isfinite(teacher)
    means = [float(values[known].mean()) if known.any() else math.nan for values in (teacher, student)]
    return PriceRow(
        structure=name,
        cases=int(known.sum()),
        teacher=means[0],
        student=means[1],
        difference=means[1] - means[0],
        interval=(float(limits[0]), float(limits[1])),
    )


def _mean_row(rows: Sequence[PriceRow], cases: int, limits: Table) -> PriceRow:
    teacher, student = (
        float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
        for values in ([row.teacher for row in rows], [row.student for row in rows])
    )
    return PriceRow(
        structure="mean",
        cases=cases,
        teacher=teacher,
        student=student,
        difference=student - teacher,
        interval=(float(limits[0]), float(limits[1])),
    )


def median_seconds(record: PriceRecord) -> tuple[float, float]:
    """Of a scan, the teacher's and the student's, from a read image to a segmentation; NaN for no cases."""
    if not record.cases:
        return math.nan, math.nan
    teacher, student = ([c.teacher_seconds for c in record.cases], [c.student_seconds for c in record.cases])
    return float(np.median(teacher)), float(np.median(student))


def price_words(record: PriceRecord) -> tuple[str, ...]:
    """What a student gains, in sentences."""
    large, small = record.teacher_weights, record.student_weights
    size = f"{small:,} weights instead of {large:,} ({record.student_mb:.1f} MB instead of {record.teacher_mb:.1f} MB)"
    if not record.cases:
        return (f"Nothing was scored: {record.how}", size)
    slow, fast = median_seconds(record)
    threads = f"{record.threads} thread{'s' if record.threads > 1 else ''}"
    where = f"{record.device}, {threads}" if record.device == "cpu" else record.device
    return (f"{fast:.2f} s a scan instead of {slow:.2f} s ({where}): {slow / fast:.1f} times as fast", size)
