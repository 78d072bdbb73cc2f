"""Which samples to label next: pure functions of the scores, and of the representation for a spread choice."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Strategy = Literal["anomalous", "uncertain", "diverse", "random"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

# A spread choice is made among this many times the wanted number of samples, so that none of them is a dull one.
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
    """Choose the samples whose labels would help most, in the order in which to look at them.

    ``anomalous`` takes the highest scores. ``uncertain`` takes the scores nearest to the threshold. ``diverse`` takes
    the ten times ``count`` highest scores, begins with the highest, and then takes again and again the sample that is
    farthest from those already chosen: the k-center greedy method of Gonzalez (Theoretical Computer Science 38, 1985),
    used for labels by Sener and Savarese (ICLR 2018, https://arxiv.org/abs/1708.00489). ``random`` draws evenly.
    Samples without a finite score are never chosen. Equal scores are taken in the order of the samples.

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
        count: number of samples to choose, from 1 on.
        threshold: score from which a sample counts as an anomaly; needed by ``uncertain`` alone.
        features: where each sample lies, shape (N, D); needed by ``diverse`` alone. Distances are Euclidean.
        seed: seed of ``random``; the other strategies draw nothing.
        labeled: whether each sample has a label already, shape (N,); such a sample is never chosen.

    Returns:
        Positions of the chosen samples, shape (min(count, number of samples that can be chosen),).

    Raises:
        ValueError: if an argument that the strategy needs is missing, or one is out of its range.
    """
    scores = np.asarray(score, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"score has the shape {scores.shape}; give one number for each sample")
    if by not in STRATEGIES:
        raise ValueError(f"by is {by!r}; choose {', '.join(STRATEGIES)}")
    if count < 1:
        raise ValueError(f"count is {count}; give a number from 1 on")
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
    """The threshold that stands in where a detector has none: the score that parts the labeled samples best.

    With known normal samples and known anomalies, it lies midway between their medians. With known anomalies alone, it
    is the median of their scores; without any, the score that the highest twentieth of the samples exceeds.

    >>> substitute_threshold([0.0, 1.0, 2.0, 10.0, 12.0], [1, 1, 0, -1, -1])
    5.75

    Args:
        score: anomaly score of each sample, shape (N,); those that are not finite are left out.
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
    """Positions of the first point and of those that are farthest from the ones before, shape (min(count, M),)."""
    chosen: list[int] = []
    distance = np.full(len(points), np.inf)
    for _ in range(min(count, len(points))):
        last = int(np.argmax(distance))
        chosen.append(last)
        distance = np.minimum(distance, ((points - points[last]) ** 2).sum(1))
        distance[last] = -1
    return np.array(chosen, np.int64)
