r"""Gaussian kernel density estimation: anomalies lie where the density of the training data is low.

Objective. The density is a mean of Gaussians around the training rows,

.. math::

    \hat p_h(x) = \frac1n \sum_{i=1}^n (2 \pi h^2)^{-D/2} \exp\left(-\frac{\|x - x_i\|^2}{2 h^2}\right),
    \qquad s(x) = -\log \hat p_h(x).

Its only parameter, the bandwidth h, is chosen to maximize the log-likelihood of left-out rows:

.. math::

    \max_h \frac1n \sum_{f} \sum_{i \in f} \log \hat p_h^{(-f)}(x_i),

where f runs over the folds of the training rows and :math:`\hat p_h^{(-f)}` is the density of all rows outside f.

Source: E. Parzen: On estimation of a probability density function and mode, Annals of Mathematical Statistics 33(3),
1962. As a baseline: Ruff et al., Deep semi-supervised anomaly detection, ICLR 2020, appendix C, "following" L. Ruff et
al., Deep one-class classification, ICML 2018.

Knobs:
    ``bandwidths``: candidate values of h, in the paper 2^0.5, 2^1, 2^1.5, ..., 2^5. On raw MNIST the smallest one is
    selected, so the best likelihood lies outside the paper's list. The same is true whenever the first or the last
    value is selected.
    ``folds``: 5, of shuffled rows. Data sets are often sorted, and a fold of neighboring rows would be unlike the rest.

What differs from common practice, and why:
    scikit-learn's ``KernelDensity`` approximates by a tree search. With D = 784 this is 10-20 times slower than
    computing all distances; at small bandwidths it was off by 1 to 4 nats, and by 50 nats with D = 5, although its
    tolerances were 0. Here all distances are computed, by one matrix product, followed by a log-sum-exp that cannot
    underflow (:func:`~deepsad_pl.shallow.models.log_densities`). All bandwidths share the distances of a fold.
    The log-likelihood is a mean over rows, not over folds, so every row has the same weight even if folds differ in
    size.

Semi-labels are ignored: every row is training data, so the caller must leave out labeled anomalies. The selection uses
no labels at all.
"""

import numpy as np

from deepsad_pl.common.counting import are, counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import AtLeast2, Bandwidths
from deepsad_pl.shallow.models import DensityModel, log_densities
from deepsad_pl.shallow.selection import KDE_FOLDS_STREAM, IntArray, generator
from deepsad_pl.shallow.task import Fitted, Task


def check_rows(semi_y: IntArray, *, folds: int) -> None:
    """Check that there are at least as many training rows as folds.

    Raises:
        DeepSADError: if there are fewer.
    """
    if len(semi_y) < folds:
        raise DeepSADError(
            f"method.folds is {folds}, but there {are(len(semi_y))} {counted(len(semi_y), 'training row')}; use at "
            "most as many folds"
        )


def fit_kde(task: Task, *, bandwidths: Bandwidths, folds: AtLeast2) -> Fitted:
    """Fit a kernel density estimate at the bandwidth of the best cross-validated likelihood; see the module docstring.

    Args:
        task: training data and resources; semi-labels are ignored.
        bandwidths: candidate values of h, each > 0; in a tie the first one is selected.
        folds: number of folds, >= 2 and at most the number of training rows.

    Returns:
        A :class:`~deepsad_pl.shallow.models.DensityModel` of all training rows.

    Raises:
        DeepSADError: if there are fewer rows than folds, fewer than two folds, no bandwidth, or a bandwidth <= 0.
    """
    n = len(task.x)
    if not 2 <= folds <= n:
        raise DeepSADError(
            f"method.folds is {folds} with {counted(n, 'training row')}, but there must be at least two folds, of at "
            f"least one row each; use " + (f"a number in [2, {n}]" if n >= 2 else "more data")
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
