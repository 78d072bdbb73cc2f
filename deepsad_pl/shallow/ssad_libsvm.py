"""Solve the cases of SSAD that are support vector machines, by libsvm with kernel columns in single precision."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import NuSVC, OneClassSVM

from deepsad_pl.shallow.kernels import FloatArray
from deepsad_pl.shallow.ssad_interior_point import interior_point
from deepsad_pl.shallow.ssad_problem import TIGHT, BoolArray, Problem, levels_of

# Tolerance of libsvm, relative to the kernel's mean diagonal, and its cache in MB.
_LIBSVM_TOLERANCE, _LIBSVM_CACHE = 1e-9, 100


class NotSolvedError(Exception):
    """libsvm found no usable solution."""


def at_kappa(matrix: FloatArray, problem: Problem) -> tuple[FloatArray, float]:
    """The solution with s = kappa, where s is the sum of a over the anomalies, and the dual's right derivative in s."""
    if problem.kappa <= TIGHT:
        alpha = one_group(matrix, problem, problem.unlabeled, np.zeros_like(problem.anomalies), 1.0)
    else:
        alpha = _nu_svc(matrix, problem, problem.kappa)
    offset, _, shifted = levels_of(problem, alpha, matrix @ (problem.y * alpha))
    return alpha, offset[1] - shifted[0]


def without_kappa(matrix: FloatArray, problem: Problem) -> FloatArray:
    """The solution without the constraint on labeled rows, a one-class SVM in z = a (y = 1) or z = eta - a (y = -1)."""
    flipped = problem.anomalies
    centre = matrix @ np.where(flipped, problem.box, 0.0)
    z = _one_sum(matrix, -centre, problem.box, 1 + float(problem.box[flipped].sum()))
    return np.where(flipped, problem.box - z, z)


def _nu_svc(matrix: FloatArray, problem: Problem, s: float) -> FloatArray:
    """Solve for a given s, the sum of a over the anomalies, as a nu-SVC.

    With d = 1 + s on unlabeled rows, d = s on anomalies and a = d beta, beta adds up to 1 over each class.
    """
    d = np.where(problem.anomalies, s, 1 + s)
    weight = problem.box / d
    nu = 2 / float(weight.sum())
    with _scaled(matrix, d):
        tolerance = _LIBSVM_TOLERANCE * float(np.diagonal(matrix).mean())
        model = NuSVC(
            nu=nu, kernel="precomputed", tol=tolerance, cache_size=_LIBSVM_CACHE, max_iter=_iterations(len(matrix))
        )
        _fit(model, matrix, problem.y, weight)
    # libsvm divides its solution by half the margin between the two sides, so only ratios can be used.
    beta = np.zeros(len(matrix))
    beta[model.support_] = np.abs(model.dual_coef_[0])
    upper, lower = beta[problem.unlabeled].sum(), beta[problem.anomalies].sum()
    if not (upper > 0 and abs(lower / upper - 1) < 1e-6):
        raise NotSolvedError
    return _snapped(beta / upper * d, problem.box)


def one_group(matrix: FloatArray, problem: Problem, free: BoolArray, fixed: BoolArray, amount: float) -> FloatArray:
    """Solve for the ``free`` rows, which all have the same sign and add up to ``amount``.

    The ``fixed`` rows are at their upper bounds, all others are 0. This is a one-class SVM: since sum z is given, a
    linear term p'z is the same as adding (p_i + p_j) / sum z to the kernel.
    """
    alpha = np.where(fixed, problem.box, 0.0)
    room = float(problem.box[free].sum())
    if amount <= TIGHT or amount >= room * (1 - TIGHT):
        alpha[free] = problem.box[free] * (amount > TIGHT)
        return alpha
    sign = float(problem.y[free][0])
    linear = sign * (matrix @ (problem.y * alpha)) if fixed.any() else np.zeros(len(matrix))
    # libsvm drops rows of weight 0 and then reports wrong indices; a negligible weight is safe.
    weight = np.where(free, problem.box, 1e-12 * problem.box)
    try:
        z = _one_sum(matrix, linear, weight, amount)
    except NotSolvedError:
        z = interior_point(matrix, np.ones(len(matrix)), weight, np.ones((1, len(matrix))), amount, linear=linear)
    alpha[free] = _snapped(z, problem.box)[free]
    return alpha


def _one_sum(matrix: FloatArray, linear: FloatArray, box: FloatArray, amount: float) -> FloatArray:
    """Solve min 1/2 z'Kz + linear'z such that sum z = amount, 0 <= z <= box, as a one-class SVM.

    Since sum z is given, the linear term p'z is the same as adding (p_i + p_j) / sum z to the kernel.
    """
    z = np.zeros(len(matrix))
    tolerance = _LIBSVM_TOLERANCE * float(np.diagonal(matrix).mean())
    with _shifted(matrix, linear / amount):
        model = OneClassSVM(
            nu=min(1.0, amount / float(box.sum())),
            kernel="precomputed",
            tol=tolerance,
            cache_size=_LIBSVM_CACHE,
            max_iter=_iterations(len(matrix)),
        )
        _fit(model, matrix, None, box)
        z[model.support_] = model.dual_coef_[0]
    return z


def _fit(model: NuSVC | OneClassSVM, matrix: FloatArray, y: FloatArray | None, weight: FloatArray) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(matrix, y, sample_weight=weight)
    except ValueError as error:
        # Rounding made nu infeasible ("specified nu is infeasible"), or libsvm divided by a margin of 0.
        raise NotSolvedError from error
    if not np.isfinite(model.dual_coef_).all():
        raise NotSolvedError


def _iterations(n: int) -> int:
    # In single precision a nearly singular kernel may be indefinite, and libsvm may then never converge.
    return 20_000 + 20 * n


def _snapped(alpha: FloatArray, box: FloatArray, tolerance: float = 1e-12) -> FloatArray:
    alpha = np.where(alpha >= box * (1 - tolerance), box, alpha)
    return np.where(alpha <= box * tolerance * 1e-3, 0.0, alpha)


@contextmanager
def _scaled(matrix: FloatArray, d: FloatArray) -> Iterator[None]:
    matrix *= d
    matrix *= d[:, None]
    try:
        yield
    finally:
        matrix /= d[:, None]
        matrix /= d


@contextmanager
def _shifted(matrix: FloatArray, q: FloatArray) -> Iterator[None]:
    matrix += q
    matrix += q[:, None]
    try:
        yield
    finally:
        matrix -= q[:, None]
        matrix -= q
