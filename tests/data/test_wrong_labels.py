"""Labels that are wrong: normals labeled as anomalies (gamma_e) and anomalies labeled as normal (gamma_en)."""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from drawn_sets import LABELS, draw, rows, scenario
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.scenario import draw_training_set
from deepsad_pl.data.training_counts import count_rows, counts_of_rows

quick = settings(max_examples=80, deadline=None)
seeds = st.integers(0, 2**32 - 1)
per_mille = st.integers(0, 999)
tenth = st.integers(0, 10).map(lambda number: number / 100)
percent = st.integers(0, 20).map(lambda number: number / 100)
wrong = st.integers(0, 90).map(lambda number: number / 100)


@quick
@given(normals=st.integers(1, 100_000), l=per_mille, p=per_mille, n=per_mille, e=per_mille, en=per_mille)
def test_counts_are_the_floored_closed_form(normals: int, l: int, p: int, n: int, e: int, en: int) -> None:  # noqa: E741
    assume(l + n < 1000)
    of_l, of_p, of_n, of_e, of_en = (Fraction(number, 1000) for number in (l, p, n, e, en))
    # All normals are used: the clean unlabeled ones, those labeled as anomalies, those labeled as normal.
    total = normals / ((1 - of_l - of_n) * (1 - of_p) + of_e * of_l + (1 - of_en) * of_n)
    counts = count_rows(normals, l / 1000, p / 1000, n / 1000, gamma_e=e / 1000, gamma_en=en / 1000)
    assert counts.labeled_anomalies == floor(of_l * total)
    assert counts.wrong_anomalies == floor(of_e * of_l * total)
    assert counts.labeled_normals == floor(of_n * total)
    assert counts.wrong_normals == floor(of_en * of_n * total)
    assert counts.pollution == floor(of_p * (1 - of_l - of_n) * total)
    right = counts.labeled_normals - counts.wrong_normals
    assert counts.unlabeled_normals == normals - right - counts.wrong_anomalies >= 0
    assert abs(total - counts.total) < 5


@quick
@given(labels=st.integers(0, 1000), e=per_mille)
def test_a_number_of_labels_has_a_floored_share_of_wrong_ones(labels: int, e: int) -> None:
    counts = count_rows(2000, 0.0, 0.0, 0.0, labels=labels, gamma_e=e / 1000)
    assert (counts.labeled_anomalies, counts.wrong_anomalies) == (labels, labels * e // 1000)
    assert counts.unlabeled_normals == 2000 - counts.wrong_anomalies


def test_an_exact_share_is_not_rounded_down_by_one() -> None:
    # T = 6000: 300 labeled anomalies, 90 of them normal, 600 labeled normals, 60 of them anomalies.
    counts = count_rows(6000 - 210 - 60, 0.05, 0.0, 0.1, gamma_e=0.3, gamma_en=0.1)
    assert counts.total == 6000
    assert (counts.labeled_anomalies, counts.wrong_anomalies) == (300, 90)
    assert (counts.labeled_normals, counts.wrong_normals) == (600, 60)


@quick
@given(
    seed=seeds,
    amount=st.one_of(tenth.map(lambda gamma: {"gamma_l": gamma}), st.integers(0, 30).map(lambda m: {"labels": m})),
    gammas=st.tuples(percent, tenth, wrong, wrong),
    unlabeled=st.sampled_from(["normal", "all"]),
    k_l=st.integers(1, 4),
)
def test_the_counts_tell_how_many_labels_are_wrong(
    seed: int, amount: dict[str, Any], gammas: tuple[float, float, float, float], unlabeled: str, k_l: int
) -> None:
    p, n, e, en = gammas
    keeps_all = unlabeled == "all"
    chosen = {"gamma_p": 0.0 if keeps_all else p, "gamma_n": n, "gamma_e": e, "gamma_en": en, "unlabeled": unlabeled}
    drawn = draw(seed=seed, k_l=k_l, **amount, **chosen)
    assert drawn.counts == counts_of_rows(drawn.semi_y, drawn.y)
    assert (drawn.y == (LABELS[drawn.index] != 0)).all()
    assert set(np.flatnonzero(LABELS == 0)) <= set(drawn.index.tolist())
    assert not keeps_all or len(drawn.index) == 300
    assert set(LABELS[list(rows(drawn, -1, 1))].tolist()) <= set(scenario(seed=seed, k_l=k_l, **amount).known_classes)


@quick
@given(
    seed=seeds,
    gammas=st.tuples(percent, percent, percent, percent, percent),
    shares=st.tuples(wrong, wrong, wrong, wrong),
)
def test_a_higher_share_adds_wrong_labels_to_those_of_a_lower_one(
    seed: int, gammas: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    """Whatever else differs: wrong labels depend only on the seed, the normal classes and how many there are."""
    l, p, other_p, n, other_n = gammas  # noqa: E741
    e, other_e, en, other_en = shares
    one = draw(seed=seed, gamma_l=l, gamma_p=p, gamma_n=n, gamma_e=e, gamma_en=en, k_l=4)
    other = draw(seed=seed, gamma_l=l, gamma_p=other_p, gamma_n=other_n, gamma_e=other_e, gamma_en=other_en, k_l=4)
    for semi_y, y in ((-1, 0), (1, 1)):
        few, many = sorted((rows(one, semi_y, y), rows(other, semi_y, y)), key=len)
        assert few <= many


@quick
@given(seed=seeds, labels=st.integers(1, 40), shares=st.tuples(wrong, wrong), n=percent, p=percent)
def test_more_wrong_anomalies_leave_the_right_ones_and_the_labeled_normals(
    seed: int, labels: int, shares: tuple[float, float], n: float, p: float
) -> None:
    """The right labels of a higher share are among those of a lower one; none is new."""
    chosen = {"seed": seed, "labels": labels, "gamma_n": n}
    low, high = (draw(**chosen, gamma_e=share) for share in sorted(shares))
    assert rows(low, -1, 0) <= rows(high, -1, 0)
    assert rows(high, -1, 1) <= rows(low, -1, 1)
    assert rows(high, 1, 0) <= rows(low, 1, 0)
    assert rows(draw(seed=seed, labels=labels, gamma_p=p, gamma_e=shares[0]), 0, 1) <= rows(
        draw(seed=seed, labels=labels, gamma_p=p), 0, 1
    )


@quick
@given(seed=seeds, l=percent, p=percent, n=percent)
def test_without_wrong_labels_nothing_changes(seed: int, l: float, p: float, n: float) -> None:  # noqa: E741
    """The draws of the releases before: from one stream each, in the order pollution, anomalies, normals."""
    drawn = draw(seed=seed, gamma_l=l, gamma_p=p, gamma_n=n)
    normals, anomalies = np.flatnonzero(LABELS == 0), np.flatnonzero(LABELS != 0)
    counts = count_rows(60, l, p, n)
    pollution = np.random.default_rng([seed, 1, 0]).permutation(anomalies)[: counts.pollution]
    known = np.setdiff1d(np.flatnonzero(LABELS == 1), pollution)
    labeled = np.random.default_rng([seed, 2, 0]).permutation(known)[: counts.labeled_anomalies]
    labeled_normals = np.random.default_rng([seed, 3, 0]).permutation(normals)[: counts.labeled_normals]
    assert rows(drawn, 0, 1) == set(pollution.tolist())
    assert rows(drawn, -1, 1) == set(labeled.tolist())
    assert rows(drawn, 1, 0) == set(labeled_normals.tolist())
    assert not rows(drawn, -1, 0) and not rows(drawn, 1, 1)


def test_wrong_normals_come_from_all_anomaly_classes() -> None:
    drawn = draw(gamma_l=0.01, gamma_n=0.45, gamma_en=0.6)
    assert set(LABELS[list(rows(drawn, 1, 1))].tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize("key", ["gamma_e", "gamma_en"])
def test_another_seed_gives_other_wrong_labels(key: str) -> None:
    label = (-1, 0) if key == "gamma_e" else (1, 1)
    chosen = {"gamma_l": 0.2, "gamma_n": 0.2, key: 0.5}
    assert len({frozenset(rows(draw(seed=seed, **chosen), *label)) for seed in range(5)}) == 5


@quick
@given(seed=seeds, l=percent, p=percent, n=percent, e=wrong, en=wrong)
def test_a_method_without_labels_trains_on_the_rows_that_no_noise_would_leave(
    seed: int,
    l: float,  # noqa: E741
    p: float,
    n: float,
    e: float,
    en: float,
) -> None:
    one = scenario(seed=seed, gamma_l=l, gamma_p=p, gamma_n=n, gamma_e=e, gamma_en=en)
    rest = one.unsupervised()
    assert (rest is None) == (n > 0 and (p > 0 or en > 0))
    if rest is not None:
        assert rest == scenario(seed=seed, gamma_p=p)
        drawn = draw_training_set(LABELS, rest)
        assert set(np.flatnonzero(LABELS == 0)) <= set(drawn.index.tolist()) and not drawn.semi_y.any()


def test_without_labels_of_its_kind_a_share_has_no_effect() -> None:
    assert scenario(gamma_e=0.5, gamma_en=0.5) == scenario()
    assert scenario(gamma_l=0.1, gamma_en=0.5) == scenario(gamma_l=0.1)
    assert scenario(labels=0, gamma_n=0.1, gamma_e=0.5) == scenario(gamma_n=0.1)


def test_the_shares_are_in_an_identity_only_when_set() -> None:
    plain = scenario(gamma_l=0.1, gamma_n=0.1).as_dict()
    noisy = scenario(gamma_l=0.1, gamma_n=0.1, gamma_e=0.2, gamma_en=0.3).as_dict()
    assert noisy == {**plain, "gamma_e": 0.2, "gamma_en": 0.3}


@pytest.mark.parametrize("key", ["gamma_e", "gamma_en"])
@pytest.mark.parametrize("value", [-0.01, 1.0, float("nan")])
def test_a_share_outside_0_and_1_is_refused(key: str, value: float) -> None:
    with pytest.raises(DeepSADError) as caught:
        scenario(**{key: value})
    (problem,) = caught.value.problems
    assert f"scenario.{key} is {value}" in problem and "[0, 1)" in problem


def test_more_anomalies_labeled_as_normal_than_the_pollution_leaves_are_refused() -> None:
    with pytest.raises(DeepSADError) as caught:
        draw(gamma_p=0.6, gamma_n=0.7, gamma_en=0.9)
    (problem,) = caught.value.problems
    assert problem.startswith("scenario.gamma_en=0.9 asks for 198 anomalies labeled as normal")
    assert problem.endswith("but the training data hold only 184 apart from the pollution; lower it")


def test_a_message_about_too_few_anomalies_names_what_else_needs_them() -> None:
    with pytest.raises(DeepSADError) as caught:
        draw(gamma_p=0.1, labels=70, gamma_e=0.1, gamma_n=0.2, gamma_en=0.5)
    (problem,) = caught.value.problems
    assert "scenario.labels=70 asks for 63 rightly labeled anomalies of class automobile" in problem
    assert "apart from the pollution and those labeled as normal; lower it or raise scenario.k_l" in problem
