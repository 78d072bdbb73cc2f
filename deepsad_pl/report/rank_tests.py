"""Mean ranks of methods over data sets, with the Friedman and Nemenyi tests (Demsar, JMLR 7, 2006)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import f as f_distribution
from scipy.stats import friedmanchisquare, studentized_range

from deepsad_pl.report.significance import ALPHA

RESAMPLES, LEVEL, SEED = 10_000, 0.95, 0

# Scores are rounded to this many digits, so that rounding errors break no ties.
_DIGITS = 12


@dataclass(frozen=True)
class Friedman:
    """The Friedman test of whether all methods perform alike.

    Attributes:
        chi2: its statistic, corrected for ties.
        p: p-value of the statistic, by the chi-squared distribution with k - 1 degrees of freedom.
        f: Iman and Davenport's statistic, which is less conservative; infinite if all data sets agree on all ranks.
        p_f: p-value of ``f``, by the F distribution.
    """

    chi2: float
    p: float
    f: float
    p_f: float

    @property
    def rejects(self) -> bool:
        """Whether the methods differ at the level of 5 %, so that they may be compared pair by pair."""
        return self.p < ALPHA


def rank_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Rank the methods within each data set: 1 is the highest score, and equal scores share their mean rank.

    Args:
        scores: one row per data set, one column per method, without NaN.

    Returns:
        The ranks, of which each row sums to k (k + 1) / 2.
    """
    return scores.round(_DIGITS).rank(axis=1, ascending=False, method="average")


def friedman_test(ranks: pd.DataFrame) -> Friedman | None:
    """The Friedman test; None with fewer than three methods or two data sets.

    Args:
        ranks: see :func:`rank_scores`.
    """
    n, k = ranks.shape
    if n < 2 or k < 3:
        return None
    if (ranks.nunique(axis=1) == 1).all():
        return Friedman(0.0, 1.0, 0.0, 1.0)
    test = friedmanchisquare(*ranks.to_numpy().T)
    chi2 = float(test.statistic)
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 * chi2 else math.inf
    return Friedman(chi2, float(test.pvalue), f, float(f_distribution.sf(f, k - 1, (k - 1) * (n - 1))))


def critical_difference(methods: int, datasets: int, alpha: float = ALPHA) -> float:
    """The least difference of mean ranks at which the Nemenyi test finds two methods to differ.

    .. math:: CD = q_\\alpha \\sqrt{k (k + 1) / (6 N)}

    >>> round(critical_difference(4, 14), 2)
    1.25

    Args:
        methods: number of methods k, at least 2.
        datasets: number of data sets N, at least 1.
        alpha: level of the test.
    """
    quantile = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))


def nemenyi_p(ranks: pd.DataFrame) -> pd.DataFrame:
    """The p-values of the Nemenyi test, a row and a column per method; 1 on the diagonal.

    Args:
        ranks: see :func:`rank_scores`; at least two methods.
    """
    # Imports statsmodels and seaborn, which takes seconds.
    from scikit_posthocs import posthoc_nemenyi_friedman

    p = posthoc_nemenyi_friedman(ranks.to_numpy()).to_numpy()
    return pd.DataFrame(p, index=ranks.columns, columns=ranks.columns)


def cliques(mean_ranks: "pd.Series[float]", difference: float) -> list[list[str]]:
    """The largest groups of methods of which no two differ by the critical difference.

    Args:
        mean_ranks: the mean rank of each method.
        difference: the critical difference.

    Returns:
        The groups of at least two methods, from the best to the worst; methods are in the order of their mean ranks.
    """
    ordered = mean_ranks.sort_values(kind="stable")
    names, values = list(ordered.index), ordered.to_numpy()
    found: list[list[str]] = []
    last = 0
    for first in range(len(names)):
        end = int(np.searchsorted(values, values[first] + difference, side="left"))
        # A group that ends where the one before it ends is a part of that.
        if end - first > 1 and end > last:
            found.append(names[first:end])
        last = max(last, end)
    return found


def bootstrap_intervals(
    values: npt.NDArray[np.float64], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Percentile intervals of the column means when the rows (data sets) are drawn anew with replacement.

    Args:
        values: one row per data set, shape (n, k).
        resamples: number of draws of n rows.
        level: share of the draws within the interval.
        seed: seed of the draws.

    Returns:
        The lower and the upper ends, each of shape (k,); NaN with fewer than two rows.
    """
    n, k = values.shape
    if n < 2:
        return np.full(k, np.nan), np.full(k, np.nan)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    low, high = np.quantile(drawn @ values / n, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
