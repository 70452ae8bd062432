"""Model cards written from recorded runs (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019).

What a run recorded is said; what nobody recorded or stated is said to be not stated, and never made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.planning import Plan
from delineate.reports.about import MODEL_FIELDS
from delineate.reports.card_scores import ScoreFacts, failures_section, performance_section
from delineate.reports.charts import duration
from delineate.reports.charts.words import count
from delineate.reports.claim import claim_section
from delineate.reports.dataset_facts import name_channels
from delineate.reports.documents import NOT_RECORDED, Document, Section, Table, recorded, stated
from delineate.reports.pages import describe_plan
from delineate.reports.score_records import Standing, number

if TYPE_CHECKING:
    from delineate.model import Population, Provenance

REVIEW = "Not for clinical use without review by a qualified person."
SIDES = {"training": "Training", "validation": "Validation", "held_out": "Set aside"}
FEW_PATIENTS = 20  # below which limits say that few were seen
POOR = 0.5  # mean Dice below which less than half is right
_SOURCES = (
    "Mitchell et al., Model Cards for Model Reporting, FAT* 2019.",
    "Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update, "
    "Radiology: Artificial Intelligence 6(4), e240300, 2024.",
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's folder says. `name`: the folder's. `rules`: postprocessing in words. `stages`: of a cascade.

    `split`: how cases were divided, "" if it is not known. `parameters`: of one network.
    """

    name: str
    digest: str
    labels: tuple[str, ...]
    plan: Plan
    provenance: Provenance
    rules: tuple[str, ...] = ()
    folds: int = 1
    stages: tuple[str, ...] = ()
    parameters: int = 0
    split: str = ""


def model_card(
    model: ModelFacts, scores: Sequence[ScoreFacts], about: Mapping[str, str], *, sheet: Document | None = None
) -> Document:
    """The card of a model with the scores that are known, and what people stated (fields of `about.FIELDS`).

    `sheet`: the data sheet of its training data; the checklist points there, too.
    """
    own = [facts for facts in scores if facts.standings.standing is not Standing.FOREIGN]
    sections = (
        _details(model, about),
        _use(about),
        _factors(model, about),
        _data(model, about),
        performance_section(scores, about),
        failures_section(own),
        _training(model),
        _limits(model, own, about),
        _study(about),
    )
    card = Document(
        "Model card",
        about.get("name") or model.name,
        f"Finds {_listed(model.labels)} in {', '.join(model.plan.channels)} scans. {_said_of(scores)}",
        REVIEW,
        sections,
        _SOURCES,
    )
    checked = claim_section([card] if sheet is None else [card, sheet])
    return Document(card.kind, card.title, card.summary, card.review, (*sections, checked), card.sources)


def _said_of(scores: Sequence[ScoreFacts]) -> str:
    if not scores:
        return "No scores were given: how well it works is not stated here."
    tests = [facts for facts in scores if facts.standings.standing is Standing.TEST]
    if not tests:
        return "None of the scores below is shown to be a test score."
    return " ".join(
        f"Tested on {count(len(t.record.cases), 'case')} of {count(t.record.patients, 'patient')}: "
        f"mean Dice {t.mean_words}."
        for t in tests
    )


def _details(model: ModelFacts, about: Mapping[str, str]) -> Section:
    plan, known = model.plan, model.provenance
    size = f", {model.parameters:,} weights" if model.parameters else ""
    trained = "" if known.origin else f"{known.step:,} steps, in {duration(known.seconds)}"
    answers = (
        recorded("kind", "Kind", f"deep learning: {plan.network.architecture} network, {plan.dimensions}D{size}"),
        recorded("outputs", "Finds", ", ".join(name.replace("_", " ") for name in model.labels)),
        recorded("inputs", "In scans", name_channels(plan.channels, plan.kinds)),
        *stated(about, MODEL_FIELDS, ("version", "developers", "contact", "licence", "citation", "regulatory_status")),
        recorded("digest", "Digest (SHA-256)", model.digest),
        recorded("created", "Made on", known.created.replace("T", " ").replace("+00:00", " UTC")),
        recorded("origin", "Trained by", known.origin or f"delineate {known.delineate}"),
        recorded("trained", "Weights kept after", trained),
        *([recorded("learnt_from", "Learnt from the models", ", ".join(plan.learnt_from))] if plan.learnt_from else ()),
    )
    return Section("details", "Model details", answers=answers)


def _use(about: Mapping[str, str]) -> Section:
    keys = ("intended_use", "intended_users", "clinical_role", "out_of_scope", "background", "implications")
    missing = not about.get("intended_use") or not about.get("out_of_scope")
    warning = "Nobody has stated in full what this model is meant for, and what it must not be used for."
    return Section(
        "use",
        "Intended use",
        warnings=(warning,) if missing else (),
        answers=stated(about, MODEL_FIELDS, keys),
    )


def _factors(model: ModelFacts, about: Mapping[str, str]) -> Section:
    groups = dict.fromkeys(name for side in model.provenance.populations.values() for name in side.groups)
    answers = (*stated(about, MODEL_FIELDS, ("factors",)), recorded("groups", "Groups recorded", ", ".join(groups)))
    return Section("factors", "Factors", answers=answers)


def _data(model: ModelFacts, about: Mapping[str, str]) -> Section:
    known = model.provenance
    named = {"training": known.training_cases, "validation": known.validation_cases, "held_out": known.held_out_cases}
    sides = "; ".join(f"{len(cases)} {SIDES[side].lower()}" for side, cases in named.items() if cases)
    digest = f", digest {known.dataset_digest[:16]}" if known.dataset_digest else ""
    sites = known.populations.get("training")
    answers = (
        recorded("training_data", "Dataset", f"{known.dataset}{digest}" if known.dataset else ""),
        recorded("split", "Divided", model.split),
        recorded("sides", "Cases", sides),
        recorded("disjoint", "Disjoint by", "patient, as the dataset names patients" if sides else ""),
        recorded("training_sites", "Sites of the training cases", "" if sites is None else _counts(sites.sites)),
        *stated(about, MODEL_FIELDS, ("sample_size",)),
    )
    tables = () if not known.populations else population_tables(known.populations)
    return Section("data", "Training and evaluation data", answers=answers, tables=tables)


def population_tables(populations: Mapping[str, Population]) -> tuple[Table, ...]:
    """Cases and patients on each side, then cases by site and by every other group that was recorded."""
    sides = [side for side in SIDES if side in populations]
    whole = Table(
        "Cases and patients on each side of the split",
        ("Side", "Cases", "Patients"),
        tuple((SIDES[side], str(populations[side].cases), str(populations[side].patients)) for side in sides),
    )
    by_group: dict[str, dict[str, Mapping[str, int]]] = {"Site": {s: populations[s].sites for s in sides}}
    for name in dict.fromkeys(name for side in sides for name in populations[side].groups):
        by_group[name[:1].upper() + name[1:]] = {side: populations[side].groups.get(name, {}) for side in sides}
    tables = [whole]
    for name, counts in by_group.items():
        values = list(dict.fromkeys(value for side in sides for value in counts[side]))
        rows = tuple((value, *(str(counts[side].get(value, 0)) for side in sides)) for value in values)
        if rows and set(values) != {NOT_RECORDED}:
            tables.append(Table(f"Cases by {name.lower()}", (name, *(SIDES[side] for side in sides)), rows))
    return tuple(tables)


def _training(model: ModelFacts) -> Section:
    plan, known = model.plan, model.provenance
    told = dict(describe_plan(plan))
    software = [
        f"{name} {known.environment[name]}" for name in ("delineate", "torch", "monai") if name in known.environment
    ]
    hardware = [known.environment[name] for name in ("device", "processor", "memory") if name in known.environment]
    if known.origin:
        chosen = f"as they were imported: {known.origin}"
    elif known.validation_cases:
        dice = "" if known.validation_dice is None else f" ({known.validation_dice:.3f}, at step {known.step:,})"
        chosen = f"the step with the highest mean Dice{dice} on {len(known.validation_cases)} validation cases"
    elif known.validation_dice is not None:
        chosen = f"the last step ({known.step:,}); mean Dice by cross-validation {known.validation_dice:.3f}"
    else:
        chosen = f"the last step ({known.step:,}); nothing was validated"
    training = plan.training
    unknown = "not drawn, so that the case says nothing about it" if training.missing_labels == "unknown" else "absent"
    own = not known.origin
    several = [f"{model.folds} networks, whose outputs are averaged"] if model.folds > 1 else []
    several += [f"stages: {', '.join(model.stages)}"] if model.stages else []
    answers = (
        recorded("network", "Network", told["Network"]),
        recorded("preparation", "Scans are prepared", f"{told['Resampled to']}; {told['Intensities']}"),
        recorded("initialisation", "Weights began", f"at random, seed {training.seed}" if own else ""),
        recorded("training", "Training", f"{told['Training']}; planned: {told['Length']}" if own else ""),
        recorded("augmentation", "Augmentation", _augmentation(plan, told["Flips"]) if own else ""),
        recorded("missing_labels", "A structure that a reference lacks counts as", unknown if own else ""),
        recorded("weights", "Weights kept", chosen),
        recorded("ensemble", "Ensemble", "; ".join(several) or "none: one network"),
        recorded("postprocessing", "Postprocessing", "; ".join(model.rules) or "none"),
        recorded("software", "Software", ", ".join(software) or f"delineate {known.delineate}, torch {known.torch}"),
        recorded("hardware", "Machine", "; ".join(hardware)),
        recorded("reasons", "Reasons of the plan", "; ".join(plan.reasons)),
    )
    return Section("training", "How it was trained", answers=answers)


def _augmentation(plan: Plan, flips: str) -> str:
    how = plan.augmentation
    turned = " x ".join(f"{degrees:g}" for degrees in how.rotation_degrees)
    return (
        f"rotations to {turned} degrees, scaling {how.scale[0]:g} to {how.scale[1]:g}, shear, elastic deformation, "
        f"noise, blur, brightness, contrast, gamma, low resolution; flips: {flips}"
    )


def _limits(model: ModelFacts, scores: Sequence[ScoreFacts], about: Mapping[str, str]) -> Section:
    found = find_limits(model, scores)
    answers = (
        recorded("limits", "Limits seen in the records", " ".join(found)),
        *stated(about, MODEL_FIELDS, ("caveats", "robustness", "explainability", "ethics")),
    )
    return Section("limits", "Limits, ethics", answers=answers)


def find_limits(model: ModelFacts, scores: Sequence[ScoreFacts]) -> list[str]:
    """What the records themselves give reason to doubt, in sentences."""
    known, found = model.provenance, []
    trained = known.populations.get("training")
    if trained is not None and trained.patients < FEW_PATIENTS:
        found.append(f"Trained on scans of {count(trained.patients, 'patient')} only.")
    elif 0 < len(known.training_cases) < FEW_PATIENTS:
        found.append(f"Trained on {count(len(known.training_cases), 'case')} only.")
    if trained is not None and len(trained.sites) < 2:
        name = next(iter(trained.sites), NOT_RECORDED)
        found.append(
            "The sites of the training scans were not recorded."
            if name == NOT_RECORDED
            else f"All training scans come from one site ({name})."
        )
    if not known.training_cases:
        found.append("Which cases trained it was not recorded.")
    if known.training_cases and not known.validation_cases and known.validation_dice is None:
        found.append("Nothing was validated while it was trained.")
    if not any(facts.standings.standing is Standing.TEST for facts in scores):
        found.append("There is no test score.")
    for facts in scores:
        rows = facts.record.structures
        lost = [name for name, row in rows.items() if row.missed]
        if lost:
            found.append(f"In {facts.name} it missed {_listed(lost)} in some cases.")
        poor = [name for name, row in rows.items() if "dice" in row.metrics and number(row.metrics["dice"].mean) < POOR]
        if poor:
            found.append(f"In {facts.name} mean Dice is below {POOR:g} for {_listed(poor)}.")
        small = [name for name, row in rows.items() if row.few_patients]
        if small:
            which = "all structures" if len(small) == len(rows) else _listed(small)
            found.append(f"In {facts.name} {which} were scored on few patients: read the intervals with care.")
    return found


def _study(about: Mapping[str, str]) -> Section:
    keys = ("objectives", "study_design", "study_goal", "registration", "protocol", "availability", "funding")
    return Section("study", "The study", answers=stated(about, MODEL_FIELDS, keys))


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = [name.replace("_", " ") for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _counts(counts: Mapping[str, int]) -> str:
    """ "" if nothing is known of any."""
    return "" if set(counts) <= {NOT_RECORDED} else ", ".join(f"{name} ({n})" for name, n in counts.items())
