"""Legends beneath a figure, with as many entries side by side as fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import heading
from deepsad_pl.report.style import HOLLOW, SMALL, STAR, line_height, styles_of_columns
from deepsad_pl.report.text_width import width_of, wrapped

# Lengths in multiples of the font size, matplotlib's unit for them.
_HANDLE, _PAD, _GAP = 2.8, 0.6, 1.4
_MARGIN = 0.1  # inches on each side


@dataclass(frozen=True)
class Entry:
    """An entry of a legend: a name, and how the line or marker beside it looks."""

    name: str
    shape: dict[str, Any]


def column_entries(columns: Sequence[str], cells: Sequence[Cell], *, lines: bool) -> list[Entry]:
    """An entry for each column, drawn as a line or as a dot; † marks columns with test-informed cells."""
    informed = {cell.column for cell in cells if cell.test_informed and cell.n}
    return [
        Entry(
            heading(column) + ("†" if column in informed else ""),
            {**style.drawn, "linestyle": style.line if lines else "none"},
        )
        for column, style in styles_of_columns(columns).items()
    ]


def mark_entries(cells: Sequence[Cell]) -> list[Entry]:
    """Entries for the marks that occur: the paper's results, stars and daggers."""
    entries = []
    if any(cell.paper and cell.n for cell in cells):
        entries.append(Entry("hollow: the paper", {"color": "#555555", "marker": "o", **HOLLOW}))
    if any(cell.significant for cell in cells):
        entries.append(Entry("best, p < .05", STAR))
    if any(cell.test_informed and cell.n for cell in cells):
        entries.append(Entry("test-informed", {"color": "black", "marker": r"$\dagger$", "linestyle": "none"}))
    return entries


def legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Add a legend beneath a figure, which grows to fit it. Use it within :func:`deepsad_pl.report.style.look`."""
    if not entries:
        return
    width, height = map(float, figure.get_size_inches())
    room = width - 2 * _MARGIN
    names = [wrapped(entry.name, room - _before(), SMALL) for entry in entries]
    columns = next((n for n in range(len(names), 1, -1) if _width(names, n) <= room), 1)
    lines = [sum(map(_lines, part)) for part in np.array_split(np.array(names, dtype=object), columns)]
    figure.set_size_inches(width, height + line_height(SMALL) * 1.15 * max(lines) + 0.1)
    figure.legend(
        [Line2D([], [], **entry.shape) for entry in entries],
        names,
        loc="outside lower center",
        ncols=columns,
        handlelength=_HANDLE,
        handletextpad=_PAD,
        columnspacing=_GAP,
        labelspacing=0.25,
        borderpad=0.1,
    )


def _before() -> float:
    """Width, in inches, of the handle and padding before a name."""
    return (_HANDLE + _PAD) * SMALL / 72


def _width(names: Sequence[str], columns: int) -> float:
    """Width, in inches, of a legend with that many columns, which matplotlib fills one after the other."""
    parts = [part for part in np.array_split(np.array(names, dtype=object), columns) if len(part)]
    texts = sum(max(width_of(line, SMALL) for name in part for line in name.split("\n")) for part in parts)
    return texts + len(parts) * _before() + (len(parts) - 1) * _GAP * SMALL / 72


def _lines(name: str) -> int:
    return name.count("\n") + 1
