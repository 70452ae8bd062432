"""Recipes on the command line: the list, one in words, and the options that a command takes from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from delineate.cli.options import given_options, option_group, say, users_errors

if TYPE_CHECKING:
    from delineate.recipes import Recipe

recipe_option = click.option(
    "--recipe", metavar="NAME", help="Train as a tutorial or paper does: see `delineate recipes`. Options change it."
)

phantom_options = option_group(
    click.option(
        "--kind",
        default="abdomen",
        show_default=True,
        help="Or spleen, liver, lung (CT); heart, brain_tumour, prostate, hippocampus (MR).",
    ),
    click.option("--site", help="All from site A, B or C, which differ in voxels, contrast, noise. [default: mixed]"),
    click.option("--coarse", type=float, default=1.0, show_default=True, help="Voxels so many times as large."),
)


@click.group(invoke_without_command=True)
@click.pass_context
@users_errors
def recipes(context: click.Context) -> None:
    """List the recipes: what published tutorials chose by hand, ready for `train --recipe NAME`.

    \b
    Example: delineate recipes
    Example: delineate recipes show spleen
    Example: delineate train Task09_Spleen spleen --recipe spleen
    """
    if context.invoked_subcommand is not None:
        return
    from delineate.recipes import load_recipe, recipe_names
    from delineate.reports.progress import watching
    from delineate.reports.recipe_tables import recipes_table

    with watching() as watch:
        watch.print(recipes_table([load_recipe(name) for name in recipe_names()]))
    click.echo("More: delineate recipes show NAME")


@recipes.command()
@click.argument("name")
@users_errors
def show(name: str) -> None:
    """Explain one recipe: its data, its choices, what was published, and the commands.

    \b
    Example: delineate recipes show spleen
    """
    from delineate.recipes import load_recipe
    from delineate.reports.recipe_tables import describe_recipe

    for line in describe_recipe(load_recipe(name)):
        say(line)


def follow_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """A command's options, filled up from its recipe: what a person gave on the command line stays.

    A dataset's last cases are set aside for the score, unless the person said who is trained on.
    """
    name = options.pop("recipe", None)
    if name is None:
        return options
    from delineate.recipes import load_recipe

    recipe, given = load_recipe(name), given_options()
    chosen = {key: value for key, value in recipe.options.items() if key not in given}
    if "epochs" in options and given.isdisjoint(("steps", "epochs", "minutes", "preset")):
        chosen["epochs"] = recipe.epochs
    if "test" in options and given.isdisjoint(("test", "hold_out")):
        chosen["test"] = _test_cases(recipe)
    return options | chosen


def _test_cases(recipe: Recipe) -> int:
    from delineate.dataset import open_dataset

    cases = open_dataset(click.get_current_context().params["dataset"]).cases
    return recipe.test_cases(sum(case.reference is not None for case in cases))
