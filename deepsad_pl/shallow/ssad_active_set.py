"""A primal active-set method in double precision that refines the solution of a faster solver."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from deepsad_pl.shallow.kernels import FloatArray
from deepsad_pl.shallow.ssad_problem import BoolArray, Problem, multipliers, violations

# KKT violation, relative to |w|^2, that counts as none: for an exact solution, and for one found by chunking.
_EXACT, CHUNKED = 1e-9, 1e-6
# Above this many free rows, whose Cholesky factor would cost more than all else, a solution that is as good as chunking
# requires is not refined further.
_MAX_FREE = 3000
# Limit of the method's cost, in multiplications. If a smooth kernel and overlapping groups leave many directions
# without curvature, it would take hundreds of steps, and chunked interior-point solves are faster.
_MAX_WORK = 3e10


def refine(
    matrix: FloatArray, problem: Problem, alpha: FloatArray, movable: BoolArray | None = None
) -> tuple[FloatArray, float]:
    """Refine a nearly optimal and nearly feasible solution with a primal active-set method in double precision.

    Args:
        matrix: kernel, shape (n, n).
        problem: the constraints.
        alpha: starting point, shape (n,).
        movable: mask of the rows whose alpha may change, shape (n,); None: all rows.

    Returns:
        Dual variables, shape (n,), and the largest violation of the KKT conditions, relative to |w|^2.
    """
    y, box, labeled = problem.y, problem.box, problem.labeled
    movable = np.ones(len(y), dtype=bool) if movable is None else movable
    alpha = alpha.copy()
    f = matrix @ (y * alpha)
    free = movable & (alpha > 0) & (alpha < box)
    held = bool(labeled.any()) and float(alpha[labeled].sum()) <= problem.kappa * (1 + 1e-7) + 1e-12
    ridge = 1e-13 * float(np.diagonal(matrix).mean())
    size = max(float((y * alpha) @ f), np.finfo(np.float64).tiny)
    work = 0.0

    def violation() -> FloatArray:
        rho, margin, _ = multipliers(problem, alpha, f, held)
        return np.where(movable, violations(problem, alpha, f, rho, margin), 0.0)

    limit = _EXACT if int(free.sum()) <= _MAX_FREE else CHUNKED
    off = max(abs(float(y @ alpha) - 1), abs(float(alpha[labeled].sum()) - problem.kappa) if held else 0.0)
    if violation().max() <= limit * size and off <= 1e-12 * max(1.0, problem.kappa):
        return alpha, float(violation().max()) / size
    while work < _MAX_WORK:
        rows = np.flatnonzero(free)
        # The linear program for the multipliers and the bookkeeping cost as much as some 5e7 multiplications.
        work += len(rows) ** 3 / 3 + len(rows) * len(y) + 5e7
        if len(rows):
            direction = _newton(matrix, problem, alpha, f, rows, held, ridge)
            step, blocking = _to_bound(alpha[rows], box[rows], direction)
            if labeled.any() and not held:
                rate = float(direction[labeled[rows]].sum())
                room = max(float(alpha[labeled].sum()) - problem.kappa, 0.0)
                if rate < 0 and -rate * step > room:
                    step, blocking, held = room / -rate, np.zeros(len(rows), dtype=bool), True
            moved = np.clip(alpha[rows] + step * direction, 0, box[rows])
            moved[blocking] = np.where(direction[blocking] > 0, box[rows][blocking], 0.0)
            f += (y[rows] * (moved - alpha[rows])) @ matrix[rows]
            alpha[rows] = moved
            if step < 1:
                free[rows[blocking]] = False
                continue
        _, _, error = multipliers(problem, alpha, f, held)
        if held and error > _EXACT * size:
            _, unbounded, _ = multipliers(problem, alpha, f, held, lowest=-np.inf)
            if unbounded < -_EXACT * size:
                held = False
                continue
        gap = np.where(free, 0.0, violation())
        if len(rows) > _MAX_FREE and gap.max() <= limit * size:
            break
        worst = np.argsort(-gap, kind="stable")[: max(1, len(rows) // 20)]
        worst = worst[gap[worst] > _EXACT * size]
        if not len(worst):
            break
        free[worst] = True
    return alpha, float(violation().max()) / size


def _newton(
    matrix: FloatArray,
    problem: Problem,
    alpha: FloatArray,
    f: FloatArray,
    rows: npt.NDArray[np.intp],
    held: bool,
    ridge: float,
) -> FloatArray:
    """The Newton step of the free rows: to the optimum with all other rows held fixed."""
    y, labeled = problem.y, problem.labeled
    constraints = [y[rows]]
    residual = [1 - float(y @ alpha)]
    if held:
        constraints.append(labeled[rows].astype(np.float64))
        residual.append(problem.kappa - float(alpha[labeled].sum()))
    b = np.stack(constraints, axis=1)
    # Curvature across the constraints does not change the step, but makes the Hessian definite in directions that only
    # the constraints limit, such as the growth of an anomaly together with an unlabeled duplicate of it.
    across = float(np.diagonal(matrix).mean()) / len(rows)
    right = np.column_stack([b, y[rows] * f[rows] - across * (b @ residual)])
    while True:
        # All in place, as the matrix may be as large as the kernel; LAPACK overwrites the transpose without copying it.
        hessian = matrix[np.ix_(rows, rows)]
        hessian *= y[rows]
        hessian *= y[rows][:, None]
        for column in b.T:
            for i in np.flatnonzero(column):
                hessian[i] += across * column[i] * column
        # The ridge, which duplicate rows need, makes this a proximal step; its fixed point is the exact optimum.
        hessian[np.diag_indices(len(rows))] += ridge
        try:
            factor = cho_factor(hessian.T, lower=True, overwrite_a=True, check_finite=False)
            solved = cho_solve(factor, right, check_finite=False)
            break
        except np.linalg.LinAlgError:
            ridge *= 100
    weights, newton = solved[:, :-1], solved[:, -1]
    multipliers = np.linalg.lstsq(b.T @ weights, np.array(residual) + b.T @ newton, rcond=1e-10)[0]
    step: FloatArray = weights @ multipliers - newton
    return step


def _to_bound(alpha: FloatArray, box: FloatArray, direction: FloatArray) -> tuple[float, BoolArray]:
    """The longest step along a direction, at most 1, within the bounds, and the mask of the variables that limit it."""
    room = np.where(direction > 0, box - alpha, alpha)
    speed = np.abs(direction)
    reach = np.divide(room, speed, out=np.full_like(room, np.inf), where=speed > 1e-300)
    step = min(1.0, float(reach.min()))
    return step, reach <= step if step < 1 else np.zeros(len(alpha), dtype=bool)
