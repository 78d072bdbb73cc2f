"""Best against second best: the Wilcoxon signed-rank test over paired experiments (section 4.2)."""

from dataclasses import dataclass

import pandas as pd
from scipy.stats import wilcoxon

ALPHA = 0.05
_PAIR = ["normal_class", "seed"]


@dataclass(frozen=True)
class Comparison:
    """Two columns on paired experiments.

    Attributes:
        best: values of the column with the higher mean, a row for each pair.
        second: those of the other one.
        statistic: of the signed-rank test.
        p: two-sided.
    """

    best: pd.Series
    second: pd.Series
    statistic: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether p is below alpha = .05."""
        return self.p < ALPHA


def paired(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Experiments of two methods side by side.

    Paired by normal class, known anomaly class and seed. A method that does not depend on the known class is paired by
    repeating its value.

    Args:
        one: rows with ``normal_class``, ``anomaly_class``, ``seed`` and ``auroc``; unfinished ones are left out.
        other: likewise.

    Returns:
        The columns ``one`` and ``other``.
    """
    one, other = one.dropna(subset=["auroc"]), other.dropna(subset=["auroc"])
    keys = [*_PAIR]
    if one["anomaly_class"].notna().all() and other["anomaly_class"].notna().all():
        keys.append("anomaly_class")
    left = one[[*keys, "auroc"]].rename(columns={"auroc": "one"})
    right = other[[*keys, "auroc"]].rename(columns={"auroc": "other"})
    return left.merge(right, on=keys)[["one", "other"]]


def compare(best: pd.DataFrame, second: pd.DataFrame) -> Comparison | None:
    """Test two columns of a cell; None if there is no pair."""
    pairs = paired(best, second)
    if pairs.empty:
        return None
    if (pairs["one"] == pairs["other"]).all():
        return Comparison(pairs["one"], pairs["other"], 0.0, 1.0)
    test = wilcoxon(pairs["one"], pairs["other"], alternative="two-sided")
    return Comparison(pairs["one"], pairs["other"], float(test.statistic), float(test.pvalue))
