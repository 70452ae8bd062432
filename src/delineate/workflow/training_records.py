"""What a run leaves on the disk while it goes on: history, curves, TensorBoard's file, the best model, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from safetensors import SafetensorError

from delineate import training
from delineate.errors import ResourceError
from delineate.files import write_bytes
from delineate.model import Model, Provenance, load_model, save_model, versions
from delineate.planning import labels_found
from delineate.reports.charts.learning import learning_curves, learning_curves_figure
from delineate.sampling import make_batch
from delineate.training import TrainingState
from delineate.workflow.progress import Watch
from delineate.workflow.run_records import environment, populations
from delineate.workflow.training_run import Run

_DRAWING_SHARE = 0.02  # of the time, at most, for curves that are drawn again
_FAILURES = (OSError, ResourceError, SafetensorError)


class Records:
    """A run's files. What cannot be written now, because the disk is full, say, is said and tried again later.

    `run`, `state`: what is written down. `watch` is told what could not be written. Of processes that train together
    only the one that leads writes.
    """

    def __init__(self, run: Run, state: TrainingState, watch: Watch) -> None:
        self.run = run
        self._state, self._watch = state, watch
        self._board = _Board(run.folder.folder / "tensorboard", state.facts.step, run.plan.labels)
        self._unsaved: Model | None = None  # the best model, where it could not be written
        self._drawn, self._drawing_seconds = 0.0, 0.0
        self._saving_seconds = 0.0
        self.saved = time.monotonic()

    @property
    def closing_seconds(self) -> float | None:
        """What it takes to save and draw at the end; None if neither was ever done."""
        return self._saving_seconds + self._drawing_seconds or None

    def add(self, dice: tuple[float | None, ...] | None) -> str:
        """A row of history, and the model if it is the best so far; gives the row in a few words."""
        state = self._state
        row = training.record(state, self.run.plan, len(self.run.training), dice)
        if dice is not None and state.facts.best_step == state.facts.step:
            self._unsaved = self._model()
            self.attempt("the best model", self._save_best)
        self.attempt("TensorBoard's file", lambda: self._board.add(row))
        self.attempt("history.csv", lambda: self.run.folder.write_history(state.facts, self.run.plan.labels))
        if dice is not None and time.monotonic() - self._drawn >= self._drawing_seconds / _DRAWING_SHARE:
            self.attempt("curves.png", self._draw)
        loss = "" if row.loss is None else f"loss {row.loss:.3f}"
        best = state.facts.best_dice
        return loss if best is None else f"{loss}, best Dice {best:.3f}"

    def refused(self) -> None:
        """Write down the batches whose steps were not taken, and say what was done about them."""
        state = self._state
        for refusal in state.refusals if state.group.leads else ():
            self.attempt("the batch", partial(self.run.folder.save_refusal, self._whole(refusal)))
            incident = refusal.incident
            self._watch(
                f"Step {incident.step}",
                1,
                1,
                f"{incident.what} ({', '.join(incident.cases)}): on with the weights of step {incident.back_to} and "
                f"{state.facts.rate_factor:.3g} of the learning rate; the batch is in training/incidents",
            )
        state.refusals.clear()

    def _whole(self, refusal: training.Refusal) -> training.Refusal:
        """With the shares of the other processes."""
        if self._state.group.size == 1:
            return refusal
        step = refusal.incident.step
        made_by = training.plan_before(self.run.plan, self._state.facts, step)
        return replace(refusal, batch=make_batch(self.run.training, made_by, step))

    def save(self) -> None:
        """Save the run, so that it can go on from here; if that fails, the checkpoint before stays."""
        began = self.saved = time.monotonic()
        if self.attempt("the checkpoint", self._save):
            self._saving_seconds = time.monotonic() - began

    def close(self) -> Model | None:
        """Save the run for the last time; the model if the run is at its end.

        In processes that do not lead, which write nothing, it has the last weights. Raises `ResourceError` if the disk
        does not take it: the last checkpoint is still there.
        """
        self.attempt("TensorBoard's file", self._board.close)
        state = self._state
        ended = state.facts.step >= state.facts.last_step
        if not state.group.leads:
            return self._model() if ended else None
        try:
            if ended and state.facts.best_step is None:
                self._unsaved = self._model()
            self._save()
        except _FAILURES as error:
            raise ResourceError(
                f"the run cannot be saved at step {state.facts.step}",
                got=str(error).rstrip("."),
                path=self.run.folder.folder,
                remedy="Free some space and run the same command: it goes on from the last checkpoint.",
            ) from error
        self.attempt("curves.png", self._draw)
        return load_model(self.run.folder.model) if ended else None

    def attempt(self, what: str, work: Callable[[], object]) -> bool:
        """Write something that the run can do without; whether it could be written, which is said if not."""
        if not self._state.group.leads:
            return True
        try:
            work()
        except _FAILURES as error:
            reason = error.problem if isinstance(error, ResourceError) else str(error)
            self._watch("Not written", 1, 1, f"{what} at step {self._state.facts.step}: {reason}; tried again later")
            return False
        return True

    def _save(self) -> None:
        # The checkpoint says which step was the best: its model comes first.
        self._save_best()
        self.run.folder.save_state(self._state)

    def _save_best(self) -> None:
        if self._unsaved is not None:
            save_model(self.run.folder.model, self._unsaved)
            self._unsaved = None

    def _draw(self) -> None:
        facts, began = self._state.facts, time.monotonic()
        if facts.history:
            curves = learning_curves(facts.history, self.run.plan.labels, best_step=facts.best_step)
            drawing = learning_curves_figure(curves, title=self.run.dataset.name)
            write_bytes(self.run.folder.folder / "curves.png", drawing)
        self._drawn = time.monotonic()
        self._drawing_seconds = self._drawn - began

    def _model(self) -> Model:
        run, facts = self.run, self._state.facts
        own, torch_version = versions()
        provenance = Provenance(
            dataset=run.dataset.name,
            dataset_digest=run.split.dataset_digest,
            training_cases=run.split.training,
            validation_cases=run.split.validation,
            held_out_cases=run.split.held_out,
            step=facts.step,
            seconds=round(facts.seconds, 1),
            validation_dice=facts.best_dice,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            delineate=own,
            torch=torch_version,
            populations=populations(run.dataset, run.split),
            environment=environment(run.settings),
        )
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self._state.average.items()}
        return Model(weights, run.plan, labels_found(run.plan, run.dataset.labels), provenance)


class _Board:
    """TensorBoard's file of a run; opened when the first row is written, because the import takes seconds."""

    def __init__(self, folder: Path, step: int, labels: Sequence[str]) -> None:
        self._folder, self._step, self._labels = folder, step, labels
        self._writer: object | None = None

    def add(self, row: training.HistoryRow) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=self._step + 1)
        writer = self._writer
        assert isinstance(writer, SummaryWriter)
        values = {"loss": row.loss, "learning_rate": row.learning_rate}
        dice = zip(self._labels, row.validation_dice or (), strict=False)
        values |= {f"validation_dice/{name}": value for name, value in dice}
        for name, value in values.items():
            if value is not None:
                writer.add_scalar(name, value, row.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()  # type: ignore[attr-defined]
