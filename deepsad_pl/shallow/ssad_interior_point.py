"""Quadratic programs of the general form, by cvxopt."""

import numpy as np

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
    """min 1/2 a' (yy' o K) a + linear'a such that equal a = amount, at_least'a >= kappa, 0 <= a <= box, by cvxopt.

    Raises:
        DeepSADError: if cvxopt gives up.
    """
    from cvxopt import matrix as dense  # type: ignore[import-untyped]
    from cvxopt import solvers, spdiag, spmatrix
    from cvxopt import sparse as stacked

    n = len(matrix)
    diagonal = float(np.diagonal(matrix).mean()) or 1.0
    quadratic = matrix * (y / diagonal)
    quadratic *= y[:, None]
    eye = spdiag([1.0] * n)
    blocks, bounds = [-eye, eye], [np.zeros(n), box]
    if at_least is not None:
        picked = np.flatnonzero(at_least).tolist()
        blocks.append(spmatrix(-1.0, [0] * len(picked), picked, (1, n)))
        bounds.append(np.array([-kappa]))
    p = dense(quadratic)
    del quadratic
    for tolerance in (1e-10, 1e-8, 1e-6):
        options = {"show_progress": False, "abstol": tolerance * 1e-2, "reltol": tolerance, "feastol": tolerance}
        try:
            found = solvers.qp(
                p,
                dense(np.zeros(n) if linear is None else linear / diagonal),
                stacked(blocks),
                dense(np.concatenate(bounds)),
                dense(equal),
                dense(float(amount)),
                options=options,
            )
        except (ArithmeticError, ValueError):
            continue
        if found["status"] == "optimal":
            alpha = np.clip(np.array(found["x"], dtype=np.float64).ravel(), 0, box)
            # The duals of the bounds tell the rows at a bound, whose variables only come close to it.
            at_zero, at_box = np.array(found["z"], dtype=np.float64).ravel()[: 2 * n].reshape(2, n)
            alpha[at_zero > alpha] = 0
            full = at_box > box - alpha
            alpha[full] = box[full]
            return alpha
    raise DeepSADError(
        f"SSAD was not solved: cvxopt gave up on a quadratic program of {n} rows; check the data for huge or missing "
        "values, or choose another gamma"
    )
