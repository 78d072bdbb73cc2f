"""Best against second best: the Wilcoxon signed-rank test (section 4.2), over units that are independent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

ALPHA = 0.05
NORMAL_CLASS, SEED = "normal_class", "seed"

# Above so many differences the exact distribution is replaced by the normal one.
_EXACT = 200
# Equal up to rounding is equal.
_DIGITS = 12


@dataclass(frozen=True)
class Comparison:
    """Two columns on the experiments that both have.

    Attributes:
        best: AUROC of the column with the higher mean, one for each pair of experiments.
        second: those of the other one.
        unit: what counts as one observation: :data:`NORMAL_CLASS`, or :data:`SEED` where the row has a single class.
        n: the number of units.
        p: two-sided, over the units.
        p_paper: two-sided, over the pairs of experiments as the paper forms them, which are not independent.
        median_difference: best minus second, over the units.
    """

    best: pd.Series
    second: pd.Series
    unit: str
    n: int
    p: float
    p_paper: float
    median_difference: float


def paired(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Experiments of two methods side by side, as in the paper.

    Paired by normal class, known anomaly class and seed. A method that does not depend on the known class is paired by
    repeating its value.

    Args:
        one: rows with ``normal_class``, ``anomaly_class``, ``seed`` and ``auroc``; unfinished ones are left out.
        other: likewise.

    Returns:
        The columns that the pairs are formed by, ``one`` and ``other``.
    """
    one, other = one.dropna(subset=["auroc"]), other.dropna(subset=["auroc"])
    keys = [NORMAL_CLASS, SEED]
    if one["anomaly_class"].notna().all() and other["anomaly_class"].notna().all():
        keys.append("anomaly_class")
    left = one[[*keys, "auroc"]].rename(columns={"auroc": "one"})
    right = other[[*keys, "auroc"]].rename(columns={"auroc": "other"})
    return left.merge(right, on=keys)


def compare(best: pd.DataFrame, second: pd.DataFrame) -> Comparison | None:
    """Test two columns of a row; None if there is no pair.

    The pairs of one normal class share its training data, and those of an unsupervised method repeat one value for
    every known class. So each normal class counts once, with its means over known classes and seeds. In a row with a
    single normal class each seed counts once.

    Args:
        best: rows as for :func:`paired`, with those that are not finished.
        second: likewise.
    """
    pairs = paired(best, second)
    if pairs.empty:
        return None
    unit = NORMAL_CLASS if pd.concat([best, second])[NORMAL_CLASS].nunique() > 1 else SEED
    means = pairs.groupby(unit, sort=False)[["one", "other"]].mean()
    differences = (means["one"] - means["other"]).round(_DIGITS)
    return Comparison(
        best=pairs["one"],
        second=pairs["other"],
        unit=unit,
        n=len(means),
        p=signed_rank_p(differences),
        p_paper=signed_rank_p(pairs["one"] - pairs["other"]),
        median_difference=float(differences.median()),
    )


def signed_rank_p(differences: npt.ArrayLike) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test.

    Zeros are left out and equal absolute differences share their mean rank. With up to 200 differences the p-value is
    exact, with and without ties: every pattern of signs is as likely as any other. With more it is the normal
    approximation.

    Args:
        differences: shape (n,).

    Returns:
        In (0, 1]; 1 if no difference is left.
    """
    found = np.asarray(differences, dtype=np.float64).round(_DIGITS)
    found = found[found != 0]
    if not len(found):
        return 1.0
    _, group, size = np.unique(np.abs(found), return_inverse=True, return_counts=True)
    # Twice the mean ranks, which are integers.
    ranks = (2 * np.cumsum(size) - size + 1)[group]
    total, positive = int(ranks.sum()), int(ranks[found > 0].sum())
    smaller = min(positive, total - positive)
    if len(found) > _EXACT:
        deviations = (total / 2 - smaller) / math.sqrt(float((ranks.astype(np.float64) ** 2).sum()) / 4)
        return math.erfc(deviations / math.sqrt(2))
    # How likely each sum of the positive ranks is, one more rank at a time.
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    return min(1.0, 2 * float(chance[: smaller + 1].sum()))


def lowest_p(n: int) -> float:
    """The lowest p-value that n units can have: all n differences have one sign."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests by Holm's step-down method.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]

    Args:
        p: one for each test.

    Returns:
        In the same order: an adjusted value below alpha is significant at a family-wise error rate of alpha.
    """
    adjusted = [0.0] * len(p)
    highest = 0.0
    for number, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        highest = max(highest, min(1.0, (len(p) - number) * p[place]))
        adjusted[place] = highest
    return adjusted
