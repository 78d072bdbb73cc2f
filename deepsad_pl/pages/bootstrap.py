"""Bootstrap intervals of the metrics of a test set: vectorized, seeded, and bounded in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.metrics import RANKING

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Interval = tuple[float, float]

LEVEL = 0.95
# The largest and the smallest number of resamples; in between, as many as draw about _DRAWS samples in all.
_MOST, _LEAST, _DRAWS = 1000, 200, 4_000_000
# The most resamples times distinct scores in memory at once.
_AT_ONCE = 50_000


@dataclass(frozen=True)
class Intervals:
    """Intervals of the metrics of a test set.

    Attributes:
        resamples: number of resamples.
        metrics: lower and upper end by name of the metric.
        classes: likewise for the AUROC of each anomaly class, by its label.
    """

    resamples: int
    metrics: Mapping[str, Interval]
    classes: Mapping[int, Interval]


def bootstrap_intervals(
    score: npt.ArrayLike, y: npt.ArrayLike, label: npt.ArrayLike, known: npt.ArrayLike, *, seed: int = 0
) -> Intervals:
    """Percentile intervals of 95 % for all metrics of a test set, from resamples that are stratified by class.

    A resample draws from each class, with replacement, as many samples as the class has. So the intervals show how much
    the metrics depend on the test samples; they say nothing about other seeds or training sets.

    Args:
        score: anomaly scores, shape (n,), finite.
        y: 0 normal, 1 anomaly, shape (n,); both must occur.
        label: class of each sample, an integer, shape (n,); no class may have both normal samples and anomalies.
        known: whether the class of each anomaly is known in training, shape (n,); ignored for normal samples.
        seed: seed of the resamples.

    Returns:
        Intervals of :data:`~deepsad_pl.common.records.METRICS`; ``auroc_known`` and ``auroc_novel`` only if the test
        set has both kinds of anomalies.
    """
    truth, classes, are_known = np.asarray(y), np.asarray(label), np.asarray(known, bool)
    values, group = np.unique(np.asarray(score, np.float64), return_inverse=True)
    of_class = {int(one): np.flatnonzero(classes == one) for one in np.unique(classes)}
    normal = [group[rows] for rows in of_class.values() if truth[rows[0]] == 0]
    anomalous = {one: group[rows] for one, rows in of_class.items() if truth[rows[0]] == 1}
    resamples = int(np.clip(_DRAWS // len(group), _LEAST, _MOST))
    step = max(1, _AT_ONCE // len(group))
    generator = np.random.default_rng(seed)
    parts = []
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        parts.append(_resampled(generator, count, len(values), normal, list(anomalous.values())))
    each = np.concatenate([aurocs for _, aurocs in parts], axis=1)
    found = {name: np.concatenate([metrics[name] for metrics, _ in parts]) for name in RANKING}
    sizes = np.array([len(rows) for rows in anomalous.values()])
    of_known = np.array([are_known[of_class[one][0]] for one in anomalous])
    if of_known.any() and not of_known.all():
        for name, chosen in (("auroc_known", of_known), ("auroc_novel", ~of_known)):
            found[name] = np.average(each[chosen], axis=0, weights=sizes[chosen])
    return Intervals(
        resamples,
        {name: _interval(drawn) for name, drawn in found.items()},
        {one: _interval(drawn) for one, drawn in zip(anomalous, each, strict=True)},
    )


def _interval(drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled(
    generator: np.random.Generator, count: int, scores: int, normal: Sequence[Integers], anomalous: Sequence[Integers]
) -> tuple[dict[str, Floats], Floats]:
    """Metrics of resamples.

    Args:
        generator: draws the resamples.
        count: number of resamples, below B.
        scores: number of distinct scores.
        normal: for each class of normal samples, the rank of each sample's score among the distinct ones.
        anomalous: likewise for each class of anomalies, below K.

    Returns:
        :data:`~deepsad_pl.common.metrics.RANKING`, each of shape (B,), and the AUROC of each class, shape (K, B).
    """
    normals = np.zeros((count, scores))
    for ranks in normal:
        normals += _counted(_drawn(generator, count, ranks), scores)
    # Twice the number of normal samples that an anomaly of each score is ranked above; a tie counts half.
    twice = 2 * np.cumsum(normals, axis=1) - normals
    anomalies, right = np.zeros((count, scores)), []
    for ranks in anomalous:
        drawn = _drawn(generator, count, ranks)
        anomalies += _counted(drawn, scores)
        right.append(np.take_along_axis(twice, drawn, axis=1).sum(axis=1) / 2)
    sizes = np.array([len(ranks) for ranks in anomalous])
    in_order, of_normal = np.stack(right), sum(map(len, normal))
    found = _at_thresholds(normals, anomalies)
    found["auroc"] = in_order.sum(axis=0) / (of_normal * sizes.sum())
    return found, in_order / (of_normal * sizes[:, None])


def _drawn(generator: np.random.Generator, count: int, ranks: Integers) -> Integers:
    drawn: Integers = ranks[generator.integers(len(ranks), size=(count, len(ranks)))]
    return drawn


def _counted(drawn: Integers, scores: int) -> Floats:
    """How often each score was drawn: (B, m) ranks to (B, scores) counts."""
    rows = np.arange(len(drawn))[:, None] * scores
    counts = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * scores)
    return counts.reshape(len(drawn), scores).astype(np.float64)


def _at_thresholds(normals: Floats, anomalies: Floats) -> dict[str, Floats]:
    """The metrics that depend on thresholds, as :func:`~deepsad_pl.common.metrics.ranking_metrics` defines them.

    Args:
        normals: number of normal samples with each score, ascending, shape (B, scores).
        anomalies: likewise for anomalies.
    """
    first = np.zeros((len(normals), 1))
    false = np.concatenate([first, np.cumsum(normals[:, ::-1], axis=1)], axis=1)
    true = np.concatenate([first, np.cumsum(anomalies[:, ::-1], axis=1)], axis=1)
    of_normal, of_anomalous = false[0, -1], true[0, -1]
    flagged = np.maximum(false[:, 1:] + true[:, 1:], 1)
    more_true = anomalies[:, ::-1]
    found = {"average_precision": (more_true * true[:, 1:] / flagged).sum(axis=1) / of_anomalous}
    for name, rate in (("recall_fpr_1", 0.01), ("recall_fpr_5", 0.05)):
        # The tolerance is far below one sample.
        within = (false <= rate * of_normal + 1e-6).sum(axis=1) - 1
        found[name] = true[np.arange(len(true)), within] / of_anomalous
    rate = 0.1
    width = np.diff(np.minimum(false, rate * of_normal), axis=1)
    whole = np.maximum(normals[:, ::-1], 1)
    area = (width * (true[:, :-1] + more_true * width / whole / 2)).sum(axis=1) / (of_normal * of_anomalous)
    least = rate * rate / 2
    found["auroc_fpr_10"] = (1 + (area - least) / (rate - least)) / 2
    return found
