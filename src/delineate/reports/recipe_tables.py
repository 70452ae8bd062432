"""Recipes for the terminal: a table of all, and one in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from delineate.recipes import Recipe

if TYPE_CHECKING:
    from rich.table import Table


def recipes_table(recipes: Sequence[Recipe]) -> Table:
    """One row a recipe: its name, what is trained, what was published, and how long two CPU cores take."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    table.add_column("Recipe", no_wrap=True, style="bold")
    table.add_column("Trains, on", ratio=3)
    table.add_column("Published, on", ratio=3)
    table.add_column("On a CPU", justify="right", no_wrap=True)
    for recipe in recipes:
        first = recipe.published[0]
        table.add_row(
            recipe.name,
            f"{recipe.trains}\n[dim]{_short(recipe.dataset)}[/dim]",
            f"{first.figure}\n[dim]{first.on}[/dim]",
            duration(recipe.cpu_hours),
        )
    return table


def describe_recipe(recipe: Recipe) -> list[str]:
    """A recipe in lines of text: data, choices, published figures with their sources, differences, commands."""
    published = [line for one in recipe.published for line in (f"- {one.figure}", f"  on {one.on}", f"  {one.source}")]
    folder = recipe.dataset.split(":")[0].rsplit(", ", 1)[-1] if "Task" in recipe.dataset else "DATASET"
    return [
        recipe.title,
        "",
        f"Data:      {recipe.dataset}",
        f"           {recipe.url} ({recipe.licence})",
        f"Trains:    {recipe.trains}",
        f"Length:    {recipe.epochs} epochs, about {recipe.steps:,} steps on that data; "
        f"{duration(recipe.cpu_hours)} on two CPU cores, validation apart",
        "",
        "Chosen by hand; the rest is planned from the data (see `delineate plan --recipe`):",
        *(f"- {name.replace('_', ' ')}: {_value(value)}" for name, value in recipe.options.items()),
        "",
        "Published:",
        *published,
        "",
        "Differences from the source:",
        *(f"- {one}" for one in recipe.differences),
        "",
        "Commands:",
        f"  delineate check    {folder} --previews previews",
        f"  delineate train    {folder} MODEL --recipe {recipe.name}",
        f"  delineate predict  MODEL {folder}/imagesTr RESULTS",
        f"  delineate evaluate {folder} RESULTS --set-aside-by MODEL",
        "Without the data:",
        f"  delineate phantom  FOLDER --kind {recipe.phantom} --patients 10",
    ]


def duration(hours: float) -> str:
    """Hours in words of two digits at most, such as "20 minutes", "3 hours", "4 days"."""
    for unit, size in (("minutes", 1 / 60), ("hours", 1.0)):
        if hours < (1.5 if unit == "minutes" else 48):
            return f"{hours / size:.0f} {unit}"
    return f"{hours / 24:.0f} days"


def _short(dataset: str) -> str:
    return dataset.removeprefix("Medical Segmentation Decathlon, ").removesuffix(" with reference")


def _value(value: Any) -> str:
    if isinstance(value, list):
        joined = ", ".join(str(item) for item in value)
        return joined.replace(", ", "; ") if value and isinstance(value[0], str) else joined
    return value if isinstance(value, str) else json.dumps(value)
