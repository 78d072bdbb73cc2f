"""Encode the columns of a table as scaled numbers, with statistics and categories of the training rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.column_kinds import Kind, NoFeatureError, kind_of, kind_of_numbers
from deepsad_pl.data.marks import spelled
from deepsad_pl.data.scaling import Method, Scaling
from deepsad_pl.data.table_cells import as_booleans, numbers_in, shown, text_in, why_no_boolean, why_no_number

# Number of rows encoded at a time, so that intermediate results stay in the processor's cache.
_ROWS_A_BLOCK = 8192

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """What was learned about one column from the training rows.

    Attributes:
        name: name of the column.
        kind: ``number``, ``boolean`` or ``category``.
        missing: whether training rows had empty cells; if so, an additional output column marks empty cells.
        fill: value for empty cells: the median of the training rows; 0 for categories, which do not use it.
        categories: the distinct texts of the training rows, sorted; empty for other kinds.
    """

    name: str
    kind: Kind
    missing: bool
    fill: float = 0.0
    categories: tuple[str, ...] = ()


class OutputColumn(NamedTuple):
    """Where an encoded column comes from.

    Attributes:
        column: name of the table's column.
        label: the column's name, or for example ``color=red`` or ``age is missing``.
    """

    column: str
    label: str


class Unreadable(NamedTuple):
    """A cell that prevents its row from being encoded.

    Attributes:
        row: position in the frame, from 0.
        column: name of the column.
        cell: text of the cell.
        kind: kind of the column, ``number`` or ``boolean``.
    """

    row: int
    column: str
    cell: str
    kind: Kind = "number"

    @property
    def told(self) -> str:
        """What is wrong with the cell, as a sentence without its row."""
        why = why_no_boolean(self.cell) if self.kind == "boolean" else why_no_number(self.cell)
        return f"column {self.column!r} holds {self.cell!r}, {why}"


@dataclass
class Encoded:
    """Encoded rows, ready for a network, and what was unusual about them.

    Attributes:
        x: float32, shape (n, width); all NaN in a row with an unreadable cell.
        unreadable: the unreadable cells, ordered by row and then by column.
        unknown: for each column that has any, the number of cells with a category that no training row has; these are
            encoded as zeros.
        missing: for each column that has empty cells here but not in the training rows, the number of these cells; they
            are encoded as the median or, for a category, as zeros.
    """

    x: npt.NDArray[np.float32]
    unreadable: list[Unreadable] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TableColumns:
    """The encoding of a table's rows.

    The output begins with the scaled numbers and booleans, in the order of the training table. After these, each column
    of the table, in the same order, adds a column of 0 and 1 for each of its categories and, if training rows had empty
    cells, one that marks empty cells.

    Attributes:
        columns: the columns of the training table, in its order.
        scaling: the scaling of numbers and booleans, fitted after empty cells were filled; None if there are none.
    """

    columns: tuple[Column, ...]
    scaling: Scaling | None

    @classmethod
    def fit(cls, frame: pd.DataFrame, *, scaling: Method, all_numbers: bool = False, named: bool = False) -> Self:
        """Learn the encoding from training rows.

        Args:
            frame: the training rows, only features; see :func:`deepsad_pl.data.column_kinds.kind_of` for the kinds
                of columns.
            scaling: ``zscore`` or ``minmax``.
            all_numbers: whether the rows are those of an array of numbers, whose columns may look like dates or running
                numbers.
            named: whether another column has the names of the rows; if so, no message suggests a column for them.

        Raises:
            DeepSADError: if there is no row or no column, or if columns cannot be learned from; names all of these.
        """
        if not len(frame) or not len(frame.columns):
            raise DeepSADError(
                f"the table has {counted(len(frame), 'training row')} and {counted(len(frame.columns), 'column')} to "
                "learn from; at least one of each is needed"
            )
        columns: list[Column] = []
        scalings: list[Scaling] = []
        problems: list[str] = []
        for name, cells in _named(frame):
            try:
                kind = kind_of_numbers(name, cells) if all_numbers else kind_of(name, cells, named=named)
            except NoFeatureError as problem:
                problems.append(str(problem))
                continue
            if kind == "category":
                text = text_in(cells)
                categories = tuple(sorted(pc.unique(text).drop_null().to_pylist()))
                columns.append(Column(name, kind, text.null_count > 0, categories=categories))
                continue
            numbers = _numbers(kind, cells)[0]
            empty = np.isnan(numbers)
            fill = _median(numbers[~empty])
            columns.append(Column(name, kind, bool(empty.any()), fill))
            scalings.append(Scaling.fit(np.where(empty, fill, numbers)[:, None], scaling))
        if problems:
            raise DeepSADError(*problems)
        return cls(tuple(columns), Scaling.beside(scalings) if scalings else None)

    @property
    def names(self) -> list[str]:
        """The columns of the training table, in its order."""
        return [column.name for column in self.columns]

    @property
    def text(self) -> list[str]:
        """Columns that must be read as text, so that 1 and 01 remain two categories."""
        return [column.name for column in self.columns if column.kind != "number"]

    @property
    def width(self) -> int:
        """Number of columns of the encoded rows."""
        return len(self.sources)

    @cached_property
    def sources(self) -> tuple[OutputColumn, ...]:
        """Where each encoded column comes from."""
        scaled = [OutputColumn(column.name, column.name) for column in self._scaled]
        added = []
        for column in self.columns:
            added += [OutputColumn(column.name, f"{column.name}={category}") for category in column.categories]
            added += [OutputColumn(column.name, f"{column.name} is missing")] * column.missing
        return (*scaled, *added)

    @cached_property
    def _scaled(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.kind != "category")

    def column_problems(self, frame_columns: Collection[str], known: Collection[str] = ()) -> list[str]:
        """Reasons why a table with these columns cannot be encoded: a sentence for each missing or surplus column.

        Args:
            frame_columns: names of the columns, in any order.
            known: further columns that are allowed.
        """
        problems = []
        names = {*self.names}
        for name in self.names:
            if name not in frame_columns:
                guess = suggested(name, sorted({*frame_columns} - names))
                problems.append(f"the training table's column {name!r} is missing; {guess or 'add it'}")
        surplus = [name for name in frame_columns if name not in names and name not in known]
        problems += [f"column {name!r} was not in the training table; leave it out" for name in surplus]
        return problems

    def transform(self, frame: pd.DataFrame) -> Encoded:
        """Encode rows.

        Args:
            frame: rows with the columns of the training table, in any order; other columns are ignored.

        Raises:
            DeepSADError: if a column is missing.
        """
        series = dict(_named(frame))
        if problems := self.column_problems(series, known=series):
            raise DeepSADError(*problems)
        encoded = Encoded(np.zeros((len(frame), self.width), dtype=np.float32))
        for first in range(0, len(frame), _ROWS_A_BLOCK):
            block = {name: series[name].iloc[first : first + _ROWS_A_BLOCK] for name in self.names}
            self._encode(block, first, encoded)
        return encoded

    def _encode(self, block: Mapping[str, "pd.Series[Any]"], first: int, encoded: Encoded) -> None:
        """Encode a block of rows and write it into the result, from row ``first`` on."""
        rows = len(block[self.names[0]])
        x = encoded.x[first : first + rows]
        numbers = np.empty((rows, len(self._scaled)))
        wrong = np.zeros(numbers.shape, dtype=bool)
        at, into = 0, len(self._scaled)
        for column in self.columns:
            cells = block[column.name]
            if column.kind == "category":
                unknown, empty = _one_hot(cells, column.categories, x[:, into : into + len(column.categories)])
                _count(encoded.unknown, column.name, unknown)
                into += len(column.categories)
            else:
                values, wrong[:, at] = _numbers(column.kind, cells)
                empty = np.isnan(values) & ~wrong[:, at]
                values = np.where(empty, column.fill, values)
                numbers[:, at] = values
                at += 1
            if column.missing:
                x[:, into] = empty
                into += 1
            else:
                _count(encoded.missing, column.name, int(empty.sum()))
        if self.scaling is not None:
            scaled = self.scaling.transform(numbers)
            wrong |= ~np.isfinite(scaled)
            x[:, : scaled.shape[1]] = scaled
        for row, j in np.argwhere(wrong).tolist():
            column = self._scaled[j]
            cell = shown(block[column.name].iloc[row])
            encoded.unreadable.append(Unreadable(first + row, column.name, cell, column.kind))
        x[wrong.any(axis=1)] = np.nan

    def as_dict(self) -> dict[str, Any]:
        """All attributes, as plain values that JSON keeps exactly."""
        columns = [{**vars(column), "categories": list(column.categories)} for column in self.columns]
        return {"columns": columns, "scaling": None if self.scaling is None else self.scaling.as_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The encoding that :meth:`as_dict` wrote."""
        columns = (Column(**{**column, "categories": tuple(column["categories"])}) for column in values["columns"])
        scaling = values["scaling"]
        return cls(tuple(columns), None if scaling is None else Scaling.from_dict(scaling))


def _named(frame: pd.DataFrame) -> Iterator[tuple[str, "pd.Series[Any]"]]:
    return ((str(name), cells) for name, cells in frame.items())


def _numbers(kind: Kind, cells: "pd.Series[Any]") -> tuple[Numbers, npt.NDArray[np.bool_]]:
    return as_booleans(cells) if kind == "boolean" else numbers_in(cells)


def _median(values: Numbers) -> float:
    with np.errstate(over="ignore"):
        median = np.median(values)
    # The sum of the two middle values may overflow.
    return float(median if np.isfinite(median) else 2 * np.median(values / 2))


def _one_hot(
    cells: "pd.Series[Any]", categories: Sequence[str], into: npt.NDArray[np.float32]
) -> tuple[int, npt.NDArray[np.bool_]]:
    """Write the 1 of each row with a known category; return the number of unknown cells and which cells are empty."""
    coded = text_in(cells).dictionary_encode()
    place = {category: i for i, category in enumerate(categories)}
    # The category of each distinct text, -1 if it is unknown; the last entry, -2, is for empty cells, whose code is -1.
    # pandas writes whole numbers with decimals if one of their column's cells is empty.
    found_in = (place.get(text, place.get(spelled(text), -1)) for text in coded.dictionary.to_pylist())
    places = np.array([*found_in, -2])
    found = places[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    rows = np.flatnonzero(found >= 0)
    into[rows, found[rows]] = 1
    return int((found == -1).sum()), found == -2


def _count(counts: dict[str, int], name: str, more: int) -> None:
    if more:
        counts[name] = counts.get(name, 0) + more
