"""A document of questions and answers: what was recorded, what people stated, and what nobody has said.

Model cards and data sheets are such documents; one template makes HTML of them, another Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delineate.reports.drawing import Chart
from delineate.reports.html import render_markdown, render_template

NOT_STATED, NOT_RECORDED = "not stated", "not recorded"


@dataclass(frozen=True, slots=True)
class Answer:
    """`asks`: a few words. `text`: "" where nobody has said. `key`: what other parts refer to it by.

    `recorded`: it was taken from files of a run, and stated by nobody.
    """

    key: str
    asks: str
    text: str = ""
    recorded: bool = False

    @property
    def missing(self) -> str:
        return NOT_RECORDED if self.recorded else NOT_STATED


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are as long as `header`; cells are text. The first column names the row. `words`: cells hold sentences."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """`warnings` stand out; charts are left out of Markdown, so that what they show must stand in a table, too."""

    id: str
    title: str
    warnings: tuple[str, ...] = ()
    paragraphs: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """`kind`: "Model card", "Data sheet". `review`: what must be said before anything else."""

    kind: str
    title: str
    summary: str
    review: str
    sections: tuple[Section, ...]
    sources: tuple[str, ...] = ()

    @property
    def answers(self) -> dict[str, tuple[Section, Answer]]:
        return {answer.key: (section, answer) for section in self.sections for answer in section.answers}

    @property
    def open(self) -> tuple[Answer, ...]:
        """What people could state, and nobody has."""
        answers = (answer for section in self.sections for answer in section.answers)
        return tuple(answer for answer in answers if not answer.text and not answer.recorded)


def to_html(document: Document) -> str:
    """One self-contained page."""
    return render_template("document.html", document=document)


def to_markdown(document: Document) -> str:
    """The same without charts. What people stated cannot act as Markdown or HTML."""
    return render_markdown("document.md", document=document)


def recorded(key: str, asks: str, text: object) -> Answer:
    """An answer that a run has written down; "" or None if it has not."""
    return Answer(key, asks, "" if text is None else str(text), recorded=True)


def stated(about: Mapping[str, str], fields: Mapping[str, str], keys: Sequence[str]) -> tuple[Answer, ...]:
    """Answers of people to fields of `fields` (what each asks by its key)."""
    return tuple(Answer(key, fields[key], about.get(key, "")) for key in keys)
