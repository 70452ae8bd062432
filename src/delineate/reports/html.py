"""Pages from templates: one HTML file with everything inside it, that needs no other file and no network."""

from __future__ import annotations

import base64
import re
from typing import Any

from delineate.reports.tables import show_number

_MARKS = re.compile(r"([\\`*_\[\]<>|#~$])")


def render_template(name: str, **context: Any) -> str:
    """A template of this package as HTML; every text is escaped, and a name that is not given is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("delineate.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = show_number
    environment.filters["png"] = _inline_png
    return environment.get_template(name).render(**context)


def _inline_png(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def render_markdown(name: str, **context: Any) -> str:
    """A template of this package as Markdown; texts go through its filter `plain`, so that none acts as markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("delineate.reports"),
        autoescape=False,  # the filter does it: HTML's entities alone would leave Markdown's signs
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = _plain_markdown
    return environment.get_template(name).render(**context)


def _plain_markdown(text: object) -> str:
    """One line in which no sign acts as Markdown or HTML."""
    return _MARKS.sub(r"\\\1", " ".join(str(text).split()))
