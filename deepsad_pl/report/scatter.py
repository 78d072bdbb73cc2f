"""Scatter plots of the best against the second-best column, one point per experiment (Figures 6 to 8)."""

import math
from collections.abc import Mapping, Sequence, Set
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepsad_pl.report.cells import Cell, Ranking
from deepsad_pl.report.columns import heading, value_text
from deepsad_pl.report.layout import grid_of, units
from deepsad_pl.report.style import PAGE, look, new_figure, set_title, style_of

_PANELS = 5  # panels per line
_DATASETS = 3
_SYMBOLS = {
    "gamma_l": r"$\gamma_l$",
    "gamma_p": r"$\gamma_p$",
    "gamma_e": r"$\gamma_e$",
    "gamma_en": r"$\gamma_{en}$",
    "k_l": "$k_l$",
    "eta": r"$\eta$",
}
_LEGEND = "points: experiments; p: over classes or seeds, Holm-adjusted"

Place = tuple[str, tuple[Any, ...]]


def scatter_figure(
    title: str, cells: Sequence[Cell], rankings: Sequence[Ranking], axes: Sequence[str], run_with: str
) -> Figure:
    """Draw one panel per row of the table, one line of panels per data set; without axes, all side by side.

    Args:
        title: title of the figure.
        cells: cells of the table.
        rankings: the two best columns of the rows; the panel of a row without a ranking says so.
        axes: names of the axes.
        run_with: settings that differ from the study's own, shown on a separate line; may be empty.
    """
    informed = {(cell.dataset, tuple(cell.row.values()), cell.column) for cell in cells if cell.test_informed}
    ranked = {(ranking.dataset, tuple(ranking.row.values())): ranking for ranking in rankings}
    rows = list(grid_of(cells))
    lines = _lines(rows) if axes else _chunks(rows, _DATASETS)
    wide = max(map(len, lines))
    if not rankings:
        return _nothing(title, run_with)
    with look(**{"axes.spines.top": True, "axes.spines.right": True}):
        pitch = min(PAGE / wide, 2.6)
        # Each panel also needs room for its labels and a two-line title.
        figure = new_figure(max(pitch * wide, 3.4), (pitch + 0.3) * len(lines) + 0.3)
        figure.set_layout_engine("compressed", w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.02)
        grid = figure.subplots(len(lines), wide, squeeze=False)
        for places, line in zip(grid, lines, strict=True):
            for place, row in zip(places, line, strict=False):
                # Panels of one data set in the same line share a scale.
                scaled = [
                    ranked[other] for other in (rows if axes else [row]) if other[0] == row[0] and other in ranked
                ]
                _panel(place, _head(row, axes), ranked.get(row), _low(scaled), informed)
                if axes and place is not places[0]:
                    place.tick_params(labelleft=False)
            for unused in places[len(line) :]:
                unused.set_axis_off()
        shown = {(*row, column) for row, found in ranked.items() for column in (found.best, found.second)}
        legend = _LEGEND + ("; †\u00a0test-informed" if informed & shown else "")
        set_title(figure, title, f"run with {run_with}" if run_with else "", legend)
        return figure


def _nothing(title: str, run_with: str) -> Figure:
    with look():
        figure = new_figure(5.2, 1.0)
        set_title(figure, title, f"run with {run_with}" if run_with else "")
        figure.text(0.5, 0.4, "fewer than two methods to compare", ha="center")
        return figure


def _lines(rows: Sequence[Place]) -> list[list[Place]]:
    """Split the rows into lines of panels; each data set starts a new line."""
    datasets: Mapping[str, list[Place]] = {name: [] for name, _ in rows}
    for row in rows:
        datasets[row[0]].append(row)
    return [line for found in datasets.values() for line in _chunks(found, _PANELS)]


def _chunks(rows: Sequence[Place], wide: int) -> list[list[Place]]:
    return [list(rows[start : start + wide]) for start in range(0, len(rows), wide)]


def _head(row: Place, axes: Sequence[str]) -> str:
    values = zip(axes, row[1], strict=True)
    return ", ".join([row[0], *(f"{_SYMBOLS.get(axis, axis)} = {value_text(value)}" for axis, value in values)])


def _low(rankings: Sequence[Ranking]) -> float:
    """The lower limit of the scale, in percent."""
    tests = [ranking.comparison for ranking in rankings if ranking.comparison is not None]
    lowest = min((min(test.best.min(), test.second.min()) for test in tests), default=0.5)
    return max(0.0, math.floor(100 * lowest) - 1.0)


def _panel(
    place: Axes, head: str, ranking: Ranking | None, low: float, informed: Set[tuple[str, tuple[Any, ...], str]]
) -> None:
    place.set_aspect("equal")
    if ranking is None or ranking.comparison is None:
        why = "no second method" if ranking is None else "no experiment\nin common"
        place.text(0.5, 0.5, why, ha="center", va="center", transform=place.transAxes)
        place.set_title(head)
        place.set_xticks([])
        place.set_yticks([])
        return
    test = ranking.comparison
    row = ranking.dataset, tuple(ranking.row.values())
    place.set_xlabel(_label(ranking.second, "2nd", (*row, ranking.second) in informed))
    place.set_ylabel(_label(ranking.best, "1st", (*row, ranking.best) in informed))
    place.set_title(f"{head}\n{_p(ranking.p_holm)}{'*' if ranking.significant else ''}, {units(test)}")
    high = 100.0 + 0.02 * (100.0 - low)
    place.plot([low, high], [low, high], color="#555555", linewidth=0.8, zorder=1.5)
    color = style_of(ranking.best).color
    place.scatter(100 * test.second, 100 * test.best, s=8, color=color, alpha=0.6, edgecolors="none", zorder=2)
    place.set_xlim(low, high)
    place.set_ylim(low, high)
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _label(column: str, rank: str, test_informed: bool) -> str:
    # Wrapped to the width of a panel.
    return fill(f"{heading(column)}{'†' if test_informed else ''} ({rank})", 16)


def _p(p: float) -> str:
    """Format a p-value as ``p < .001`` or ``p = .035``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("= 0.", "= .")
