"""A request of the command line, carried out in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from delineate.formats.deidentification.pseudonyms import load_or_make_key
from delineate.inference import Locate
from delineate.inference.locating import MARGIN_MM
from delineate.model import Model, load_model, with_tiling
from delineate.planning import Sums
from delineate.settings import detect
from delineate.workflow.batches import OWN_LOOK, Attempt, Hear, PredictionRequest, PredictionRun, nobody_hears
from delineate.workflow.predicting import Batch, PredictionOptions, rules_for
from delineate.workflow.progress import Watch, nobody


def run_request(
    request: PredictionRequest,
    *,
    watch: Watch = nobody,
    hear: Hear = nobody_hears,
    stopping: Callable[[], bool] = lambda: False,
    attempt: Attempt | None = None,
) -> PredictionRun:
    """See `predicting.predict`. Raises `ModelError` for a folder that is no model, `LabelError` for structures that it
    does not have, and what `predict` raises."""
    settings = detect(request.device, threads=request.threads, memory_gb=request.memory_gb, cache=request.cache)
    sums: Sums | None = "nnunet" if request.as_nnunet else None
    model = with_tiling(load_model(request.model), overlap=request.overlap, mirror=request.mirror, sums=sums)
    options = _options(request, model)
    batch = Batch(model, settings, options, watch=watch, stopping=stopping, attempt=attempt or Attempt(), hear=hear)
    return batch.run(request.source, request.output)


def _options(request: PredictionRequest, model: Model) -> PredictionOptions:
    return PredictionOptions(
        engine=request.engine or ("torch" if request.as_nnunet else None),
        precision=request.precision or ("float32" if request.as_nnunet else None),
        locate=None if request.locate is None else _locate(request, request.locate),
        skip_air=request.skip_air,
        probabilities=request.probabilities,
        variants=request.variants,
        figures=request.figures,
        references=request.references,
        rules=rules_for(model, largest=request.largest, smallest_ml=request.smallest_ml),
        again=request.again,
        exports=request.exports,
        model_folder=request.model,
        key=None if request.key_file is None else load_or_make_key(request.key_file),
    )


def _locate(request: PredictionRequest, look: str) -> Locate:
    model = None if look == OWN_LOOK else load_model(Path(look))
    margin = MARGIN_MM if request.margin_mm is None else request.margin_mm
    return Locate(model, structures=request.structures, around=request.around, margin_mm=margin)
