"""The commands that use what was reviewed: exports, training cases, what to annotate next, readers compared."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from delineate.cli.options import (
    EXISTING,
    PATH,
    SOME_FAILED,
    Words,
    complain,
    leave,
    open_watch,
    say,
    users_errors,
    warn,
)
from delineate.cli.reviewing import database_option, open_existing
from delineate.errors import InputError

if TYPE_CHECKING:
    from delineate.review.records import ReviewCase, State
    from delineate.review.store import Store

_LIVE_BYTES = 1 << 30

states_option = click.option(
    "--states",
    type=Words(),
    default="approved,approved_with_edits",
    show_default=True,
    help="Of which cases: approved, approved_with_edits, rejected, in_review, ...",
)
collection_option = click.option("--collection", default="", help="Only cases of this collection.")


@click.command("review-export")
@click.argument("workspace", type=EXISTING)
@click.argument("cases", nargs=-1)
@click.option("-f", "--formats", type=Words(), default="seg", show_default=True, help="As `delineate export`; report.")
@click.option("-o", "--output", type=PATH, required=True, metavar="FOLDER")
@click.option("--draft", is_flag=True, help="Also what is not approved, marked as such.")
@states_option
@collection_option
@database_option
@users_errors
def review_export(
    workspace: Path,
    cases: tuple[str, ...],
    formats: tuple[str, ...],
    output: Path,
    states: tuple[str, ...],
    collection: str,
    database: str | None,
    *,
    draft: bool,
) -> None:
    """Export what was approved in a review, with who signed it: all cases, or those named by their keys.

    Formats: nifti, nrrd, masks, seg, labelmap-seg, rtstruct, sr, stl, obj, glb, 3mf, report. Each file is read back
    and compared. Beside them CASE.review.json says who decided what, and the digest of what was seen.

    \b
    Example: delineate review-export demo -f seg,sr,report -o approved
    Example: delineate review-export demo case_7 -f rtstruct --draft -o planning
    """
    store = open_existing(workspace, database)
    from delineate.errors import DelineateError
    from delineate.review.exports import check_known, export_case, reviewed
    from delineate.review.live import LiveLabels

    check_known(formats)
    chosen = _chosen(store, cases, states=states, collection=collection)
    live = LiveLabels(store, memory_bytes=_LIVE_BYTES)
    failures, written = [], 0
    with open_watch() as watch:
        for case in chosen:
            try:
                what = reviewed(store, live, case)
                made = export_case(what, formats, output, draft=draft, watch=watch)
            except DelineateError as error:
                failures.append(str(error.in_case(case.new.key)))
                continue
            written += 1
            facts = {"files": {file.name: file.bytes for file in made}, "revision": what.case.revision}
            store.audit("delineate review-export", "exported", case.new.key, facts | {"seen": what.seen})
    for failure in failures:
        complain(failure)
    say(f"{written} of {len(chosen)} cases exported to {output}")
    leave(failures, written=written)


@click.group()
def dataset() -> None:
    """Change a dataset: add what was approved in a review.

    \b
    Example: delineate dataset add corrected --reviewed demo
    """


@dataset.command("add")
@click.argument("dataset", type=PATH)
@click.option("--reviewed", type=EXISTING, required=True, metavar="WORKSPACE", help="Whose review the cases come from.")
@states_option
@collection_option
@click.option("--model", type=EXISTING, help="Say which of its test patients are added. [default: WORKSPACE/model]")
@database_option
@users_errors
def dataset_add(
    dataset: Path,
    reviewed: Path,
    states: tuple[str, ...],
    collection: str,
    model: Path | None,
    database: str | None,
) -> None:
    """Add what was approved in a review to a dataset, as training cases; a new dataset where there is none.

    Structures are mapped by name. A case that was added before gets the labels of a newer approval; one whose labels
    come from no review stays as it is. DATASET/reviews says of each case who signed it. New cases are put before the
    others, so that `train --test` and `--hold-out` set the same cases aside as before.

    \b
    Example: delineate dataset add corrected --reviewed demo
    Example: delineate dataset add Task09_Spleen --reviewed spleen_review --model spleen
    """
    store = open_existing(reviewed, database)
    from delineate.review import exports
    from delineate.review.live import LiveLabels
    from delineate.review.patients import patients_of
    from delineate.review.training_cases import add_reviewed

    chosen = _chosen(store, (), states=states, collection=collection)
    live = LiveLabels(store, memory_bytes=_LIVE_BYTES)
    known = reviewed / "model"
    own = known if (known / "model.json").is_file() else None
    with open_watch() as watch:
        made = add_reviewed(
            dataset,
            chosen,
            lambda case: exports.reviewed(store, live, case),
            patients=patients_of(store.cases()),
            model=model or own,
            watch=watch,
        )
    if made.changed:
        fates = {"added": made.added, "labelled": made.labelled, "replaced": made.replaced}
        facts = {"dataset": dataset.name} | {fate: list(cases) for fate, cases in fates.items() if cases}
        store.audit("delineate dataset add", "taught", "", facts)
    for remark in made.remarks:
        warn(remark)
    for failure in made.refused:
        complain(failure)
    counts = {
        "added": made.added,
        "given their first labels": made.labelled,
        "given newer labels": made.replaced,
        "as they were": made.unchanged,
    }
    told = ", ".join(f"{len(cases)} {what}" for what, cases in counts.items() if cases)
    say(f"{dataset}: {told or 'nothing added'}")
    sys.exit(SOME_FAILED if made.refused else 0)


@click.command("review-suggest")
@click.argument("workspace", type=EXISTING)
@click.option("--count", type=click.IntRange(1), default=10, show_default=True)
@database_option
@users_errors
def review_suggest(workspace: Path, count: int, database: str | None) -> None:
    """Which cases to annotate next: those of which the model is unsure, and that differ from what was annotated.

    \b
    Example: delineate review-suggest demo --count 5
    """
    store = open_existing(workspace, database)
    from delineate.review.places import places_in
    from delineate.review.suggestions import Suggestions

    suggestions = Suggestions(store, places_in(workspace).cache, budget_seconds=float("inf"))
    with open_watch() as watch:
        found = suggestions.next(None, count, watch=watch)
    for one in found:
        say(f"{one.key}  {one.score:.2f}  {one.reason}")
    if not found:
        say("Nothing is left to suggest: somebody has looked at every case.")


@click.command("review-readers")
@click.argument("workspace", type=EXISTING)
@click.option("-o", "--output", type=PATH, metavar="JSON", help="Also all figures, as the dashboard has them.")
@database_option
@users_errors
def review_readers(workspace: Path, output: Path | None, database: str | None) -> None:
    """Compare readers, models, sites and structures: what was accepted unedited, time a case, Dice.

    \b
    Example: delineate review-readers demo -o readers.json
    """
    store = open_existing(workspace, database)
    import msgspec

    from delineate.files import write_bytes
    from delineate.review.live import LiveLabels
    from delineate.review.places import places_in
    from delineate.review.reader_tables import reader_tables
    from delineate.review.reading_facts import Dashboards

    live = LiveLabels(store, memory_bytes=_LIVE_BYTES)
    boards = Dashboards(store, live, places_in(workspace).cache, budget_seconds=float("inf"))
    with open_watch() as watch:
        board = boards.read(None, watch=watch)
        if not board.total.cases:
            say("No case is decided yet.")
        for table in reader_tables(board) if board.total.cases else ():
            watch.print(table)
    if board.pending:
        warn(f"{board.pending} case(s) could not be read, and are in no Dice.")
    if output is not None:
        write_bytes(output, msgspec.json.format(msgspec.json.encode(board), indent=1) + b"\n")
        say(output)


def _chosen(store: Store, keys: tuple[str, ...], *, states: tuple[str, ...], collection: str) -> list[ReviewCase]:
    """The cases named; without names those in these states. Raises `InputError` for what there is not."""
    from delineate.review.records import State

    wanted = {_state(name, State) for name in states}
    cases = [case for case in store.cases() if not collection or case.new.collection == collection]
    if keys:
        known = {case.new.key: case for case in cases}
        missing = [key for key in keys if key not in known]
        if missing:
            raise InputError("no such case", expected=", ".join(sorted(known)[:5]), got=", ".join(missing))
        return [known[key] for key in dict.fromkeys(keys)]
    found = [case for case in cases if case.state in wanted]
    if not found:
        there = Counter(case.state.value for case in cases)
        raise InputError(
            "no case is in one of these states",
            expected=", ".join(states),
            got=", ".join(f"{count} {state}" for state, count in sorted(there.items())) or "no cases",
            remedy="Decide on cases in `delineate review` first, or name other --states.",
        )
    return found


def _state(name: str, states: type[State]) -> State:
    try:
        return states(name)
    except ValueError:
        raise InputError("no such state", expected=", ".join(one.value for one in states), got=name) from None
