"""Lay out the table as rows of text and as CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deepsad_pl.common.counting import counted
from deepsad_pl.report.cells import Cell, Ranking
from deepsad_pl.report.columns import in_order, value_text
from deepsad_pl.report.measure import AUROC, Measure
from deepsad_pl.report.significance import NORMAL_CLASS, Comparison
from deepsad_pl.report.standard_error import ABOVE, BELOW, IN_REACH

# The marks of the verdicts, in a table.
VERDICT_MARKS = {IN_REACH: "≈", BELOW: "↓", ABOVE: "↑"}

Grid = dict[tuple[str, tuple[Any, ...]], dict[str, Cell]]

_CELL_COLUMNS = (
    "column",
    "variant",
    "mean",
    "std",
    "standard_error",
    "n",
    "expected",
    "population",
    "best",
    "significant",
    "paper_mean",
    "paper_std",
    "paper_n",
    "verdict",
    "borrowed",
    "protocol",
    "test_informed",
    "run_with",
)
_TEST_COLUMNS = (
    "best",
    "second",
    "best_mean",
    "second_mean",
    "unit",
    "n",
    "p_value",
    "p_holm",
    "p_paper",
    "median_difference",
    "significant",
    "run_with",
)


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes:
        dataset: name of the data set; empty if the row above has the same.
        values: values of the axes, as text.
        cells: one cell per column; None if the method cannot have one.
    """

    dataset: str
    values: list[str]
    cells: list[Cell | None]


def grid_of(cells: Sequence[Cell]) -> Grid:
    """Arrange the cells by row (data set, values of the axes) and column, in order."""
    grid: Grid = {}
    for cell in cells:
        grid.setdefault((cell.dataset, tuple(cell.row.values())), {})[cell.column] = cell
    return grid


def plus_minus(mean: float, std: float) -> str:
    """Format as ``96.7 ± 2.4``, or as the mean alone without a std."""
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def count(cell: Cell) -> str:
    """``n 90``; ``n 7 of 10`` if three are not finished; ``n 27, paper 90`` if the paper's value has another n.

    Empty if the metric is blank in all experiments.
    """
    if not cell.expected:
        return ""
    ours = f"n {cell.n}" if cell.n == cell.expected else f"n {cell.n} of {cell.expected}"
    return f"{ours}, paper {cell.paper_n}" if has_another_n(cell) else ours


def error(cell: Cell | None) -> str:
    """``SE 0.42``; empty without a standard error."""
    if cell is None or math.isnan(cell.error):
        return ""
    return f"SE {cell.error:.2f}" if cell.measure.in_percent else f"SE {cell.measure.number(cell.error)}"


def paper(cell: Cell | None) -> str:
    """The paper's result in brackets, with the mark of the verdict; empty if it has none."""
    if cell is None or cell.paper is None:
        return ""
    mark = VERDICT_MARKS.get(cell.verdict or "", "")
    return f"({plus_minus(*cell.paper)})" + (f" {mark}" if mark else "")


def has_another_n(cell: Cell) -> bool:
    """Whether the paper's value is based on another number of experiments than we requested."""
    return cell.paper is not None and cell.paper_n != cell.expected


def marks(cell: Cell) -> str:
    """The marks after a result: † if it is test-informed, * if it is significantly the best."""
    return ("†" if cell.test_informed else "") + ("*" if cell.significant else "")


def units(test: Comparison) -> str:
    """Number and kind of a test's independent observations, such as ``10 classes`` or ``1 seed``."""
    one, many = ("class", "classes") if test.unit == NORMAL_CLASS else ("seed", "seeds")
    return counted(test.n, one, many)


def table_rows(cells: Sequence[Cell]) -> tuple[list[str], list[TableRow]]:
    """The columns in the table's order, and the rows; only a data set's first row shows its name."""
    columns = in_order(cell.column for cell in cells)
    rows: list[TableRow] = []
    before = None
    for (dataset, values), found in grid_of(cells).items():
        name = "" if dataset == before else dataset
        rows.append(TableRow(name, [value_text(value) for value in values], [found.get(c) for c in columns]))
        before = dataset
    return columns, rows


def cells_csv(cells: Sequence[Cell], axes: Sequence[str], run_with: str) -> str:
    """The cells as CSV, one line per cell; means and standard deviations in percent, unless the metric is one's own."""

    def line(cell: Cell) -> list[Any]:
        paper = [*cell.paper, cell.paper_n, cell.verdict or ""] if cell.paper else [""] * 4
        counts = [cell.n, cell.expected, cell.population or ""]
        ours = [*map(number, (cell.mean, cell.std, cell.error)), *counts, cell.best, cell.significant]
        rest = [*paper, cell.borrowed or "", cell.protocol or "", ", ".join(cell.test_informed), run_with]
        return [cell.dataset, *cell.row.values(), cell.column, cell.variant, *ours, *rest]

    return _as_csv(["dataset", *axes, *_CELL_COLUMNS], map(line, cells), _measure(cells))


def tests_csv(rankings: Sequence[Ranking], cells: Sequence[Cell], axes: Sequence[str], run_with: str) -> str:
    """The tests as CSV, one line per row of the table: its two best columns; means and differences in percent."""
    grid = grid_of(cells)
    measure = _measure(cells)

    def line(ranking: Ranking) -> list[Any]:
        found = grid[ranking.dataset, tuple(ranking.row.values())]
        means = [number(found[column].mean) for column in (ranking.best, ranking.second)]
        test = ranking.comparison
        outcome: list[Any] = ["", 0, "", "", "", ""]
        if test is not None:
            chances = [f"{p:.6g}" for p in (test.p, ranking.p_holm, test.p_paper)]
            outcome = [test.unit, test.n, *chances, number(measure.factor * test.median_difference)]
        names = [ranking.dataset, *ranking.row.values(), ranking.best, ranking.second]
        return [*names, *means, *outcome, ranking.significant, run_with]

    return _as_csv(["dataset", *axes, *_TEST_COLUMNS], map(line, rankings), measure)


def _measure(cells: Sequence[Cell]) -> Measure:
    return cells[0].measure if cells else AUROC


def number(value: float) -> str:
    """A number of a CSV file; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.4f}"


def _as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]], measure: Measure) -> str:
    """As CSV; every metric but AUROC is named in a last column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = measure != AUROC
    writer.writerow([*head, "metric"] if named else head)
    writer.writerows([*row, measure.name] if named else row for row in rows)
    return text.getvalue()
