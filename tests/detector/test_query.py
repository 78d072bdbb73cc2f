"""Which samples to label next: each strategy on scores whose answer is known."""

import numpy as np
import pytest

from deepsad_pl.detector.query import STRATEGIES, Strategy, choose, substitute_threshold

RNG = np.random.default_rng(0)
SCORE, FEATURES = RNG.normal(size=200), RNG.normal(size=(200, 3))


def test_anomalous_takes_the_highest_scores_in_falling_order() -> None:
    found = choose(SCORE, by="anomalous", count=20)
    assert SCORE[found].tolist() == sorted(SCORE, reverse=True)[:20]


def test_uncertain_takes_the_scores_nearest_to_the_threshold_on_either_side() -> None:
    found = choose(SCORE, by="uncertain", count=20, threshold=0.5)
    assert np.abs(SCORE[found] - 0.5).tolist() == sorted(np.abs(SCORE - 0.5))[:20]
    assert (SCORE[found] > 0.5).any() and (SCORE[found] < 0.5).any()


def test_diverse_takes_one_sample_of_each_cluster_of_anomalies_and_no_normal_one() -> None:
    clusters = np.repeat(np.arange(4), 10)
    points = np.concatenate([np.eye(4)[clusters] * 50 + RNG.normal(size=(40, 4)), RNG.normal(size=(300, 4)) * 1000])
    score = np.concatenate([RNG.uniform(1, 2, 40), RNG.uniform(0, 1, 300)])
    found = choose(score, by="diverse", count=4, features=points)
    assert found[0] == np.argmax(score)
    assert sorted(clusters[found]) == [0, 1, 2, 3]
    assert len({*clusters[choose(score, by="anomalous", count=4)]}) < 4, "the highest scores alone miss a cluster"


def test_diverse_chooses_each_sample_once_even_if_all_are_alike() -> None:
    found = choose(np.arange(6.0), by="diverse", count=5, features=np.zeros((6, 2)))
    assert found[0] == 5 and len({*found.tolist()}) == 5


def test_random_is_drawn_by_the_seed_alone() -> None:
    draws = [choose(SCORE, by="random", count=10, seed=seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("by", STRATEGIES)
def test_labeled_samples_and_those_without_a_score_are_never_asked_for(by: Strategy) -> None:
    labeled, score = np.arange(200) % 2 == 0, np.where(np.arange(200) % 5 == 1, np.nan, SCORE)
    found = choose(score, by=by, count=500, threshold=0.0, features=FEATURES, labeled=labeled)
    left = [row for row in range(200) if row % 2 and row % 5 != 1]
    assert sorted(found.tolist()) == left
    again = choose(score, by=by, count=500, threshold=0.0, features=FEATURES, labeled=labeled)
    assert found.tolist() == again.tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"by": "uncertain"}, "needs threshold"),
        ({"by": "diverse"}, "needs features"),
        ({"by": "diverse", "features": FEATURES[:5]}, r"\(5, 3\)"),
        ({"by": "anomalous", "count": 0}, "count is 0"),
        ({"by": "likely"}, "anomalous, uncertain, diverse, random"),
        ({"by": "anomalous", "labeled": [True]}, "labeled has the shape"),
    ],
)
def test_missing_or_wrong_arguments_of_a_strategy_are_reported(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose(SCORE, **{"count": 5, **wrong})  # type: ignore[arg-type]


def test_the_substitute_threshold_lies_between_the_labels_seen() -> None:
    score = np.arange(101.0)
    marks = np.zeros(101)
    assert substitute_threshold(score, marks) == pytest.approx(95)
    marks[[80, 90, 100]] = -1
    assert substitute_threshold(score, marks) == 90
    marks[[10, 20, 30]] = 1
    assert substitute_threshold(score, marks) == 55
    with pytest.raises(ValueError, match="no score is finite"):
        substitute_threshold([np.nan], [0])
