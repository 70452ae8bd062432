"""The worst cases of an evaluation, read once more to see where their errors lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delineate.evaluation import CaseScores, Evaluation
from delineate.evaluation.cases import mean_of_case
from delineate.evaluation.errors import locate_errors
from delineate.evaluation.worst import DICE, WorstCase, explain, worst_first
from delineate.settings import Settings
from delineate.workflow.naming import Names
from delineate.workflow.pairing import Pair
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.scoring import (
    ScoreOptions,
    cases_at_once,
    read_reference,
    usable_prediction,
    work_through,
)


@dataclass(frozen=True, slots=True)
class Examination:
    """What is needed to look at cases once more: their files, names and options as they were scored."""

    pairs: Mapping[str, Pair]
    names: Names
    options: ScoreOptions

    def examine(self, case: CaseScores, *, threads: int) -> WorstCase:
        """Where a case's errors lie, and why; raises as the reading of its files, which went well before."""
        mean_dice = mean_of_case(case, DICE)
        if case.failed:
            return WorstCase(case, mean_dice, {}, explain(case, {}, self.names.labels))
        pair = self.pairs[case.case_id]
        reference = read_reference(pair, self.names.labels, self.names.regions)
        prediction, _ = usable_prediction(pair, self.names.labels, reference, self.options)
        errors = locate_errors(reference, prediction, case.tolerance_mm, threads=threads)
        return WorstCase(case, mean_dice, errors, explain(case, errors, self.names.labels))


def examine_worst(
    evaluation: Evaluation, examination: Examination, *, most: int, settings: Settings, watch: Watch = nobody
) -> tuple[WorstCase, ...]:
    """The worst cases, at most so many, the worst first."""
    worst = {case.case_id: case for case in worst_first(evaluation)[:most]}
    pairs: Sequence[Pair] = [examination.pairs[case_id] for case_id in worst]
    if not pairs:
        return ()
    at_once = cases_at_once(pairs, settings)
    threads = max(1, settings.threads // at_once)

    def examine(pair: Pair) -> WorstCase:
        return examination.examine(worst[pair.case], threads=threads)

    return work_through(examine, pairs, at_once=at_once, stage="Looking at the worst cases", watch=watch)
