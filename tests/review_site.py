"""A review server in memory, with two cases and a person of every role, for tests of the server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import numpy as np
from fastapi import FastAPI

from delineate import formats
from delineate.editing.runs import difference, pack
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.review.live import LiveLabels
from delineate.review.places import Places
from delineate.review.records import NewCase, Person, Role, Structure
from delineate.review.server.app import make_app
from delineate.review.server.options import LOOPBACK_NAMES, ServerOptions
from delineate.review.store import Store, open_store
from delineate.review.volumes import DisplayVolumes
from delineate.volume import Segmentation, Volume

if TYPE_CHECKING:
    from delineate.review.proposing import ModelProposer

SHAPE = (7, 5, 4)
GRID = Grid(SHAPE, np.array([[-0.7, 0.1, 0.4, 3], [0.05, 0.9, 1.0, -4], [0.1, -0.2, 4.0, 5], [0, 0, 0, 1]]))
NAMES = {1: "liver", 2: "spleen"}
PATIENT = "Mustermann^Max"
PASSWORD = "correct horse"
BASE = "http://127.0.0.1:8765"


@dataclass(frozen=True)
class Site:
    """A server and what lies behind it. `labels`, `scan`: of every case, (I, J, K)."""

    app: FastAPI
    store: Store
    places: Places
    labels: Any
    scan: Any

    def visitor(self, name: str | None = None, *, client: str = "127.0.0.1", base: str = BASE) -> Visitor:
        """A browser; signed in as `name` if one is given."""
        visitor = Visitor(self.app, base, client)
        if name is not None:
            person = self.store.person(name)
            assert person is not None
            session = self.store.begin_session(person, seconds=600)
            visitor.cookies.set("delineate_session", session.token)
            visitor.csrf = session.csrf
        return visitor

    @property
    def token(self) -> str:
        return str(self.app.state.parts.token.text)


class Visitor:
    """Somebody with a browser, whose requests carry the cookies and the CSRF token of their session."""

    def __init__(self, app: FastAPI, base: str, client: str) -> None:
        self._app, self._base, self._client = app, base, client
        self.cookies, self.csrf = httpx.Cookies(), ""

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"X-CSRF-Token": self.csrf} | dict(more.pop("headers", {}))
        if body is not None:
            more["json"] = body

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, client=(self._client, 50000))
            async with httpx.AsyncClient(transport=transport, base_url=self._base, cookies=self.cookies) as client:
                answer = await client.request(method, path, headers=headers, **more)
                self.cookies = client.cookies
                return answer

        return anyio.run(asked)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.ask("POST", path, body, **more)


def make_site(folder: Path, proposer: ModelProposer | None = None, **options: Any) -> Site:
    """Cases "one" of the collection "north", whose patient is named, and "two" of "south"."""
    rng = np.random.default_rng(5)
    labels = rng.choice(np.array([0, 0, 1, 2], np.uint8), SHAPE)
    scan = rng.integers(-900, 900, SHAPE).astype(np.int16)
    places = Places(folder / "review")
    store = open_store(places.database_url)
    for key, collection in (("one", "north"), ("two", "south")):
        store.add_cases([_new_case(folder / key, key, collection, labels=labels, scan=scan)])
    people = {
        "vera": (Role.VIEWER, None),
        "rita": (Role.REVIEWER, None),
        "rolf": (Role.REVIEWER, ("south",)),
        "ada": (Role.ADMIN, None),
    }
    for name, (role, collections) in people.items():
        store.add_person(name, name.title(), role, None, sees_names=role is Role.ADMIN, collections=collections)
    chosen: dict[str, Any] = {
        "places": places,
        "page": None,
        "local": _person(store, "ada"),
        "hosts": LOOPBACK_NAMES,
        "secure": False,
        "version": "1.2.3",
    }
    live = LiveLabels(store, memory_bytes=1 << 28)
    volumes = DisplayVolumes(places.cache, memory_bytes=1 << 28)
    app = make_app(store, live, volumes, ServerOptions(**(chosen | options)), proposer=proposer)
    return Site(app, store, places, labels, scan)


def _new_case(folder: Path, key: str, collection: str, *, labels: Any, scan: Any) -> NewCase:
    folder.mkdir(parents=True)
    formats.write_volume(folder / "scan.nii.gz", Volume(scan[None], GRID))
    formats.write_segmentation(folder / "result.nii.gz", Segmentation(labels, GRID, label_set(NAMES)))
    formats.write_segmentation(
        folder / "reference.nii.gz", Segmentation(np.where(labels == 1, 0, labels), GRID, label_set(NAMES))
    )
    return NewCase(
        key=key,
        collection=collection,
        pseudonym=f"P-{key}",
        scan=folder / "scan.nii.gz",
        segmentation=folder / "result.nii.gz",
        digest=hashlib.sha256((folder / "result.nii.gz").read_bytes()).hexdigest(),
        structures=tuple(Structure(value, name, (200, value, 0), 1.5) for value, name in NAMES.items()),
        reference=folder / "reference.nii.gz",
        patient_name=PATIENT if key == "one" else "",
        model="organs",
        site="Ulm",
    )


def _person(store: Store, name: str) -> Person:
    found = store.person(name)
    assert found is not None
    return found


def stroke(before: Any, *, at: tuple[int, int, int], value: int) -> tuple[str, Any]:
    """An edit of one voxel as the page sends it, and the labels (I, J, K) after it."""
    after = before.copy()
    after[at] = value
    return base64.b64encode(pack(difference(before, after))).decode(), after


def edit(runs: str, *, base: int = 0, layer: int = 0) -> Mapping[str, Any]:
    """The body of an edit with the brush."""
    return {"baseRevision": base, "layer": layer, "tool": "brush", "parameters": {"mm": 3}, "runs": runs}
