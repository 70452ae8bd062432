"""Records as the page gets them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime

from delineate.editing.runs import Runs, unpack
from delineate.errors import InputError
from delineate.review.records import Decision, EditRecord, Event, Person, ReviewCase
from delineate.review.server.wire import (
    Account,
    AuditEvent,
    CaseRow,
    CaseStructure,
    DecisionAnswer,
    EditOfCase,
    Present,
)


def case_row(case: ReviewCase, person: Person) -> CaseRow:
    """A case in the worklist, with the patient's name for those who may see it only."""
    new = case.new
    return CaseRow(
        key=new.key,
        collection=new.collection,
        pseudonym=new.pseudonym,
        patient_name=(new.patient_name or None) if person.sees_names else None,
        model=new.model,
        date=new.date,
        site=new.site,
        scanner=new.scanner,
        structures=[
            CaseStructure(
                value=one.value,
                name=one.name,
                colour=list(one.colour),
                volume_ml=one.volume_ml,
                agreement=one.agreement,
            )
            for one in new.structures
        ],
        warnings=list(new.warnings),
        priority=new.priority,
        reasons=list(new.priority_reasons),
        state=case.state,
        revision=case.revision,
        reader=case.reader,
        second_reader=case.second_reader,
        seconds=case.seconds,
    )


def decision_answer(decision: Decision) -> DecisionAnswer:
    """A decision with its signature."""
    return DecisionAnswer(
        person=decision.person,
        signature=decision.signature,
        verdict=decision.verdict,
        revision=decision.revision,
        seen=decision.seen,
        made=decision.made.isoformat(),
        structure=decision.structure,
        reason=decision.reason,
        second=decision.second,
    )


def edit_answer(edit: EditRecord) -> EditOfCase:
    """An edit with its runs."""
    return EditOfCase(
        revision=edit.revision,
        person=edit.person,
        tool=edit.tool,
        made=edit.made.isoformat(),
        layer=edit.layer,
        undoes=edit.undoes,
        runs=base64.b64encode(edit.packed).decode(),
    )


def event_answer(event: Event) -> AuditEvent:
    """A link of the audit trail; its facts as JSON."""
    return AuditEvent(
        number=event.number,
        made=event.made.isoformat(),
        person=event.person,
        action=event.action,
        facts=json.loads(event.facts),
        case=event.case,
    )


def account_of(person: Person) -> Account:
    """A person for who manages people."""
    return Account(
        name=person.name,
        full_name=person.full_name,
        role=person.role,
        sees_names=person.sees_names,
        collections=None if person.collections is None else list(person.collections),
        active=person.active,
    )


def present(people: Sequence[tuple[str, datetime]]) -> list[Present]:
    """Who looks at a case, and when they last said so."""
    return [Present(name=name, last_seen=seen.isoformat()) for name, seen in people]


def runs_from_text(text: str, voxels: int) -> Runs:
    """Packed runs in base64. Raises `InputError` if they are none, or lie outside so many voxels."""
    try:
        packed = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError("the runs of an edit are not base64", remedy="Load the page again") from error
    return unpack(packed, voxels)
