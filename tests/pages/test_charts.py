"""Charts: lines stay inside their box, gaps stay gaps, points have tooltips, long names are shortened."""

import re

import numpy as np

from deepsad_pl.pages.charts import Interval, Line, interval_chart, line_chart
from deepsad_pl.pages.styles import KNOWN, NOVEL
from deepsad_pl.pages.ticks import scale


def chart_of(*lines: Line) -> object:
    axis = scale(0.0, 10.0)
    return line_chart("t", "about", lines, x=axis, y=axis, x_label="x", y_label="y", rules=[(5, "here")])


def line(y: np.ndarray, **rest: bool) -> Line:
    return Line("one", KNOWN, np.arange(len(y), dtype=float), y, [f"tip {place}" for place in range(len(y))], **rest)


def test_lines_stay_inside_the_box() -> None:
    chart = chart_of(line(np.array([-5.0, 3.0, 50.0, 10.0]), is_filled=True))
    left, top, right, bottom = chart.box
    area, path = chart.paths
    assert area[2] and not path[2]
    for text, _, _ in chart.paths:
        for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", text):
            assert left <= float(x) <= right
            assert top <= float(y) <= bottom
    assert chart.rules == [((left + right) / 2, "here")]


def test_an_unknown_value_is_a_gap() -> None:
    chart = chart_of(line(np.array([1.0, np.nan, 3.0, 4.0]), is_filled=True))
    ((path, _, is_area),) = chart.paths
    assert not is_area
    assert path.count("M") == 2
    assert [point.tip for point in chart.points] == ["tip 0", "tip 2", "tip 3"]


def test_a_long_line_has_a_limited_number_of_tooltips() -> None:
    chart = chart_of(line(np.linspace(0, 10, 5000)))
    assert len(chart.points) == 60
    assert [chart.points[0].tip, chart.points[-1].tip] == ["tip 0", "tip 4999"]
    assert chart.legend == []
    assert len(chart_of(line(np.ones(2)), line(np.ones(2))).legend) == 2


def test_intervals_are_rows_with_shortened_names() -> None:
    rows = [Interval(name, NOVEL, 0.5, 0.25, 0.75, f"tip of {name}") for name in ("a", "b" * 300)]
    chart = interval_chart("t", "about", rows, x=scale(0.0, 1.0), x_label="x", legend=[])
    (_, short), (_, long) = chart.y_ticks
    assert short == "a"
    assert long.endswith("b…") and len(long) < 40
    left, _, right, _ = chart.box
    for low, high, _, _ in chart.whiskers:
        assert [(low - left) / (right - left), (high - left) / (right - left)] == [0.25, 0.75]
