"""People and cases that tests of review begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delineate.review.records import NewCase, Person, ReviewCase, Role, Structure
from delineate.review.store import Store

SEEN = "5e" * 32


def new_case(
    key: str = "a", *, collection: str = "north", patient_name: str = "Doe^Jane", digest: str = "d1"
) -> NewCase:
    """A case whose files nobody reads."""
    return NewCase(
        key=key,
        collection=collection,
        pseudonym=f"P-{key}",
        scan=Path("/scans") / key,
        segmentation=Path("/results") / f"{key}.nii.gz",
        digest=digest,
        structures=(
            Structure(1, "liver", (200, 30, 10), 1512.25, 0.93),
            Structure(7, "Läsion 腫瘤", (0, 255, 3), 0.125, None),
        ),
        patient_name=patient_name,
        model="organs",
        model_digest="m1",
        date="2026-11-28",
        site="Zürich",
        warnings=("The liver touches the border.",),
        priority=0.1 + 0.2,
        priority_reasons=("doubtful",),
    )


@dataclass(frozen=True)
class Team:
    """A store with an administrator, two reviewers, a viewer, and a case."""

    store: Store
    root: Person
    eva: Person
    max: Person
    vera: Person
    case: ReviewCase

    def now(self) -> ReviewCase:
        """The case as it is now."""
        return self.store.case_by_id(self.case.id)

    def edit(self, person: Person | None = None, packed: bytes = b"runs", undoes: int | None = None) -> int:
        """One more edit; its revision."""
        return self.store.add_edit(
            self.case.id,
            person or self.eva,
            base_revision=self.now().revision,
            layer=0,
            tool="brush",
            parameters='{"mm":3}',
            packed=packed,
            undoes=undoes,
        ).revision


def team_at(store: Store) -> Team:
    """The team at an empty store."""
    root = store.add_person("root", "Ada Root", Role.ADMIN, None, sees_names=True)
    eva = store.add_person("eva", "Eva Muster", Role.REVIEWER, None, by=root)
    other = store.add_person("max", "Max Beispiel", Role.REVIEWER, None, by=root)
    vera = store.add_person("vera", "Vera Viewer", Role.VIEWER, None, by=root)
    store.add_cases([new_case()], by=root)
    case = store.case("a")
    assert case is not None
    return Team(store, root, eva, other, vera, case)
