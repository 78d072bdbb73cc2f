"""Thresholds and conformal p-values: closed forms, plain loops and the guarantee."""

import doctest

import numpy as np
import pytest

from deepsad_pl.common import thresholds
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.thresholds import (
    Threshold,
    allows,
    best_f1_threshold,
    conformal_threshold,
    p_values,
    quantile_threshold,
    rates,
    smallest_alpha,
)


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(thresholds)
    assert found.attempted and not found.failed


def scores(seed: int, size: int, *, ties: bool) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=size)
    return np.round(drawn, 1) if ties else drawn


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("size", [1, 2, 19, 40])
def test_p_values_agree_with_a_plain_loop(size: int, ties: bool) -> None:
    known, new = scores(0, size, ties=ties), scores(1, 100, ties=ties)
    loop = [(1 + sum(c >= s for c in known)) / (size + 1) for s in new]
    assert p_values(known, new).tolist() == loop
    assert p_values(known, new.reshape(4, 25)).shape == (4, 25)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.29, 0.07, 0.999])
@pytest.mark.parametrize("size", [19, 99, 100])
def test_scores_above_the_conformal_threshold_have_p_values_up_to_alpha(size: int, alpha: float, ties: bool) -> None:
    known = scores(2, size, ties=ties)
    new = np.concatenate([known, scores(3, 500, ties=ties)])
    assert ((new > conformal_threshold(known, alpha)) == (p_values(known, new) <= alpha)).all()


def test_too_few_samples_are_refused_with_the_smallest_alpha() -> None:
    assert conformal_threshold(range(19), 0.05) == 18
    with pytest.raises(
        DeepSADError, match=r"alpha is 0.05, but with 18 calibration samples the smallest possible is 0.05"
    ):
        conformal_threshold(range(18), 0.05)
    with pytest.raises(DeepSADError, match=r"with 0 calibration samples none is possible; raise threshold.share"):
        conformal_threshold([], 0.5)


@pytest.mark.parametrize("size", [1, 3, 6, 12, 18, 19, 99, 122, 9999])
def test_the_smallest_alpha_is_allowed_and_rounded_up_only_slightly(size: int) -> None:
    found = smallest_alpha(size)
    assert allows(size, found) and not allows(size, found * 0.99)
    assert float(f"{found:g}") == found


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.25, 0.9])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_quantile_is_the_lowest_score_with_at_most_a_share_alpha_above(size: int, alpha: float, ties: bool) -> None:
    known = scores(4, size, ties=ties)
    assert quantile_threshold(known, alpha) == min(c for c in known if (known > c).sum() <= alpha * size)
    assert quantile_threshold(known, alpha) == np.quantile(known, 1 - alpha, method="inverted_cdf")


@pytest.mark.parametrize("seed", range(20))
def test_the_best_f1_is_the_maximum_over_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=30), 1)
    y = np.where(rng.random(30) < 0.3, -1, 1)
    y[0] = -1

    def f1(threshold: float) -> float:
        called = values > threshold
        hits = (called & (y == -1)).sum()
        return 2 * hits / (called.sum() + (y == -1).sum())

    found = best_f1_threshold(values, y)
    assert f1(found) == pytest.approx(max(f1(t) for t in [-np.inf, *values]))
    assert found not in values


def test_the_best_f1_can_be_at_either_end() -> None:
    # The best is to call everything an anomaly.
    assert best_f1_threshold([1.0, 1.0], [-1, 1]) == np.nextafter(1.0, 0)
    # There is no number between neighboring floats.
    assert best_f1_threshold([1.0, np.nextafter(1.0, 2)], [1, -1]) == 1.0
    assert np.isfinite(best_f1_threshold([-1.7e308, 1.7e308], [1, -1]))
    with pytest.raises(ValueError, match="at least one known anomaly"):
        best_f1_threshold([1.0], [1])


def test_a_false_positive_rate_uses_only_known_normal_samples() -> None:
    score, y = [1.0, 2.0, 3.0, 4.0, 9.0], [1, 1, 1, 1, -1]
    assert Threshold("labeled", share=0.2, fpr=0.25).value(score, y) == 3
    assert Threshold("labeled", share=0.2, fpr=0.2).value(score, y) == 4


def test_rates_are_undefined_without_samples_of_known_truth() -> None:
    assert rates(0.5, [0.5, 0.6, 0.9], [0, 0, -1]) == {"false_alarm_rate": 0.5, "recall": None}
    assert rates(0.5, [0.9], [-1]) == {"false_alarm_rate": None, "recall": None}


@pytest.mark.parametrize("function", [lambda s: p_values([1.0], s), lambda s: conformal_threshold(s, 0.5)])
def test_scores_that_are_not_finite_are_refused(function: object) -> None:
    with pytest.raises(ValueError, match="1 of 2 anomaly scores is not finite"):
        function([1.0, np.nan])  # type: ignore[operator]


def test_the_identity_has_only_what_changes_the_training() -> None:
    assert Threshold("conformal", share=0.2, alpha=0.01).identity == {"kind": "conformal", "share": 0.2}
    assert Threshold("quantile", alpha=0.01).identity == {"kind": "quantile"}
    assert not Threshold()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("size", [99, 150])
def test_the_false_alarm_rate_is_at_most_alpha(size: int, alpha: float) -> None:
    """Over 50 seeds, with a fixed score of Gaussian data; the exact mean rate is floor(alpha (n + 1)) / (n + 1)."""
    fresh, seeds = 2000, 50
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        known, new = (np.square(rng.normal(size=(count, 3))).sum(axis=1) for count in (size, fresh))
        found.append((new > conformal_threshold(known, alpha)).mean())
    k = int(alpha * (size + 1) + 1e-9)
    expected = k / (size + 1)
    # Given the calibration samples, the rate has a Beta(k, n + 1 - k) distribution, and its estimate is binomial.
    spread = np.sqrt(expected * (1 - expected) / seeds * (1 / (size + 2) + 1 / fresh))
    assert np.mean(found) <= alpha + 3 * spread
    assert abs(np.mean(found) - expected) <= 4 * spread


def test_pollution_lowers_the_false_alarm_rate() -> None:
    """Anomalies among the calibration samples raise the threshold: fewer false alarms than alpha, and lower recall."""
    rng = np.random.default_rng(0)
    normal, anomalies, new = rng.normal(size=950), rng.normal(4, size=50), rng.normal(size=100_000)
    clean = (new > conformal_threshold(normal, 0.05)).mean()
    polluted = (new > conformal_threshold(np.concatenate([normal, anomalies]), 0.05)).mean()
    assert polluted < 0.3 * clean
