"""Gradient-boosted trees of scikit-learn, as plain arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from deepsad_pl.shallow.kernels import FloatArray, Rows
from deepsad_pl.shallow.models import Arrays
from deepsad_pl.shallow.tree_nodes import IntArray, TreeNodes, demand


class BoostedTrees:
    r"""Boosted trees, :math:`s(x) = b + \sum_t v_t(x)` with the value v of the leaf of x in each tree.

    Each quantity is one array over the nodes of all trees, tree after tree; see
    :class:`~deepsad_pl.shallow.tree_nodes.TreeNodes`.

    Args:
        children_left: shape (N,) for N nodes of all trees.
        children_right: shape (N,).
        feature: the column that a node splits on, shape (N,); any value at a leaf.
        threshold: rows with x <= threshold go left, in double precision; shape (N,).
        value: of a leaf, in log odds, shape (N,), finite.
        tree_start: index of the first node of each tree, and N at the end; shape (trees + 1,).
        baseline: b, the log odds of the training labels.
        width: D, the number of columns.

    Attributes:
        nodes: the trees.
        value: as passed.
        baseline: as passed.
        width: as passed.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    def __init__(
        self,
        children_left: IntArray,
        children_right: IntArray,
        feature: IntArray,
        threshold: FloatArray,
        value: FloatArray,
        tree_start: IntArray,
        baseline: Any,
        width: Any,
    ) -> None:
        self.value, self.baseline, self.width = value, float(baseline), int(width)
        demand(value.shape == threshold.shape and value.dtype == np.float64, "one float64 value per node")
        demand(bool(np.isfinite(value).all()) and bool(np.isfinite(self.baseline)), "finite values")
        self._arrays: Arrays = {
            "children_left": children_left,
            "children_right": children_right,
            "feature": feature,
            "threshold": threshold,
            "tree_start": tree_start,
        }
        self.nodes = TreeNodes(**self._arrays, width=self.width, single=False)

    def arrays(self) -> Arrays:
        """The arguments of the constructor, by name."""
        scalars = {"baseline": np.asarray(self.baseline), "width": np.asarray(self.width)}
        return {**self._arrays, "value": self.value, **scalars}

    def score(self, x: Rows) -> FloatArray:
        """The log odds of the positive class, shape (t,).

        Args:
            x: shape (t, D), finite.
        """
        score = np.empty(len(x))
        for rows, leaf in self.nodes.leaves(x):
            score[rows] = self.baseline + self.value[leaf].sum(axis=1)
        return score


def fit_boosting(
    x: Rows, is_positive: npt.NDArray[np.bool_], *, seed: int, rounds: int, depth: int, learning_rate: float
) -> BoostedTrees:
    """Boost trees for the logistic loss, on one thread, since sums of several threads depend on their number.

    Args:
        x: shape (n, D), finite.
        is_positive: the labels, shape (n,), of both kinds.
        seed: seed of the rows from which bins are made, if there are more than 200,000.
        rounds: number of trees, >= 1.
        depth: of each tree, >= 1.
        learning_rate: factor of each tree's values, > 0.
    """
    return _to_trees(_boosted(x, is_positive, seed=seed, rounds=rounds, depth=depth, learning_rate=learning_rate))


def _boosted(
    x: Rows, is_positive: npt.NDArray[np.bool_], *, seed: int, rounds: int, depth: int, learning_rate: float
) -> HistGradientBoostingClassifier:
    booster = HistGradientBoostingClassifier(
        max_iter=rounds,
        max_depth=depth,
        learning_rate=learning_rate,
        max_leaf_nodes=None,
        # A single labeled anomaly may be alone in a leaf.
        min_samples_leaf=1,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1, "openmp"):
        return booster.fit(x, is_positive)


def _to_trees(booster: HistGradientBoostingClassifier) -> BoostedTrees:
    # scikit-learn has no public access to these trees; the tests compare scores with its own.
    grown = [predictors[0].nodes for predictors in booster._predictors]
    nodes = np.concatenate(grown)
    leaf = nodes["is_leaf"].astype(bool)
    return BoostedTrees(
        children_left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        children_right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        feature=np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
        threshold=nodes["num_threshold"].astype(np.float64),
        value=nodes["value"].astype(np.float64),
        tree_start=np.cumsum([0, *map(len, grown)]).astype(np.int64),
        baseline=np.asarray(booster._baseline_prediction).item(),
        width=booster.n_features_in_,
    )
