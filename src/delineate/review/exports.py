"""After approval: what was seen, in the formats of other software, each read back and marked with who has signed it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from delineate import formats
from delineate.errors import ExportError
from delineate.files import atomic_path
from delineate.formats.dicom_results.approval import Approval, Signer
from delineate.formats.dicom_results.seg_writing import AlgorithmKind
from delineate.formats.exporters import EXPORTERS, ExportOptions, file_names
from delineate.formats.nifti import is_nifti_name
from delineate.reports.case_pages import Review
from delineate.review.export_formats import PAGE
from delineate.review.export_records import write_review
from delineate.review.readers import ACCEPTED
from delineate.review.records import Decision, EditRecord, ReviewCase, State, Verdict
from delineate.settings import detect
from delineate.volume import Segmentation, align
from delineate.workflow.case_identity import Naming
from delineate.workflow.case_reports import CaseRequest, report_case
from delineate.workflow.exporting import REPORT, export, files_of
from delineate.workflow.progress import Watch, nobody

if TYPE_CHECKING:
    from delineate.review.live import LiveLabels
    from delineate.review.store import Store

DRAFT = "Draft: not approved"
BY_HAND = frozenset({"brush", "eraser", "lasso", "undo", "redo"})
"""Tools with which a person draws every voxel: no algorithm proposes any."""

_WORDS = {State.APPROVED: "Approved", State.APPROVED_WITH_EDITS: "Approved with edits"}


@dataclass(frozen=True, slots=True, eq=False)
class Reviewed:
    """A case with its labels at the head and what was decided. `seen`: the digest at the head; `model`: the model's own
    result on the same grid; `edits`: all there were."""

    case: ReviewCase
    segmentation: Segmentation
    seen: str
    model: Segmentation
    decisions: tuple[Decision, ...] = ()
    edits: tuple[EditRecord, ...] = ()

    @property
    def is_accepted(self) -> bool:
        return self.case.state in ACCEPTED


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file that can be handed on; formats that are folders are zipped. `bytes`: its size."""

    name: str
    format: str
    bytes: int
    path: Path


def reviewed(store: Store, live: LiveLabels, case: ReviewCase) -> Reviewed:
    """What there is to export of a case, as it is now. Raises what reading the case raises."""
    revision, seen = live.digest(case)
    now = replace(store.case_by_id(case.id), revision=revision)
    # By its revision: somebody may be drawing meanwhile.
    segmentation = live.segmentation(now, revision)
    model = live.segmentation(now, 0) if revision else segmentation
    return Reviewed(now, segmentation, seen, model, store.decisions(case.id), store.edits(case.id, until=revision))


def export_case(
    what: Reviewed, kinds: Sequence[str], folder: Path, *, draft: bool = False, watch: Watch = nobody
) -> tuple[ExportedFile, ...]:
    """Write a case as each of `kinds` (keys of `EXPORTERS`, "sr", "report") into a folder, with CASE.review.json.

    Every file is read back before it gets its name, see `workflow.exporting.export`. "sr" needs "seg" and "report"
    needs "nrrd": they are written with them. DICOM objects, the report and the JSON say who approved, when, and the
    digest of what was seen. With `draft` what is not approved is written too, as CASE.draft.*, marked as such.
    Raises `ExportError` for a case that is not approved, or differs from what was; for what `export` refuses; and what
    reading the scan raises.
    """
    signers = _signers(what)
    if not signers and not draft:
        raise _refused(what)
    kinds = _with_needed(kinds, older=(folder / f"{_stem(what, signers)}.sr.dcm").exists())
    approval = Approval(
        signers, made_by(what.model, what.segmentation, what.edits), _decision(what, signers), what.seen
    )
    sources, segmentation = _placed(what)
    stem = folder / _stem(what, signers)
    plain = [kind for kind in kinds if kind != PAGE]
    options = ExportOptions(sources=sources, approval=approval)
    paths = export(segmentation, stem, plain, options=options, watch=watch)
    written = [_handed_out(path, kind) for path, kind in zip(paths, plain, strict=True)]
    if PAGE in kinds:
        written.append(_page(what, stem, approval, watch=watch))
    digests = {file.name: file.path for file in written}
    record = write_review(stem, what.case, approval, decisions=what.decisions, edits=what.edits, files=digests)
    return (*written, ExportedFile(record.name, "review", record.stat().st_size, record))


def made_by(model: Segmentation, final: Segmentation, edits: Iterable[EditRecord]) -> Mapping[str, AlgorithmKind]:
    """How each structure of `final` was made: by the model alone; by hand alone, where the model had none of it and
    every tool was one of `BY_HAND`; else by an algorithm with a person's help. Both lie on one grid."""
    changed = _changed(model, final)
    by_hand = all(edit.tool in BY_HAND for edit in edits)
    made: dict[str, AlgorithmKind] = {}
    for name in final.labels.names:
        if name not in changed:
            made[name] = AlgorithmKind.AUTOMATIC
        elif by_hand and not (name in model.labels.names and model.mask(name).any()):
            made[name] = AlgorithmKind.MANUAL
        else:
            made[name] = AlgorithmKind.SEMIAUTOMATIC
    return made


def _changed(model: Segmentation, final: Segmentation) -> frozenset[str]:
    """Names of structures whose voxels are not the model's."""
    if final is model:
        return frozenset()
    if not (final.labels.overlaps or model.labels.overlaps) and final.labels.values == model.labels.values:
        differ = final.array != model.array
        values = {*np.unique(final.array[differ]).tolist(), *np.unique(model.array[differ]).tolist()}
        return frozenset(label.name for label in final.labels if label.value in values)
    known = model.labels.names
    return frozenset(
        name
        for name in final.labels.names
        if not np.array_equal(final.mask(name), model.mask(name) if name in known else np.zeros(final.grid.shape, bool))
    )


def signed(decisions: Sequence[Decision], *, revision: int, seen: str) -> tuple[Decision, ...]:
    """The approvals of the whole that stand for what is there, the first reader's before the second's.

    The last decision about the whole has to be one, of this revision and digest; if it is a second reader's, the first
    reader's last one before it counts as well, if it is of the same. () where nothing stands.
    """
    whole = sorted((one for one in decisions if one.structure is None), key=lambda one: one.made)
    fits = [one.verdict is Verdict.APPROVE and (one.revision, one.seen) == (revision, seen) for one in whole]
    if not whole or not fits[-1]:
        return ()
    last = whole[-1]
    first = [one for one, fit in zip(whole, fits, strict=True) if fit and not one.second and one.person != last.person]
    return (first[-1], last) if last.second and first else (last,)


def standing_approval(case: ReviewCase, decisions: Sequence[Decision]) -> str | None:
    """What tells the approval that a case has now from any other that it had or will have; None where it has none."""
    whole = [one for one in decisions if one.structure is None]
    if case.state not in ACCEPTED or not whole:
        return None
    seen = max(whole, key=lambda one: one.made).seen
    found = signed(decisions, revision=case.revision, seen=seen)
    return " ".join([seen, *(f"{one.person} {one.made.isoformat()}" for one in found)]) if found else None


def _signers(what: Reviewed) -> tuple[Signer, ...]:
    if not what.is_accepted:
        return ()
    found = signed(what.decisions, revision=what.case.revision, seen=what.seen)
    return tuple(Signer(one.signature, one.made, what.case.new.site) for one in found)


def _refused(what: Reviewed) -> ExportError:
    case = what.case
    if not what.is_accepted:
        return ExportError(
            "a case that is not approved",
            expected="approved, or approved with edits",
            got=case.state.value.replace("_", " "),
            case=case.new.key,
            remedy="Approve it first, or export a draft, which is marked as not approved.",
        )
    return ExportError(
        "what is there now is not what was approved",
        expected=f"revision {', '.join(sorted({str(one.revision) for one in what.decisions})) or 'of a decision'}",
        got=f"revision {case.revision} with digest {what.seen[:12]}",
        case=case.new.key,
        remedy="Look at it again, and approve what is there.",
    )


def _decision(what: Reviewed, signers: Sequence[Signer]) -> str:
    return _WORDS[what.case.state] if signers else DRAFT


def _stem(what: Reviewed, signers: Sequence[Signer]) -> str:
    key = what.case.new.key
    return file_names([key])[key] + ("" if signers else ".draft")


def check_known(kinds: Sequence[str]) -> None:
    """Raises `ExportError` for no kind, and for one that there is not."""
    known = (*EXPORTERS, REPORT, PAGE)
    for kind in kinds:
        if kind not in known:
            raise ExportError("unknown format", expected=f"one of {', '.join(known)}", got=kind)
    if not kinds:
        raise ExportError("no format was chosen", expected=f"some of {', '.join(known)}")


def _with_needed(kinds: Sequence[str], *, older: bool) -> list[str]:
    """Kinds in an order in which each comes after what it refers to. `older`: a report of segments stands there."""
    check_known(kinds)
    wanted = dict.fromkeys(kinds)
    if REPORT in wanted or ("seg" in wanted and older):
        wanted |= {"seg": None, REPORT: None}
    if PAGE in wanted:
        wanted |= {"nrrd": None}
    last = (REPORT, PAGE)
    return [kind for kind in wanted if kind not in last] + [kind for kind in last if kind in wanted]


def _placed(what: Reviewed) -> tuple[tuple[Path, ...], Segmentation]:
    """The DICOM files of the scan, none where it is NIfTI; and the segmentation on the scan's own grid."""
    segmentation = replace(what.segmentation, author=what.case.new.model_digest or what.segmentation.author)
    scan = what.case.new.scan
    if is_nifti_name(scan):
        return (), segmentation
    stack = formats.stack_at(scan)
    return files_of(stack), align(segmentation, stack.grid)


def _handed_out(path: Path, kind: str) -> ExportedFile:
    """A file as it is, a folder as a zip beside it; the folder stays, since its proof names it."""
    if not path.is_dir():
        return ExportedFile(path.name, kind, path.stat().st_size, path)
    target = path.with_name(f"{path.name}.zip")
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path.iterdir()):
            # The time at which a file was written would make another archive of the same surfaces.
            archive.writestr(zipfile.ZipInfo(f"{path.name}/{file.name}"), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return ExportedFile(target.name, kind, target.stat().st_size, target)


def _page(what: Reviewed, stem: Path, approval: Approval, *, watch: Watch) -> ExportedFile:
    new, output = what.case.new, stem.with_name(f"{stem.name}.report.html")
    review = Review()
    if approval.signers:
        names = " and ".join(dict.fromkeys(signer.name for signer in approval.signers))
        day = _day(approval.signers[-1].at)
        review = Review(names, day, decision=approval.decision, seen=approval.seen)
    request = CaseRequest(
        segmentation=stem.with_name(f"{stem.name}{EXPORTERS['nrrd'].suffix}"),
        output=output,
        image=new.scan,
        naming=Naming(case=f"Case {new.pseudonym}" if new.pseudonym else ""),
        review=review,
        result=new.segmentation,
    )
    report_case(request, settings=detect("cpu"), watch=watch)
    return ExportedFile(output.name, PAGE, output.stat().st_size, output)


def _day(at: datetime) -> str:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone().strftime("%Y-%m-%d")
