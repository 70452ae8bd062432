"""`delineate train --promptable`: a network that segments what a person points at, from any dataset with references."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from delineate.dataset import Dataset, Split
from delineate.errors import DatasetError, ModelError, PlanError, TrainingError
from delineate.files import write_text
from delineate.geometry import Box, box_of, foreground_box
from delineate.inference import place
from delineate.inference.prompting import Mask, Prompts, Proposal, joined, propose
from delineate.model import Model, load_model
from delineate.planning import Plan, PlanOptions
from delineate.preprocessing import PreparedCase, prepare
from delineate.settings import Settings
from delineate.training.prompting import prompted, prompting_plan
from delineate.training.simulated_prompts import correction, first_prompts
from delineate.training.together import share_batch
from delineate.volume import Volume
from delineate.workflow.company import BY_ITSELF, Company
from delineate.workflow.preparing import plan_dataset
from delineate.workflow.progress import Watch, nobody
from delineate.workflow.structures import read_case
from delineate.workflow.training import Budget, Course, Division, divide, train
from delineate.workspace import RunFolder

RECORD = "prompting.json"
CLICKS = (1, 2, 3, 5)
_MARGIN = 24  # voxels about a structure in which mistakes are looked for
_SCORED = 12  # cases, at most


class PromptedDice(msgspec.Struct, frozen=True, kw_only=True):
    """Mean Dice of a structure over cases after so many prompts, as `CLICKS` counts them."""

    structure: str
    cases: int
    dice: tuple[float, ...]


class PromptingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How well a network does what a simulated person points at, in cases that it has not learnt from.

    `seconds`: median of one proposal, once the scan is prepared.
    """

    cases: tuple[str, ...]
    prompts: tuple[int, ...]
    structures: tuple[PromptedDice, ...]
    seconds: float | None


def train_promptable(
    dataset: Dataset,
    folder: Path,
    *,
    budget: Budget,
    division: Division,
    settings: Settings,
    plan: Plan | PlanOptions | None = None,
    watch: Watch = nobody,
    together: Company = BY_ITSELF,
) -> tuple[Model, PromptingRecord] | None:
    """Train, or go on with the run in `folder`, and measure it on the cases held out. None if it was stopped.

    The cases that validate otherwise are held out; nothing is chosen by them. `together`: as for `train`. Raises
    `TrainingError` if `folder` holds a run of another kind, `PlanError` for structures that overlap.
    """
    run = RunFolder(folder)

    def settle() -> tuple[Plan, Split]:
        if not run.exists:
            split = _held_out(dataset, division)
            made = _promptable(dataset, split, settings, plan, watch)
            return made if isinstance(plan, Plan) else share_batch(made, together.group), split
        if run.plan().prompting is None:
            raise TrainingError("the run in this folder takes no prompts", path=folder, remedy="Choose another folder.")
        return run.plan(), run.split()

    settled, split = together.settled("prompts", settle)
    model = train(
        dataset,
        folder,
        budget=budget,
        division=Division(given=split),
        settings=settings,
        plan=settled,
        course=Course(objective=prompted),
        watch=watch,
        together=together,
    )
    if model is None:
        return None

    def measure() -> PromptingRecord:
        scored = [name for name in split.held_out if dataset.case(name).reference is not None][:_SCORED]
        record = measure_prompted(model, dataset, scored, settings=settings, watch=watch)
        write_text(run.folder / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n")
        return record

    return model, together.told("prompted", measure, PromptingRecord)


def _held_out(dataset: Dataset, division: Division) -> Split:
    """As it would be divided otherwise, but nobody validates: whoever would is set aside, too."""
    split = divide(dataset, division)
    if not split.training:
        raise DatasetError("no case is left to learn from")
    how = f"{split.how}; validation cases are only scored at the end" if split.validation else split.how
    return replace(split, validation=(), held_out=(*split.validation, *split.held_out), how=how)


def _promptable(
    dataset: Dataset, split: Split, settings: Settings, plan: Plan | PlanOptions | None, watch: Watch
) -> Plan:
    if not isinstance(plan, Plan):
        seen = replace(dataset, cases=tuple(case for case in dataset.cases if case.id in split.training))
        plan = plan_dataset(seen, settings, plan, watch=watch)
    if plan.regions or plan.previous:
        raise PlanError(
            "structures that overlap cannot be learnt from prompts",
            expected="a label map",
            got=", ".join(plan.labels),
            remedy="Give a dataset whose structures exclude each other.",
        )
    return plan if plan.prompting is not None else prompting_plan(plan)


def measure_prompted(
    model: Model, dataset: Dataset, cases: Sequence[str], *, settings: Settings, watch: Watch = nobody
) -> PromptingRecord:
    """Point at each structure of these cases, and at the largest mistake again and again; on the scans' own grids."""
    prompter = Prompter(model, settings.device)
    rows: dict[str, list[list[float]]] = {name: [] for name in model.plan.labels}
    seconds: list[float] = []
    for done, name in enumerate(cases, start=1):
        image, reference = read_case(dataset.case(name), dataset.labels, dataset.kinds)
        assert reference is not None
        prepared = prompter.prepare(name, image)
        for structure in model.plan.labels:
            wanted = np.asarray(reference.mask(structure))
            if wanted.any():
                rng = np.random.default_rng((0, done, len(rows[structure])))
                rows[structure].append(_point_at(prompter, prepared, wanted, rng, seconds))
        watch("Pointing", done, len(cases), name)
    found = tuple(
        PromptedDice(structure=name, cases=len(dice), dice=tuple(np.mean(dice, axis=0).tolist()))
        for name, dice in rows.items()
        if dice
    )
    taken = float(np.median(seconds)) if seconds else None
    return PromptingRecord(cases=tuple(cases), prompts=CLICKS, structures=found, seconds=taken)


def _point_at(
    prompter: Prompter, prepared: PreparedCase, wanted: Mask, rng: np.random.Generator, seconds: list[float]
) -> list[float]:
    """Dice after each of `CLICKS` prompts."""
    spacing = prepared.trace.original.spacing_mm
    prompts, current, dice = Prompts(), np.zeros_like(wanted), []
    for count in range(1, CLICKS[-1] + 1):
        near = _near(wanted | current)
        draw = correction(wanted[near.slices], current[near.slices], spacing, rng)
        if count == 1:
            draw = _clicked(wanted[near.slices], spacing, rng)
        prompts = joined(prompts, _shifted(draw, near))
        began = time.perf_counter()
        proposal = prompter.propose(prepared, prompts, current if count > 1 else None)
        seconds.append(time.perf_counter() - began)
        current = np.zeros_like(wanted)
        current[proposal.box.slices] = proposal.mask
        if count in CLICKS:
            dice.append(2 * float((current & wanted).sum()) / float(current.sum() + wanted.sum()))
    return dice


def _clicked(wanted: Mask, spacing: tuple[float, float, float], rng: np.random.Generator) -> Prompts:
    """One click, where a simulated person may begin with something else."""
    while True:
        drawn = first_prompts(wanted, spacing, rng)
        if len(drawn.positive) == 1:
            return drawn


def _near(mask: Mask) -> Box:
    box = foreground_box(mask)
    assert box is not None
    return box_of(
        (max(0, a - _MARGIN), min(n, b + _MARGIN)) for a, b, n in zip(box.start, box.stop, mask.shape, strict=True)
    )


def _shifted(prompts: Prompts, box: Box) -> Prompts:
    start = np.asarray(box.start, dtype=float)
    return Prompts(
        prompts.positive + start, prompts.negative + start, None if prompts.box is None else prompts.box + start
    )


class Prompter:
    """A promptable model, ready to be asked: `prepare` a scan once, then `propose` as often as is pointed."""

    def __init__(self, model: Model, device: str = "cpu") -> None:
        """Raises `ModelError` for a model that takes no prompts."""
        if model.plan.prompting is None:
            raise ModelError("the model takes no prompts", remedy="Train one that does: delineate train --promptable.")
        self.model, self.device = model, device
        self._network = place(model.network(), device).eval()

    def prepare(self, case_id: str, image: Volume) -> PreparedCase:
        """The scan as the network sees it; a few seconds for a large one. Raises what `preprocessing.prepare` does."""
        return prepare(case_id, image, None, self.model.plan)

    def propose(self, prepared: PreparedCase, prompts: Prompts, current: Mask | None = None) -> Proposal:
        """What is meant, on the scan's own grid; see `inference.prompting.propose`."""
        return propose(self._network, prepared, self.model.plan, prompts, current=current, device=self.device)


def open_prompter(folder: Path, device: str = "cpu") -> Prompter:
    """The promptable model in a folder. Raises `ModelError` if it is none."""
    try:
        return Prompter(load_model(folder), device)
    except ModelError as error:
        raise error.at(folder) from error
