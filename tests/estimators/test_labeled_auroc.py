"""The scorer that ignores unlabeled samples, and grid searches with it."""

from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from deepsad_pl import KDE, DeepSAD, labeled_auroc
from deepsad_pl.data.odds import load_odds


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(150, 3)), np.zeros(150, int)
    x[:15] += 1.5
    y[:9], y[60:75] = -1, 1
    return x, y


def test_the_scorer_is_the_auroc_of_the_labeled_samples() -> None:
    x, y = rows()
    estimator = KDE().fit(x, y)
    known = y != 0
    expected = roc_auc_score(y[known] == -1, estimator.detector_.score(x)[known])
    assert labeled_auroc(estimator, x, y) == pytest.approx(expected)
    assert 0.5 < expected < 1
    pyod = (y[known] == -1).astype(int)
    assert labeled_auroc(estimator, x[known], pyod, convention="pyod") == pytest.approx(expected)


@pytest.mark.parametrize(("y", "told"), [([0, 1, 1], "0 are known anomalies"), ([-1, 0, 0], "0 known to be normal")])
def test_the_scorer_is_undefined_for_one_kind_of_label(y: list[int], told: str) -> None:
    x, _ = rows()
    with pytest.warns(UndefinedMetricWarning, match=told):
        assert np.isnan(labeled_auroc(KDE().fit(x), x[:3], y))


def test_other_labels_are_refused() -> None:
    x, _ = rows()
    with pytest.raises(ValueError, match="y has the values 0, 1, 2"):
        labeled_auroc(KDE(), x[:3], [0, 1, 2])


def test_grid_search_over_eta_in_a_pipeline() -> None:
    x, y = rows()
    pipeline = make_pipeline(MinMaxScaler(), DeepSAD(max_epochs=2))
    grid = {"deepsad__eta": [0.5, 2.0]}
    search = GridSearchCV(pipeline, grid, scoring=labeled_auroc, cv=StratifiedKFold(3), error_score="raise").fit(x, y)
    by_hand = []
    for train, test in StratifiedKFold(3).split(x, y):
        best = DeepSAD(max_epochs=2, eta=0.5)
        by_hand.append(labeled_auroc(make_pipeline(MinMaxScaler(), best).fit(x[train], y[train]), x[test], y[test]))
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][0], np.mean(by_hand))
    assert search.best_params_["deepsad__eta"] in (0.5, 2.0)
    assert search.predict(x).shape == (150,)


def test_grid_search_with_pyod_labels() -> None:
    x, y = rows()
    y = (y == -1).astype(int)
    scoring = partial(labeled_auroc, convention="pyod")
    search = GridSearchCV(KDE(), {"folds": [2, 5]}, scoring=scoring, error_score="raise", cv=StratifiedKFold(3))
    search.fit(x, y, convention="pyod")
    assert search.best_score_ > 0.7


@pytest.mark.slow
def test_grid_search_over_eta_on_thyroid(real_data: object) -> None:
    x, labels = load_odds("thyroid", real_data)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    y = np.zeros(len(x), int)
    y[rng.choice(np.flatnonzero(labels == 1), 30, replace=False)] = -1
    y[rng.choice(np.flatnonzero(labels == 0), 200, replace=False)] = 1
    search = GridSearchCV(
        *(DeepSAD(max_epochs=20), {"eta": [0.1, 1.0, 10.0]}), scoring=labeled_auroc, cv=StratifiedKFold(3)
    ).fit(x, y)
    unlabeled = y == 0
    assert search.best_score_ > 0.9
    assert roc_auc_score(labels[unlabeled], -search.score_samples(x[unlabeled])) > 0.9
