"""JSON as the page sends it: camelCase names, nothing unknown, texts and numbers within what databases hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from delineate.review.records import Role, State, Verdict

MOST = 2**31 - 1
_NO_NUL = r"^[^\x00]*$"

Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f/\\]+$", max_length=100)]
Line = Annotated[str, StringConstraints(pattern=_NO_NUL, max_length=300)]
Paragraph = Annotated[str, StringConstraints(pattern=_NO_NUL, max_length=4000)]
Password = Annotated[str, StringConstraints(pattern=_NO_NUL, max_length=1000)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Index = Annotated[list[Annotated[int, Field(ge=0, le=65535)]], Field(min_length=3, max_length=3)]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]


class Wire(BaseModel):
    """What goes over the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Problem(Wire):
    """What went wrong, for people. `revision`: the head, where a request was made upon another."""

    problem: str
    remedy: str | None
    revision: int | None = None


# Who is here


class SignIn(Wire):
    """A name and password, or the one-time token of the address that the server printed."""

    name: Line = ""
    password: Password = ""
    token: Line = ""


class SessionPerson(Wire):
    name: str
    full_name: str
    role: Role
    sees_names: bool


class SessionAnswer(Wire):
    """`idle_seconds`: without a touch, after which the session ends; None for never."""

    person: SessionPerson
    csrf: str
    local: bool
    version: str
    idle_seconds: float | None


# Cases


class CaseStructure(Wire):
    value: int
    name: str
    colour: list[int]
    volume_ml: float
    agreement: float | None


class CaseRow(Wire):
    key: str
    collection: str
    pseudonym: str
    patient_name: str | None
    model: str
    date: str
    site: str
    scanner: str
    structures: list[CaseStructure]
    warnings: list[str]
    priority: float
    reasons: list[str]
    state: State
    revision: int
    reader: str | None
    second_reader: str | None
    seconds: float


class Worklist(Wire):
    total: int
    by_state: dict[State, int]
    cases: list[CaseRow]


class Filters(Wire):
    structures: list[str]
    models: list[str]
    sites: list[str]
    readers: list[str]
    collections: list[str]


class Geometry(Wire):
    shape: list[int]
    affine: list[list[float]]
    spacing_mm: list[float]


class WindowPreset(Wire):
    name: str
    lower: float
    upper: float


class Picture(Wire):
    kind: str
    slope: float
    intercept: float
    windows: list[WindowPreset]
    unit: str


class DecisionAnswer(Wire):
    person: str
    signature: str
    verdict: Verdict
    revision: int
    seen: str
    made: str
    structure: int | None
    reason: str
    second: bool


class Present(Wire):
    name: str
    last_seen: str


ExportFormat = Literal["seg", "rtstruct", "sr", "glb", "stl", "nifti", "report"]


class FormatChoice(Wire):
    """`problem`: why the case cannot be exported in this format, None where it can."""

    format: ExportFormat
    problem: str | None


class CaseDetail(CaseRow):
    """`scan`: the digest of the scan's files, which `seen` is of too, so that the page can work `seen` out itself.
    `export_problem`: why nothing can be exported of it now, None where `formats` say what can. `promptable`: whether a
    promptable model is there that was made for such scans."""

    geometry: Geometry
    image: Picture
    layers: list[int]
    label_type: Literal["uint8", "uint16"]
    has_reference: bool
    seen: str
    scan: str
    decisions: list[DecisionAnswer]
    present: list[Present]
    editable: bool
    can_undo: bool
    can_redo: bool
    formats: list[FormatChoice]
    export_problem: str | None
    promptable: bool


class CaseFinding(Wire):
    structure: str
    quantity: str
    value: float
    unit: str
    text: str
    index: list[int] | None


class CaseFindings(Wire):
    findings: list[CaseFinding]
    lesions: list[CaseFinding]


# Correcting

Runs64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class NewEdit(Wire):
    """A change: packed runs in base64, on top of `base_revision`."""

    base_revision: Count
    layer: Annotated[int, Field(ge=0, le=65535)] = 0
    tool: Name
    parameters: dict[Line, Any] = Field(default_factory=dict)
    runs: Runs64


class EditAdded(Wire):
    revision: int
    digest: str


class EditOfCase(Wire):
    revision: int
    person: str
    tool: str
    made: str
    layer: int
    undoes: int | None
    runs: str


class Edits(Wire):
    """`more`: whether there are others after these."""

    edits: list[EditOfCase]
    more: bool


class Base(Wire):
    base_revision: Count


class EditResult(Wire):
    revision: int
    layer: int
    runs: str
    can_undo: bool
    can_redo: bool


class ToolRequest(Wire):
    base_revision: Count
    layer: Annotated[int, Field(ge=0, le=65535)] = 0
    structure: Annotated[int, Field(ge=1, le=65535)]
    parameters: dict[Line, Any] = Field(default_factory=dict)


class ToolResult(EditResult):
    note: str | None


class Point(Wire):
    index: Index
    positive: bool


class PromptBox(Wire):
    start: Index
    stop: Index


class Scribble(Wire):
    indices: Annotated[list[Index], Field(min_length=1, max_length=20000)]
    positive: bool


class ProposalRequest(Wire):
    structure: Annotated[int, Field(ge=1, le=65535)]
    layer: Annotated[int, Field(ge=0, le=65535)] = 0
    points: Annotated[list[Point], Field(max_length=1000)] = Field(default_factory=list)
    box: PromptBox | None = None
    scribbles: Annotated[list[Scribble], Field(max_length=200)] = Field(default_factory=list)
    method: Literal["auto", "geodesic", "random_walker", "model"] = "auto"
    base_revision: Count


class ProposalAnswer(Wire):
    runs: str
    seconds: float
    method: str
    revision: int


class Beat(Wire):
    """Seconds that a person looked at the case since they last said so."""

    seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


class Presence(Wire):
    present: list[Present]
    revision: int


class Uploaded(Wire):
    revision: int


# Deciding


class NewDecision(Wire):
    """`password`: asked for again where people sign in with one."""

    verdict: Verdict
    structure: Annotated[int, Field(ge=1, le=65535)] | None = None
    reason: Paragraph = ""
    revision: Count
    seen: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[Line, StringConstraints(min_length=1)]
    password: Password = ""


class Decided(Wire):
    state: State
    decision: DecisionAnswer


class Reason(Wire):
    reason: Annotated[Paragraph, StringConstraints(min_length=1)]


class SecondReader(Wire):
    name: Name


class StateAnswer(Wire):
    state: State


class AuditEvent(Wire):
    number: int
    made: str
    person: str
    action: str
    facts: Any
    case: str


class Events(Wire):
    """`total`: how many events the whole trail has, for those who may read it."""

    events: list[AuditEvent]
    total: int | None = None


class Verification(Wire):
    problems: list[str]
    events: int


class ExportRequest(Wire):
    formats: Annotated[list[ExportFormat], Field(min_length=1, max_length=10)]


class ExportedFile(Wire):
    name: str
    format: str
    bytes: int


class ExportedFiles(Wire):
    files: list[ExportedFile]


class SuggestedCase(Wire):
    key: str
    reason: str
    score: float


class Suggestions(Wire):
    cases: list[SuggestedCase]


# People


class Account(Wire):
    name: str
    full_name: str
    role: Role
    sees_names: bool
    collections: list[str] | None
    active: bool


class Accounts(Wire):
    people: list[Account]


class NewAccount(Wire):
    name: Name
    full_name: Annotated[Line, StringConstraints(min_length=1)]
    role: Role
    sees_names: bool = False
    collections: list[Line] | None = None
    password: Annotated[Password, StringConstraints(min_length=1)]


class AccountChange(Wire):
    """What is to change; what is not named stays."""

    full_name: Annotated[Line, StringConstraints(min_length=1)] | None = None
    role: Role | None = None
    sees_names: bool | None = None
    collections: list[Line] | None = None
    active: bool | None = None
    password: Annotated[Password, StringConstraints(min_length=1)] | None = None
