"""`delineate join`: models trained fold by fold become one, whose networks are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import msgspec

from delineate.dataset import Split, split_to_json
from delineate.errors import ModelError
from delineate.files import atomic_path, check_writable, write_text
from delineate.model import MODEL_FILE, Model, Provenance, load_model, save_model
from delineate.planning import Plan

_Named = Sequence[tuple[str, Model]]


def join_folders(folders: Sequence[Path], output: Path, *, again: bool = False) -> Model:
    """Join the models in some folders into one in `output`, whole or not at all.

    Raises `ModelError` for fewer than two, if `output` is there already (unless it was joined before, and `again` is
    given), and what `join_models` raises.
    """
    if len(folders) < 2:
        raise ModelError("one model alone is joined with nothing", expected="two or more folders", got=len(folders))
    if output.exists() and not (again and _was_joined(output)):
        raise ModelError("the folder is there already", path=output, remedy="Choose another, or give --again.")
    check_writable(output.parent)
    joined = join_models({str(folder): load_model(folder) for folder in folders})
    write_joined(output, joined)
    return joined


def write_joined(folder: Path, model: Model) -> None:
    """A model folder with a record of who was trained on, so that the cases set aside can be found."""
    known = model.provenance
    how = f"{len(model.folds)} folds joined: each network was trained on all but its own fold"
    split = Split(known.training_cases, known.validation_cases, known.dataset_digest, how, known.held_out_cases)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_model(temporary, model)
        write_text(temporary / "training" / "split.json", split_to_json(split))


def _was_joined(folder: Path) -> bool:
    """Whether it is as `write_joined` leaves it: a run has a plan there, too, and an imported model no split."""
    training = folder / "training"
    return (folder / MODEL_FILE).is_file() and [path.name for path in training.glob("*")] == ["split.json"]


def join_models(models: Mapping[str, Model]) -> Model:
    """One model whose folds are those of all, in their order; rules and other stages are those of the first.

    Every case that any of them was trained on counts as trained on; the validation Dice is the mean of theirs, each
    weighted by its validation cases. Raises `ModelError` if plans, structures, datasets, rules or other stages differ,
    or if two validated on the same case: then they are no folds of one division.
    """
    named = list(models.items())
    name, first = named[0]
    for other, model in named[1:]:
        _check_alike(name, first, other, model)
    _check_apart(named)
    weights = [fold for model in models.values() for fold in model.folds]
    return replace(
        first, weights=weights[0], more_folds=tuple(weights[1:]), provenance=_together([m for _, m in named])
    )


def _check_alike(name: str, first: Model, other: str, model: Model) -> None:
    facts = {
        "plans": (_plan(first.plan), _plan(model.plan)),
        "structures": (first.labels, model.labels),
        "datasets": (first.provenance.dataset_digest, model.provenance.dataset_digest),
        "postprocessing rules": (first.postprocessing, model.postprocessing),
        "other stages": (_stages(first), _stages(model)),
    }
    for what, (ours, theirs) in facts.items():
        if ours != theirs:
            raise ModelError(
                f"models with different {what} are no folds of one model",
                expected=f"the {what} of {name}",
                got=_difference(what, first.plan, model.plan) or "others",
                path=Path(other),
                remedy="Join folds of one `delineate train --folds K --fold N`, with one --plan.",
            )


def _plan(plan: Plan) -> Plan:
    """What of a plan all folds must share: a run that ran out of memory may have halved its batch."""
    return msgspec.structs.replace(plan, reasons=(), training=msgspec.structs.replace(plan.training, batch_size=1))


def _difference(what: str, first: Plan, other: Plan) -> str:
    if what != "plans":
        return ""
    ours, theirs = (msgspec.to_builtins(_plan(plan)) for plan in (first, other))
    return "another " + ", ".join(name for name in ours if ours[name] != theirs[name])


def _stages(model: Model) -> dict[str, str]:
    return {name: stage.digest for name, stage in model.stages.items()}


def _check_apart(named: _Named) -> None:
    for (name, first), (other, model) in combinations(named, 2):
        both = sorted(set(first.provenance.validation_cases) & set(model.provenance.validation_cases))
        if both or first.digest == model.digest:
            raise ModelError(
                "two models are of the same fold",
                expected=f"validation cases other than those of {name}",
                got=", ".join(both[:5]) or "the same weights",
                path=Path(other),
                remedy="Join models of different folds (--fold 0, --fold 1, ...).",
            )


def _together(models: Sequence[Model]) -> Provenance:
    several = [model.provenance for model in models]
    trained = tuple(dict.fromkeys(case for one in several for case in one.training_cases))
    validated = dict.fromkeys(case for one in several for case in one.validation_cases)
    seen = {*trained, *validated}
    aside = dict.fromkeys(case for one in several for case in one.held_out_cases)
    scored = [(one.validation_dice, len(one.validation_cases)) for one in several]
    known = [(dice, cases) for dice, cases in scored if dice is not None and cases]
    weight = sum(cases for _, cases in known)
    return msgspec.structs.replace(
        several[0],
        training_cases=trained,
        validation_cases=tuple(case for case in validated if case not in trained),
        held_out_cases=tuple(case for case in aside if case not in seen),
        step=max(one.step for one in several),
        seconds=round(sum(one.seconds for one in several), 1),
        validation_dice=sum(dice * cases for dice, cases in known) / weight if weight else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        populations={},
    )
