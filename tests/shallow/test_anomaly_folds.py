"""``selection=holdout`` with given labels: folds over the labeled anomalies, and the same choices as plain loops."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import kernel_grid as grid
from deepsad_pl.shallow import ssad
from deepsad_pl.shallow.selection import IntArray, anomaly_folds
from deepsad_pl.shallow.ssad import fit_ssad
from deepsad_pl.shallow.ssad_solver import solve_ssad
from deepsad_pl.shallow.task import Fitted, Task

GAMMAS = [2.0**k for k in range(-6, 3, 2)]


def draw(anomalies: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], IntArray]:
    """70 unlabeled rows, 12 known normals and known anomalies near them, shuffled."""
    rng = np.random.default_rng(seed)
    semi_y = rng.permutation(np.repeat([0, 1, -1], [70, 12, anomalies]))
    x = rng.normal(size=(len(semi_y), 4)) + (semi_y == -1)[:, None] * [1.2, 1.2, 0, 0]
    return x.astype(np.float32), semi_y


def fit(anomalies: int = 13, *, seed: int = 0, gammas: list[float] = GAMMAS, **more: Any) -> Fitted:
    x, semi_y = draw(anomalies)
    task = Task(**{"x": x, "semi_y": semi_y, "x_test": None, "y_test": None, "seed": seed, "holdout_folds": 5, **more})
    return fit_ssad(task, gammas=gammas, kappa=1.0, eta_u=1.0, eta_l=1.0, selection="holdout")


def plain_folds(semi_y: IntArray, seed: int) -> list[list[int]]:
    """The folds, made by assigning the rows one by one, label by label, to the folds in turn."""
    rng = np.random.default_rng([seed, 114])
    order = [row for label in (-1, 1, 0) for row in rng.permutation(np.flatnonzero(semi_y == label))]
    folds: list[list[int]] = [[] for _ in range(min(5, int((semi_y == -1).sum())))]
    for place, row in enumerate(order):
        folds[place % len(folds)].append(int(row))
    return folds


def plain_scores(x: Any, semi_y: IntArray, gamma: float, queries: Any) -> npt.NDArray[np.float64]:
    """Scores of a single solution on a kernel from SciPy."""
    x, queries = x.astype(np.float64), queries.astype(np.float64)
    solved = solve_ssad(np.exp(-gamma * cdist(x, x, "sqeuclidean")), semi_y)
    y = np.where(semi_y == -1, -1, 1)
    return np.asarray(solved.rho - np.exp(-gamma * cdist(queries, x, "sqeuclidean")) @ (y * solved.alpha))


# --- The folds.


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.integers(0, 20), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_each_row_is_held_out_once_and_each_fold_has_an_anomaly(
    unlabeled: int, normals: int, anomalies: int, seed: int
) -> None:
    semi_y = np.random.default_rng(3).permutation(np.repeat([0, 1, -1], [unlabeled, normals, anomalies]))
    expected = min(5, anomalies)
    if anomalies < 2:
        assert anomaly_folds(semi_y, seed) == []
        return
    if unlabeled + normals < expected:
        with pytest.raises(
            DeepSADError, match=f"into {expected} folds, .* only {unlabeled + normals} of {len(semi_y)}"
        ):
            anomaly_folds(semi_y, seed)
        return
    folds = anomaly_folds(semi_y, seed)
    assert len(folds) == expected
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(len(semi_y)))
    assert all((np.diff(fold) > 0).all() for fold in folds)
    assert all((semi_y[fold] == -1).any() and (semi_y[fold] != -1).any() for fold in folds)
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for label in (0, 1, -1):
        of_kind = [int((semi_y[fold] == label).sum()) for fold in folds]
        assert max(of_kind) - min(of_kind) <= 1
    again = anomaly_folds(semi_y, seed)
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))


def test_the_seed_and_the_largest_number_decide_the_folds() -> None:
    _, semi_y = draw(13)
    assert not np.array_equal(anomaly_folds(semi_y, 0)[0], anomaly_folds(semi_y, 1)[0])
    assert [len(anomaly_folds(semi_y, 0, most)) for most in (2, 3, 20)] == [2, 3, 13]
    assert [fold.tolist() for fold in anomaly_folds(semi_y, 7)] == [sorted(fold) for fold in plain_folds(semi_y, 7)]


# --- The choice.


@pytest.mark.parametrize(("anomalies", "seed"), [(13, 0), (13, 1), (3, 2), (2, 0)])
def test_the_best_mean_over_folds_agrees_with_plain_loops(anomalies: int, seed: int) -> None:
    x, semi_y = draw(anomalies)
    of_folds: dict[float, list[float]] = {gamma: [] for gamma in GAMMAS}
    for gamma in GAMMAS:
        for fold in plain_folds(semi_y, seed):
            held = np.isin(np.arange(len(x)), fold)
            scores = plain_scores(x[~held], semi_y[~held], gamma, x[held])
            of_folds[gamma].append(float(roc_auc_score(semi_y[held] == -1, scores)))
    means = {gamma: sum(values) / len(values) for gamma, values in of_folds.items()}
    gamma = max(GAMMAS, key=lambda g: round(means[g], 12))
    assert len({round(mean, 6) for mean in means.values()}) > 1

    fitted = fit(anomalies, seed=seed)
    record = json.loads(json.dumps(fitted.selection))
    folds = min(5, anomalies)
    assert (record["protocol"], record["folds"], record["criterion"]) == ("holdout", folds, "mean_auroc_of_folds")
    assert record["gamma"] == gamma
    assert [point["gamma"] for point in record["grid"]] == GAMMAS
    for point in record["grid"]:
        assert point["mean_auroc_of_folds"] == pytest.approx(means[point["gamma"]], abs=1e-12)
        assert point["auroc_of_folds"] == pytest.approx(of_folds[point["gamma"]], abs=1e-12)
    # The final fit uses all rows.
    queries = draw(9, seed=1)[0]
    expected = plain_scores(x, semi_y, gamma, queries)
    np.testing.assert_allclose(fitted.model.score(queries), expected, rtol=0, atol=1e-6)


def test_in_a_tie_the_first_gamma_is_chosen_for_any_order_of_the_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Added from left to right, the same three numbers have two different sums; the first order gives the lower one.
    first, second = (0.3, 0.2, 0.1), (0.1, 0.2, 0.3)
    # From Python 3.12 on, sum() itself compensates rounding.
    assert first[0] + first[1] + first[2] < second[0] + second[1] + second[2]
    told = iter([value for pair in zip(first, second, strict=True) for value in pair])
    monkeypatch.setattr(grid, "auroc", lambda scores, y: next(told))
    assert fit(3, gammas=[0.5, 2.0]).selection["gamma"] == 0.5


@pytest.mark.parametrize("anomalies", [0, 1])
def test_below_two_anomalies_the_default_scale_is_used_and_reported_once(
    anomalies: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fitted = fit(anomalies)
    (told,) = [record.message for record in caplog.records if "holdout" in record.message]
    assert f"but there {'is' if anomalies else 'are'} {anomalies}, so the default scale" in told
    x, semi_y = draw(anomalies)
    task = Task(x, semi_y, None, None, seed=0)
    default = fit_ssad(task, gammas=GAMMAS, kappa=1.0, eta_u=1.0, eta_l=1.0, selection="none")
    assert fitted.model.score(x).tobytes() == default.model.score(x).tobytes()
    assert fitted.selection == {**default.selection, "requested": "holdout", "labeled_anomalies": anomalies}


def test_without_folds_nothing_changes() -> None:
    record = fit(holdout_folds=None).selection
    assert (record["criterion"], record["held_out"]) == ("auroc_held_out", 9)


# --- The grid.


def test_threads_and_stored_solutions_change_nothing(tmp_path: Path) -> None:
    queries, first = draw(9, seed=1)[0], fit()
    for more in ({"threads": 3}, {"threads": 2, "grid_dir": tmp_path}, {"grid_dir": tmp_path}):
        again = fit(**more)
        assert again.selection == first.selection
        assert again.model.score(queries).tobytes() == first.model.score(queries).tobytes()


@pytest.mark.parametrize("stop", [0, 7, 24, 25])
def test_a_killed_selection_resumes_to_the_same_bits(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, whole = draw(9, seed=1)[0], fit()
    solves, limit = [0], stop

    def solve(*arguments: Any, **costs: Any) -> Any:
        if solves[0] == limit:
            raise RuntimeError("killed")
        solves[0] += 1
        return solve_ssad(*arguments, **costs)

    monkeypatch.setattr(ssad, "solve_ssad", solve)
    with pytest.raises(RuntimeError, match="killed"):
        fit(grid_dir=tmp_path)
    limit = 99
    again = fit(grid_dir=tmp_path)
    assert solves[0] == 5 * len(GAMMAS) + 1
    assert again.selection == whole.selection
    assert again.model.score(queries).tobytes() == whole.model.score(queries).tobytes()


def test_progress_ends_at_one(tmp_path: Path) -> None:
    steps = 5 * len(GAMMAS) + 1
    for _ in ("solved", "found"):
        shares: list[float] = []
        fit(advance=shares.append, grid_dir=tmp_path, threads=2)
        assert shares == [(i + 1) / steps for i in range(steps)]
