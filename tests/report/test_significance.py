"""Significance tests against enumeration, SciPy and small cases by hand; which results get a star or cannot get one."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, rankdata, wilcoxon

from deepsad_pl.report.cells import Cell, Ranking, make_cells
from deepsad_pl.report.notes import notes_of
from deepsad_pl.report.significance import compare, holm, lowest_p, signed_rank_p

few_values = st.lists(st.integers(-4, 4).map(lambda k: k / 100), min_size=1, max_size=10)


def by_enumeration(differences: list[float]) -> float:
    """The share of all sign patterns whose sum of positive ranks is at least as far from the middle."""
    found = [d for d in differences if d]
    if not found:
        return 1.0
    ranks = rankdata(np.abs(found))
    middle = ranks.sum() / 2
    seen = abs(sum(rank for rank, d in zip(ranks, found, strict=True) if d > 0) - middle)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(found))]
    return sum(abs(s - middle) >= seen for s in sums) / len(sums)


@settings(deadline=None, max_examples=40)
@given(few_values)
def test_p_agrees_with_enumeration_with_ties_and_zeros(differences: list[float]) -> None:
    assert signed_rank_p(differences) == pytest.approx(by_enumeration(differences), rel=1e-12)


@pytest.mark.parametrize("n", [3, 10, 25, 50, 100])
def test_without_ties_p_equals_scipys_exact_one(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1.0, n)
    assert signed_rank_p(differences) == pytest.approx(wilcoxon(differences, method="exact").pvalue)


def test_for_many_differences_p_equals_scipys_approximation() -> None:
    differences = np.random.default_rng(0).normal(0.1, 1.0, 400).round(1)
    found = differences[differences != 0]
    assert signed_rank_p(differences) == pytest.approx(wilcoxon(found).pvalue)


@given(few_values)
def test_p_depends_neither_on_sign_nor_on_scale(differences: list[float]) -> None:
    p = signed_rank_p(differences)
    assert 0 < p <= 1
    assert p == signed_rank_p([-d for d in differences]) == signed_rank_p([3 * d for d in differences])
    assert p >= lowest_p(len(differences))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 10])
def test_the_lowest_p_is_that_of_differences_of_one_sign(n: int) -> None:
    assert signed_rank_p(np.arange(1, n + 1)) == lowest_p(n) == 2 / 2**n


def test_differences_from_rounding_count_as_zero() -> None:
    assert signed_rank_p([1e-16, -1e-15, 0.1 + 0.2 - 0.3]) == 1.0


def test_holm_agrees_with_values_by_hand() -> None:
    # In order: 4 x .005 = .02; 3 x .01 = .03; 2 x .03 = .06; 1 x .04 is less than the previous value, so .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.6]) == [1.0, 1.0]


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_plain_p_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(one <= new <= min(1.0, len(p) * one) for one, new in zip(p, adjusted, strict=True))
    assert min(adjusted) == min(1.0, len(p) * min(p))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)
    # The false discovery rate is less strict than the family-wise error rate.
    assert all(q <= new + 1e-12 for q, new in zip(false_discovery_control(p), adjusted, strict=True))


def frame(
    column: str,
    auroc: Callable[[int, int, int], float],
    *,
    classes: int = 1,
    known: int = 0,
    seeds: int = 1,
    **more: Any,
) -> list[dict[str, Any]]:
    """Experiments of a column, by normal class, known class (0: the method does not depend on it) and seed."""
    return [
        {
            "dataset": "digits",
            "column": column,
            "variant": column,
            "normal_class": str(n),
            "anomaly_class": f"known {a}" if known else None,
            "seed": s,
            "experiment": f"{column} {n} {a} {s}",
            "auroc": auroc(n, a, s),
            "borrowed": None,
            "protocol": None,
            "paper_n": 0,
            "lr_from_test": False,
            **more,
        }
        for n in range(classes)
        for a in range(max(known, 1))
        for s in range(seeds)
    ]


def made(*rows: list[dict[str, Any]], axes: tuple[str, ...] = ()) -> tuple[list[Cell], list[Ranking]]:
    return make_cells(pd.DataFrame([row for part in rows for row in part]), axes, with_paper=False)


def starred(cells: list[Cell]) -> list[str]:
    return [cell.column for cell in cells if cell.significant]


def test_the_best_mean_with_fewer_wins_has_no_star() -> None:
    """Two large wins decide the mean, eighteen small losses the test."""
    best = frame("deep_sad", lambda n, a, s: 0.95 if s < 2 else 0.801, seeds=20)
    second = frame("ocsvm_raw", lambda n, a, s: 0.7 if s < 2 else 0.802 + s / 10_000, seeds=20)
    cells, (ranking,) = made(best, second)
    assert (ranking.best, ranking.second) == ("deep_sad", "ocsvm_raw")
    assert ranking.p_holm < 0.05
    assert ranking.comparison is not None
    assert ranking.comparison.median_difference < 0
    assert starred(cells) == []


def test_repeated_values_do_not_count_as_independent_pairs() -> None:
    """Three runs of an unsupervised method beside 27 of one that sees labels: three normal classes, not 27 pairs."""
    once = frame("ocsvm_raw", lambda n, a, s: 0.95 + n / 100, classes=3)
    often = frame("deep_sad", lambda n, a, s: 0.9 + n / 100 + a / 1000, classes=3, known=9)
    cells, (ranking,) = made(once, often)
    assert ranking.comparison is not None
    assert (ranking.comparison.unit, ranking.comparison.n, len(ranking.comparison.best)) == ("normal_class", 3, 27)
    assert ranking.comparison.p == 0.25
    assert ranking.comparison.p_paper < 6e-5
    assert ranking.comparison.median_difference == pytest.approx(0.95 - 0.904)
    assert starred(cells) == []


@pytest.mark.parametrize(
    ("shape", "unit", "n"),
    [
        ({"classes": 10, "known": 9}, "normal_class", 10),
        ({"classes": 10, "seeds": 10}, "normal_class", 10),
        ({"classes": 1, "seeds": 10, "known": 1}, "seed", 10),
        ({"classes": 1, "seeds": 4, "known": 3}, "seed", 4),
        ({"classes": 1, "known": 9}, "seed", 1),
    ],
)
def test_units_are_normal_classes_or_for_one_class_seeds(shape: dict[str, int], unit: str, n: int) -> None:
    one, other = (pd.DataFrame(frame(c, lambda n, a, s: (n + a + s) / 100, **shape)) for c in ("a", "b"))
    one["auroc"] += 0.01
    found = compare(one, other)
    assert found is not None
    assert (found.unit, found.n, found.p) == (unit, n, lowest_p(n))
    # The unit depends on the requested experiments, not on those that happen to be finished.
    one.loc[one["normal_class"] != "0", "auroc"] = math.nan
    again = compare(one, other)
    assert again is not None
    assert again.unit == unit


def test_stars_depend_on_all_comparisons_of_the_table() -> None:
    """Seven seeds of one sign give p = 2 / 2^7 = .0156: below .05 for one to three comparisons, but not for four."""
    rows = [
        frame(
            column, lambda n, a, s, up=up: 0.8 + up + s / 1000, seeds=7, gamma_l=value, experiment=f"{column} {value}"
        )
        for value in (0.0, 0.01, 0.05, 0.1)
        for column, up in (("deep_sad", 0.1), ("cae", 0.0))
    ]
    for part in rows:
        for row in part:
            row["experiment"] += f" {row['seed']}"
    for count, stars in ((1, 1), (3, 3), (4, 0)):
        cells, rankings = made(*rows[: 2 * count], axes=("gamma_l",))
        assert [ranking.p_holm for ranking in rankings] == pytest.approx([count * 2 / 2**7] * count)
        assert len(starred(cells)) == stars
        told = [note for note in notes_of(cells, rankings, ["gamma_l"]) if "Too few" in note]
        assert told == (
            [] if stars else ["Too few normal classes or seeds for any difference to reach p < .05: digits (7 seeds)."]
        )


def test_the_rows_that_cannot_have_a_star_are_named() -> None:
    many = [
        frame(c, lambda n, a, s, up=up: 0.8 + up + s / 1000, seeds=9) for c, up in (("cae", 0.0), ("deep_sad", 0.1))
    ]
    few = [frame(c, lambda n, a, s: 0.5, classes=2, known=9, dataset="mnist") for c in ("cae", "deep_sad")]
    cells, rankings = made(*many, *few)
    assert starred(cells) == ["deep_sad"]
    notes = notes_of(cells, rankings, [])
    assert "Too few normal classes or seeds for any difference to reach p < .05: mnist (2 classes)." in notes
    (star,) = [note for note in notes if note.startswith("*")]
    for part in ("normal classes, each with its mean", "over seeds where there is one normal class", "2 comparisons"):
        assert part in star
    assert any("not independent" in note for note in notes)


def test_differences_in_the_last_bit_count_as_ties() -> None:
    """A mean over nine equal values may differ from them in the last bit."""
    once = frame("ocsvm_raw", lambda n, a, s: 0.1 + n / 10, classes=8)
    often = frame("deep_sad", lambda n, a, s: 0.1 + n / 10, classes=8, known=9)
    _, (ranking,) = made(once, often)
    assert ranking.comparison is not None
    assert (ranking.comparison.p, ranking.comparison.median_difference) == (1.0, 0.0)
