"""What others may try: paths out of the folders, other hosts, too many bytes, guesses, bombs, old sessions."""

import asyncio
import gzip
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from review_site import GRID, PASSWORD, Site, make_site

from delineate import formats
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.review.records import Role
from delineate.review.server.guard import sanitised
from delineate.review.server.page import read_page
from delineate.review.server.problems import without_paths
from delineate.review.server.tokens import Attempts
from delineate.review.server.uploads import Limits, read_upload
from delineate.volume import Segmentation

UPLOADS = "/api/cases/two/uploads"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from _site(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from _site(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = make_site(tmp_path_factory.mktemp("small"), upload_bytes=1 << 20)
    yield site
    site.store.close()


def _site(tmp_path: Path) -> Iterator[Site]:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>the page")
    (page / "assets" / "app.js").write_text("let page = 1;\n" * 100)
    (page / "link.js").symlink_to("/etc/passwd")
    (tmp_path / "secret.txt").write_text("root:secret")
    site = make_site(tmp_path / "work", page=page)
    yield site
    site.store.close()


OUT = [
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e%2fsecret.txt",
    "..%252fsecret.txt",
    "..%5csecret.txt",
    "....//secret.txt",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "secret.txt%00.js",
    "assets/../../secret.txt",
    "assets%2f..%2f..%2fsecret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "..;/secret.txt",
    "~/secret.txt",
    "link.js",
]


def raw(site: Site, path: str, who: str | None = None) -> tuple[int, bytes]:
    """What a path gives that no client has tidied up, with the percent escapes taken once, as servers do."""
    visitor = site.visitor(who)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": httpx.QueryParams(f"p={path}")["p"] if "&" not in path else path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8765"), (b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(site.app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("base", ["/", "/assets/", "/api/cases/two/exports/", "/api/cases/", "/api/"])
def test_no_path_leads_out(shared: Site, base: str) -> None:
    for path in OUT:
        status, body = raw(shared, base + path, "ada")
        assert (status in (400, 404), b"root:" in body) == (True, False), path


def test_the_page_is_what_was_built(shared: Site) -> None:
    assert raw(shared, "/")[1] == b"<!doctype html>the page"
    answer = shared.visitor().get("/assets/app.js")
    assert (answer.headers["content-type"], answer.headers["content-encoding"]) == (
        "text/javascript; charset=utf-8",
        "gzip",
    )
    assert answer.text.startswith("let page")
    assert "immutable" in answer.headers["cache-control"]


def test_links_are_no_part_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "a.js").symlink_to("/etc/passwd")
    (tmp_path / "b.js").write_text("")
    assert set(read_page(tmp_path)) == {"b.js"}


def test_exported_links_and_what_is_not_listed_are_not_sent(site: Site) -> None:
    ada = site.visitor("ada")
    case = ada.get("/api/cases/two").json()
    signed = {"verdict": "approve", "revision": 0, "seen": case["seen"], "signature": "Ada"}
    assert ada.post("/api/cases/two/decisions", signed).status_code == 200
    files = ada.post("/api/cases/two/exports", {"formats": ["nifti"]}).json()["files"]
    name = next(file["name"] for file in files if file["format"] == "nifti")
    sent = ada.get(f"/api/cases/two/exports/{name}")
    assert (sent.status_code, sent.headers["content-disposition"]) == (200, f'attachment; filename="{name}"')
    folder = next(site.places.exports.rglob(name)).parent
    (folder / "other.txt").write_text("root:")
    assert ada.get("/api/cases/two/exports/other.txt").status_code == 404
    assert ada.get("/api/cases/two/exports/exported.json").status_code == 404
    (folder / name).unlink()
    (folder / name).symlink_to("/etc/passwd")
    assert ada.get(f"/api/cases/two/exports/{name}").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::2]:8765"])
def test_a_server_on_loopback_answers_to_its_own_names_only(site: Site, host: str) -> None:
    for path in ("/", "/api/session", f"/?token={site.token}"):
        assert site.visitor("ada").get(path, headers={"Host": host}).status_code == 421
    assert site.visitor().get(f"/?token={site.token}").status_code == 303


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"])
def test_those_names_are_loopbacks(shared: Site, host: str) -> None:
    assert shared.visitor().get("/", headers={"Host": host}).status_code == 200


def test_the_one_time_token_works_once(site: Site) -> None:
    first, second = site.visitor(), site.visitor()
    answer = first.get(f"/?token={site.token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("delineate_session_", "httponly", "samesite=strict", "path=/"))
    assert first.get("/api/session").json()["person"]["name"] == "ada"
    assert second.get(f"/?token={site.token}").status_code == 401
    assert second.post("/api/session", {"token": site.token}).status_code == 401
    assert first.get(f"/?token={site.token}").status_code == 303  # who is in already stays in


@pytest.mark.parametrize("token", ["", "wrong", "é", "x" * 300])
def test_guessed_tokens_let_nobody_in_and_use_nothing_up(site: Site, token: str) -> None:
    assert site.visitor().get("/", params={"token": token}).status_code == 401
    assert site.visitor().get(f"/?token={site.token}").status_code == 303


def test_a_server_on_a_network_has_no_token(tmp_path: Path) -> None:
    site = make_site(tmp_path, local=None, hosts=None, secure=True)
    visitor = site.visitor(base="https://review.example")
    assert visitor.get(f"/?token={site.token}").status_code == 401
    assert "max-age" in visitor.get("/").headers["strict-transport-security"]
    site.store.add_person("dora", "Dora", Role.VIEWER, PASSWORD)
    answer = visitor.post("/api/session", {"name": "dora", "password": PASSWORD})
    assert (answer.status_code, answer.json()["local"]) == (200, False)
    assert "secure" in answer.headers["set-cookie"].lower()
    site.store.close()


def test_guessing_passwords_is_slowed_down(tmp_path: Path) -> None:
    site = make_site(tmp_path, logins_a_minute=3)
    asked = [site.visitor(client="10.0.0.1").post("/api/session", {"name": f"n{n}", "password": "x"}) for n in range(4)]
    assert [answer.status_code for answer in asked] == [401, 401, 401, 429]
    assert asked[3].headers["retry-after"] == "60"
    other = site.visitor(client="10.0.0.2").post("/api/session", {"name": "vera", "password": "x"})
    assert other.status_code == 401
    site.store.close()


def test_attempts_are_forgotten_after_a_minute() -> None:
    now = [0.0]
    attempts = Attempts(2, clock=lambda: now[0])
    assert [attempts.allow("a") for _ in range(3)] == [True, True, False]
    now[0] = 60.0
    assert attempts.allow("a")


def test_attempts_that_were_right_do_not_count() -> None:
    attempts = Attempts(1)
    for _ in range(3):
        assert attempts.allow("a")
        attempts.forgive("a")


def test_sessions_end(tmp_path: Path) -> None:
    site = make_site(tmp_path, session_seconds=-1.0)
    visitor = site.visitor()
    assert visitor.post("/api/session", {"token": site.token}).status_code == 200
    assert visitor.get("/api/session").status_code == 401
    site.store.close()


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(shared: Site) -> None:
    rita = shared.visitor("rita")
    copied = httpx.Cookies(rita.cookies)
    assert rita.ask("DELETE", "/api/session").status_code == 200
    rita.cookies = copied
    assert rita.get("/api/session").status_code == 401


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536


@pytest.mark.parametrize("who", [None, "vera"])
def test_who_may_not_send_is_refused_before_a_byte_is_read(shared: Site, who: str | None) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = shared.visitor(who).ask("POST", UPLOADS, content=endless(), headers=headers)
    assert answer.status_code == (401 if who is None else 403)


@pytest.mark.parametrize("path", ["/api/session", "/api/cases/two/undo", "/api/cases/two/edits", UPLOADS])
@pytest.mark.parametrize("length", ["99999999999", None])
def test_too_many_bytes_are_refused(small: Site, path: str, length: str | None) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x" if path == UPLOADS else "application/json"}
    headers |= {} if length is None else {"Content-Length": length}
    begun = b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n" if path == UPLOADS else b""

    async def body() -> AsyncIterator[bytes]:
        yield begun
        async for piece in endless():
            yield piece

    answer = small.visitor("rita").ask("POST", path, content=body(), headers=headers)
    assert answer.status_code == 413


def nifti_header(shape: tuple[int, int, int]) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i8h", header, 0, 348, *([0] * 8))
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 1, 1)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return bytes(header)


@pytest.mark.parametrize("shape", [(7, 5, 4), (2000, 2000, 500)])
def test_a_bomb_is_refused(shared: Site, shape: tuple[int, int, int]) -> None:
    zeros = gzip.compress(nifti_header(shape) + b"\0" * (64 << 20), 9)
    before = {path.name for path in shared.places.folder.iterdir()}
    answer = shared.visitor("rita").post(UPLOADS, data={"baseRevision": "0"}, files={"file": ("a.nii.gz", zeros)})
    assert answer.status_code == 400
    assert shared.visitor("rita").get("/api/cases/two").json()["revision"] == 0
    assert not list((shared.places.uploads).iterdir()), before


def test_a_file_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    shape = (256, 256, 400)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_header(shape) + b"\0" * int(np.prod(shape)), 1))
    with path.open("rb") as stream, pytest.raises(ValueError, match="needs more memory"):
        read_upload(stream, tmp_path / "uploads", Limits(32 << 20, 20, int(np.prod(shape))))


def test_a_file_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    # More than the fastest machine reads in a second, in parts that are packed once.
    shape, parts = (512, 512, 6000), 24
    part = gzip.compress(b"\1" * (int(np.prod(shape)) // parts), 1)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_header(shape)) + parts * part)
    with path.open("rb") as stream, pytest.raises(ValueError, match="memory or time"):
        read_upload(stream, tmp_path / "uploads", Limits(8 << 30, 1, int(np.prod(shape))))


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 100, gzip.compress(b"x" * 10, mtime=0)], ids=["empty", "junk", "no_nifti"]
)
def test_what_is_no_segmentation_is_refused(shared: Site, content: bytes) -> None:
    answer = shared.visitor("rita").post(UPLOADS, data={"baseRevision": "0"}, files={"file": ("a.nii.gz", content)})
    assert answer.status_code == 400
    assert str(shared.places.folder) not in answer.text


def test_an_upload_is_read_wherever_the_review_lies(
    shared: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    formats.write_segmentation(Path("a.nii.gz"), Segmentation(shared.labels, GRID, label_set({1: "a", 2: "b"})))
    with Path("a.nii.gz").open("rb") as stream:
        sent = read_upload(stream, Path("review/uploads"), Limits(1 << 30, 60, shared.labels.size))
    assert (sent.array == shared.labels).all()
    assert list(Path("review/uploads").iterdir()) == []


def test_json_of_very_many_parts_is_not_read(shared: Site) -> None:
    body = b'{"baseRevision":0,"tool":"brush","runs":"","parameters":{"a":[' + b"[]," * 200_000 + b"[]]}}"
    headers = {"Content-Type": "application/json"}
    answer = shared.visitor("rita").post("/api/cases/two/edits", content=body, headers=headers)
    assert answer.status_code == 413


def test_a_segmentation_on_another_grid_is_refused(shared: Site, tmp_path: Path) -> None:
    path = tmp_path / "b.nii.gz"
    shifted = Grid((7, 5, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
    formats.write_segmentation(path, Segmentation(shared.labels, shifted, label_set({1: "a", 2: "b"})))
    sent = {"file": ("b.nii.gz", path.read_bytes())}
    answer = shared.visitor("rita").post(UPLOADS, data={"baseRevision": "0"}, files=sent)
    assert (answer.status_code, "same place" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cannot read /data/clinic/p1/scan.nii.gz now", "cannot read (a file) now"),
        ("no '/home/a b'", "no '(a file)'"),
        ("cannot read /data/Max Mustermann/CT 1/Max Mustermann.nii.gz now", "cannot read (a file) now"),
        (r"no C:\clinic\p1\scan.nii", "no (a file)"),
        ("5 mm/s and 1/2", "5 mm/s and 1/2"),
    ],
)
def test_errors_tell_no_folders(said: str, told: str) -> None:
    assert without_paths(said) == told


def test_a_failure_is_logged_without_its_text() -> None:
    try:
        raise KeyError("Mustermann")
    except KeyError as error:
        said = sanitised(error)
    assert "KeyError at test_review_hostile.py" in said
    assert "Mustermann" not in said


def test_bodies_are_not_told_back(shared: Site) -> None:
    answer = shared.visitor().post("/api/session", {"name": 5, "password": "hunter2", "more": PASSWORD})
    assert answer.status_code == 422
    assert "hunter2" not in answer.text
    assert PASSWORD not in answer.text
