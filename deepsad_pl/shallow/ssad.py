r"""Convex semi-supervised anomaly detection (SSAD) with a Gaussian kernel.

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

and the score is :math:`s(x) = \rho - \sum_i y_i \alpha_i k(x_i, x)`. Without labels, SSAD is the one-class SVM with
:math:`\nu = 1 / (n \eta_u)`. :mod:`deepsad_pl.shallow.ssad_solver` explains how the dual is solved.

Source: N. Goernitz, M. Kloft, K. Rieck, U. Brefeld: Toward supervised anomaly detection, Journal of Artificial
Intelligence Research 46, 2013. As a baseline: Ruff et al., Deep semi-supervised anomaly detection, ICLR 2020, appendix
C.

Knobs:
    ``gammas``: candidate kernel scales, in the paper 2^-7 ... 2^2.
    ``kappa``: weight of the margin; 1 as the authors of SSAD recommend, 0 for no margin.
    ``eta_u``, ``eta_l``: slack costs of unlabeled and of labeled rows, which are also the upper bounds of their weights
    alpha; 1 as recommended. The weights of all rows with y = +1 add up to only 1 more than those of the rows with
    y = -1, so with a cost of 1 few rows reach their bound and hardly any unlabeled row is left outside the boundary.
    With pollution, a smaller ``eta_u`` (1 / (n nu) for a share nu outside) is worth trying.
    With labeled normals but no labeled anomalies (``scenario.gamma_n`` > 0, gamma_l = 0), kappa = 1 gives the labeled
    normals all weight and unlabeled rows none: SSAD is then the one-class SVM of the labeled normals. With kappa < 1
    unlabeled rows count too.
    ``selection``: ``test_subset`` is the paper's protocol, which maximizes AUROC on 10% of the test set. The authors
    call this an unfair advantage. **Its results cannot be reached without test labels.** ``holdout`` maximizes the
    AUROC of held-out labeled anomalies against the other held-out training rows; with fewer than two labeled anomalies
    it takes the largest gamma that is consistent at :math:`\nu = 1 / (n \eta_u)`. With given labels, ``holdout``
    maximizes the mean AUROC over five folds, or one fold for each labeled anomaly if there are fewer; with fewer than
    two labeled anomalies it does what ``none`` does (:mod:`~deepsad_pl.shallow.kernel_grid`). ``none`` takes
    scikit-learn's default scale.

What differs from common practice, and why:
    The score includes the offset rho. A ranking does not need it, but the rejection of held-out rows does.
    The test subset is drawn from a separate random stream; in the authors' code it is drawn from the global one and so
    depends on earlier draws.
    For gamma_l = 0 the paper's SSAD column repeats the results of the OC-SVM, which are the best over five nus. SSAD
    itself is then the OC-SVM with :math:`\nu = 1/n`, nearly a hard margin, so its results differ from the paper's.
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
    """SSAD as a machine for the grid, without outer values; see the module docstring."""

    def __init__(self, kappa: float, eta_u: float, eta_l: float) -> None:
        self._costs: dict[str, Any] = {"kappa": float(kappa), "eta_u": float(eta_u), "eta_l": float(eta_l)}

    def settings(self) -> dict[str, Any]:
        """The name, kappa, eta_u and eta_l."""
        return {"name": "ssad", **self._costs}

    def solve(self, kernel: FloatArray, semi_y: IntArray, outer: float | None) -> Solution:
        """Solve on a precomputed kernel, which is modified in place."""
        return _solution(solve_ssad(kernel, semi_y, **self._costs, overwrite_kernel=True), semi_y)

    def solve_rows(self, x: Matrix, semi_y: IntArray, point: Point, threads: int) -> Solution:
        """Solve from the rows."""
        return _solution(
            solve_ssad_rows(x, point.gamma, semi_y, **self._costs, max_rows=int(MAX_PRECOMPUTED_ROWS / threads**0.5)),
            semi_y,
        )

    def reject_rate(self, semi_y: IntArray, outer: float | None) -> float:
        """Return 1 / (n eta_u), at most 1: the nu of the one-class SVM that SSAD becomes without labeled rows."""
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
    """Fit SSAD; the module docstring explains the objective and the protocols.

    Args:
        task: training data and resources.
        gammas: candidate kernel scales, each > 0.
        kappa: weight of the margin of labeled rows, >= 0.
        eta_u: slack cost of unlabeled rows, > 0.
        eta_l: slack cost of labeled rows, > 0.
        selection: ``test_subset``, ``holdout`` or ``none``.

    Raises:
        ValueError: if the selection is unknown.
        DeepSADError: if the problem has no solution or the data do not suit the protocol.
    """
    machine = SSAD(kappa, eta_u, eta_l)
    return fit_grid(task, machine, semi_y=task.semi_y, gammas=gammas, outers=[None], outer=None, selection=selection)


def _solution(solved: SSADSolution, semi_y: IntArray) -> Solution:
    support = np.flatnonzero(solved.alpha)
    coef = np.where(semi_y[support] == -1, -1.0, 1.0) * solved.alpha[support]
    return Solution(support.astype(np.int64), coef, float(solved.rho))
