"""Atomic writing: whole or not at all; and errors that survive pickling."""

from __future__ import annotations

import errno
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from delineate import errors
from delineate.errors import DelineateError, ResourceError, UnreadableImage
from delineate.files import (
    atomic_path,
    check_writable,
    exclusive,
    is_running,
    leftovers,
    scratch_file,
    sweep,
    system_error,
    temporary_name,
    this_process,
    write_bytes,
    write_once,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.json", "größe")
    assert (tmp_path / "a" / "b.json").read_text(encoding="utf-8") == "größe"
    assert names(tmp_path / "a") == ["b.json"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "scan.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")


def fail_halfway(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        fail_halfway(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_halfway(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def write_folder(folder: Path, name: str) -> None:
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / name).write_text("x")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", "one")
    write_folder(tmp_path / "model", "two")
    assert names(tmp_path / "model") == ["two"]
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "model", "one")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial.model"):
            raise OSError(errno.EIO, "broken disk")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="broken disk"):
        write_folder(tmp_path / "model", "two")
    assert names(tmp_path / "model") == ["one"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("number", "match"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.EROFS, "cannot be written")],
)
def test_a_disk_that_refuses_is_a_resource_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, match: str
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(ResourceError, match=match):
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "new" / "a.txt", "x")


def test_other_disk_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing") as caught, atomic_path(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()
    assert caught.value.__cause__ is None


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DelineateError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[DelineateError]) -> None:
    error = kind("no good", expected=(1, 2), got="x", path="a/b", case="c1", remedy="Do it again.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "no good: expected (1, 2), got x (case c1, a/b). Do it again."
    assert (again.expected, again.path, again.remedy) == ((1, 2), Path("a/b"), "Do it again.")


def test_an_error_names_its_case_once() -> None:
    error = UnreadableImage("not an image", path="a.nii").in_case("c7")
    assert isinstance(error, UnreadableImage)
    assert str(error.in_case("c8")) == "not an image (case c7, a.nii)"


def test_input_errors_are_value_errors() -> None:
    assert issubclass(UnreadableImage, ValueError)
    assert str(UnreadableImage("empty", got=0)) == "empty: got 0"


@pytest.mark.parametrize(("target", "got"), [("taken/a.txt", "File exists"), ("folder", "Is a directory")])
def test_a_name_that_is_something_else_already_is_said(tmp_path: Path, target: str, got: str) -> None:
    (tmp_path / "taken").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match=f"cannot be written: got {got}"):
        write_text(tmp_path / target, "x")
    with pytest.raises(ResourceError, match="name is too long"):
        write_text(tmp_path / ("n" * 300), "x")


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    other = f"import pathlib, delineate.files as f; f.exclusive(pathlib.Path({str(tmp_path)!r})).__enter__()"
    with exclusive(tmp_path):
        found = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "ResourceError: another run is writing here" in found.stderr
    assert subprocess.run([sys.executable, "-c", other], check=False).returncode == 0


def test_what_a_killed_run_left_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    kept = ["a.txt", ".0123abcd.partial.new.txt", ".0123abcd.partial.lost.old"]
    for name in (*kept, ".0123abcd.partial.b.txt", ".0123abcd.partial.a.txt.old"):
        (tmp_path / "below" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "below" / name).write_text("x")
        if "new" not in name:
            os.utime(tmp_path / "below" / name, (0, 0))
    sweep(tmp_path / "below")
    assert names(tmp_path / "below") == sorted(kept)


def test_errors_call_files_by_their_own_names(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"\(.*/a\.txt\)"), atomic_path(tmp_path / "a.txt") as temporary:
        raise UnreadableImage("broken", path=temporary)
    with pytest.raises(UnreadableImage, match=r"\(elsewhere\)"), atomic_path(tmp_path / "a.txt"):
        raise UnreadableImage("broken", path="elsewhere")


def test_a_systems_error_is_found_in_what_a_library_made_of_it(tmp_path: Path) -> None:
    wrapped = OSError("With tag (7FE0,0010) got exception")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ResourceError, match="the disk is full"), atomic_path(tmp_path / "a.txt"):
        raise wrapped
    assert system_error(ValueError("no system error")) is None


def test_whether_a_folder_can_be_written_is_known_at_once(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        check_writable(tmp_path / "file")


def test_what_is_written_once_stays(tmp_path: Path) -> None:
    for data in (b"first", b"second"):
        write_once(tmp_path / "a", data, mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["a"]
    with pytest.raises(ResourceError, match="cannot be written"):
        write_once(tmp_path / "a" / "b", b"")


def test_without_links_a_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_once(tmp_path / "a", b"first")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_what_a_process_left_is_swept_when_it_is_gone_and_not_before(tmp_path: Path) -> None:
    name = "import delineate.files as f, pathlib; print(f.temporary_name(pathlib.Path('a')), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", name], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        left = tmp_path / process.stdout.readline().strip()
        left.write_text("half")
        sweep(tmp_path)
        assert names(tmp_path) == [left.name]
        process.kill()
    assert [one.name for one in leftovers(tmp_path)] == ["a"]
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_number_that_a_later_process_got_names_another_process(tmp_path: Path) -> None:
    mine = temporary_name(tmp_path / "a")
    later = mine.with_name(re.sub(r"-\d+\.partial", "-1000000000.partial", mine.name))
    for path in (mine, later):
        path.write_text("half")
    sweep(tmp_path)
    assert names(tmp_path) == [mine.name]


def test_scratch_space_has_no_name_and_is_the_disks(tmp_path: Path) -> None:
    with scratch_file(tmp_path, 100_000) as stream:
        assert names(tmp_path) == []
        status = os.fstat(stream.fileno())
        assert (status.st_size, status.st_nlink) == (100_000, 0)
        assert status.st_blocks * 512 >= 100_000
    with pytest.raises(ResourceError, match=r"no room for voxels.*: expected 1000000000000.00 GB, got .* GB free"):
        scratch_file(tmp_path / "new", 10**21).__enter__()


def test_of_two_that_write_a_folder_at_once_one_is_there_whole(tmp_path: Path) -> None:
    target = tmp_path / "case"
    with atomic_path(target) as slow:
        slow.mkdir()
        (slow / "of").write_text("the slow one")
        with atomic_path(target) as fast:
            fast.mkdir()
            (fast / "of").write_text("the fast one")
        assert (target / "of").read_text() == "the fast one"
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
    assert (target / "of").read_text() == "the slow one"


def test_a_folder_that_appears_while_another_is_moved_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, exists = tmp_path / "case", Path.exists

    def before_the_other(path: Path) -> bool:
        found = exists(path)
        if path == target and not found:
            target.mkdir()
            (target / "of").write_text("the other one")
        return found

    with atomic_path(target) as mine:
        mine.mkdir()
        monkeypatch.setattr(Path, "exists", before_the_other)
    assert (target / "of").read_text() == "the other one"
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_whether_a_process_runs_is_known_of_this_machine_only() -> None:
    me = this_process()
    place, number, began = me.split("-")
    assert is_running(me)
    assert is_running(f"{place}-{number}-{int(began) - 1000}") is False
    assert is_running(f"another-{number}-{began}") is None
    assert is_running("") is None
