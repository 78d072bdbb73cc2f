"""The table as LaTeX."""

import re
from collections.abc import Sequence

from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import heading
from deepsad_pl.report.layout import TableRow, count, error, marks, paper, table_rows

# Font sizes of our results and of the lines beneath them, by the maximum number of columns.
_SIZES = ((4, r"\small", r"\scriptsize"), (6, r"\footnotesize", r"\scriptsize"), (8, r"\scriptsize", r"\tiny"))
_SMALLEST = r"\tiny", r"\tiny"
_PAGE = 9
_WIDE = "% Wider than an upright page: turn it, or put \\resizebox{\\textwidth}{!}{...} of graphicx around the tabular."

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    "*": r"$^*$",
    "†": r"$^\dagger$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "≈": r"$\approx$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "√": r"$\surd$",
}
_SYMBOLS = {
    "gamma_l": r"$\gamma_l$",
    "gamma_p": r"$\gamma_p$",
    "gamma_e": r"$\gamma_e$",
    "gamma_en": r"$\gamma_{en}$",
    "k_l": "$k_l$",
    "eta": r"$\eta$",
}


def latex(title: str, cells: Sequence[Cell], axes: Sequence[str], notes: Sequence[str]) -> str:
    r"""A table for ``\usepackage{booktabs}``, with its notes in the caption.

    Each row has up to four lines: our results, their standard errors and the paper's results in brackets, as far as
    there are any, and the number of experiments.

    Args:
        title: title of the study.
        cells: cells of the table.
        axes: names of the axes.
        notes: sentences for the caption.
    """
    columns, rows = table_rows(cells)
    small = small_size(len(columns))
    body = [
        (
            row,
            [
                [_ours(cell) for cell in row.cells],
                [_small(small, error(cell)) for cell in row.cells],
                [_small(small, escaped(paper(cell))) for cell in row.cells],
                [_small(small, count(cell) if cell else "") for cell in row.cells],
            ],
        )
        for row in rows
    ]
    return latex_table(title, columns, axes, body, notes)


def small_size(columns: int) -> str:
    """The font size of the lines beneath the results, in a table of so many columns."""
    return _sizes(columns)[1]


def _sizes(columns: int) -> tuple[str, str]:
    return next(((size, small) for most, size, small in _SIZES if columns <= most), _SMALLEST)


def latex_table(
    title: str,
    columns: Sequence[str],
    axes: Sequence[str],
    rows: Sequence[tuple[TableRow, Sequence[Sequence[str]]]],
    notes: Sequence[str],
) -> str:
    r"""A table for ``\usepackage{booktabs}``.

    Args:
        title: title of the table.
        columns: the columns, by name.
        axes: names of the axes.
        rows: the rows, each with its lines of cells as LaTeX; lines without any text are left out.
        notes: sentences for the caption.
    """
    body: list[str] = []
    for number, (row, lines) in enumerate(rows):
        if number:
            body.append(r"\midrule" if row.dataset else r"\addlinespace")
        head, below = [escaped(row.dataset), *map(escaped, row.values)], [""] * (1 + len(axes))
        whole = [[*(below if place else head), *line] for place, line in enumerate(lines)]
        body += [_line(line) for line in whole if any(line)]
    # A heading of two words is split into two lines.
    words = [escaped(heading(column)).split(" ", 1) for column in columns]
    heads = [["", *[""] * len(axes), *(first if rest else "" for first, *rest in words)]] if columns else []
    heads.append(["data set", *(_SYMBOLS.get(axis, escaped(axis)) for axis in axes), *(word[-1] for word in words)])
    caption = " ".join([f"{escaped(title)}.", *map(escaped, notes)])
    lines_of_table = [
        *([_WIDE] if len(columns) > _PAGE else []),
        r"\begin{table}",
        r"\centering",
        _sizes(len(columns))[0],
        r"\setlength{\tabcolsep}{2pt}",
        rf"\begin{{tabular}}{{l{'r' * len(axes)}{'c' * len(columns)}}}",
        r"\toprule",
        *(_line(head) for head in heads if any(head)),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{caption}}}",
        r"\end{table}",
    ]
    return "\n".join(lines_of_table) + "\n"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _ours(cell: Cell | None) -> str:
    if cell is None or not cell.n:
        return "" if cell is None or not cell.expected else "--"
    ours = escaped(cell.text)
    raised = marks(cell).replace("†", r"\dagger")
    return (rf"\textbf{{{ours}}}" if cell.best else ours) + (rf"\rlap{{$^{{{raised}}}$}}" if raised else "")


def _small(size: str, text: str) -> str:
    return f"{{{size} {text}}}" if text else ""


def escaped(text: str) -> str:
    """Text for LaTeX."""
    return "".join(_SPECIAL.get(letter, re.sub(r"[&%$#_{}]", r"\\\g<0>", letter)) for letter in text)
