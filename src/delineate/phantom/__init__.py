"""Synthetic anatomy with an exact reference, for the demo, recipes, tests and benchmarks.

Nothing here is a model of physiology: the shapes are plausible, the intensities typical, and the difficulties are
those of real scans in kind: noise and contrast differ from scanner to scanner and from phase to phase, organs and
bowel share their intensities, edges are blurred by voxels, and patients do not lie straight.
"""

from delineate.phantom.acquisition import SCANNERS, Scanner
from delineate.phantom.kinds import KINDS, SyntheticKind, make_synthetic
from delineate.phantom.magnets import MAGNETS
from delineate.phantom.mr import MR_LABELS, make_mr_patient
from delineate.phantom.patient import PATIENT_LABELS, SyntheticPatient, make_cohort, make_patient
from delineate.phantom.tissues import PHASES

__all__ = [
    "KINDS",
    "MAGNETS",
    "MR_LABELS",
    "PATIENT_LABELS",
    "PHASES",
    "SCANNERS",
    "Scanner",
    "SyntheticKind",
    "SyntheticPatient",
    "make_cohort",
    "make_mr_patient",
    "make_patient",
    "make_synthetic",
]
