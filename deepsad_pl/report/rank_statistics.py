"""All statistics of one label budget: which data sets count, mean ranks, tests and intervals."""

import math
from dataclasses import dataclass

import pandas as pd

from deepsad_pl.report.benchmark_results import Budget
from deepsad_pl.report.pairs import compare_pairs
from deepsad_pl.report.rank_tests import (
    Friedman,
    bootstrap_intervals,
    cliques,
    critical_difference,
    friedman_test,
    rank_scores,
)


@dataclass(frozen=True)
class RankStatistics:
    """Statistics of one label budget.

    Attributes:
        budget: the results.
        ranks: rank of each method on the data sets on which every method has a value.
        left_out: for each other data set, the methods that have no value there.
        absent: methods without any value, which are not ranked.
        summary: a row per ranked method, the best mean rank first: ``mean`` of the metric and mean ``rank`` over the
            data sets that count, each with the ends ``_low`` and ``_high`` of its bootstrap interval.
        friedman: the Friedman test; None with fewer than three methods or two data sets.
        difference: critical difference of the Nemenyi test at the level of 5 %; NaN if there is no Friedman test.
        cliques: groups of methods that the Nemenyi test cannot tell apart; all methods in one group unless the Friedman
            test finds a difference.
        pairs: see :func:`deepsad_pl.report.pairs.compare_pairs`.
    """

    budget: Budget
    ranks: pd.DataFrame
    left_out: dict[str, list[str]]
    absent: list[str]
    summary: pd.DataFrame
    friedman: Friedman | None
    difference: float
    cliques: list[list[str]]
    pairs: pd.DataFrame


def rank_statistics(budget: Budget) -> RankStatistics:
    """Rank the methods of a budget and test their differences over the data sets.

    A method without any value is left out first; then a data set is, unless all other methods have a value there.

    Args:
        budget: the results.
    """
    means = budget.means
    absent = [str(method) for method in means if not means[method].notna().any()]
    found = means.drop(columns=absent)
    scores = found.dropna()
    left_out = {
        str(name): [str(method) for method in found.columns[row.isna()]]
        for name, row in found.iterrows()
        if name not in scores.index
    }
    ranks = rank_scores(scores)
    test = friedman_test(ranks)
    difference = critical_difference(len(ranks.columns), len(ranks)) if test else math.nan
    summary = _summary(scores, ranks)
    groups: list[list[str]] = []
    if test:
        groups = cliques(summary["rank"], difference) if test.rejects else [list(summary.index)]
    pairs = compare_pairs(scores)
    return RankStatistics(budget, ranks, left_out, absent, summary, test, difference, groups, pairs)


def _summary(scores: pd.DataFrame, ranks: pd.DataFrame) -> pd.DataFrame:
    parts = {"mean": scores, "rank": ranks}
    summary = pd.DataFrame(index=scores.columns)
    for name, values in parts.items():
        summary[name] = values.mean()
        summary[f"{name}_low"], summary[f"{name}_high"] = bootstrap_intervals(values.to_numpy())
    return summary.sort_values("rank", kind="stable")


def p_text(p: float) -> str:
    """A p-value for texts.

    >>> p_text(0.0123), p_text(0.00001), p_text(1.0)
    ('p = .012', 'p < .001', 'p = 1.000')
    """
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("= 0.", "= .")
