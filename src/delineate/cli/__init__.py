"""The command line: `delineate COMMAND`. It reads options, shows progress and results, and decides nothing."""

from __future__ import annotations

import click

from delineate.cli import (
    agreement,
    comparing,
    dicom,
    engines,
    evaluating,
    experimenting,
    leakage,
    learning,
    measuring,
    models,
    pictures,
    predicting,
    recipes,
    reporting,
    reviewed,
    reviewing,
    transferring,
    tuning,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="delineate")
def main() -> None:
    """Segment 3D medical scans: from DICOM or NIfTI to a trained model, and back to results in the scan's geometry.

    \b
    delineate scan     ARCHIVE                    what does a tree of DICOM hold?
    delineate import   ARCHIVE DATASET            make a dataset of it
    delineate check    DATASET                    is the dataset sound?
    delineate leakage  TRAINING TEST              was what is tested on seen in training?
    delineate train    DATASET MODEL --minutes 20 train a model
    delineate tune     DATASET FOLDER --trials 30 search for a plan that trains to a better model
    delineate recipes                             how tutorials and papers train, ready to use
    delineate experiment DATASET FOLDER       cross-validate all configurations, pack the best
    delineate join     FOLD_0 FOLD_1 MODEL    one model of folds trained one by one
    delineate ledger   FOLDER...              what experiments reached, and what it took
    delineate pretrain DATASET MODEL              learn from scans that nobody has drawn on
    delineate distil   TEACHER DATASET STUDENT    make a small, fast model of a large one
    delineate predict  MODEL SCANS RESULTS        segment scans
    delineate export   RESULT SERIES FOLDER       as DICOM SEG, RTSTRUCT, surfaces
    delineate measure  RESULT --image SCAN        volumes, lesions, distances, what a resection leaves
    delineate evaluate REFERENCES RESULTS         score them
    delineate compare  REFERENCES A B -o FOLDER   which of two models is better, and is that chance?
    delineate agreement READER_A READER_B ...     how far do readers differ, and where is a model among them?
    delineate report   dataset DATASET -o X.html  a page about a dataset, training, case, evaluation
    delineate card     MODEL -o FOLDER            a model card and a data sheet
    delineate film     SCAN RESULT OUT.gif        the slices, or the structures turning
    delineate contact-sheet DATASET OUT.png       all cases on a picture
    delineate review   WORKSPACE                  look, correct, approve, in the browser
    delineate review-export WORKSPACE -o FOLDER   what people approved, with who signed it
    delineate dataset add DATASET --reviewed WORKSPACE   and train on what they corrected

    \b
    delineate import-model NNUNET MODEL           take over what nnU-Net trained
    delineate export-model MODEL FOLDER --to onnx for other systems
    """


for command in (
    learning.demo,
    learning.phantom,
    dicom.import_,
    dicom.scan,
    dicom.convert,
    dicom.group,
    dicom.ungroup,
    dicom.deidentify,
    learning.check,
    leakage.leakage,
    learning.plan,
    learning.train,
    tuning.tune,
    experimenting.experiment,
    experimenting.join,
    experimenting.ledger,
    transferring.pretrain,
    transferring.distil,
    recipes.recipes,
    predicting.predict,
    engines.engines,
    dicom.export,
    measuring.measure,
    evaluating.evaluate,
    comparing.compare,
    agreement.agreement,
    reporting.report,
    reporting.card,
    pictures.film,
    pictures.contact_sheet,
    models.import_model,
    models.export_model,
    reviewing.review,
    reviewing.review_people,
    reviewing.review_audit,
    reviewed.review_export,
    reviewed.dataset,
    reviewed.review_suggest,
    reviewed.review_readers,
):
    main.add_command(command)
