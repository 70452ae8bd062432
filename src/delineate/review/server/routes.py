"""Everything that the server answers under /api: what, by which function, and who may ask. There is no other list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fastapi.responses import JSONResponse, Response

from delineate.review.records import Role
from delineate.review.server import (
    audit_routes,
    case_routes,
    deciding_routes,
    editing_routes,
    overview_routes,
    people_routes,
    proposal_routes,
    session_routes,
    tool_routes,
    uploads,
    wire,
)

SMALL, PROMPTS, EDIT = 1 << 16, 1 << 20, 48 << 20
"""How many bytes a request may send: most say a few words; scribbles have many points, an edit may hold many runs."""

_VOXELS: Mapping[int | str, Any] = MappingProxyType(
    {200: {"content": {"application/octet-stream": {}}, "description": "Voxels, i fastest, little-endian"}}
)


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `least`: the lowest role that may use it, None for everybody; `answer`: the model of what it gives."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    least: Role | None
    answer: Any = None
    body_bytes: int = SMALL
    is_upload: bool = False
    status: int = 200
    response: type[Response] = JSONResponse
    also: Mapping[int | str, Any] = field(default_factory=dict)


def _voxels(path: str, endpoint: Callable[..., Any]) -> Route:
    return Route("GET", path, endpoint, Role.VIEWER, response=Response, also=_VOXELS)


_CASE = "/api/cases/{key}"

ROUTES: tuple[Route, ...] = (
    Route("POST", "/api/session", session_routes.sign_in, None, wire.SessionAnswer),
    Route("GET", "/api/session", session_routes.who, Role.VIEWER, wire.SessionAnswer),
    Route("DELETE", "/api/session", session_routes.sign_out, Role.VIEWER),
    Route("GET", "/api/openapi.json", overview_routes.schema, Role.VIEWER),
    Route("GET", "/api/cases", case_routes.worklist, Role.VIEWER, wire.Worklist),
    Route("GET", "/api/filters", case_routes.filters, Role.VIEWER, wire.Filters),
    Route("GET", "/api/dashboard", overview_routes.dashboard, Role.VIEWER),
    Route("GET", "/api/suggestions", overview_routes.suggestions, Role.VIEWER, wire.Suggestions),
    Route("GET", _CASE, case_routes.detail, Role.VIEWER, wire.CaseDetail),
    _voxels(f"{_CASE}/image", case_routes.image),
    _voxels(f"{_CASE}/labels", case_routes.labels),
    _voxels(f"{_CASE}/model", case_routes.model),
    _voxels(f"{_CASE}/reference", case_routes.reference),
    _voxels(f"{_CASE}/surface/{{value}}", case_routes.surface),
    Route("GET", f"{_CASE}/findings", case_routes.findings, Role.VIEWER, wire.CaseFindings),
    Route("GET", f"{_CASE}/history", case_routes.history, Role.VIEWER, wire.Events),
    Route("GET", f"{_CASE}/edits", editing_routes.edits, Role.VIEWER, wire.Edits),
    Route("POST", f"{_CASE}/edits", editing_routes.add_edit, Role.REVIEWER, wire.EditAdded, EDIT),
    Route("POST", f"{_CASE}/undo", editing_routes.undo, Role.REVIEWER, wire.EditResult),
    Route("POST", f"{_CASE}/redo", editing_routes.redo, Role.REVIEWER, wire.EditResult),
    Route("POST", f"{_CASE}/tools/{{tool}}", tool_routes.use, Role.REVIEWER, wire.ToolResult),
    Route("POST", f"{_CASE}/proposals", proposal_routes.propose, Role.REVIEWER, wire.ProposalAnswer, PROMPTS),
    Route("POST", f"{_CASE}/uploads", uploads.upload, Role.REVIEWER, wire.Uploaded, is_upload=True),
    Route("POST", f"{_CASE}/presence", editing_routes.beat, Role.VIEWER, wire.Presence),
    Route("DELETE", f"{_CASE}/presence", editing_routes.leave, Role.VIEWER),
    Route("POST", f"{_CASE}/decisions", deciding_routes.decide, Role.REVIEWER, wire.Decided),
    Route("POST", f"{_CASE}/reopen", deciding_routes.reopen, Role.REVIEWER, wire.StateAnswer),
    Route("POST", f"{_CASE}/second", deciding_routes.second, Role.REVIEWER, wire.StateAnswer),
    Route("GET", f"{_CASE}/exports", deciding_routes.exported, Role.VIEWER, wire.ExportedFiles),
    Route("POST", f"{_CASE}/exports", deciding_routes.export, Role.REVIEWER, wire.ExportedFiles),
    _voxels(f"{_CASE}/exports/{{name}}", deciding_routes.exported_file),
    Route("GET", "/api/people", people_routes.people, Role.ADMIN, wire.Accounts),
    Route("POST", "/api/people", people_routes.add_person, Role.ADMIN, wire.Account),
    Route("PATCH", "/api/people/{name}", people_routes.change_person, Role.ADMIN, wire.Account),
    Route("GET", "/api/audit", audit_routes.events, Role.ADMIN, wire.Events),
    Route("GET", "/api/audit/verify", audit_routes.verify, Role.ADMIN, wire.Verification),
    Route("GET", "/api/audit/export", audit_routes.export, Role.ADMIN, response=Response),
)
