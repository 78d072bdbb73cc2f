"""Set the threshold of anomaly scores by the scores of calibration samples. Does not import torch.

A sample is an anomaly if its score is above the threshold, not if it equals the threshold.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import are, counted
from deepsad_pl.common.errors import DeepSADError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """How the threshold of an experiment is set.

    Attributes:
        kind: ``none``, ``conformal``, ``quantile`` or ``labeled``.
        share: share of the samples that are kept out of training for calibration, in (0, 1); None: none are.
        alpha: wanted false-alarm rate of ``conformal`` and ``quantile``, in (0, 1).
        fpr: wanted false-positive rate of ``labeled``, in (0, 1); None: use the threshold with the best F1.
    """

    kind: str = "none"
    share: float | None = None
    alpha: float | None = None
    fpr: float | None = None

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Threshold":
        """The threshold that the settings of the group ``threshold`` describe."""
        return cls(**{"kind" if key == "name" else key: value for key, value in settings.items()})

    def __bool__(self) -> bool:
        """Whether there is a threshold at all."""
        return self.kind != "none"

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that affect the training: all but alpha and fpr."""
        return {"kind": self.kind} | ({} if self.share is None else {"share": self.share})

    @property
    def described(self) -> dict[str, Any]:
        """The settings as they are written into a record."""
        level = {"fpr": self.fpr} if self.kind == "labeled" else {"alpha": self.alpha}
        return self.identity | level

    def value(self, score: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """The score above which a sample is an anomaly.

        Args:
            score: finite scores of the calibration samples, shape (n,).
            y: their semi-labels: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).

        Raises:
            DeepSADError: if there are too few samples for ``alpha``.
            ValueError: if a score is not finite.
        """
        if self.kind == "labeled":
            if self.fpr is None:
                return best_f1_threshold(score, y)
            return quantile_threshold(_finite(score)[np.asarray(y) == 1], self.fpr)
        assert self.alpha is not None
        return (conformal_threshold if self.kind == "conformal" else quantile_threshold)(score, self.alpha)


def p_values(calibration: npt.ArrayLike, score: npt.ArrayLike) -> Floats:
    r"""Split-conformal p-values of scores: how unusual each would be for a sample like the calibration samples.

    .. math:: p(s) = \frac{1 + \#\{i: c_i \ge s\}}{n + 1}

    If a new normal sample and the calibration samples are exchangeable (drawn in the same way, and not used in
    training), the probability that its p-value is at most alpha is at most alpha, for every alpha, method and
    distribution. This holds on average over draws of the calibration samples, not for each single draw. See Vovk,
    Gammerman and Shafer, "Algorithmic learning in a random world" (2005); Laxhammar and Falkman, "Conformal prediction
    for distribution-independent anomaly detection in streaming vessel data" (2010); Bates et al., "Testing for outliers
    with conformal p-values" (2023).

    >>> p_values([0.1, 0.2, 0.3], [0.05, 0.2, 0.9]).tolist()
    [1.0, 0.75, 0.25]

    Args:
        calibration: finite scores of the calibration samples, shape (n,).
        score: scores, any shape; higher is more anomalous.

    Returns:
        In [1 / (n + 1), 1], of the shape of ``score``.

    Raises:
        ValueError: if a score is not finite.
    """
    known = np.sort(_finite(calibration))
    below = np.searchsorted(known, _finite(score), side="left")
    return np.asarray((1 + len(known) - below) / (len(known) + 1), dtype=np.float64)


def smallest_alpha(samples: int) -> float:
    """The smallest alpha that this many calibration samples allow: 1 / (n + 1), rounded up to a few digits.

    >>> smallest_alpha(19), smallest_alpha(12)
    (0.05, 0.077)
    """
    digits = 3 + math.floor(math.log10(samples + 1))
    units: int = 10**digits
    return math.ceil(Fraction(units, samples + 1)) / units


def allows(samples: int, alpha: float) -> bool:
    """Whether n calibration samples can give a p-value of alpha or less, that is, n >= 1 / alpha - 1."""
    return _whole(alpha, samples + 1) >= 1


def require_enough(samples: int, alpha: float) -> None:
    """Raise an error unless there are enough calibration samples for a conformal threshold.

    Args:
        samples: number of calibration samples.
        alpha: wanted false-alarm rate, in (0, 1).

    Raises:
        DeepSADError: if there are too few; the message gives the smallest possible alpha.
    """
    if allows(samples, alpha):
        return
    possible = f"the smallest possible is {smallest_alpha(samples):g}" if samples else "none is possible"
    raise DeepSADError(
        f"threshold.alpha is {alpha:g}, but with {counted(samples, 'calibration sample')} {possible}; raise "
        f"{'threshold.alpha or ' if samples else ''}threshold.share, or choose threshold=quantile or threshold=none"
    )


def conformal_threshold(calibration: npt.ArrayLike, alpha: float) -> float:
    """The threshold above which the p-value is at most alpha: the k-th largest score, k = floor(alpha (n + 1)).

    >>> conformal_threshold([0.1, 0.2, 0.3], 0.5)
    0.2

    Args:
        calibration: see :func:`p_values`.
        alpha: wanted false-alarm rate, in (0, 1).

    Raises:
        DeepSADError: if n < 1 / alpha - 1.
        ValueError: if a score is not finite.
    """
    known = np.sort(_finite(calibration))
    require_enough(len(known), alpha)
    return float(known[-_whole(alpha, len(known) + 1)])


def quantile_threshold(score: npt.ArrayLike, alpha: float) -> float:
    """The 1 - alpha quantile: the lowest score such that at most a share alpha of the scores is above it.

    >>> quantile_threshold([0.1, 0.2, 0.3, 0.4], 0.25)
    0.3

    Args:
        score: finite, shape (n,), n >= 1.
        alpha: share, in (0, 1).

    Raises:
        ValueError: if a score is not finite.
    """
    known = np.sort(_finite(score))
    return float(known[len(known) - 1 - _whole(alpha, len(known))])


def best_f1_threshold(score: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """The threshold with the best F1 for the known anomalies, halfway between two scores; among ties, the highest.

    >>> best_f1_threshold([1, 2, 4, 8], [1, 1, -1, -1])
    3.0

    Args:
        score: finite, shape (n,).
        y: -1 known anomaly, +1 known normal, shape (n,); an anomaly must occur.

    Raises:
        ValueError: if a score is not finite, or there is no anomaly.
    """
    values, anomaly = _finite(score), np.asarray(y) == -1
    if not anomaly.any():
        raise ValueError("F1 needs at least one known anomaly")
    known, group = np.unique(values, return_inverse=True)
    found = np.cumsum(np.bincount(group, weights=anomaly, minlength=len(known))[::-1])[::-1]
    called = np.cumsum(np.bincount(group, minlength=len(known))[::-1])[::-1]
    # F1 if known[i] and all above it are called anomalies: 2 TP / (called + anomalies). All these numbers are integers.
    f1 = 2 * found / (called + anomaly.sum())
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    if best == 0:
        return float(np.nextafter(known[0], -np.inf))
    below, above = float(known[best - 1]), float(known[best])
    middle = below / 2 + above / 2
    return middle if below <= middle < above else below


def rates(threshold: float, score: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float | None]:
    """The false-alarm rate and the recall of a threshold on samples whose truth is known.

    >>> rates(0.5, [0.1, 0.9, 0.9], [0, 1, -1])
    {'false_alarm_rate': 0.0, 'recall': 1.0}

    Args:
        threshold: score above which a sample is an anomaly.
        score: shape (n,).
        y: 0 normal, 1 anomaly, -1 not known, shape (n,).

    Returns:
        Each rate is None if there is no sample of known truth to compute it from.
    """
    alarm, truth = np.asarray(score, dtype=np.float64) > threshold, np.asarray(y)
    found = (alarm[truth == label] for label in (0, 1))
    false_alarm_rate, recall = (float(part.mean()) if len(part) else None for part in found)
    return {"false_alarm_rate": false_alarm_rate, "recall": recall}


def _whole(share: float, total: int) -> int:
    """A share of a number, rounded down in exact arithmetic, so that .29 of 100 is 29 and not 28."""
    return math.floor(Fraction(repr(float(share))) * total)


def _finite(score: npt.ArrayLike) -> Floats:
    values = np.asarray(score, dtype=np.float64)
    if wrong := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{wrong} of {values.size} anomaly scores {are(wrong)} not finite")
    return values
