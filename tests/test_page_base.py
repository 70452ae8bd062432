"""What all pages share: landmarks, tables and boxes, everything escaped and nothing needed from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import jinja2
import pytest

from delineate.reports.charts import time_bars
from delineate.reports.html import render_template

PACKAGE = jinja2.PackageLoader
PAGE = """{% extends "base.html" %}{% import "macros.html" as ui %}{% block title %}{{ heading }}{% endblock %}
{% block header %}{% if head %}<h1>{{ heading }}</h1>{% endif %}{% endblock %}
{% block main %}BODY{% endblock %}"""


def page(body: str, monkeypatch: pytest.MonkeyPatch, **context: Any) -> str:
    """A page with this body, made as the package's own ones are."""
    source = PAGE.replace("BODY", body)
    loader = PACKAGE("delineate.reports")
    both = jinja2.ChoiceLoader([jinja2.DictLoader({"page.html": source}), loader])
    monkeypatch.setattr(jinja2, "PackageLoader", lambda package: both)
    return render_template("page.html", **({"heading": "A <page>", "head": True} | context))


def test_a_page_has_landmarks_and_a_way_past_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    made = page("<p>x</p>", monkeypatch)
    assert made.index('<a class="skip" href="#main">') < made.index("<header>") < made.index('<main id="main">')
    assert "<title>A &lt;page&gt;</title>" in made
    assert "<footer>" not in made
    assert "<header>" not in page("<p>x</p>", monkeypatch, head=False)


def test_tables_have_captions_scopes_and_escaped_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{{ ui.table("Scores", ["structure", "Dice"], rows, foot=["mean", "0.8"]) }}'
    made = page(body, monkeypatch, rows=[["<b>", 0.9], ["y", 0.7]])
    assert "<caption><span>Scores</span></caption>" in made
    assert made.count('<th scope="col">') == 2
    assert made.count('<th scope="row">') == 3
    assert "&lt;b&gt;" in made
    assert "<b>" not in made


def test_the_script_is_there_only_where_there_is_something_to_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{{ ui.table("Scores", ["structure", "Dice"], rows) }}'
    rows = [[name, 0.5] for name in "abc"]
    assert "<script>" in page(body, monkeypatch, rows=rows)
    assert "<script>" not in page(body, monkeypatch, rows=rows[:2])


def test_what_nobody_reviewed_says_so_and_what_somebody_did_says_who(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not reviewed" in page("{{ ui.review() }}", monkeypatch)
    reviewed = page('{{ ui.review("Dr <A>", "2026-01-01") }}', monkeypatch)
    assert "Reviewed by Dr &lt;A&gt; on 2026-01-01" in reviewed
    assert "Not reviewed" not in reviewed


def test_charts_and_pictures_stand_in_the_page_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = time_bars({"training": 12})
    body = '{{ ui.chart(drawn, "Time") }}{{ ui.figure(png, "a <scan>", "Scan") }}'
    made = page(body, monkeypatch, drawn=drawn, png=b"png")
    assert drawn.svg in made
    assert 'alt="a &lt;scan&gt;"' in made
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|@import|url\((?!#)", made)


@pytest.mark.parametrize(("value", "shown"), [(0.9, 'width: 90.0%"></span></span>0.900'), (float("nan"), "<i>–</i>")])
def test_scores_have_bars_and_missing_ones_a_dash(monkeypatch: pytest.MonkeyPatch, value: float, shown: str) -> None:
    assert shown in page("<i>{{ ui.score(value) }}</i>", monkeypatch, value=value)


def test_a_name_that_is_not_given_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(jinja2.UndefinedError, match="nowhere"):
        page("{{ nowhere }}", monkeypatch)
