"""Three ways to score with a shallow method."""

from collections.abc import Callable

import numpy as np
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from benchmarks.problems import Matrix, Problem, random_images, table
from benchmarks.scoring import Case, Sizes
from deepsad_pl.shallow.kernel_grid import default_gamma
from deepsad_pl.shallow.kernels import FloatArray
from deepsad_pl.shallow.models import DensityModel, KernelModel, Model
from deepsad_pl.shallow.ssad_solver import solve_ssad_rows

Scorer = Callable[[Matrix], FloatArray]

OURS = "ours"
_MAKE: dict[str, Callable[[int], Problem]] = {"table": table, "images": random_images}
_NU, _BANDWIDTH = 0.5, 2**0.5


def shallow_cases(subject: str, sizes: Sizes) -> dict[str, Case]:
    """Ways to score with a shallow method: by the library that it comes from, by our model, and one by one.

    Args:
        subject: one of :data:`~benchmarks.subjects.SHALLOW`.
        sizes: numbers of rows.

    Returns:
        The cases by name; the library, which is the baseline, comes first.
    """
    method, data = subject.split()
    problem = _MAKE[data](sizes.rows)
    library, plain, model = _METHODS[method](problem)
    queries = np.resize(problem.queries, (sizes.queries, problem.queries.shape[1]))

    def one_by_one() -> FloatArray:
        return np.concatenate([model.score(queries[i : i + 1]) for i in range(min(sizes.alone, len(queries)))])

    return {
        library: Case(len(queries), lambda: plain(queries)),
        OURS: Case(len(queries), lambda: model.score(queries)),
        "one by one": Case(min(sizes.alone, len(queries)), one_by_one),
    }


def _ocsvm(problem: Problem) -> tuple[str, Scorer, Model]:
    svm = OneClassSVM(kernel="rbf", gamma=default_gamma(problem.x), nu=_NU).fit(problem.x)
    coef, offset = svm.dual_coef_[0].astype(np.float64), float(svm.offset_[0])
    model = KernelModel(problem.x[svm.support_], coef, default_gamma(problem.x), offset)
    return "OneClassSVM", lambda x: -svm.decision_function(x), model


def _kde(problem: Problem) -> tuple[str, Scorer, Model]:
    density = KernelDensity(bandwidth=_BANDWIDTH).fit(problem.x)
    return "KernelDensity", lambda x: -density.score_samples(x), DensityModel(problem.x, _BANDWIDTH)


def _ssad(problem: Problem) -> tuple[str, Scorer, Model]:
    gamma = default_gamma(problem.x)
    # A small slack cost gives many support vectors, as pollution does.
    solution = solve_ssad_rows(problem.x, gamma, problem.semi_y, eta_u=4 / len(problem.x))
    coef = np.where(problem.semi_y == -1, -1.0, 1.0) * solution.alpha
    support = np.flatnonzero(coef)
    rows, coef = problem.x[support], coef[support]
    model = KernelModel(rows, coef, gamma, solution.rho)
    return "rbf_kernel", lambda x: solution.rho - rbf_kernel(x, rows, gamma=gamma) @ coef, model


_METHODS: dict[str, Callable[[Problem], tuple[str, Scorer, Model]]] = {"OC-SVM": _ocsvm, "KDE": _kde, "SSAD": _ssad}
