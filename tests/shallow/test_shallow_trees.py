"""Extremely randomized trees as arrays give scikit-learn's probabilities, also with a single label."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import trees as module
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.task import Fitted, Task
from deepsad_pl.shallow.trees import TreesModel, check_rows, fit_trees

Matrix = npt.NDArray[np.float32]


def fit(x: Matrix, labels: int = 5, *, trees: int = 20, seed: int = 0, threads: int = 1) -> Fitted:
    """The first rows are known anomalies, the next ones known normals."""
    semi_y = np.zeros(len(x), np.int64)
    semi_y[:labels], semi_y[labels : 2 * labels] = -1, 1
    return fit_trees(Task(x, semi_y, None, None, seed, threads), trees=trees)


def normal(n: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


CASES = {
    "some labels": (normal(400, 5), 20),
    "one label": (normal(400, 5), 1),
    "one column": (normal(300, 1), 9),
    "wide": (normal(50, 200), 3),
    "labels that no split separates": (np.repeat(normal(6, 4), 50, axis=0), 70),
    "all constant": (np.ones((40, 3), dtype=np.float32), 4),
    "two rows": (normal(2, 3), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_scikit_learns(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x, labels = CASES[name]
    grown: list[ExtraTreesClassifier] = []
    convert = module._to_model
    monkeypatch.setattr(module, "_to_model", lambda forest: (grown.append(forest), convert(forest))[1])
    model = fit(x, labels).model
    # Queries in double precision, some near thresholds: scikit-learn compares them in single precision.
    queries = np.vstack([x, 3 * normal(300, x.shape[1], seed=9)]).astype(np.float64)
    queries[::3] += 1e-9
    expected = grown[0].predict_proba(queries)[:, 1]
    np.testing.assert_allclose(model.score(queries), expected, rtol=0, atol=1e-12)
    save_model(tmp_path / "trees.npz", model)
    again = load_model(tmp_path / "trees.npz")
    assert type(again) is TreesModel
    assert again.score(queries).tobytes() == model.score(queries).tobytes()


def test_unlabeled_and_normal_rows_are_the_other_class() -> None:
    x, labels = CASES["some labels"]
    score = fit(x, labels).model.score(x)
    # Grown trees separate all rows, so each row is in a leaf of its own class.
    assert score.tolist() == [1.0] * 20 + [0.0] * 380


def test_rows_near_a_single_label_score_higher() -> None:
    x = normal(2000, 4)
    x[0] = 4
    model = fit(x, 1, trees=200).model
    assert model.score(normal(50, 4, seed=1) * 0.1 + 4).min() > model.score(x[1:]).max()


def test_only_the_seed_decides() -> None:
    x, queries = CASES["some labels"][0], normal(50, 5, seed=2)
    first = fit(x, seed=4).model.score(queries)
    np.random.seed(77)  # noqa: NPY002
    assert fit(x, seed=4, threads=3).model.score(queries).tobytes() == first.tobytes()
    assert (fit(x, seed=5).model.score(queries) != first).any()


def test_the_settings_are_on_record() -> None:
    fitted = fit(normal(30, 3), trees=7)
    assert json.loads(json.dumps(fitted.selection)) == {"protocol": "none", "trees": 7}
    assert len(fitted.model.arrays()["tree_start"]) == 8


def test_a_single_class_is_refused() -> None:
    with pytest.raises(
        DeepSADError, match=r"there are only labeled anomalies \(3 rows\); add unlabeled or normal rows"
    ):
        check_rows(np.full(3, -1))
    with pytest.raises(DeepSADError, match=r"only labeled anomalies \(4 rows\)"):
        fit(normal(4, 2), 4)
    with pytest.raises(DeepSADError, match="none is labeled; label some"):
        fit(normal(4, 2), 0)


@pytest.mark.parametrize(
    "change",
    [
        {"share": np.array([0.5, 0, 2])},
        {"share": np.array([0.5, np.nan, 1])},
        {"share": np.zeros(2)},
        {"children_left": np.array([0, -1, -1])},
        {"feature": np.array([3, -2, -2])},
        {"threshold": np.zeros(3, np.float32)},
    ],
)
def test_a_damaged_model_is_refused(change: dict[str, Any]) -> None:
    good = {
        "children_left": np.array([1, -1, -1]),
        "children_right": np.array([2, -1, -1]),
        "feature": np.array([1, -2, -2]),
        "threshold": np.array([0.5, -2, -2]),
        "share": np.array([0.25, 0.0, 1.0]),
        "tree_start": np.array([0, 3]),
        "width": 3,
    }
    assert TreesModel(**good).score(np.array([[0, 0.5, 0], [0, 0.6, 0]])).tolist() == [0, 1]
    with pytest.raises(ValueError, match="a model needs"):
        TreesModel(**{**good, **change})
