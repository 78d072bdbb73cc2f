"""The charts of a benchmark's page: critical-difference diagrams, and the curves over the numbers of labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deepsad_pl.common.counting import counted
from deepsad_pl.pages.charts import Chart, Interval, Line, interval_chart, line_chart
from deepsad_pl.pages.styles import ALL, Style
from deepsad_pl.pages.ticks import named_scale, rank_scale, scale
from deepsad_pl.report.benchmark_results import Budget
from deepsad_pl.report.critical_difference import bar_levels
from deepsad_pl.report.label_curves import common_scores
from deepsad_pl.report.page_style import page_styles
from deepsad_pl.report.rank_statistics import RankStatistics, p_text
from deepsad_pl.report.rank_tests import rank_scores
from deepsad_pl.settings.about import column_of, of_method, own


def labels_of(budget: Budget) -> str:
    """A label budget in a few words: ``5 labels``, ``overall`` or ``all``."""
    return counted(int(budget.name), "label") if budget.name.isdecimal() else budget.name


def diagram(found: RankStatistics, metric: str, headings: Mapping[str, str]) -> Chart:
    """The critical-difference diagram of a label budget: a row per method, so that its names can be read on a phone.

    Args:
        found: its statistics, with a Friedman test.
        metric: the metric as named in texts.
        headings: the name of each method.
    """
    ranks, test = found.summary["rank"], found.friedman
    assert test is not None
    places = {method: place for place, method in enumerate(ranks.index)}
    ends = [(places[group[0]], places[group[-1]]) for group in found.cliques]
    levels = bar_levels([(float(first), float(last)) for first, last in ends])
    rows = [
        Interval(
            f"{headings[str(method)]} ({row['rank']:.2f})",
            ALL,
            row["rank"],
            *_ends(row, "rank"),
            f"{headings[str(method)]}: mean rank {row['rank']:.2f}{_interval(row, 'rank', 1, 2)}, "
            f"mean {metric} {100 * row['mean']:.1f} %{_interval(row, 'mean', 100, 1)}",
        )
        for method, row in found.summary.iterrows()
    ]
    told = "bars connect methods that cannot be told apart" if test.rejects else "no two methods can be told apart"
    return interval_chart(
        found.budget.title.partition(":")[0],
        f"Critical-difference diagram of {counted(len(rows), 'method')}, the best first; Friedman test: "
        f"{p_text(test.p)}; {told}: {', '.join(row.name for row in rows)}.",
        rows,
        x=rank_scale(max(float(len(rows)), 1 + found.difference)),
        x_label=f"mean rank over {counted(len(found.ranks), 'data set')} (1 is the best)",
        legend=[],
        groups=[(first, last, level) for (first, last), level in zip(ends, levels, strict=True)],
        span=(found.difference, f"CD = {found.difference:.2f}"),
    )


def _ends(row: "pd.Series[Any]", name: str) -> tuple[float, float]:
    """The ends of an interval; the value itself where there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return (row[name], row[name]) if np.isnan(low) else (low, high)


def _interval(row: "pd.Series[Any]", name: str, factor: float, digits: int) -> str:
    low, high = (factor * row[f"{name}_{end}"] for end in ("low", "high"))
    return "" if np.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"


def curves(budgets: Sequence[Budget], metric: str, headings: Mapping[str, str]) -> list[Chart]:
    """The mean metric and the mean rank over the numbers of labels; none if they cannot be compared.

    Args:
        budgets: the results of each number of labels, without those overall.
        metric: the metric as named in texts.
        headings: the name of each method.
    """
    if len(budgets) < 2 or (common := common_scores(budgets))[0].empty:
        return []
    ranks = [rank_scores(scores).mean() for scores in common]
    means = [100 * scores.mean() for scores in common]
    methods = list(map(str, ranks[-1].sort_values(kind="stable").index))
    nodes = {method: own("method").get(method) for method in methods}
    styles = page_styles({name: column_of(name, of_method(node)) if node else name for name, node in nodes.items()})
    told = f"over the {counted(len(common[0]), 'data set')} with a value of every method and number of labels"
    low, high = min(map(min, means)), max(map(max, means))
    room = 0.06 * (high - low or 1)
    charts = []
    for title, points, y, label in (
        (f"Mean {metric}", means, scale(low - room, min(100.0, high + room)), f"{metric} in %"),
        ("Mean rank", ranks, rank_scale(float(max(2, len(methods))), is_reversed=True), "mean rank (1 is the best)"),
    ):
        lines = [_line(method, styles[method], budgets, points, label, headings) for method in methods]
        charts.append(
            line_chart(
                title,
                f"{label} of {counted(len(methods), 'method')} against the number of labeled anomalies, {told}.",
                lines,
                x=named_scale([budget.name for budget in budgets]),
                y=y,
                x_label=f"labeled anomalies (means over {counted(len(common[0]), 'data set')})",
                y_label=label,
            )
        )
    return charts


def _line(
    method: str,
    style: Style,
    budgets: Sequence[Budget],
    points: Sequence["pd.Series[Any]"],
    label: str,
    headings: Mapping[str, str],
) -> Line:
    values = [float(point[method]) for point in points]
    tips = [
        f"{headings[method]}, {labels_of(budget)}: {label.partition(' (')[0]} {value:.2f}"
        for budget, value in zip(budgets, values, strict=True)
    ]
    return Line(
        headings[method], style, np.arange(len(values), dtype=np.float64), np.array(values), tips, points="filled"
    )
