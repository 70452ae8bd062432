"""What scores.json says beside the scores: enough to write the page again without scoring anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from delineate.evaluation import SideConfusion
from delineate.evaluation.cases import or_null
from delineate.labels import LabelSet
from delineate.metrics.calibration import WITHIN_MM, Calibration, pool_calibrations
from delineate.volume import Kind
from delineate.workflow.naming import Names
from delineate.workflow.pairing import Pair
from delineate.workflow.results import ResultRecord, read_record
from delineate.workflow.scoring import ScoredPair


def labels_json(labels: LabelSet, regions: ResultRecord | None = None) -> dict[str, object]:
    """Values and colours of the structures, for pictures; of `regions` also the values in the files that are each."""
    structures: dict[str, dict[str, object]] = {
        label.name: {"value": label.value, "colour": list(label.colour)} for label in labels
    }
    for name, values in ({} if regions is None else regions.regions).items():
        structures[name]["consists_of"] = list(values)
    ignored = {} if labels.ignore is None else {"ignore": labels.ignore}
    return {"overlaps": labels.overlaps, **ignored, "structures": structures}


def sides_json(swaps: Sequence[SideConfusion]) -> list[dict[str, object]]:
    """Voxels of each left/right pair that got the other side's label."""
    return [
        {
            "left": pair.left,
            "right": pair.right,
            "left_as_right": pair.left_as_right,
            "right_as_left": pair.right_as_left,
        }
        for pair in swaps
    ]


def files_json(pairs: Sequence[Pair], names: Names) -> dict[str, dict[str, str | None]]:
    """Where each case's files lie, whatever folder a reader works in."""
    return {
        pair.case: {
            "reference": _path(pair.reference),
            "prediction": _path(pair.prediction),
            "image": _path(names.images.get(pair.case)),
        }
        for pair in pairs
    }


def calibration_json(outcomes: Sequence[ScoredPair]) -> dict[str, dict[str, object]]:
    """Of each structure that has probabilities, all its cases pooled; {} without probabilities."""
    found: dict[str, list[Calibration]] = {}
    for outcome in outcomes:
        for name, calibration in outcome.calibration.items():
            found.setdefault(name, []).append(calibration)
    return {name: _pooled(cases) for name, cases in found.items()}


def provenance_json(
    references: Path, predictions: Path, pairs: Sequence[Pair], *, kind: Kind, resample: bool
) -> dict[str, object]:
    """When, of what and with what the scores were made; `kind`: of the scans; models by the records beside results."""
    records = [None if pair.prediction is None else read_record(pair.prediction) for pair in pairs]
    models = Counter(record.model for record in records if record is not None and record.model)
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "delineate": version("delineate"),
        "references": _path(references),
        "predictions": _path(predictions),
        "kind": kind.value,
        "resampled": resample,
        "models": dict(models),
        "without_record": sum(
            record is None for record, pair in zip(records, pairs, strict=True) if pair.prediction is not None
        ),
    }


def _pooled(cases: Sequence[Calibration]) -> dict[str, object]:
    pooled = pool_calibrations(cases)
    figures: Mapping[str, float] = {
        "expected_error": pooled.expected_error,
        "largest_error": pooled.largest_error,
        "overconfidence": pooled.overconfidence,
        "brier": pooled.brier,
    }
    return {
        "cases": len(cases),
        "voxels": pooled.voxels,
        "within_mm": WITHIN_MM,
        **{name: or_null(value) for name, value in figures.items()},
        "curve": [
            {
                "lower": part.lower,
                "upper": part.upper,
                "confidence": or_null(part.confidence),
                "frequency": or_null(part.frequency),
                "count": part.count,
            }
            for part in pooled.curve
        ],
    }


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
