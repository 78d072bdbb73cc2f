"""Scatter plots of the best against the second-best column, one point per experiment (Figures 6 to 8)."""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.cells import Cell, Ranking
from deepsad_pl.report.columns import heading, value_text
from deepsad_pl.report.layout import grid_of, units
from deepsad_pl.report.measure import AUROC, Measure
from deepsad_pl.report.style import MEDIUM, look, new_figure, set_title, style_of
from deepsad_pl.report.text_width import wrapped

_PITCH = 1.6  # least width of a panel, in inches
_WIDEST = 2.2
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
    title: str,
    cells: Sequence[Cell],
    rankings: Sequence[Ranking],
    axes: Sequence[str],
    run_with: str,
    form: FigureFormat = PAGE,
) -> Figure:
    """Draw one panel per row of the table, one line of panels per data set; without axes, all side by side.

    A row with fewer than two pairs of experiments has a sentence in place of points.

    Args:
        title: title of the figure.
        cells: cells of the table.
        rankings: the two best columns of the rows; the panel of a row without a ranking says so.
        axes: names of the axes.
        run_with: settings that differ from the study's own, shown on a separate line; may be empty.
        form: size of the figure.
    """
    measure = cells[0].measure if cells else AUROC
    informed = {(cell.dataset, tuple(cell.row.values()), cell.column) for cell in cells if cell.test_informed}
    ranked = {(ranking.dataset, tuple(ranking.row.values())): ranking for ranking in rankings}
    rows = list(grid_of(cells))
    most = int(form.inches / _PITCH)
    lines = _lines(rows, most) if axes else _chunks(rows, min(_DATASETS, most))
    wide = max(map(len, lines))
    if not any(map(_pairs, rankings)):
        why = "experiments" if rankings else "methods"
        return _nothing(title, f"fewer than two {why} to compare", run_with, form)
    with look(**{"axes.spines.top": True, "axes.spines.right": True}):
        pitch = min(form.inches / wide, _WIDEST)
        # Each panel also needs room for its labels and a title of several lines.
        figure = new_figure(max(pitch * wide, min(form.inches, 3.4)), (pitch + 0.3) * len(lines) + 0.25)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.02)
        grid = figure.subplots(len(lines), wide, squeeze=False)
        for places, line in zip(grid, lines, strict=True):
            for place, row in zip(places, line, strict=False):
                # Panels of one data set in the same line share a scale.
                scaled = [
                    ranked[other] for other in (rows if axes else [row]) if other[0] == row[0] and other in ranked
                ]
                limits = _limits([one for one in scaled if _pairs(one)], measure)
                _panel(place, _head(row, axes), ranked.get(row), limits, informed, measure.factor, pitch)
                if axes and place is not places[0]:
                    place.tick_params(labelleft=False)
            for unused in places[len(line) :]:
                unused.set_axis_off()
        shown = {(*row, column) for row, found in ranked.items() for column in (found.best, found.second)}
        legend = _LEGEND + ("; †\u00a0test-informed" if informed & shown else "")
        shows = "" if measure == AUROC else measure.unit
        set_title(figure, title, shows, f"run with {run_with}" if run_with else "", legend)
        return figure


def _pairs(ranking: Ranking) -> int:
    """Number of pairs of experiments to draw: none if there is only one, since one point makes no scatter plot."""
    test = ranking.comparison
    return 0 if test is None or len(test.best) < 2 else len(test.best)


def _nothing(title: str, why: str, run_with: str, form: FigureFormat) -> Figure:
    with look():
        figure = new_figure(min(form.inches, 4.5), 0.7)
        place = figure.subplots()
        place.set_axis_off()
        place.text(0.5, 0.5, why, ha="center", va="center", transform=place.transAxes)
        set_title(figure, title, f"run with {run_with}" if run_with else "")
        return figure


def _lines(rows: Sequence[Place], most: int) -> list[list[Place]]:
    """Split the rows into lines of panels; each data set starts a new line."""
    datasets: Mapping[str, list[Place]] = {name: [] for name, _ in rows}
    for row in rows:
        datasets[row[0]].append(row)
    return [line for found in datasets.values() for line in _chunks(found, most)]


def _chunks(rows: Sequence[Place], wide: int) -> list[list[Place]]:
    return [list(rows[start : start + wide]) for start in range(0, len(rows), wide)]


def _head(row: Place, axes: Sequence[str]) -> str:
    values = zip(axes, row[1], strict=True)
    return ", ".join([row[0], *(f"{_SYMBOLS.get(axis, axis)} = {value_text(value)}" for axis, value in values)])


def _limits(rankings: Sequence[Ranking], measure: Measure) -> tuple[float, float]:
    """The limits of the scale."""
    tests = [ranking.comparison for ranking in rankings if ranking.comparison is not None]
    values = [value for test in tests for part in (test.best, test.second) for value in (part.min(), part.max())]
    lowest, highest = min(values, default=0.5), max(values, default=1.0)
    if not measure.in_percent:
        margin = 0.05 * (highest - lowest) or 1.0
        return lowest - margin, highest + margin
    low = max(0.0, math.floor(100 * lowest) - 1.0)
    return low, 100.0 + 0.02 * (100.0 - low)


def _panel(
    place: Axes,
    head: str,
    ranking: Ranking | None,
    limits: tuple[float, float],
    informed: Set[tuple[str, tuple[Any, ...], str]],
    factor: float,
    pitch: float,
) -> None:
    place.set_aspect("equal")
    room = pitch - 0.25
    if ranking is None or ranking.comparison is None or not _pairs(ranking):
        why = "no second method" if ranking is None else "no experiment\nin common"
        if ranking is not None and ranking.comparison is not None:
            why = "one experiment\nin common"
        place.text(0.5, 0.5, why, ha="center", va="center", transform=place.transAxes)
        place.set_title(wrapped(head, room, MEDIUM))
        place.set_xticks([])
        place.set_yticks([])
        return
    test = ranking.comparison
    row = ranking.dataset, tuple(ranking.row.values())
    place.set_xlabel(_label(ranking.second, "2nd", (*row, ranking.second) in informed, room - 0.2))
    place.set_ylabel(_label(ranking.best, "1st", (*row, ranking.best) in informed, room - 0.2))
    star = "*" if ranking.significant else ""
    place.set_title(wrapped(f"{head}\n{_p(ranking.p_holm)}{star}, {units(test)}", room, MEDIUM))
    place.plot(limits, limits, color="#555555", linewidth=0.8, zorder=1.5)
    color = style_of(ranking.best).color
    place.scatter(factor * test.second, factor * test.best, s=8, color=color, alpha=0.6, edgecolors="none", zorder=2)
    place.set_xlim(*limits)
    place.set_ylim(*limits)
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _label(column: str, rank: str, test_informed: bool, inches: float) -> str:
    return wrapped(f"{heading(column)}{'†' if test_informed else ''} ({rank})", inches, MEDIUM)


def _p(p: float) -> str:
    """Format a p-value as ``p < .001`` or ``p = .035``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("= 0.", "= .")
