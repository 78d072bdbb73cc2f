"""The one-class SVM: scikit-learn's scores, and the same choices as plain loops over scikit-learn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import kernel_grid as grid
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.ocsvm import fit_ocsvm
from deepsad_pl.shallow.task import Fitted, Task

GAMMAS, NUS = [2.0**k for k in range(-6, 3, 2)], [0.01, 0.1, 0.5]


class Untouchable:
    """Stands for labels that must not be read."""

    def __getattribute__(self, name: str) -> None:
        raise AssertionError(f"somebody looked at .{name} of the test labels")


def draw(seed: int, n: int = 150, t: int = 300) -> tuple[npt.NDArray[Any], ...]:
    """Two clusters; anomalies lie between and around them."""
    rng = np.random.default_rng(seed)
    side = np.sign(rng.normal(size=(n + t, 1)))
    rows = rng.normal(size=(n + t, 4)) * 0.6 + 1.2 * side
    y_test = (rng.random(t) < 0.4).astype(np.int64)
    rows[n:][y_test == 1] = rng.normal(size=(int(y_test.sum()), 4)) * 1.5
    return rows[:n].astype(np.float32), rows[n:].astype(np.float32), y_test


X, X_TEST, Y_TEST = draw(0)


def fit(selection: str, *, seed: int = 0, nu: float = 0.2, **more: Any) -> Fitted:
    wish = {"gammas": more.pop("gammas", GAMMAS), "nus": more.pop("nus", NUS)}
    data = {"x": X, "semi_y": np.zeros(len(X), dtype=np.int64), "x_test": X_TEST, "y_test": Y_TEST}
    return fit_ocsvm(Task(**{**data, "seed": seed, **more}), **wish, nu=nu, selection=selection)


def library(x: npt.NDArray[Any], gamma: float, nu: float) -> OneClassSVM:
    return OneClassSVM(kernel="rbf", gamma=gamma, nu=nu).fit(x.astype(np.float64))


@pytest.mark.parametrize("limit", [10_000, 100])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("nu", NUS)
def test_scores_equal_scikit_learns(limit: int, gamma: float, nu: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MAX_PRECOMPUTED_ROWS", limit)
    svm, fitted = library(X, gamma, nu), fit("test_subset", gammas=[gamma], nus=[nu])
    assert (fitted.selection["gamma"], fitted.selection["nu"]) == (gamma, nu)
    score = fitted.model.score(X_TEST)
    np.testing.assert_allclose(score, -svm.decision_function(X_TEST), rtol=0, atol=1e-8)
    np.testing.assert_allclose(score, svm.offset_ - svm.score_samples(X_TEST), rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_the_test_subset_protocol_follows_the_paper(seed: int) -> None:
    x, x_test, y_test = draw(seed + 20)
    rng = np.random.default_rng([seed, 110])
    subset = []
    for label in (0, 1):
        of_class = rng.permutation(np.flatnonzero(y_test == label))
        subset += list(of_class[: round(len(of_class) / 10)])
    on_subset, final = {}, []
    for nu in NUS:
        scores = {gamma: -library(x, gamma, nu).decision_function(x_test) for gamma in GAMMAS}
        for gamma in GAMMAS:
            # Rounded, since scikit-learn's areas of equal rankings differ in the last bits.
            on_subset[gamma, nu] = round(roc_auc_score(y_test[subset], scores[gamma][subset]), 12)
        gamma = max(GAMMAS, key=lambda g: on_subset[g, nu])
        final.append((gamma, nu, roc_auc_score(y_test, scores[gamma])))
    best = max(final, key=lambda row: round(row[2], 12))

    fitted = fit("test_subset", seed=seed, x=x, x_test=x_test, y_test=y_test, threads=2)
    record = json.loads(json.dumps(fitted.selection))
    assert (record["protocol"], record["gamma"], record["nu"]) == ("test_subset", *best[:2])
    assert record["subset_size"] == len(subset)
    assert {(p["gamma"], p["nu"]): round(p["auroc_subset"], 12) for p in record["grid"]} == on_subset
    assert [(p["gamma"], p["nu"]) for p in record["final"]] == [row[:2] for row in final]
    np.testing.assert_allclose([p["auroc"] for p in record["final"]], [row[2] for row in final], atol=1e-12)
    assert roc_auc_score(y_test, fitted.model.score(x_test)) == pytest.approx(best[2], abs=1e-12)


def test_the_protocol_does_not_always_choose_the_same_corner() -> None:
    # The test above would compare nothing if one corner of the grid always won.
    chosen = set()
    for seed in range(8):
        x, x_test, y_test = draw(seed)
        record = fit("test_subset", seed=seed, x=x, x_test=x_test, y_test=y_test).selection
        chosen.add((record["gamma"], record["nu"]))
    assert len({gamma for gamma, _ in chosen}) > 1
    assert len({nu for _, nu in chosen}) > 1


@pytest.mark.parametrize("nu", [0.05, 0.2, 0.5])
def test_holdout_agrees_with_plain_loops(nu: float) -> None:
    rng = np.random.default_rng([3, 111])
    held = np.zeros(len(X), dtype=bool)
    held[rng.permutation(len(X))[:15]] = True
    rejected = {gamma: np.mean(library(X[~held], gamma, nu).decision_function(X[held]) < 0) for gamma in GAMMAS}
    consistent = [g for g in GAMMAS if rejected[g] <= nu + 2 * np.sqrt(nu * (1 - nu) / 15)]
    gamma = max(consistent, default=min(GAMMAS))

    fitted = fit("holdout", seed=3, nu=nu, y_test=Untouchable(), gammas=GAMMAS[::-1])
    record = json.loads(json.dumps(fitted.selection))
    assert (record["protocol"], record["gamma"], record["nu"], record["held_out"]) == ("holdout", gamma, nu, 15)
    assert {p["gamma"]: p["rejected_held_out"] for p in record["grid"]} == pytest.approx(rejected)
    # The final fit uses all rows.
    expected = -library(X, gamma, nu).decision_function(X_TEST)
    np.testing.assert_allclose(fitted.model.score(X_TEST), expected, rtol=0, atol=1e-8)


def test_holdout_does_not_always_choose_the_same_corner() -> None:
    assert GAMMAS[0] < fit("holdout", nu=0.2).selection["gamma"] < GAMMAS[-1]


def test_none_means_scikit_learns_defaults() -> None:
    svm = OneClassSVM(nu=0.3).fit(X.astype(np.float64))
    fitted = fit("none", nu=0.3, y_test=Untouchable())
    assert fitted.selection == {"protocol": "none", "gamma": pytest.approx(svm._gamma), "nu": 0.3, "grid": []}
    np.testing.assert_allclose(fitted.model.score(X_TEST), -svm.decision_function(X_TEST), rtol=0, atol=1e-8)


@pytest.mark.parametrize("selection", ["test_subset", "holdout", "none"])
def test_semi_labels_are_ignored(selection: str) -> None:
    semi_y = np.random.default_rng(0).integers(-1, 2, len(X))
    a, b = fit(selection), fit(selection, semi_y=semi_y)
    assert a.selection == b.selection
    assert a.model.score(X_TEST).tobytes() == b.model.score(X_TEST).tobytes()


@pytest.mark.parametrize("selection", ["test_subset", "holdout", "none"])
def test_threads_stored_solutions_and_repetition_change_nothing(selection: str, tmp_path: Path) -> None:
    first = fit(selection)
    for more in ({"threads": 3}, {"threads": 2, "grid_dir": tmp_path}, {"grid_dir": tmp_path}, {}):
        again = fit(selection, **more)
        assert again.selection == first.selection
        save_model(tmp_path / "model", again.model)
        assert load_model(tmp_path / "model").score(X_TEST).tobytes() == first.model.score(X_TEST).tobytes()


def test_the_seed_changes_the_subset() -> None:
    assert fit("test_subset", seed=1).selection["grid"] != fit("test_subset", seed=2).selection["grid"]


@pytest.mark.parametrize(
    ("selection", "nus", "nu", "key"), [("test_subset", [0.1, 1.0], 0.5, "nus"), ("none", [2.0], 0, "nu")]
)
def test_nu_out_of_range_is_refused(selection: str, nus: list[float], nu: float, key: str) -> None:
    with pytest.raises(DeepSADError, match=rf"method\.{key} holds (1.0|0), but nu is the share"):
        fit(selection, nus=nus, nu=nu)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="selection is 'best'"):
        fit("best")
