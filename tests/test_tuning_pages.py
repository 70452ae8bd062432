import math
from dataclasses import replace

import pytest

from delineate.reports.charts.tuning import TrialPoint, search_history, search_slices
from delineate.reports.tuning_pages import Again, TrialLine, TuningPage, conclusion, find_doubts, render_tuning


def line(number: int, dice: float, *, state: str = "complete", notes: tuple[str, ...] = ()) -> TrialLine:
    curve = {} if math.isnan(dice) else {1: dice / 2, 2: dice}
    point = TrialPoint(
        number, dice, state == "complete", curve, {"learning_rate": 10.0 ** (number - 4), "loss": "dice"}
    )
    return TrialLine(point, state, (("learning rate", f"1e{number - 4}"), ("loss", "dice")), notes, 61.0)


LINES = (line(0, 0.5), line(1, 0.75), line(2, 0.25, state="pruned"))
AGAIN = Again(0.72, 0.5, 0.2, (0.1, 0.3), "12 cases of fold 1 of 5", patients=12, fresh=True)
PAGE = TuningPage("spleen", LINES, 1, AGAIN, {"learning_rate": 0.9, "loss": 0.1}, ("learning_rate",), (("Seed", "3"),))


def test_the_conclusion_names_the_figure_that_was_not_chosen() -> None:
    said = " ".join(conclusion(PAGE))
    assert "best validation Dice is 0.750, of trial 1, the plan as it was 0.500" in said
    assert "0.720 against 0.500, a difference of 0.200 (95 % interval 0.100 to 0.300)" in said
    assert "better than the plan as it was, whichever of such patients are scored" in said


@pytest.mark.parametrize(
    ("interval", "patients", "said"),
    [
        ((-0.1, 0.3), 12, "may be chance"),
        ((-0.3, -0.1), 12, "worse than the plan as it was"),
        ((0.1, 0.3), 4, "Of 4 patients that says little"),
    ],
)
def test_luck_is_said(interval: tuple[float, float], patients: int, said: str) -> None:
    again = replace(AGAIN, interval=interval, patients=patients)
    assert said in conclusion(replace(PAGE, again=again))[-1]
    assert not again.is_better


def test_an_unconfirmed_winner_is_doubted() -> None:
    assert "owes a part of its score to luck" in find_doubts(replace(PAGE, again=None))[0]
    assert "only the seed is new" in find_doubts(replace(PAGE, again=replace(AGAIN, fresh=False)))[0]


def test_a_winner_that_fell_is_doubted() -> None:
    assert not any("fell from" in doubt for doubt in find_doubts(PAGE))
    fell = find_doubts(replace(PAGE, again=replace(AGAIN, winner=0.3)))
    assert any("fell from 0.750 to 0.300" in doubt and "--confirm 3" in doubt for doubt in fell)


def test_a_default_that_wins_is_kept() -> None:
    page = replace(PAGE, lines=(line(0, 0.8), line(1, 0.7)), best=0, again=None)
    assert conclusion(page) == ("None of 2 complete trials beats the plan as it was: keep it.",)
    assert not any("luck" in doubt for doubt in find_doubts(page))


def test_a_default_that_could_not_be_trained_is_said() -> None:
    page = replace(PAGE, lines=(line(0, math.nan, state="rejected"), line(1, 0.7)), again=None)
    assert any("nothing to compare with" in doubt for doubt in find_doubts(page))
    assert "the plan as it was" not in conclusion(page)[0]


def test_the_page_has_all_trials_and_escapes_names() -> None:
    noted = line(3, math.nan, state="rejected", notes=("patch <64> does not fit",))
    html = render_tuning(replace(PAGE, title="<b>", lines=(*LINES, noted)))
    assert "<b>" not in html
    assert "patch &lt;64&gt; does not fit" in html
    assert html.count("<svg ") == 4
    assert "given up" in html


def test_a_search_that_has_not_begun_has_a_page() -> None:
    waiting = TrialLine(TrialPoint(0, math.nan, False, {}, {}), "waiting", (), (), 0.0)
    html = render_tuning(replace(PAGE, lines=(waiting,), best=None, again=None, importances={}))
    assert "No trial has come to its end yet" in html
    assert "<svg " not in html


def test_charts_say_their_numbers() -> None:
    points = [line.point for line in LINES]
    assert "the best is trial 1 with 0.75" in search_history(points).alt
    assert "learning rate: best 0.001, as it was 0.0001" in search_slices(points, log=["learning_rate"]).alt
