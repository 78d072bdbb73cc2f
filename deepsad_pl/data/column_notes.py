"""Say in words which columns of a table a run uses, and which of them look like a mistake."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from pandas.api.types import is_numeric_dtype

from deepsad_pl.common.counting import counted
from deepsad_pl.data.column_kinds import Kind, quoted
from deepsad_pl.data.table_cells import text_in
from deepsad_pl.data.table_columns import Column

# A column that is empty in more than this share of the rows and has few values is probably a label that was not named.
MOSTLY_EMPTY, _MOST_LABELS = 0.9, 10
_NOUNS: dict[Kind, tuple[str, str]] = {
    "number": ("number", "numbers"),
    "category": ("category", "categories"),
    "boolean": ("boolean", "booleans"),
}
# Columns shown by name.
_SHOWN = 10


def columns_told(columns: Sequence[Column], unused: Mapping[str, Sequence[str]]) -> str:
    """One line about the columns of a table.

    Args:
        columns: that are learned from.
        unused: names of the other columns, each with what it is used for, such as ``label``; ``drop``: for nothing.

    >>> color = Column("color", "category", False, categories=("blue", "red"))
    >>> columns_told([Column("size", "number", False), color], {"part": ["id"]})
    '2 columns: 1 number, 1 category (color: 2); not learned from: part (id)'
    """
    kinds = []
    for kind, nouns in _NOUNS.items():
        found = [column for column in columns if column.kind == kind]
        if found:
            shown = [f"{column.name}: {len(column.categories)}" for column in found]
            kinds.append(counted(len(found), *nouns) + (f" ({_listed(shown)})" if kind == "category" else ""))
    told = f"{counted(len(columns), 'column')}: {', '.join(kinds)}"
    if unused:
        others = [f"{name} ({', '.join(uses)})" for name, uses in unused.items()]
        told += f"; not learned from: {_listed(others)}"
    return told


def mostly_empty(frame: pd.DataFrame, columns: Sequence[Column]) -> Iterator[str]:
    """Yield a warning for each column that may hold labels: few different values, and empty in nearly all rows.

    Args:
        frame: the training rows.
        columns: what was learned about their columns.
    """
    for column in columns:
        if not column.missing:
            continue
        cells = frame[column.name]
        empty = int(cells.isna().sum()) if is_numeric_dtype(cells.dtype) else text_in(cells).null_count
        if empty > MOSTLY_EMPTY * len(cells) and (values := cells.nunique()) <= _MOST_LABELS:
            rows = counted(len(cells), "training row")
            yield (
                f"column {column.name!r} is empty in {empty} of {rows} and is learned from as a {column.kind} with "
                f"{counted(values, 'value')}; if it holds labels, name it with dataset.label or dataset.truth, or "
                f"leave it out: dataset.drop=[{quoted(column.name)}]"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])])
