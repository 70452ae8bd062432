"""New names for patients, UIDs and days, each a keyed function of the old one, so that separate runs agree.

Nothing but the key file is needed to get the same result again, and without it nothing leads back.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from delineate.errors import InputError
from delineate.files import write_once

KEY_FORMAT = "delineate de-identification key"
_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_WELL_KNOWN_ROOT = "1.2.840.10008."
_PSEUDONYM_LETTERS = 12
_LONGEST_SHIFT_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Patient:
    """Who an object says it is about: ID and issuer, without padding. `study_uid` stands in for a missing ID."""

    id: str = field(repr=False)
    issuer: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)

    @property
    def identity(self) -> str:
        """One string for one patient."""
        # Objects without an ID may be of different people: no more than a study is taken to be one person.
        return f"patient\0{self.issuer}\0{self.id}" if self.id else f"study\0{self.study_uid}"


@dataclass(frozen=True, slots=True)
class PseudonymKey:
    """The secret of a project, and pseudonyms that people chose, by (issuer, patient ID). Neither is ever printed."""

    secret: bytes = field(repr=False)
    prefix: str = "P-"
    chosen: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < _SECRET_BYTES // 2:
            raise InputError(
                "the key's secret is too short", expected="at least 16 bytes", got=f"{len(self.secret)} bytes"
            )
        if not _NAME.fullmatch(f"{self.prefix}X"):
            raise InputError("not a prefix for pseudonyms", expected="letters, digits, - and _, at most 31")
        # A frozen copy, because a table that changes in mid-run would give one patient two names.
        object.__setattr__(self, "chosen", MappingProxyType(dict(self.chosen)))

    def pseudonym(self, patient: Patient) -> str:
        """The patient's new ID and name: chosen in the key file, or a prefix and 60 bits of a keyed hash.

        An entry without an issuer holds for the ID under any issuer that has no entry of its own.
        """
        for name in ((patient.issuer, patient.id), ("", patient.id)):
            if patient.id and name in self.chosen:
                return self.chosen[name]
        letters = base64.b32encode(self._digest("pseudonym", patient.identity)).decode("ascii")
        return f"{self.prefix}{letters[:_PSEUDONYM_LETTERS]}"

    def uid(self, uid: str) -> str:
        """A UID under 2.25 from 122 bits of a keyed hash (PS3.5 B.2); UIDs of the standard itself stay as they are."""
        if uid.startswith(_WELL_KNOWN_ROOT):
            return uid
        number = int.from_bytes(self._digest("uid", uid)[:16], "big")
        version_8 = (number & ~(0xF << 76)) | (0x8 << 76)  # RFC 9562, 5.8: a UUID of a vendor's own making
        return f"2.25.{(version_8 & ~(0x3 << 62)) | (0x2 << 62)}"

    def shift_days(self, patient: Patient) -> int:
        """How many days a patient's dates are moved: the same for all of them, into the past, up to ten years."""
        number = int.from_bytes(self._digest("days", patient.identity)[:8], "big")
        return -1 - number % _LONGEST_SHIFT_DAYS

    def token(self, text: str) -> str:
        """Stands for a text, where equal texts must stay equal and different ones different."""
        return f"T-{self._digest('text', text).hex()[:16]}"

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without giving anything away."""
        return self._digest("fingerprint", "").hex()[:16]

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.new(self.secret, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()


def load_or_make_key(path: Path) -> PseudonymKey:
    """The key in a file; where there is none, a new one with a random secret, readable by its owner only.

    The file is JSON: `format`, `secret` (hexadecimal), `prefix`, and `patients`, a list that may be edited, of objects
    with `patient_id`, `pseudonym` and, if wanted, `issuer`. Who has it can find the patients again: keep it apart from
    what it made. Raises `InputError` for a file that is no such key, and never repeats what is in it.
    """
    if not path.exists():
        _write_new(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise _not_a_key(path, f"no JSON text ({type(error).__name__})") from None
    if not isinstance(content, dict) or content.get("format") != KEY_FORMAT:
        raise _not_a_key(path, "another format")
    return _parsed(content, path)


def _parsed(content: dict[str, Any], path: Path) -> PseudonymKey:
    try:
        secret = bytes.fromhex(content["secret"])
    except (KeyError, TypeError, ValueError):
        raise _not_a_key(path, "no hexadecimal secret") from None
    prefix, entries = content.get("prefix", "P-"), content.get("patients", [])
    if not isinstance(prefix, str) or not isinstance(entries, list):
        raise _not_a_key(path, "a prefix or a list of patients of the wrong type")
    chosen: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(entries, start=1):
        patient, pseudonym = _entry(entry, number, path)
        if patient in chosen or pseudonym.upper() in {name.upper() for name in chosen.values()}:
            raise _not_a_key(path, f"entry {number} of its patients repeats an ID or a pseudonym")
        chosen[patient] = pseudonym
    return PseudonymKey(secret, prefix, chosen)


def _entry(entry: object, number: int, path: Path) -> tuple[tuple[str, str], str]:
    if isinstance(entry, dict):
        texts = [entry.get(name, "") for name in ("issuer", "patient_id", "pseudonym")]
        if all(isinstance(text, str) for text in texts) and texts[1].strip() and _NAME.fullmatch(texts[2]):
            return (texts[0].strip(), texts[1].strip()), texts[2]
    raise _not_a_key(path, f"entry {number} of its patients lacks a patient_id or a pseudonym of letters and digits")


def _not_a_key(path: Path, got: str) -> InputError:
    return InputError(
        "not a key file for de-identification",
        expected="JSON as it was first written",
        got=got,
        path=path,
        remedy="Correct it from a copy; with another secret, everything gets other names.",
    )


def _write_new(path: Path) -> None:
    content = {"format": KEY_FORMAT, "secret": secrets.token_hex(_SECRET_BYTES), "prefix": "P-", "patients": []}
    # Of several runs that find no key one makes it, and all use that one.
    write_once(path, (json.dumps(content, indent=2) + "\n").encode(), mode=0o600)
