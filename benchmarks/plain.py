"""Shallow methods in the plain way: one library call per fit, nothing shared between the points of a grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from cvxopt import matrix as dense  # type: ignore[import-untyped]
from cvxopt import solvers, spdiag, spmatrix
from cvxopt import sparse as stacked
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from benchmarks.problems import Matrix
from deepsad_pl.common.metrics import auroc
from deepsad_pl.shallow import selection as select
from deepsad_pl.shallow.kernels import FloatArray
from deepsad_pl.shallow.models import KernelModel
from deepsad_pl.shallow.selection import IntArray


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        chosen: the selected gamma or bandwidth.
        objective: half of |w|^2 for a kernel machine, mean log-likelihood of left-out rows for a density.
        score: scores rows, from shape (t, D) to (t,).
    """

    chosen: float
    objective: Callable[[], float]
    score: Callable[[Matrix], FloatArray]


def expansion(x: Matrix, coef: FloatArray, gamma: float, offset: float) -> Fit:
    """Make the :class:`Fit` of a kernel expansion from rows, shape (s, D), and coefficients, shape (s,)."""
    model = KernelModel(np.asarray(x, dtype=np.float32), coef, gamma, offset)
    return Fit(gamma, lambda: float(0.5 * coef @ (offset - model.score(model.rows))), model.score)


def ocsvm(x: Matrix, gamma: float, nu: float) -> Fit:
    """Fit scikit-learn's one-class SVM."""
    svm = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu).fit(x)
    return expansion(svm.support_vectors_, svm.dual_coef_[0], gamma, float(svm.offset_[0]))


def ocsvm_grid(x: Matrix, gammas: Sequence[float], nu: float, seed: int) -> Fit:
    """Fit scikit-learn's one-class SVM at the largest gamma that is consistent on held-out rows."""
    kept, held = select.holdout_split(np.zeros(len(x), dtype=np.int64), seed)
    fits = (OneClassSVM(kernel="rbf", gamma=gamma, nu=nu).fit(x[kept]) for gamma in gammas)
    rejected = [float((svm.decision_function(x[held]) < 0).mean()) for svm in fits]
    return ocsvm(x, gammas[select.consistency(gammas, rejected, nu=nu, held_out=len(held))], nu)


def ssad(x: Matrix, semi_y: IntArray, gamma: float) -> Fit:
    """Solve SSAD's whole dual with cvxopt, for scikit-learn's kernel and kappa = eta_u = eta_l = 1."""
    n, y = len(x), np.where(semi_y == -1, -1.0, 1.0)
    quadratic = rbf_kernel(x.astype(np.float64), gamma=gamma) * np.outer(y, y)
    labeled, eye = np.flatnonzero(semi_y).tolist(), spdiag([1.0] * n)
    found = solvers.qp(
        dense(quadratic),
        dense(np.zeros(n)),
        stacked([-eye, eye, spmatrix(-1.0, [0] * len(labeled), labeled, (1, n))]),
        dense(np.concatenate([np.zeros(n), np.ones(n), [-1.0]])),
        dense(y[None]),
        dense(1.0),
        options={"show_progress": False},
    )
    if found["status"] != "optimal":
        raise RuntimeError(f"cvxopt ends with {found['status']!r} on {n} rows at gamma {gamma}; measure another size")
    # rho is the multiplier of y'a = 1.
    return expansion(x, y * np.array(found["x"]).ravel(), gamma, -float(found["y"][0]))


def ssad_grid(x: Matrix, semi_y: IntArray, gammas: Sequence[float], seed: int) -> Fit:
    """Solve SSAD with cvxopt at the gamma with the best AUROC of held-out labeled anomalies."""
    kept, held = select.holdout_split(semi_y, seed)
    anomalous = (semi_y[held] == -1).astype(np.int64)
    fits = (ssad(x[kept], semi_y[kept], gamma) for gamma in gammas)
    aurocs = [auroc(fit.score(x[held]), anomalous) for fit in fits]
    return ssad(x, semi_y, gammas[int(np.argmax(aurocs))])


def kde(x: Matrix, bandwidths: Sequence[float], folds: int, seed: int) -> Fit:
    """Fit scikit-learn's kernel density at the bandwidth with the best cross-validated likelihood, with our folds."""
    order = select.generator(seed, select.KDE_FOLDS_STREAM).permutation(len(x))
    fold_of = np.empty(len(x), dtype=np.int64)
    for fold, held in enumerate(np.array_split(order, folds)):
        fold_of[held] = fold
    totals = [
        float(cross_val_score(KernelDensity(bandwidth=h), x, cv=PredefinedSplit(fold_of)).sum()) for h in bandwidths
    ]
    best = int(np.argmax(totals))
    density = KernelDensity(bandwidth=bandwidths[best]).fit(x)
    return Fit(bandwidths[best], partial(float, totals[best] / len(x)), lambda rows: -density.score_samples(rows))
