r"""Extremely randomized trees: a classifier of known anomalies against all other training rows.

Objective. The label is 1 for known anomalies and 0 for all other rows, also for unlabeled ones. Each of t trees splits
all training rows recursively, until all rows of a node have the same label. At each node, :math:`\lfloor\sqrt
D\rfloor` columns are drawn, and for each a threshold, uniformly between its smallest and largest value in the node; the
split with the lowest Gini impurity is used. The score is the mean over trees of the share of known anomalies among the
training rows in the leaf of x:

.. math::

    s(x) = \frac1t \sum_{b=1}^t \frac{|\{i \in \text{leaf}_b(x) : y_i = 1\}|}{|\text{leaf}_b(x)|} \in [0, 1].

Source: P. Geurts, D. Ernst, L. Wehenkel: Extremely randomized trees, Machine Learning 63(1), 2006. As a baseline for
few labels, classifiers of this kind are in S. Han et al.: ADBench, NeurIPS 2022.

Knobs:
    ``trees``: t = 500, fixed beforehand; more trees only lower the variance of the score and make ties rarer.
    All others are scikit-learn's defaults: the square root of the number of columns at each split, trees grown until
    each leaf is pure, no weights of classes, no bootstrap.
    Scaling a column changes nothing, since a split depends only on the order and the range of its values.

What differs from common practice, and why:
    scikit-learn grows the trees, but they are stored as plain arrays (:class:`TreesModel`) instead of a pickle, so a
    saved model gives the same scores under any release of scikit-learn. Scores equal ``predict_proba`` to 1e-12.
    Rows that share no leaf with a known anomaly in any tree have the score 0, so with a single label most rows do.

The method needs labeled anomalies. Labeled normal rows are treated like unlabeled ones. There are no hyper-parameters
to select.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Trees
from deepsad_pl.shallow.kernels import FloatArray, Rows
from deepsad_pl.shallow.models import Arrays, Model
from deepsad_pl.shallow.selection import TREES_STREAM, IntArray, generator
from deepsad_pl.shallow.task import Fitted, Task
from deepsad_pl.shallow.tree_nodes import TreeNodes, arrays_of, demand


def check_rows(semi_y: IntArray) -> None:
    """Check that at least one training row is not a known anomaly.

    Raises:
        DeepSADError: if all are.
    """
    if not (semi_y != -1).any():
        raise DeepSADError(
            "a classifier compares known anomalies with other training rows, but there are only labeled anomalies "
            f"({counted(len(semi_y), 'row')}); add unlabeled or normal rows"
        )


def is_known(semi_y: IntArray) -> npt.NDArray[np.bool_]:
    """Whether each training row is a known anomaly, the positive class of a classifier.

    Raises:
        DeepSADError: if no row is, or all are.
    """
    check_rows(semi_y)
    if not (semi_y == -1).any():
        raise DeepSADError("a classifier learns from known anomalies, but none is labeled; label some")
    known: npt.NDArray[np.bool_] = semi_y == -1
    return known


def fit_trees(task: Task, *, trees: Trees) -> Fitted:
    """Grow extremely randomized trees; see the module docstring.

    Args:
        task: training data and resources, with at least one known anomaly and one other row.
        trees: t, the number of trees, >= 1.

    Returns:
        A :class:`TreesModel`, the same for any number of threads.

    Raises:
        DeepSADError: if no row is a known anomaly, or all are.
    """
    forest = ExtraTreesClassifier(
        n_estimators=trees,
        random_state=int(generator(task.seed, TREES_STREAM).integers(2**32)),
        n_jobs=task.threads,
    ).fit(task.x, is_known(task.semi_y))
    task.advance(1.0)
    return Fitted(_to_model(forest), {"protocol": "none", "trees": trees})


class TreesModel(Model):
    """Trees whose score is the mean of a value in the leaves of a row.

    Each quantity is one array over the nodes of all trees, tree after tree; see
    :class:`~deepsad_pl.shallow.tree_nodes.TreeNodes`.

    Args:
        children_left: shape (N,) for N nodes of all trees.
        children_right: shape (N,).
        feature: the column that a node splits on, shape (N,); any value at a leaf.
        threshold: rows with x <= threshold go left, where x is in single precision as in training; shape (N,).
        share: share of known anomalies among a node's training rows, shape (N,), in [0, 1].
        tree_start: index of the first node of each tree, and N at the end; shape (trees + 1,).
        width: D, the number of columns.

    Attributes:
        nodes: the trees.
        share: as passed.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    def __init__(
        self,
        children_left: IntArray,
        children_right: IntArray,
        feature: IntArray,
        threshold: FloatArray,
        share: FloatArray,
        tree_start: IntArray,
        width: Any,
    ) -> None:
        self.width, self.share = int(width), share
        demand(share.shape == threshold.shape and share.dtype == np.float64, "one float64 share per node")
        demand(bool(((share >= 0) & (share <= 1)).all()), "shares from 0 to 1")
        self._arrays: Arrays = {
            "children_left": children_left,
            "children_right": children_right,
            "feature": feature,
            "threshold": threshold,
            "tree_start": tree_start,
        }
        self.nodes = TreeNodes(**self._arrays, width=self.width, single=True)

    def arrays(self) -> Arrays:
        """The nodes of all trees, the share of known anomalies in each, and the number of columns."""
        return {**self._arrays, "share": self.share, "width": np.asarray(self.width)}

    def _score(self, x: Rows) -> FloatArray:
        score = np.empty(len(x))
        for rows, leaf in self.nodes.leaves(x):
            score[rows] = self.share[leaf].mean(axis=1)
        return score


def _to_model(forest: ExtraTreesClassifier) -> TreesModel:
    grown = [estimator.tree_ for estimator in forest.estimators_]
    values = np.concatenate([tree.value[:, 0] for tree in grown])
    return TreesModel(**arrays_of(grown), share=values[:, 1] / values.sum(axis=1), width=int(forest.n_features_in_))
