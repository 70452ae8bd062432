"""The types that review is said in: people, cases, edits, decisions and the events of the audit trail.

What is stored is immutable but for a case's state, its reader and its place in the worklist. Times are in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from delineate.errors import DelineateError
from delineate.labels import Colour


class StaleRevision(DelineateError):
    """Somebody else changed the case meanwhile. `revision`: the one it is at now; nothing was stored."""

    def __init__(self, problem: str, *, revision: int, **facts: Any) -> None:
        super().__init__(problem, **facts)
        self.revision = revision

    def _facts(self) -> dict[str, object]:
        return {**super()._facts(), "revision": self.revision}


class NotAllowed(DelineateError):
    """Something that this person may not do, or not now."""


class DamagedStore(DelineateError):
    """What is stored is not what was stored: a digest does not fit."""


class Role(Enum):
    """What a person may do: look; look, correct and decide; also manage people and read the audit trail."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    ADMIN = "admin"


class Keep(Enum):
    """Says that a value stays as it is, where None has a meaning of its own."""

    KEEP = "keep"


class State(Enum):
    """Where a case stands. The state is of the whole case; structures may have decisions of their own."""

    UNREVIEWED = "unreviewed"
    IN_REVIEW = "in_review"
    ESCALATED = "escalated"
    AWAITING_SECOND = "awaiting_second"
    APPROVED = "approved"
    APPROVED_WITH_EDITS = "approved_with_edits"
    REJECTED = "rejected"


class Verdict(Enum):
    """What a reader decides. Whether an approval is one with edits follows from the revision, not from the reader."""

    APPROVE = "approve"
    REJECT = "reject"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Person:
    """A user. `collections`: whose cases they may see, none for all (admins see all). `sees_names`: of patients."""

    id: int
    name: str
    full_name: str
    role: Role
    sees_names: bool = False
    collections: tuple[str, ...] | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class PersonChange:
    """What becomes different about a user; None and KEEP: as it is. A new password or not `active` ends sessions."""

    full_name: str | None = None
    role: Role | None = None
    password: str | None = field(default=None, repr=False)
    sees_names: bool | None = None
    collections: tuple[str, ...] | Keep | None = Keep.KEEP
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a browser is known by. `token`: a secret, stored nowhere; `csrf`: what each change must come with."""

    token: str = field(repr=False)
    csrf: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All layers of a case at a revision, so that not every edit since the first is applied. See `layers`."""

    case: int
    revision: int
    packed: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure of a case as the model made it. `agreement`: Dice between folds or variants, None if unknown."""

    value: int
    name: str
    colour: Colour
    volume_ml: float
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class NewCase:
    """A case as it enters the worklist.

    `key`: unique name (the case's id). `pseudonym`: shown to everybody; `patient_name`: to those allowed only.
    `scan`: a NIfTI file or a folder of one DICOM series. `segmentation`: the model's own result, never written to;
    `digest`: SHA-256 of its file. `reference`: somebody's segmentation to compare with. `warnings`: sentences.
    `priority`: what most needs eyes is highest. `site`, `scanner`, `date` ("" if unknown): as the scan tells.
    """

    key: str
    collection: str
    pseudonym: str
    scan: Path
    segmentation: Path
    digest: str
    structures: tuple[Structure, ...]
    overlaps: bool = False
    patient_name: str = ""
    reference: Path | None = None
    model: str = ""
    model_digest: str = ""
    date: str = ""
    site: str = ""
    scanner: str = ""
    warnings: tuple[str, ...] = ()
    priority: float = 0.0
    priority_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """A case of the worklist and where it stands.

    `revision`: 0 is the model's own result; each edit, undo or upload adds one. `reader`: who has it or decided;
    `second_reader`: who must confirm, or did. `seconds`: spent on it by people, as the page reports.
    """

    id: int
    new: NewCase
    state: State
    revision: int
    reader: str | None = None
    second_reader: str | None = None
    seconds: float = 0.0
    decided: datetime | None = None


@dataclass(frozen=True, slots=True)
class EditRecord:
    """One change of a case's labels: from `revision - 1` to `revision`.

    `tool`: "brush", "undo", ...; `parameters`: JSON text of how it was used. `packed`: the change itself, see
    `editing.runs`; `layer`: of what, see `layers`. `undoes`: the revision that it takes back; that of an undo
    is taken back by a redo. `digest`: SHA-256 of the packed runs.
    """

    case: int
    revision: int
    person: str
    tool: str
    parameters: str
    packed: bytes
    digest: str
    made: datetime
    undoes: int | None = None
    layer: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reader decided and saw.

    `structure`: a structure's value, None for the whole. `seen`: SHA-256 over the scan's files, and the grid and
    voxels of all labels at `revision`; see `seen`. `signature`: the full name as it was signed with.
    """

    case: int
    person: str
    signature: str
    verdict: Verdict
    revision: int
    seen: str
    made: datetime
    structure: int | None = None
    reason: str = ""
    second: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A link of the audit trail: `digest` is SHA-256 over all else, `previous` (the digest before it) included."""

    number: int
    made: datetime
    person: str
    action: str
    case: str
    facts: str
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """Which page of the worklist: filters ("" and empty: all), order ("-" before it: descending), and the slice."""

    states: tuple[State, ...] = ()
    structure: str = ""
    model: str = ""
    site: str = ""
    reader: str = ""
    search: str = ""
    order: str = "-priority"
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class WorklistPage:
    """A page of the worklist, and how many cases its filters let through in all."""

    cases: tuple[ReviewCase, ...]
    total: int
    by_state: tuple[tuple[State, int], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class WorklistFilters:
    """What the worklist can be filtered by: the values that occur in cases that a person may see, in order."""

    structures: tuple[str, ...]
    models: tuple[str, ...]
    sites: tuple[str, ...]
    readers: tuple[str, ...]
    collections: tuple[str, ...]
