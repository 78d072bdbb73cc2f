"""The SSAD dual against independent solvers, and against its own optimality conditions."""

import numpy as np
import pytest
from cvxopt import matrix as dense
from cvxopt import solvers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize
from sklearn.svm import NuSVC, OneClassSVM

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import ssad_libsvm, ssad_solver
from deepsad_pl.shallow.ssad_solver import SSADSolution, solve_ssad, solve_ssad_rows


def rbf(x, gamma, z=None):
    z = x if z is None else z
    return np.exp(-gamma * ((x[:, None] - z[None]) ** 2).sum(-1))


def signs(semi_y):
    return np.where(semi_y == -1, -1.0, 1.0)


def labels(n, anomalies, normals=0):
    semi_y = np.zeros(n, dtype=int)
    semi_y[:anomalies] = -1
    semi_y[anomalies : anomalies + normals] = 1
    return semi_y


def oracle(kernel, semi_y, kappa=1.0, eta_u=1.0, eta_l=1.0):
    """The whole dual, written out for cvxopt."""
    n, y = len(kernel), signs(semi_y)
    inequality = [-np.eye(n), np.eye(n)]
    bound = [np.zeros(n), np.where(semi_y == 0, eta_u, eta_l)]
    if semi_y.any():
        inequality.append(-(semi_y != 0).astype(float)[None])
        bound.append(np.array([-kappa]))
    found = solvers.qp(
        dense(kernel * np.outer(y, y)),
        dense(np.zeros(n)),
        dense(np.vstack(inequality)),
        dense(np.concatenate(bound)),
        dense(y[None]),
        dense(1.0),
        options={"show_progress": False, "abstol": 1e-12, "reltol": 1e-12, "feastol": 1e-10, "maxiters": 200},
    )
    return np.array(found["x"]).ravel()


def value(kernel, semi_y, alpha):
    weights = signs(semi_y) * alpha
    return 0.5 * weights @ kernel @ weights


def assert_agrees(solution, kernel, semi_y, alpha, tolerance=1e-6):
    expected = -kernel @ (signs(semi_y) * alpha)
    scores = -kernel @ (signs(semi_y) * solution.alpha)
    assert solution.objective == pytest.approx(value(kernel, semi_y, alpha), rel=1e-7)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_optimal(solution: SSADSolution, kernel, semi_y, kappa=1.0, eta_u=1.0, eta_l=1.0, tolerance=1e-7):
    """Check feasibility, and the Karush-Kuhn-Tucker conditions with the multipliers of the solution."""
    y, labeled, a = signs(semi_y), semi_y != 0, solution.alpha
    box = np.where(labeled, eta_l, eta_u)
    f = kernel @ (y * a)
    size = 2 * solution.objective
    assert solution.objective == pytest.approx(0.5 * (y * a) @ f, rel=1e-12)
    assert (a >= 0).all()
    assert (a <= box).all()
    assert y @ a == pytest.approx(1, abs=1e-8)
    assert solution.margin >= 0
    if labeled.any():
        assert a[labeled].sum() >= kappa - 1e-8
        assert solution.margin * (a[labeled].sum() - kappa) <= tolerance * size * max(1, kappa)
    else:
        assert solution.margin == 0
    # Lagrangian's gradient in a_i: positive only at a_i = 0, negative only at a_i = eta_i.
    gradient = y * f - y * solution.rho - labeled * solution.margin
    assert (gradient[a < box] >= -tolerance * size).all()
    assert (gradient[a > 0] <= tolerance * size).all()


def polluted(rng, n=200, anomalies=20, pollution=30, dims=4):
    """Unlabeled rows, some of which lie among the labeled anomalies."""
    x = rng.normal(size=(n, dims))
    x[: anomalies + pollution] += 2
    return x, labels(n, anomalies)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("anomalies", "normals"), [(12, 0), (12, 9), (0, 9), (0, 0)])
def test_agrees_with_an_independent_formulation(seed, anomalies, normals):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(50, 160))
    x = rng.normal(size=(n, int(rng.integers(2, 12))))
    semi_y = labels(n, anomalies, normals)
    kernel = rbf(x, float(rng.choice([0.003, 0.05, 0.3, 2])))
    weights = {
        "kappa": float(rng.choice([0, 0.5, 0.9])),
        "eta_u": float(rng.choice([1, 4 / n])),
        "eta_l": float(rng.choice([1, 0.2])),
    }
    solution = solve_ssad(kernel, semi_y, **weights)
    assert_agrees(solution, kernel, semi_y, oracle(kernel, semi_y, **weights))
    assert_optimal(solution, kernel, semi_y, **weights)


@pytest.mark.parametrize(("anomalies", "normals", "kappa"), [(4, 5, 1.0), (4, 5, 2.5), (0, 6, 0.6), (5, 0, 1.0)])
def test_labeled_normals_agree_with_a_second_kind_of_solver(anomalies, normals, kappa):
    rng = np.random.default_rng(normals)
    semi_y = labels(30, anomalies, normals)
    kernel = rbf(rng.normal(size=(30, 3)), 0.4)
    y, labeled = signs(semi_y), semi_y != 0
    quadratic = kernel * np.outer(y, y)
    found = minimize(
        lambda a: 0.5 * a @ quadratic @ a,
        np.full(30, 1 / 30),
        jac=lambda a: quadratic @ a,
        method="SLSQP",
        bounds=[(0, 1)] * 30,
        constraints=[LinearConstraint(y, 1, 1), LinearConstraint(labeled.astype(float), kappa, np.inf)],
        options={"ftol": 1e-15, "maxiter": 2000},
    )
    solution = solve_ssad(kernel, semi_y, kappa=kappa)
    assert solution.objective == pytest.approx(found.fun, rel=1e-6)
    np.testing.assert_allclose(kernel @ (y * solution.alpha), kernel @ (y * found.x), atol=1e-4)
    assert_optimal(solution, kernel, semi_y, kappa=kappa)


@pytest.mark.parametrize("seed", range(4))
def test_pollution_makes_the_sum_over_anomalies_exceed_kappa(seed):
    x, semi_y = polluted(np.random.default_rng(seed))
    kernel = rbf(x, 0.05)
    solution = solve_ssad(kernel, semi_y)
    assert solution.solves > 1
    assert solution.margin == 0
    assert solution.alpha[semi_y == -1].sum() > 1.5
    assert_agrees(solution, kernel, semi_y, oracle(kernel, semi_y))
    # The result of a nu-SVC, which keeps the sum at kappa = 1.
    d = np.where(semi_y == -1, 1.0, 2.0)
    model = NuSVC(nu=2 / (1 / d).sum(), kernel="precomputed", tol=1e-8, max_iter=10**6)
    model.fit(kernel * np.outer(d, d), signs(semi_y), sample_weight=1 / d)
    beta = np.zeros(len(d))
    beta[model.support_] = np.abs(model.dual_coef_[0])
    held = d * beta / beta[semi_y == 0].sum()
    assert held[semi_y == -1].sum() == pytest.approx(1, abs=1e-4)
    assert value(kernel, semi_y, held) > 1.01 * solution.objective


def test_without_pollution_the_sum_over_anomalies_is_kappa_and_one_solve_is_enough():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    x[:20] += 4
    semi_y = labels(200, 20)
    for kappa in (0.3, 1.0, 2.0):
        solution = solve_ssad(rbf(x, 0.05), semi_y, kappa=kappa)
        assert solution.solves == 1
        assert solution.margin > 0
        assert solution.alpha[semi_y == -1].sum() == pytest.approx(kappa, rel=1e-12)
        assert_agrees(solution, rbf(x, 0.05), semi_y, oracle(rbf(x, 0.05), semi_y, kappa=kappa))


TIGHT = {
    "one anomaly": (labels(60, 1), {}),
    "anomalies at their bound": (labels(60, 4), {"eta_l": 0.25}),
    "anomalies at their bound, 3 * 0.1": (labels(60, 3), {"eta_l": 0.1, "kappa": 0.3}),
    "unlabeled rows at their bound": (labels(60, 5), {"eta_u": 2 / 55}),
    "everything at its bound": (labels(60, 2), {"eta_u": 2 / 58, "eta_l": 0.5}),
    "no label, everything at its bound": (labels(60, 0), {"eta_u": 1 / 60}),
    "normals only, no room for unlabeled rows": (labels(60, 0, 5), {}),
    "normals only, at their bound": (labels(60, 0, 5), {"eta_l": 0.2}),
    "all labeled rows at their bound": (labels(60, 3, 5), {"eta_l": 0.25, "kappa": 2.0}),
    "1 + 2 m eta_l = kappa": (labels(60, 1, 8), {"kappa": 3.0}),
    "all positive rows at their bound": (labels(60, 10, 5), {"eta_u": 0.02, "eta_l": 0.3, "kappa": 2.9}),
}


@pytest.mark.parametrize("case", TIGHT)
def test_feasibility_ends_where_it_should(case):
    semi_y, weights = TIGHT[case]
    kernel = rbf(np.random.default_rng(1).normal(size=(60, 3)), 0.3)
    solution = solve_ssad(kernel, semi_y, **weights)
    assert_optimal(solution, kernel, semi_y, **weights)


def test_a_single_anomaly_has_all_of_kappa():
    kernel = rbf(np.random.default_rng(2).normal(size=(80, 3)), 0.3)
    solution = solve_ssad(kernel, labels(80, 1))
    assert solution.alpha[0] == 1
    assert_agrees(solution, kernel, labels(80, 1), oracle(kernel, labels(80, 1)))


@pytest.mark.parametrize("eta_u", [1.0, 0.1])
def test_without_labels_ssad_equals_the_one_class_svm(eta_u):
    kernel = rbf(np.random.default_rng(3).normal(size=(100, 3)), 0.3)
    model = OneClassSVM(nu=1 / (100 * eta_u), kernel="precomputed", tol=1e-9).fit(kernel)
    solution = solve_ssad(kernel, labels(100, 0), eta_u=eta_u, kappa=7.0)
    # scikit-learn's alpha add up to nu n.
    ours = kernel @ solution.alpha / eta_u
    np.testing.assert_allclose(ours, model.score_samples(kernel), rtol=1e-6)
    assert solution.rho / eta_u == pytest.approx(model.offset_[0], rel=1e-5)


@pytest.mark.parametrize("normals", [0, 6])
@pytest.mark.parametrize("gamma", [0.01, 0.5])
def test_duplicate_rows_are_solved(gamma, normals):
    rng = np.random.default_rng(4)
    semi_y = labels(90, 9, normals)
    x = np.repeat(rng.normal(size=(30, 3)), 3, axis=0)
    # Row 1 of the anomalies and the last three rows, which are unlabeled, are the same point.
    x[-3:] = x[1]
    kernel = rbf(x, gamma)
    solution = solve_ssad(kernel, semi_y)
    assert_agrees(solution, kernel, semi_y, oracle(kernel, semi_y))
    assert_optimal(solution, kernel, semi_y)


def test_equal_rows_are_solved():
    solution = solve_ssad(np.ones((30, 30)), labels(30, 4, 3))
    assert solution.objective == pytest.approx(0.5)
    assert solution.rho == pytest.approx(1)


def test_a_kernel_on_which_libsvm_does_not_converge_is_solved():
    """A line of points: the kernel's rank is about 15 in double precision, and it is indefinite in single."""
    rng = np.random.default_rng(0)
    kernel, semi_y = rbf(rng.normal(size=(227, 1)), 1.0), labels(227, 41)
    solution = solve_ssad(kernel, semi_y)
    assert_agrees(solution, kernel, semi_y, oracle(kernel, semi_y))


def test_problems_that_libsvm_refuses_go_to_the_other_solver(monkeypatch):
    def refuse(*_):
        raise ssad_libsvm.NotSolvedError

    monkeypatch.setattr(ssad_libsvm, "_fit", refuse)
    kernel = rbf(np.random.default_rng(5).normal(size=(70, 3)), 0.3)
    for semi_y in (labels(70, 6), labels(70, 1), labels(70, 0)):
        solution = solve_ssad(kernel, semi_y)
        assert_agrees(solution, kernel, semi_y, oracle(kernel, semi_y))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n_u=st.integers(4, 25),
    anomalies=st.integers(0, 6),
    normals=st.integers(0, 5),
    gamma=st.floats(1e-3, 10),
    kappa=st.floats(0, 2),
    eta_u=st.floats(0.05, 2),
    eta_l=st.floats(0.05, 2),
    doubled=st.booleans(),
)
@example(0, 4, 1, 0, 1.0, 0.5, 1.0, 1.0, True)  # a free anomaly with a free unlabeled twin
@example(0, 5, 4, 0, 1.0, 1.6633045718326591, 1.0, 1.0, True)  # every sum over the anomalies up to kappa is optimal
@example(443, 10, 0, 3, 4.0, 0.25, 1.0, 1.0, False)  # an interior-point solver stops slightly above kappa
def test_solutions_meet_the_optimality_conditions(seed, n_u, anomalies, normals, gamma, kappa, eta_u, eta_l, doubled):
    x = np.random.default_rng(seed).normal(size=(n_u + anomalies + normals, 2))
    if doubled:
        x[len(x) // 2 :] = x[: len(x) - len(x) // 2]
    semi_y, weights = labels(len(x), anomalies, normals), {"kappa": kappa, "eta_u": eta_u, "eta_l": eta_l}
    try:
        solution = solve_ssad(rbf(x, gamma), semi_y, **weights)
    except DeepSADError:
        assert not feasible(semi_y, **weights)
        return
    assert_optimal(solution, rbf(x, gamma), semi_y, **weights)


def feasible(semi_y, kappa, eta_u, eta_l):
    """The largest sum over labeled rows that y'a = 1 admits, found by trying; 0 <= a <= eta."""
    unlabeled, normals, anomalies = (
        (semi_y == 0).sum() * eta_u,
        (semi_y == 1).sum() * eta_l,
        (semi_y == -1).sum() * eta_l,
    )
    grid = np.linspace(0, normals, 2001)
    most = np.minimum(anomalies, unlabeled + grid - 1)
    allowed = (most >= 0) & (grid - most <= 1)
    return bool((allowed & ((grid + most >= kappa) | (not semi_y.any()))).any())


@pytest.mark.parametrize("normals", [0, 40])
@pytest.mark.parametrize("gamma", [0.02, 0.2])
@pytest.mark.parametrize("weights", [{}, {"eta_u": 1 / 60, "eta_l": 0.05}])
def test_the_chunked_solution_equals_the_direct_one(gamma, normals, weights):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(1100, 5))
    x[:120] += 1
    semi_y = labels(1100, 50, normals)
    order = rng.permutation(1100)
    x, semi_y = x[order], semi_y[order]
    kernel = rbf(x, gamma)
    direct = solve_ssad(kernel, semi_y, **weights)
    chunked = solve_ssad_rows(x, gamma, semi_y, max_rows=1099, **weights)
    assert chunked.objective == pytest.approx(direct.objective, rel=1e-6)
    expected, scores = (kernel @ (signs(semi_y) * s.alpha) for s in (direct, chunked))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert_optimal(chunked, kernel, semi_y, **weights, tolerance=3e-6)
    whole = solve_ssad_rows(x, gamma, semi_y, max_rows=1100, **weights)
    assert whole.objective == pytest.approx(direct.objective, rel=1e-9)


def test_chunks_never_hold_more_than_max_rows(monkeypatch):
    seen = []
    solve = ssad_solver._solve
    monkeypatch.setattr(
        ssad_solver, "_solve", lambda matrix, problem: seen.append(len(matrix)) or solve(matrix, problem)
    )
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3000, 3))
    solve_ssad_rows(x, 0.02, labels(3000, 20), max_rows=1500)
    assert max(seen) <= 1500
    assert len(seen) > 1


def test_a_working_set_beyond_max_rows_is_reported():
    x = np.random.default_rng(8).normal(size=(1500, 6))
    with pytest.raises(DeepSADError, match=r"max_rows = 700 .*raise max_rows"):
        solve_ssad_rows(x, 20.0, labels(1500, 10), max_rows=700)


@pytest.mark.parametrize("normals", [0, 5])
def test_the_kernel_is_left_alone_unless_it_may_be_overwritten(normals):
    kernel = rbf(np.random.default_rng(9).normal(size=(100, 3)), 0.1)
    semi_y = labels(100, 12, normals)
    mine = kernel.copy()
    first = solve_ssad(mine, semi_y)
    np.testing.assert_array_equal(mine, kernel)
    second = solve_ssad(mine, semi_y, overwrite_kernel=True)
    np.testing.assert_allclose(mine, kernel, rtol=1e-12)
    assert second.objective == pytest.approx(first.objective, rel=1e-9)


@pytest.mark.parametrize("normals", [0, 5])
def test_two_calls_give_the_same_bits(normals):
    x, _ = polluted(np.random.default_rng(10))
    first, second = (solve_ssad(rbf(x, 0.05), labels(200, 20, normals)) for _ in range(2))
    np.testing.assert_array_equal(first.alpha, second.alpha)
    assert (first.rho, first.margin, first.objective) == (second.rho, second.margin, second.objective)


@pytest.mark.parametrize(
    ("semi_y", "weights", "message"),
    [
        (labels(60, 2), {"kappa": 3.0}, r"kappa is 3, but at most 2 is possible with 2 labeled rows .*eta_l to 1\.5"),
        (
            labels(60, 2),
            {"eta_u": 0.01},
            r"58 unlabeled rows times eta_u 0\.01 is 0\.58, .* raise eta_u to 0\.0344",
        ),
        (
            labels(60, 2),
            {"eta_u": 1.5 / 58},
            r"times eta_u .* is 1\.5, .* must be at least 2; raise .* or lower kappa to 0\.5$",
        ),
        (labels(60, 0), {"eta_u": 0.01}, r"is 0\.6.* must be at least 1; raise eta_u to 0\.0166667$"),
        (
            labels(60, 0, 9),
            {"kappa": 2.0},
            r"but at most 1 .* = 1 is possible with 0 labeled anomalies .* lower",
        ),
        (labels(60, 60), {}, r"0 unlabeled rows .* must be at least 2; add unlabeled rows"),
        (labels(60, 1, 2), {"eta_u": 0.001, "eta_l": 0.4}, r"kappa 1 and 2 labeled normals .* raise eta_u"),
    ],
)
def test_a_problem_without_a_solution_is_reported(semi_y, weights, message):
    x = np.random.default_rng(11).normal(size=(60, 2))
    for solve in (
        lambda: solve_ssad(rbf(x, 1.0), semi_y, **weights),
        lambda: solve_ssad_rows(x, 1.0, semi_y, **weights),
    ):
        with pytest.raises(DeepSADError, match=message):
            solve()


@pytest.mark.parametrize("wrong", [{"kappa": -0.1}, {"eta_u": 0.0}, {"eta_l": -1.0}, {"kappa": float("nan")}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        solve_ssad(np.eye(4), labels(4, 1), **wrong)


def test_wrong_shapes_and_labels_are_refused():
    with pytest.raises(ValueError, match="square"):
        solve_ssad(np.ones((3, 4)), labels(3, 1))
    with pytest.raises(ValueError, match="semi_y has shape"):
        solve_ssad(np.eye(4), labels(3, 1))
    with pytest.raises(ValueError, match="semi_y holds"):
        solve_ssad(np.eye(4), np.array([0, 0, 2, -1]))
    with pytest.raises(ValueError, match="gamma"):
        solve_ssad_rows(np.ones((4, 2)), 0.0, labels(4, 1))
