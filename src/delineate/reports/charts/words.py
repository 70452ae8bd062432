"""What one sees on a chart, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_NAMED = 12
"""Names that a chart's words list before they say how many more there are."""


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, without an exponent; "no value" for NaN."""
    if math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "infinite"
    if value == 0:
        return "0"
    shown = fixed(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def fixed(value: float, places: int) -> str:
    """So many decimals, without a sign for what rounds to 0; "no value" for NaN."""
    return f"{value:z,.{places}f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else number(value)


def count(items: int, one: str, many: str = "") -> str:
    """1 case, 12 cases."""
    return f"{items:,} {one if items == 1 else many or one + 's'}"


def listed(phrases: Sequence[str], *, most: int = MOST_NAMED) -> str:
    """The phrases as a sentence's list; of many the first ones, and how many more."""
    shown = list(phrases[:most])
    return "; ".join(shown) + (f"; and {len(phrases) - most} more" if len(phrases) > most else "")
