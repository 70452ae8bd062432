import io
import json

import msgspec
import pytest
from anatomy import tiny_plan
from click.testing import CliRunner
from fingerprints import fingerprint, fingerprint_of
from rich.console import Console

from delineate.cli.options import Window
from delineate.planning import Choice, Machine, PlanOptions, explain, make_plan
from delineate.reports.plan_tables import choices_table
from delineate.volume import Kind

CPU = Machine("cpu", 8 * 10**9)


def choice(plan_options: PlanOptions, what: str, *, kind: Kind = Kind.MR) -> Choice:
    plan = make_plan(fingerprint(kind), CPU, plan_options)
    return next(one for one in explain(plan, step_seconds=0.5) if one.what == what)


def test_every_choice_has_a_value_a_reason_and_a_way_to_change_it() -> None:
    both = make_plan(fingerprint_of([(0.7, 0.7, 5.0)], kinds=(Kind.CT, Kind.PET), shape=(300, 300, 60)), CPU)
    for one in explain(both, step_seconds=2.0):
        assert all((one.what, one.value, one.why, one.change)), one


def test_the_reason_is_the_one_that_the_plan_gives() -> None:
    flips = choice(PlanOptions(), "flips", kind=Kind.CT)
    assert flips.value == "none"
    assert "organs have a side" in flips.why
    assert choice(PlanOptions(spacing_mm=(1.5, 1.5, 2.0)), "spacing").why == "set by hand"


def test_rare_and_tiny_structures_are_said_where_patches_are_drawn() -> None:
    tiny = fingerprint(shape=(200, 180, 160))
    cases = [msgspec.structs.replace(case, label_voxels=(900 * (n == 0), 40)) for n, case in enumerate(tiny.cases * 3)]
    plan = make_plan(msgspec.structs.replace(tiny, cases=tuple(cases)), CPU)
    sampling = next(one for one in explain(plan) if one.what == "sampling")
    assert sampling.value == "50 % on a structure, balance 0.5, off centre 0.5"
    assert "17 % of the cases" in sampling.why
    assert "less than 0.1% of a patch" in sampling.why


def test_time_is_steps_times_seconds() -> None:
    # 2000 steps of half a second.
    assert "2,000 of them: 17 minutes" in choice(PlanOptions(), "a step takes").why


def test_a_plan_without_reasons_is_explained_too() -> None:
    rows = {one.what: one for one in explain(tiny_plan())}
    assert rows["patch"].value == "16 x 16 x 8"
    assert "a step takes" not in rows


def test_the_table_reads_on_80_columns_and_shows_no_markup() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(choices_table([Choice("patch", "8 x [bold]", "a\x1b[31m reason", "--patch")], title="Plan"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("word", "expected"), [("lung", (-1350, 150, 0, 1)), ("-57,164,0,1", (-57, 164, 0, 1))])
def test_windows_have_names(word: str, expected: tuple[float, ...]) -> None:
    assert Window().convert(word, None, None) == expected


def test_an_unknown_window_names_those_there_are() -> None:
    from delineate.cli import main

    result = CliRunner().invoke(main, ["plan", ".", "--window", "knee"])
    assert result.exit_code == 2
    assert "abdomen" in result.output
    assert json.dumps("knee")[1:-1] in result.output
