r"""Nearest neighbors: anomalies are far from the training data, or nearer to known anomalies than to the rest.

Objective. Nothing is trained. Let :math:`d_k(x, S)` be the Euclidean distance from x to the k-th nearest row of S, let
A be the known anomalies among the training rows, and U all other training rows. The scores are

.. math::

    s_{\mathrm{knn}}(x) = d_k(x, U), \qquad
    s_{\mathrm{ratio}}(x) = \frac{d_k(x, U)}{d_k(x, U) + d_1(x, A)}.

The ratio lies in [0, 1]; it is 1 at a known anomaly, and .5 where both distances are equal (also if both are 0).

Source: S. Ramaswamy, R. Rastogi, K. Shim: Efficient algorithms for mining outliers from large data sets, SIGMOD 2000,
for :math:`d_k`. The ratio is a very simple use of labeled anomalies: a method that learns from labels should be better.

Knobs:
    ``neighbors``: k = 5, fixed beforehand. A larger k is less sensitive to pollution, since an anomaly is hidden only
    if k polluting rows are near it.

What differs from common practice, and why:
    All distances are computed, by matrix products in double precision and in blocks of bounded memory, so the result
    is exact. A tree search is slower with more than about twenty columns.
    A row that is itself in U has itself as its nearest neighbor, so scores of training rows are smaller than those of
    new rows; a threshold from them (``threshold=quantile``) has a higher false-alarm rate than its alpha.

``knn_raw`` and ``knn_hybrid`` ignore semi-labels, so the caller must leave out labeled anomalies. ``knn_ratio_raw`` and
``knn_ratio_hybrid`` need labeled anomalies.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deepsad_pl.common.counting import are, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import AtLeast1
from deepsad_pl.shallow.kernels import FloatArray, Rows, squared_distances
from deepsad_pl.shallow.models import Arrays, Model, tiles
from deepsad_pl.shallow.selection import IntArray
from deepsad_pl.shallow.task import Fitted, Task


def check_rows(semi_y: IntArray, *, neighbors: int) -> None:
    """Check that at least ``neighbors`` training rows are not known anomalies.

    Raises:
        DeepSADError: if there are fewer.
    """
    found = int((semi_y != -1).sum())
    if found < neighbors:
        raise DeepSADError(
            f"method.neighbors is {neighbors}, but there {are(found)} {counted(found, 'training row')} besides labeled "
            "anomalies; use at most as many neighbors"
        )


def fit_knn(task: Task, *, neighbors: AtLeast1) -> Fitted:
    """Fit nearest neighbors by storing the training rows; see the module docstring.

    Args:
        task: training data and resources; semi-labels are ignored.
        neighbors: k, >= 1 and at most the number of training rows.

    Raises:
        DeepSADError: if there are fewer rows than neighbors.
    """
    check_rows(np.zeros(len(task.x), np.int64), neighbors=neighbors)
    task.advance(1.0)
    return Fitted(NeighborModel(task.x, neighbors), _nothing_selected(neighbors))


def fit_knn_ratio(task: Task, *, neighbors: AtLeast1) -> Fitted:
    """Fit the ratio by storing known anomalies and other training rows; see the module docstring.

    Args:
        task: training data and resources, with at least one known anomaly.
        neighbors: k, >= 1 and at most the number of training rows that are not known anomalies.

    Raises:
        DeepSADError: if there are fewer such rows, or no known anomaly.
    """
    check_rows(task.semi_y, neighbors=neighbors)
    known = task.semi_y == -1
    if not known.any():
        raise DeepSADError("knn_ratio compares with known anomalies, but none is labeled; label some, or use knn_raw")
    task.advance(1.0)
    return Fitted(NeighborModel(task.x[~known], neighbors, task.x[known]), _nothing_selected(neighbors))


def _nothing_selected(neighbors: int) -> dict[str, Any]:
    return {"protocol": "none", "neighbors": neighbors}


class NeighborModel(Model):
    """Distance to the k-th nearest row, or its ratio to the distance to the nearest known anomaly.

    Args:
        rows: the training rows that are not known anomalies, shape (n, D).
        neighbors: k, in [1, n].
        anomalies: the known anomalies, shape (m, D) with m >= 1; None: the score is the distance itself.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    def __init__(
        self,
        rows: npt.NDArray[np.float32],
        neighbors: Any,
        anomalies: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.rows, self.neighbors, self.anomalies = rows, int(neighbors), anomalies
        for part in (rows, rows if anomalies is None else anomalies):
            if part.ndim != 2 or part.dtype != np.float32 or not len(part) or part.shape[1] != rows.shape[1]:
                raise ValueError("a model of neighbors needs float32 rows of shape (n, D), at least one of each kind")
        if not 1 <= self.neighbors <= len(rows):
            raise ValueError(f"a model of neighbors needs 1 to {len(rows)} of them, not {self.neighbors}")
        self.width = rows.shape[1]

    def arrays(self) -> Arrays:
        """Rows, number of neighbors and, for a ratio, the known anomalies."""
        found: Arrays = {"rows": self.rows, "neighbors": np.asarray(self.neighbors)}
        return found if self.anomalies is None else found | {"anomalies": self.anomalies}

    def _score(self, x: Rows) -> FloatArray:
        distance = _kth_distances(x, self.rows, self.neighbors)
        if self.anomalies is None:
            return distance
        total = distance + _kth_distances(x, self.anomalies, 1)
        ratio: FloatArray = np.divide(distance, total, out=np.full(len(x), 0.5), where=total > 0)
        return ratio


def _kth_distances(x: Rows, rows: Rows, k: int) -> FloatArray:
    """The distance from each row of x to the k-th nearest of ``rows``, in blocks of bounded memory."""
    result, nearest = np.empty(len(x)), torch.empty(0, 0, dtype=torch.float64)
    for queries, part in tiles(len(x), len(rows), x.shape[1]):
        found = torch.from_numpy(squared_distances(x[queries], rows[part]))
        if part.start > 0:
            found = torch.cat([nearest, found], dim=1)
        nearest = found.topk(min(k, found.shape[1]), dim=1, largest=False).values
        if part.stop == len(rows):
            result[queries] = nearest.amax(dim=1).sqrt().numpy()
    return result
