"""Proposals of a promptable model over the server: where they lie, and scans that it was not made for."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from review_site import GRID, SHAPE, Site, make_site
from test_model import tiny_model
from test_prompting import PLAN, Echo

from delineate import training
from delineate.editing.runs import put_runs, unpack, wire_view
from delineate.model import Model
from delineate.review.proposing import ModelProposer
from delineate.volume import Kind
from delineate.workflow.prompting import Prompter

PROPOSALS = "/api/cases/two/proposals"
BOX = {"start": [1, 2, 0], "stop": [5, 4, 3]}


def proposer(kind: Kind) -> ModelProposer:
    """Of a network that says that the box is meant, on the scans' own spacing, so that nothing is resampled."""
    plan = msgspec.structs.replace(
        PLAN, channels=(kind.value,), kinds=(kind,), spacing_mm=GRID.spacing_mm, crop_foreground=False
    )
    base = tiny_model()
    weights = training.start(plan).network.state_dict()
    prompter = Prompter(Model(plan=plan, weights=weights, labels=base.labels, provenance=base.provenance))
    prompter._network = Echo()
    return ModelProposer(prompter, memory_bytes=1 << 20)


def asked(site: Site, **more: Any) -> Any:
    body = {"structure": 2, "layer": 0, "points": [], "box": BOX, "baseRevision": 0} | more
    return site.visitor("rita").post(PROPOSALS, body)


@pytest.mark.parametrize("method", ["auto", "model"])
def test_the_models_mask_lies_where_the_box_was_drawn(tmp_path: Path, method: str) -> None:
    site = make_site(tmp_path, proposer(Kind.CT))
    told = asked(site, method=method).json()
    after = np.asfortranarray(site.labels)
    put_runs(wire_view(after), unpack(base64.b64decode(told["runs"]), after.size))
    meant = np.zeros(SHAPE, bool)
    meant[1:5, 2:4, 0:3] = True
    assert told["method"] == "model"
    assert np.array_equal(after, np.where(meant & (site.labels == 0), 2, site.labels))


def test_a_scan_that_the_model_was_not_made_for_is_answered_by_what_fits(tmp_path: Path) -> None:
    site = make_site(tmp_path, proposer(Kind.MR))
    assert asked(site, method="auto").json()["method"] == "random_walker"
    refused = asked(site, method="model")
    assert (refused.status_code, refused.json()["problem"]) == (
        400,
        "The promptable model was made for MR, and this scan is CT.",
    )


@pytest.mark.parametrize(("kind", "told"), [(Kind.CT, True), (Kind.MR, False), (None, False)])
def test_a_case_says_whether_a_model_can_be_asked_about_it(tmp_path: Path, kind: Kind | None, told: bool) -> None:
    site = make_site(tmp_path, None if kind is None else proposer(kind))
    assert site.visitor("rita").get("/api/cases/two").json()["promptable"] is told


def test_a_model_of_several_channels_cannot_be_asked_about_one_scan() -> None:
    assert proposer(Kind.CT).misfit(Kind.OTHER, 1) is None
    assert "takes 1 channel(s), and this scan has 2" in str(proposer(Kind.CT).misfit(Kind.CT, 2))
