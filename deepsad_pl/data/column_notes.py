"""Describe which columns of a table a run uses, and which of them look like a mistake."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from deepsad_pl.common.counting import counted
from deepsad_pl.data.column_kinds import Kind, quoted
from deepsad_pl.data.table_cells import numbers_in, shown, text_in
from deepsad_pl.data.table_columns import Column

# A column may hold labels if more than this share of its cells is empty and it has at most this many different values.
MOSTLY_EMPTY, _MOST_LABELS = 0.9, 10
_NOUNS: dict[Kind, tuple[str, str]] = {
    "number": ("number", "numbers"),
    "category": ("category", "categories"),
    "boolean": ("boolean", "booleans"),
}
# A category may be a column of numbers with mistakes if it has at least so many different numbers, and at most this
# share of other cells.
_LEAST_NUMBERS, _FEW_CELLS = 10, 0.05
# The largest number of columns that a message names.
_SHOWN = 10


def columns_told(columns: Sequence[Column], unused: Mapping[str, Sequence[str]]) -> str:
    """Describe the columns of a table in one line.

    Args:
        columns: the columns that are learned from.
        unused: names of the other columns, each with its uses, such as ``label``; ``drop`` means that it has none.

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
        columns: the columns as learned from these rows.
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


def nearly_numbers(frame: pd.DataFrame, columns: Sequence[Column]) -> Iterator[str]:
    """Yield a warning for each category that would be a column of numbers without a few of its cells, such as ``?``.

    Args:
        frame: the training rows.
        columns: the columns as learned from these rows.
    """
    for column in columns:
        if column.kind != "category" or len(column.categories) < _LEAST_NUMBERS:
            continue
        numbers, unreadable = numbers_in(frame[column.name])
        filled = np.unique(numbers[np.isfinite(numbers)])
        if len(filled) >= _LEAST_NUMBERS and unreadable.sum() <= _FEW_CELLS * len(numbers):
            row = int(np.flatnonzero(unreadable)[0])
            yield (
                f"column {column.name!r} is learned from as a category, although all but "
                f"{counted(int(unreadable.sum()), 'cell')} are numbers; if {shown(frame[column.name].iloc[row])!r} in "
                f"row {frame.index[row]}, counted from 0, is no category, correct it or leave the cell empty"
            )


def unseen_told(unknown: Mapping[str, int], missing: Mapping[str, int]) -> Iterator[str]:
    """Yield a warning for each column in which test rows have what no training row has.

    Args:
        unknown: by column, the number of cells with an unknown category.
        missing: by column, the number of empty cells, if no training row has one there.
    """
    for column, count in unknown.items():
        rows = counted(count, "test row has", "test rows have")
        yield (
            f"{rows} a category in column {column!r} that no training row has; it is encoded as zeros, which may look "
            "anomalous"
        )
    for column, count in missing.items():
        rows = counted(count, "test row has", "test rows have")
        yield f"{rows} no value in column {column!r}, unlike all training rows"


def names_warning(file: str, column: str, names: Sequence[str]) -> str:
    """A warning if rows of a table have no name or share one; an empty string if every row has its own name.

    Args:
        file: the file that has the rows.
        column: the column that has their names.
        names: the name of each row; an empty string if it has none.

    >>> names_warning("parts.csv", "part", ["a", "b", "a"])
    "dataset.id=part: 2 rows of parts.csv share a name with another, such as 'a'; scores.csv does not tell them apart"
    """
    counts = Counter(names)
    missing = counts.pop("", 0)
    twice = [name for name, count in counts.items() if count > 1]
    found = [counted(missing, f"row of {file} has no name", f"rows of {file} have no name")] if missing else []
    if twice:
        shared = counted(sum(counts[name] for name in twice), "row")
        found.append(f"{shared}{'' if missing else f' of {file}'} share a name with another, such as {twice[0]!r}")
    if not found:
        return ""
    return f"dataset.id={column}: {' and '.join(found)}; scores.csv does not tell them apart"


def truth_told(label: str) -> str:
    """A hint for a table in which all scored rows have labels, but no column is named as the truth.

    Args:
        label: the column with the labels.
    """
    return (
        f"each row that is scored has a label in the column {label}; with dataset.truth={quoted(label)} the labels are "
        "also the truth, by which AUROC is computed"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *([f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else [])])
