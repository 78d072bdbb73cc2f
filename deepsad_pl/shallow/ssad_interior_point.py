"""SSAD's quadratic programs in their general form, solved by clarabel's interior-point method."""

import numpy as np
from scipy import sparse

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow.kernels import FloatArray


def interior_point(
    matrix: FloatArray,
    y: FloatArray,
    box: FloatArray,
    equal: FloatArray,
    amount: float,
    *,
    linear: FloatArray | None = None,
    at_least: FloatArray | None = None,
    kappa: float = 0.0,
) -> FloatArray:
    """Solve a quadratic program with clarabel::

        min 1/2 a' (yy' o K) a + linear'a    such that equal a = amount, at_least'a >= kappa, 0 <= a <= box

    Raises:
        DeepSADError: if clarabel finds no solution.
    """
    import clarabel

    n = len(matrix)
    diagonal = float(np.diagonal(matrix).mean()) or 1.0
    quadratic = matrix * (y / diagonal)
    quadratic *= y[:, None]
    upper = sparse.csc_array(np.triu(quadratic))
    del quadratic
    eye = sparse.identity(n, format="csc")
    rows, bounds = [sparse.csc_array(equal), -eye, eye], [np.array([amount]), np.zeros(n), box]
    if at_least is not None:
        rows.append(sparse.csc_array(-at_least[None].astype(np.float64)))
        bounds.append(np.array([-kappa]))
    bound = np.concatenate(bounds)
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(len(bound) - 1)]
    cost = np.zeros(n) if linear is None else linear / diagonal
    for tolerance in (1e-10, 1e-8, 1e-6):
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        # faer is the factorization for dense problems; on one thread it gives the same bits every time.
        settings.direct_solve_method, settings.max_threads = "faer", 1
        settings.tol_gap_abs, settings.tol_gap_rel, settings.tol_feas = tolerance * 1e-2, tolerance, tolerance
        solver = clarabel.DefaultSolver(upper, cost, sparse.vstack(rows, format="csc"), bound, cones, settings)
        found = solver.solve()
        if found.status == clarabel.SolverStatus.Solved:
            alpha: FloatArray = np.clip(np.array(found.x), 0, box)
            # Variables at a bound only come close to it, so the duals of the bounds decide which ones are at it.
            at_zero, at_box = np.array(found.z)[1 : 2 * n + 1].reshape(2, n)
            alpha[at_zero > alpha] = 0
            full = at_box > box - alpha
            alpha[full] = box[full]
            return alpha
    raise DeepSADError(
        f"SSAD was not solved: clarabel gave up on a quadratic program of {n} rows; check the data for huge or missing "
        "values, or choose another gamma"
    )
