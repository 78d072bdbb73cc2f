"""A number of labeled anomalies in place of a ratio, and training data that keep all their anomalies."""

from typing import Any

import numpy as np
import pytest
from drawn_sets import LABELS, draw, rows, scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.scenario import TooFewAnomaliesError, draw_training_set, labels_anomalies
from deepsad_pl.data.training_counts import counts_of_rows

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
to_a_fifth = st.integers(0, 20).map(lambda number: number / 100)
percent = st.integers(0, 30).map(lambda number: number / 100)


@quick
@given(seed=seeds, labels=st.integers(0, 40), gamma_p=percent, gamma_n=percent, gamma_l=percent)
def test_exactly_that_many_anomalies_are_labeled_and_the_other_ratios_hold(
    seed: int, labels: int, gamma_p: float, gamma_n: float, gamma_l: float
) -> None:
    chosen = {"seed": seed, "labels": labels, "gamma_p": gamma_p, "gamma_n": gamma_n}
    drawn = draw(**chosen)
    counts = drawn.counts
    assert counts == counts_of_rows(drawn.semi_y, drawn.y)
    assert counts.labeled_anomalies == len(rows(drawn, -1, 1)) == labels
    assert counts.unlabeled_normals + counts.labeled_normals == 60
    assert abs(counts.pollution - gamma_p * counts.unlabeled) < 2
    assert abs(counts.labeled_normals - gamma_n * counts.total) < 2
    again = draw(**chosen, gamma_l=gamma_l)
    assert scenario(**chosen, gamma_l=gamma_l) == scenario(**chosen)
    assert again.index.tolist() == drawn.index.tolist() and again.semi_y.tolist() == drawn.semi_y.tolist()


@quick
@given(
    seed=seeds, labels=st.tuples(st.integers(0, 40), st.integers(0, 40)), unlabeled=st.sampled_from(["normal", "all"])
)
def test_more_labels_include_the_fewer(seed: int, labels: tuple[int, int], unlabeled: str) -> None:
    few, many = (rows(draw(seed=seed, labels=number, unlabeled=unlabeled), -1, 1) for number in sorted(labels))
    assert few <= many
    assert set(LABELS[list(many)].tolist()) <= {1}


def test_a_count_labels_the_rows_that_the_ratio_would_label() -> None:
    by_ratio, by_count = draw(gamma_l=0.25, gamma_p=0.1), draw(labels=22, gamma_p=0.1)
    assert by_ratio.counts == by_count.counts
    assert by_ratio.index.tolist() == by_count.index.tolist()
    assert by_ratio.semi_y.tolist() == by_count.semi_y.tolist()


@quick
@given(
    seed=seeds,
    labels=st.integers(0, 60),
    gamma_n=to_a_fifth,
    k_l=st.integers(1, 4),
)
def test_all_keeps_every_row_and_labels_the_same_anomalies(seed: int, labels: int, gamma_n: float, k_l: int) -> None:
    chosen = {"seed": seed, "labels": labels, "k_l": k_l}
    drawn = draw(**chosen, gamma_n=gamma_n, unlabeled="all")
    assert drawn.index.tolist() == list(range(300))
    assert drawn.y.tolist() == (LABELS != 0).astype(int).tolist()
    assert drawn.counts == counts_of_rows(drawn.semi_y, drawn.y)
    assert (drawn.counts.labeled_anomalies, drawn.counts.pollution) == (labels, 240 - labels)
    assert drawn.counts.labeled_normals == round(gamma_n * 100) * 3
    assert rows(drawn, -1, 1) == rows(draw(**chosen), -1, 1)


def test_with_all_a_ratio_of_labels_counts_all_rows_of_the_training_data() -> None:
    assert draw(gamma_l=0.1, unlabeled="all").counts.labeled_anomalies == 30


@quick
@given(seed=seeds, labels=st.integers(1, 40), gamma_p=percent)
def test_a_method_without_labels_has_the_same_data_for_every_count(seed: int, labels: int, gamma_p: float) -> None:
    one = scenario(seed=seed, labels=labels, gamma_p=gamma_p)
    assert one.unsupervised() == scenario(seed=seed, gamma_p=gamma_p)
    drawn, rest = (draw_training_set(LABELS, each) for each in (one, one.unsupervised() or one))
    assert rest.index.tolist() == drawn.index[drawn.semi_y != -1].tolist()


@pytest.mark.parametrize("labels", [{"labels": 7}, {"gamma_l": 0.1}, {"labels": 7, "gamma_n": 0.1}])
def test_with_all_a_method_without_labels_has_every_row(labels: dict[str, Any]) -> None:
    rest = scenario(unlabeled="all", **labels).unsupervised()
    assert rest == scenario(unlabeled="all")
    drawn = draw_training_set(LABELS, rest)
    assert len(drawn.index) == 300 and not drawn.semi_y.any()


@pytest.mark.parametrize("none", [{"labels": 0}, {"labels": 9, "k_l": 0}, {"labels": 0, "gamma_l": 0.3}])
def test_no_labels_are_the_scenario_without_labels(none: dict[str, Any]) -> None:
    assert scenario(**none) == scenario(gamma_l=0.0)


def test_what_is_added_to_an_identity() -> None:
    plain = {"normal_classes": [0], "known_classes": [1], "gamma_l": 0.1, "gamma_p": 0.0, "gamma_n": 0.0, "seed": 0}
    assert scenario(gamma_l=0.1).as_dict() == plain
    assert scenario(gamma_l=0.1, unlabeled="all").as_dict() == {**plain, "unlabeled": "all"}
    assert scenario(gamma_l=0.1, labels=3).as_dict() == {
        **{k: v for k, v in plain.items() if k != "gamma_l"},
        "labels": 3,
    }


@pytest.mark.parametrize(
    ("settings", "labeled"),
    [
        ({"gamma_l": 0.1, "k_l": 1}, True),
        ({"gamma_l": 0.1, "k_l": 0}, False),
        ({"gamma_l": 0.1, "k_l": 1, "labels": 0}, False),
        ({"gamma_l": 0.0, "k_l": 1, "labels": 3}, True),
        ({"gamma_l": 0.0, "k_l": 1, "labels": None}, False),
    ],
)
def test_settings_tell_whether_anything_is_labeled(settings: dict[str, Any], labeled: bool) -> None:
    assert labels_anomalies(settings) is labeled


@pytest.mark.parametrize("unlabeled", ["normal", "all"])
def test_too_few_anomalies_for_the_labels_are_an_error_of_their_own(unlabeled: str) -> None:
    assert draw(labels=60, unlabeled=unlabeled).counts.labeled_anomalies == 60
    with pytest.raises(TooFewAnomaliesError) as caught:
        draw(labels=61, unlabeled=unlabeled)
    (problem,) = caught.value.problems
    assert problem.startswith("scenario.labels=61 asks for 61 labeled anomalies of class automobile, ")
    assert "hold 60" in problem and problem.endswith("lower it or raise scenario.k_l")


def test_any_further_problem_makes_it_a_plain_error() -> None:
    with pytest.raises(DeepSADError) as caught:
        draw(np.array([1, 1, 2]), labels=3)
    assert not isinstance(caught.value, TooFewAnomaliesError)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            {"labels": -1},
            "scenario.labels is -1; it must be a number of labeled anomalies from 0 to 1,000,000",
        ),
        ({"unlabeled": "some"}, "scenario.unlabeled is 'some'; choose normal or all"),
        ({"unlabeled": "all", "gamma_p": 0.1}, "scenario.gamma_p is 0.1, but scenario.unlabeled=all keeps every"),
    ],
)
def test_what_cannot_be_had_is_refused_before_data_are_read(chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(DeepSADError) as caught:
        scenario(**chosen)
    (problem,) = caught.value.problems
    assert problem.startswith(told)


def test_labels_that_leave_no_unlabeled_row_are_refused() -> None:
    with pytest.raises(DeepSADError, match=r"scenario.gamma_n=0.9 and .* ask for 108 labeled normal rows"):
        draw(labels=60, gamma_n=0.9)
    with pytest.raises(DeepSADError, match=r"scenario.gamma_n=0.5 and .* ask for 150 labeled normal rows"):
        draw(gamma_n=0.5, unlabeled="all")
    with pytest.raises(DeepSADError, match=r" and scenario.gamma_e=0.5 ask for 10 labeled normal rows, .* only 9; "):
        draw(np.repeat([0, 1], [9, 30]), labels=20, gamma_e=0.5)


def test_labels_of_data_without_anomalies_are_refused_by_their_key() -> None:
    with pytest.raises(DeepSADError, match=r"scenario.labels is 3, but .* use scenario.labels=0"):
        scenario(labels=3, in_training=["airplane"])
