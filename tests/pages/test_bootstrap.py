"""Bootstrap intervals: the same metrics as everywhere, about as wide as DeLong's, seeded, and fast."""

import numpy as np
import pytest

from deepsad_pl.common.metrics import RANKING, ranking_metrics
from deepsad_pl.pages import bootstrap
from deepsad_pl.pages.bootstrap import bootstrap_intervals


def drawn(n: int, *, ties: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, ground truth and classes: 0 and 1 normal, 2 to 4 anomalies."""
    generator = np.random.default_rng(seed)
    label = np.sort(generator.integers(5, size=n))
    score = generator.normal(size=n) + 0.7 * (label >= 2) + 0.5 * (label == 4)
    return (np.round(score, 1) if ties else score), (label >= 2).astype(int), label


@pytest.mark.parametrize("ties", [False, True])
def test_resamples_have_the_metrics_of_the_package(ties: bool) -> None:
    score, _, label = drawn(150, ties=ties)
    values, rank = np.unique(score, return_inverse=True)
    normal, anomalous = ([rank[label == one] for one in which] for which in ((0, 1), (2, 3, 4)))
    found, each = bootstrap._resampled(np.random.default_rng(3), 4, len(values), normal, anomalous)
    generator = np.random.default_rng(3)
    picked = [bootstrap._drawn(generator, 4, ranks) for ranks in (*normal, *anomalous)]
    truth = np.repeat([0, 0, 1, 1, 1], [len(ranks) for ranks in (*normal, *anomalous)])
    for place in range(4):
        expected = ranking_metrics(values[np.concatenate([part[place] for part in picked])], truth)
        for name in RANKING:
            assert found[name][place] == pytest.approx(expected[name], abs=1e-9), name
        for one, part in zip(each, picked[2:], strict=True):
            of_class = np.concatenate([part[place] for part in (*picked[:2], part)])
            against = np.arange(len(of_class)) >= len(picked[0][0]) + len(picked[1][0])
            assert one[place] == pytest.approx(ranking_metrics(values[of_class], against)["auroc"], abs=1e-9)


def delong(score: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """DeLong's interval of AUROC (Biometrics 44, 1988)."""
    wins = (score[y == 1][:, None] > score[y == 0]) + 0.5 * (score[y == 1][:, None] == score[y == 0])
    variance = wins.mean(1).var(ddof=1) / (y == 1).sum() + wins.mean(0).var(ddof=1) / (y == 0).sum()
    return wins.mean() - 1.96 * variance**0.5, wins.mean() + 1.96 * variance**0.5


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_of_auroc_is_about_delongs(ties: bool) -> None:
    score, y, _ = drawn(600, ties=ties)
    # One class of anomalies, since DeLong's interval is not stratified by it.
    low, high = bootstrap_intervals(score, y, y, np.zeros(600)).metrics["auroc"]
    expected = delong(score, y)
    assert low == pytest.approx(expected[0], abs=0.004)
    assert high == pytest.approx(expected[1], abs=0.004)


def test_known_and_novel_classes_have_intervals_only_beside_each_other() -> None:
    score, y, label = drawn(300, ties=False)
    found = bootstrap_intervals(score, y, label, label == 4)
    assert found.classes.keys() == {2, 3, 4}
    assert found.metrics.keys() == {*RANKING, "auroc_known", "auroc_novel"}
    assert found.metrics["auroc_known"] == pytest.approx(found.classes[4])
    assert found.metrics["auroc_novel"][1] < found.metrics["auroc_known"][1]
    assert bootstrap_intervals(score, y, label, label >= 2).metrics.keys() == {*RANKING}


def test_intervals_are_seeded() -> None:
    score, y, label = drawn(200, ties=True)
    one, same, other = (bootstrap_intervals(score, y, label, y, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_the_number_of_resamples_is_bounded() -> None:
    assert bootstrap_intervals(*drawn(20_000, ties=True), np.zeros(20_000)).resamples == 200
    assert bootstrap_intervals(*drawn(100, ties=True), np.zeros(100)).resamples == 1000


def test_a_perfect_ranking_has_a_perfect_interval() -> None:
    found = bootstrap_intervals([1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 1, 1], np.zeros(4))
    assert all(interval == (1, 1) for interval in found.metrics.values())
