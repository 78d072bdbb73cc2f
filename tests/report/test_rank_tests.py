"""Ranks, Friedman, Nemenyi and bootstrap: the example of Demsar (JMLR 7, 2006), SciPy and scikit-posthocs."""

import math

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scikit_posthocs._plotting import _find_maximal_cliques
from scipy.stats import PermutationMethod, friedmanchisquare, rankdata, wilcoxon

from deepsad_pl.report.pairs import compare_pairs
from deepsad_pl.report.rank_tests import (
    bootstrap_intervals,
    cliques,
    critical_difference,
    friedman_test,
    nemenyi_p,
    rank_scores,
)
from deepsad_pl.report.significance import holm

# Table 6: AUC of four variants of C4.5. On voting the paper ranks C4.5+cf before C4.5+m+cf, which it prints alike.
METHODS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
TABLE_6 = {
    "adult (sample)": ([0.763, 0.768, 0.771, 0.798], [4, 3, 2, 1]),
    "breast cancer": ([0.599, 0.591, 0.590, 0.569], [1, 2, 3, 4]),
    "breast cancer wisconsin": ([0.954, 0.971, 0.968, 0.967], [4, 1, 2, 3]),
    "cmc": ([0.628, 0.661, 0.654, 0.657], [4, 1, 3, 2]),
    "ionosphere": ([0.882, 0.888, 0.886, 0.898], [4, 2, 3, 1]),
    "iris": ([0.936, 0.931, 0.916, 0.931], [1, 2.5, 4, 2.5]),
    "liver disorders": ([0.661, 0.668, 0.609, 0.685], [3, 2, 4, 1]),
    "lung cancer": ([0.583, 0.583, 0.563, 0.625], [2.5, 2.5, 4, 1]),
    "lymphography": ([0.775, 0.838, 0.866, 0.875], [4, 3, 2, 1]),
    "mushroom": ([1.000, 1.000, 1.000, 1.000], [2.5, 2.5, 2.5, 2.5]),
    "primary tumor": ([0.940, 0.962, 0.965, 0.962], [4, 2.5, 1, 2.5]),
    "rheum": ([0.619, 0.666, 0.614, 0.669], [3, 2, 4, 1]),
    "voting": ([0.972, 0.981, 0.9751, 0.975], [4, 1, 2, 3]),
    "wine": ([0.957, 0.978, 0.946, 0.970], [3, 1, 4, 2]),
}
SCORES = pd.DataFrame([scores for scores, _ in TABLE_6.values()], index=list(TABLE_6), columns=METHODS)
RANKS = pd.DataFrame([ranks for _, ranks in TABLE_6.values()], index=list(TABLE_6), columns=METHODS)

# Scores on a coarse grid have ties.
tables = arrays(
    np.float64, st.tuples(st.integers(2, 9), st.integers(3, 7)), elements=st.integers(0, 8).map(lambda i: i / 8)
).map(lambda values: pd.DataFrame(values, columns=list("abcdefg"[: values.shape[1]])))


def test_ranks_of_demsars_table_6() -> None:
    pd.testing.assert_frame_equal(rank_scores(SCORES), RANKS, check_dtype=False)
    assert rank_scores(SCORES).mean().tolist() == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)


def test_demsars_friedman_statistic_is_ours_without_the_correction_for_ties() -> None:
    n, k = RANKS.shape
    chi2 = 12 * n / (k * (k + 1)) * ((RANKS.mean() ** 2).sum() - k * (k + 1) ** 2 / 4)
    assert chi2 == pytest.approx(9.28, abs=5e-3)
    assert (n - 1) * chi2 / (n * (k - 1) - chi2) == pytest.approx(3.69, abs=5e-3)
    ties = sum(count**3 - count for row in RANKS.to_numpy() for count in np.unique(row, return_counts=True)[1])
    found = friedman_test(RANKS)
    assert found is not None and found.rejects
    assert found.chi2 == pytest.approx(chi2 / (1 - ties / (n * (k**3 - k))))
    assert found.f == pytest.approx((n - 1) * found.chi2 / (n * (k - 1) - found.chi2))


def test_demsars_critical_differences() -> None:
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=5e-3)


@pytest.mark.parametrize(
    ("methods", "q"),
    # Table 5 (a), at the level of 5 %.
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_values_of_demsars_table_5(methods: int, q: float) -> None:
    assert critical_difference(methods, 1) / math.sqrt(methods * (methods + 1) / 6) == pytest.approx(q, abs=1.5e-3)


def test_demsars_groups() -> None:
    # At 5 % nothing differs; at 10 % C4.5 is worse than C4.5+m and C4.5+m+cf (Figure 1 a).
    assert cliques(RANKS.mean(), critical_difference(4, 14)) == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]]
    assert cliques(RANKS.mean(), critical_difference(4, 14, alpha=0.1)) == [
        ["C4.5+m+cf", "C4.5+m", "C4.5+cf"],
        ["C4.5+cf", "C4.5"],
    ]


@given(tables)
@settings(max_examples=50, deadline=None)
def test_ranks_are_scipys_and_each_row_sums_to_k_k_plus_1_half(scores: pd.DataFrame) -> None:
    ranks, k = rank_scores(scores), len(scores.columns)
    np.testing.assert_array_equal(ranks.to_numpy(), rankdata(-scores.to_numpy(), axis=1))
    assert (ranks.sum(axis=1) == k * (k + 1) / 2).all()


@given(tables, st.sampled_from([lambda x: x**3, np.exp, lambda x: 5 * x - 2]))
@settings(max_examples=50, deadline=None)
def test_ranks_do_not_change_under_increasing_transformations(scores: pd.DataFrame, increasing: object) -> None:
    assert callable(increasing)
    pd.testing.assert_frame_equal(rank_scores(increasing(scores)), rank_scores(scores))


def test_rounding_errors_break_no_ties() -> None:
    assert rank_scores(pd.DataFrame({"a": [0.1 + 0.2], "b": [0.3], "c": [0.2]})).to_numpy().tolist() == [[1.5, 1.5, 3]]


@given(tables)
@settings(max_examples=50, deadline=None)
def test_friedman_is_scipys(scores: pd.DataFrame) -> None:
    found = friedman_test(rank_scores(scores))
    assert found is not None
    if (scores.nunique(axis=1) == 1).all():
        assert (found.chi2, found.p, found.p_f, found.rejects) == (0, 1, 1, False)
        return
    scipys = friedmanchisquare(*scores.to_numpy().T)
    assert found.chi2 == pytest.approx(scipys.statistic, abs=1e-9)
    assert found.p == pytest.approx(scipys.pvalue, abs=1e-9)
    assert 0 <= found.p_f <= 1


def test_friedman_needs_three_methods_and_two_data_sets() -> None:
    assert friedman_test(RANKS[METHODS[:2]]) is None
    assert friedman_test(RANKS.head(1)) is None
    agreed = friedman_test(pd.DataFrame([[1, 2, 3]] * 4, dtype=float))
    assert agreed is not None and agreed.f == math.inf and agreed.p_f == 0


@given(tables)
@settings(max_examples=30, deadline=None)
def test_nemenyi_and_groups_agree_with_scikit_posthocs(scores: pd.DataFrame) -> None:
    ranks = rank_scores(scores)
    difference = critical_difference(len(ranks.columns), len(ranks))
    p = nemenyi_p(ranks)
    np.testing.assert_allclose(p, scikit_posthocs.posthoc_nemenyi_friedman(scores.to_numpy()))
    mean = ranks.mean()
    apart = pd.DataFrame({a: {b: abs(mean[a] - mean[b]) >= difference for b in mean.index} for a in mean.index})
    np.testing.assert_array_equal(apart, p <= 0.05)
    expected = [sorted(group) for group in _find_maximal_cliques((~apart).astype(int)) if len(group) > 1]
    assert sorted(sorted(group) for group in cliques(mean, difference)) == sorted(expected)


def test_bootstrap_intervals_are_those_of_drawn_rows() -> None:
    values = np.random.default_rng(3).normal(size=(25, 3))
    low, high = bootstrap_intervals(values)
    means = values[np.random.default_rng(5).integers(25, size=(20_000, 25))].mean(axis=1)
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975], axis=0), atol=0.02)
    again = bootstrap_intervals(values)
    np.testing.assert_array_equal([low, high], again)
    assert (bootstrap_intervals(values, seed=1)[0] != low).any()


def test_bootstrap_draws_rows_of_two_values_as_by_hand() -> None:
    # Of two rows drawn from 0 and 1, both are 0 or both are 1 in a quarter of the draws each.
    low, high = bootstrap_intervals(np.array([[0.0], [1.0]]), level=0.4)
    assert (low[0], high[0]) == (0.5, 0.5)
    low, high = bootstrap_intervals(np.array([[0.0], [1.0]]), level=0.9)
    assert (low[0], high[0]) == (0.0, 1.0)
    assert np.isnan(bootstrap_intervals(np.array([[0.3]]))).all()


def test_pairs_are_scipys_wilcoxon_with_holms_correction() -> None:
    scores = SCORES.head(10)
    found = compare_pairs(scores)
    assert len(found) == 6
    for row in found.to_dict("records"):
        differences = (scores[row["better"]] - scores[row["other"]]).round(12)
        signs = [int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum())]
        assert [row["wins"], row["ties"], row["losses"]] == signs and sum(signs) == row["n"] == 10
        assert row["median_difference"] == pytest.approx(differences.median())
        # All patterns of signs, since SciPy's exact distribution knows no ties.
        every = PermutationMethod(n_resamples=2**10)
        assert row["p"] == pytest.approx(wilcoxon(differences[differences != 0], method=every).pvalue)
        positive = rankdata(differences.abs()[differences != 0])[differences[differences != 0] > 0].sum()
        assert positive >= rankdata(differences.abs()[differences != 0]).sum() / 2
    assert found["p_holm"].tolist() == holm(found["p"].tolist())
    best = found[(found["better"] == "C4.5+m+cf") & (found["other"] == "C4.5")]
    assert best["p_nemenyi"].item() == pytest.approx(nemenyi_p(RANKS.head(10)).loc["C4.5", "C4.5+m+cf"])


def test_pairs_need_two_methods_and_two_data_sets() -> None:
    assert compare_pairs(SCORES.head(1)).empty and compare_pairs(SCORES[["C4.5"]]).empty
    assert list(compare_pairs(SCORES.head(0)).columns) == list(compare_pairs(SCORES).columns)
