"""The training set of a scenario: counts, disjointness, determinism, and every impossible request."""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.class_names import resolve_class
from deepsad_pl.data.scenario import (
    Scenario,
    TrainingSet,
    draw_training_set,
    resolve_scenario,
)
from deepsad_pl.data.training_counts import count_rows

NAMES = ("airplane", "automobile", "bird", "cat", "Ankle boot")
# 60 rows of each of five classes, in random order.
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 60))

quick = settings(max_examples=60, deadline=None)
per_mille = st.integers(0, 999)
seeds = st.integers(0, 2**32 - 1)


def scenario(**wish: Any) -> Scenario:
    default = {"normal_class": 0, "anomaly_class": 1, "gamma_l": 0.0, "gamma_p": 0.0, "k_l": 1, "gamma_n": 0.0}
    return resolve_scenario(**{**default, "seed": 0, "classes": NAMES, **wish})


def draw(labels: npt.NDArray[np.int64] = LABELS, **wish: Any) -> TrainingSet:
    return draw_training_set(labels, scenario(**wish), NAMES)


def pollution(drawn: TrainingSet) -> set[int]:
    return set(drawn.index[(drawn.semi_y == 0) & (drawn.y == 1)].tolist())


def labeled_anomalies(drawn: TrainingSet) -> set[int]:
    return set(drawn.index[drawn.semi_y == -1].tolist())


def labeled_normals(drawn: TrainingSet) -> set[int]:
    return set(drawn.index[drawn.semi_y == 1].tolist())


def problems_of(**wish: Any) -> list[str]:
    with pytest.raises(DeepSADError) as caught:
        draw(**wish)
    return caught.value.problems


def true_total(normals: int, l: Fraction, p: Fraction, n: Fraction) -> Fraction:  # noqa: E741
    # Normals are the clean part of the unlabeled share and the labeled normals.
    return normals / ((1 - l - n) * (1 - p) + n)


@quick
@given(normals=st.integers(1, 100_000), l=per_mille, p=per_mille, n=per_mille)
def test_counts_are_the_floored_closed_form(normals: int, l: int, p: int, n: int) -> None:  # noqa: E741
    assume(l + n < 1000)
    ratios = Fraction(l, 1000), Fraction(p, 1000), Fraction(n, 1000)
    total = true_total(normals, *ratios)
    counts = count_rows(normals, l / 1000, p / 1000, n / 1000)
    assert counts.labeled_anomalies == floor(ratios[0] * total)
    assert counts.labeled_normals == floor(ratios[2] * total)
    assert counts.pollution == floor(ratios[1] * (1 - ratios[0] - ratios[2]) * total)
    assert counts.unlabeled_normals == normals - counts.labeled_normals
    assert 0 <= total - counts.total < 3


@quick
@given(thousands=st.integers(1, 100), l=per_mille, p=per_mille)
def test_an_exact_share_is_not_rounded_down_by_one(thousands: int, l: int, p: int) -> None:  # noqa: E741
    counts = count_rows((1000 - l) * (1000 - p) * thousands, l / 1000, p / 1000, 0.0)
    assert counts.labeled_anomalies == l * 1000 * thousands
    assert counts.pollution == p * (1000 - l) * thousands
    assert counts.total == 1_000_000 * thousands


def test_five_percent_of_6000_is_300() -> None:
    counts = count_rows(5700, 0.05, 0.0, 0.0)
    assert (counts.labeled_anomalies, counts.unlabeled, counts.total) == (300, 5700, 6000)


def test_all_ratios_hold_at_once() -> None:
    # T = 10000: 1000 labeled anomalies, 2000 labeled normals, 7000 unlabeled of which 1400 are pollution.
    counts = count_rows(7600, 0.1, 0.2, 0.2)
    assert (counts.labeled_anomalies, counts.labeled_normals, counts.unlabeled, counts.pollution) == (
        1000,
        2000,
        7000,
        1400,
    )


@st.composite
def worlds(draw_from: st.DrawFn) -> tuple[npt.NDArray[np.int64], Scenario]:
    sizes = draw_from(st.lists(st.integers(0, 60), min_size=2, max_size=6))
    labels = np.random.default_rng(draw_from(seeds)).permutation(np.repeat(np.arange(len(sizes)), sizes))
    normal = draw_from(st.sets(st.integers(0, len(sizes) - 1), min_size=1, max_size=len(sizes) - 1))
    anomalies = len(sizes) - len(normal)
    return labels, resolve_scenario(
        normal_class=sorted(normal),
        anomaly_class=None,
        gamma_l=draw_from(st.integers(0, 40)) / 100,
        gamma_p=draw_from(st.integers(0, 40)) / 100,
        gamma_n=draw_from(st.integers(0, 40)) / 100,
        k_l=draw_from(st.integers(0, anomalies)),
        seed=draw_from(seeds),
        classes=[str(i) for i in range(len(sizes))],
    )


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_a_training_set_agrees_with_its_scenario_or_is_an_error(world: tuple[npt.NDArray[np.int64], Scenario]) -> None:
    labels, wish = world
    normal = np.isin(labels, wish.normal_classes)
    counts = count_rows(int(normal.sum()), wish.gamma_l, wish.gamma_p, wish.gamma_n)
    try:
        drawn = draw_training_set(labels, wish)
    except DeepSADError:
        known = np.isin(labels, wish.known_classes).sum()
        enough = counts.pollution <= (~normal).sum() and counts.labeled_anomalies <= known - counts.pollution
        assert not (enough and normal.any())
        return

    assert drawn.counts == counts
    assert len(drawn.index) == counts.total == counts.unlabeled + counts.labeled_anomalies + counts.labeled_normals
    assert (np.diff(drawn.index) > 0).all()
    assert set(np.flatnonzero(normal)) <= set(drawn.index.tolist())
    assert (drawn.y == ~normal[drawn.index]).all()
    assert len(pollution(drawn)) == counts.pollution
    assert len(labeled_anomalies(drawn)) == counts.labeled_anomalies
    assert len(labeled_normals(drawn)) == counts.labeled_normals
    assert (drawn.y[drawn.semi_y == -1] == 1).all()
    assert (drawn.y[drawn.semi_y == 1] == 0).all()
    assert np.isin(labels[list(labeled_anomalies(drawn))], wish.known_classes).all()


@quick
@given(seed=seeds, k_l=st.integers(1, 4), gamma_l=st.integers(1, 30), gamma_p=st.integers(1, 30))
def test_the_same_scenario_gives_the_same_draw(seed: int, k_l: int, gamma_l: int, gamma_p: int) -> None:
    wish = {"seed": seed, "k_l": k_l, "gamma_l": gamma_l / 100, "gamma_p": gamma_p / 100, "gamma_n": 0.1}
    first, second = draw(**wish), draw(**wish)
    assert np.array_equal(first.index, second.index)
    assert np.array_equal(first.semi_y, second.semi_y)


@pytest.mark.parametrize("rows", [pollution, labeled_anomalies, labeled_normals])
def test_another_seed_gives_another_draw(rows: Any) -> None:
    draws = [frozenset(rows(draw(seed=seed, gamma_l=0.2, gamma_p=0.2, gamma_n=0.2))) for seed in range(5)]
    assert len(set(draws)) == 5


def test_seed_0_is_a_seed() -> None:
    wish = {"gamma_l": 0.2, "gamma_p": 0.2}
    zeros = [draw(seed=0, **wish) for _ in range(2)]
    assert pollution(zeros[0]) == pollution(zeros[1])
    assert pollution(zeros[0]) != pollution(draw(seed=1, **wish))


def test_draws_do_not_touch_the_global_generator() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    draw(gamma_l=0.2, gamma_p=0.2)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@quick
@given(
    seed=seeds,
    gammas=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    known=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    labeled=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    normals=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_pollution_depends_only_on_seed_and_normal_class(
    seed: int,
    gammas: tuple[int, int],
    known: tuple[int, int],
    labeled: tuple[int, int],
    normals: tuple[int, int],
) -> None:
    wishes = zip(gammas, known, labeled, normals, strict=True)
    sets = [
        pollution(draw(seed=seed, gamma_p=p / 100, anomaly_class=k, gamma_l=l / 100, gamma_n=n / 100))
        for p, k, l, n in wishes  # noqa: E741
    ]
    small, large = sorted(sets, key=len)
    assert small <= large


def test_pollution_comes_from_all_anomaly_classes() -> None:
    drawn = draw(gamma_p=0.45, gamma_l=0.01)
    assert set(LABELS[list(pollution(drawn))].tolist()) == {1, 2, 3, 4}


@given(st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.3), st.integers(0, 5))
def test_the_unsupervised_scenario_has_the_same_rows_except_labeled_anomalies(
    gamma_l: float, gamma_p: float, gamma_n: float, seed: int
) -> None:
    wish = scenario(gamma_l=gamma_l, gamma_p=gamma_p, gamma_n=gamma_n, seed=seed)
    unsupervised = wish.unsupervised()
    assert (unsupervised is None) == (gamma_p > 0 and gamma_n > 0)
    if unsupervised is None:
        return
    try:
        drawn = draw_training_set(LABELS, wish)
    except DeepSADError:  # too few anomalies for this request
        return
    rest = draw_training_set(LABELS, unsupervised)
    assert not rest.semi_y.any()
    # Counts are rounded down after exact arithmetic, so they do not differ by a row.
    assert rest.index.tolist() == drawn.index[drawn.semi_y != -1].tolist()


def test_a_single_known_class_is_the_given_one() -> None:
    assert scenario(anomaly_class=3, gamma_l=0.1).known_classes == (3,)


@quick
@given(seed=seeds, given_class=st.integers(1, 4), k_l=st.integers(1, 4))
def test_several_known_classes_include_the_given_one(seed: int, given_class: int, k_l: int) -> None:
    known = scenario(seed=seed, anomaly_class=given_class, k_l=k_l, gamma_l=0.1).known_classes
    assert len(set(known)) == k_l
    assert given_class in known
    assert 0 not in known


def test_the_other_known_classes_are_drawn_by_the_seed() -> None:
    others = {scenario(seed=seed, anomaly_class=1, k_l=2, gamma_l=0.1).known_classes for seed in range(40)}
    assert others == {(1, 2), (1, 3), (1, 4)}


def test_null_draws_every_known_class_by_the_seed() -> None:
    drawn = {scenario(seed=seed, anomaly_class=None, gamma_l=0.1).known_classes for seed in range(40)}
    assert drawn == {(1,), (2,), (3,), (4,)}


def test_more_known_classes_include_the_fewer() -> None:
    known = [set(scenario(seed=5, anomaly_class=None, k_l=k, gamma_l=0.1).known_classes) for k in range(1, 5)]
    assert known[0] < known[1] < known[2] < known[3]


@pytest.mark.parametrize("nothing", [{"gamma_l": 0.0}, {"k_l": 0, "gamma_l": 0.1}])
@pytest.mark.parametrize("irrelevant", [0, 1, None, "no such class"])
def test_without_labels_the_known_class_is_irrelevant(nothing: dict[str, Any], irrelevant: object) -> None:
    wish = scenario(anomaly_class=irrelevant, **nothing)
    assert wish == scenario(anomaly_class=2, gamma_l=0.0)
    assert (wish.known_classes, wish.gamma_l) == ((), 0.0)


def test_without_labels_too_many_known_classes_are_allowed() -> None:
    assert scenario(k_l=99, gamma_l=0.0) == scenario(gamma_l=0.0)


@pytest.mark.parametrize(
    ("wish", "index"),
    [(1, 1), ("1", 1), ("automobile", 1), ("Automobile", 1), ("ankle-boot", 4), ("ankle_boot", 4), ("Ankle boot", 4)],
)
def test_a_class_is_chosen_by_index_or_name(wish: object, index: int) -> None:
    assert resolve_class(wish, NAMES) == index


def test_a_numeric_name_is_a_name_before_it_is_an_index() -> None:
    assert resolve_class("1", ["3", "2", "1"]) == 2


def test_exact_names_win_over_similar_ones() -> None:
    assert [resolve_class(name, ["a b", "a-b"]) for name in ("a b", "a-b")] == [0, 1]


@pytest.mark.parametrize("wish", [5, -1, "5", "plane", True, 1.0, None, "", [0]])
def test_an_unknown_class_is_refused_with_the_list_of_classes(wish: object) -> None:
    with pytest.raises(DeepSADError) as caught:
        resolve_class(wish, NAMES)
    assert "no class" in str(caught.value)
    assert ("null" if wish is None else str(wish)) in str(caught.value)
    assert all(name in str(caught.value) for name in NAMES)


def test_several_classes_may_be_normal() -> None:
    drawn = draw(normal_class=["bird", 0, "0"], gamma_l=0.1)
    assert drawn.counts.unlabeled_normals == 120
    assert scenario(normal_class=["bird", 0, "0"]).normal_classes == (0, 2)


@quick
@given(seed=seeds, known=st.permutations([1, 2, 3, 4]), length=st.integers(1, 4), given_k_l=st.booleans())
def test_a_list_names_all_known_classes(seed: int, known: list[int], length: int, given_k_l: bool) -> None:
    wish = [NAMES[i] if i % 2 else i for i in known[:length]]
    k_l = length if given_k_l else 1
    assert scenario(seed=seed, anomaly_class=wish, k_l=k_l, gamma_l=0.1).known_classes == tuple(sorted(known[:length]))


def test_a_list_gives_the_scenario_that_the_seed_would_draw() -> None:
    drawn = scenario(seed=3, anomaly_class=None, k_l=2, gamma_l=0.1)
    assert scenario(seed=3, anomaly_class=list(drawn.known_classes), gamma_l=0.1) == drawn


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"anomaly_class": []}, "scenario.anomaly_class is an empty list"),
        ({"anomaly_class": [1, "automobile"]}, "names 'automobile' more than once"),
        ({"anomaly_class": [1, 0]}, "'airplane', which is also a normal class"),
        ({"anomaly_class": [1, None]}, "scenario.anomaly_class: there is no class null"),
        ({"anomaly_class": [1, "plane"]}, "scenario.anomaly_class: there is no class 'plane'"),
        ({"anomaly_class": [1, 2, 3], "k_l": 2}, "scenario.k_l is 2, but scenario.anomaly_class lists 3"),
        ({"anomaly_class": [1, 2, 3], "k_l": 0}, "scenario.k_l is 0, but scenario.anomaly_class lists 3"),
        ({"anomaly_class": [1], "k_l": 2}, "scenario.k_l is 2, but scenario.anomaly_class lists 1"),
    ],
)
def test_an_impossible_list_of_known_classes_is_refused(wish: dict[str, Any], told: str) -> None:
    (problem,) = problems_of(gamma_l=0.1, **wish)
    assert told in problem


@quick
@given(
    seed=seeds,
    normal=st.integers(0, 4),
    novel=st.sets(st.integers(0, 4), max_size=3),
    k_l=st.integers(1, 4),
    by_name=st.booleans(),
)
def test_known_classes_are_drawn_from_those_of_the_training_data(
    seed: int, normal: int, novel: set[int], k_l: int, by_name: bool
) -> None:
    """The draw ignores novel classes; without any, it is that of a permutation of all other classes."""
    novel -= {normal}
    there = [i for i in range(5) if i not in novel]
    drawn = np.random.default_rng([seed, 0, normal]).permutation([i for i in there if i != normal]).tolist()
    given_class = drawn[-1] if by_name and drawn else None
    if given_class is not None:
        drawn = [given_class, *drawn[:-1]]
    wish = {"normal_class": normal, "anomaly_class": given_class, "k_l": k_l, "seed": seed, "gamma_l": 0.1}
    if k_l <= len(drawn):
        known = scenario(**wish, in_training=[NAMES[i] for i in there]).known_classes
        assert known == tuple(sorted(drawn[:k_l]))
        return
    with pytest.raises(DeepSADError, match=f"scenario.k_l is {k_l}, .* {len(drawn)} anomaly class"):
        scenario(**wish, in_training=[NAMES[i] for i in there])


@pytest.mark.parametrize("irrelevant", [{"anomaly_class": "cat"}, {"anomaly_class": None}, {"anomaly_class": ["cat"]}])
def test_without_labels_novel_classes_are_allowed(irrelevant: dict[str, Any]) -> None:
    assert scenario(gamma_l=0.0, in_training=["airplane"], **irrelevant) == scenario(gamma_l=0.0)


def test_training_data_without_anomalies_need_gamma_l_0() -> None:
    with pytest.raises(
        DeepSADError, match=r"the training data have no anomaly class.*use scenario.gamma_l=0"
    ) as caught:
        scenario(gamma_l=0.1, in_training=["airplane"], anomaly_class="cat", k_l=3)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "wish", [{"normal_class": "cat"}, {"normal_class": [0, "cat"]}, {"anomaly_class": "cat"}, {"anomaly_class": [1, 3]}]
)
def test_a_class_that_the_training_data_lack_is_refused_by_name(wish: dict[str, Any]) -> None:
    with pytest.raises(DeepSADError) as caught:
        scenario(gamma_l=0.1, in_training=["airplane", "automobile", "bird"], **wish)
    (problem,) = caught.value.problems
    told = "3 ('cat')" if "3" in str(wish) else "'cat'"
    assert f"is {told}, but the training data have no row of it" in problem
    assert "airplane, automobile, bird" in problem


def test_a_table_has_two_classes() -> None:
    labels = np.array([0] * 90 + [1] * 20)
    wish = resolve_scenario(
        normal_class="normal",
        anomaly_class="anomaly",
        gamma_l=0.1,
        gamma_p=0.05,
        k_l=1,
        gamma_n=0.0,
        seed=0,
        classes=["normal", "anomaly"],
    )
    drawn = draw_training_set(labels, wish)
    assert wish.known_classes == (1,)
    # T = 90 / (.9 * .95) = 105.26
    assert (drawn.counts.labeled_anomalies, drawn.counts.pollution, drawn.counts.unlabeled) == (10, 4, 94)


def test_labeled_normals_are_a_share_of_all_rows() -> None:
    drawn = draw(gamma_n=0.25)
    assert len(labeled_normals(drawn)) == 15
    assert (LABELS[list(labeled_normals(drawn))] == 0).all()


@pytest.mark.parametrize("key", ["gamma_l", "gamma_p", "gamma_n"])
@pytest.mark.parametrize("value", [-0.01, 1.0, 5.0, float("nan"), float("inf")])
def test_a_ratio_outside_0_and_1_is_refused(key: str, value: float) -> None:
    (problem,) = problems_of(**{key: value})
    assert f"scenario.{key} is {value}" in problem
    assert "[0, 1)" in problem


@quick
@given(l=st.integers(1, 999))
def test_labeling_everything_is_refused(l: int) -> None:  # noqa: E741
    (problem,) = problems_of(gamma_l=l / 1000, gamma_n=(1000 - l) / 1000)
    assert "scenario.gamma_l + scenario.gamma_n is 1" in problem
    assert "less than 1" in problem


def test_a_known_class_that_is_normal_is_refused() -> None:
    (problem,) = problems_of(normal_class=["bird", 0], anomaly_class=2, gamma_l=0.1)
    assert "scenario.anomaly_class names 'bird'" in problem
    assert "choose another" in problem


@pytest.mark.parametrize("key", ["normal_class", "anomaly_class"])
def test_an_unknown_class_is_reported_with_its_key(key: str) -> None:
    (problem,) = problems_of(gamma_l=0.1, **{key: "plane"})
    assert problem.startswith(f"scenario.{key}")
    assert "'plane'" in problem
    assert "0 airplane, 1 automobile" in problem


def test_too_many_known_classes_are_refused() -> None:
    (problem,) = problems_of(k_l=5, gamma_l=0.1)
    assert "scenario.k_l is 5" in problem
    assert "4 anomaly classes" in problem


def test_a_negative_number_of_known_classes_is_refused() -> None:
    (problem,) = problems_of(k_l=-1, gamma_l=0.1)
    assert "scenario.k_l is -1" in problem
    assert ">= 0" in problem


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_an_invalid_seed_is_refused(seed: int) -> None:
    (problem,) = problems_of(seed=seed)
    assert f"seed is {seed};" in problem
    assert "[0, 2^32)" in problem


def test_an_empty_list_of_normal_classes_is_refused() -> None:
    (problem,) = problems_of(normal_class=[])
    assert "scenario.normal_class" in problem
    assert "at least one" in problem


def test_naming_every_class_normal_is_refused() -> None:
    (problem,) = problems_of(normal_class=[0, 1, 2, 3, 4])
    assert "scenario.normal_class names every class" in problem
    assert "leave at least one" in problem


def test_more_labeled_anomalies_than_there_are_is_refused() -> None:
    (problem,) = problems_of(gamma_l=0.6)
    assert "scenario.gamma_l=0.6 asks for 90" in problem
    assert "automobile" in problem
    assert "hold 60" in problem
    assert problem.endswith("lower it or raise scenario.k_l")


def test_more_known_classes_are_no_way_out_where_there_is_no_other() -> None:
    (problem,) = problems_of(normal_class=[0, 1, 2, 3], anomaly_class=4, gamma_l=0.9)
    assert problem.endswith("lower it")


def test_pollution_leaves_fewer_anomalies_to_label() -> None:
    wish = {"anomaly_class": None, "k_l": 4, "gamma_l": 0.5}
    assert draw(**wish).counts.labeled_anomalies == 60
    (problem,) = problems_of(**wish, gamma_p=0.7)
    assert "gamma_l" in problem
    assert "apart from the pollution" in problem


def test_more_pollution_than_there_are_anomalies_is_refused() -> None:
    (problem,) = problems_of(gamma_p=0.9)
    assert "scenario.gamma_p=0.9 asks for 540" in problem
    assert "hold only 240" in problem
    assert "lower it" in problem


def test_a_normal_class_without_rows_is_refused() -> None:
    (problem,) = problems_of(labels=np.array([1, 1, 2, 3]))
    assert "no row of the normal class airplane" in problem


def test_wrong_values_are_reported_all_at_once() -> None:
    problems = problems_of(normal_class="plane", anomaly_class="car", gamma_l=2.0, gamma_p=-1.0, k_l=-3, seed=-1)
    keys = ("gamma_l", "gamma_p", "seed", "normal_class", "k_l")
    assert all(any(key in problem for problem in problems) for key in keys)
    assert len(problems) == len(keys)


def test_all_shortages_of_rows_are_reported_at_once() -> None:
    problems = problems_of(gamma_l=0.2, gamma_p=0.9)
    assert ["gamma_p" in problems[0], "gamma_l" in problems[1], len(problems)] == [True, True, 2]


def test_an_error_of_several_problems_lists_them() -> None:
    with pytest.raises(DeepSADError) as caught:
        draw(gamma_l=2.0, seed=-1)
    assert str(caught.value).splitlines() == ["2 problems:", *(f"  - {p}" for p in caught.value.problems)]
