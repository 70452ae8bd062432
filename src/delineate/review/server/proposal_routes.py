"""Proposals: what somebody points at, as a change that nothing stores before they accept it."""

from __future__ import annotations

import base64
import time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from delineate.editing.changes import Change, painted, redrawn, runs_of
from delineate.editing.prompts.pointing import Floats, Pointing
from delineate.editing.prompts.proposing import Method
from delineate.editing.prompts.proposing import propose as propose_by_hand
from delineate.editing.runs import pack, wire_view
from delineate.errors import InputError
from delineate.geometry import Box
from delineate.review.records import ReviewCase
from delineate.review.server.parts import Asked, Here, Parts, Visitor
from delineate.review.server.slabs import layer_of
from delineate.review.server.tool_routes import layers_at_head, value_in
from delineate.review.server.wire import ProposalAnswer, ProposalRequest

Mask = npt.NDArray[np.bool_]


def propose(here: Here, person: Visitor, case: Asked, body: ProposalRequest) -> ProposalAnswer:
    """A mask for what was pointed at: by the promptable model, where there is one for such scans, else by a classical
    method; the answer says which.

    It is added to the structure, over background and over what a positive point lies on. Where a negative point lies on
    the structure itself, the structure is drawn anew around what was pointed at.
    """
    began = time.perf_counter()
    with here.turns.one():
        labels = wire_view(layer_of(dict(layers_at_head(here, case, body.base_revision)), body.layer))
        value = value_in(case, structure=body.structure, layer=body.layer)
        pointed = pointing(body)
        box, mask, method = _proposed(here, case, pointed, body.method, current=labels == value)
        runs = runs_of(labels, as_change(labels, box, mask, value=value, pointed=pointed))
    return ProposalAnswer(
        runs=base64.b64encode(pack(runs)).decode(),
        seconds=time.perf_counter() - began,
        method=method,
        revision=body.base_revision,
    )


def pointing(body: ProposalRequest) -> Pointing:
    """Points, scribbles and box together. The box is half open on the wire, and has its last voxel here."""
    points = [(point.index, point.positive) for point in body.points]
    points += [(index, scribble.positive) for scribble in body.scribbles for index in scribble.indices]
    positive, negative = (
        np.array([index for index, kind in points if kind is wanted], dtype=np.float64).reshape(-1, 3)
        for wanted in (True, False)
    )
    box = None if body.box is None else np.array([body.box.start, np.array(body.box.stop) - 1], dtype=np.float64)
    return Pointing(positive, negative, box)


def _proposed(
    here: Parts, case: ReviewCase, pointed: Pointing, method: Method | Literal["model"], *, current: Mask
) -> tuple[Box, Mask, str]:
    if method == "model" and here.proposer is None:
        raise InputError(
            "no promptable model is there", remedy="Start the server with --promptable MODEL, or use another method"
        )
    about = here.volumes.about(case)
    misfit = None if here.proposer is None else here.proposer.misfit(about.kind, about.channels)
    if method == "model" and misfit is not None:
        raise InputError(misfit, remedy="Choose another method: the automatic one takes what fits the scan")
    if here.proposer is not None and misfit is None and method in ("auto", "model"):
        from delineate.inference.prompting import Prompts
        from delineate.workflow.structures import read_scan

        prompts = Prompts(pointed.positive, pointed.negative, pointed.box)
        by_model = here.proposer.propose(case.new.key, lambda: read_scan(case.new.scan), prompts, current=current)
        return by_model.box, by_model.mask, "model"
    image = wire_view(here.volumes.numbers(case))
    spacing = about.grid.spacing_mm
    classical: Method = "auto" if method == "model" else method
    found = propose_by_hand(image, pointed, spacing_mm=spacing, method=classical)
    return found.box, found.mask, found.method


def as_change(labels: npt.NDArray[Any], box: Box, mask: Mask, *, value: int, pointed: Pointing) -> Change:
    """What a proposal makes of an (I, J, K) label array; see `propose`. `mask`: of the box's shape."""
    under = _values_at(labels, pointed.positive)
    before = labels[box.slices]
    wanted = mask & np.isin(before, list({0, value, *under}))
    if value in _values_at(labels, pointed.negative):
        return redrawn(labels, box, wanted, value=value, over="all")
    return painted(labels, box, wanted, value=value, over="all")


def _values_at(labels: npt.NDArray[Any], points: Floats) -> set[int]:
    places = np.rint(points).astype(int)
    return {int(labels[tuple(place)]) for place in places if (place < labels.shape).all()}
