"""How well anomaly scores rank a test set: exact AUROC and average precision, in double precision. No torch here."""

import math

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import are


def detection_metrics(scores: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
    """AUROC and average precision of anomaly scores, without binning.

    Args:
        scores: shape (n,), finite; higher is more anomalous. An array or a CPU tensor.
        y: ground truth, shape (n,): 0 normal, 1 anomaly; both must occur.

    Returns:
        ``{"auroc": ..., "average_precision": ...}``, both in [0, 1].

    Raises:
        ValueError: if a score is not finite, a label is neither 0 nor 1 or one of the two classes is missing.
    """
    normal, anomalous = _counts_by_score(scores, y)
    return {"auroc": _auroc(normal, anomalous), "average_precision": _average_precision(normal, anomalous)}


def metrics_where_known(scores: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float | None]:
    """As :func:`detection_metrics`, over the samples whose truth is known.

    >>> metrics_where_known([0.1, 0.5, 0.9], [0, -1, 1])
    {'auroc': 1.0, 'average_precision': 1.0}

    Args:
        scores: as for :func:`detection_metrics`.
        y: 0 normal, 1 anomaly, -1 not known, shape (n,).

    Returns:
        The metrics; each is None if there are no known normal samples or no known anomalies.

    Raises:
        ValueError: if a score is not finite, or a label is none of these.
    """
    scores, y = np.asarray(scores, dtype=np.float64), np.asarray(y)
    _require_finite(scores)
    known = y != -1
    if not {0, 1} <= set(np.unique(y[known]).tolist()):
        return {"auroc": None, "average_precision": None}
    return dict(detection_metrics(scores[known], y[known]))


def auroc(scores: npt.ArrayLike, y: npt.ArrayLike) -> float:
    r"""The share of (normal, anomaly) pairs that the scores put in the right order; a tie counts half.

    This is the Mann-Whitney statistic U of the anomalies divided by the number of pairs,

    .. math:: \frac{1}{n_0 n_1} \sum_{i: y_i = 0} \sum_{j: y_j = 1} [s_i < s_j] + \tfrac{1}{2} [s_i = s_j].

    Pairs are counted in integers, so a perfect ranking gives exactly 1.0, and equal counts give equal values.

    >>> auroc([0.1, 0.2, 0.2, 0.9], [0, 0, 1, 1])
    0.875

    Args:
        scores: as for :func:`detection_metrics`.
        y: as for :func:`detection_metrics`.

    Raises:
        ValueError: if a score is not finite or one of the two classes is missing.
    """
    return _auroc(*_counts_by_score(scores, y))


def _counts_by_score(scores: npt.ArrayLike, y: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many normal samples and how many anomalies have each score, from the lowest score to the highest."""
    values, y = np.asarray(scores, dtype=np.float64), np.asarray(y)
    anomaly = y == 1
    if not (anomaly | (y == 0)).all():
        raise ValueError(f"the ground truth must be 0 (normal) or 1 (anomaly), but holds {y[~anomaly & (y != 0)][0]}")
    _require_finite(values)
    if not 0 < int(anomaly.sum()) < len(anomaly):
        raise ValueError("AUROC needs at least one normal and one anomalous sample")
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    anomalous = np.bincount(group, weights=anomaly, minlength=len(size)).astype(np.int64)
    return size - anomalous, anomalous


def _require_finite(values: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).sum())
        raise ValueError(f"{wrong} of {len(values)} anomaly scores {are(wrong)} not finite")


def _auroc(normal: npt.NDArray[np.int64], anomalous: npt.NDArray[np.int64]) -> float:
    # A tie counts half, so twice the number of pairs in the right order is always an integer.
    twice = int((anomalous * (2 * (np.cumsum(normal) - normal) + normal)).sum())
    return twice / (2 * int(normal.sum()) * int(anomalous.sum()))


def _average_precision(normal: npt.NDArray[np.int64], anomalous: npt.NDArray[np.int64]) -> float:
    """The mean precision at the anomalies; samples of equal score are retrieved together, as in scikit-learn."""
    found, of_all = np.cumsum(anomalous[::-1]), np.cumsum((normal + anomalous)[::-1])
    return math.fsum(anomalous[::-1] * (found / of_all)) / int(found[-1])
