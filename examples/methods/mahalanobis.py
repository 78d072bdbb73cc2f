"""A shallow method: the squared Mahalanobis distance to the mean of all rows that are not known anomalies."""

import numpy as np

from deepsad_pl.common.ranges import Share
from deepsad_pl.shallow.kernels import FloatArray, Rows
from deepsad_pl.shallow.models import Arrays, Model
from deepsad_pl.shallow.task import Fitted, Task


class MahalanobisModel(Model):
    """The fitted distance: mean of shape (D,), precision of shape (D, D)."""

    kind = "mahalanobis"

    def __init__(self, mean: FloatArray, precision: FloatArray) -> None:
        self.mean, self.precision, self.width = mean, precision, len(mean)

    def arrays(self) -> Arrays:
        return {"mean": self.mean, "precision": self.precision}

    def _score(self, x: Rows) -> FloatArray:
        centered = x - self.mean
        return np.einsum("nd,de,ne->n", centered, self.precision, centered)


def fit_mahalanobis(task: Task, *, shrinkage: Share) -> Fitted:
    """Fit the mean, and a covariance that is shrunk towards a multiple of the identity.

    Args:
        task: rows of shape (n, D) with their semi-labels.
        shrinkage: weight of the identity, in (0, 1).
    """
    x = task.x[task.semi_y != -1].astype(np.float64)
    covariance = np.cov(x, rowvar=False)
    scale = np.trace(covariance) / len(covariance)
    mixed = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(len(covariance))
    return Fitted(MahalanobisModel(x.mean(axis=0), np.linalg.inv(mixed)), {"shrinkage": shrinkage})
