"""Pages from templates: one HTML file with everything inside it, that needs no other file and no network."""

from __future__ import annotations

import base64
from typing import Any

from delineate.reports.tables import show_number


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
