"""Readers who draw at a review server over HTTP, remember what it acknowledged, and know what their case must hold."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
import numpy as np

from delineate.editing.runs import Runs, pack, part_difference, put_runs, unpack, wire_view
from delineate.review.live import LiveLabels
from delineate.review.records import Session
from delineate.review.store import Store


@dataclass(frozen=True)
class Acknowledged:
    """An edit that the server said it has."""

    case: str
    revision: int
    packed: bytes


@dataclass(frozen=True)
class Wait:
    """How long a request took, and how it ended."""

    what: str
    status: int
    seconds: float


class Reader:
    """A person's browser at one case; `slices` is where they draw, so that two at one case do not contradict.

    `address` may change, as where a server is started again. Failing requests raise what httpx raises; `catch_up` then
    finds out what became of them.
    """

    def __init__(
        self, key: str, session: Session, slices: tuple[int, int], *, seed: int, signature: str = "", password: str = ""
    ) -> None:
        self.key, self.slices, self.signature, self.password = key, slices, signature, password
        self.acknowledged: list[Acknowledged] = []
        self.decided: list[str] = []
        self.waits: list[Wait] = []
        self.labels: Any = np.zeros(0)
        self.revision = self.stale = 0
        self._chance = Random(seed)
        self._cookies = {"delineate_session": session.token}
        self._headers = {"X-CSRF-Token": session.csrf}
        self._browser: httpx.Client | None = None

    def visit(self, address: str) -> None:
        """Go on at the server that has this address now."""
        self.close()
        self._browser = httpx.Client(base_url=address, cookies=self._cookies, headers=self._headers, timeout=90)

    def close(self) -> None:
        if self._browser is not None:
            self._browser.close()

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """The answer of a route of the case. Those that say no raise, but for 409, and for undo of nothing."""
        return self._request(method, f"/api/cases/{self.key}{path}", what=path or "case", json=body, **more)

    def look(self, path: str, **filters: Any) -> Any:
        """What a page beside the cases shows."""
        return self._request("GET", path, what=path, params=filters).json()

    def _request(self, method: str, path: str, *, what: str, **more: Any) -> httpx.Response:
        assert self._browser is not None
        began = time.perf_counter()
        answer = self._browser.request(method, path, **more)
        self.waits.append(Wait(f"{method} {what}", answer.status_code, time.perf_counter() - began))
        if answer.status_code != 409 and not (answer.status_code == 400 and what == "/undo"):
            answer.raise_for_status()
        return answer

    def open(self) -> dict[str, Any]:
        """Fetch the case and all its labels."""
        detail: dict[str, Any] = self.ask("GET", "").json()
        i, j, k = detail["geometry"]["shape"]
        answer = self.ask("GET", "/labels", params={"from": 0, "to": k, "revision": detail["revision"]})
        self.labels = np.frombuffer(answer.content, detail["labelType"]).reshape(k, j, i).copy()
        self.revision = detail["revision"]
        return detail

    def stroke(self) -> None:
        """Draw a square of one value, again upon the newest revision where somebody was faster."""
        _, size_j, size_i = self.labels.shape
        i, j = self._chance.randrange(size_i - 5), self._chance.randrange(size_j - 5)
        start = i, j, self._chance.randrange(*self.slices)
        value = self._chance.choice((0, 1, 2))
        answer = None
        while answer is None or answer.status_code == 409:
            if answer is not None:
                self.stale += 1
                self.catch_up()
            runs = self._runs(start, value)
            if len(runs) == 0:
                runs = self._runs(start, (value + 1) % 3)
            answer = self.ask("POST", "/edits", self._edit(runs))
        put_runs(self.labels, runs)
        self.revision = answer.json()["revision"]
        self.acknowledged.append(Acknowledged(self.key, self.revision, pack(runs)))

    def undo(self) -> None:
        """Take back the last edit that stands, whosever it was; nothing where there is none, or another was faster."""
        answer = self.ask("POST", "/undo", {"baseRevision": self.revision})
        if answer.status_code == 200:
            packed = base64.b64decode(answer.json()["runs"])
            put_runs(self.labels, unpack(packed, self.labels.size))
            self.revision = answer.json()["revision"]
            self.acknowledged.append(Acknowledged(self.key, self.revision, packed))

    def decide(self) -> None:
        """Sign what is there now, and take the case up again."""
        detail = self.ask("GET", "").json()
        signed = {"verdict": "approve", "signature": self.signature, "password": self.password}
        answer = self.ask("POST", "/decisions", signed | {"revision": detail["revision"], "seen": detail["seen"]})
        if answer.status_code == 200:
            self.decided.append(answer.json()["decision"]["made"])
            self.ask("POST", "/reopen", {"reason": "once more"})

    def resume(self) -> None:
        """Go on after a failure: whatever became of the last request, know what the case holds now."""
        if self.ask("GET", "").json()["state"].startswith("approved"):
            self.ask("POST", "/reopen", {"reason": "once more"})
        self.catch_up()

    def catch_up(self) -> None:
        """Apply what was stored since the revision that is known here."""
        for edit in self.ask("GET", "/edits", params={"after": self.revision}).json()["edits"]:
            put_runs(self.labels, unpack(base64.b64decode(edit["runs"]), self.labels.size))
            self.revision = edit["revision"]

    def _runs(self, start: tuple[int, int, int], value: int) -> Runs:
        i, j, k = start
        shape = self.labels.shape[::-1]
        before = wire_view(self.labels)[i : i + 5, j : j + 5, k : k + 1]
        return part_difference(before, np.full_like(before, value), start=start, shape=shape)

    def _edit(self, runs: Runs) -> dict[str, Any]:
        sent = base64.b64encode(pack(runs)).decode()
        return {"baseRevision": self.revision, "layer": 0, "tool": "brush", "parameters": {"mm": 5}, "runs": sent}


def losses(store: Store, readers: list[Reader]) -> list[str]:
    """What was acknowledged and is not in the store as it was sent; and labels that are not what a reader knows."""
    live = LiveLabels(store, memory_bytes=1 << 30)
    return [sentence for reader in readers for sentence in _losses_of(store, live, reader)]


def _losses_of(store: Store, live: LiveLabels, reader: Reader) -> list[str]:
    case = store.case(reader.key)
    assert case is not None
    kept = {edit.revision: edit.packed for edit in store.edits(case.id)}
    decisions = {decision.made.isoformat() for decision in store.decisions(case.id)}
    lost = [
        f"{reader.key}: revision {edit.revision} was acknowledged, and is not there"
        for edit in reader.acknowledged
        if kept.get(edit.revision) != edit.packed
    ]
    lost += [f"{reader.key}: the decision of {made} is not there" for made in reader.decided if made not in decisions]
    if list(kept) != list(range(1, case.revision + 1)):
        lost.append(f"{reader.key}: the revisions are {list(kept)}")
    for revision in range(reader.revision + 1, case.revision + 1):
        put_runs(reader.labels, unpack(kept[revision], reader.labels.size))
    if reader.labels.size and not np.array_equal(live.layers(case)[0][1], reader.labels):
        lost.append(f"{reader.key}: the labels are not what was drawn")
    return lost
