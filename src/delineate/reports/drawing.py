"""Matplotlib without its global state: one style for all figures, as PNG bytes or as SVG that stands in a page."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from delineate.reports.tables import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
CHART_INCHES = 7.1
"""As wide as a column of A4, so that letters keep their size in print."""

INK, QUIET, GRID_LINES = "#1c2430", "#5c6773", "#e4e8ec"
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": "#b8c0c8",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID_LINES,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "text.color": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a structure's name is a dollar
    "svg.fonttype": "none",
}

_REFERENCES = re.compile(r'(url\(#|href="#)([^)"]+)')
_IDS = re.compile(r' id="([^"]*)"')
_LINES = "stroke-linejoin:round;stroke-linecap:butt"


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing for a page. `svg`: an <svg> element; `alt`: what one sees, in words, with the numbers."""

    svg: str
    alt: str


@contextmanager
def png_drawing(*, width: float, height: float, dpi: int = DPI) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure of so many inches, and the stream that holds its PNG afterwards."""
    png = io.BytesIO()
    with _drawing(width=width, height=height) as figure:
        yield figure, png
        # Without the version of the software the same picture gives the same bytes.
        figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})


def draw_chart(
    draw: Callable[[Figure], None], *, height: float, title: str, alt: str, width: float = CHART_INCHES
) -> Chart:
    """What `draw` puts on a figure of so many inches, as SVG. `title`: a few words; `alt`: see `Chart`.

    Letters stay letters, so the file is small and the text can be searched. The same drawing gives the same text.
    """
    text = io.StringIO()
    with _drawing(width=width, height=height) as figure:
        draw(figure)
        figure.savefig(text, format="svg", dpi=2 * DPI, metadata={"Date": None})
    return Chart(_standing_in_page(text.getvalue(), width=width, height=height, title=title, alt=alt), alt)


@contextmanager
def _drawing(*, width: float, height: float) -> Iterator[Figure]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        # The browser has the letters of names in other scripts, though the font that measures them has not.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        layout = ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.05)
        figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def _standing_in_page(svg: str, *, width: float, height: float, title: str, alt: str) -> str:
    """An <svg> element with names that no other one of the page has, and words for who cannot see it."""
    body = svg[svg.index(">", svg.index("<svg ")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # In a page its rules would hold for everything else, too.
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    # Names are numbered anew: matplotlib makes some of them of places in memory.
    numbers = {name: f"n{n}" for n, name in enumerate(dict.fromkeys(name for _, name in _REFERENCES.findall(body)))}
    body = _REFERENCES.sub(lambda found: f"{found[1]}@{numbers[found[2]]}", body)
    body = _IDS.sub(lambda found: f' id="@{numbers[found[1]]}"' if found[1] in numbers else "", body)
    mark = "c" + hashlib.sha256((title + alt + body).encode()).hexdigest()[:10]
    body = body.replace('id="@', f'id="{mark}').replace("(#@", f"(#{mark}").replace('"#@', f'"#{mark}')
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'width="{width * 96:.0f}" height="{height * 96:.0f}" viewBox="0 0 {width * 72:g} {height * 72:g}" '
        f'style="{_LINES}" aria-labelledby="{mark}-title {mark}-desc">'
    )
    words = f'<title id="{mark}-title">{_text(title)}</title><desc id="{mark}-desc">{_text(alt)}</desc>'
    return f"{opening}{words}{body.strip()}</svg>"


def _text(words: str) -> str:
    return escape(printable(words))


def heading(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)


def short(name: str, most: int = 32) -> str:
    """A name for a chart: blanks for underscores, nothing that cannot be shown; a long one loses its middle."""
    return shortened(name.replace("_", " "), most)


def shortened(words: str, most: int) -> str:
    """At most so many letters, those of the beginning and the end; nothing that cannot be shown."""
    shown = printable(words)
    if len(shown) <= most:
        return shown
    kept = most - 1
    return f"{shown[: kept - kept // 3]}…{shown[-(kept // 3) :]}"
