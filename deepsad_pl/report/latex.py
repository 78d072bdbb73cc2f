"""The table as LaTeX."""

import re
from collections.abc import Sequence

from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import heading
from deepsad_pl.report.layout import count, marks, plus_minus, table_rows

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

    Each row has three lines: our results, the paper's in brackets if it has any, and the number of experiments.

    Args:
        title: title of the study.
        cells: cells of the table.
        axes: names of the axes.
        notes: sentences for the caption.
    """
    columns, rows = table_rows(cells)
    size, small = next(((size, small) for most, size, small in _SIZES if len(columns) <= most), _SMALLEST)
    body: list[str] = []
    for number, row in enumerate(rows):
        if number:
            body.append(r"\midrule" if row.dataset else r"\addlinespace")
        lines = [
            [_escaped(row.dataset), *map(_escaped, row.values), *map(_ours, row.cells)],
            [*[""] * (1 + len(axes)), *(_small(small, _paper(cell)) for cell in row.cells)],
            [*[""] * (1 + len(axes)), *(_small(small, count(cell) if cell else "") for cell in row.cells)],
        ]
        body += [_line(line) for line in lines if any(line)]
    # A heading of two words is split into two lines.
    words = [_escaped(heading(column)).split(" ", 1) for column in columns]
    heads = [["", *[""] * len(axes), *(first if rest else "" for first, *rest in words)]] if cells else []
    heads.append(["data set", *(_SYMBOLS.get(axis, _escaped(axis)) for axis in axes), *(word[-1] for word in words)])
    caption = " ".join([f"{_escaped(title)}.", *map(_escaped, notes)])
    lines_of_table = [
        *([_WIDE] if len(columns) > _PAGE else []),
        r"\begin{table}",
        r"\centering",
        size,
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
        return "" if cell is None else "--"
    ours = _escaped(plus_minus(cell.mean, cell.std))
    raised = marks(cell).replace("†", r"\dagger")
    return (rf"\textbf{{{ours}}}" if cell.best else ours) + (rf"\rlap{{$^{{{raised}}}$}}" if raised else "")


def _paper(cell: Cell | None) -> str:
    return f"({_escaped(plus_minus(*cell.paper))})" if cell is not None and cell.paper else ""


def _small(size: str, text: str) -> str:
    return f"{{{size} {text}}}" if text else ""


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, re.sub(r"[&%$#_{}]", r"\\\g<0>", letter)) for letter in text)
