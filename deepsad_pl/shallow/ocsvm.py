r"""The one-class SVM with Gaussian kernel, equivalent to SVDD for it.

Objective. The hyperplane that separates the images of the data from the origin with the largest margin, where the share
nu of them may lie on the wrong side:

.. math::

    \min_{w, \rho, \xi} \frac12 \|w\|^2 - \rho + \frac{1}{\nu n} \sum_{i=1}^n \xi_i
    \quad \text{s.t.} \quad \langle w, \varphi(x_i) \rangle \ge \rho - \xi_i, \; \xi_i \ge 0,

with :math:`\langle \varphi(x), \varphi(x') \rangle = k(x, x') = \exp(-\gamma \|x - x'\|^2)`. Its dual, as libsvm scales
it, is

.. math::

    \min_\alpha \frac12 \alpha^\top K \alpha \quad \text{s.t.} \quad 0 \le \alpha_i \le 1, \; \sum_i \alpha_i = \nu n,

and the score is :math:`s(x) = \rho - \sum_i \alpha_i k(x_i, x)`: positive outside of the estimated support, and the
negative of scikit-learn's ``decision_function``. Because k(x, x) = 1 for every x, the smallest ball around the data in
feature space (SVDD) has the same solution.

Source: B. Schoelkopf, J. C. Platt, J. Shawe-Taylor, A. J. Smola, R. C. Williamson: Estimating the support of a
high-dimensional distribution, Neural Computation 13(7), 2001; D. M. J. Tax, R. P. W. Duin: Support vector data
description, Machine Learning 54(1), 2004. As a baseline: Ruff et al., Deep semi-supervised anomaly detection, ICLR
2020, appendix C.

Knobs:
    ``gammas``: scales to select from, the paper's 2^-7 ... 2^2. A small one makes the support nearly a ball around the
    mean, a large one a neighborhood of each training row.
    ``nus``: for ``selection=test_subset``. nu is an upper bound of the share of training rows outside and a lower bound
    of the share of support vectors; the paper's .01, .05, .1, .2, .5.
    ``nu``: for the other two protocols.
    ``selection``: ``test_subset`` is the paper's, which maximizes AUROC on 10% of the test set and takes the best nu on
    all of it: the authors call that an unfair advantage, granted to have a strong baseline. **Its figures cannot be
    reached without test labels.** ``holdout`` takes the largest gamma that is consistent on held-out training rows,
    ``none`` scikit-learn's default.

What differs from common practice, and why:
    One matrix of distances by one matrix product serves all gammas, and one precomputed kernel all nus: at n = 5,700
    and D = 784 a fit takes 1-2 s instead of up to 7.5 s, with scores equal to 1e-9. Where n > 10,000 that matrix would
    not fit and libsvm computes and caches what it needs.
    The subset of the test set has its own random stream; in the authors' code it comes from the global one, so that it
    depends on what was drawn before.
    nu = 1 is refused: then every row is at its bound, rho is not determined and libsvm returns infinity.

Semi-labels are not looked at: every row is data. Labeled anomalies are for the caller to leave out.
"""

from typing import Any, Literal

import numpy as np
from sklearn.svm import OneClassSVM

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Positives, Share, Shares
from deepsad_pl.shallow.kernel_grid import Machine, Matrix, Point, Solution, fit_grid
from deepsad_pl.shallow.kernels import FloatArray
from deepsad_pl.shallow.selection import IntArray
from deepsad_pl.shallow.task import Fitted, Task

# Of kernel rows, in all solves together: a precomputed kernel of 10,000 rows in libsvm's single precision.
_CACHE_MB = 500.0
# In a solve on a precomputed kernel, of which libsvm caches copies in single precision.
_PRECOMPUTED_CACHE_MB = 100.0


class OCSVM(Machine):
    """libsvm's one-class SVM as a machine for the grid; see the module."""

    outer_name = "nu"

    def settings(self) -> dict[str, Any]:
        """Nothing but its name: nu is the outer value."""
        return {"name": "ocsvm"}

    def solve(self, kernel: FloatArray, semi_y: IntArray, outer: float | None) -> Solution:
        """Solve on a precomputed kernel, which stays as it is."""
        return _solution(OneClassSVM(kernel="precomputed", nu=outer, cache_size=_PRECOMPUTED_CACHE_MB).fit(kernel))

    def solve_rows(self, x: Matrix, semi_y: IntArray, point: Point, threads: int) -> Solution:
        """Solve on rows with libsvm's own cache."""
        svm = OneClassSVM(kernel="rbf", gamma=point.gamma, nu=point.outer, cache_size=_CACHE_MB / threads)
        return _solution(svm.fit(x))

    def reject_rate(self, semi_y: IntArray, outer: float | None) -> float:
        """Nu itself."""
        assert outer is not None
        return outer


def fit_ocsvm(
    task: Task, *, gammas: Positives, nus: Shares, nu: Share, selection: Literal["test_subset", "holdout", "none"]
) -> Fitted:
    """Fit a one-class SVM; see the module for the objective and the protocols.

    Args:
        task: the data and where to work; its semi-labels are ignored.
        gammas: scales of the kernel to select from, > 0.
        nus: in (0, 1), to select from with ``test_subset``.
        nu: in (0, 1), for ``holdout`` and ``none``.
        selection: ``test_subset``, ``holdout`` or ``none``.

    Raises:
        ValueError: if there is no such selection.
        DeepSADError: if a value is out of its range or the protocol cannot work on these data.
    """
    used = {"nus": nus} if selection == "test_subset" else {"nu": [nu]}
    for key, values in used.items():
        for value in values:
            if not 0 < value < 1:
                raise DeepSADError(
                    f"method.{key} holds {value}, but nu is the share of training rows that may lie outside; it "
                    "must be > 0 and < 1"
                )
    semi_y = np.zeros(len(task.x), dtype=np.int64)
    return fit_grid(
        task, OCSVM(), semi_y=semi_y, gammas=gammas, outers=[float(v) for v in nus], outer=nu, selection=selection
    )


def _solution(svm: OneClassSVM) -> Solution:
    coef = np.asarray(svm.dual_coef_[0], dtype=np.float64)
    return Solution(svm.support_.astype(np.int64), coef, float(svm.offset_[0]))
