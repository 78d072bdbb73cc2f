"""The statistics of a benchmark as CSV: ranks, pairs of methods, and cells of data set and method."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from deepsad_pl.report.rank_statistics import RankStatistics


def ranks_csv(found: Sequence[RankStatistics], metric: str, headings: Mapping[str, str]) -> str:
    """A row per label budget and method, the best mean rank first; values of the metric in percent."""
    rows = [
        {
            "metric": metric,
            "labels": one.budget.name,
            "method": method,
            "heading": headings[str(method)],
            "datasets": len(one.ranks),
            **{name: 100 * row[name] for name in ("mean", "mean_low", "mean_high")},
            **{name: row[name] for name in ("rank", "rank_low", "rank_high")},
            "friedman_chi2": one.friedman.chi2 if one.friedman else None,
            "friedman_p": f"{one.friedman.p:.6g}" if one.friedman else None,
            "critical_difference": one.difference,
        }
        for one in found
        for method, row in one.summary.iterrows()
    ]
    return _csv(rows)


def pairs_csv(found: Sequence[RankStatistics], metric: str) -> str:
    """A row per label budget and pair of methods; the median difference in percentage points."""
    rows = [
        {
            "metric": metric,
            "labels": one.budget.name,
            **row,
            "median_difference": 100 * row["median_difference"],
            **{name: f"{row[name]:.6g}" for name in ("p", "p_holm", "p_nemenyi")},
        }
        for one in found
        for row in one.pairs.to_dict("records")
    ]
    return _csv(rows)


def cells_of_datasets_csv(found: Sequence[RankStatistics], metric: str) -> str:
    """A row per label budget, data set and method: mean and standard deviation over seeds in percent, whether it is
    test-informed, and the rank.

    Cells without a value are blank, and so are the ranks on data sets that do not count.
    """
    rows = [
        {
            "metric": metric,
            "labels": one.budget.name,
            "dataset": dataset,
            "method": method,
            "mean": 100 * one.budget.means.loc[dataset, method],
            "std": 100 * one.budget.stds.loc[dataset, method],
            "seeds": one.budget.seeds.loc[dataset, method],
            "test_informed": one.budget.informed.loc[dataset, method],
            "rank": one.ranks.loc[dataset, method] if dataset in one.ranks.index and method in one.ranks else None,
        }
        for one in found
        for dataset in one.budget.means.index
        for method in one.budget.means.columns
    ]
    return _csv(rows)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    return pd.DataFrame(list(rows)).to_csv(index=False, lineterminator="\n", float_format="%.4f")
