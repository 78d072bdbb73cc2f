"""The figure of a study: its metric over the axis (Figures 2 to 5), or by row of the table if there is no axis."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.cells import Cell
from deepsad_pl.report.columns import describe, heading, in_order
from deepsad_pl.report.dot_panels import dot_figure
from deepsad_pl.report.legends import column_entries, legend, mark_entries
from deepsad_pl.report.line_panels import (
    Curve,
    difference_curves,
    draw_differences,
    draw_metric,
    metric_curves,
    reference_of,
    units,
)
from deepsad_pl.report.style import MEDIUM, SMALL, line_height, look, new_figure, set_title, styles_of_columns
from deepsad_pl.report.text_width import wrapped

AXIS_NAMES = {
    "gamma_l": r"ratio of labeled anomalies $\gamma_l$",
    "gamma_p": r"ratio of pollution $\gamma_p$",
    "gamma_e": r"share of labeled anomalies that are normal $\gamma_e$",
    "gamma_en": r"share of labeled normals that are anomalies $\gamma_{en}$",
    "labels": "number of labeled anomalies",
    "k_l": r"number of known anomaly classes $k_l$",
    "eta": r"hyper-parameter $\eta$",
}
_HEIGHT = 1.9  # of a panel, in inches
_ACROSS = 3  # panels per row of a page that has no differences
_WITH_DIFFERENCES = 3  # more data sets than this are drawn without differences
SIDES = 0.55  # width of a panel's vertical axis, in inches


def auroc_figure(
    title: str, cells: Sequence[Cell], axes: Sequence[str], run_with: str, form: FigureFormat = PAGE
) -> Figure:
    """Draw the metric of each column: lines over the first axis, or dots if that axis has a single value.

    Lines have a second panel beside them, with the differences to the best column that uses no labels, paired by
    experiment, and their 95 % intervals. Curves far below the others are named instead of drawn.

    Args:
        title: title of the study.
        cells: cells of the table, row by row.
        axes: names of the axes; there is one panel per data set and combination of values of the other axes.
        run_with: settings that differ from the study's own, shown on a separate line; may be empty.
        form: size of the figure.
    """
    with look():
        over_axis = axes and len({cell.row[axes[0]] for cell in cells}) > 1
        if not over_axis:
            return dot_figure(title, [("", cells)], run_with, form)
        return _over_axis(title, cells, axes, run_with, form)


def _over_axis(title: str, cells: Sequence[Cell], axes: Sequence[str], run_with: str, form: FigureFormat) -> Figure:
    panels = line_groups(cells, axes)
    columns = in_order(cell.column for cell in cells if cell.n)
    styles, drawn = styles_of_columns(columns), []
    references = [reference_of(found, columns) for found in panels.values()]
    pairs = len(panels) <= _WITH_DIFFERENCES and any(references)
    wide = (2 if pairs else min(len(panels), _ACROSS)) if not form.is_column else 1
    high = math.ceil(len(panels) * (1 + pairs) / wide)
    figure = new_figure(form.inches if wide > 1 or form.is_column else min(form.inches, 4.5), _HEIGHT * high)
    inches = float(figure.get_size_inches()[0]) / wide - SIDES
    places = list(figure.subplots(high, wide, squeeze=False).flat)
    rest = iter(places)
    for (name, found), reference in zip(panels.items(), references, strict=True):
        place, curves = next(rest), metric_curves(found, columns, axes[0])
        set_head(place, name, draw_metric(place, found, curves, styles, axes[0], bars=not pairs), inches)
        place.set_ylabel(found[0].measure.unit)
        drawn += [] if pairs else curves
        if pairs:
            drawn += _beside(next(rest), found, columns, axes[0], reference, inches)
    last = wide if not pairs or wide == 2 else 1
    for place in rest:
        place.set_axis_off()
    for place in _lowest(places[: len(panels) * (1 + pairs)], last):
        place.set_xlabel(wrapped(AXIS_NAMES.get(axes[0], axes[0]), inches, MEDIUM))
    make_room(figure, places, wide)
    legend(figure, [*column_entries(columns, cells, lines=True), *mark_entries(cells)])
    set_title(figure, title, f"run with {run_with}" if run_with else "", bars_told(drawn, paired=pairs))
    return figure


def _beside(
    place: Axes, cells: Sequence[Cell], columns: Sequence[str], axis: str, reference: str | None, inches: float
) -> list[Curve]:
    """Draw the panel of differences; return its curves."""
    curves = difference_curves(cells, columns, axis, reference) if reference else []
    if reference is None or not curves:
        place.set_axis_off()
        return []
    measure = cells[0].measure
    off = draw_differences(place, cells, curves, styles_of_columns(columns), axis)
    set_head(place, f"difference to {heading(reference)}", off, inches)
    place.set_ylabel("percentage points" if measure.in_percent else measure.label)
    return curves


def line_groups(cells: Sequence[Cell], axes: Sequence[str]) -> dict[str, list[Cell]]:
    """The cells of each panel of lines, by data set and values of all axes but the first."""
    panels: dict[str, list[Cell]] = {}
    for cell in cells:
        others = describe({axis: cell.row[axis] for axis in axes[1:]})
        panels.setdefault(", ".join(filter(None, (cell.dataset, others))), []).append(cell)
    return panels


def set_head(place: Axes, name: str, off: str, inches: float) -> None:
    """Write the title of a panel, wrapped to its width, and what lies off its axis."""
    place.set_title("\n".join(wrapped(line, inches, SMALL) for line in (name, off) if line), fontsize=SMALL)


def make_room(figure: Figure, places: Sequence[Axes], wide: int) -> None:
    """Enlarge a figure by the lines of its panels' titles, so that the panels keep their size."""
    lines = [place.get_title().count("\n") for place in places]
    rows = [max(lines[start : start + wide]) for start in range(0, len(lines), wide)]
    width, height = map(float, figure.get_size_inches())
    figure.set_size_inches(width, height + line_height(SMALL) * sum(rows))


def bars_told(curves: Sequence[Curve], *, paired: bool = False) -> str:
    """What the bars of a figure are; empty if there are none."""
    over = units(curves)
    if not over:
        return ""
    return f"{'differences are paired; ' if paired else ''}bars: 95 % intervals over {over}"


def _lowest(places: Sequence[Axes], wide: int) -> list[Axes]:
    """The lowest panel of each column of panels."""
    return list({number % wide: place for number, place in enumerate(places)}.values())
