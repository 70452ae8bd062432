"""Pages as PDF: what a browser would print, written by WeasyPrint (extra `pdf`). Nothing is fetched from anywhere."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from delineate.errors import ExportError, ResourceError

_EXTRA = 'Install it: pip install "delineate[pdf]".'
_LIBRARIES = "On Debian and Ubuntu: apt-get install libpango-1.0-0 libpangoft2-1.0-0. Or print the HTML file to PDF."


def check_pdf() -> None:
    """Raises `ResourceError` where no PDF can be written, so that it is known before the work is done."""
    _weasyprint()


def html_to_pdf(html: str) -> bytes:
    """The PDF of a self-contained page, as its print style has it, tagged so that screen readers can follow it.

    Raises `ResourceError` without WeasyPrint or the libraries it draws text with, `ExportError` for a page that refers
    to anything outside itself.
    """
    weasyprint = _weasyprint()
    refused: list[str] = []

    class OnlyInside(weasyprint.urls.URLFetcher):  # type: ignore[misc, name-defined]
        def fetch(self, url: str, headers: Any = None) -> Any:
            if not url.startswith("data:"):
                refused.append(url)
                raise ValueError("not inside the page")
            return super().fetch(url, headers)

    # A base that is no address: without one it would take the working folder's.
    document = weasyprint.HTML(string=html, base_url="page:", url_fetcher=OnlyInside())
    pdf: bytes = document.write_pdf(pdf_tags=True)
    if refused:
        raise ExportError("a page that is not self-contained", expected="nothing from elsewhere", got=refused[0][:200])
    return pdf


def _weasyprint() -> Any:
    try:
        # It prints advice of its own where a library is missing.
        with contextlib.redirect_stdout(io.StringIO()):
            import weasyprint
            import weasyprint.urls
    except ImportError as error:
        raise ResourceError("PDF files need WeasyPrint", remedy=_EXTRA) from error
    except OSError as error:
        raise ResourceError(
            "PDF files need the library Pango", got=str(error).splitlines()[0][:200], remedy=_LIBRARIES
        ) from error
    return weasyprint
