"""Solve the convex SSAD of Goernitz et al. (JAIR 46, 2013) through its dual.

Primal, with y = -1 on labeled anomalies and +1 on labeled normals::

    min 1/2 |w|^2 - rho - kappa g + sum eta_i xi_i    such that g, xi >= 0,
        <w, phi_i> >= rho - xi_i (unlabeled),    y_j <w, phi_j> >= y_j rho + g - xi_j (labeled)

Dual, with y = +1 on unlabeled rows too::

    min 1/2 a' (yy' o K) a    such that y'a = 1, sum of a over labeled rows >= kappa, 0 <= a <= eta

Score of x: -sum_i y_i a_i k(x_i, x), higher is more anomalous.

Without labeled normals the dual is a nu-SVC if the constraint on the labeled rows is active, and a one-class SVM if it
is not. libsvm solves both, but with kernel columns in single precision, so its solution is only the starting point of
an active-set method in double precision. With labeled normals an interior-point solver provides the starting point.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow.kernels import FloatArray, Rows, gaussian_kernel, squared_distances
from deepsad_pl.shallow.ssad_active_set import CHUNKED, refine
from deepsad_pl.shallow.ssad_interior_point import interior_point
from deepsad_pl.shallow.ssad_libsvm import NotSolvedError, at_kappa, one_group, without_kappa
from deepsad_pl.shallow.ssad_problem import (
    TIGHT,
    Problem,
    is_held,
    make_problem,
    multipliers,
    norm2,
    require_feasible,
    slacks,
    violations,
)

# From this many rows on, a general QP is solved by chunking, since an interior-point iteration costs n^3.
_CHUNK_FROM = 800
_FIRST_CHUNK, _CHUNK_STEP = 300, 500


@dataclass(frozen=True)
class SSADSolution:
    """A solution of the dual.

    Attributes:
        alpha: dual variables, each in [0, eta_i], shape (n,).
        rho: offset, the multiplier of y'a = 1; if it is not unique, one valid value.
        margin: the primal's g >= 0, the multiplier of sum a >= kappa; if it is not unique, one valid value.
        objective: 1/2 a' (yy' o K) a.
        solves: number of inner problems solved.
    """

    alpha: FloatArray
    rho: float
    margin: float
    objective: float
    solves: int


def solve_ssad(
    kernel: FloatArray,
    semi_y: npt.ArrayLike,
    *,
    kappa: float = 1.0,
    eta_u: float = 1.0,
    eta_l: float = 1.0,
    overwrite_kernel: bool = False,
) -> SSADSolution:
    """Solve SSAD for a given kernel matrix.

    Without labeled rows this is the one-class SVM with nu = 1 / (n eta_u), and kappa is ignored.

    Args:
        kernel: symmetric, positive semi-definite, shape (n, n).
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        kappa: weight of the margin, >= 0.
        eta_u: weight of an unlabeled row's slack, > 0.
        eta_l: weight of a labeled row's slack, > 0.
        overwrite_kernel: whether ``kernel`` may be scaled in place, which is undone up to rounding. If not, a copy may
            be made.

    Raises:
        ValueError: if a shape or a number is out of its range.
        DeepSADError: if the dual is infeasible or no solver finds a solution.
    """
    matrix = np.asarray(kernel)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"kernel has shape {matrix.shape}; it must be square")
    problem = make_problem(semi_y, len(matrix), kappa, eta_u, eta_l)
    require_feasible(problem, eta_u, eta_l)
    in_place = overwrite_kernel and matrix.dtype == np.float64 and matrix.flags.c_contiguous and matrix.flags.writeable
    scaled = not problem.normals.any() or min(slacks(problem)) <= TIGHT
    if in_place or not scaled:
        work = np.ascontiguousarray(matrix, dtype=np.float64)
    else:
        work = np.array(matrix, dtype=np.float64, order="C")
    alpha, solves = _solve(work, problem)
    return _finish(work, problem, alpha, solves)


def solve_ssad_rows(
    x: Rows,
    gamma: float,
    semi_y: npt.ArrayLike,
    *,
    kappa: float = 1.0,
    eta_u: float = 1.0,
    eta_l: float = 1.0,
    max_rows: int = 10_000,
) -> SSADSolution:
    """Solve SSAD with the kernel exp(-gamma |x - x'|^2), of which at most max_rows^2 entries are in memory at once.

    Up to max_rows rows the full kernel is used. With more rows, a working set grows by the rows that violate the
    KKT conditions most, until no violation exceeds 1e-6 |w|^2.

    Args:
        x: shape (n, D).
        gamma: scale of the kernel, > 0.
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        kappa: weight of the margin, >= 0.
        eta_u: weight of an unlabeled row's slack, > 0.
        eta_l: weight of a labeled row's slack, > 0.
        max_rows: rows of the largest kernel matrix to hold, > 0. It takes 8 max_rows^2 bytes, and the solver needs at
            most as many again.

    Raises:
        ValueError: if a shape or a number is out of its range.
        DeepSADError: if the dual is infeasible, or its working set outgrows max_rows.
    """
    rows = np.asarray(x)
    if rows.ndim != 2:
        raise ValueError(f"x has shape {rows.shape}; it must be (n, D)")
    if gamma <= 0 or max_rows <= 0:
        raise ValueError(f"gamma is {gamma} and max_rows {max_rows}; both must be > 0")
    problem = make_problem(semi_y, len(rows), kappa, eta_u, eta_l)
    require_feasible(problem, eta_u, eta_l)

    def block(left: slice | npt.NDArray[np.intp], right: npt.NDArray[np.intp] | None = None) -> FloatArray:
        distance2 = squared_distances(rows[left], None if right is None else rows[right])
        return gaussian_kernel(distance2, gamma, out=distance2)

    if len(rows) <= max_rows:
        matrix = block(slice(None))
        return _finish(matrix, problem, *_solve(matrix, problem))

    def inner(working: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray, int]:
        matrix, part = block(working), problem.subset(working)
        alpha, solves = _solve(matrix, part)
        return alpha, matrix @ (part.y * alpha), solves

    def responses(weights: FloatArray) -> FloatArray:
        support = np.flatnonzero(weights)
        step = max(1, 2**24 // len(support))
        parts = [block(slice(i, i + step), support) @ weights[support] for i in range(0, len(rows), step)]
        return np.concatenate(parts)

    alpha, f, solves = _chunked(problem, inner, responses, max_rows)
    return _solution(problem, alpha, f, solves)


def _solve(matrix: FloatArray, problem: Problem) -> tuple[FloatArray, int]:
    """Solve a feasible problem; the matrix is scaled in place and restored.

    Returns:
        Dual variables of shape (n,) and the number of inner problems.
    """
    # At the border of feasibility the constraints fix every group but one, and the general solvers cannot be used.
    labeled, per_anomaly, positive, total = (slack <= TIGHT for slack in slacks(problem))
    _, normals, anomalies = problem.room()
    if labeled:
        free, fixed, amount = problem.unlabeled, problem.labeled, 1 + anomalies - normals
    elif per_anomaly:
        free, fixed, amount = problem.normals, problem.anomalies, 1 + anomalies
    elif positive or total:
        free, fixed, amount = problem.anomalies, ~problem.anomalies, float(problem.box[~problem.anomalies].sum()) - 1
    elif not problem.labeled.any():
        free, fixed, amount = problem.unlabeled, problem.anomalies, 1.0
    elif not problem.normals.any():
        return _anomalies_only(matrix, problem)
    else:
        return _general(matrix, problem)
    alpha = one_group(matrix, problem, free, fixed, amount)
    return refine(matrix, problem, alpha, movable=free)[0], 1


def _anomalies_only(matrix: FloatArray, problem: Problem) -> tuple[FloatArray, int]:
    """Solve a problem without labeled normals.

    The dual as a function of s, the sum of a over the anomalies, is convex with derivative g. So if g >= 0 at
    s = kappa, then s = kappa is optimal; otherwise the constraint s >= kappa is not active and can be dropped.
    """
    solves = 0
    try:
        alpha, derivative = at_kappa(matrix, problem)
        solves += 1
        if derivative < -1e-7 * norm2(matrix, problem, alpha):
            unheld = without_kappa(matrix, problem)
            solves += 1
            # With duplicates the optimum may be a whole interval of s.
            if float(unheld[problem.anomalies].sum()) >= problem.kappa:
                alpha = unheld
    except NotSolvedError:
        found, more = _general(matrix, problem)
        return found, solves + more
    alpha, violation = refine(matrix, problem, alpha)
    if violation > CHUNKED:
        found, more = _general(matrix, problem)
        return found, solves + more
    return alpha, solves


def _general(matrix: FloatArray, problem: Problem) -> tuple[FloatArray, int]:
    """Solve any problem by an interior-point solver; a large one on growing working sets."""

    def inner(working: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray, int]:
        part = problem.subset(working)
        sub = matrix[np.ix_(working, working)] if len(working) < len(matrix) else matrix
        if len(working) < len(matrix) and (min(slacks(part)) <= TIGHT or not part.labeled.any()):
            alpha, solves = _solve(sub, part)
        else:
            labeled = part.labeled.astype(np.float64)
            alpha = interior_point(sub, part.y, part.box, part.y[None], 1.0, at_least=labeled, kappa=part.kappa)
            alpha, solves = refine(sub, part, alpha)[0], 1
        return alpha, sub @ (part.y * alpha), solves

    if len(matrix) < _CHUNK_FROM:
        alpha, _, solves = inner(np.arange(len(matrix)))
        return alpha, solves
    alpha, _, solves = _chunked(problem, inner, lambda weights: matrix @ weights, len(matrix))
    return refine(matrix, problem, alpha)[0], solves


def _chunked(
    problem: Problem,
    inner: Callable[[npt.NDArray[np.intp]], tuple[FloatArray, FloatArray, int]],
    responses: Callable[[FloatArray], FloatArray],
    max_rows: int,
) -> tuple[FloatArray, FloatArray, int]:
    """Solve on a growing working set until no row outside violates the KKT conditions.

    Args:
        problem: the whole problem.
        inner: maps a working set (ascending rows) to its dual variables, its <w, phi> and the number of inner problems.
        responses: maps y a of all rows to <w, phi> of all rows.
        max_rows: largest allowed size of the working set.

    Returns:
        Dual variables and <w, phi> of all rows, each of shape (n,), and the number of inner problems.
    """
    n = len(problem.y)
    working = _first_chunk(problem)
    solves = 0
    while True:
        if len(working) > max_rows:
            raise DeepSADError(
                f"SSAD's working set needs {len(working)} of {n} rows, but at most max_rows = {max_rows} are allowed; "
                f"raise max_rows (memory grows as 16 max_rows^2 bytes), choose a smaller gamma or use fewer rows"
            )
        part = problem.subset(working)
        found, inside, count = inner(working)
        solves += count
        alpha = np.zeros(n)
        alpha[working] = found
        f = responses(problem.y * alpha)
        rho, margin, _ = multipliers(part, found, inside, is_held(part, found))
        gap = violations(problem, alpha, f, rho, margin)
        gap[working] = 0
        worst = np.argsort(-gap, kind="stable")[: max(_CHUNK_STEP, len(working) // 4)]
        worst = worst[gap[worst] > CHUNKED * max(abs(rho), margin, float(found @ (part.y * inside)))]
        if not len(worst):
            return alpha, f, solves
        working = np.sort(np.concatenate([working, worst]))


def _first_chunk(problem: Problem) -> npt.NDArray[np.intp]:
    """Pick rows spread evenly over each group, enough for a problem with an interior if the whole problem has one."""
    each = _FIRST_CHUNK
    while True:
        picked = []
        for group in problem.groups:
            rows = np.flatnonzero(group)
            picked.append(rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).round().astype(np.intp)])
        working = np.sort(np.concatenate(picked))
        slack = min(slacks(problem.subset(working)))
        if slack >= min(0.5, 0.999 * min(slacks(problem))) or each >= len(problem.y):
            return working
        each *= 2


def _finish(matrix: FloatArray, problem: Problem, alpha: FloatArray, solves: int) -> SSADSolution:
    return _solution(problem, alpha, matrix @ (problem.y * alpha), solves)


def _solution(problem: Problem, alpha: FloatArray, f: FloatArray, solves: int) -> SSADSolution:
    rho, margin, _ = multipliers(problem, alpha, f, is_held(problem, alpha))
    return SSADSolution(alpha, rho, margin, 0.5 * float((problem.y * alpha) @ f), solves)
