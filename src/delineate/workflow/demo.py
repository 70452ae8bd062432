"""`delineate demo`: the whole way on synthetic patients, with the same functions that real data go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from delineate import formats
from delineate.dataset import Case, Dataset, Problem, open_dataset, read_labels, write_dataset_json
from delineate.errors import DatasetError
from delineate.formats.dicom_results.rtstruct_writing import write_rtstruct
from delineate.phantom import PATIENT_LABELS, make_patient
from delineate.planning import PlanOptions
from delineate.reports.figures import comparison_figure
from delineate.reports.pages import CasePanel, Page, describe_plan, write_index
from delineate.reports.score_tables import ScoreRow
from delineate.settings import Settings
from delineate.volume import align
from delineate.workflow import predicting
from delineate.workflow.checking import check
from delineate.workflow.evaluating import EvaluationOptions, EvaluationResult, evaluate
from delineate.workflow.evaluation_reports import EvaluationReport, report_evaluation
from delineate.workflow.exporting import files_of
from delineate.workflow.import_options import import_options
from delineate.workflow.import_records import read_import
from delineate.workflow.importing import import_tree, patients_of
from delineate.workflow.pairing import CaseChoice
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.proofs import read_proofs
from delineate.workflow.scanning import scan
from delineate.workflow.training import Budget, Division, train
from delineate.workspace import RunFolder

Made = TypeVar("Made")

EXPORTS = ("seg", "rtstruct", "sr", "glb")
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
    """A dataset of synthetic patients in nnU-Net's layout, and each as DICOM (`write_archive`) in `folder`/dicom.

    A patient whose files are there already is not made again.
    """
    cases = list(_in_processes(_write_case, folder, patients, seed, watch=watch))
    if with_dicom:
        write_archive(folder / "dicom", patients=patients, seed=seed, watch=watch)
    dataset = Dataset("Synthetic abdomen", ("CT",), PATIENT_LABELS, tuple(cases))
    write_dataset_json(folder, dataset)
    return dataset


def write_archive(folder: Path, *, patients: int, seed: int = 0, watch: Watch = nobody) -> tuple[str, ...]:
    """Synthetic patients as an archive has them, ID/CT/*.dcm and ID/structures.dcm; their IDs.

    A CT series and an RT structure set of its organs each. A patient whose files are there already is not made again.
    """
    return tuple(_in_processes(_write_dicom, folder, patients, seed, watch=watch))


def _in_processes(
    make: Callable[[Path, int], Made], folder: Path, patients: int, seed: int, *, watch: Watch
) -> Iterator[Made]:
    seeds = [SEED + seed + n for n in range(patients)]
    # Spawned, not forked: a fork of a process that has run threads may hang.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done, made in enumerate(pool.map(make, [folder] * patients, seeds), start=1):
            watch("Making patients", done, patients, "")
            yield made


def _write_case(folder: Path, seed: int) -> Case:
    patient = make_patient(seed)
    image = folder / "imagesTr" / f"{patient.id}_0000.nii.gz"
    reference = folder / "labelsTr" / f"{patient.id}.nii.gz"
    if not image.exists():
        formats.write_volume(image, patient.image)
    if not reference.exists():
        formats.write_segmentation(reference, patient.reference)
    groups = (("phase", patient.phase),)
    return Case(patient.id, patient.id, (image,), reference, site=patient.scanner, groups=groups)


def _write_dicom(folder: Path, seed: int) -> str:
    patient = make_patient(seed)
    series, structures = folder / patient.id / "CT", folder / patient.id / "structures.dcm"
    if not series.exists():
        formats.write_dicom_series(
            series,
            patient.image,
            patient_id=patient.id,
            patient_name=f"Synthetic^{patient.id}",
            description=f"{patient.phase} {patient.scanner}",
            seed=patient.id,
        )
    if not structures.exists():
        stack = formats.stack_at(series)
        write_rtstruct(structures, align(patient.reference, stack.grid), files_of(stack), seed=patient.id)
    return patient.id


def run_demo(
    folder: Path, *, patients: int, test: int, minutes: float, seed: int, settings: Settings, watch: Watch = nobody
) -> DemoResult:
    """From an archive of DICOM to results in DICOM.

    Make an archive, import and check it, plan and train, segment the held-out patients from their DICOM, export, score,
    and show it.
    """
    archive, cohort, model, results = (folder / name for name in ("archive", "cohort", "model", "results"))
    write_archive(archive, patients=patients, seed=seed, watch=watch)
    dataset = _imported(archive, cohort, settings, watch)
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
    options = predicting.PredictionOptions(exports=EXPORTS)
    for case_id in held_out:
        series = find_source(archive, cohort, case_id)
        run = predicting.predict(
            trained, series, results / f"{case_id}.nii.gz", settings=settings, options=options, watch=watch
        )
        for failure in run.failures:
            raise failure.error
    # Every held-out patient counts, also one without result.
    chosen = EvaluationOptions(choice=CaseChoice(held_out))
    scored = evaluate(cohort, results, output=folder, options=chosen, settings=settings, watch=watch)
    full = report_evaluation(scored.scores, folder / "evaluation.html", watch=watch)
    page = Page(
        title="Synthetic abdomen",
        summary=(
            f"{patients} synthetic patients were made as an archive of DICOM CT series with RT structure sets, and "
            f"imported as a dataset. A model was trained for {trained.provenance.seconds / 60:.0f} minutes on "
            f"{len(trained.provenance.training_cases)} of them, and the {len(held_out)} held-out ones were segmented "
            "from their DICOM files. Each result was exported as DICOM SEG, RT structure set, report and surfaces, "
            "read back, and compared with what was meant.",
        ),
        choices=describe_plan(trained.plan),
        curves=(model / "training" / "curves.png").read_bytes(),
        scores=scored.rows,
        scores_note=f"Measured on {len(held_out)} patients that neither training nor the choice of weights has seen.",
        scores_page=full.html.name,
        panels=tuple(_panels(cohort, results, held_out, scored)),
        provenance=(
            ("Model", trained.digest[:16]),
            ("Trained for", f"{trained.provenance.step:,} steps, {trained.provenance.seconds / 60:.1f} minutes"),
            ("Dataset", trained.provenance.dataset_digest[:16]),
            ("Made with", f"delineate {trained.provenance.delineate}, torch {trained.provenance.torch}"),
        ),
    )
    index = write_index(folder, page)
    return DemoResult(report.problems, scored.rows, _words(folder, index, full, scored))


def _imported(archive: Path, cohort: Path, settings: Settings, watch: Watch) -> Dataset:
    report = scan(archive, index=cohort.with_name("archive.sqlite"), settings=settings, watch=watch)
    if report.stopped:
        raise KeyboardInterrupt
    options = import_options(labels=PATIENT_LABELS.names)
    run = import_tree(patients_of(report), cohort, options, watch=watch)
    for failure in run.failures:
        raise failure.error
    if run.stopped or run.dataset is None:
        raise KeyboardInterrupt
    return open_dataset(cohort)


def find_source(archive: Path, cohort: Path, case_id: str) -> Path:
    """The folder of the series that a case was imported from. Raises `DatasetError` if it is not there."""
    record = read_import(cohort, case_id)
    for stack in formats.find_series(archive):
        if record is not None and stack.facts.series_uid == record.series[0]:
            return stack.files[0].parent
    raise DatasetError("the series of a case is not in the archive", case=case_id, path=archive)


def _panels(cohort: Path, results: Path, cases: tuple[str, ...], scored: EvaluationResult) -> Iterator[CasePanel]:
    labels = read_labels(cohort)
    for case_id in cases:
        volume = formats.read_volume(cohort / "imagesTr" / f"{case_id}_0000.nii.gz")
        reference = formats.read_segmentation(cohort / "labelsTr" / f"{case_id}.nii.gz", labels)
        prediction = formats.read_segmentation(results / f"{case_id}.nii.gz", labels)
        png = comparison_figure(volume, prediction, reference=reference)
        proofs = read_proofs(results / case_id)
        exports = tuple((proof.format, f"{results.name}/{proof.file}") for proof in proofs)
        yield CasePanel(case_id, png, dice=scored.case_dice[case_id], exports=exports)


def _words(folder: Path, index: Path, full: EvaluationReport, scored: EvaluationResult) -> str:
    dice = scored.evaluation.mean["dice"]
    return f"""
Mean Dice on held-out patients: {dice:.3f}

  {index}   the page with curves, pictures and scores
  {full.html}   the evaluation in full
  {scored.scores}   the scores
  {folder / "model"}   the model
  {folder / "results"}   the segmentations, and each as DICOM SEG, RTSTRUCT, SR and GLB with its proof
  {folder / "cohort"}   the dataset, imported from
  {folder / "archive"}   DICOM series with RT structure sets

Look at the results, correct and sign them in the browser:
  delineate review {folder}

On your own data:
  delineate import ARCHIVE DATASET --label liver
  delineate train DATASET MODEL --minutes 30
  delineate predict MODEL SCANS RESULTS --figures --export seg --export rtstruct"""
