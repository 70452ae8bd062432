from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from many_slices import slice_bytes, write_slices

from delineate.errors import InputError, ResourceError
from delineate.formats.dicom import index as dicom_index
from delineate.formats.dicom.files import FoundFile, walk
from delineate.formats.dicom.index import DamagedIndex, Index, open_index, remove_index
from delineate.formats.dicom.instances import read_instance
from delineate.formats.dicom.records import Record, State, read_record


def brought_up_to_date(index: Path, tree: Path, *, replace_any: bool = False) -> list[Path]:
    """Index a tree; the files that had to be read."""
    with open_index(index, tree, replace_any=replace_any) as writer:
        writer.note(found for found in walk(tree) if isinstance(found, FoundFile))
        count = writer.forget_missing()
        changed = list(writer.changed())
        assert len(changed) == count
        for n, path in enumerate(changed):
            writer.store([read_record(path)], after=n)
    return changed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two series of four slices and a text, in a folder of their own."""
    for series in (1, 0):
        write_slices(tmp_path / "tree" / f"s{series}", series=series, slices=4)
    (tmp_path / "tree" / "notes.txt").write_text("no DICOM")
    return tmp_path / "tree"


def test_instances_come_back_series_by_series(tree: Path, tmp_path: Path) -> None:
    assert len(brought_up_to_date(tmp_path / "i", tree)) == 9
    index = Index(tmp_path / "i")
    first, second = index.series()
    assert (first.series, first.files, list(first.modalities)) == ("1.2.100000000.2", 4, ["CT"])
    assert first.patients == ("P100000000", "P100000000")
    assert index.instances(second) == tuple(read_instance(tree / "s1" / f"IM000{k}") for k in range(4))
    assert index.count() == {State.DICOM: 8, State.OTHER: 1}
    assert index.kinds() == ((".txt", 1),)


def test_only_new_and_changed_files_are_read_again(tree: Path, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    assert brought_up_to_date(tmp_path / "i", tree) == []
    os.utime(tree / "s0" / "IM0002", ns=(1, 1))
    shutil.copy2(tree / "s1" / "IM0001", tree / "new")
    (tree / "notes.txt").write_text("longer than before")
    assert [path.name for path in brought_up_to_date(tmp_path / "i", tree)] == ["new", "notes.txt", "IM0002"]


def test_files_that_are_gone_are_forgotten(tree: Path, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    shutil.rmtree(tree / "s0")
    (tree / "s1" / "IM0003").unlink()
    brought_up_to_date(tmp_path / "i", tree)
    assert [(key.series, key.files) for key in Index(tmp_path / "i").series()] == [("1.2.100000001.2", 3)]


def test_what_could_not_be_read_is_tried_again(tree: Path, tmp_path: Path) -> None:
    (tree / "bad.dcm").write_bytes(b"")
    brought_up_to_date(tmp_path / "i", tree)
    assert [file.path.name for file in Index(tmp_path / "i").unreadable()] == ["bad.dcm"]
    assert [path.name for path in brought_up_to_date(tmp_path / "i", tree)] == ["bad.dcm"]


def test_what_was_stored_before_an_error_is_kept(tree: Path, tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), open_index(tmp_path / "i", tree) as writer:
        writer.note(found for found in walk(tree) if isinstance(found, FoundFile))
        writer.forget_missing()
        writer.store([read_record(path) for path in list(writer.changed())[:5]], after=0)
        raise KeyboardInterrupt
    assert len(brought_up_to_date(tmp_path / "i", tree)) == 4


def test_files_without_a_series_uid_stay_apart_by_folder(tree: Path, tmp_path: Path) -> None:
    for path in tree.rglob("IM*"):
        data = path.read_bytes()
        start = data.index(b"\x20\x00\x0e\x00UI")
        path.write_bytes(data[: start + 8] + bytes(16) + data[start + 24 :])
    brought_up_to_date(tmp_path / "i", tree)
    keys = Index(tmp_path / "i").series()
    assert [(key.series, key.files) for key in keys] == [(str(tree / "s0"), 4), (str(tree / "s1"), 4)]
    assert len(Index(tmp_path / "i").instances(keys[0])) == 4


def test_a_mix_up_of_patients_shows(tree: Path, tmp_path: Path) -> None:
    (tree / "odd").write_bytes(slice_bytes(0, 9).replace(b"P100000000", b"P100000077"))
    brought_up_to_date(tmp_path / "i", tree)
    assert Index(tmp_path / "i").series()[0].patients == ("P100000000", "P100000077")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_come_back(tree: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tree) + b"/\xff\xfe"))
    shutil.copy(tree / "s0" / "IM0000", odd)
    brought_up_to_date(tmp_path / "i", tree)
    index = Index(tmp_path / "i")
    assert odd in {instance.path for instance in index.instances(index.series()[0])}
    assert brought_up_to_date(tmp_path / "i", tree) == []


def test_settled_files_need_no_reading(tree: Path, tmp_path: Path) -> None:
    pipe = FoundFile(tree / "pipe", kind="pipe")
    with open_index(tmp_path / "i", tree) as writer:
        assert writer.known(pipe) is None
        writer.settle(pipe, Record(pipe.path, State.OTHER, pipe.kind))
        assert writer.known(pipe) == "pipe"
        assert writer.forget_missing() == 0
    assert Index(tmp_path / "i").others("pipe") == (pipe.path,)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:5000],
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes(len(data) - 100),
        lambda data: data[:4096] + b"\xff" * 4096 + data[8192:],
        lambda data: b"",
    ],
)
def test_a_damaged_index_is_made_anew(tree: Path, tmp_path: Path, damage: object) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    (tmp_path / "i").write_bytes(damage((tmp_path / "i").read_bytes()))  # type: ignore[operator]
    assert len(brought_up_to_date(tmp_path / "i", tree)) == 9
    assert len(Index(tmp_path / "i").series()) == 2


def test_a_changed_record_is_noticed(tree: Path, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    data = (tmp_path / "i").read_bytes()
    (tmp_path / "i").write_bytes(data.replace(b"a series of", b"another one"))
    index = Index(tmp_path / "i")
    with pytest.raises(DamagedIndex, match="index is damaged: got a record's checksum is wrong"):
        index.instances(index.series()[0])


def test_a_record_under_another_files_name_is_noticed(tree: Path, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    with sqlite3.connect(tmp_path / "i") as db:
        db.execute("UPDATE files SET series = '1.2.100000000.2', study = '1.2.100000000.1' WHERE series IS NOT NULL")
    db.close()
    index = Index(tmp_path / "i")
    with pytest.raises(DamagedIndex, match="another file's record"):
        index.instances(index.series()[0])


def test_an_index_of_another_version_or_tree_is_made_anew(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    shutil.copytree(tree, tmp_path / "other")
    assert len(brought_up_to_date(tmp_path / "i", tmp_path / "other")) == 9
    monkeypatch.setattr(dicom_index, "version", lambda package: "99")
    assert len(brought_up_to_date(tmp_path / "i", tmp_path / "other")) == 9


@pytest.mark.parametrize("kind", ["text", "database"])
def test_a_file_that_is_no_index_is_not_replaced(tree: Path, tmp_path: Path, kind: str) -> None:
    if kind == "text":
        (tmp_path / "i").write_text("my thesis")
    else:
        with sqlite3.connect(tmp_path / "i") as db:
            db.execute("CREATE TABLE precious (n)")
        db.close()
    before = (tmp_path / "i").read_bytes()
    with pytest.raises(InputError, match="not an index of scans"):
        brought_up_to_date(tmp_path / "i", tree)
    assert (tmp_path / "i").read_bytes() == before
    assert len(brought_up_to_date(tmp_path / "i", tree, replace_any=True)) == 9


def test_two_scans_do_not_share_an_index(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_index, "_WAIT_SECONDS", 0.05)
    with open_index(tmp_path / "i", tree), pytest.raises(ResourceError, match="in use by another scan"):
        brought_up_to_date(tmp_path / "i", tree)
    assert len(brought_up_to_date(tmp_path / "i", tree)) == 9


def test_an_index_is_for_its_owner_only(tree: Path, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "new" / "i", tree)
    assert stat.S_IMODE((tmp_path / "new" / "i").stat().st_mode) == 0o600


def test_a_place_that_cannot_be_written_is_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="index cannot be written"):
        brought_up_to_date(tree / "notes.txt" / "i", tree)


def test_removing_takes_the_journal_along(tree: Path, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "i", tree)
    (tmp_path / "i-journal").touch()
    remove_index(tmp_path / "i")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
