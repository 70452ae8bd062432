"""The commands for DICOM: what a tree holds, in and out."""

from __future__ import annotations

from pathlib import Path

import click

from delineate.cli.options import EXISTING, PATH, users_errors


@click.command()
@click.argument("source", type=EXISTING)
@click.argument("target", type=PATH)
@users_errors
def convert(source: Path, target: Path) -> None:
    """A DICOM series to NIfTI (TARGET ends in .nii.gz), or NIfTI to a DICOM CT or MR series (TARGET is a folder).

    \b
    Example: delineate convert series/ scan.nii.gz
    Example: delineate convert scan.nii.gz series/ct
    """
    from delineate.workflow.converting import convert as run

    click.echo(run(source, target))
