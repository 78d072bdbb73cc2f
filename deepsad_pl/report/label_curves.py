"""A benchmark's metric and mean ranks against the number of labeled anomalies, a line per method."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.benchmark_results import Budget
from deepsad_pl.report.legends import Entry, legend
from deepsad_pl.report.rank_tests import rank_scores
from deepsad_pl.report.style import look, new_figure, set_title, styles_of


def label_curves(
    title: str, budgets: Sequence[Budget], metric: str, headings: Mapping[str, str], form: FigureFormat = PAGE
) -> Figure | None:
    """Draw the mean of a metric and the mean rank over data sets against the number of labeled anomalies.

    All points are means over the same data sets and rank the same methods, since means over different data sets cannot
    be compared. The budgets are spaced evenly.

    Args:
        title: title of the figure.
        budgets: the results of each number of labels, without those overall.
        metric: the metric as named in texts.
        headings: the name of each method.
        form: size of the figure.

    Returns:
        The figure; None with fewer than two budgets, or if no data set has a value of every method in each of them.
    """
    common = common_scores(budgets)
    if len(budgets) < 2 or common[0].empty:
        return None
    ranks = [rank_scores(scores).mean() for scores in common]
    means = [100 * scores.mean() for scores in common]
    methods = list(ranks[-1].sort_values(kind="stable").index)
    drawn = styles_of(methods)
    with look():
        figure = new_figure(form.inches, 5.2 if form.is_column else 2.9)
        first, second = figure.subplots(2, 1) if form.is_column else figure.subplots(1, 2)
        for place, points in ((first, means), (second, ranks)):
            for method, style in drawn.items():
                place.plot([point[method] for point in points], **style.drawn, linestyle=style.line, zorder=style.level)
            place.set_xticks(range(len(budgets)), [budget.name for budget in budgets])
            place.set_xlabel("labeled anomalies")
            place.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        first.set_ylabel(f"{metric} in %")
        second.set_ylabel("mean rank (1 is the best)")
        second.invert_yaxis()
        legend(
            figure, [Entry(headings[name], {**style.drawn, "linestyle": style.line}) for name, style in drawn.items()]
        )
        count = len(common[0])
        told = f"means over the {count} data sets with a value of every method and number of labels"
        set_title(figure, title, told if count > 1 else told.replace("sets", "set"))
        return figure


def common_scores(budgets: Sequence[Budget]) -> list[pd.DataFrame]:
    """The means of each budget, without methods and data sets that lack one in any budget.

    A method that has no value at all in a budget is left out before the data sets are.

    Args:
        budgets: the results of each number of labels; at least one.
    """
    methods = [name for name in budgets[0].means if all(budget.means[name].notna().any() for budget in budgets)]
    found = [budget.means[methods] for budget in budgets]
    complete = pd.concat([scores.notna().all(axis=1) for scores in found], axis=1).all(axis=1)
    return [scores[complete] for scores in found]
