"""Curves and histograms: the rates of scikit-learn, few points, no sample lost."""

import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from deepsad_pl.common.metrics import auroc
from deepsad_pl.pages.curves import bins, curves, shares


def scored(n: int, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = generator.integers(2, size=n)
    return np.round(generator.normal(size=n) + y, digits), y


@pytest.mark.parametrize("digits", [1, 9])
def test_the_rates_are_scikit_learns(digits: int) -> None:
    score, y = scored(200, digits)
    found = curves(score, y)
    fpr, recall, threshold = roc_curve(y, score, drop_intermediate=False)
    at = {value: place for place, value in enumerate(threshold)}
    places = [at[value] for value in found.threshold]
    assert places[0] == 0
    assert places[-1] == len(threshold) - 1
    np.testing.assert_allclose(found.fpr, fpr[places])
    np.testing.assert_allclose(found.recall, recall[places])
    precision, _, thresholds = precision_recall_curve(y, score)
    expected = dict(zip(thresholds, precision, strict=False))
    for value, one in zip(found.threshold[1:], found.precision[1:], strict=True):
        assert one == pytest.approx(expected[value])
    assert np.isnan(found.precision[0])


def test_a_long_curve_is_thinned_but_keeps_its_area() -> None:
    score, y = scored(20_000)
    found = curves(score, y)
    assert len(found.fpr) <= 302
    assert auc(found.fpr, found.recall) == pytest.approx(auroc(score, y), abs=2e-4)


def test_every_score_is_in_a_bin() -> None:
    for score in (np.array([1.0, 1.0]), scored(500)[0], np.geomspace(0.1, 1e5, 99), np.array([*range(999), -5, 1e9])):
        found = bins(score)
        assert len(found.edges) == 41
        assert (np.diff(found.edges) > 0).all()
        assert shares(score, found.edges).sum() == pytest.approx(1)


def test_heavy_tails_are_logarithmic_or_cut_off() -> None:
    assert bins(np.geomspace(0.1, 1e5, 999)).is_log
    assert not bins(np.linspace(0.1, 5, 999)).is_log
    outlier = bins(np.array([*np.linspace(-1, 1, 999), 1e6]))
    assert not outlier.is_log
    assert outlier.edges[-1] < 2
    assert outlier.above > 0
