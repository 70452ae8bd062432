from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from delineate.errors import InputError
from delineate.formats.archives import Limits, extract, is_zip

SMALL = Limits(total_bytes=10_000, members=5, ratio=10, unrated_bytes=2_000)
ZipEdit = Callable[[zipfile.ZipFile], None]


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], packed: bool = False) -> Path:
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data, compress_type=method)
    return path


def member(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_members_come_out_byte_by_byte_and_archives_stay_closed(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", ("x", b"1")).read_bytes()
    archive = zipped(tmp_path / "a.zip", ("st/", b""), ("st/se/IM1", b"\0\1" * 999), ("more.ZIP", inner), packed=True)
    found = extract(archive, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in found.files] == ["st/se/IM1", "more.ZIP"]
    assert found.files[0].read_bytes() == b"\0\1" * 999
    assert found.nested == (tmp_path / "out" / "more.ZIP",)
    assert found.bytes == 1998 + len(inner)
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(found.files)


def test_an_older_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    extract(zipped(tmp_path / "a.zip", ("new", b"1")), tmp_path / "out")
    assert left_in(tmp_path / "out") == {"new"}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("../evil", r"'\.\./evil' would leave the folder"),
        ("a/../../evil", "would leave the folder"),
        ("/etc/evil", "would leave the folder"),
        ("C:evil", "would leave the folder"),
        ("c:/evil", "would leave the folder"),
        ("a\\..\\evil", "would leave the folder"),
        ("a//b", "is no plain path"),
        ("./a", "is no plain path"),
        ("a\x1b[2Jb", "control characters"),
        ("n" * 300, "too long a name"),
    ],
)
def test_names_that_are_no_plain_path_refuse_the_archive(tmp_path: Path, name: str, match: str) -> None:
    (tmp_path / "in").mkdir()
    archive = zipped(tmp_path / "in" / "a.zip", ("good", b"1"), (name, b"2"))
    with pytest.raises(InputError, match=match):
        extract(archive, tmp_path / "in" / "out")
    assert left_in(tmp_path) == {"in"}
    assert left_in(tmp_path / "in") == {"a.zip"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    archive = zipped(tmp_path / "a.zip", (member("IM1", kind | 0o777), b"/etc/passwd"))
    with pytest.raises(InputError, match="'IM1' is a link or a device"):
        extract(archive, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [("IM1", "IM1"), ("IM1", "im1"), ("caf\u00e9", "cafe\u0301"), ("a/b", "A/B"), ("a", "a/b"), ("a/b", "A")],
)
def test_names_that_collide_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    archive = zipped(tmp_path / "a.zip", *((name, b"1") for name in names))
    with pytest.raises(InputError, match="has the name of another member"):
        extract(archive, tmp_path / "out")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("IM1", b"secret"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="'IM1' is encrypted"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_expand_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as opened:
        opened.writestr("IM1", b"1" * 99)
    with pytest.raises(InputError, match="unsupported method"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_too_many_members_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", *((f"IM{n}", b"") for n in range(6)))
    with pytest.raises(InputError, match="too many members: expected at most 5"):
        extract(archive, tmp_path / "out", limits=SMALL)
    assert extract(zipped(tmp_path / "b.zip", *((f"{n}", b"") for n in range(5))), tmp_path / "out", limits=SMALL)


def test_too_many_bytes_are_refused_by_claim(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("IM1", b"1" * 4000), ("IM2", b"2" * 7000))
    with pytest.raises(InputError, match=r"'IM2' makes it too large: expected at most 10000 bytes in all, got 11000"):
        extract(archive, tmp_path / "out", limits=SMALL)


def test_a_bomb_is_refused_by_what_comes_out(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("IM1", bytes(9000)), packed=True)
    with pytest.raises(InputError, match=r"'IM1' unpacks like a decompression bomb: .* got 9000 bytes from"):
        extract(archive, tmp_path / "out", limits=SMALL)
    assert left_in(tmp_path) == {"a.zip"}


def test_an_empty_mask_is_no_bomb(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("IM1", bytes(2**24)), packed=True)
    assert archive.stat().st_size < 2**24 / 500
    assert extract(archive, tmp_path / "out").files[0].stat().st_size == 2**24


def test_members_that_share_their_bytes_are_a_bomb_together(tmp_path: Path) -> None:
    # Two entries of the directory point at one local header: each alone keeps to the ratio.
    archive = zipped(tmp_path / "a.zip", ("IM1", bytes(1500) + bytes(range(250))), packed=True)
    data = archive.read_bytes()
    start = data.index(b"PK\1\2")
    entry, end = data[start : data.index(b"PK\5\6")], bytearray(data[data.index(b"PK\5\6") :])
    struct.pack_into("<HHL", end, 8, 4, 4, 4 * len(entry))
    archive.write_bytes(data[:start] + b"".join(entry.replace(b"IM1", b"IM%d" % n) for n in range(4)) + end)
    with pytest.raises(InputError, match="ZIP archive"):
        extract(archive, tmp_path / "out", limits=Limits(10**6, 9, 5, 1000))


def test_a_member_longer_than_it_claims_is_damage(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("IM1", bytes(1000)), packed=True)
    data = bytearray(archive.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, 10)
    archive.write_bytes(data)
    with pytest.raises(InputError, match="damaged member of a ZIP archive: 'IM1'"):
        extract(archive, tmp_path / "out")


def test_every_cut_and_every_flipped_byte_is_typed(tmp_path: Path) -> None:
    data = zipped(tmp_path / "a.zip", ("a/IM1", bytes(range(99))), ("IM2", b"2" * 99), packed=True).read_bytes()
    for n in range(len(data)):
        for bad in (data[:n], data[:n] + bytes([data[n] ^ 0xFF]) + data[n + 1 :]):
            (tmp_path / "bad.zip").write_bytes(bad)
            try:
                extract(tmp_path / "bad.zip", tmp_path / "out")
            except InputError as error:
                assert error.path == tmp_path / "bad.zip"  # noqa: PT017 - most cuts are refused, some flips are harmless


@pytest.mark.parametrize(("data", "is_one"), [(b"PK\3\4....", True), (b"PK\5\6", True), (b"DICM", False), (b"", False)])
def test_a_zip_is_known_by_its_start(tmp_path: Path, data: bytes, is_one: bool) -> None:
    (tmp_path / "file").write_bytes(data)
    assert is_zip(tmp_path / "file") is is_one


def test_a_watcher_may_stop_it_and_nothing_stays(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert (done, total) == (3, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(zipped(tmp_path / "a.zip", ("IM1", b"123")), tmp_path / "out", tick=stop)
    assert left_in(tmp_path) == {"a.zip"}
