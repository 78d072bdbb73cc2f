"""The figure of a study: AUROC over the axis (Figures 2 to 5), or for each row of the table if there is no axis."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import describe, heading, in_order, value_text
from deepsad_pl.report.style import PAGE, look, new_figure, set_title, style_of

_NAMES = {
    "gamma_l": r"ratio of labeled anomalies $\gamma_l$",
    "gamma_p": r"ratio of pollution $\gamma_p$",
    "gamma_e": r"share of labeled anomalies that are normal $\gamma_e$",
    "gamma_en": r"share of labeled normals that are anomalies $\gamma_{en}$",
    "labels": "number of labeled anomalies",
    "k_l": r"number of known anomaly classes $k_l$",
    "eta": r"hyper-parameter $\eta$",
}
_UNIT = "AUROC in %"
_PANELS = 3  # panels per row
_ENTRY = 1.7  # width of a legend entry, in inches
_DOTS = 54  # dots per row


def auroc_figure(title: str, cells: Sequence[Cell], axes: Sequence[str], run_with: str) -> Figure:
    """Draw the AUROC of each column: lines over the first axis, or dots if that axis has a single value.

    Args:
        title: title of the study.
        cells: cells of the table, row by row.
        axes: names of the axes; there is one panel per data set and combination of values of the other axes.
        run_with: settings that differ from the study's own, shown on a separate line; may be empty.
    """
    with look():
        over_axis = axes and len({cell.row[axes[0]] for cell in cells}) > 1
        figure = _over_axis(cells, axes) if over_axis else _dots(cells)
        set_title(figure, title, f"run with {run_with}" if run_with else "")
        return figure


def _over_axis(cells: Sequence[Cell], axes: Sequence[str]) -> Figure:
    panels: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        where = describe({axis: cell.row[axis] for axis in axes[1:]})
        panels.setdefault((cell.dataset, where), []).append(cell)
    columns = in_order(cell.column for cell in cells if cell.n)
    wide = min(len(panels), _PANELS)
    high = math.ceil(len(panels) / wide)
    width, height = (PAGE, 2.7) if wide > 1 else (5.2, 3.1)
    figure = new_figure(width, height * high + _legend_height(cells, columns, width))
    grid = figure.subplots(high, wide, squeeze=False)
    for place, ((dataset, others), found) in zip(grid.flat, panels.items(), strict=False):
        _panel(place, found, columns, axes[0])
        place.set_title(", ".join(filter(None, (dataset, others))))
    for unused in list(grid.flat)[len(panels) :]:
        unused.set_axis_off()
    for place in grid[:, 0]:
        place.set_ylabel(_UNIT)
    for place in grid.flat[max(0, len(panels) - wide) : len(panels)]:
        place.set_xlabel(_NAMES.get(axes[0], axes[0]))
    _legend(figure, cells, columns, lines=True)
    return figure


def _panel(place: Axes, cells: Sequence[Cell], columns: Sequence[str], axis: str) -> None:
    # The values are spaced evenly, as in the paper, although they form no regular scale.
    at = {value: number for number, value in enumerate(dict.fromkeys(cell.row[axis] for cell in cells))}
    for column in columns:
        line = [cell for cell in cells if cell.column == column and cell.n]
        style, x = style_of(column), [at[cell.row[axis]] for cell in line]
        shape: dict[str, Any] = {"color": style.color, "marker": style.marker}
        front = 3.0 if style.front else 2.0
        place.plot(
            x, [cell.mean for cell in line], **shape, linestyle=style.line, linewidth=1.1, markersize=3.6, zorder=front
        )
        # Many overlapping bands would merge into a grey area.
        place.fill_between(
            x,
            [cell.mean - _or_0(cell.std) for cell in line],
            [min(cell.mean + _or_0(cell.std), 100.0) for cell in line],
            color=style.color,
            alpha=min(0.12, 0.4 / len(columns)),
            linewidth=0,
        )
        paper = [(at[cell.row[axis]], cell.paper[0]) for cell in line if cell.paper]
        if paper:
            hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.6, "markersize": 3.6}
            place.plot(*zip(*paper, strict=True), **shape, **hollow, linestyle="none", alpha=0.8, zorder=1.5)
    for cell in cells:
        if cell.significant:
            _star(place, at[cell.row[axis]], cell.mean)
    place.set_xticks(list(at.values()), [value_text(value) for value in at])
    place.set_xlim(-0.25, len(at) - 0.75)
    place.set_ylim(top=min(place.get_ylim()[1], 103))
    place.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10]))


def _star(place: Axes, x: float, y: float) -> None:
    place.annotate(
        "*",
        (x, y),
        xytext=(0, 1),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=12,
        fontweight="bold",
        zorder=4,
    )


def _dots(cells: Sequence[Cell]) -> Figure:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault("\n".join(filter(None, (cell.dataset, describe(cell.row)))), []).append(cell)
    columns = in_order(cell.column for cell in cells if cell.n)
    # Place as many groups side by side as fit, with the same number in each panel.
    high = math.ceil(len(groups) / max(1, _DOTS // len(columns)))
    wide = math.ceil(len(groups) / high)
    width = min(PAGE, max(5.2, 1.0 + 0.11 * (len(columns) + 2) * wide))
    figure = new_figure(width, 2.7 * high + _legend_height(cells, columns, width))
    for number, place in enumerate(figure.subplots(high, 1, squeeze=False)[:, 0]):
        shown = list(groups)[number * wide : (number + 1) * wide]
        _dot_panel(place, {name: groups[name] for name in shown}, columns)
        place.set_xlim(-0.5, wide - 0.5)
    _legend(figure, cells, columns, lines=False)
    return figure


def _dot_panel(place: Axes, groups: dict[str, list[Cell]], columns: Sequence[str]) -> None:
    step = 0.86 / len(columns)
    for number, cells in enumerate(groups.values()):
        if number % 2:
            place.axvspan(number - 0.5, number + 0.5, color="#f4f4f4", zorder=0)
        for cell in cells:
            x = number + (columns.index(cell.column) - (len(columns) - 1) / 2) * step if cell.n else 0.0
            shape: dict[str, Any] = {"color": style_of(cell.column).color, "marker": style_of(cell.column).marker}
            up, down = min(_or_0(cell.std), 100 - cell.mean), _or_0(cell.std)
            if cell.n:
                place.errorbar(
                    [x],
                    [cell.mean],
                    yerr=[[down], [up]],
                    **shape,
                    markersize=4,
                    linestyle="none",
                    elinewidth=0.9,
                    zorder=3,
                )
            if cell.n and cell.paper:
                hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.7, "markersize": 3.6}
                place.plot([x + step * 0.42], [cell.paper[0]], **shape, **hollow, linestyle="none", zorder=2)
            if cell.significant:
                _star(place, x, cell.mean + up)
    place.set_xticks(range(len(groups)), list(groups))
    place.tick_params(axis="x", length=0)
    place.grid(axis="x", visible=False)
    place.set_ylabel(_UNIT)


def _or_0(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _extras(cells: Sequence[Cell]) -> list[tuple[dict[str, Any], str]]:
    """Legend entries other than the columns."""
    hollow = {"color": "#555555", "marker": "o", "markerfacecolor": "white", "markersize": 4, "linestyle": "none"}
    star = {"color": "black", "marker": "$*$", "linestyle": "none"}
    extras: list[tuple[dict[str, Any], str]] = []
    if any(cell.paper and cell.n for cell in cells):
        extras.append((hollow, "hollow: the paper"))
    if any(cell.significant for cell in cells):
        extras.append((star, "best, p < .05"))
    if any(cell.test_informed and cell.n for cell in cells):
        extras.append(({"color": "black", "marker": r"$\dagger$", "linestyle": "none"}, "test-informed"))
    return extras


def _legend_height(cells: Sequence[Cell], columns: Sequence[str], width: float) -> float:
    """Height of the legend with its title, in inches."""
    return 0.4 + 0.17 * math.ceil((len(columns) + len(_extras(cells))) / int(width / _ENTRY))


def _legend(figure: Figure, cells: Sequence[Cell], columns: Sequence[str], *, lines: bool) -> None:
    entries: list[tuple[dict[str, Any], str]] = []
    informed = {cell.column for cell in cells if cell.test_informed and cell.n}
    for column in columns:
        style = style_of(column)
        shape = {"color": style.color, "linestyle": style.line if lines else "none", "marker": style.marker}
        entries.append(({**shape, "linewidth": 1.1}, heading(column) + ("†" if column in informed else "")))
    entries += _extras(cells)
    handles = [Line2D([], [], **{"markersize": 4, **shape}) for shape, _ in entries]
    names = [name for _, name in entries]
    ncols = int(float(figure.get_size_inches()[0]) / _ENTRY)
    figure.legend(handles, names, loc="outside lower center", ncols=ncols, handlelength=3.2, columnspacing=1.4)
