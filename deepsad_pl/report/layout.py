"""The table as rows of text, and as CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deepsad_pl.report.cells import Cell, Ranking
from deepsad_pl.report.columns import in_order, value_text

Grid = dict[tuple[str, tuple[Any, ...]], dict[str, Cell]]

_CELL_COLUMNS = (
    "column",
    "variant",
    "mean",
    "std",
    "n",
    "expected",
    "best",
    "significant",
    "paper_mean",
    "paper_std",
    "borrowed",
    "protocol",
)


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes:
        dataset: its name; empty where the row above has the same.
        values: of the axes, as text.
        cells: one for each column; None where the method cannot have one.
    """

    dataset: str
    values: list[str]
    cells: list[Cell | None]


def grid_of(cells: Sequence[Cell]) -> Grid:
    """The cells by row (data set, values of the axes) and column, in order."""
    grid: Grid = {}
    for cell in cells:
        grid.setdefault((cell.dataset, tuple(cell.row.values())), {})[cell.column] = cell
    return grid


def plus_minus(mean: float, std: float) -> str:
    """``96.7 ± 2.4``; without a std, the mean alone."""
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def count(cell: Cell) -> str:
    """``n 90``, or ``n 7 of 10``."""
    return f"n {cell.n}" if cell.n == cell.expected else f"n {cell.n} of {cell.expected}"


def table_rows(cells: Sequence[Cell]) -> tuple[list[str], list[TableRow]]:
    """The columns in the table's order; and its rows, of which the first of each data set has its name."""
    columns = in_order(cell.column for cell in cells)
    rows: list[TableRow] = []
    before = None
    for (dataset, values), found in grid_of(cells).items():
        name = "" if dataset == before else dataset
        rows.append(TableRow(name, [value_text(value) for value in values], [found.get(c) for c in columns]))
        before = dataset
    return columns, rows


def cells_csv(cells: Sequence[Cell], axes: Sequence[str]) -> str:
    """One line a cell; means and stds in percent."""

    def line(cell: Cell) -> list[Any]:
        paper = cell.paper or ("", "")
        ours = [_number(cell.mean), _number(cell.std), cell.n, cell.expected, cell.best, cell.significant]
        rest = [*paper, cell.borrowed or "", cell.protocol or ""]
        return [cell.dataset, *cell.row.values(), cell.column, cell.variant, *ours, *rest]

    return _as_csv(["dataset", *axes, *_CELL_COLUMNS], map(line, cells))


def tests_csv(rankings: Sequence[Ranking], cells: Sequence[Cell], axes: Sequence[str]) -> str:
    """One line a row of the table: its two best columns and their test."""
    grid = grid_of(cells)

    def line(ranking: Ranking) -> list[Any]:
        found = grid[ranking.dataset, tuple(ranking.row.values())]
        means = [_number(found[column].mean) for column in (ranking.best, ranking.second)]
        test = ranking.comparison
        outcome = (
            [len(test.best), f"{test.statistic:g}", f"{test.p:.6g}", test.significant] if test else [0, "", "", False]
        )
        return [ranking.dataset, *ranking.row.values(), ranking.best, ranking.second, *means, *outcome]

    head = ["best", "second", "best_mean", "second_mean", "pairs", "statistic", "p", "significant"]
    return _as_csv(["dataset", *axes, *head], map(line, rankings))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
