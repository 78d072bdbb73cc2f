"""Nearest neighbors: the same distances as scikit-learn, the same ratio as a plain loop, bounded memory."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import knn
from deepsad_pl.shallow.kernels import squared_distances
from deepsad_pl.shallow.knn import NeighborModel, fit_knn, fit_knn_ratio
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.task import Task

Matrix = npt.NDArray[np.float32]


def normal(n: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def task_of(x: Matrix, semi_y: npt.ArrayLike = 0) -> Task:
    return Task(x, np.broadcast_to(np.asarray(semi_y, np.int64), len(x)).copy(), None, None, seed=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 12), st.integers(0, 10**6))
def test_distances_are_those_of_scikit_learn(n: int, width: int, queries: int, seed: int) -> None:
    x, new = normal(n, width, seed), normal(queries, width, seed + 1)
    for k in {1, min(5, n), n}:
        expected = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x.astype(float)).kneighbors(new)[0][:, -1]
        assert fit_knn(task_of(x), neighbors=k).model.score(new) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_blocks_change_nothing() -> None:
    # More rows and queries than a block has.
    x, new = normal(4500, 3), normal(2500, 3, seed=1)
    expected = NearestNeighbors(n_neighbors=5).fit(x.astype(float)).kneighbors(new)[0][:, -1]
    assert fit_knn(task_of(x), neighbors=5).model.score(new) == pytest.approx(expected, rel=1e-6)


def test_the_ratio_agrees_with_a_plain_loop() -> None:
    x, new = normal(50, 4), normal(20, 4, seed=1)
    semi_y = np.array([-1] * 5 + [1] * 5 + [0] * 40)
    expected = []
    for row in new:
        distances = [float(np.linalg.norm(row.astype(float) - other.astype(float))) for other in x]
        fifth = sorted(distances[5:])[4]
        expected.append(fifth / (fifth + min(distances[:5])))
    found = fit_knn_ratio(task_of(x, semi_y), neighbors=5).model.score(new)
    assert found == pytest.approx(expected)
    # At a known anomaly itself, and where both distances are 0.
    assert fit_knn_ratio(task_of(x, semi_y), neighbors=5).model.score(x[:5]) == pytest.approx(np.ones(5), abs=1e-6)
    same = fit_knn_ratio(task_of(np.zeros((6, 2), np.float32), [-1, 0, 0, 0, 0, 0]), neighbors=5)
    assert same.model.score(np.zeros((3, 2), np.float32)).tolist() == [0.5] * 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def counted(a: Matrix, b: Matrix) -> npt.NDArray[np.float64]:
        sizes.append(len(a) * len(b))
        return squared_distances(a, b)

    monkeypatch.setattr(knn, "squared_distances", counted)
    fit_knn(task_of(normal(20_000, 10)), neighbors=5).model.score(normal(3000, 10, seed=1))
    # 16 MiB of distances at a time.
    assert sum(sizes) == 20_000 * 3000 and max(sizes) <= 2**21


@pytest.mark.parametrize("ratio", [False, True])
def test_a_saved_model_gives_the_same_scores(ratio: bool, tmp_path: Path) -> None:
    x, new = normal(30, 4), normal(10, 4, seed=1)
    task = task_of(x, [-1] * 3 + [0] * 27)
    model = (fit_knn_ratio if ratio else fit_knn)(task, neighbors=5).model
    save_model(tmp_path / "model.npz", model)
    again = load_model(tmp_path / "model.npz")
    assert isinstance(again, NeighborModel)
    assert again.score(new).tolist() == model.score(new).tolist()


def test_too_few_rows_are_refused() -> None:
    x = normal(6, 2)
    with pytest.raises(DeepSADError, match=r"method\.neighbors is 7, but there are 6 training rows besides"):
        fit_knn(task_of(x), neighbors=7)
    with pytest.raises(DeepSADError, match=r"method\.neighbors is 5, but there are 4 training rows besides"):
        fit_knn_ratio(task_of(x, [-1, -1, 0, 0, 0, 1]), neighbors=5)
    with pytest.raises(DeepSADError, match="compares with known anomalies, but none is labeled"):
        fit_knn_ratio(task_of(x), neighbors=5)


@pytest.mark.parametrize(
    ("rows", "neighbors", "anomalies"),
    [
        (np.zeros(3, np.float32), 1, None),
        (np.zeros((3, 2)), 1, None),
        (np.zeros((3, 2), np.float32), 4, None),
        (np.zeros((3, 2), np.float32), 1, np.zeros((1, 3), np.float32)),
        (np.zeros((3, 2), np.float32), 1, np.zeros((0, 2), np.float32)),
    ],
)
def test_an_invalid_model_is_refused(rows: Matrix, neighbors: int, anomalies: Matrix | None) -> None:
    with pytest.raises(ValueError, match="a model of neighbors needs"):
        NeighborModel(rows, neighbors, anomalies)


# Measured independently on these splits, seeds 0 to 4, gamma_l .01.
@pytest.mark.parametrize(("dataset", "auroc"), [("cardio", 98.7), ("thyroid", 99.6), ("satimage-2", 99.8)])
def test_the_ratio_has_the_known_auroc_on_real_tables(
    dataset: str, auroc: float, real_data: Path, tmp_path: Path
) -> None:
    found = [
        deepsad_pl.run(
            "knn_ratio_raw",
            dataset,
            ["logger=none"],
            gamma_l=0.01,
            seed=seed,
            data_dir=real_data,
            output_dir=tmp_path,
        ).auroc
        for seed in range(5)
    ]
    assert 100 * np.mean(found) == pytest.approx(auroc, abs=0.06)
