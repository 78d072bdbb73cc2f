"""The table as Markdown, aligned so that it is also readable in a text editor."""

import re
from collections.abc import Sequence

from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import heading
from deepsad_pl.report.layout import count, error, marks, paper, table_rows


def markdown(title: str, cells: Sequence[Cell], axes: Sequence[str], notes: Sequence[str]) -> str:
    """Format the table, with its notes beneath it.

    Each row has up to four lines: our results, their standard errors and the paper's results in brackets, as far as
    there are any, and the number of experiments.

    Args:
        title: title of the study.
        cells: cells of the table.
        axes: names of the axes.
        notes: sentences beneath the table.
    """
    columns, rows = table_rows(cells)
    table = [["data set", *axes, *map(heading, columns)]]
    for row in rows:
        lines = [[text(cell) for cell in row.cells] for text in (_ours, error, paper)]
        lines = [line for line in lines if any(line)] + [["" if cell is None else count(cell) for cell in row.cells]]
        heads = [[row.dataset, *row.values], *[[""] * (1 + len(axes))] * (len(lines) - 1)]
        table += [[*head, *line] for head, line in zip(heads, lines, strict=True)]
    return "\n".join([f"# {title}", "", *aligned(table), "", *listed(notes), ""])


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, padded so that columns are aligned; the first row is the head."""
    escaped = [[_escaped(text) for text in line] for line in table]
    widths = [max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    ruler = ["-" * width for width in widths]
    return [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in (escaped[0], ruler, *escaped[1:])
    ]


def listed(notes: Sequence[str]) -> list[str]:
    """The notes as a Markdown list."""
    # An asterisk would start a list.
    return ["- " + re.sub(r"^\*", r"\\*", note).replace("_", r"\_") for note in notes]


def _ours(cell: Cell | None) -> str:
    if cell is None or not cell.n:
        return "" if cell is None or not cell.expected else "-"
    return (f"**{cell.text}**" if cell.best else cell.text) + marks(cell).replace("*", r"\*")


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")
