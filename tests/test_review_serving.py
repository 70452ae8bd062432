"""The command that serves a review: who may reach it, its one-time address, its end, and what it finds again."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from review_site import PASSWORD, Site, make_site

from delineate.cli import main
from delineate.cli import reviewing as reviewing_command
from delineate.errors import InputError
from delineate.review import serving as serving_module
from delineate.review.keeping import local_person, open_review
from delineate.review.places import places_in
from delineate.review.records import PersonChange, Role
from delineate.review.serving import Address, check_address, is_open_to_others

START_SECONDS = 120


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path)
    yield site
    site.store.close()


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and the address that it prints; killed at the end if it still runs."""
    command = [sys.executable, "-m", "delineate", "review", *arguments, "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = re.search(r"Listening on (\S+)", line)
                if found is not None:
                    yield process, found[1]
                    break
            else:
                raise AssertionError(process.stderr.read() if process.stderr else "")
        finally:
            process.kill()


def results_in(folder: Path) -> tuple[str, str]:
    """A folder of scans and one of results, by name."""
    make_site(folder / "made").store.close()
    for kind, name in (("scans", "scan.nii.gz"), ("results", "result.nii.gz")):
        (folder / kind).mkdir()
        shutil.copy(folder / "made" / "one" / name, folder / kind / "p1.nii.gz")
    return str(folder / "scans"), str(folder / "results")


def test_a_server_lets_in_once_ends_in_order_and_goes_on(tmp_path: Path) -> None:
    folders = results_in(tmp_path)
    with served(*folders) as (process, address):
        base, browser = address.partition("/?")[0], httpx.Client()
        assert base.startswith("http://127.0.0.1:")
        assert browser.get(address).status_code == 303
        assert httpx.get(address).status_code == 401
        assert [case["key"] for case in browser.get(f"{base}/api/cases").json()["cases"]] == ["p1"]
        assert "server" not in browser.get(f"{base}/api/session").headers
        second = subprocess.run(
            [sys.executable, "-m", "delineate", "review", *folders, "--no-browser"], capture_output=True, text=True
        )
        assert (second.returncode, "another server of this review runs already" in second.stderr) == (2, True)
        process.send_signal(signal.SIGTERM)
        out, problems = process.communicate(timeout=START_SECONDS)
        assert (process.returncode, "Ended." in out, "Traceback" in problems) == (0, True, False)
        log = places_in(tmp_path / "results").log.read_text()
        assert "GET /api/cases 200" in log
        assert "token" not in log
        kept = places_in(tmp_path / "results").folder.iterdir()
        assert all(path.stat().st_mode & 0o077 == 0 for path in kept if path.is_file())
    with served(*folders) as (process, address):
        again = address.partition("/?")[0]
        assert browser.get(f"{again}/api/session").status_code == 200  # restarting ends no session
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=START_SECONDS)
        assert process.returncode == 0
    browser.close()


def test_answers_do_not_wait_for_the_acknowledgement_of_their_headers(tmp_path: Path) -> None:
    with served(*results_in(tmp_path)) as (_, address), httpx.Client() as browser:
        browser.get(address)
        session = f"{address.partition('/?')[0]}/api/session"
        waits = [browser.get(session).elapsed.total_seconds() for _ in range(60)]
    assert min(waits[30:]) < 0.035  # 0.04 and more where each waits; the first few never do


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_server_for_a_network_speaks_tls_and_takes_passwords(tmp_path: Path) -> None:
    folders = results_in(tmp_path)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([*making, *names], check=True, capture_output=True)
    store = open_review(places_in(tmp_path / "results"))
    store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    store.close()
    with served(*folders, "--host", "0.0.0.0", "--tls-cert", cert, "--tls-key", key) as (_, address):
        assert re.fullmatch(r"https://0\.0\.0\.0:\d+", address)
        base = address.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(verify=ssl.create_default_context(cafile=cert), base_url=base) as browser:
            said = {"name": "dora", "password": PASSWORD}
            answer = browser.post("/api/session", json=said)
            assert (answer.status_code, answer.json()["local"]) == (200, False)
            assert "secure" in answer.headers["set-cookie"].lower()
            assert "strict-transport-security" in answer.headers
            assert browser.get("/api/cases").json()["total"] == 1
        older = ssl.create_default_context(cafile=cert)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        older.set_ciphers("ECDHE+AESGCM")
        assert httpx.get(f"{base}/", verify=older).status_code in (200, 503)


def test_ciphers_are_those_that_every_browser_calls_safe() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(serving_module.CIPHERS)
    names = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert names
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in names)


@pytest.mark.skipif(os.name != "posix", reason="the system knows no permissions of groups")
def test_what_a_review_keeps_is_for_its_owner(tmp_path: Path) -> None:
    folder = places_in(tmp_path).folder
    store = open_review(places_in(tmp_path))
    store.add_person("dora", "Dora", Role.REVIEWER, PASSWORD)
    store.close()
    assert not is_open_to_others(folder)
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}
    folder.chmod(0o755)
    assert is_open_to_others(folder)


TLS = Address("0.0.0.0", None, Path(__file__), Path(__file__))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "review.example"])
def test_others_reach_a_server_by_tls_only(site: Site, host: str) -> None:
    with pytest.raises(InputError, match="needs TLS"):
        check_address(Address(host), site.store)


def test_a_network_needs_somebody_who_can_sign_in(site: Site) -> None:
    with pytest.raises(InputError, match="nobody could sign in"):
        check_address(TLS, site.store)
    site.store.add_person("dora", "Dora", Role.VIEWER, PASSWORD)
    check_address(TLS, site.store)
    site.store.change_person("dora", PersonChange(active=False))
    with pytest.raises(InputError, match="nobody could sign in"):
        check_address(TLS, site.store)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_this_machine_alone_needs_neither(site: Site, host: str) -> None:
    check_address(Address(host), site.store)


def test_half_of_tls_is_none(site: Site) -> None:
    with pytest.raises(InputError, match="certificate and its key"):
        check_address(replace(TLS, key=None), site.store)


def test_this_machines_user_may_do_everything_under_one_name(site: Site) -> None:
    first = local_person(site.store)
    assert (first.role, first.sees_names, first.collections) == (Role.ADMIN, True, None)
    site.store.change_person(first.name, PersonChange(role=Role.VIEWER))
    again = local_person(site.store, "Dr. Max Muster")
    assert (again.id, again.role, again.full_name) == (first.id, Role.ADMIN, "Dr. Max Muster")


def test_accounts_from_the_command_line(tmp_path: Path) -> None:
    run, folder = CliRunner(), str(tmp_path)
    words = ["--role", "viewer", "--collection", "north", "--full-name", "Dora D."]
    added = run.invoke(main, ["review-people", "add", folder, "dora", *words], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert "dora (Dora D.): viewer, cases of north, sees no names" in added.output
    assert PASSWORD not in added.output
    changed = run.invoke(main, ["review-people", "change", folder, "dora", "--all-collections", "--sees-names"])
    assert "all cases, sees patients' names" in changed.output
    short = run.invoke(main, ["review-people", "add", folder, "max"], input="short\nshort\n")
    assert (short.exit_code, "too short" in short.output) == (2, True)
    assert run.invoke(main, ["review-people", "list", folder]).output.count("\n") == 1


def test_the_audit_trail_from_the_command_line(site: Site, tmp_path: Path) -> None:
    run, trail = CliRunner(), tmp_path / "trail.jsonl"
    assert "whole" in run.invoke(main, ["review-audit", "verify", str(tmp_path)]).output
    assert run.invoke(main, ["review-audit", "export", str(tmp_path), str(trail)]).exit_code == 0
    assert run.invoke(main, ["review-audit", "verify", str(trail)]).exit_code == 0
    trail.write_text(trail.read_text().replace("rita", "Rita"))
    assert run.invoke(main, ["review-audit", "verify", str(trail)]).exit_code == 2


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewing_command, "find_spec", lambda name: None if name == "fastapi" else name)
    said = CliRunner().invoke(main, ["review", str(tmp_path)])
    assert (said.exit_code, "delineate[review]" in said.output) == (2, True)
