"""The constraints of SSAD's dual, their feasibility, and the KKT conditions of a solution."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow.kernels import FloatArray

BoolArray = npt.NDArray[np.bool_]

# Within this relative distance of the border of feasibility, the constraints practically fix some of the variables.
TIGHT = 1e-9


@dataclass(frozen=True)
class Problem:
    """The constraints of a dual: kappa, and the signs, upper bounds and three groups of rows, each of shape (n,)."""

    y: FloatArray
    box: FloatArray
    unlabeled: BoolArray
    normals: BoolArray
    anomalies: BoolArray
    kappa: float

    @property
    def labeled(self) -> BoolArray:
        """The mask of labeled normals and anomalies, shape (n,)."""
        return self.normals | self.anomalies

    @property
    def groups(self) -> tuple[BoolArray, BoolArray, BoolArray]:
        """The masks of unlabeled rows, labeled normals and anomalies."""
        return self.unlabeled, self.normals, self.anomalies

    def room(self) -> tuple[float, float, float]:
        """Sums of the upper bounds over unlabeled rows, labeled normals and anomalies."""
        unlabeled, normals, anomalies = (float(self.box[group].sum()) for group in self.groups)
        return unlabeled, normals, anomalies

    def subset(self, rows: npt.NDArray[np.intp]) -> "Problem":
        """The constraints on some rows, with a = 0 for all others; if none of the rows is labeled, kappa is 0."""
        unlabeled, normals, anomalies = (group[rows] for group in self.groups)
        kappa = self.kappa if (normals | anomalies).any() else 0.0
        return Problem(self.y[rows], self.box[rows], unlabeled, normals, anomalies, kappa)


def make_problem(semi_y: npt.ArrayLike, n: int, kappa: float, eta_u: float, eta_l: float) -> Problem:
    """Make the constraints for given labels; arguments as in :func:`~deepsad_pl.shallow.ssad_solver.solve_ssad`.

    Raises:
        ValueError: if a shape or a number is out of its range.
    """
    semi = np.asarray(semi_y)
    if semi.shape != (n,) or n == 0:
        raise ValueError(
            f"semi_y has shape {semi.shape} for {n} rows; there must be one label per row and at least one row"
        )
    if not np.isin(semi, (-1, 0, 1)).all():
        raise ValueError(f"semi_y holds {sorted(set(semi.tolist()) - {-1, 0, 1})[:3]}; only -1, 0 and +1 are allowed")
    if not (0 <= kappa < np.inf):
        raise ValueError(f"kappa is {kappa}; it must be >= 0")
    for name, eta in (("eta_u", eta_u), ("eta_l", eta_l)):
        if not (0 < eta < np.inf):
            raise ValueError(f"{name} is {eta}; it must be > 0")
    y = np.where(semi == -1, -1.0, 1.0)
    box = np.where(semi == 0, float(eta_u), float(eta_l))
    return Problem(y, box, semi == 0, semi == 1, semi == -1, float(kappa) if semi.any() else 0.0)


def check_rows(semi_y: npt.NDArray[np.int64], *, kappa: float, eta_u: float, eta_l: float) -> None:
    """Check that SSAD has a solution for training rows with these semi-labels.

    Args:
        semi_y: semi-labels, shape (n,).
        kappa: weight of the margin, >= 0.
        eta_u: weight of an unlabeled row's slack, > 0.
        eta_l: weight of a labeled row's slack, > 0.

    Raises:
        DeepSADError: if it has no solution.
    """
    require_feasible(make_problem(semi_y, len(semi_y), kappa, eta_u, eta_l), eta_u, eta_l)


def slacks(problem: Problem) -> tuple[float, float, float, float]:
    """The relative slack of each of the four conditions of feasibility; negative if a condition is violated.

    Let U, N and A be the sums of a over unlabeled rows, labeled normals and anomalies, so that U + N - A = 1 and
    N + A >= kappa. A solution exists if these hold with each sum at its upper bound: N + A >= kappa; 1 + 2A >= kappa,
    since N + A = 1 + 2A - U and U >= 0; 2N + U - 1 >= kappa, since N + A = 2N + U - 1; and U + N >= 1, since A >= 0.
    """
    unlabeled, normals, anomalies = problem.room()
    kappa = problem.kappa if problem.labeled.any() else -np.inf
    size = max(1.0, problem.kappa)
    return (
        (normals + anomalies - kappa) / size,
        (1 + 2 * anomalies - kappa) / size,
        (2 * normals + unlabeled - 1 - kappa) / size,
        unlabeled + normals - 1,
    )


def require_feasible(problem: Problem, eta_u: float, eta_l: float) -> None:
    """Check that a problem has a solution.

    Raises:
        DeepSADError: if it has none; the message says which value to change.
    """
    n_u, n_n, n_a = (int(group.sum()) for group in problem.groups)
    unlabeled, normals, anomalies = problem.room()
    kappa = problem.kappa
    labeled, per_anomaly, positive, total = (slack < -TIGHT for slack in slacks(problem))
    if labeled:
        raise DeepSADError(
            f"SSAD has no solution: kappa is {kappa:g}, but at most {normals + anomalies:g} is possible with "
            f"{counted(n_n + n_a, 'labeled row')} and eta_l {eta_l:g}; lower kappa to that or raise eta_l to "
            f"{kappa / (n_n + n_a):g}"
        )
    if per_anomaly:
        raise DeepSADError(
            f"SSAD has no solution: kappa is {kappa:g}, but at most 1 + 2 * {anomalies:g} = {1 + 2 * anomalies:g} is "
            f"possible with {counted(n_a, 'labeled anomaly', 'labeled anomalies')} and eta_l {eta_l:g}; lower kappa to "
            "that or label more anomalies"
        )
    if total or positive:
        needed = max(1 - normals, 1 + kappa - 2 * normals)
        way_out = "add unlabeled rows" if n_u == 0 else f"raise eta_u to {needed / n_u:g}"
        if not total:
            way_out += f" or lower kappa to {unlabeled + 2 * normals - 1:g}"
        raise DeepSADError(
            f"SSAD has no solution: {counted(n_u, 'unlabeled row')} times eta_u {eta_u:g} is {unlabeled:g}, but with "
            f"kappa {kappa:g} and {counted(n_n, 'labeled normal')} it must be at least {needed:g}; {way_out}"
        )


def is_held(problem: Problem, alpha: FloatArray) -> bool:
    """Whether the constraint on the sum of a over labeled rows is active."""
    labeled = problem.labeled
    return bool(labeled.any()) and float(alpha[labeled].sum()) <= problem.kappa * (1 + 1e-9) + 1e-12


def levels_of(problem: Problem, alpha: FloatArray, f: FloatArray) -> list[tuple[float, float]]:
    """The intervals in which rho, rho + g and rho - g must lie by the KKT conditions.

    These are the levels of unlabeled rows, labeled normals and anomalies, in this order. For unlabeled rows and labeled
    normals, f = <w, phi> must be at or above the level where a = 0, and at or below it where a = eta; for anomalies the
    other way round. For free rows f equals the level; their mean, weighted by the distance to the bounds, is the least
    noisy estimate of it.
    """
    levels = []
    for group in problem.groups:
        a, box, values = alpha[group], problem.box[group], f[group]
        weight = a * (box - a)
        if weight.sum() > 0:
            mean = float(weight @ values / weight.sum())
            levels.append((mean, mean))
            continue
        above, below = values[a <= 0], values[a > 0]
        if group is problem.anomalies:
            above, below = below, above
        levels.append((float(below.max(initial=-np.inf)), float(above.min(initial=np.inf))))
    return levels


def multipliers(
    problem: Problem, alpha: FloatArray, f: FloatArray, held: bool, lowest: float = 0.0
) -> tuple[float, float, float]:
    """rho, g >= lowest, and their largest distance from an interval of :func:`levels_of`; g = 0 unless ``held``."""
    levels = levels_of(problem, alpha, f)
    finite = [abs(end) for level in levels for end in level if np.isfinite(end)]
    scale = max(finite, default=1.0) or 1.0
    left, right = [], []
    for sign, (low, high) in zip((0.0, 1.0, -1.0), levels, strict=True):
        if np.isfinite(low):
            left.append([-1.0, -sign, -1.0])
            right.append(-low / scale)
        if np.isfinite(high):
            left.append([1.0, sign, -1.0])
            right.append(high / scale)
    margin = (lowest, np.inf) if held else (0.0, 0.0)
    found = linprog([0, 0, 1], left, right, bounds=[(-np.inf, np.inf), margin, (0, np.inf)], method="highs-ds")
    rho, g, error = found.x * scale
    return float(rho), float(max(g, lowest)), float(error)


def violations(problem: Problem, alpha: FloatArray, f: FloatArray, rho: float, margin: float) -> FloatArray:
    """The amount by which each row violates the KKT conditions, shape (n,)."""
    slope = problem.y * (f - rho) - problem.labeled * margin
    missing = np.where(alpha < problem.box, -slope, 0.0)
    excess = np.where(alpha > 0, slope, 0.0)
    return np.maximum(np.maximum(missing, excess), 0.0)


def norm2(matrix: FloatArray, problem: Problem, alpha: FloatArray) -> float:
    """|w|^2, twice the objective."""
    weights = problem.y * alpha
    return float(weights @ (matrix @ weights))
