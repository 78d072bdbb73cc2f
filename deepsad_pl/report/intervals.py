"""Means with 95 % confidence intervals over independent units, for figures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from deepsad_pl.report.significance import NORMAL_CLASS, SEED, paired

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: mean over the units.
        half: half the width of the interval; NaN with fewer than two units.
        unit: what counts as one observation: ``normal_class``, or ``seed`` if there is a single class.
        n: number of units.
    """

    mean: float
    half: float
    unit: str
    n: int


def interval(experiments: pd.DataFrame) -> Interval:
    """The mean over experiments, with a t-interval over their normal classes, or over seeds if there is one class.

    Experiments with the same normal class share its training data, so each class counts once.

    Args:
        experiments: rows with ``normal_class``, ``seed`` and ``value``.
    """
    unit = _unit(experiments[NORMAL_CLASS])
    return _interval(experiments.groupby(unit, sort=False)["value"].mean(), unit, float(experiments["value"].mean()))


def difference(one: pd.DataFrame, other: pd.DataFrame) -> Interval | None:
    """The mean difference between paired experiments, with an interval as for :func:`interval`.

    The units are those of :func:`deepsad_pl.report.significance.compare`.

    Args:
        one: rows with ``normal_class``, ``anomaly_class``, ``seed`` and ``value``.
        other: likewise; their values are subtracted.

    Returns:
        The interval; None if there is no pair.
    """
    pairs = paired(one, other, "value")
    if pairs.empty:
        return None
    unit = _unit(pd.concat([one, other])[NORMAL_CLASS])
    differences = pairs.assign(value=pairs["one"] - pairs["other"]).groupby(unit, sort=False)["value"].mean()
    return _interval(differences, unit, float(differences.mean()))


def _unit(classes: "pd.Series[str]") -> str:
    return NORMAL_CLASS if classes.nunique() > 1 else SEED


def _interval(values: "pd.Series[float]", unit: str, mean: float) -> Interval:
    n = len(values)
    if n < 2:
        return Interval(mean, float("nan"), unit, n)
    quantile = float(stdtrit(n - 1, (1 + LEVEL) / 2))
    return Interval(mean, quantile * float(values.std(ddof=1)) / float(np.sqrt(n)), unit, n)
