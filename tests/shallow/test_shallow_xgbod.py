"""XGBOD: detectors and boosted trees score like scikit-learn's, only the seed decides, and one label suffices."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import boosting, detector_scores, iforest, kernel_grid
from deepsad_pl.shallow.boosting import BoostedTrees, fit_boosting
from deepsad_pl.shallow.detector_scores import NEIGHBORS, NUS, TREES, fit_detectors
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.selection import XGBOD_STREAM
from deepsad_pl.shallow.task import Fitted, Task
from deepsad_pl.shallow.xgbod import XGBODModel, fit_xgbod

Matrix = npt.NDArray[np.float32]
DEFAULTS: dict[str, Any] = {"rounds": 100, "depth": 3, "learning_rate": 0.1}


def normal(n: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def task_of(x: Matrix, labels: int = 5, *, seed: int = 0, threads: int = 1) -> Task:
    """The first rows are known anomalies, the next ones known normals."""
    semi_y = np.zeros(len(x), np.int64)
    semi_y[:labels], semi_y[labels : 2 * labels] = -1, 1
    return Task(x, semi_y, None, None, seed, threads)


def fit(x: Matrix, labels: int = 5, *, seed: int = 0, threads: int = 1, rounds: int = 20) -> Fitted:
    return fit_xgbod(task_of(x, labels, seed=seed, threads=threads), **{**DEFAULTS, "rounds": rounds})


# --- The detectors.


def test_distances_are_those_of_scikit_learn() -> None:
    # More rows and queries than a block has.
    x, new = normal(2300, 3), normal(1500, 3, seed=1)
    detectors = fit_detectors(task_of(x), 0, share=1)
    for k, own, others in zip(NEIGHBORS, detectors.of_training_rows().T, detectors.of(new).T, strict=False):
        oracle = NearestNeighbors(n_neighbors=k).fit(x)
        np.testing.assert_allclose(own, oracle.kneighbors()[0][:, -1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(others, oracle.kneighbors(new)[0][:, -1], rtol=1e-5, atol=1e-6)


def test_one_class_svms_and_forests_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, new, seeds = normal(400, 4), normal(90, 4, seed=1), []
    grow = iforest.grow_forest
    monkeypatch.setattr(detector_scores, "grow_forest", lambda x, **k: (seeds.append(k["seed"]), grow(x, **k))[1])
    scores = fit_detectors(task_of(x), 0, share=1).of(new).T[len(NEIGHBORS) :]
    assert len(scores) == len(NUS) + len(TREES) == 18
    for nu, score in zip(NUS, scores, strict=False):
        expected = -OneClassSVM(nu=nu, gamma="scale").fit(x.astype(np.float64)).decision_function(new)
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max())
    for trees, score in zip(TREES, scores[len(NUS) :], strict=True):
        forest = IsolationForest(n_estimators=trees, max_samples=256, random_state=seeds[0]).fit(x)
        np.testing.assert_allclose(score, -forest.score_samples(new), rtol=1e-6)


def test_labels_do_not_change_the_detectors() -> None:
    x, new = normal(60, 3), normal(9, 3, seed=1)
    found = [fit_detectors(task_of(x, labels), 0, share=1).of(new).tobytes() for labels in (1, 20)]
    assert found[0] == found[1]


def test_equal_rows_are_at_distance_zero() -> None:
    # Far from the origin, a matrix product leaves rounding errors where rows are equal.
    x = np.repeat(normal(10, 5) * 100 + 1000, 6, axis=0)
    detectors = fit_detectors(task_of(x), 0, share=1)
    for scores in (detectors.of_training_rows(), detectors.of(x)):
        assert (scores[:, :3] == 0).all()
        assert (scores[:, 4] > 0).all()


def test_more_rows_than_a_kernel_holds_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (detector_scores, kernel_grid):
        monkeypatch.setattr(module, "MAX_PRECOMPUTED_ROWS", 50)
    x = normal(120, 3)
    coef = fit_detectors(task_of(x), 0, share=1).coef
    assert (coef[-1] > 0).sum() == 50
    other = fit_detectors(task_of(x, seed=1), 0, share=1).coef
    assert ((other[-1] > 0) != (coef[-1] > 0)).any()


# --- The boosted trees.


@pytest.mark.parametrize("labels", [1, 3, 60])
def test_boosted_trees_equal_scikit_learns(labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grown: list[HistGradientBoostingClassifier] = []
    convert = boosting._to_trees
    monkeypatch.setattr(boosting, "_to_trees", lambda booster: (grown.append(booster), convert(booster))[1])
    x = normal(500, 6).astype(np.float64)
    trees = fit_boosting(x, np.arange(500) < labels, seed=0, **DEFAULTS)
    queries = np.vstack([x, 3 * normal(500, 6, seed=9)])
    # Single precision would send these rows the other way.
    split = np.flatnonzero(trees.nodes.left != np.arange(len(trees.value)))
    queries[np.arange(50), trees.nodes.feature[split[:50]]] = np.nextafter(trees.nodes.threshold[split[:50]], np.inf)
    np.testing.assert_allclose(trees.score(queries), grown[0].decision_function(queries), rtol=0, atol=1e-12)
    assert len(trees.nodes.roots) == 100 and trees.nodes.steps <= 3
    assert trees.score(x)[:labels].mean() > np.quantile(trees.score(x)[labels:], 0.99)


# --- The method.


@pytest.mark.parametrize(
    ("x", "labels"),
    [
        (normal(300, 4), 10),
        (normal(300, 4), 1),
        (normal(40, 1), 2),
        (np.repeat(normal(6, 4), 20, axis=0), 30),
        (np.ones((30, 3), np.float32), 3),
        (normal(3, 2), 1),
        (normal(2, 3), 1),
    ],
)
def test_a_saved_model_gives_the_same_scores(x: Matrix, labels: int, tmp_path: Path) -> None:
    model = fit(x, labels).model
    new = normal(50, x.shape[1], seed=1)
    save_model(tmp_path / "model.npz", model)
    again = load_model(tmp_path / "model.npz")
    assert type(again) is XGBODModel
    assert np.isfinite(model.score(new)).all()
    assert again.score(new).tobytes() == model.score(new).tobytes()


def test_the_score_is_that_of_boosting_on_columns_and_detectors() -> None:
    x, new = normal(300, 4), normal(50, 4, seed=1)
    fitted = fit(x, 10)
    detectors, found = fit_detectors(task_of(x), XGBOD_STREAM, share=1), fitted.model.score(new)
    oracle = boosting._boosted(
        np.hstack([x, detectors.of_training_rows()]), np.arange(300) < 10, seed=0, **{**DEFAULTS, "rounds": 20}
    )
    np.testing.assert_allclose(found, oracle.decision_function(np.hstack([new, detectors.of(new)])), atol=1e-12)
    assert json.loads(json.dumps(fitted.selection)) == {
        **{"protocol": "none", "rounds": 20, "depth": 3, "learning_rate": 0.1, "detectors": 26}
    }


def test_rows_near_a_single_label_score_higher() -> None:
    x = normal(1000, 4)
    x[0] = 6
    model = fit(x, 1, rounds=100).model
    assert model.score(normal(50, 4, seed=1) * 0.1 + 6).min() > np.quantile(model.score(x[1:]), 0.99)


def test_only_the_seed_decides() -> None:
    x, new = normal(400, 5), normal(50, 5, seed=2)
    first = fit(x, seed=4).model.score(new)
    np.random.seed(77)  # noqa: NPY002
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert fit(x, seed=4, threads=3).model.score(new).tobytes() == first.tobytes()
    finally:
        torch.set_num_threads(threads)
    assert (fit(x, seed=5).model.score(new) != first).any()


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    task = task_of(normal(50, 2))
    fit_xgbod(Task(task.x, task.semi_y, None, None, 0, advance=shares.append), **DEFAULTS)
    assert shares == sorted(shares) and len(shares) == len(NUS) + 1 and shares[-1] == 1


def test_a_single_class_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepsad_pl.shallow.xgbod.fit_detectors", None)
    with pytest.raises(DeepSADError, match=r"only labeled anomalies \(4 rows\)"):
        fit(normal(4, 2), 4)
    with pytest.raises(DeepSADError, match="none is labeled; label some"):
        fit(normal(4, 2), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("neighbors", np.array([5, 3])),
        ("neighbors", np.array([40])),
        ("coef", np.zeros((11, 3))),
        ("offset", np.full(11, np.nan)),
        ("gamma", np.asarray(0.0)),
        ("trees", np.array([10, 20])),
        ("forest_feature", np.full(1, 99)),
        ("boosted_value", np.zeros(3)),
        ("boosted_width", np.asarray(99)),
    ],
)
def test_a_damaged_model_is_refused(name: str, value: Any) -> None:
    arrays = fit(normal(30, 2), 3).model.arrays()
    assert XGBODModel(**arrays).width == 2
    with pytest.raises(ValueError, match=r"a model needs|its trees take"):
        XGBODModel(**{**arrays, name: value})


def test_trees_without_finite_values_are_refused() -> None:
    arrays = fit_boosting(normal(30, 2), np.arange(30) < 3, seed=0, **DEFAULTS).arrays()
    with pytest.raises(ValueError, match="finite values"):
        BoostedTrees(**{**arrays, "baseline": np.asarray(np.inf)})
