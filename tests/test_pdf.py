"""Pages as PDF, from nothing but what is inside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from delineate.errors import ExportError, ResourceError
from delineate.reports.pdf import check_pdf, html_to_pdf

PAGE = '<!DOCTYPE html><html lang="en"><head><title>A page</title></head><body><h1>A page</h1>{}</body></html>'
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def test_a_page_becomes_a_pdf_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("weasyprint")
    check_pdf()
    pdf = html_to_pdf(PAGE.format(f'<p style="frobnicate: 1">Text</p><img src="{PIXEL}" alt="a pixel">'))
    assert pdf.startswith(b"%PDF-")
    assert b"/Lang" in pdf or b"/ObjStm" in pdf
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "reference",
    [
        '<img src="https://example.org/a.png" alt="">',
        '<img src="file:///etc/hostname" alt="">',
        '<img src="beside.png" alt="">',
        '<p style="background: url(http://example.org/b.png)">x</p>',
        '<style>@import "http://example.org/c.css";</style>',
    ],
)
def test_nothing_is_fetched_from_elsewhere(reference: str) -> None:
    pytest.importorskip("weasyprint")
    with pytest.raises(ExportError, match="not self-contained"):
        html_to_pdf(PAGE.format(reference))


def test_a_missing_weasyprint_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ResourceError, match=r'pip install "delineate\[pdf\]"'):
        check_pdf()


def test_a_missing_pango_names_debians_packages_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = 'print("long advice")\nraise OSError("cannot load library \'libpango-1.0-0\'")\n'
    (tmp_path / "weasyprint").mkdir()
    (tmp_path / "weasyprint" / "__init__.py").write_text(broken)
    for name in [name for name in sys.modules if name.split(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ResourceError, match=r"libpango-1\.0-0 libpangoft2-1\.0-0"):
        html_to_pdf(PAGE.format(""))
    assert capsys.readouterr().out == ""
