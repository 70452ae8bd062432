"""Proposals of a promptable model: scans are prepared once, and kept as long as memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from delineate.inference.prompting import Mask, Prompts, Proposal
from delineate.preprocessing import PreparedCase
from delineate.volume import Kind, Volume
from delineate.workflow.prompting import Prompter, open_prompter


class ModelProposer:
    """A promptable model and the scans it has seen; several threads may ask, one at a time is answered."""

    def __init__(self, prompter: Prompter, *, memory_bytes: int) -> None:
        """`memory_bytes`: what prepared scans may take; the last one is kept however large it is."""
        self._prompter, self._memory_bytes = prompter, memory_bytes
        self._prepared: OrderedDict[str, PreparedCase] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Of the model, for people: the dataset it has learnt from, and its digest."""
        return f"{self._prompter.model.plan.dataset} {self._prompter.model.digest[:12]}"

    def misfit(self, kind: Kind, channels: int) -> str | None:
        """Why the model cannot be asked about such scans; None where it can."""
        plan = self._prompter.model.plan
        if channels != len(plan.channels):
            return f"the promptable model takes {len(plan.channels)} channel(s), and this scan has {channels}"
        own = plan.kinds[0]
        if len(set(plan.kinds)) == 1 and Kind.OTHER not in (own, kind) and kind is not own:
            return f"the promptable model was made for {own.value}, and this scan is {kind.value}"
        return None

    def propose(
        self, key: str, read: Callable[[], Volume], prompts: Prompts, *, current: Mask | None = None
    ) -> Proposal:
        """What is meant in the scan `key`, which `read` reads where it is not known yet.

        Raises what reading and preparing raise (`PlanError` for a scan of other channels than the model's), and
        `InputError` if no prompt says where.
        """
        with self._lock:
            prepared = self._prepared.get(key)
            if prepared is None:
                prepared = self._prompter.prepare(key, read())
                self._prepared[key] = prepared
            self._prepared.move_to_end(key)
            while len(self._prepared) > 1 and self._bytes() > self._memory_bytes:
                self._prepared.popitem(last=False)
            return self._prompter.propose(prepared, prompts, current)

    def _bytes(self) -> int:
        return sum(case.image.nbytes for case in self._prepared.values())


def open_proposer(folder: Path, *, device: str, memory_bytes: int) -> ModelProposer:
    """Raises `ModelError` for a folder that holds no promptable model."""
    return ModelProposer(open_prompter(folder, device), memory_bytes=memory_bytes)
