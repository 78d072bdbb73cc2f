"""Replace CSV rows with too many or too few cells by empty rows, so that later rows keep their positions."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from deepsad_pl.data.table_cells import Arrow

# A table that begins with this many ragged rows has a wrong separator or wrong column names.
_MOST_AT_THE_START = 1000


@dataclass(frozen=True)
class RaggedRow:
    """A row with more or fewer cells than columns.

    Attributes:
        columns: number of columns.
        cells: text of each cell of the row.
        text: text of the row.
    """

    columns: int
    cells: tuple[str, ...]
    text: str

    def cell(self, place: int) -> str:
        """The text in a column, counted from 0; empty if the row ends before it."""
        return self.cells[place].strip() if place < len(self.cells) else ""

    def told(self) -> str:
        """What is wrong with the row, as a part of a sentence."""
        return (
            f"it has {len(self.cells)} cells under {self.columns} column names: {self.text[:80]!r}; put a cell that "
            "holds the separator into double quotes"
        )


class RaggedRows:
    """Collect the ragged rows of a table, which arrow skips while it reads the table.

    Args:
        found: receives the rows, by position in the table, from 0; the caller may remove rows that it has handled.
        delimiter: character between cells.
    """

    def __init__(self, found: dict[int, RaggedRow], delimiter: str) -> None:
        self._found, self._delimiter = found, delimiter
        self._pending: deque[int] = deque()
        self._at_the_start = 0

    def handler(self, row: Any) -> Literal["skip", "error"]:
        """Skip a ragged row (arrow's ``invalid_row_handler``), or stop if the table begins with too many of them."""
        if row.number == self._at_the_start + 1:
            self._at_the_start += 1
        if row.number == self._at_the_start == _MOST_AT_THE_START:
            return "error"
        position = row.number - 1
        self._found[position] = RaggedRow(row.expected_columns, _cells(row.text, self._delimiter), row.text)
        self._pending.append(position)
        return "skip"

    def put_back(self, batches: Iterable[Arrow], schema: Arrow) -> Iterator[Arrow]:
        """Yield the batches, with an empty row in place of each ragged one."""
        first = 0
        for batch in batches:
            whole = self._with_empty_rows(batch, first)
            first += whole.num_rows
            yield whole
        if self._pending:
            yield pa.RecordBatch.from_arrays(
                [pa.nulls(len(self._pending), kind) for kind in schema.types], schema=schema
            )

    def _with_empty_rows(self, batch: Arrow, first: int) -> Arrow:
        rows: list[int | None] = []
        taken = 0
        while self._pending and self._pending[0] <= first + len(rows) + batch.num_rows - taken:
            more = self._pending.popleft() - first - len(rows)
            rows += [*range(taken, taken + more), None]
            taken += more
        if not rows:
            return batch
        return batch.take(pa.array([*rows, *range(taken, batch.num_rows)], pa.int64()))


def _cells(text: str, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([text], delimiter=delimiter), ()))
    except csv.Error:  # a cell that is too long for this reader
        return tuple(text.split(delimiter))
