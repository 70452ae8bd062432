"""`delineate demo`: the whole way on synthetic patients, with the same functions that real data go through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from delineate import formats
from delineate.dataset import Case, Dataset, Problem, open_dataset, write_dataset_json
from delineate.phantom import PATIENT_LABELS, SyntheticPatient, make_patient
from delineate.planning import PlanOptions
from delineate.reports.figures import comparison_figure
from delineate.reports.pages import CasePanel, Page, describe_plan, write_index
from delineate.reports.tables import ScoreRow
from delineate.settings import Settings
from delineate.workflow import predicting
from delineate.workflow.checking import check
from delineate.workflow.evaluating import EvaluationResult, evaluate
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.training import Budget, Division, train
from delineate.workspace import RunFolder

SEED = 1000  # the first patient's, when no other is given


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made: problems of the dataset, scores of the held-out patients, and where things lie, in words."""

    problems: tuple[Problem, ...]
    scores: tuple[ScoreRow, ...]
    words: str


def write_cohort(
    folder: Path, *, patients: int, seed: int = 0, with_dicom: bool = True, watch: Watch = nobody
) -> Dataset:
    """A dataset of synthetic patients in nnU-Net's layout, and each scan as a DICOM CT series in `folder`/dicom.

    A patient whose files are there already is not made again.
    """
    cases = []
    seeds = [SEED + seed + n for n in range(patients)]
    # Spawned, not forked: a fork of a process that has run threads may hang.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        made = pool.map(_write_patient, [folder] * patients, seeds, [with_dicom] * patients)
        for done, case in enumerate(made, start=1):
            cases.append(case)
            watch("Making patients", done, patients, case.id)
    dataset = Dataset("Synthetic abdomen", ("CT",), PATIENT_LABELS, tuple(cases))
    write_dataset_json(folder, dataset)
    return dataset


def _write_patient(folder: Path, seed: int, with_dicom: bool) -> Case:
    patient = make_patient(seed)
    image = folder / "imagesTr" / f"{patient.id}_0000.nii.gz"
    reference = folder / "labelsTr" / f"{patient.id}.nii.gz"
    series = folder / "dicom" / patient.id
    if not image.exists():
        formats.write_volume(image, patient.image)
    if not reference.exists():
        formats.write_segmentation(reference, patient.reference)
    if with_dicom and not series.exists():
        _write_series(series, patient)
    groups = (("phase", patient.phase),)
    return Case(patient.id, patient.id, (image,), reference, site=patient.scanner, groups=groups)


def _write_series(folder: Path, patient: SyntheticPatient) -> None:
    formats.write_dicom_series(
        folder,
        patient.image,
        patient_id=patient.id,
        patient_name=f"Synthetic^{patient.id}",
        description=f"{patient.phase} {patient.scanner}",
        seed=patient.id,
    )


def run_demo(
    folder: Path, *, patients: int, test: int, minutes: float, seed: int, settings: Settings, watch: Watch = nobody
) -> DemoResult:
    """Make a cohort, check it, plan and train, segment the held-out patients from their DICOM, score, and show it."""
    cohort, model, results = folder / "cohort", folder / "model", folder / "results"
    write_cohort(cohort, patients=patients, seed=seed, watch=watch)
    dataset = open_dataset(cohort)
    report = check(dataset, folder=cohort, previews=folder / "previews", settings=settings, watch=watch)
    trained = train(
        dataset,
        model,
        budget=Budget(minutes=minutes),
        division=Division(hold_out=2, test=test),
        settings=settings,
        # A coarse grid shows each patch most of a patient, a soft-tissue window what tells organs apart: the most Dice
        # for a few minutes.
        plan=PlanOptions(spacing_mm=(4.0, 4.0, 5.0), window=(-200, 300, -1, 1)),
        watch=watch,
    )
    if trained is None:
        raise KeyboardInterrupt
    held_out = RunFolder(model).split().held_out
    for case_id in held_out:
        predicting.predict(
            trained, cohort / "dicom" / case_id, results / f"{case_id}.nii.gz", settings=settings, watch=watch
        )
    scored = evaluate(cohort, results, output=folder, tolerance_mm=2.0, settings=settings, watch=watch)
    page = Page(
        title=dataset.name,
        summary=(
            f"{patients} synthetic patients were made as DICOM CT series; a model was trained for "
            f"{trained.provenance.seconds / 60:.0f} minutes on {len(trained.provenance.training_cases)} of them, and "
            f"the {len(held_out)} held-out ones were segmented from their DICOM files.",
        ),
        choices=describe_plan(trained.plan),
        curves=(model / "training" / "curves.png").read_bytes(),
        scores=scored.rows,
        scores_note=f"Measured on {len(held_out)} patients that neither training nor the choice of weights has seen.",
        panels=tuple(_panels(cohort, results, held_out, scored)),
        provenance=(
            ("Model", trained.digest[:16]),
            ("Trained for", f"{trained.provenance.step:,} steps, {trained.provenance.seconds / 60:.1f} minutes"),
            ("Dataset", trained.provenance.dataset_digest[:16]),
            ("Made with", f"delineate {trained.provenance.delineate}, torch {trained.provenance.torch}"),
        ),
    )
    index = write_index(folder, page)
    return DemoResult(report.problems, scored.rows, _words(folder, index, scored))


def _panels(cohort: Path, results: Path, cases: tuple[str, ...], scored: EvaluationResult) -> Iterator[CasePanel]:
    for case_id in cases:
        volume = formats.read_volume(cohort / "imagesTr" / f"{case_id}_0000.nii.gz")
        reference = formats.read_segmentation(cohort / "labelsTr" / f"{case_id}.nii.gz", PATIENT_LABELS)
        prediction = formats.read_segmentation(results / f"{case_id}.nii.gz", PATIENT_LABELS)
        png = comparison_figure(volume, prediction, reference=reference)
        yield CasePanel(case_id, png, dice=scored.case_dice[case_id])


def _words(folder: Path, index: Path, scored: EvaluationResult) -> str:
    dice = json.loads(scored.scores.read_text())["mean"]["dice"]
    return f"""
Mean Dice on held-out patients: {dice:.3f}

  {index}   the page with curves, pictures and scores
  {scored.scores}   the scores
  {folder / "model"}   the model
  {folder / "results"}   the segmentations
  {folder / "cohort"}   the dataset, and its DICOM series

On your own data:
  delineate check DATASET --previews previews
  delineate train DATASET MODEL --minutes 30
  delineate predict MODEL SCANS RESULTS --figures"""
