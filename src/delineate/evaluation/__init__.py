"""Scores of a dataset: cases scored by the names of their structures, then summed up with intervals.

`cases` scores one case and says what each figure counts as, `details` adds lesions, centre lines and shapes,
`summaries` sums up, `intervals` draws patients, `confusions` counts what was taken for what, `errors` says where errors
lie and `worst` what may be behind them, `output` makes JSON and tables of it. Import the other modules by name.
"""

from delineate.evaluation.cases import CaseScores, counted, figures_of, mean_of_case, score_case, score_failure
from delineate.evaluation.confusions import SideConfusion, confusion, left_right_confusion, side_confusions
from delineate.evaluation.details import Details, with_details
from delineate.evaluation.output import csv_rows, to_json, worst_json
from delineate.evaluation.summaries import Evaluation, StructureSummary, Summary, summarise

__all__ = [
    "CaseScores",
    "Details",
    "Evaluation",
    "SideConfusion",
    "StructureSummary",
    "Summary",
    "confusion",
    "counted",
    "csv_rows",
    "figures_of",
    "left_right_confusion",
    "mean_of_case",
    "score_case",
    "score_failure",
    "side_confusions",
    "summarise",
    "to_json",
    "with_details",
    "worst_json",
]
