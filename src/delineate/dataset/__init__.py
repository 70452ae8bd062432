"""Datasets: which files belong to which case and patient. Paths, no voxels.

`cases` has the types, `layouts` the folders and tables they are read from, `readers` further readers' references,
`regions` labels that are united, `splits` who trains and who validates, `integrity` what can be wrong with them.
"""

from delineate.dataset.cases import Case, Dataset, channel_kind, digest, fingerprint_file
from delineate.dataset.integrity import Problem, Severity, check_case, check_files, check_reference, problem_of
from delineate.dataset.layouts import from_csv, from_pairs, open_dataset, put_cases, read_labels, write_dataset_json
from delineate.dataset.regions import unite_labels
from delineate.dataset.splits import (
    Split,
    check_split,
    hold_out_last,
    k_folds,
    split_from_json,
    split_to_json,
    train_on_all,
)

__all__ = [
    "Case",
    "Dataset",
    "Problem",
    "Severity",
    "Split",
    "channel_kind",
    "check_case",
    "check_files",
    "check_reference",
    "check_split",
    "digest",
    "fingerprint_file",
    "from_csv",
    "from_pairs",
    "hold_out_last",
    "k_folds",
    "open_dataset",
    "problem_of",
    "put_cases",
    "read_labels",
    "split_from_json",
    "split_to_json",
    "train_on_all",
    "unite_labels",
    "write_dataset_json",
]
