"""The headings and the order of the columns, as in the paper, and the labels of the rows."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from deepsad_pl.settings.about import own_columns


def heading(column: str) -> str:
    """The heading of a column; the column's name if its method is not from the package."""
    return own_columns()[column].heading if column in own_columns() else column


def in_order(columns: Iterable[str]) -> list[str]:
    """Sort columns in the paper's order, followed by columns that the paper does not have."""
    found = list(dict.fromkeys(columns))
    return [*(c for c in own_columns() if c in found), *(c for c in found if c not in own_columns())]


def value_text(value: Any) -> str:
    """Format a value: ``0.05``, ``100``, a name unchanged; ``none`` for None.

    Different numbers of a type have different texts.
    """
    if value is None:
        return "none"
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return repr(float(value)) if math.isfinite(value) and float(short) != value else short


def describe(row: Mapping[str, Any]) -> str:
    """Describe a row, as in ``gamma_l = 0.05``; empty without axes."""
    return ", ".join(f"{axis} = {value_text(value)}" for axis, value in row.items())
