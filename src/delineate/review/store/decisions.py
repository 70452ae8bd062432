"""Decisions of the store: who approved, rejected or escalated what, having seen which labels."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session as Work

from delineate.errors import InputError
from delineate.review.records import Decision, NotAllowed, Person, ReviewCase, Role, State, Verdict
from delineate.review.store.database import Database, Writing
from delineate.review.store.edits import check_fresh, is_edited
from delineate.review.store.people import check_may_review
from delineate.review.store.rows import cases_of, note, row_of
from delineate.review.store.schema import CaseRow, DecisionRow, StructureRow, column_values
from delineate.review.store.states import VERDICT_ACTS, Act, next_state
from delineate.review.store.texts import checked_text
from delineate.review.store.trail import content_digest

_CONTENT = ("person", "signature", "verdict", "revision", "seen", "structure", "reason", "second", "made")


class DecisionStore(Database):
    """Decisions are added, never changed or removed; a case is reopened by an event of its own."""

    def decide(
        self,
        case_id: int,
        person: Person,
        verdict: Verdict,
        *,
        revision: int,
        seen: str,
        signature: str,
        structure: int | None = None,
        reason: str = "",
    ) -> Decision:
        """Sign a decision about a structure, by its value, or the whole case.

        Raises `StaleRevision` if the case is not at the revision that was seen; `InputError` for a rejection without
        reason, an approval of the whole while a structure is rejected, a structure that there is not, a signature that
        is not the person's full name, and a decided case; `NotAllowed` for who may not decide, or was the first reader
        where a second one is asked for.
        """
        _check_words(person, seen, signature, verdict, reason)
        with self.writing() as writing:
            row = row_of(writing.work, case_id)
            check_may_review(writing.work, person, row)
            check_fresh(row, revision)
            second = State(row.state) is State.AWAITING_SECOND
            _check_reader(row, person, verdict, whole=structure is None)
            _check_structures(writing.work, row, verdict, structure)
            decision = DecisionRow(
                case_id=case_id,
                person=person.name,
                signature=signature.strip(),
                verdict=verdict.value,
                revision=revision,
                seen=seen,
                structure=structure,
                reason=reason.strip(),
                second=second,
                made=writing.now,
            )
            writing.work.add(decision)
            writing.work.flush()
            _move(writing, row, person, decision)
            facts = {**column_values(decision, *_CONTENT[1:-1]), "decision": decision.id}
            note(writing, person, "decided", row, **facts, content=decision_content(decision))
            return decision_of(decision)

    def decisions(self, case_id: int) -> tuple[Decision, ...]:
        """All decisions about a case in the order in which they were made, those before it was reopened included."""
        wanted = select(DecisionRow).where(DecisionRow.case_id == case_id).order_by(DecisionRow.id)
        with self.reading() as work:
            return tuple(decision_of(row) for row in work.scalars(wanted))

    def reopen(self, case_id: int, person: Person, reason: str) -> ReviewCase:
        """The case, in review again with this person as its reader. All that was decided stays on record.

        Where the second reader does so, the first one becomes the second: what needed two readers still does.
        Raises `InputError` without a reason and for a case that is open, `NotAllowed` for who may not decide.
        """
        checked_text(reason, "the reason", longest=2000, empty=False)
        with self.writing() as writing:
            row = row_of(writing.work, case_id)
            check_may_review(writing.work, person, row)
            row.state = next_state(State(row.state), Act.REOPEN).value
            if row.second_reader == person.name:
                row.second_reader = None if row.reader == person.name else row.reader
            row.reader, row.decided = person.name, None
            note(writing, person, "reopened", row, reason=reason.strip())
            return cases_of(writing.work, [row])[0]


def open_rejections(decisions: list[tuple[int | None, Verdict]]) -> tuple[int, ...]:
    """The structures whose last verdict is a rejection, of (structure, verdict) in order; None, the whole, is passed
    over."""
    last = {structure: verdict for structure, verdict in decisions if structure is not None}
    return tuple(sorted(structure for structure, verdict in last.items() if verdict is Verdict.REJECT))


def decision_content(row: DecisionRow) -> str:
    """The digest of a decision that the audit trail holds."""
    return content_digest(column_values(row, *_CONTENT))


def _check_words(person: Person, seen: str, signature: str, verdict: Verdict, reason: str) -> None:
    if len(seen) != 64 or any(letter not in "0123456789abcdef" for letter in seen):
        raise InputError("the digest of what was seen is none", expected="64 hexadecimal digits", got=seen[:80])
    if _plain(signature) != _plain(person.full_name):
        raise InputError("the signature is another name", expected=person.full_name, got=signature[:200])
    checked_text(reason, "the reason", longest=2000, empty=verdict is not Verdict.REJECT)


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _check_reader(row: CaseRow, person: Person, verdict: Verdict, *, whole: bool) -> None:
    waits = State(row.state) is State.AWAITING_SECOND
    if waits and person.name == row.reader:
        raise NotAllowed("the second reader must be another person than the first", case=row.key)
    if waits and row.second_reader not in (None, person.name) and person.role is not Role.ADMIN:
        raise NotAllowed("the case waits for its second reader", case=row.key, expected=row.second_reader)
    if not waits and whole and verdict is Verdict.APPROVE and row.second_reader == person.name:
        remedy = "Let somebody else read it first, or name another second reader."
        raise NotAllowed("the second reader cannot be the first", case=row.key, remedy=remedy)


def _check_structures(work: Work, row: CaseRow, verdict: Verdict, structure: int | None) -> None:
    found = work.scalars(select(StructureRow).where(StructureRow.case_id == row.id))
    names = {part.value: part.name for part in found}
    if structure is not None and structure not in names:
        raise InputError("the case has no such structure", expected=f"one of {names}", got=structure, case=row.key)
    if structure is None and verdict is Verdict.APPROVE:
        wanted = select(DecisionRow.structure, DecisionRow.verdict).where(DecisionRow.case_id == row.id)
        made = [(part, Verdict(said)) for part, said in work.execute(wanted.order_by(DecisionRow.id)).all()]
        rejected = [names.get(part, str(part)) for part in open_rejections(made)]
        if rejected:
            remedy = "Correct and approve them first, or reject the whole."
            raise InputError("structures are rejected", got=", ".join(rejected), case=row.key, remedy=remedy)


def _move(writing: Writing, row: CaseRow, person: Person, decision: DecisionRow) -> None:
    state, verdict = State(row.state), Verdict(decision.verdict)
    act = Act.DECIDE_PART if decision.structure is not None else VERDICT_ACTS[verdict]
    edited = act is Act.APPROVE and is_edited(writing.work, row.id)
    row.state = next_state(state, act, edited=edited, asks_second=row.second_reader is not None).value
    if decision.second and decision.structure is None:
        row.second_reader = person.name
    elif not decision.second and (decision.structure is None or row.reader is None):
        row.reader = person.name
    if decision.structure is None:
        row.decided = decision.made


def decision_of(row: DecisionRow) -> Decision:
    """A row as the rest of review knows it."""
    return Decision(
        case=row.case_id,
        person=row.person,
        signature=row.signature,
        verdict=Verdict(row.verdict),
        revision=row.revision,
        seen=row.seen,
        made=row.made,
        structure=row.structure,
        reason=row.reason,
        second=row.second,
    )
