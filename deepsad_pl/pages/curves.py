"""The points of ROC and precision-recall curves and of histograms, few enough for a page."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The most points of a curve: enough for the pixels of a chart.
_MOST = 300
# The score axis is logarithmic if the upper scores are more than this many times the median.
_SKEWED = 20


@dataclass(frozen=True)
class Curves:
    """The rates of all thresholds, from the highest, which flags nothing, to the lowest, which flags everything.

    Attributes:
        threshold: lowest flagged score, shape (n,); the first is infinite.
        fpr: false-positive rate, ascending.
        recall: true-positive rate, ascending.
        precision: share of anomalies among the flagged samples; NaN where nothing is flagged.
    """

    threshold: Floats
    fpr: Floats
    recall: Floats
    precision: Floats


def curves(score: npt.ArrayLike, y: npt.ArrayLike) -> Curves:
    """The rates of all thresholds, thinned to a few hundred points that keep the shape.

    Args:
        score: anomaly scores, shape (n,), finite.
        y: 0 normal, 1 anomaly, shape (n,); both must occur.
    """
    values, group = np.unique(np.asarray(score, np.float64), return_inverse=True)
    anomaly = np.asarray(y) == 1
    found = [np.bincount(group, weights=part, minlength=len(values))[::-1] for part in (~anomaly, anomaly)]
    false, true = (np.concatenate([[0.0], np.cumsum(counts)]) for counts in found)
    threshold = np.concatenate([[np.inf], values[::-1]])
    kept = _kept(false, true)
    flagged = false + true
    precision = np.divide(true, flagged, out=np.full(len(true), np.nan), where=flagged > 0)
    return Curves(threshold[kept], (false / false[-1])[kept], (true / true[-1])[kept], precision[kept])


def _kept(false: Floats, true: Floats) -> npt.NDArray[np.int64]:
    """Points that are evenly spread along the curve, with both ends."""
    length = false / false[-1] + true / true[-1]
    chosen = np.searchsorted(length, np.linspace(0, length[-1], _MOST))
    return np.unique(np.concatenate([[0], chosen, [len(length) - 1]]))


@dataclass(frozen=True)
class Bins:
    """The bins of a histogram.

    Attributes:
        edges: ascending, shape (bins + 1,).
        is_log: whether they are evenly spread on a logarithmic axis.
        above: number of scores above the last edge, which are counted in the last bin.
    """

    edges: Floats
    is_log: bool
    above: int


def bins(score: npt.ArrayLike, count: int = 40) -> Bins:
    """Bins for scores; if they have a heavy tail, logarithmic if all are positive, else without the top 0.5 %.

    Args:
        score: shape (n,), finite, n >= 1.
        count: number of bins.
    """
    scores = np.asarray(score, np.float64)
    low, middle, upper, high = np.quantile(scores, [0, 0.5, 0.995, 1])
    if low > 0 and upper > _SKEWED * middle:
        return Bins(np.geomspace(low, high, count + 1), True, 0)
    if high - low > 2 * (upper - low) > 0:
        return Bins(np.linspace(low, upper, count + 1), False, int((scores > upper).sum()))
    return Bins(np.linspace(low, high if high > low else low + 1, count + 1), False, 0)


def shares(score: npt.ArrayLike, edges: Floats) -> Floats:
    """The share of scores in each bin, shape (bins,); those outside are counted in the first or the last bin."""
    inside = np.clip(np.asarray(score, np.float64), edges[0], edges[-1])
    found: Floats = np.histogram(inside, edges)[0] / len(inside)
    return found
