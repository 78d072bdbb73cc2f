"""Choose the samples to label next, by pure functions of their scores and, for ``diverse``, representations."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Strategy = Literal["anomalous", "uncertain", "diverse", "random"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

# ``diverse`` chooses among the ``CANDIDATES * count`` highest scores, so that it picks no ordinary samples.
CANDIDATES = 10


def choose(
    score: npt.ArrayLike,
    *,
    by: Strategy,
    count: int,
    threshold: float | None = None,
    features: npt.ArrayLike | None = None,
    seed: int = 0,
    labeled: npt.ArrayLike | None = None,
) -> npt.NDArray[np.int64]:
    """Choose the samples to label next, in the order in which to look at them.

    ``anomalous`` takes the highest scores. ``uncertain`` takes the scores nearest to the threshold. ``diverse`` looks
    at the ``10 * count`` samples with the highest scores: it starts with the highest score and then repeatedly takes
    the sample farthest from those already chosen. This is the k-center greedy method of Gonzalez (Theoretical Computer
    Science 38, 1985), used to choose samples to label by Sener and Savarese (ICLR 2018,
    https://arxiv.org/abs/1708.00489). ``random`` draws uniformly. Samples without a finite score are never chosen.
    Samples with equal scores are taken in their order.

    >>> choose([0.1, 0.9, 0.5, 0.8], by="anomalous", count=2)
    array([1, 3])
    >>> choose([0.1, 0.9, 0.5, 0.8], by="uncertain", count=2, threshold=0.75)
    array([3, 1])
    >>> choose([0.1, 0.9, 0.5, 0.8], by="diverse", count=2, features=[[0.0], [5.0], [1.0], [5.1]])
    array([1, 0])
    >>> choose([0.1, 0.9, 0.5, 0.8], by="anomalous", count=2, labeled=[False, True, False, False])
    array([3, 2])

    Args:
        score: anomaly score of each sample, higher is more anomalous, shape (N,).
        by: the strategy.
        count: number of samples to choose, >= 1.
        threshold: score above which a sample counts as an anomaly; only ``uncertain`` needs it.
        features: representation of each sample, shape (N, D); only ``diverse`` needs it. Distances are Euclidean.
        seed: seed of ``random``; the other strategies are deterministic.
        labeled: whether each sample already has a label, shape (N,); labeled samples are never chosen.

    Returns:
        Positions of the chosen samples, shape (min(count, number of samples that can be chosen),).

    Raises:
        ValueError: if an argument that the strategy needs is missing, or an argument is out of range.
    """
    scores = np.asarray(score, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"score has the shape {scores.shape}; give one number for each sample")
    if by not in STRATEGIES:
        raise ValueError(f"by is {by!r}; choose {', '.join(STRATEGIES)}")
    if count < 1:
        raise ValueError(f"count is {count}; give a number of at least 1")
    known = np.zeros(len(scores), bool) if labeled is None else np.asarray(labeled, bool)
    if known.shape != scores.shape:
        raise ValueError(f"labeled has the shape {known.shape}, but score has {scores.shape}; give one for each sample")
    open_rows = np.flatnonzero(~known & np.isfinite(scores))
    if by == "random":
        return np.random.default_rng(seed).permutation(open_rows)[:count]
    if by == "uncertain":
        if threshold is None:
            raise ValueError("by='uncertain' needs threshold, the score from which a sample is an anomaly")
        return open_rows[np.argsort(np.abs(scores[open_rows] - threshold), kind="stable")][:count]
    ranked = open_rows[np.argsort(-scores[open_rows], kind="stable")]
    if by == "anomalous":
        return ranked[:count]
    if features is None:
        raise ValueError("by='diverse' needs features, such as the representation of each sample")
    points = np.asarray(features, np.float64)
    if points.ndim != 2 or len(points) != len(scores):
        raise ValueError(f"features has the shape {points.shape}; give a row for each of {len(scores)} samples")
    candidates = ranked[: CANDIDATES * count]
    return candidates[_k_center(points[candidates], count)]


def substitute_threshold(score: npt.ArrayLike, semi_y: npt.ArrayLike) -> float:
    """A threshold for a detector that has none, from the scores of labeled samples.

    With known normal samples and known anomalies, it is midway between the medians of their scores. With known
    anomalies only, it is the median of their scores. Without known anomalies, it is the 95 % quantile of all scores.

    >>> substitute_threshold([0.0, 1.0, 2.0, 10.0, 12.0], [1, 1, 0, -1, -1])
    5.75

    Args:
        score: anomaly score of each sample, shape (N,); scores that are not finite are ignored.
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).

    Raises:
        ValueError: if no score is finite.
    """
    scores, marks = np.asarray(score, np.float64), np.asarray(semi_y)
    finite = np.isfinite(scores)
    if not finite.any():
        raise ValueError("no score is finite")
    normal, anomaly = (scores[finite & (marks == mark)] for mark in (1, -1))
    if not len(anomaly):
        return float(np.quantile(scores[finite], 0.95))
    if not len(normal):
        return float(np.median(anomaly))
    return float((np.median(normal) + np.median(anomaly)) / 2)


def _k_center(points: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Positions of the first point and, repeatedly, the point farthest from those before, shape (min(count, M),)."""
    chosen: list[int] = []
    distance = np.full(len(points), np.inf)
    for _ in range(min(count, len(points))):
        last = int(np.argmax(distance))
        chosen.append(last)
        distance = np.minimum(distance, ((points - points[last]) ** 2).sum(1))
        distance[last] = -1
    return np.array(chosen, np.int64)
