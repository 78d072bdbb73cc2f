r"""Isolation forest: anomalies are few and different, so few random splits isolate them.

Objective. Nothing is optimized. Each of t trees gets psi rows, drawn without replacement, and splits them recursively,
on a random feature and at a random value between its minimum and maximum, until each row is alone or the depth
:math:`\lceil \log_2 \psi \rceil` is reached. The score is

.. math::

    s(x) = 2^{-\frac1t \sum_{b=1}^t h_b(x) / c(\psi)}, \qquad
    c(n) = 2 \left(\ln(n - 1) + 0.5772\ldots\right) - 2 \frac{n - 1}{n},

where :math:`h_b(x)` is the depth of the leaf of tree b that x falls into plus c(number of training rows in that leaf),
and c(n) is the mean depth of an unsuccessful search in a binary search tree of n rows. The score lies in (0, 1]; 0.5
means an average depth.

Source: F. T. Liu, K. M. Ting, Z.-H. Zhou: Isolation forest, ICDM 2008. As a baseline: Ruff et al., Deep semi-supervised
anomaly detection, ICLR 2020, appendix C.

Knobs:
    ``trees``: t = 100, as the original paper recommends; more trees only lower the variance of the score.
    ``subsample``: psi = 256, as recommended; all rows if there are fewer. With a large psi, normal rows crowd around
    anomalies ("swamping") and anomalies in the training data hide one another ("masking").
    Scaling a feature changes nothing, since a split depends only on the order and the range of its values. A constant
    feature is never split on.

What differs from common practice, and why:
    scikit-learn grows the forest, but it is stored as plain arrays (:class:`~deepsad_pl.shallow.models.ForestModel`)
    instead of a pickle, so a saved forest gives the same scores under any release of scikit-learn. Scores equal
    scikit-learn's ``-score_samples`` to 1e-12.
    The seed of the trees comes from a separate random stream.

Semi-labels are ignored: every row is training data, so the caller must leave out labeled anomalies. There are no
hyper-parameters to select.
"""

import numpy as np
from sklearn.ensemble import IsolationForest

from deepsad_pl.common.ranges import AtLeast2, Trees
from deepsad_pl.shallow.kernels import Rows
from deepsad_pl.shallow.models import ForestModel
from deepsad_pl.shallow.selection import FOREST_STREAM, generator
from deepsad_pl.shallow.task import Fitted, Task
from deepsad_pl.shallow.tree_nodes import arrays_of


def fit_iforest(task: Task, *, trees: Trees, subsample: AtLeast2) -> Fitted:
    """Grow an isolation forest; see the module docstring.

    Args:
        task: training data and resources; semi-labels are ignored.
        trees: t, the number of trees, >= 1.
        subsample: psi, the number of rows per tree, >= 2; all rows if there are fewer.

    Returns:
        A :class:`~deepsad_pl.shallow.models.ForestModel`, the same for any number of threads.
    """
    seed = int(generator(task.seed, FOREST_STREAM).integers(2**32))
    model = grow_forest(task.x, trees=trees, subsample=subsample, seed=seed, threads=task.threads)
    task.advance(1.0)
    return Fitted(model, {"protocol": "none", "trees": trees, "subsample": model.psi})


def grow_forest(x: Rows, *, trees: int, subsample: int, seed: int, threads: int) -> ForestModel:
    """Grow an isolation forest.

    Args:
        x: shape (n, D), finite.
        trees: number of trees, >= 1.
        subsample: number of rows per tree, >= 2; all rows if there are fewer.
        seed: scikit-learn's ``random_state``.
        threads: number of trees that may grow in parallel.
    """
    forest = IsolationForest(n_estimators=trees, max_samples=min(subsample, len(x)), random_state=seed, n_jobs=threads)
    return _to_model(forest.fit(x))


def _to_model(forest: IsolationForest) -> ForestModel:
    grown = [estimator.tree_ for estimator in forest.estimators_]
    return ForestModel(
        **arrays_of(grown),
        n_node_samples=np.concatenate([tree.n_node_samples for tree in grown]).astype(np.int64),
        psi=int(forest.max_samples_),
        width=int(forest.n_features_in_),
    )
