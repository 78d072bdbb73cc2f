"""The columns of the paper's tables, in its order, with its headings; and how the rows are called."""

from collections.abc import Iterable, Mapping
from typing import Any

from deepsad_pl.settings.about import own_columns


def heading(column: str) -> str:
    """The heading of a column; that of a method from outside is its name here."""
    return own_columns()[column].heading if column in own_columns() else column


def in_order(columns: Iterable[str]) -> list[str]:
    """Columns in the paper's order, those that it does not have after them."""
    found = list(dict.fromkeys(columns))
    return [*(c for c in own_columns() if c in found), *(c for c in found if c not in own_columns())]


def value_text(value: Any) -> str:
    """``0.05``, ``100``, a name as it is; ``none`` for None."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def describe(row: Mapping[str, Any]) -> str:
    """``gamma_l = 0.05``; nothing where there is no axis."""
    return ", ".join(f"{axis} = {value_text(value)}" for axis, value in row.items())
