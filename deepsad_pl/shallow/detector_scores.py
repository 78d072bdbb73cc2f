r"""Scores of 26 unsupervised detectors, which XGBOD adds to the columns of a row.

All are fitted to all training rows, without their labels:

- the distance to the k-th nearest other training row, for k = 1, 3, 5, 10, 20, 30, 40, 50 (those below the number of
  rows);
- a one-class SVM with a Gaussian kernel of the default scale, for nu = .01, .1, .2, ..., .9, .99;
- an isolation forest, of which the first 10, 20, 50, 70, 100, 150 and all 200 trees are used.

These are the settings of PyOD's XGBOD for the detectors that this package has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from deepsad_pl.shallow.iforest import grow_forest
from deepsad_pl.shallow.kernel_grid import MAX_PRECOMPUTED_ROWS, Point, default_gamma, solve_grid
from deepsad_pl.shallow.kernels import FloatArray, Rows, gaussian_kernel, squared_distances
from deepsad_pl.shallow.models import Arrays, ForestModel, average_path_length, tiles
from deepsad_pl.shallow.ocsvm import OCSVM
from deepsad_pl.shallow.selection import IntArray, generator
from deepsad_pl.shallow.task import Task
from deepsad_pl.shallow.tree_nodes import demand

Matrix = npt.NDArray[np.float32]

NEIGHBORS = (1, 3, 5, 10, 20, 30, 40, 50)
NUS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
TREES = (10, 20, 50, 70, 100, 150, 200)

# A squared distance this small, relative to the squared norms, is rounding error of equal rows.
EQUAL = 1e-12


class DetectorScores:
    """The detectors, fitted; see the module docstring.

    Args:
        rows: the training rows, float32, shape (n, D).
        neighbors: values of k, ascending, in [1, n - 1].
        coef: weights of the training rows in each one-class SVM, float64, shape (SVMs, n).
        offset: rho of each one-class SVM, float64, shape (SVMs,).
        gamma: scale of their kernel, > 0.
        trees: numbers of trees whose mean depth is used, ascending, the last one is that of all trees.
        forest: the isolation forest.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    def __init__(
        self,
        rows: Matrix,
        neighbors: IntArray,
        coef: FloatArray,
        offset: FloatArray,
        gamma: Any,
        trees: IntArray,
        forest: ForestModel,
    ) -> None:
        self.rows, self.neighbors, self.coef, self.offset = rows, neighbors, coef, offset
        self.gamma, self.trees, self.forest = float(gamma), trees, forest
        demand(rows.ndim == 2 and rows.dtype == np.float32 and len(rows) > 1, "two float32 rows or more")
        demand(neighbors.ndim == trees.ndim == 1 and len(neighbors) > 0 and len(trees) > 0, "lists of numbers")
        demand(neighbors[0] >= 1 and neighbors[-1] < len(rows) and bool((np.diff(neighbors) > 0).all()), "ascending k")
        demand(coef.shape == (len(offset), len(rows)) and coef.dtype == np.float64, "a float64 coef of each row")
        demand(bool(np.isfinite(coef).all() and np.isfinite(offset).all()) and self.gamma > 0, "finite coef")
        demand(trees[0] >= 1 and bool((np.diff(trees) > 0).all()), "ascending numbers of trees")
        demand(trees[-1] == len(forest.nodes.roots) and forest.width == rows.shape[1], "a forest of these rows")

    def __len__(self) -> int:
        """The number of detectors."""
        return len(self.neighbors) + len(self.offset) + len(self.trees)

    def arrays(self) -> Arrays:
        """The arguments of the constructor, by name; those of the forest with the prefix ``forest_``."""
        own: Arrays = {"rows": self.rows, "neighbors": self.neighbors, "coef": self.coef, "offset": self.offset}
        forest = {f"forest_{name}": array for name, array in self.forest.arrays().items()}
        return {**own, "gamma": np.asarray(self.gamma), "trees": self.trees, **forest}

    def of_training_rows(self) -> Matrix:
        """The scores of the training rows, which are not their own neighbors, shape (n, detectors)."""
        return self._scores(self.rows, own=True)

    def of(self, x: Rows) -> Matrix:
        """The scores of new rows, shape (t, detectors).

        Args:
            x: shape (t, D), finite.
        """
        return self._scores(x, own=False)

    def _scores(self, x: Rows, own: bool) -> Matrix:
        distance, support = self._distances_and_support(x, own)
        # In single precision, rounding errors of sums, which depend on the number of threads, do not show.
        return np.hstack([distance, support, self._isolation(x)]).astype(np.float32)

    def _distances_and_support(self, x: Rows, own: bool) -> tuple[FloatArray, FloatArray]:
        largest = int(self.neighbors[-1])
        distance, support = np.empty((len(x), len(self.neighbors))), np.tile(self.offset, (len(x), 1))
        nearest = torch.empty(0, 0, dtype=torch.float64)
        norms, new_norms = _squared_norms(self.rows), _squared_norms(x)
        for queries, part in tiles(len(x), len(self.rows), x.shape[1]):
            distance2 = squared_distances(x[queries], self.rows[part])
            distance2[distance2 <= EQUAL * (new_norms[queries, None] + norms[part])] = 0
            support[queries] -= gaussian_kernel(distance2, self.gamma) @ self.coef[:, part].T
            if own:
                same = np.arange(max(queries.start, part.start), min(queries.stop, part.stop))
                distance2[same - queries.start, same - part.start] = np.inf
            found = torch.from_numpy(distance2)
            if part.start > 0:
                found = torch.cat([nearest, found], dim=1)
            nearest = found.topk(min(largest, found.shape[1]), dim=1, largest=False).values
            if part.stop == len(self.rows):
                distance[queries] = nearest[:, self.neighbors - 1].sqrt().numpy()
        return distance, support

    def _isolation(self, x: Rows) -> FloatArray:
        score = np.empty((len(x), len(self.trees)))
        normalizer = average_path_length(np.array([self.forest.psi]))
        for rows, leaf in self.forest.nodes.leaves(x):
            total = self.forest.path[leaf].cumsum(axis=1)[:, self.trees - 1]
            score[rows] = 2.0 ** (-total / self.trees / normalizer)
        return score


def fit_detectors(task: Task, stream: int, *, share: float) -> DetectorScores:
    """Fit all detectors to the training rows.

    With more than 10,000 rows, the one-class SVMs are fitted to 10,000 of them, since time and memory are quadratic.

    Args:
        task: training data and resources, two rows or more; semi-labels are ignored.
        stream: the random stream of the forest and of the rows drawn.
        share: the finished share of the work when all are fitted, in [0, 1].
    """
    x, rng = task.x, generator(task.seed, stream)
    forest = grow_forest(x, trees=TREES[-1], subsample=256, seed=int(rng.integers(2**32)), threads=task.threads)
    drawn = np.arange(len(x))
    if len(x) > MAX_PRECOMPUTED_ROWS:
        drawn = np.sort(rng.choice(len(x), MAX_PRECOMPUTED_ROWS, replace=False))
    gamma, solved = default_gamma(x), [0]

    def one_more() -> None:
        solved[0] += 1
        task.advance(share * solved[0] / len(NUS))

    points = [Point(gamma, nu) for nu in NUS]
    machines = solve_grid(task, OCSVM(), x[drawn], np.zeros(len(drawn), np.int64), points, one_more)
    coef = np.zeros((len(NUS), len(x)))
    for row, machine in zip(coef, machines, strict=True):
        row[drawn[machine.support]] = machine.coef
    return DetectorScores(
        rows=x,
        neighbors=_below(NEIGHBORS, len(x)),
        coef=coef,
        offset=np.array([machine.offset for machine in machines]),
        gamma=gamma,
        trees=np.array(TREES),
        forest=forest,
    )


def _below(values: Sequence[int], limit: int) -> IntArray:
    return np.array([value for value in values if value < limit], dtype=np.int64)


def _squared_norms(x: Rows) -> FloatArray:
    norms: FloatArray = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    return norms
