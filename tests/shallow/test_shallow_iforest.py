"""The isolation forest as arrays gives scikit-learn's scores, whatever its shape."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import IsolationForest

from deepsad_pl.shallow import iforest
from deepsad_pl.shallow.iforest import fit_iforest
from deepsad_pl.shallow.models import load_model, save_model
from deepsad_pl.shallow.task import Fitted, Task

Matrix = npt.NDArray[np.float32]


def fit(x: Matrix, *, trees: int = 20, subsample: int = 256, seed: int = 0, threads: int = 1) -> Fitted:
    semi_y = np.random.default_rng(5).integers(-1, 2, len(x))
    task = Task(x, semi_y, x[:0], np.zeros(0, dtype=np.int64), seed, threads)
    return fit_iforest(task, trees=trees, subsample=subsample)


def normal(n: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


CASES = {
    "more rows than psi": normal(400, 5),
    "fewer rows than psi": normal(60, 3),
    "one column": normal(300, 1),
    "wide": normal(50, 200),
    "duplicates": np.repeat(normal(6, 4), 50, axis=0),
    "constant columns": np.hstack([normal(300, 2), np.full((300, 3), 7, dtype=np.float32)]),
    "all constant": np.ones((40, 3), dtype=np.float32),
    "two rows": normal(2, 3),
    "one row": normal(1, 3),
    "few values": np.random.default_rng(1).integers(0, 3, (300, 4)).astype(np.float32),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_scikit_learns(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = CASES[name]
    grown: list[IsolationForest] = []
    convert = iforest._to_model
    monkeypatch.setattr(iforest, "_to_model", lambda forest: (grown.append(forest), convert(forest))[1])
    fitted = fit(x)
    # Queries in double precision, some near thresholds: scikit-learn compares them in single precision.
    queries = np.vstack([x, 3 * normal(300, x.shape[1], seed=9)]).astype(np.float64)
    queries[::3] += 1e-9
    expected = -grown[0].score_samples(queries)
    np.testing.assert_allclose(fitted.model.score(queries), expected, rtol=0, atol=1e-12)
    save_model(tmp_path / "forest.npz", fitted.model)
    assert load_model(tmp_path / "forest.npz").score(queries).tobytes() == fitted.model.score(queries).tobytes()


def test_near_a_threshold_single_precision_decides() -> None:
    model = fit(CASES["more rows than psi"]).model
    arrays = model.arrays()
    roots = arrays["tree_start"][:-1]
    queries = np.zeros((len(roots), 5))
    # Just to the right of every root's threshold; in single precision, some are to the left of it.
    queries[np.arange(len(roots)), arrays["feature"][roots]] = np.nextafter(arrays["threshold"][roots], np.inf)
    assert len({*np.sign(queries.astype(np.float32).sum(axis=1) - arrays["threshold"][roots])}) > 1
    np.testing.assert_array_equal(model.score(queries), model.score(queries.astype(np.float32)))


def test_the_papers_settings_are_used_and_recorded() -> None:
    fitted = fit(CASES["more rows than psi"], trees=100)
    assert json.loads(json.dumps(fitted.selection)) == {"protocol": "none", "trees": 100, "subsample": 256}
    assert len(fitted.model.arrays()["tree_start"]) == 101
    assert fit(CASES["fewer rows than psi"]).selection["subsample"] == 60


def test_outliers_score_higher() -> None:
    model = fit(normal(500, 4), trees=100).model
    far, near = model.score(normal(20, 4, seed=3) + 6), model.score(normal(20, 4, seed=4) * 0.2)
    assert far.min() > 0.55 > 0.5 > near.max()


def test_only_the_seed_decides() -> None:
    x, queries = CASES["more rows than psi"], normal(50, 5, seed=2)
    first = fit(x, seed=4).model.score(queries)
    np.random.seed(77)  # noqa: NPY002
    assert fit(x, seed=4, threads=3).model.score(queries).tobytes() == first.tobytes()
    assert (fit(x, seed=5).model.score(queries) != first).any()
