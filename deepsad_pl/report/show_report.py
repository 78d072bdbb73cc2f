"""Print the table of a study on the console."""

from collections.abc import Sequence
from textwrap import fill

from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from deepsad_pl.common.console import console
from deepsad_pl.report import Report
from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import heading
from deepsad_pl.report.known_novel import KnownNovel, means
from deepsad_pl.report.layout import TableRow, count, error, marks, paper, table_rows

_GAP = 3  # width that rich adds between two columns
_HEADING = 13  # maximum width of a heading, no wider than most of the cells


def show_report(report: Report) -> None:
    """Print our results, the paper's in brackets, the notes and the report's folder.

    There is one row per data set and combination of axis values. Columns that do not fit into the terminal follow in
    another table.
    """
    columns, rows = table_rows(report.cells)
    names = [fill(heading(column), _HEADING) for column in columns]
    texts = [[_text(row.cells[number]) for row in rows] for number in range(len(columns))]
    _print_parts(report, report.title, names, texts, rows)
    for note in report.notes:
        console.print(note, style="dim", markup=False, soft_wrap=True)
    if report.known_novel is not None:
        _show_known_novel(report, report.known_novel)
    console.print(f"report: {report.folder}", markup=False, soft_wrap=True)


def _print_parts(
    report: Report, title: str, names: Sequence[str], texts: Sequence[Sequence[str]], rows: Sequence[TableRow]
) -> None:
    """Print a table with a column of texts for each name; columns that do not fit follow in another table."""
    widths = [
        _width([name, *(Text.from_markup(cell).plain for cell in text)])
        for name, text in zip(names, texts, strict=True)
    ]
    firsts = [["data set", *(row.dataset for row in rows)]]
    firsts += [[axis, *(row.values[number] for row in rows)] for number, axis in enumerate(report.axes)]
    room = console.width - 1 - sum(_width(head) + _GAP for head in firsts)
    for part in _parts(widths, room):
        heads = [Column(head, overflow="fold") for head in ("data set", *report.axes)]
        table = Table(*heads, *(Column(escape(names[number]), no_wrap=True) for number in part), title=title)
        for number, row in enumerate(rows):
            if number and row.dataset:
                table.add_section()
            table.add_row(*_head(row), *(texts[column][number] for column in part))
        console.print(table)


def _show_known_novel(report: Report, found: KnownNovel) -> None:
    """Print the means of known and novel anomalies, in the layout of the table."""
    columns, rows = table_rows(found.known)
    names = [fill(heading(column), _HEADING) for column in columns]
    texts = [
        ["" if (cell := row.cells[number]) is None else means(*found.pair(cell), ("[bold]", "[/]")) for row in rows]
        for number in range(len(columns))
    ]
    _print_parts(report, f"{report.title}: AUROC, known | novel", names, texts, rows)


def _head(row: TableRow) -> list[str]:
    return [escape(row.dataset), *map(escape, row.values)]


def _text(cell: Cell | None) -> str:
    if cell is None or not cell.n:
        return "" if cell is None or not cell.expected else "-"
    text = cell.text + marks(cell)
    lines = [f"[bold]{text}[/]" if cell.best else text]
    lines += [f"[dim]{line}[/]" for line in (error(cell), paper(cell)) if line]
    return "\n".join([*lines, *([] if count(cell) == f"n {cell.n}" else [count(cell)])])


def _width(texts: Sequence[str]) -> int:
    return max(len(line) for text in texts for line in text.split("\n"))


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """Split the column indices into parts that fit side by side, with at least one column each."""
    parts: list[list[int]] = [[]]
    left = room
    for number, width in enumerate(widths):
        if parts[-1] and width + _GAP > left:
            parts.append([])
            left = room
        parts[-1].append(number)
        left -= width + _GAP
    return parts
