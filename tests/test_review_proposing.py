"""Proposals of a promptable model: scans are read once, and forgotten when memory is short."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_model import tiny_model
from test_prompting import PLAN, scan

from delineate import training
from delineate.errors import ModelError, PlanError
from delineate.inference.prompting import Prompts
from delineate.model import Model, save_model
from delineate.review.proposing import ModelProposer, open_proposer
from delineate.volume import Volume
from delineate.workflow.prompting import Prompter

HERE = Prompts(positive=np.array([[7.0, 6.0, 5.0]]))


def promptable() -> Model:
    plan = msgspec.structs.replace(PLAN, crop_foreground=False)
    base = tiny_model()
    return Model(
        plan=plan, weights=training.start(plan).network.state_dict(), labels=base.labels, provenance=base.provenance
    )


def test_a_scan_is_read_once_while_there_is_memory() -> None:
    reads: list[str] = []

    def reading(key: str) -> Volume:
        reads.append(key)
        return scan((1, 1, 1))

    proposer = ModelProposer(Prompter(promptable()), memory_bytes=50_000)  # one scan's 41 kB
    for key in ("a", "a", "b", "b", "a"):
        proposer.propose(key, lambda key=key: reading(key), HERE)  # type: ignore[misc]
    assert reads == ["a", "b", "a"]


def test_a_proposal_has_the_scans_own_axes() -> None:
    volume = scan((-1, 1, 1))
    proposal = ModelProposer(Prompter(promptable()), memory_bytes=0).propose("a", lambda: volume, HERE)
    assert proposal.mask.shape == proposal.box.shape
    assert all(
        0 <= a < b <= n for a, b, n in zip(proposal.box.start, proposal.box.stop, volume.grid.shape, strict=True)
    )


def test_a_scan_of_other_channels_is_refused() -> None:
    volume = scan((1, 1, 1))
    two = Volume(np.concatenate((volume.array, volume.array)), volume.grid, volume.kind)
    with pytest.raises(PlanError, match="other channels"):
        ModelProposer(Prompter(promptable()), memory_bytes=0).propose("a", lambda: two, HERE)


def test_a_model_without_prompts_is_refused_by_its_folder(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny_model())
    with pytest.raises(ModelError, match="takes no prompts"):
        open_proposer(tmp_path / "model", device="cpu", memory_bytes=0)
