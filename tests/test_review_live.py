"""Labels in memory are what the model made and every stored edit since, at any revision, however they came there."""

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delineate import formats
from delineate.editing.runs import EditConflict, difference, wire_view
from delineate.errors import InputError
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.review import live as live_module
from delineate.review.live import LiveLabels
from delineate.review.records import (
    DamagedStore,
    EditRecord,
    NewCase,
    Person,
    ReviewCase,
    Role,
    StaleRevision,
    Structure,
)
from delineate.review.store import Store, open_store
from delineate.volume import Segmentation, Volume
from delineate.workflow.results import ResultRecord, write_record

SHAPE = (7, 5, 3)
AFFINE = np.array([[-0.7, 0.1, 0.4, 3], [0.05, 0.9, 1.0, -4], [0.1, -0.2, 4.0, 5], [0, 0, 0, 1]])
GRID = Grid(SHAPE, AFFINE)
NAMES = {1: "liver", 2: "spleen", 5: "left_kidney"}


@dataclass(frozen=True)
class Desk:
    """A case that somebody works on."""

    url: str
    store: Store
    case: ReviewCase
    eva: Person
    model: npt.NDArray[Any]

    def live(self, memory_bytes: int = 1 << 30) -> LiveLabels:
        return LiveLabels(self.store, memory_bytes=memory_bytes)


def make_desk(folder: Path, *, largest: int = 5) -> Desk:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    model = rng.choice(np.array([0, 0, 1, 2, largest], np.uint16), SHAPE)
    names = {1: "liver", 2: "spleen", largest: "left_kidney"}
    image = rng.integers(-1000, 1000, (1, *SHAPE)).astype(np.int16)
    formats.write_volume(folder / "scan.nii.gz", Volume(image, GRID))
    formats.write_segmentation(folder / "result.nii.gz", Segmentation(model, GRID, label_set(names)))
    case = NewCase(
        key="a",
        collection="c",
        pseudonym="P",
        scan=folder / "scan.nii.gz",
        segmentation=folder / "result.nii.gz",
        digest=hashlib.sha256((folder / "result.nii.gz").read_bytes()).hexdigest(),
        structures=tuple(Structure(value, name, (value, 0, 0), 1.0) for value, name in names.items()),
        model_digest="m" * 8,
    )
    return desk_of(folder, case, model)


def desk_of(folder: Path, new: NewCase, model: npt.NDArray[Any]) -> Desk:
    url = f"sqlite:///{folder / 'review.sqlite'}"
    store = open_store(url)
    eva = store.add_person("eva", "Eva Muster", Role.REVIEWER, None)
    store.add_cases([new])
    case = store.case(new.key)
    assert case is not None
    return Desk(url, store, case, eva, model)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return make_desk(tmp_path)


def ijk(live: LiveLabels, case: ReviewCase, layer: int = 0) -> npt.NDArray[Any]:
    return wire_view(dict(live.layers(case))[layer])


def paint(desk: Desk, live: LiveLabels, where: tuple[Any, ...], value: int) -> npt.NDArray[Any]:
    """A stroke over a part; what the labels are then."""
    before = ijk(live, desk.case)
    after = before.copy()
    after[where] = value
    head = desk.store.revision(desk.case.id)
    runs = difference(before, after)
    live.edit(desk.case, desk.eva, base_revision=head, layer=0, runs=runs, tool="brush", parameters="{}")
    return after


def test_a_stroke_is_in_memory_and_after_a_restart(desk: Desk) -> None:
    after = paint(desk, desk.live(), np.s_[1:4, 2:, 1], 2 if desk.model[1, 2, 1] != 2 else 1)
    reopened = LiveLabels(open_store(desk.url), memory_bytes=1)
    assert (ijk(reopened, desk.case) == after).all()
    assert (wire_view(dict(reopened.at(desk.case, 0))[0]) == desk.model).all()


def test_layers_have_the_order_of_the_wire(desk: Desk) -> None:
    ((layer, array),) = desk.live().layers(desk.case)
    assert (layer, array.shape, array.dtype) == (0, SHAPE[::-1], np.dtype(np.uint8))
    assert array.flags.c_contiguous
    assert array.reshape(-1)[2 + 7 * (1 + 5 * 2)] == desk.model[2, 1, 2]


ACTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("paint"),
            st.tuples(*(st.integers(0, n - 1) for n in SHAPE)),
            st.tuples(*(st.integers(1, n) for n in SHAPE)),
            st.sampled_from([0, *NAMES]),
        ),
        st.sampled_from(["undo", "undo", "redo", "restart", "other"]),
    ),
    max_size=25,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_edits_undo_and_redo_are_those_of_a_list_of_arrays(
    tmp_path_factory: pytest.TempPathFactory, acts: list[Any]
) -> None:
    desk = make_desk(tmp_path_factory.mktemp("desk"))
    live, other = desk.live(), LiveLabels(open_store(desk.url), memory_bytes=1 << 30)
    past, future, revisions = [desk.model], list[npt.NDArray[Any]](), [desk.model]
    for act in acts:
        head = len(revisions) - 1
        if act == "restart":
            live = LiveLabels(open_store(desk.url), memory_bytes=200)
        elif act == "other":
            live, other = other, live
        elif act == "undo" and len(past) > 1:
            future.append(past.pop())
            live.undo(desk.case, desk.eva, head)
        elif act == "redo" and future:
            past.append(future.pop())
            live.redo(desk.case, desk.eva, head)
        elif act in ("undo", "redo"):
            with pytest.raises(InputError, match="nothing to"):
                (live.undo if act == "undo" else live.redo)(desk.case, desk.eva, head)
            continue
        else:
            where = tuple(slice(a, a + n) for a, n in zip(act[1], act[2], strict=True))
            if (past[-1][where] == act[3]).all():
                continue
            past.append(paint(desk, live, where, act[3]))
            future.clear()
        if act not in ("restart", "other"):
            revisions.append(past[-1])
        assert (ijk(live, desk.case) == past[-1]).all()
    fresh = LiveLabels(open_store(desk.url), memory_bytes=1 << 30)
    for number, expected in enumerate(revisions):
        assert (wire_view(dict(fresh.at(desk.case, number))[0]) == expected).all()
    assert live.digest(desk.case) == fresh.digest(desk.case)
    assert desk.store.verify() == ()


def test_what_was_handed_out_never_changes(desk: Desk) -> None:
    live = desk.live()
    before = ijk(live, desk.case)
    held = before.copy()
    paint(desk, live, np.s_[:, :, 1], 1)
    paint(desk, live, np.s_[:, 1, :], 2)
    assert (before == held).all()
    with pytest.raises(ValueError, match="read-only"):
        before[0, 0, 0] = 1


def test_a_snapshot_opens_a_case_without_the_edits_before_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SNAPSHOT_EDITS", 4)
    live = desk.live()
    for number in range(9):
        after = paint(desk, live, np.s_[number % 7, number % 5, :], 1 + number % 2)
        live.finish()
    assert [e.case for e in desk.store.events() if e.action == "snapshot"] == ["a", "a"]
    asked: list[int] = []
    reopened = open_store(desk.url)
    edits = reopened.edits

    def noted(case: int, after: int = 0, until: int | None = None) -> tuple[EditRecord, ...]:
        asked.append(after)
        return edits(case, after, until)

    monkeypatch.setattr(reopened, "edits", noted)
    assert (ijk(LiveLabels(reopened, memory_bytes=1), desk.case) == after).all()
    assert asked == [8]


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    desk = make_desk(tmp_path)
    size = int(np.prod(SHAPE))
    live = desk.live(memory_bytes=2 * size)
    for _ in range(3):
        paint(desk, live, np.s_[:, 2, :], 1 + desk.store.revision(desk.case.id) % 2)
    for revision in (0, 1, 2, 3, 1):
        live.at(desk.case, revision)
    held = sum(array.nbytes for one in live._cases.values() for array in one.layers.values())
    assert held <= 2 * size


def test_a_stale_edit_is_refused_and_says_the_head(desk: Desk) -> None:
    live = desk.live()
    paint(desk, live, np.s_[:2, :, 0], 1)
    runs = difference(desk.model, np.zeros_like(desk.model))
    with pytest.raises(StaleRevision, match="changed meanwhile") as caught:
        live.edit(desk.case, desk.eva, base_revision=0, layer=0, runs=runs, tool="brush", parameters="{}")
    assert caught.value.revision == 1


@pytest.mark.parametrize(
    ("before", "after", "layer", "error", "match"),
    [
        (1, 0, 0, EditConflict, "not what this edit changes"),
        (0, 4, 0, InputError, "no structure"),
        (0, 1, 1, InputError, "no such layer"),
    ],
)
def test_an_edit_that_does_not_fit_leaves_everything_as_it_was(
    desk: Desk, before: int, after: int, layer: int, error: type[InputError], match: str
) -> None:
    live = desk.live()
    old, new = (np.zeros(SHAPE, np.uint8) for _ in range(2))
    free = tuple(int(axis[0]) for axis in np.nonzero(desk.model == 0))
    old[free], new[free] = before, after
    with pytest.raises(error, match=match):
        live.edit(
            desk.case, desk.eva, base_revision=0, layer=layer, runs=difference(old, new), tool="x", parameters="{}"
        )
    assert desk.store.revision(desk.case.id) == 0
    assert (ijk(live, desk.case) == desk.model).all()


def test_an_edit_that_cannot_be_stored_is_not_in_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    live = desk.live()
    ijk(live, desk.case)

    def fails(*_: object, **__: object) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(desk.store, "add_edit", fails)
        with pytest.raises(OSError, match="no room"):
            paint(desk, live, np.s_[1:, :, 2], 2)
    assert (ijk(live, desk.case) == desk.model).all()


def test_the_digest_tells_one_voxel_and_the_scan(desk: Desk) -> None:
    live = desk.live()
    seen = {live.digest(desk.case)[1]}
    value = 1 if desk.model[6, 4, 2] != 1 else 2
    paint(desk, live, np.s_[6, 4, 2], value)
    seen.add(live.digest(desk.case)[1])
    image = np.zeros((1, *SHAPE), np.int16)
    formats.write_volume(desk.case.new.scan, Volume(image, GRID))
    seen.add(live.digest(desk.case)[1])
    assert len(seen) == 3
    live.undo(desk.case, desk.eva, 1)
    assert live.digest(desk.case)[0] == 2


def test_undone_edits_give_the_digest_of_the_model_again(desk: Desk) -> None:
    live = desk.live()
    _, before = live.digest(desk.case)
    paint(desk, live, np.s_[2:5, :, 1:], 5)
    live.undo(desk.case, desk.eva, 1)
    assert live.digest(desk.case) == (2, before)


def test_a_segmentation_names_who_made_it(desk: Desk) -> None:
    live = desk.live()
    assert live.segmentation(desk.case).author == "m" * 8
    after = paint(desk, live, np.s_[:, 3, :], 1)
    found = live.segmentation(desk.case)
    assert (found.author, found.labels.names) == ("eva", tuple(NAMES.values()))
    assert (found.array == after).all()
    assert np.allclose(found.grid.affine, AFFINE, atol=1e-4)
    assert live.segmentation(desk.case, 0).author == "m" * 8


def test_values_above_255_have_two_bytes(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, largest=700)
    assert dict(desk.live().layers(desk.case))[0].dtype == np.uint16
    assert (paint(desk, desk.live(), np.s_[:, :, 0], 700) == ijk(desk.live(), desk.case)).all()


def test_a_result_that_was_changed_on_disk_is_not_shown(desk: Desk) -> None:
    other = Segmentation(np.zeros(SHAPE, np.uint8), GRID, label_set(NAMES))
    formats.write_segmentation(desk.case.new.segmentation, other)
    with pytest.raises(DamagedStore, match="was changed since"):
        desk.live().layers(desk.case)


def test_an_edit_that_was_changed_in_the_database_is_not_shown(desk: Desk) -> None:
    paint(desk, desk.live(), np.s_[:, :, 0], 1)
    with closing(sqlite3.connect(desk.url.removeprefix("sqlite:///"))) as database, database:
        database.execute("DROP TRIGGER edits_no_update")
        database.execute("UPDATE edits SET packed = ?", (b"",))
    with pytest.raises(DamagedStore, match="not what was stored"):
        desk.live().layers(desk.case)


def test_overlapping_structures_are_layers_of_their_own(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "overlapping.nii.gz"
    formats.write_segmentation(path, Segmentation(desk.model.astype(np.uint8), GRID, label_set(NAMES)))
    regions = {"organ": [1, 2], "lesion": [2, 5]}
    record = ResultRecord(
        case="o",
        labels={"organ": 1, "lesion": 2},
        volumes_ml={},
        model="m",
        series_uid=None,
        seconds=1,
        regions=regions,
    )
    write_record(path, record)
    parts = tuple(Structure(value, name, (1, 2, 3), 1.0) for name, value in record.labels.items())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    new = replace(desk.case.new, key="o", segmentation=path, digest=digest, structures=parts, overlaps=True)
    desk.store.add_cases([new])
    case = desk.store.case("o")
    assert case is not None
    live = desk.live()
    assert [layer for layer, _ in live.layers(case)] == [1, 2]
    after = np.zeros(SHAPE, np.uint8)
    runs = difference(ijk(live, case, 2), after)
    live.edit(case, desk.eva, base_revision=0, layer=2, runs=runs, tool="eraser", parameters="{}")
    found = live.segmentation(case)
    assert (found.mask("organ") == np.isin(desk.model, (1, 2))).all()
    assert not found.mask("lesion").any()
    live.undo(case, desk.eva, 1)
    assert (live.segmentation(case).mask("lesion") == np.isin(desk.model, (2, 5))).all()
