from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from pydicom import DataElement, Dataset, FileMetaDataset
from pydicom.config import IGNORE
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from delineate.errors import InputError, UnreadableImage
from delineate.formats.dicom.files import ClosedFolder, FoundFile, files_at, read_dicomdir, walk


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")


def names(folder: Path, *apart: Path) -> list[str]:
    return [found.path.relative_to(folder).as_posix() for found in walk(folder, apart=apart)]


def kinds(folder: Path) -> dict[str, str]:
    return {found.path.name: found.kind for found in walk(folder) if isinstance(found, FoundFile)}


def dicomdir(
    folder: Path, *file_ids: str | list[str], inactive: str | None = None, undefined_length: bool = False
) -> Path:
    records = []
    for file_id in (*file_ids, *([inactive] if inactive else [])):
        record = Dataset()
        record.RecordInUseFlag = 0 if file_id == inactive else 0xFFFF
        record.DirectoryRecordType = "IMAGE"
        record["ReferencedFileID"] = DataElement("ReferencedFileID", "CS", file_id, validation_mode=IGNORE)
        records.append(record)
    dataset, dataset.file_meta = Dataset(), FileMetaDataset()
    dataset.DirectoryRecordSequence = [Dataset(), *records]
    dataset["DirectoryRecordSequence"].is_undefined_length = undefined_length
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_files_come_in_order_with_their_state(tmp_path: Path) -> None:
    touched(tmp_path, "b/2", "b/10", "a", "b/c/d", "c")
    assert names(tmp_path) == ["a", "c", "b/10", "b/2", "b/c/d"]
    first = next(walk(tmp_path))
    assert first == FoundFile(tmp_path / "a", 5, (tmp_path / "a").stat().st_mtime_ns)


def test_what_is_set_apart_is_passed_over(tmp_path: Path) -> None:
    touched(tmp_path, "a", "b/2", "c/3")
    assert names(tmp_path, tmp_path / "a", tmp_path / "b") == ["c/3"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and sockets are POSIX")
def test_what_is_no_file_is_named_and_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    listener.close()
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    Path("zero").symlink_to("/dev/zero")
    assert kinds(tmp_path) == {
        "pipe": "pipe",
        "socket": "socket",
        "dangling": "link to nothing",
        "loop": "link to nothing",
        "zero": "device",
    }


def test_links_to_files_are_followed_and_to_folders_not(tmp_path: Path) -> None:
    touched(tmp_path / "tree", "a/1")
    touched(tmp_path / "elsewhere", "2", "3")
    (tmp_path / "tree" / "file").symlink_to(tmp_path / "elsewhere" / "2")
    (tmp_path / "tree" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "a" / "up").symlink_to(tmp_path / "tree")
    assert kinds(tmp_path / "tree") == {"1": "", "file": "", "folder": "link to a folder", "up": "link to a folder"}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "shut/1", "open/2")
    listing = os.scandir

    def refusing(path: Path) -> object:
        if path.name == "shut":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert list(walk(tmp_path))[1] == ClosedFolder(tmp_path / "shut", "Permission denied")
    assert names(tmp_path) == ["open/2", "shut"]


def test_a_file_whose_state_is_shut_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "1")

    def refusing(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refusing)
    assert list(walk(tmp_path)) == [FoundFile(tmp_path / "1")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff\xfeIM\n1"
    with open(raw, "wb"):  # noqa: PTH123 - a name that is no text
        pass
    assert [os.fsencode(found.path) for found in walk(tmp_path)] == [raw]


def test_a_deep_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    touched(deep, "1")
    monkeypatch.setattr(sys, "setrecursionlimit", None)
    assert [found.path for found in walk(tmp_path)] == [deep / "1"]


def test_a_dicomdir_names_its_files_and_those_missing(tmp_path: Path) -> None:
    touched(tmp_path, "PAT/SE1/IM1", "PAT/SE1/IM2", "PAT/OTHER")
    path = dicomdir(tmp_path, ["PAT", "SE1", "IM2"], ["PAT", "SE1", "IM1"], ["PAT", "SE1", "IM3"], inactive="GONE")
    listed = read_dicomdir(path)
    assert listed.files == (tmp_path / "PAT/SE1/IM2", tmp_path / "PAT/SE1/IM1")
    assert listed.missing == ("PAT/SE1/IM3",)
    assert [found.path for found in files_at(path)] == [path, *listed.files]


@pytest.mark.parametrize("name", ["pat/im1", "PAT/IM1;1", "Pat/Im1.;1"])
def test_a_dicomdir_tolerates_what_discs_do_to_names(tmp_path: Path, name: str) -> None:
    touched(tmp_path, name)
    assert read_dicomdir(dicomdir(tmp_path, ["PAT", "IM1"])).files == (tmp_path / name,)
    assert read_dicomdir(dicomdir(tmp_path, ["PAT", "IM1;1"])).files == (tmp_path / name,)


@pytest.mark.parametrize(
    "file_id", [["..", "SECRET"], ["", "SECRET"], ["LINK", "SECRET"], "LINKED", ["../SECRET"], "."]
)
def test_a_dicomdir_cannot_leave_its_folder(tmp_path: Path, file_id: str | list[str]) -> None:
    touched(tmp_path, "SECRET")
    path = dicomdir(tmp_path / "disc", file_id)
    (tmp_path / "disc" / "LINK").symlink_to(tmp_path)
    (tmp_path / "disc" / "LINKED").symlink_to(tmp_path / "SECRET")
    assert read_dicomdir(path).files == ()
    assert len(read_dicomdir(path).missing) == 1


@pytest.mark.parametrize("data", [b"", b"no DICOM", bytes(128) + b"DICM", bytes(128) + b"DICM\2\0\0\0UL\4\0"])
def test_a_damaged_dicomdir_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "DICOMDIR").write_bytes(data)
    with pytest.raises(UnreadableImage, match="not a readable DICOMDIR"):
        list(files_at(tmp_path / "DICOMDIR"))


@pytest.mark.parametrize("undefined_length", [False, True])
def test_every_cut_of_a_dicomdir_is_refused_and_none_makes_it_shorter(tmp_path: Path, undefined_length: bool) -> None:
    path = dicomdir(tmp_path, ["PAT", "IM1"], "IM2", "IM3", undefined_length=undefined_length)
    data = path.read_bytes()
    assert len(read_dicomdir(path).missing) == 3
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with pytest.raises(UnreadableImage, match="not a readable DICOMDIR"):
            read_dicomdir(path)


def test_nothing_there_and_nothing_to_open_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        list(files_at(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="a device"):
        list(files_at(Path("/dev/zero")))
