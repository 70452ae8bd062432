"""Where the review of a workspace keeps what people do: one folder, to be backed up as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = "review"
"""The name of the folder in a workspace. Nothing in it is a result to be reviewed."""


@dataclass(frozen=True, slots=True)
class Places:
    """`folder`: of all that review keeps."""

    folder: Path

    @property
    def database(self) -> Path:
        """People, edits, decisions and the audit trail, unless another database is named."""
        return self.folder / "review.sqlite"

    @property
    def database_url(self) -> str:
        """The database as `open_store` takes it."""
        return f"sqlite:///{self.database.absolute()}"

    @property
    def witness(self) -> Path:
        """Where the end of the audit trail is kept beside a database that lies elsewhere."""
        return self.folder / "audit.end"

    @property
    def cache(self) -> Path:
        """Scans made ready for the page; it may be removed at any time."""
        return self.folder / "cache"

    @property
    def exports(self) -> Path:
        """Exported files, a folder a case."""
        return self.folder / "exports"

    @property
    def uploads(self) -> Path:
        """Files that people send, while they are read."""
        return self.folder / "uploads"

    @property
    def browsers(self) -> Path:
        """The secret by which browsers are known again in which somebody signed in."""
        return self.folder / "browsers.key"

    @property
    def log(self) -> Path:
        """What the server was asked, without names."""
        return self.folder / "review.log"


def places_in(workspace: Path) -> Places:
    """The places of a workspace's review; `workspace` may be the review's own folder."""
    own = workspace.name == FOLDER and (workspace / "review.sqlite").exists()
    return Places(workspace if own else workspace / FOLDER)
