r"""Convex semi-supervised anomaly detection (SSAD) with Gaussian kernel.

Objective. A one-class SVM in which labeled samples must keep a margin g from the boundary, on their own side of it:

.. math::

    \min_{w, \rho, g, \xi} \frac12 \|w\|^2 - \rho - \kappa g + \eta_u \sum_i \xi_i + \eta_l \sum_j \tilde\xi_j
    \quad \text{s.t.} \quad
    \langle w, \varphi(x_i) \rangle \ge \rho - \xi_i, \quad
    \tilde y_j \langle w, \varphi(\tilde x_j) \rangle \ge \tilde y_j \rho + g - \tilde\xi_j, \quad
    g, \xi, \tilde\xi \ge 0,

over unlabeled rows i and labeled rows j with :math:`\tilde y = -1` for known anomalies and +1 for known normals. With
y = +1 on unlabeled rows, its dual is

.. math::

    \min_\alpha \frac12 \alpha^\top (y y^\top \circ K) \alpha \quad \text{s.t.} \quad
    \sum_i y_i \alpha_i = 1, \; \sum_{j \in L} \alpha_j \ge \kappa, \; 0 \le \alpha \le \eta,

and the score is :math:`s(x) = \rho - \sum_i y_i \alpha_i k(x_i, x)`. Without labels it is the one-class SVM with
:math:`\nu = 1 / (n \eta_u)`. How it is solved: :mod:`deepsad_pl.shallow.ssad_solver`.

Source: N. Goernitz, M. Kloft, K. Rieck, U. Brefeld: Toward supervised anomaly detection, Journal of Artificial
Intelligence Research 46, 2013. As a baseline: Ruff et al., Deep semi-supervised anomaly detection, ICLR 2020, appendix
C.

Knobs:
    ``gammas``: scales of the kernel to select from, the paper's 2^-7 ... 2^2.
    ``kappa``: worth of the margin; 1 as its authors recommend. 0 asks for no margin.
    ``eta_u``, ``eta_l``: costs of slack of unlabeled and of labeled rows, and so the largest weight that one row can
    have; 1 as recommended. The weights of the positive side exceed those of the negative one by just 1 in all, so that
    at a cost of 1 few rows reach it and the boundary leaves hardly an unlabeled row outside: with pollution a smaller
    ``eta_u`` (1 / (n nu) for a share nu outside) is worth a trial.
    With labeled normals only (``scenario.gamma_n`` > 0, gamma_l = 0) a kappa of 1 is already met by them: the dual
    then leaves all unlabeled rows at weight 0, a one-class SVM of the labeled normals. A kappa below 1 lets both count.
    ``selection``: ``test_subset`` is the paper's, which maximizes AUROC on 10% of the test set: an unfair advantage, as
    the authors say. **Its figures cannot be reached without test labels.** ``holdout`` maximizes AUROC of held-out
    labeled anomalies against the other held-out training rows; without two labeled anomalies, it takes the largest
    gamma that is consistent at :math:`\nu = 1 / (n \eta_u)`. ``none`` takes scikit-learn's default scale.

What differs from common practice, and why:
    The score keeps its offset, which is not needed for a ranking but for held-out rejection.
    The subset of the test set has its own random stream; in the authors' code it comes from the global one, so that it
    depends on what was drawn before.
    With gamma_l = 0 the paper prints the OC-SVM's figures in SSAD's column, the best over five nus. SSAD itself is then
    the OC-SVM at :math:`\nu = 1/n`, nearly a hard margin, and its figures are other ones.
"""

from typing import Any, Literal

import numpy as np

from deepsad_pl.common.ranges import NonNegative, Positive, Positives
from deepsad_pl.shallow.kernel_grid import MAX_PRECOMPUTED_ROWS, Machine, Matrix, Point, Solution, fit_grid
from deepsad_pl.shallow.kernels import FloatArray
from deepsad_pl.shallow.selection import IntArray
from deepsad_pl.shallow.ssad_solver import SSADSolution, solve_ssad, solve_ssad_rows
from deepsad_pl.shallow.task import Fitted, Task


class SSAD(Machine):
    """SSAD as a machine for the grid, without outer values; see the module."""

    def __init__(self, kappa: float, eta_u: float, eta_l: float) -> None:
        self._costs: dict[str, Any] = {"kappa": float(kappa), "eta_u": float(eta_u), "eta_l": float(eta_l)}

    def settings(self) -> dict[str, Any]:
        """Its name, kappa, eta_u and eta_l."""
        return {"name": "ssad", **self._costs}

    def solve(self, kernel: FloatArray, semi_y: IntArray, outer: float | None) -> Solution:
        """Solve on a precomputed kernel, which is spoiled."""
        return _solution(solve_ssad(kernel, semi_y, **self._costs, overwrite_kernel=True), semi_y)

    def solve_rows(self, x: Matrix, semi_y: IntArray, point: Point, threads: int) -> Solution:
        """Solve on rows."""
        return _solution(
            solve_ssad_rows(x, point.gamma, semi_y, **self._costs, max_rows=int(MAX_PRECOMPUTED_ROWS / threads**0.5)),
            semi_y,
        )

    def reject_rate(self, semi_y: IntArray, outer: float | None) -> float:
        """1 / (n eta_u), the nu of the one-class SVM that SSAD is without labeled rows."""
        n, eta_u = int((semi_y != -1).sum()), float(self._costs["eta_u"])
        return min(1.0, 1 / (n * eta_u))


def fit_ssad(
    task: Task,
    *,
    gammas: Positives,
    kappa: NonNegative,
    eta_u: Positive,
    eta_l: Positive,
    selection: Literal["test_subset", "holdout", "none"],
) -> Fitted:
    """Fit SSAD; see the module for the objective and the protocols.

    Args:
        task: the data and where to work.
        gammas: scales of the kernel to select from, > 0.
        kappa: worth of the margin of labeled rows, >= 0.
        eta_u: cost of slack of unlabeled rows, > 0.
        eta_l: cost of slack of labeled rows, > 0.
        selection: ``test_subset``, ``holdout`` or ``none``.

    Raises:
        ValueError: if there is no such selection.
        DeepSADError: if the problem has no solution or the protocol cannot work on these data.
    """
    machine = SSAD(kappa, eta_u, eta_l)
    return fit_grid(task, machine, semi_y=task.semi_y, gammas=gammas, outers=[None], outer=None, selection=selection)


def _solution(solved: SSADSolution, semi_y: IntArray) -> Solution:
    support = np.flatnonzero(solved.alpha)
    coef = np.where(semi_y[support] == -1, -1.0, 1.0) * solved.alpha[support]
    return Solution(support.astype(np.int64), coef, float(solved.rho))
