r"""The Gaussian kernel density estimator: anomalies lie where the density of the training data is low.

Objective. The density is a mean of Gaussians around the training rows,

.. math::

    \hat p_h(x) = \frac1n \sum_{i=1}^n (2 \pi h^2)^{-D/2} \exp\left(-\frac{\|x - x_i\|^2}{2 h^2}\right),
    \qquad s(x) = -\log \hat p_h(x),

and its one parameter, the bandwidth h, maximizes the log-likelihood of rows that were left out:

.. math::

    \max_h \frac1n \sum_{f} \sum_{i \in f} \log \hat p_h^{(-f)}(x_i),

over the folds f of the training rows, where :math:`\hat p_h^{(-f)}` is made of all rows outside of f.

Source: E. Parzen: On estimation of a probability density function and mode, Annals of Mathematical Statistics 33(3),
1962. As a baseline: Ruff et al., Deep semi-supervised anomaly detection, ICLR 2020, appendix C, "following" L. Ruff et
al., Deep one-class classification, ICML 2018.

Knobs:
    ``bandwidths``: h to select from, the paper's 2^0.5, 2^1, ..., 2^5 in steps of half an exponent. On raw MNIST the
    smallest of them wins: the best likelihood lies beyond the paper's list, as it does wherever the choice falls on the
    first or the last value.
    ``folds``: 5, shuffled. Rows of a data set often come sorted, and a fold of neighbors would be a different problem.

What differs from common practice, and why:
    scikit-learn's ``KernelDensity`` searches a tree to a tolerance; in D = 784 it is 10-20 times slower than computing
    all distances, and at small bandwidths it was seen to be wrong by 1 to 4 nats there and by 50 in D = 5, its
    tolerances set to 0. Here every distance counts: one matrix product, and a log-sum-exp that cannot underflow
    (:func:`~deepsad_pl.shallow.models.log_densities`). The distances of a fold serve all bandwidths.
    The log-likelihood is a mean over rows, not over folds: in folds of unequal size every row counts the same.

Semi-labels are not looked at: every row is data. Labeled anomalies are for the caller to leave out. The selection uses
no label of any kind.
"""

import numpy as np

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import AtLeast2, Bandwidths
from deepsad_pl.shallow.models import DensityModel, log_densities
from deepsad_pl.shallow.selection import KDE_FOLDS_STREAM, IntArray, generator
from deepsad_pl.shallow.task import Fitted, Task


def check_rows(semi_y: IntArray, *, folds: int) -> None:
    """Demand that there is a training row for each fold.

    Raises:
        DeepSADError: if there is none.
    """
    if len(semi_y) < folds:
        raise DeepSADError(
            f"method.folds is {folds}, but there are {len(semi_y)} training rows; use at most as many folds"
        )


def fit_kde(task: Task, *, bandwidths: Bandwidths, folds: AtLeast2) -> Fitted:
    """Choose a bandwidth by cross-validated likelihood; see the module.

    Args:
        task: the data and where to work; its semi-labels are ignored.
        bandwidths: h to select from, > 0; at equal likelihood the first one is taken.
        folds: >= 2.

    Returns:
        A :class:`~deepsad_pl.shallow.models.DensityModel` of all rows.

    Raises:
        DeepSADError: if there are fewer rows than folds, fewer than two folds or no bandwidth above 0.
    """
    n = len(task.x)
    if not 2 <= folds <= n:
        raise DeepSADError(
            f"method.folds is {folds} with {n} training rows, but each fold needs a row, and another fold to "
            f"train on; use a number in [2, {n}]" + ("" if n >= 2 else " and more data")
        )
    if not bandwidths or min(bandwidths) <= 0:
        raise DeepSADError(f"method.bandwidths is {list(bandwidths)}; it must hold at least one value, each > 0")
    order = generator(task.seed, KDE_FOLDS_STREAM).permutation(n)
    likelihood = np.zeros(len(bandwidths))
    for fold, held in enumerate(np.array_split(order, folds)):
        kept = np.setdiff1d(order, held)
        likelihood += log_densities(task.x[kept], task.x[held], bandwidths).sum(axis=1)
        task.advance((fold + 1) / folds)
    likelihood /= n
    best = float(bandwidths[int(np.argmax(likelihood))])
    record = {
        "protocol": "cross_validation",
        "folds": folds,
        "bandwidth": best,
        "log_likelihood": {repr(float(h)): float(value) for h, value in zip(bandwidths, likelihood, strict=True)},
    }
    return Fitted(DensityModel(task.x, best), record)
