"""How many training rows of each kind a scenario asks for, in closed form and exact arithmetic."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Counts:
    """The number of training rows of each kind; ``total`` is the paper's n + m.

    Attributes:
        labeled_anomalies: rows labeled as anomalies, rightly or wrongly.
        labeled_normals: rows labeled as normal, rightly or wrongly.
        unlabeled_normals: normal rows without a label.
        pollution: anomalies without a label.
        wrong_anomalies: how many of ``labeled_anomalies`` are in truth normal.
        wrong_normals: how many of ``labeled_normals`` are in truth anomalies.
        exposure: images of a second data set, which are known anomalies as well.
    """

    labeled_anomalies: int
    labeled_normals: int
    unlabeled_normals: int
    pollution: int
    wrong_anomalies: int = 0
    wrong_normals: int = 0
    exposure: int = 0

    @property
    def known_anomalies(self) -> int:
        """The number of all samples that a method sees as known anomalies."""
        return self.labeled_anomalies + self.exposure

    @property
    def unlabeled(self) -> int:
        """The paper's n."""
        return self.unlabeled_normals + self.pollution

    @property
    def total(self) -> int:
        """T, the number of all training rows."""
        return self.unlabeled + self.known_anomalies + self.labeled_normals

    def as_dict(self) -> dict[str, int]:
        """The numbers by name; those of wrong labels and of exposure only if there are any."""
        others = {
            "wrong_anomalies": self.wrong_anomalies,
            "wrong_normals": self.wrong_normals,
            "exposure": self.exposure,
        }
        return {
            "labeled_anomalies": self.labeled_anomalies,
            "labeled_normals": self.labeled_normals,
            "unlabeled_normals": self.unlabeled_normals,
            "pollution": self.pollution,
            **{name: number for name, number in others.items() if number},
        }


def counts_of_rows(semi_y: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> Counts:
    """Count the rows of each kind.

    Args:
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).
        y: ground truth: 0 normal, 1 anomaly, shape (N,).
    """
    kinds = [(-1, (0, 1)), (1, (0, 1)), (0, (0,)), (0, (1,)), (-1, (0,)), (1, (1,))]
    return Counts(*(int(((semi_y == label) & np.isin(y, truth)).sum()) for label, truth in kinds))


def count_rows(
    normals: int,
    gamma_l: float,
    gamma_p: float,
    gamma_n: float,
    *,
    labels: int | None = None,
    gamma_e: float = 0.0,
    gamma_en: float = 0.0,
    anomalies: int | None = None,
) -> Counts:
    """Compute the number of training rows of each kind if all training normals are used.

    Of all T rows, gamma_l T are labeled as anomalies, gamma_n T as normal and gamma_p (1 - gamma_l - gamma_n) T are
    pollution, each rounded down; a share gamma_e of the first and gamma_en of the second are wrong, rounded down as
    well. The rest are the training normals, so that

        T (1 - (1 - gamma_e) gamma_l - gamma_en gamma_n - gamma_p (1 - gamma_l - gamma_n)) = normals.

    With ``labels``, that many rows are labeled as anomalies in place of gamma_l T, and floor(gamma_e labels) of them
    are wrong. With ``anomalies``, all of these are training rows, so that T is simply the sum of both. The arithmetic
    is exact (rational), so that .05 of 6000 is 300 and not 299.

    Args:
        normals: number of training rows of the normal classes.
        gamma_l: ratio of labeled anomalies to all training rows; without effect if ``labels`` is set.
        gamma_p: ratio of pollution to unlabeled training rows; without effect if ``anomalies`` is set.
        gamma_n: ratio of labeled normals to all training rows.
        labels: number of labeled anomalies; None: by gamma_l.
        gamma_e: share of the labeled anomalies that are in truth normal.
        gamma_en: share of the labeled normals that are in truth anomalies.
        anomalies: number of anomalies in the data, all of which stay in the training set; None: as many as needed.

    Returns:
        The counts; ``unlabeled_normals`` is negative if ``labels`` and gamma_n ask for more normals than there are.
    """
    l, p, n, e, en = (Fraction(repr(float(g))) for g in (gamma_l, gamma_p, gamma_n, gamma_e, gamma_en))  # noqa: E741
    if anomalies is not None:
        total = Fraction(normals + anomalies)
    elif labels is None:
        total = normals / (1 - (1 - e) * l - en * n - p * (1 - l - n))
    else:
        total = (normals + labels - floor(e * labels) - p * labels) / (1 - en * n - p * (1 - n))
    labeled = l * total if labels is None else Fraction(labels)
    wrong_anomalies, wrong_normals = floor(e * labeled), floor(en * n * total)
    labeled_normals = floor(n * total)
    if anomalies is None:
        pollution = floor(p * (total - labeled - n * total))
    else:
        pollution = anomalies - (floor(labeled) - wrong_anomalies) - wrong_normals
    return Counts(
        labeled_anomalies=floor(labeled),
        labeled_normals=labeled_normals,
        unlabeled_normals=normals - (labeled_normals - wrong_normals) - wrong_anomalies,
        pollution=max(0, pollution),
        wrong_anomalies=wrong_anomalies,
        wrong_normals=wrong_normals,
    )
