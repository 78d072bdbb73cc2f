"""Labels asked for in rounds: the pool, the first labels, the answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.queried_labels import (
    QueriedLabels,
    first_rows,
    oracle,
    pool_of,
    queried_labels,
    queried_training_set,
    query_seed,
)
from deepsad_pl.data.scenario import draw_training_set

CLASSES = ("a", "b", "c")
LABELS = np.repeat([0, 1, 2], [40, 10, 10])


def queried(**changed: Any) -> QueriedLabels:
    chosen = {
        **{"normal_class": "a", "gamma_p": 0.2, "start": 5, "rounds": 0, "query_by": "random", "query_count": 3},
        **{"seed": 0, "classes": CLASSES, "strategies": ("random", "diverse"), **changed},
    }
    return queried_labels(**chosen)


def test_the_pool_is_what_a_drawn_scenario_without_labels_trains_on() -> None:
    scenario = queried()
    pool = pool_of(LABELS, scenario)
    assert (pool.y == 1).sum() == 10 and len(pool.index) == 50
    assert pool.index.tolist() == draw_training_set(LABELS, scenario.unsupervised()).index.tolist()
    assert not pool.semi_y.any()


@settings(deadline=None)
@given(seed=st.integers(0, 50), start=st.integers(0, 30))
def test_more_first_labels_include_fewer_ones_for_every_strategy(seed: int, start: int) -> None:
    few, many = (queried(seed=seed, start=number) for number in (start, start + 5))
    pool = pool_of(LABELS, many)
    assert len(first_rows(pool, few)) == start
    assert {*first_rows(pool, few)} <= {*first_rows(pool, many)} <= {*pool.index}
    other = queried(seed=seed, start=start, query_by="diverse", rounds=2)
    assert first_rows(pool, few).tolist() == first_rows(pool, other).tolist()


@settings(deadline=None)
@given(rows=st.sets(st.integers(0, len(LABELS) - 1)))
def test_the_oracle_labels_the_requested_rows_and_no_others(rows: set[int]) -> None:
    answers = oracle(LABELS, sorted(rows), queried())
    assert {*np.flatnonzero(answers)} == rows
    assert all(answers[row] == (1 if LABELS[row] == 0 else -1) for row in rows)


def test_the_training_set_is_the_pool_with_the_answers() -> None:
    scenario = queried()
    pool = pool_of(LABELS, scenario)
    asked = [*pool.index[:3], *pool.index[-2:]]
    found = queried_training_set(pool, oracle(LABELS, asked, scenario))
    assert found.index.tolist() == pool.index.tolist() and found.y.tolist() == pool.y.tolist()
    assert found.semi_y.tolist() == [1] * 3 + [0] * 45 + [-1] * 2
    counts = found.counts
    assert (counts.labeled_normals, counts.labeled_anomalies) == (3, 2)
    assert (counts.unlabeled_normals, counts.pollution) == (37, 8)


def test_all_strategies_share_the_experiment_before_the_first_round() -> None:
    one, other = queried(), queried(query_by="diverse", query_count=7)
    assert one.as_dict() == other.as_dict()
    asked = [replace(scenario, rounds=1).as_dict() for scenario in (one, other)]
    assert asked[0] != asked[1] and "query_by" in asked[0]


def test_each_round_has_its_own_seed() -> None:
    seeds = [query_seed(queried(seed=seed, rounds=rounds)) for seed in (0, 1) for rounds in (1, 2, 3)]
    assert len({*seeds}) == len(seeds)


def test_an_answer_may_be_about_any_class_of_the_training_data_except_the_normal_one() -> None:
    assert queried().known_classes == (1, 2)
    assert queried(in_training=("a", "c")).known_classes == (2,)


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(DeepSADError) as caught:
        queried(normal_class="z", gamma_p=1.0, start=-1, rounds=-2, query_count=0, query_by="oracle", seed=-1)
    for told in (
        "scenario.start is -1; it must be a whole number from 0 to 1,000,000",
        "scenario.rounds is -2; it must be a whole number from 0 to 200",
        "scenario.query_count is 0; it must be a whole number from 1 to 1,000,000",
        "scenario.query_by is 'oracle'; choose random, diverse",
        "scenario.gamma_p is 1.0",
        "scenario.normal_class",
        "seed is -1",
    ):
        assert any(one.startswith(told) for one in caught.value.problems), told


def test_more_labels_than_rows_are_refused() -> None:
    with pytest.raises(DeepSADError, match=r"ask for 53 labels, but the pool has 50 rows; lower them"):
        pool_of(LABELS, queried(rounds=16))
    assert len(pool_of(LABELS, queried(rounds=15)).index) == 50
