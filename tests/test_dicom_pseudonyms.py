"""Pseudonyms, UIDs and shifts of days: the same in every run with one key, and others with another."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from delineate.errors import InputError
from delineate.formats.deidentification.pseudonyms import KEY_FORMAT, Patient, PseudonymKey, load_or_make_key

KEY, OTHER = PseudonymKey(b"k" * 32), PseudonymKey(b"o" * 32)
UIDS = st.from_regex(r"\A[12](\.(0|[1-9][0-9]{0,9})){2,6}\Z").filter(lambda uid: not uid.startswith("1.2.840.10008."))


def key_file(path: Path, **changes: object) -> Path:
    content = {"format": KEY_FORMAT, "secret": "ab" * 32, "prefix": "P-", "patients": []} | changes
    path.write_text(json.dumps(content))
    return path


def test_a_new_key_is_secret_and_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key.json"
    made, again = load_or_make_key(path), load_or_make_key(path)
    assert made == again
    assert made != load_or_make_key(tmp_path / "other.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.secret) == 32


@given(uid=UIDS)
def test_a_new_uid_is_valid_lasting_and_of_the_key(uid: str) -> None:
    new = KEY.uid(uid)
    assert UID(new).is_valid
    assert new.startswith("2.25.")
    assert new == PseudonymKey(b"k" * 32).uid(uid) != OTHER.uid(uid)
    assert KEY.uid(new) != new


@given(first=UIDS, second=UIDS)
def test_different_uids_stay_different(first: str, second: str) -> None:
    assert (KEY.uid(first) == KEY.uid(second)) == (first == second)


def test_a_new_uid_is_a_uuid_of_version_8() -> None:
    number = int(KEY.uid("1.2.3").removeprefix("2.25."))
    assert (number >> 76) & 0xF == 8
    assert (number >> 62) & 0x3 == 2


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.4.1.1"])
def test_uids_of_the_standard_stay(uid: str) -> None:
    assert KEY.uid(uid) == uid


@given(patient=st.text(min_size=1, max_size=20), issuer=st.text(max_size=10))
def test_a_pseudonym_hangs_on_patient_issuer_and_key(patient: str, issuer: str) -> None:
    who = Patient(patient, issuer)
    assert KEY.pseudonym(who) == KEY.pseudonym(Patient(patient, issuer, "1.2.3"))
    assert KEY.pseudonym(who) != OTHER.pseudonym(who)
    assert KEY.pseudonym(who) != KEY.pseudonym(Patient(patient, f"{issuer}x"))
    assert -3650 <= KEY.shift_days(who) <= -1


def test_without_an_id_a_study_is_one_patient() -> None:
    first, second = (Patient("", "", uid) for uid in ("1.2.3", "1.2.4"))
    assert KEY.pseudonym(first) != KEY.pseudonym(second)
    assert KEY.pseudonym(first) == KEY.pseudonym(Patient("", "", "1.2.3"))


def test_people_choose_pseudonyms_in_the_key_file(tmp_path: Path) -> None:
    chosen = [
        {"patient_id": " 4711 ", "pseudonym": "Case-01"},
        {"patient_id": "4711", "issuer": "Clinic B", "pseudonym": "Case-02"},
    ]
    key = load_or_make_key(key_file(tmp_path / "key.json", patients=chosen, prefix="TRIAL-"))
    assert key.pseudonym(Patient("4711")) == key.pseudonym(Patient("4711", "Clinic A")) == "Case-01"
    assert key.pseudonym(Patient("4711", "Clinic B")) == "Case-02"
    assert key.pseudonym(Patient("4712")).startswith("TRIAL-")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "something"}, "another format"),
        ({"secret": "no hex"}, "no hexadecimal secret"),
        ({"secret": None}, "no hexadecimal secret"),
        ({"secret": "ab"}, "too short"),
        ({"prefix": "../"}, "prefix"),
        ({"prefix": 3}, "wrong type"),
        ({"patients": {}}, "wrong type"),
        ({"patients": ["4711"]}, "entry 1"),
        ({"patients": [{"patient_id": "4711", "pseudonym": "../../etc"}]}, "entry 1"),
        ({"patients": [{"patient_id": " ", "pseudonym": "A"}]}, "entry 1"),
        ({"patients": [{"patient_id": n, "pseudonym": "A"} for n in ("1", "2")]}, "entry 2 .* repeats"),
        ({"patients": [{"patient_id": "1", "pseudonym": n} for n in ("A", "B")]}, "entry 2 .* repeats"),
    ],
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        load_or_make_key(key_file(tmp_path / "key.json", **changes))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{", b"[" * 100_000, b'"text"'])
def test_other_files_are_no_keys_and_stay(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a key file"):
        load_or_make_key(path)
    assert path.read_bytes() == content


def test_neither_secret_nor_patients_are_printed(tmp_path: Path) -> None:
    key = PseudonymKey(b"sesamopenthedoors", chosen={("", "4711"): "Case-01"})
    assert not any(secret in repr(key) for secret in ("sesam", "4711", "Case"))
    assert "4711" not in repr(Patient("4711", "Clinic"))
    with pytest.raises(InputError) as caught:
        load_or_make_key(key_file(tmp_path / "k", patients=[{"patient_id": "4711", "pseudonym": "Müller"}]))
    assert not any(secret in str(caught.value) for secret in ("4711", "Müller"))


def test_tokens_tell_texts_apart() -> None:
    assert KEY.token("lesion 1") == KEY.token("lesion 1") != KEY.token("lesion 2")
    assert KEY.fingerprint != OTHER.fingerprint
