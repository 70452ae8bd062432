import math
import sys
from pathlib import Path

import pytest
from anatomy import tiny_plan

from delineate.errors import InputError, ResourceError
from delineate.planning.spaces import parse_space
from delineate.workflow.claims import claimed
from delineate.workflow.tuning_folder import Search, SearchOptions, TuningFolder
from delineate.workflow.tuning_study import DEFAULT, Book, Told, importances, open_book

PLAN = tiny_plan()


def make_search(space: str = "learning_rate,dropout", **changes: object) -> Search:
    values: dict[str, object] = {
        "dataset_digest": "0123",
        "space": parse_space(space, PLAN),
        "sampler": "random",
        "pruner": "median",
        "points": 3,
        "steps": 6,
        "epochs": None,
        "minutes": None,
        "folds": 3,
        "fold": (0,),
        "test": 0,
        "seed": 5,
        "options": None,
        "memory_bytes": 10**10,
    }
    return Search(**(values | changes))  # type: ignore[arg-type]


def open_at(folder: Path, **changes: object) -> Book:
    folder.mkdir(exist_ok=True)
    return open_book(make_search(**changes), PLAN, TuningFolder(folder))  # type: ignore[arg-type]


def finish(book: Book, *, dice: float | None = 0.5) -> tuple[int, dict[str, object]]:
    with book.take() as held:
        assert held is not None
        book.tell(held, Told(values=dict(held.values)), dice=dice)
        return held.slot, dict(held.values)


def states(book: Book) -> list[str]:
    return [record.state for record in book.records()]


def test_the_plan_as_it_is_comes_first(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    book.queue(3)
    assert states(book) == ["waiting"] * 3
    assert finish(book) == (DEFAULT, {"learning_rate": 1e-2, "dropout": 0.0})
    assert states(book) == ["complete", "waiting", "waiting"]


def test_values_depend_on_the_seed_and_the_slot_and_not_on_who_draws_them(tmp_path: Path) -> None:
    first, second = open_at(tmp_path / "a"), open_at(tmp_path / "b")
    first.queue(4)
    second.queue(2)
    alone = [finish(first) for _ in range(4)]
    finish(second)
    helper = open_at(tmp_path / "b")
    helper.queue(4)
    shared = [finish(helper), finish(second), finish(helper)]
    assert shared == alone[1:]
    assert len({values["learning_rate"] for _, values in alone}) == 4


def test_two_that_queue_at_once_add_no_trial(tmp_path: Path) -> None:
    books = [open_at(tmp_path) for _ in range(2)]
    for slot in range(3):  # each has looked before the other one added the slot
        for book in books:
            book.study.enqueue_trial({}, user_attrs={"slot": slot})
    done = [finish(book)[0] for book in (*books, books[0])]
    assert done == [0, 1, 2]
    with books[1].take() as held:
        assert held is None
    assert states(books[0]) == ["complete"] * 3


def test_a_grid_ends_by_itself(tmp_path: Path) -> None:
    book = open_at(tmp_path, space="learning_rate=1e-3..1e-2,loss=dice|dice_ce", sampler="grid", points=2)
    book.queue(100)
    found = [tuple(finish(book)[1].values()) for _ in states(book)]
    assert found[0] == (1e-2, "dice_ce")
    assert sorted(found) == [(1e-3, "dice"), (1e-3, "dice_ce"), (1e-2, "dice"), (1e-2, "dice_ce")]


def test_without_a_number_one_more_is_queued_when_none_waits(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    for _ in range(3):
        book.queue(None)
    assert states(book) == ["waiting"]
    finish(book)
    book.queue(None)
    assert states(book) == ["complete", "waiting"]


def test_a_trial_that_was_left_is_taken_up_with_its_values(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    book.queue(2)
    finish(book)
    with book.take() as held:
        assert held is not None
        values = dict(held.values)
        assert held.goes_on(1, 0.3)
    assert states(book) == ["complete", "unfinished"]
    with open_at(tmp_path).take() as again:
        assert again is not None
        assert (again.slot, dict(again.values), again.noted) == (1, values, frozenset({1}))
        assert again.goes_on(1, 0.3)
    assert book.records()[1].curve == {1: 0.3}


def test_a_trial_is_one_processs_at_a_time(tmp_path: Path) -> None:
    book, other = open_at(tmp_path), open_at(tmp_path)
    book.queue(1)
    with book.take() as held, other.take() as second:
        assert held is not None
        assert second is None
        assert other.is_busy
    assert not other.is_busy


def test_an_asker_that_was_overtaken_lets_go(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    book.queue(1)
    with claimed(book.folder.trial(0)) as claim, book.take() as held:
        assert claim is not None
        assert held is None


def test_what_falls_below_the_median_is_given_up(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    book.queue(6)
    for dice in (0.5, 0.6, 0.7, 0.8):
        with book.take() as held:
            assert held is not None
            assert all(held.goes_on(number, dice) for number in (1, 2, 3))
            book.tell(held, Told(), dice=dice)
    with book.take() as held:
        assert held is not None
        assert held.goes_on(1, 0.1)  # too early to judge
        assert not held.goes_on(2, 0.1)
        book.tell(held, Told(), dice=None)
    assert book.records()[4].state == "pruned"
    assert math.isnan(book.records()[4].dice)


def test_a_line_that_was_cut_off_is_taken_out(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    book.queue(1)
    whole = book.folder.journal.read_bytes()
    book.folder.journal.write_bytes(whole + b'{"op_code":9,"wor')
    again = open_at(tmp_path)
    assert book.folder.journal.read_bytes().startswith(whole + b'{"op_code":0')
    assert finish(again)[0] == DEFAULT


def test_importance_is_of_what_the_score_depends_on(tmp_path: Path) -> None:
    book = open_at(tmp_path)
    book.queue(24)
    for _ in range(24):
        with book.take() as held:
            assert held is not None
            dice = 1 - float(held.values["dropout"])
            held.goes_on(1, dice)
            book.tell(held, Told(values=dict(held.values)), dice=dice)
    found = importances(book.search, book.records())
    assert found["dropout"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert importances(book.search, book.records()[:11]) == {}


def test_a_missing_optuna_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ResourceError, match=r'pip install "delineate\[tune\]"'):
        open_at(tmp_path)


def test_wishes_that_make_no_search_are_said() -> None:
    with pytest.raises(InputError, match=r"no such folds.*0 to 2"):
        SearchOptions(folds=3, fold=(3,))
    with pytest.raises(InputError, match=r"unknown sampler.*tpe, random, grid"):
        SearchOptions(sampler="best")  # type: ignore[arg-type]
