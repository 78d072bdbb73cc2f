"""SSAD over the grid: expansion and offset of the optimum, and the same choices as plain loops."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import kernel_grid as grid
from deepsad_pl.shallow import ssad
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.ssad import fit_ssad
from deepsad_pl.shallow.ssad_solver import solve_ssad
from deepsad_pl.shallow.task import Fitted, Task

GAMMAS = [2.0**k for k in range(-6, 3, 2)]
Labels = npt.NDArray[np.int64]


class Untouchable:
    """Stands for labels that must not be read."""

    def __getattribute__(self, name: str) -> None:
        raise AssertionError(f"somebody looked at .{name} of the test labels")


def draw(seed: int, n: int = 100, anomalies: int = 20, t: int = 300) -> tuple[npt.NDArray[Any], ...]:
    """A cluster of normals; known anomalies lie on one side of it, test anomalies on all sides."""
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(n, 4))
    known = rng.normal(size=(anomalies, 4)) * 0.8 + [1.5, 1, 0, 0]
    semi_y = np.repeat([0, -1], [n, anomalies])
    y_test = (rng.random(t) < 0.4).astype(np.int64)
    x_test = rng.normal(size=(t, 4)) + y_test[:, None] * rng.normal(size=(t, 4)) * 1.5
    order = rng.permutation(n + anomalies)
    x = np.vstack([normals, known]).astype(np.float32)[order]
    return x, semi_y[order], x_test.astype(np.float32), y_test


X, SEMI_Y, X_TEST, Y_TEST = draw(0)


def fit(selection: str, *, kappa: float = 1.0, eta_u: float = 1.0, eta_l: float = 1.0, **more: Any) -> Fitted:
    gammas = more.pop("gammas", GAMMAS)
    data = {"x": X, "semi_y": SEMI_Y, "x_test": X_TEST, "y_test": Y_TEST, "seed": 0}
    task = Task(**{**data, **more})
    return fit_ssad(task, gammas=gammas, kappa=kappa, eta_u=eta_u, eta_l=eta_l, selection=selection)


def plain(x: npt.NDArray[Any], semi_y: Labels, gamma: float, queries: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Scores of a single solution on a kernel from SciPy."""
    x, queries = x.astype(np.float64), queries.astype(np.float64)
    solved = solve_ssad(np.exp(-gamma * cdist(x, x, "sqeuclidean")), semi_y)
    y = np.where(semi_y == -1, -1, 1)
    return np.asarray(solved.rho - np.exp(-gamma * cdist(queries, x, "sqeuclidean")) @ (y * solved.alpha))


@pytest.mark.parametrize("costs", [{}, {"eta_u": 0.2}, {"kappa": 0.5, "eta_l": 0.4}])
def test_scores_equal_those_of_the_optimum(costs: dict[str, float]) -> None:
    x, semi_y, queries, _ = draw(5, n=24, anomalies=6, t=40)
    fitted = fit("none", x=x, semi_y=semi_y, **costs)
    gamma = 1 / (4 * x.astype(np.float64).var())
    assert fitted.selection == {"protocol": "none", "gamma": pytest.approx(gamma, rel=1e-12), "grid": []}

    kernel = np.exp(-gamma * cdist(x.astype(np.float64), x.astype(np.float64), "sqeuclidean"))
    y = np.where(semi_y == -1, -1.0, 1.0)
    eta = np.where(semi_y == 0, costs.get("eta_u", 1.0), costs.get("eta_l", 1.0))
    q = np.outer(y, y) * kernel
    labeled = (semi_y != 0).astype(np.float64)
    optimum = minimize(
        lambda a: (0.5 * a @ q @ a, q @ a),
        np.where(labeled, 1 / 6, 2 / 24),
        jac=True,
        bounds=[(0, e) for e in eta],
        constraints=[
            {"type": "eq", "fun": lambda a: y @ a - 1, "jac": lambda a: y},
            {"type": "ineq", "fun": lambda a: labeled @ a - costs.get("kappa", 1.0), "jac": lambda a: labeled},
        ],
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-15},
    )
    assert optimum.success
    # Unlabeled rows with a weight strictly between its bounds lie on the boundary.
    free = (semi_y == 0) & (optimum.x > 1e-4) & (optimum.x < eta - 1e-4)
    assert free.sum() >= 2
    projected = np.exp(-gamma * cdist(queries.astype(np.float64), x.astype(np.float64), "sqeuclidean"))
    expected = np.mean((kernel @ (y * optimum.x))[free]) - projected @ (y * optimum.x)
    np.testing.assert_allclose(fitted.model.score(queries), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_test_subset_protocol_follows_the_paper(seed: int) -> None:
    x, semi_y, x_test, y_test = draw(seed + 20)
    rng = np.random.default_rng([seed, 110])
    subset: list[int] = []
    for label in (0, 1):
        of_class = rng.permutation(np.flatnonzero(y_test == label))
        subset += list(of_class[: round(len(of_class) / 10)])
    scores = {gamma: plain(x, semi_y, gamma, x_test) for gamma in GAMMAS}
    on_subset = {gamma: round(roc_auc_score(y_test[subset], scores[gamma][subset]), 12) for gamma in GAMMAS}
    gamma = max(GAMMAS, key=on_subset.__getitem__)

    fitted = fit("test_subset", seed=seed, x=x, semi_y=semi_y, x_test=x_test, y_test=y_test, threads=2)
    record = json.loads(json.dumps(fitted.selection))
    assert (record["protocol"], record["gamma"], record["subset_size"]) == ("test_subset", gamma, len(subset))
    assert "nu" not in record
    assert {p["gamma"]: round(p["auroc_subset"], 12) for p in record["grid"]} == on_subset
    final = roc_auc_score(y_test, scores[gamma])
    assert record["final"] == [{"gamma": gamma, "auroc": pytest.approx(final, abs=1e-12)}]
    np.testing.assert_allclose(fitted.model.score(x_test), scores[gamma], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_holdout_ranks_held_out_labeled_anomalies(seed: int) -> None:
    rng = np.random.default_rng([seed, 111])
    held = np.zeros(len(X), dtype=bool)
    held[rng.permutation(np.flatnonzero(SEMI_Y == 0))[:10]] = True
    # Known normals are drawn second, but there are none, and an empty permutation draws nothing.
    held[rng.permutation(np.flatnonzero(SEMI_Y == -1))[:2]] = True
    values = {g: roc_auc_score(SEMI_Y[held] == -1, plain(X[~held], SEMI_Y[~held], g, X[held])) for g in GAMMAS}
    gamma = max(GAMMAS, key=lambda g: round(values[g], 12))

    fitted = fit("holdout", seed=seed, y_test=Untouchable())
    record = json.loads(json.dumps(fitted.selection))
    assert (record["protocol"], record["criterion"], record["held_out"]) == ("holdout", "auroc_held_out", 12)
    assert record["gamma"] == gamma
    assert {p["gamma"]: p["auroc_held_out"] for p in record["grid"]} == pytest.approx(values)
    # The final fit uses all rows.
    np.testing.assert_allclose(fitted.model.score(X_TEST), plain(X, SEMI_Y, gamma, X_TEST), rtol=0, atol=1e-6)


def test_holdout_without_labeled_anomalies_equals_that_of_the_one_class_svm() -> None:
    semi_y = np.zeros(len(X), dtype=np.int64)
    rng = np.random.default_rng([0, 111])
    held = np.zeros(len(X), dtype=bool)
    held[rng.permutation(len(X))[:12]] = True
    # A cost of 1 / (n nu) gives the one-class SVM at nu; libsvm's weights add up to n nu instead of 1.
    nu, n = 0.25, int((~held).sum())
    svms = {g: OneClassSVM(gamma=g, nu=nu, tol=1e-6).fit(X[~held].astype(np.float64)) for g in GAMMAS}
    rejected = {g: float(np.mean(svm.decision_function(X[held]) < 0)) for g, svm in svms.items()}
    consistent = [g for g in GAMMAS if rejected[g] <= nu + 2 * np.sqrt(nu * (1 - nu) / 12)]

    fitted = fit("holdout", semi_y=semi_y, eta_u=1 / (n * nu), y_test=Untouchable())
    record = fitted.selection
    assert (record["criterion"], record["reject_rate"]) == ("rejected_held_out", pytest.approx(nu))
    assert {p["gamma"]: p["rejected_held_out"] for p in record["grid"]} == pytest.approx(rejected)
    assert record["gamma"] == max(consistent, default=min(GAMMAS))


def test_labels_change_the_scores() -> None:
    # The known anomalies lie at positive values of the first column.
    blind, seeing = (fit("none", semi_y=semi_y).model for semi_y in (np.zeros_like(SEMI_Y), SEMI_Y))
    side, other = np.float32([[1.5, 1, 0, 0]]), np.float32([[-1.5, -1, 0, 0]])
    assert seeing.score(side)[0] - seeing.score(other)[0] > blind.score(side)[0] - blind.score(other)[0]


@pytest.mark.parametrize("selection", ["test_subset", "holdout", "none"])
def test_threads_stored_solutions_and_repetition_change_nothing(selection: str, tmp_path: Path) -> None:
    first = fit(selection)
    for more in ({"threads": 3}, {"threads": 2, "grid_dir": tmp_path}, {"grid_dir": tmp_path}, {}):
        again = fit(selection, **more)
        assert again.selection == first.selection
        save_model(tmp_path / "model", again.model)
        assert load_model(tmp_path / "model").score(X_TEST).tobytes() == first.model.score(X_TEST).tobytes()


def test_a_killed_grid_resumes_unless_the_costs_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit("test_subset")
    solves: list[int] = []

    def solve(kernel: Any, semi_y: Any, **costs: Any) -> Any:
        if len(solves) == stop:
            raise RuntimeError("killed")
        solves.append(1)
        return solve_ssad(kernel, semi_y, **costs)

    monkeypatch.setattr(ssad, "solve_ssad", solve)
    stop = 2
    with pytest.raises(RuntimeError, match="killed"):
        fit("test_subset", grid_dir=tmp_path)
    stop = 99
    assert fit("test_subset", grid_dir=tmp_path).selection == whole.selection
    assert len(solves) == len(GAMMAS)
    for costs in ({"kappa": 0.5}, {"eta_u": 0.5}, {"eta_l": 0.5}):
        solves.clear()
        fit("test_subset", grid_dir=tmp_path, **costs)
        assert len(solves) == len(GAMMAS)


def test_large_problems_are_solved_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    by_kernel = fit("test_subset")
    monkeypatch.setattr(grid, "MAX_PRECOMPUTED_ROWS", 100)
    monkeypatch.setattr(ssad, "solve_ssad", None)
    by_rows = fit("test_subset")
    assert by_rows.selection["gamma"] == by_kernel.selection["gamma"]
    np.testing.assert_allclose(by_rows.model.score(X_TEST), by_kernel.model.score(X_TEST), rtol=0, atol=1e-6)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(DeepSADError, match="needs at least two training rows"):
        fit("holdout", x=X[:4], semi_y=np.array([0, -1, -1, -1]))
    with pytest.raises(ValueError, match="selection is '"):
        fit("best")
