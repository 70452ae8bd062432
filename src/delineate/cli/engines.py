"""`delineate engines`: what runs a model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from delineate.cli.options import EXISTING, machine_options, open_watch, say, settings_of, users_errors


@click.command()
@click.argument("model", type=EXISTING)
@click.argument("scan", type=EXISTING, required=False)
@click.option("--masks/--windows", default=True, help="Compare masks of the whole SCAN, or only windows of it.")
@machine_options
@users_errors
def engines(model: Path, scan: Path | None, masks: bool, **machine: Any) -> None:
    """Show how fast each engine runs a model here; with a SCAN, measure it, and compare the masks.

    What runs with PyTorch in float32 is the standard. `predict` chooses the fastest that costs no structure more than
    0.001 Dice of it; others it takes only where --engine and --precision say so.

    \b
    Example: delineate engines spleen
    Example: delineate engines spleen imagesTs/spleen_1.nii.gz
    """
    from delineate.model import load_model
    from delineate.reports.engine_tables import engines_table
    from delineate.workflow.engine_survey import known_engines, survey_engines, survey_scan

    settings, loaded = settings_of(**machine), load_model(model)
    with open_watch() as watch:
        if scan is None:
            found = known_engines(loaded, settings)
        else:
            volume = survey_scan(loaded, scan, settings)
            found = survey_engines(loaded, volume, settings, folder=model, masks=masks, watch=watch)
        chosen = None if found.chosen is None else (found.chosen.engine, found.chosen.precision)
        watch.print(engines_table(found.trials, chosen=chosen, title=f"Engines for {model.name} on this machine"))
    for engine, reason in found.absent.items():
        say(f"{engine}: {reason}")
    if found.chosen is not None:
        say(f"Chosen for many scans like this: {found.chosen}, {found.reason}")
    elif scan is None:
        say(f"To measure: delineate engines {model} SCAN")
