"""Panels over an axis, with a line for each column: the metric, or its differences from a reference column."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import heading, value_text
from deepsad_pl.report.intervals import Interval, difference, interval
from deepsad_pl.report.measure import Measure
from deepsad_pl.report.style import HOLLOW, STAR, Style
from deepsad_pl.report.zoom import MARGIN, View, zoomed
from deepsad_pl.settings.about import MethodAbout, of_method, own, own_columns

# Columns are offset sideways, so that markers and bars of equal values do not hide each other.
_DODGE, _WIDEST = 0.05, 0.45
# With more curves than _FEW, bars may lengthen the axis on each side by this share at most, and are cut off beyond.
_FEW, _BARS = 4, 0.5
# Room above the curves for a star, as a share of the axis.
_HEADROOM = 0.14
_STAR_ABOVE = 7  # points
# The least length of an axis: smaller differences do not matter.
_LEAST = 1.0


@dataclass(frozen=True)
class Curve:
    """A line of a panel.

    Attributes:
        column: name of its column.
        x: positions on the axis.
        intervals: mean and interval at each position; None where there is no result.
    """

    column: str
    x: Sequence[float]
    intervals: Sequence[Interval | None]

    @property
    def means(self) -> list[float]:
        """The finite means."""
        return [found.mean for found in self.intervals if found is not None]


def metric_curves(cells: Sequence[Cell], columns: Sequence[str], axis: str) -> list[Curve]:
    """The metric of each column over an axis."""
    return _curves(cells, columns, axis, lambda cell: interval(cell.experiments) if cell.n else None)


def difference_curves(cells: Sequence[Cell], columns: Sequence[str], axis: str, reference: str) -> list[Curve]:
    """The paired difference of each other column from a reference column, over an axis."""
    others = [column for column in columns if column != reference]
    found = {cell.row[axis]: cell for cell in cells if cell.column == reference and cell.n}

    def to_reference(cell: Cell) -> Interval | None:
        other = found.get(cell.row[axis])
        return difference(cell.experiments, other.experiments) if other is not None and cell.n else None

    curves = _curves(cells, others, axis, to_reference)
    return [curve for curve in curves if curve.means]


def reference_of(cells: Sequence[Cell], columns: Sequence[str]) -> str | None:
    """The column from which differences are shown: the best that uses no labels, or the best of all if there is none.

    Columns with results in more rows take precedence. None if fewer than two columns have results.
    """
    values = {column: [cell.mean for cell in cells if cell.column == column and cell.n] for column in columns}
    there = [column for column in columns if values[column]]
    if len(there) < 2:
        return None
    blind = [column for column in there if _is_blind(column)]
    return max(blind or there, key=lambda column: (len(values[column]), np.mean(values[column])))


def draw_metric(
    place: Axes,
    cells: Sequence[Cell],
    curves: Sequence[Curve],
    styles: Mapping[str, Style],
    axis: str,
    *,
    bars: bool,
    view: View | None = None,
) -> str:
    """Draw the metric, the paper's results and stars; return a text about what lies off the axis.

    Args:
        place: the panel.
        cells: its cells.
        curves: the curves of the cells.
        styles: the style of each column.
        axis: name of the horizontal axis.
        bars: whether to draw intervals.
        view: the part of the vertical axis that is shown; None: one that suits the curves.
    """
    measure = cells[0].measure
    if view is None:
        near = [cell.paper[0] for cell in cells if cell.n and cell.paper]
        view = view_of(curves, measure, bars=bars, stars=any(cell.significant for cell in cells), near=near)
    _draw(place, curves, styles, view, bars=bars)
    at, shifts = positions(cells, axis), _shifts([curve.column for curve in curves])
    papers: dict[str, list[float]] = {}
    for cell in cells:
        if not cell.n or cell.column in view.below:
            continue
        x = at[cell.row[axis]] + shifts[cell.column]
        if cell.paper and not view.low < cell.paper[0] < view.high:
            papers.setdefault(cell.column, []).append(cell.paper[0])
        elif cell.paper:
            style = styles[cell.column]
            place.plot(x, cell.paper[0], **{**style.drawn, **HOLLOW}, alpha=0.8, zorder=1.5)
        if cell.significant:
            above = offset_copy(place.transData, place.get_figure(root=True), y=_STAR_ABOVE, units="points")
            place.plot(x, cell.mean, **STAR, transform=above, zorder=4)
    _axes(place, at, view, measure.highest)
    return _told_off(view.below, papers, measure)


def draw_differences(
    place: Axes, cells: Sequence[Cell], curves: Sequence[Curve], styles: Mapping[str, Style], axis: str
) -> str:
    """Draw differences with their intervals around zero; return a text about what lies off the axis."""
    view = view_of(curves, cells[0].measure, bars=True, zero=True)
    place.axhline(0, color="#404040", linewidth=0.8, zorder=1.2)
    _draw(place, curves, styles, view, bars=True)
    _axes(place, positions(cells, axis), view, math.inf)
    return _told_off(view.below, {}, cells[0].measure)


def positions(cells: Sequence[Cell], axis: str) -> dict[Any, int]:
    """The position of each value of an axis.

    The values are spaced evenly, as in the paper, even if their distances differ.
    """
    return {value: number for number, value in enumerate(dict.fromkeys(cell.row[axis] for cell in cells))}


def view_of(
    curves: Sequence[Curve],
    measure: Measure,
    *,
    bars: bool,
    stars: bool = False,
    zero: bool = False,
    near: Sequence[float] = (),
) -> View:
    """The part of the vertical axis to show.

    Args:
        curves: the curves.
        measure: their metric.
        bars: whether they have bars.
        stars: whether to leave room for stars.
        zero: whether zero is always shown.
        near: further values, which are shown unless they are far from the curves.
    """
    values = {curve.column: curve.means for curve in curves}
    if zero:
        values["0"] = [0.0]
    largest = max(abs(value) for found in values.values() for value in found)
    view = zoomed(values, _LEAST if measure.in_percent else 0.01 * largest or 1.0)
    low, high = view.low, view.high
    length = high - low
    close = [value for value in near if low - _BARS * length < value < high + _BARS * length]
    if bars:
        room = _BARS * length if len(curves) > _FEW else math.inf
        ends = [
            (found.mean - found.half, found.mean + found.half)
            for curve in curves
            if curve.column not in view.below
            for found in curve.intervals
            if found is not None and not math.isnan(found.half)
        ]
        low = max([low - room, min([low, *(end for end, _ in ends)])])
        high = min([high + room, max([high, *(end for _, end in ends)])])
    # The same margin as for curves.
    low = min([low, *(value - MARGIN * length for value in close)])
    high = max([high, *(value + MARGIN * length for value in close)])
    if stars:
        high += _HEADROOM * (high - low)
    return View(low, high, view.below)


def without_headroom(view: View) -> float:
    """Upper end of the axis of a view that has room for stars, without that room."""
    return view.high - (view.high - view.low) * _HEADROOM / (1 + _HEADROOM)


def units(curves: Sequence[Curve]) -> str:
    """What the intervals are over, such as ``10 normal classes`` or ``2 to 10 seeds``; empty without intervals."""
    found = [one for curve in curves for one in curve.intervals if one is not None and not math.isnan(one.half)]
    told = []
    for unit in dict.fromkeys(one.unit for one in found):
        counts = {one.n for one in found if one.unit == unit}
        numbers = " to ".join(map(str, sorted({min(counts), max(counts)})))
        told.append(f"{numbers} {'normal classes' if unit == 'normal_class' else 'seeds'}")
    return " or ".join(told)


def shared_view(panels: Sequence[Sequence[Curve]], measure: Measure, *, stars: bool = False) -> View:
    """The part to show of an axis that several panels with bars share."""
    merged: dict[str, list[Interval | None]] = {}
    for curve in (curve for curves in panels for curve in curves):
        merged.setdefault(curve.column, []).extend(curve.intervals)
    curves = [Curve(column, [], intervals) for column, intervals in merged.items()]
    return view_of(curves, measure, bars=True, stars=stars)


def _told_off(below: Mapping[str, Sequence[float]], papers: Mapping[str, Sequence[float]], measure: Measure) -> str:
    names = [f"{heading(column)} {_range(values, measure)}" for column, values in below.items()]
    names += [f"the paper's {heading(column)} {_range(values, measure)}" for column, values in papers.items()]
    return f"off the axis: {', '.join(names)}" if names else ""


def _range(values: Sequence[float], measure: Measure) -> str:
    return " to ".join(
        dict.fromkeys(measure.number(value).replace("-", "\u2212") for value in (min(values), max(values)))
    )


def _is_blind(column: str) -> bool:
    if column not in own_columns():
        return False
    facts: list[MethodAbout] = [of_method(own("method")[name]) for name in own_columns()[column].methods]
    return all(one.labels == "hidden" for one in facts)


def _curves(cells: Sequence[Cell], columns: Sequence[str], axis: str, made: Any) -> list[Curve]:
    at, shifts = positions(cells, axis), _shifts(columns)
    curves = []
    for column in columns:
        line = {cell.row[axis]: cell for cell in cells if cell.column == column}
        intervals = [made(line[value]) if value in line else None for value in at]
        curves.append(Curve(column, [x + shifts[column] for x in at.values()], intervals))
    return curves


def _shifts(columns: Sequence[str]) -> dict[str, float]:
    step = min(_DODGE, _WIDEST / max(1, len(columns)))
    return {column: (number - (len(columns) - 1) / 2) * step for number, column in enumerate(columns)}


def _draw(place: Axes, curves: Sequence[Curve], styles: Mapping[str, Style], view: View, *, bars: bool) -> None:
    for curve in curves:
        if curve.column in view.below:
            continue
        style = styles[curve.column]
        y = [math.nan if found is None else found.mean for found in curve.intervals]
        place.plot(curve.x, y, **style.drawn, linestyle=style.line, zorder=style.level)
        if bars:
            halves = [0.0 if found is None or math.isnan(found.half) else found.half for found in curve.intervals]
            place.errorbar(
                curve.x, y, halves, color=style.color, linestyle="none", elinewidth=0.7, alpha=0.7, zorder=style.level
            )


def _axes(place: Axes, at: Mapping[Any, int], view: View, highest: float) -> None:
    place.set_xticks(list(at.values()), [value_text(value) for value in at])
    place.set_xlim(-0.5, len(at) - 0.5)
    place.set_ylim(view.low, view.high)
    ticks = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(view.low, view.high)
    place.set_yticks([tick for tick in ticks if view.low <= tick <= min(view.high, highest)])
