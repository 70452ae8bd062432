"""What an experiment keeps on disk. All that is known of how far it has come is read from there.

FOLDER/experiment.json         what was begun: folds, cases set aside, configurations
FOLDER/plans/NAME.json         a plan of each configuration
FOLDER/runs/NAME/fold_N/       a training run, see `RunFolder`
FOLDER/stages/NAME/            its masks that a cascade's second stage is trained with, out of fold
FOLDER/predictions/NAME/       out-of-fold results of each candidate, as `delineate predict` writes them
FOLDER/scores/CASE.json        their scores, and which models made them; written when the results are there
FOLDER/model/                  the model that was chosen
FOLDER/experiment.html, choice.json, candidates.csv, ledger.jsonl
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from delineate.errors import InputError, ModelError
from delineate.files import write_text
from delineate.planning import Plan, PlanOptions, plan_from_json, plan_to_json
from delineate.workflow.experiment_records import CaseRecord
from delineate.workspace import RunFolder

SETUP_FILE = "experiment.json"


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same in an experiment, whenever it goes on.

    `test`: cases that were set aside before everything, at least as many as were asked for; `folds`: the cases that
    each validates, by patient.
    `configurations`: names of the plans, in the order in which they are trained.
    """

    schema_version: int = 1
    dataset: str
    dataset_digest: str
    test: tuple[str, ...]
    test_asked: int
    folds: tuple[tuple[str, ...], ...]
    configurations: tuple[str, ...]
    ensembles: bool
    tolerance_mm: float
    how: str
    created: str
    planning_seconds: float = 0.0
    planning: PlanOptions | None = None  # None in folders of older versions

    @property
    def cases(self) -> tuple[str, ...]:
        """All that train and validate, in the folds' order."""
        return tuple(case for fold in self.folds for case in fold)

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """(configuration, fold), in the order in which they are trained: a fold is complete before the next begins."""
        return tuple((name, fold) for fold in range(len(self.folds)) for name in self.configurations)


@dataclass(frozen=True, slots=True)
class ExperimentFolder:
    """The folder of one experiment."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def page(self) -> Path:
        return self.path / "experiment.html"

    def parts(self) -> tuple[Path, ...]:
        """Every folder in which files are written one by one, and a killed process may leave half of one."""
        return (self.path, *(part for part in self.path.rglob("*") if part.is_dir()))

    def begin(self, setup: Setup, plans: Mapping[str, Plan]) -> None:
        """Write down what will be done; experiment.json last: with it the experiment has begun."""
        for name, plan in plans.items():
            write_text(self.path / "plans" / f"{name}.json", plan_to_json(plan))
        write_text(self.path / SETUP_FILE, _pretty(setup))

    def setup(self) -> Setup | None:
        """What was begun; None if nothing was. Raises `InputError` for a file that cannot be read."""
        path = self.path / SETUP_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Setup)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise InputError("not an experiment", got=str(error), path=path, remedy="Choose another folder.") from error

    def plan(self, name: str) -> Plan:
        """Raises `ModelError` if it is gone, `PlanError` if it cannot be read."""
        path = self.path / "plans" / f"{name}.json"
        try:
            return plan_from_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ModelError("a plan of the experiment is gone", path=path, remedy="Begin it anew.") from error

    def run(self, name: str, fold: int) -> RunFolder:
        return RunFolder(self.path / "runs" / name / f"fold_{fold}")

    def prediction(self, candidate: str, case_id: str) -> Path:
        return self.path / "predictions" / candidate / f"{case_id}.nii.gz"

    def stage(self, name: str, case_id: str) -> Path:
        return self.path / "stages" / name / f"{case_id}.nii.gz"

    def record(self, case_id: str) -> CaseRecord | None:
        """The scores of a case; None if there are none that can be read: then they are to be made."""
        with suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode(self._record_path(case_id).read_bytes(), type=CaseRecord)
        return None

    def save_record(self, record: CaseRecord) -> None:
        write_text(self._record_path(record.case), _pretty(record))

    def write_json(self, name: str, value: msgspec.Struct) -> Path:
        path = self.path / name
        write_text(path, _pretty(value))
        return path

    def _record_path(self, case_id: str) -> Path:
        return self.path / "scores" / f"{case_id}.json"


def _pretty(value: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"


def plan_digest(plan: Plan) -> str:
    """Twelve digits that stand for a plan."""
    return hashlib.sha256(plan_to_json(plan).encode()).hexdigest()[:12]
