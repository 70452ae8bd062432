"""The tests run in one thread: beside other work, threads that wait for one another take several times as long."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import postgresql
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from review_people import Team

# How long an example takes depends on what else the machine does; no test is about that.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a PostgreSQL server of its own."""
    with postgresql.server_or_skip() as port:
        yield port


@pytest.fixture(params=("sqlite", "postgresql"))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database for a review, of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'review.sqlite'}"
        return
    with postgresql.database(request.getfixturevalue("port")) as url:
        yield url


@pytest.fixture
def team(url: str) -> Iterator[Team]:
    """People and cases in such a database."""
    from review_people import team_at

    from delineate.review.store import open_store

    store = open_store(url)
    yield team_at(store)
    store.close()
