"""The critical-difference diagram: mean ranks on an axis, and bars over methods that cannot be told apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.rank_statistics import RankStatistics, p_text
from deepsad_pl.report.style import MEDIUM, look, new_figure, set_title
from deepsad_pl.report.text_width import wrapped

# Heights in inches.
_LINE, _BAR, _ABOVE, _BELOW = 0.17, 0.1, 0.5, 0.1
_TICK = 0.05
_INK, _ELBOW = "black", "#808080"
_NAMES = 0.3  # share of the width that names have on each side
_IN_A_COLUMN = 4  # more methods than this need a page


def cd_diagram(
    title: str, found: RankStatistics, metric: str, headings: Mapping[str, str], form: FigureFormat = PAGE
) -> Figure:
    """Draw the critical-difference diagram of one label budget, as Demsar does: the best method on the right.

    It is as wide as a page if it has more than four methods, since their names would leave no room in a column.

    A bar connects methods of which no two differ by the critical difference; they are neighbors on the axis, so that
    every line that a bar crosses belongs to it.

    Args:
        title: title of the figure.
        found: the statistics, with a Friedman test.
        metric: the metric as named in texts.
        headings: the name of each method.
        form: size of the figure.
    """
    ranks = found.summary["rank"]
    levels = bar_levels([(ranks[group[0]], ranks[group[-1]]) for group in found.cliques])
    right = math.ceil(len(ranks) / 2)
    first_line = _BAR * (max(levels, default=-1) + 1) + 0.22
    width = form.inches if len(ranks) <= _IN_A_COLUMN else replace(form, width="page").inches
    texts = {name: wrapped(f"{headings[name]} ({ranks[name]:.2f})", _NAMES * width, MEDIUM) for name in ranks.index}
    sides = {"right": list(ranks.index[:right]), "left": list(ranks.index[right:])[::-1]}
    depth = (
        first_line + _LINE * (max(sum(_lines(texts[name]) for name in side) for side in sides.values()) - 1) + _BELOW
    )
    with look():
        figure = new_figure(width, _ABOVE + depth + 0.35)
        place = figure.subplots()
        # The y-axis counts inches below the axis of ranks, which runs from the worst to the best.
        place.set(xlim=(len(ranks), 1), ylim=(depth, -_ABOVE))
        place.set_axis_off()
        _axis(place, len(ranks), found.difference)
        for group, level in zip(found.cliques, levels, strict=True):
            _bar(place, ranks[group[0]], ranks[group[-1]], 0.14 + _BAR * level, len(ranks))
        for side, names in sides.items():
            above = 0
            for name in names:
                middle = above + (_lines(texts[name]) - 1) / 2
                _label(place, texts[name], ranks[name], first_line + _LINE * middle, side)
                above += _lines(texts[name])
        set_title(figure, title, f"{found.budget.title}: {metric}", _told(found))
        return figure


def bar_levels(bars: Sequence[tuple[float, float]]) -> list[int]:
    """The level of each bar, counted from the top, so that bars of one level do not touch.

    >>> bar_levels([(1.0, 3.0), (2.0, 4.0), (5.0, 6.0)])
    [0, 1, 0]

    Args:
        bars: the two ends of each bar, sorted by the first.
    """
    ends: list[float] = []
    found = []
    for start, end in bars:
        level = next((number for number, last in enumerate(ends) if last + 0.3 < start), len(ends))
        ends[level : level + 1] = [end]
        found.append(level)
    return found


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _told(found: RankStatistics) -> str:
    count, test = len(found.ranks), found.friedman
    assert test is not None
    told = f"mean ranks over {count} data sets (1 is the best); Friedman test: {p_text(test.p)}"
    return told if test.rejects else f"{told}, so that no two methods can be told apart"


def _axis(place: Axes, methods: int, difference: float) -> None:
    place.plot([1, methods], [0, 0], color=_INK, linewidth=0.9, clip_on=False)
    for rank in range(1, methods + 1):
        place.plot([rank, rank], [0, -_TICK], color=_INK, linewidth=0.9, clip_on=False)
        place.text(rank, -_TICK - 0.03, str(rank), ha="center", va="bottom")
    # It may be wider than the axis if there are few data sets.
    start, y = float(methods), -_ABOVE + 0.14
    for x in (start, start - difference):
        place.plot([x, x], [y - 0.035, y + 0.035], color=_INK, linewidth=0.9, clip_on=False)
    place.plot([start, start - difference], [y, y], color=_INK, linewidth=0.9, clip_on=False)
    place.text(start - difference / 2, y - 0.04, f"CD = {difference:.2f}", ha="center", va="bottom")


def _bar(place: Axes, best: float, worst: float, y: float, methods: int) -> None:
    overhang = 0.006 * (methods - 1)
    ends = [best - overhang, worst + overhang]
    place.plot(ends, [y, y], color=_INK, linewidth=2.6, solid_capstyle="butt", zorder=3, clip_on=False)


def _label(place: Axes, text: str, rank: float, y: float, side: str) -> None:
    margin = 0.02 * (place.get_xlim()[0] - 1)
    end = 1 - margin if side == "right" else place.get_xlim()[0] + margin
    place.plot([rank, rank, end], [0, y, y], color=_ELBOW, linewidth=0.7, zorder=1, clip_on=False)
    place.plot([rank], [0], marker="o", markersize=3, color=_INK, zorder=4, clip_on=False)
    away = "left" if side == "right" else "right"
    place.text(end - margin / 3 if side == "right" else end + margin / 3, y, text, va="center", ha=away)
