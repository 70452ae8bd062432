"""Learning from other models: the options of `train --from`, and the commands `pretrain` and `distil`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import EXISTING, option_group

if TYPE_CHECKING:
    from delineate.workflow.transferring import Beginning

transfer_options = option_group(
    click.option("--from", "source", type=EXISTING, metavar="MODEL", help="Begin with the weights of this model."),
    click.option(
        "--freeze",
        type=click.Choice(["nothing", "encoder", "all-but-head"]),
        default="nothing",
        show_default=True,
        help="Of the weights that are taken, let these rest at first.",
    ),
    click.option(
        "--freeze-for", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share of the run they rest."
    ),
    click.option(
        "--backbone-rate",
        type=click.FloatRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        help="Their learning rate, as a share of the others'.",
    ),
)


def take_beginning(options: dict[str, Any]) -> Beginning | None:
    """Take what `transfer_options` added out of a command's options; None without --from."""
    source, freeze, share, rate = (options.pop(name) for name in ("source", "freeze", "freeze_for", "backbone_rate"))
    if source is None:
        if freeze != "nothing" or rate != 1:
            raise click.UsageError("--freeze and --backbone-rate say how to treat the weights of --from MODEL")
        return None
    from delineate.workflow.transferring import Beginning

    return Beginning(Path(source), freeze=freeze.replace("-", "_"), freeze_fraction=share, backbone_rate=rate)
