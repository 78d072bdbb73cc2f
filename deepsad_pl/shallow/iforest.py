r"""The isolation forest: anomalies are few and different, so that few random splits set them apart.

Objective. None is optimized. Each of t trees gets psi rows, drawn without replacement, and splits on a random feature
at a random value between its smallest and largest one, until rows are alone or the depth of :math:`\lceil \log_2 \psi
\rceil` is reached. The score is

.. math::

    s(x) = 2^{-\frac1t \sum_{b=1}^t h_b(x) / c(\psi)}, \qquad
    c(n) = 2 \left(\ln(n - 1) + 0.5772\ldots\right) - 2 \frac{n - 1}{n},

where :math:`h_b(x)` is the depth of the leaf of tree b that x falls into plus c(number of training rows in that leaf),
and c(n) the mean depth of an unsuccessful search among n rows. It lies in (0, 1]; .5 means an average depth.

Source: F. T. Liu, K. M. Ting, Z.-H. Zhou: Isolation forest, ICDM 2008. As a baseline: Ruff et al., Deep semi-supervised
anomaly detection, ICLR 2020, appendix C.

Knobs:
    ``trees``: t = 100, as the original work recommends; more of them only lower the variance of the score.
    ``subsample``: psi = 256, as recommended; all rows where there are fewer. A large psi lets normal rows crowd around
    anomalies and pollution hide among its like ("swamping" and "masking").
    No scaling matters: a split sees only the order of values and their range. A constant feature is never split on.

What differs from common practice, and why:
    The forest is grown by scikit-learn and kept as plain arrays (:class:`~deepsad_pl.shallow.models.ForestModel`), so
    that a saved one scores alike under any release of scikit-learn and is no pickle. Scores equal scikit-learn's
    ``-score_samples`` to 1e-12.
    The seed of the trees comes from a random stream of its own.

Semi-labels are not looked at: every row is data. Labeled anomalies are for the caller to leave out. No selection.
"""

import numpy as np
from sklearn.ensemble import IsolationForest

from deepsad_pl.common.ranges import AtLeast1, AtLeast2
from deepsad_pl.shallow.models import ForestModel
from deepsad_pl.shallow.selection import FOREST_STREAM, generator
from deepsad_pl.shallow.task import Fitted, Task


def fit_iforest(task: Task, *, trees: AtLeast1, subsample: AtLeast2) -> Fitted:
    """Grow an isolation forest; see the module.

    Args:
        task: the data and where to work; its semi-labels are ignored.
        trees: t, >= 1.
        subsample: psi, >= 1; at most all rows are taken.

    Returns:
        A :class:`~deepsad_pl.shallow.models.ForestModel`, the same one for any number of threads.
    """
    psi = min(subsample, len(task.x))
    forest = IsolationForest(
        n_estimators=trees,
        max_samples=psi,
        random_state=int(generator(task.seed, FOREST_STREAM).integers(2**32)),
        n_jobs=task.threads,
    ).fit(task.x)
    task.advance(1.0)
    return Fitted(_to_model(forest), {"protocol": "none", "trees": trees, "subsample": psi})


def _to_model(forest: IsolationForest) -> ForestModel:
    grown = [estimator.tree_ for estimator in forest.estimators_]
    return ForestModel(
        children_left=np.concatenate([tree.children_left for tree in grown]).astype(np.int64),
        children_right=np.concatenate([tree.children_right for tree in grown]).astype(np.int64),
        feature=np.concatenate([tree.feature for tree in grown]).astype(np.int64),
        threshold=np.concatenate([tree.threshold for tree in grown]).astype(np.float64),
        n_node_samples=np.concatenate([tree.n_node_samples for tree in grown]).astype(np.int64),
        tree_start=np.cumsum([0, *(tree.node_count for tree in grown)]).astype(np.int64),
        psi=int(forest.max_samples_),
        width=int(forest.n_features_in_),
    )
