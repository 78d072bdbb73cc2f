"""Panels for studies without an axis: a row for each column, with a dot at its metric; each panel has its own scale."""

import itertools
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from deepsad_pl.common.figure_format import FigureFormat
from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import describe, heading, in_order
from deepsad_pl.report.intervals import Interval, interval
from deepsad_pl.report.legends import legend, mark_entries
from deepsad_pl.report.line_panels import Curve, shared_view, units, without_headroom
from deepsad_pl.report.style import (
    HOLLOW,
    MEDIUM,
    SMALL,
    STAR,
    Style,
    line_height,
    new_figure,
    set_title,
    styles_of_columns,
)
from deepsad_pl.report.text_width import width_of, wrapped
from deepsad_pl.report.zoom import View

_ROW, _AROUND = 0.15, 0.45  # heights of a column and of everything around the columns, in inches
_LEAST_PANEL = 1.15  # width of a panel, in inches
_MOST_ACROSS = 4
_STAR_BESIDE = 6  # points
_NAMES = 0.42  # the most that names take of a figure's width
_PAPER = 0.26  # how far the paper's dot is below ours


def dot_figure(title: str, kinds: Sequence[tuple[str, Sequence[Cell]]], run_with: str, form: FigureFormat) -> Figure:
    """Draw a panel for each row of the table. Use it within :func:`deepsad_pl.report.style.look`.

    Args:
        title: title of the figure.
        kinds: lists of cells with their names; several get panels side by side, on the same scale.
        run_with: settings that differ from the study's own; may be empty.
        form: size of the figure.
    """
    every = [cell for _, cells in kinds for cell in cells]
    columns = in_order(cell.column for cell in every if cell.n)
    groups = _groups(kinds)
    informed = {cell.column for cell in every if cell.test_informed and cell.n}
    room = _NAMES * form.inches
    names = [wrapped(heading(c) + ("†" if c in informed else ""), room, SMALL) for c in columns]
    widest = max(width_of(line, SMALL) for name in names for line in name.split("\n"))
    fit = max(1, int((form.inches - widest - 0.2) / _LEAST_PANEL))
    wide = max(len(kinds), min(fit, _MOST_ACROSS, len(groups) * len(kinds)) // len(kinds) * len(kinds))
    high = math.ceil(len(groups) * len(kinds) / wide)
    panel = (form.inches - widest - 0.2) / wide - 0.1
    heads = [
        "\n".join(wrapped(line, panel, MEDIUM) for line in ", ".join(filter(None, (group, kind))).split("\n"))
        for group in groups
        for kind, _ in kinds
    ]
    unit = wrapped(every[0].measure.unit, panel, MEDIUM)
    height = _ROW * sum(map(_lines, names)) + _AROUND + line_height(MEDIUM) * max(map(_lines, heads))
    figure = new_figure(form.inches, height * high + line_height(MEDIUM) * _lines(unit))
    places = list(figure.subplots(high, wide, squeeze=False, sharey=True).flat)
    styles, rows = styles_of_columns(columns), dict(zip(columns, _middles(names), strict=True))
    drawn: list[Curve] = []
    for number, lists in enumerate(groups.values()):
        curves = [_curves(cells, rows) for cells in lists]
        view = _shared(curves, lists)
        for kind, (cells, found) in enumerate(zip(lists, curves, strict=True)):
            place = places[number * len(kinds) + kind]
            _panel(place, cells, found, styles, view)
            place.set_title(heads[number * len(kinds) + kind])
            drawn += found
    used = len(heads)
    for place in places[used:]:
        place.set_axis_off()
    for place in places[:used]:
        place.set_yticks(list(rows.values()), names)
        place.set_ylim(sum(map(_lines, names)) - 0.4, -0.6)
    for number in range(max(0, used - wide), used):
        places[number].set_xlabel(unit)
    legend(figure, mark_entries(every))
    over = units(drawn)
    set_title(
        figure, title, f"run with {run_with}" if run_with else "", f"bars: 95 % intervals over {over}" if over else ""
    )
    return figure


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _groups(kinds: Sequence[tuple[str, Sequence[Cell]]]) -> dict[str, list[list[Cell]]]:
    """The cells of each row of the table, for each kind."""
    groups: dict[str, list[list[Cell]]] = {}
    for number, (_, cells) in enumerate(kinds):
        for cell in cells:
            name = "\n".join(filter(None, (cell.dataset, describe(cell.row))))
            groups.setdefault(name, [[] for _ in kinds])[number].append(cell)
    return groups


def _middles(names: Sequence[str]) -> list[float]:
    """The middle of each name, counted in lines of text."""
    ends = [0, *itertools.accumulate(map(_lines, names))]
    return [(start + end - 1) / 2 for start, end in itertools.pairwise(ends)]


def _curves(cells: Sequence[Cell], rows: Mapping[str, float]) -> list[Curve]:
    found = {cell.column: cell for cell in cells if cell.n}
    return [Curve(column, [rows[column]], [interval(cell.experiments)]) for column, cell in found.items()]


def _shared(curves: Sequence[Sequence[Curve]], lists: Sequence[Sequence[Cell]]) -> View:
    """The scale of the panels of one row of the table."""
    every = [curve for found in curves for curve in found]
    if not every:
        return View(0.0, 1.0, {})
    cells = [cell for found in lists for cell in found]
    papers = [
        Curve(cell.column, [], [Interval(cell.paper[0], math.nan, "", 0)]) for cell in cells if cell.n and cell.paper
    ]
    return shared_view([*curves, papers], cells[0].measure, stars=any(cell.significant for cell in cells))


def _panel(
    place: Axes, cells: Sequence[Cell], curves: Sequence[Curve], styles: Mapping[str, Style], view: View
) -> None:
    ours = {cell.column: cell for cell in cells if cell.n}
    for curve in curves:
        cell, style, (y,), (found,) = ours[curve.column], styles[curve.column], curve.x, curve.intervals
        assert found is not None
        half = 0.0 if math.isnan(found.half) else found.half
        if found.mean < view.low:
            _outside(place, y, cell.measure.number(found.mean), style)
        else:
            place.errorbar(found.mean, y, xerr=half, color=style.color, elinewidth=0.9, zorder=style.level)
            place.plot(found.mean, y, **style.drawn, zorder=style.level + 0.1)
        if cell.paper and view.low <= cell.paper[0] <= view.high:
            place.plot(cell.paper[0], y + _PAPER, **{**style.drawn, **HOLLOW}, zorder=2)
        if cell.significant:
            beside = offset_copy(place.transData, place.get_figure(root=True), x=_STAR_BESIDE, units="points")
            place.plot(min(found.mean + half, without_headroom(view)), y, **STAR, transform=beside, zorder=4)
    place.set_xlim(view.low, view.high)
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(view.low, view.high)
    highest = min(view.high, cells[0].measure.highest if cells else math.inf)
    place.set_xticks([tick for tick in ticks if view.low <= tick <= highest])
    place.tick_params(axis="y", length=0)


def _outside(place: Axes, y: float, value: str, style: Style) -> None:
    """Write a value below the scale at the lower end."""
    place.annotate(
        f"← {value}",
        (0.02, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=SMALL,
        color=style.color,
    )
