"""How well anomaly scores rank a test set: exact metrics in double precision, each from one sort. No torch here."""

import math
from collections.abc import Iterable
from fractions import Fraction

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


# The metrics of a ranking, in the order of :func:`ranking_metrics`.
RANKING = ("auroc", "average_precision", "auroc_fpr_10", "recall_fpr_1", "recall_fpr_5")


def ranking_metrics(scores: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float | None]:
    """All metrics of a test set that need no class names, over the samples whose truth is known.

    >>> ranking_metrics([0.1, 0.5, 0.9], [0, -1, 1])["auroc_fpr_10"]
    1.0

    Args:
        scores: as for :func:`detection_metrics`.
        y: 0 normal, 1 anomaly, -1 not known, shape (n,).

    Returns:
        Each of :data:`RANKING`, in [0, 1]: ``auroc_fpr_10`` is :func:`partial_auroc` up to a false-positive rate of
        10 %, ``recall_fpr_1`` and ``recall_fpr_5`` are the largest recall of any threshold with a false-positive rate
        of at most 1 % and 5 %. All are None if there are no known normal samples or no known anomalies.

    Raises:
        ValueError: if a score is not finite, or a label is none of these.
    """
    scores, y = np.asarray(scores, dtype=np.float64), np.asarray(y)
    _require_finite(scores)
    known = y != -1
    if not {0, 1} <= set(np.unique(y[known]).tolist()):
        return dict.fromkeys(RANKING)
    normal, anomalous = _counts_by_score(scores[known], y[known])
    values = (
        _auroc(normal, anomalous),
        _average_precision(normal, anomalous),
        _partial_auroc(normal, anomalous, Fraction(1, 10)),
        _recall(normal, anomalous, Fraction(1, 100)),
        _recall(normal, anomalous, Fraction(5, 100)),
    )
    return dict(zip(RANKING, values, strict=True))


def partial_auroc(scores: npt.ArrayLike, y: npt.ArrayLike, max_fpr: float = 0.1) -> float:
    r"""The area under the ROC curve up to a false-positive rate, standardised to [1/2, 1] above the diagonal.

    With f for ``max_fpr`` and A for the area, this is McClish's correction, as in scikit-learn's
    ``roc_auc_score(max_fpr=f)``:

    .. math:: \frac{1}{2} \left(1 + \frac{A - f^2 / 2}{f - f^2 / 2}\right).

    A perfect ranking gives exactly 1, a random one 1/2 on average, and one below the diagonal less.

    Args:
        scores: as for :func:`detection_metrics`.
        y: as for :func:`detection_metrics`.
        max_fpr: the false-positive rate, in (0, 1].

    Raises:
        ValueError: if a score is not finite or one of the two classes is missing.
    """
    return _partial_auroc(*_counts_by_score(scores, y), Fraction(repr(float(max_fpr))))


def recall_at(scores: npt.ArrayLike, y: npt.ArrayLike, max_fpr: float) -> float:
    """The largest recall of any threshold whose false-positive rate is at most ``max_fpr``.

    Samples of equal score are flagged together. With fewer than ``1 / max_fpr`` normal samples, this is the recall
    without a false positive.

    >>> recall_at([0.1, 0.2, 0.2, 0.9], [0, 0, 1, 1], 0.05)
    0.5

    Args:
        scores: as for :func:`detection_metrics`.
        y: as for :func:`detection_metrics`.
        max_fpr: the false-positive rate, in [0, 1].

    Raises:
        ValueError: if a score is not finite or one of the two classes is missing.
    """
    return _recall(*_counts_by_score(scores, y), Fraction(repr(float(max_fpr))))


def auroc_by_class(scores: npt.ArrayLike, y: npt.ArrayLike, label: npt.ArrayLike) -> dict[int, tuple[int, float]]:
    """For each class of anomalies, the number of its samples and their AUROC against all normal samples.

    >>> auroc_by_class([0.1, 0.2, 0.0, 0.9], [0, 0, 1, 1], [5, 5, 7, 8])
    {7: (1, 0.0), 8: (1, 1.0)}

    Args:
        scores: as for :func:`detection_metrics`.
        y: as for :func:`detection_metrics`.
        label: class of each sample, an integer, shape (n,).

    Raises:
        ValueError: if a score is not finite or one of the two classes is missing.
    """
    values, anomaly, labels = np.asarray(scores, dtype=np.float64), np.asarray(y) == 1, np.asarray(label)
    normal, _ = _counts_by_score(values, y)
    _, group = np.unique(values, return_inverse=True)
    # Twice the normal samples below each score, plus those that tie with it.
    beaten = (2 * (np.cumsum(normal) - normal) + normal)[group[anomaly]]
    found, place, size = np.unique(labels[anomaly], return_inverse=True, return_counts=True)
    twice = np.zeros(len(found), np.int64)
    np.add.at(twice, place, beaten)
    normals = int(normal.sum())
    return {
        int(c): (int(n), int(pairs) / (2 * normals * int(n))) for c, n, pairs in zip(found, size, twice, strict=True)
    }


def auroc_of_union(parts: Iterable[tuple[int, float]], normals: int) -> float | None:
    """The AUROC of several groups of anomalies taken together, from that of each against the same normal samples.

    Args:
        parts: number of samples and AUROC of each group.
        normals: number of normal samples, which makes the result exact.

    Returns:
        The AUROC; None without a group.
    """
    found = [(size, value) for size, value in parts if size]
    if not found:
        return None
    twice = sum(round(2 * normals * size * value) for size, value in found)
    return twice / (2 * normals * sum(size for size, _ in found))


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


def _rates(
    normal: npt.NDArray[np.int64], anomalous: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """False and true positives of every threshold, from the highest one, which flags nothing, to the lowest."""
    zero = np.zeros(1, np.int64)
    return np.concatenate([zero, np.cumsum(normal[::-1])]), np.concatenate([zero, np.cumsum(anomalous[::-1])])


def _within(false: npt.NDArray[np.int64], max_fpr: Fraction) -> int:
    """The last threshold with a false-positive rate of at most ``max_fpr``."""
    allowed = math.floor(max_fpr * int(false[-1]))
    return int(np.searchsorted(false, allowed, side="right")) - 1


def _recall(normal: npt.NDArray[np.int64], anomalous: npt.NDArray[np.int64], max_fpr: Fraction) -> float:
    false, true = _rates(normal, anomalous)
    return int(true[_within(false, max_fpr)]) / int(true[-1])


def _partial_auroc(normal: npt.NDArray[np.int64], anomalous: npt.NDArray[np.int64], max_fpr: Fraction) -> float:
    false, true = _rates(normal, anomalous)
    last = _within(false, max_fpr)
    # Pairs are counted in integers up to the last threshold within the limit; the rest is interpolated, in fractions.
    twice = Fraction(int((np.diff(false[: last + 1]) * (true[1 : last + 1] + true[:last])).sum()))
    if last + 1 < len(false):
        width = max_fpr * int(false[-1]) - int(false[last])
        slope = Fraction(int(true[last + 1] - true[last]), int(false[last + 1] - false[last]))
        twice += width * (2 * int(true[last]) + slope * width)
    area = twice / (2 * int(false[-1]) * int(true[-1]))
    least = max_fpr * max_fpr / 2
    # McClish's correction: 1/2 for the diagonal, 1 for a perfect ranking.
    return float((1 + (area - least) / (max_fpr - least)) / 2)
