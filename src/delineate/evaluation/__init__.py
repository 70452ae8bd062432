"""Scores of a dataset: cases scored by the names of their structures, then summed up with intervals.

`cases` scores one case and says what each figure counts as, `summaries` sums up, `intervals` draws patients,
`confusions` counts what was taken for what, `output` makes JSON and tables of it. Import the other modules by name.
"""

from delineate.evaluation.cases import CaseScores, counted, mean_of_case, score_case, score_failure
from delineate.evaluation.confusions import SideConfusion, confusion, left_right_confusion, side_confusions
from delineate.evaluation.output import csv_rows, to_json
from delineate.evaluation.summaries import Evaluation, StructureSummary, Summary, summarise

__all__ = [
    "CaseScores",
    "Evaluation",
    "SideConfusion",
    "StructureSummary",
    "Summary",
    "confusion",
    "counted",
    "csv_rows",
    "left_right_confusion",
    "mean_of_case",
    "score_case",
    "score_failure",
    "side_confusions",
    "summarise",
    "to_json",
]
