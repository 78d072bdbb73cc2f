"""Charts as plain coordinates, which a template draws as SVG: styled by CSS, with a tooltip at each point."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from deepsad_pl.pages.styles import ALL, Style
from deepsad_pl.pages.ticks import Scale

# How a point is drawn: only under the pointer, filled or hollow.
Look = Literal["hidden", "filled", "hollow"]

_WIDTH, _HEIGHT = 480, 300
_TOP, _RIGHT, _BOTTOM, _LEFT = 12, 16, 46, 72
# The height of a row of an interval chart, the distance of its bars, and the approximate width of a letter.
_ROW, _BAR, _LETTER = 24, 10, 6.6
# The most points of a line that have a tooltip.
_TIPS = 60


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: name in the legend.
        style: how it is drawn.
        x: shape (n,).
        y: shape (n,); NaN leaves a gap.
        tips: tooltip of each point.
        is_filled: whether the area below is filled.
        points: how its points are drawn.
    """

    name: str
    style: Style
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    tips: Sequence[str]
    is_filled: bool = False
    points: Look = "hidden"


@dataclass(frozen=True)
class Interval:
    """A row of an interval chart: a value with its interval."""

    name: str
    style: Style
    value: float
    low: float
    high: float
    tip: str


@dataclass(frozen=True)
class Point:
    """A point with a tooltip, in pixels of the chart."""

    x: float
    y: float
    tip: str
    style: Style
    look: Look


@dataclass(frozen=True)
class Chart:
    """A chart in pixels.

    Attributes:
        title: the heading.
        about: a sentence for those who cannot see it.
        width: of the whole chart.
        height: of the whole chart.
        box: left, top, right and bottom of the plot.
        x_label: text below.
        y_label: text on the left.
        x_ticks: position and text.
        y_ticks: position and text.
        legend: style and name.
        paths: an SVG path, its style, and whether it is an area.
        whiskers: horizontal lines: two ends, height and style.
        rules: vertical lines with a text: position and text.
        bars: thick lines, each an SVG path.
        texts: further texts, which end at a position.
        points: the points with tooltips.
    """

    title: str
    about: str
    width: int
    height: int
    box: tuple[int, int, int, int]
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    legend: list[tuple[Style, str]] = field(default_factory=list)
    paths: list[tuple[str, Style, bool]] = field(default_factory=list)
    whiskers: list[tuple[float, float, float, Style]] = field(default_factory=list)
    rules: list[tuple[float, str]] = field(default_factory=list)
    bars: list[str] = field(default_factory=list)
    texts: list[tuple[float, float, str]] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)


def line_chart(
    title: str,
    about: str,
    lines: Sequence[Line],
    *,
    x: Scale,
    y: Scale,
    x_label: str,
    y_label: str,
    rules: Iterable[tuple[float, str]] = (),
    marks: Iterable[tuple[float, float, str, Style, Look]] = (),
) -> Chart:
    """Draw lines.

    Args:
        title: the heading.
        about: a sentence for those who cannot see the chart.
        lines: the lines, the last one on top.
        x: horizontal axis.
        y: vertical axis.
        x_label: its text.
        y_label: its text.
        rules: vertical lines, each a value and a text.
        marks: further points: two values, a tooltip, a style and how it is drawn.
    """
    box = (_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)

    def place(across: float, up: float) -> tuple[float, float]:
        return (
            round(box[0] + x.share(across) * (box[2] - box[0]), 1),
            round(box[3] - y.share(up) * (box[3] - box[1]), 1),
        )

    paths: list[tuple[str, Style, bool]] = []
    points = []
    for line in lines:
        placed = [None if np.isnan(up) else place(across, up) for across, up in zip(line.x, line.y, strict=True)]
        if line.is_filled and placed and None not in placed:
            whole = [(place(line.x[0], y.low)), *filter(None, placed), place(line.x[-1], y.low)]
            paths.append((f"{_path(whole)}Z", line.style, True))
        paths.append((_path(placed), line.style, False))
        chosen = np.unique(np.linspace(0, len(placed) - 1, min(_TIPS, len(placed))).round().astype(int))
        points += [
            Point(at[0], at[1], line.tips[one], line.style, line.points)
            for one in chosen
            if (at := placed[one]) is not None
        ]
    for across, up, tip, style, look in marks:
        left, top = place(across, up)
        points.append(Point(left, top, tip, style, look))
    return Chart(
        title,
        about,
        _WIDTH,
        _HEIGHT,
        box,
        x_label,
        y_label,
        [(place(tick, y.low)[0], label) for tick, label in zip(x.ticks, x.labels, strict=True)],
        [(place(x.low, tick)[1], label) for tick, label in zip(y.ticks, y.labels, strict=True)],
        legend=[(line.style, line.name) for line in lines] if len(lines) > 1 else [],
        paths=paths,
        rules=[(place(across, y.low)[0], text) for across, text in rules],
        points=points,
    )


def _path(places: Sequence[tuple[float, float] | None]) -> str:
    """An SVG path through points, with a gap at each None."""
    parts, draws = [], False
    for at in places:
        if at is not None:
            parts.append(f"{'L' if draws else 'M'}{at[0]:g} {at[1]:g}")
        draws = at is not None
    return "".join(parts)


def interval_chart(
    title: str,
    about: str,
    rows: Sequence[Interval],
    *,
    x: Scale,
    x_label: str,
    legend: list[tuple[Style, str]],
    groups: Sequence[tuple[int, int, int]] = (),
    span: tuple[float, str] | None = None,
) -> Chart:
    """Draw values with their intervals, one row each.

    Args:
        title: the heading.
        about: a sentence for those who cannot see the chart.
        rows: the values, from the top.
        x: horizontal axis.
        x_label: its text.
        legend: styles and names.
        groups: vertical bars to the right of the plot: the first and the last row of each, and its place from the left.
        span: a length on the axis, drawn above the plot, and its text.
    """
    longest = max(len(row.name) for row in rows)
    left = int(min(max(_LEFT, longest * _LETTER + 16), _WIDTH / 2))
    top = _TOP if span is None else _TOP + _ROW
    right = _WIDTH - _RIGHT - _BAR * (max((level for *_, level in groups), default=-1) + 1)
    box = (left, top, right, top + _ROW * len(rows))
    fitting = int((left - 14) / _LETTER)

    def place(value: float) -> float:
        return round(box[0] + x.share(value) * (box[2] - box[0]), 1)

    heights = [top + _ROW * (number + 0.5) for number in range(len(rows))]
    whiskers = [(place(row.low), place(row.high), height, row.style) for height, row in zip(heights, rows, strict=True)]
    texts: list[tuple[float, float, str]] = []
    if span is not None:
        end = place(x.low + span[0])
        whiskers.append((box[0], end, top - _ROW / 2, ALL))
        texts.append((left - 8, top - _ROW / 2 + 4, span[1]))
    return Chart(
        title,
        about,
        _WIDTH,
        box[3] + _BOTTOM,
        box,
        x_label,
        "",
        [(place(tick), label) for tick, label in zip(x.ticks, x.labels, strict=True)],
        [(height, _shortened(row.name, fitting)) for height, row in zip(heights, rows, strict=True)],
        legend=legend,
        whiskers=whiskers,
        bars=[
            f"M{box[2] + _BAR * (level + 1)} {heights[first] - 6}V{heights[last] + 6}" for first, last, level in groups
        ],
        texts=texts,
        points=[
            Point(place(row.value), height, row.tip, row.style, "filled")
            for height, row in zip(heights, rows, strict=True)
        ],
    )


def _shortened(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
