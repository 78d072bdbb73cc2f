"""Test the best against the second-best column: Wilcoxon signed-rank test (section 4.2) over independent units."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

ALPHA = 0.05
NORMAL_CLASS, KNOWN_CLASS, SEED = "normal_class", "anomaly_class", "seed"

# With more differences than this, the normal approximation replaces the exact distribution.
_EXACT = 200
# Differences are rounded to this many digits, so that rounding errors break no ties.
_DIGITS = 12


@dataclass(frozen=True)
class Comparison:
    """Comparison of two columns on their common experiments.

    Attributes:
        best: metric of the column with the higher mean, one value per pair of experiments.
        second: metric of the other column, likewise.
        unit: what counts as one observation: :data:`NORMAL_CLASS`, or :data:`SEED` if the row has a single class.
        n: number of units.
        p: two-sided p-value over the units.
        p_paper: two-sided p-value over the paper's pairs of experiments, which are not independent.
        median_difference: median over the units of best minus second.
    """

    best: pd.Series
    second: pd.Series
    unit: str
    n: int
    p: float
    p_paper: float
    median_difference: float


def side_by_side(cells: Mapping[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """The metric of several methods on the experiments that all of them have finished.

    Experiments are the same if normal class, known anomaly class and seed agree. If a method does not depend on the
    known class, its value is repeated for each known class of the others.

    Args:
        cells: for each method, rows with ``normal_class``, ``anomaly_class`` (missing if it has no effect or the seed
            draws it), ``seed`` and the metric; unfinished experiments are skipped.
        metric: the column that is compared.

    Returns:
        The columns ``normal_class`` and ``seed``, ``anomaly_class`` if a method depends on it, and one column for each
        method, in their order.
    """
    finished = {name: cell.dropna(subset=[metric]) for name, cell in cells.items()}
    # The first one must have all rows that a method without a known class is repeated for.
    order = sorted(finished, key=lambda name: bool(finished[name][KNOWN_CLASS].isna().all()))
    merged: pd.DataFrame | None = None
    for name in order:
        cell = finished[name]
        keys = [NORMAL_CLASS, SEED] if cell[KNOWN_CLASS].isna().all() else [NORMAL_CLASS, SEED, KNOWN_CLASS]
        # Where one column mixes given and drawn known classes, a missing one is a value like any other.
        texts = {key: cell[key].astype(object).fillna("").astype(str) for key in keys if key != SEED}
        found = cell[[*keys, metric]].assign(**texts)
        found = found.groupby(keys, sort=False)[metric].mean().reset_index().rename(columns={metric: ("value", name)})
        merged = found if merged is None else merged.merge(found, on=keys)
    assert merged is not None
    kept = [key for key in (NORMAL_CLASS, SEED, KNOWN_CLASS) if key in merged]
    return merged[[*kept, *(("value", name) for name in cells)]].set_axis([*kept, *cells], axis=1)


def paired(one: pd.DataFrame, other: pd.DataFrame, metric: str = "auroc") -> pd.DataFrame:
    """Pair the experiments of two methods, as in the paper.

    Args:
        one: rows as for :func:`side_by_side`.
        other: the other method's rows, likewise.
        metric: the column that is compared.

    Returns:
        The columns used for pairing, and the values in the columns ``one`` and ``other``.
    """
    return side_by_side({"one": one, "other": other}, metric)


def compare(best: pd.DataFrame, second: pd.DataFrame, metric: str = "auroc") -> Comparison | None:
    """Test two columns of a row; return None if there is no pair.

    Pairs with the same normal class share its training data, and an unsupervised method repeats one value for every
    known class. Therefore each normal class counts once, with its means over known classes and seeds. In a row with a
    single normal class, each seed counts once.

    Args:
        best: rows of the better column as for :func:`paired`, including unfinished ones.
        second: rows of the other column, likewise.
        metric: the column that is compared.
    """
    pairs = paired(best, second, metric)
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

    Zeros are left out, and equal absolute differences share their mean rank. With up to 200 differences the p-value is
    exact, even with ties: under the null hypothesis all patterns of signs are equally likely. With more differences,
    the normal approximation is used.

    Args:
        differences: paired differences, shape (n,).

    Returns:
        The p-value, in (0, 1]; 1 if all differences are zero.
    """
    found = np.asarray(differences, dtype=np.float64).round(_DIGITS)
    found = found[found != 0]
    if not len(found):
        return 1.0
    _, group, size = np.unique(np.abs(found), return_inverse=True, return_counts=True)
    # Twice the mean ranks, so that they are integers.
    ranks = (2 * np.cumsum(size) - size + 1)[group]
    total, positive = int(ranks.sum()), int(ranks[found > 0].sum())
    smaller = min(positive, total - positive)
    if len(found) > _EXACT:
        deviations = (total / 2 - smaller) / math.sqrt(float((ranks.astype(np.float64) ** 2).sum()) / 4)
        return math.erfc(deviations / math.sqrt(2))
    # The distribution of the sum of positive ranks, built up one rank at a time.
    chance = np.zeros(total + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    return min(1.0, 2 * float(chance[: smaller + 1].sum()))


def lowest_p(n: int) -> float:
    """The lowest p-value possible with n units, which occurs if all n differences have the same sign."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p: Sequence[float]) -> list[float]:
    """Adjust the p-values of a family of tests by Holm's step-down method.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]

    Args:
        p: p-values, one per test.

    Returns:
        The adjusted p-values in the same order; one below alpha is significant at a family-wise error rate of alpha.
    """
    adjusted = [0.0] * len(p)
    highest = 0.0
    for number, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        highest = max(highest, min(1.0, (len(p) - number) * p[place]))
        adjusted[place] = highest
    return adjusted
