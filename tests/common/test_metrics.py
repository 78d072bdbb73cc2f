"""All metrics against scikit-learn and plain loops over all pairs and thresholds."""

import subprocess
import sys
from fractions import Fraction
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from deepsad_pl.common.metrics import (
    auroc,
    auroc_by_class,
    auroc_of_union,
    detection_metrics,
    partial_auroc,
    ranking_metrics,
    recall_at,
)

# Few values, so that there are ties, or any value at all.
scores = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e300, 1e300))
samples = st.lists(st.tuples(scores, st.booleans()), min_size=2, max_size=40).filter(
    lambda s: len({y for _, y in s}) == 2
)


def pairs_in_order(score: np.ndarray, y: np.ndarray) -> Fraction:
    """AUROC by a loop over all pairs of a normal sample and an anomaly."""
    right = Fraction(0)
    for normal in score[~y]:
        for anomalous in score[y]:
            right += Fraction(int(normal < anomalous)) + Fraction(int(normal == anomalous), 2)
    return right / (int((~y).sum()) * int(y.sum()))


def mean_precision(score: np.ndarray, y: np.ndarray) -> Fraction:
    """The mean, over anomalies, of the share of anomalies among all samples that score as high or higher."""
    precisions = [Fraction(int(y[score >= s].sum()), int((score >= s).sum())) for s in score[y]]
    return sum(precisions, Fraction(0)) / len(precisions)


@settings(deadline=None, max_examples=60)
@given(samples)
def test_agrees_with_scikit_learn(samples: list[tuple[float, bool]]) -> None:
    score, y = (np.array(column) for column in zip(*samples, strict=True))
    found = detection_metrics(torch.tensor(score, dtype=torch.float64), torch.tensor(y))
    assert found["auroc"] == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert found["average_precision"] == pytest.approx(average_precision_score(y, score), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(samples)
def test_agrees_with_plain_loops_to_the_last_bit(samples: list[tuple[float, bool]]) -> None:
    score, y = (np.array(column) for column in zip(*samples, strict=True))
    found = detection_metrics(score, y)
    assert found["auroc"] == auroc(score, y.astype(int)) == float(pairs_in_order(score, y))
    assert found["average_precision"] == pytest.approx(float(mean_precision(score, y)), rel=1e-15, abs=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.randoms(use_true_random=False))
def test_a_perfect_ranking_is_exactly_one(normal: int, anomalous: int, random: Random) -> None:
    """In single precision it was 1.0, .99999994 or .99999988, by the number of samples."""
    y = [0] * normal + [1] * anomalous
    random.shuffle(y)
    score = np.array(y) + np.array([random.random() / 2 for _ in y])
    assert detection_metrics(torch.tensor(score, dtype=torch.float32), torch.tensor(y)) == {
        "auroc": 1.0,
        "average_precision": 1.0,
    }
    assert auroc(-score, y) == 0.0
    assert auroc(np.ones(len(y)), y) == 0.5


def test_one_wrong_pair_among_nine_million_changes_auroc() -> None:
    """As many pairs as MNIST has: in single precision this equals a perfect ranking."""
    y = np.repeat([0, 1], [1000, 9000])
    score = np.arange(10_000.0)
    score[[999, 1000]] = score[[1000, 999]]
    assert auroc(score, y) == 1 - 1 / 9_000_000


def test_large_distances_are_not_tied_by_a_sigmoid() -> None:
    score = torch.tensor([1000.0, 1001.0, 1002.0, 1003.0])
    assert detection_metrics(score, torch.tensor([0, 0, 1, 1]))["auroc"] == 1.0


def test_close_scores_are_not_binned() -> None:
    score = torch.full((1000,), 1.0, dtype=torch.float64) + torch.arange(1000) * 1e-12
    assert detection_metrics(score, (torch.arange(1000) >= 500).long())["auroc"] == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        detection_metrics(torch.tensor([0.0, bad]), torch.tensor([0, 1]))


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_class_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="at least one normal and one anomalous"):
        detection_metrics(torch.rand(3), torch.full((3,), label))


def test_no_torch_and_no_scipy_are_imported() -> None:
    code = "import sys, deepsad_pl.common.metrics; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@settings(deadline=None, max_examples=100)
@given(samples)
def test_partial_auroc_agrees_with_scikit_learn(samples: list[tuple[float, bool]]) -> None:
    score, y = (np.array(column) for column in zip(*samples, strict=True))
    assert ranking_metrics(score, y)["auroc_fpr_10"] == pytest.approx(roc_auc_score(y, score, max_fpr=0.1), abs=1e-12)
    for max_fpr in (0.01, 0.25, 0.5):
        expected = roc_auc_score(y, score, max_fpr=max_fpr)
        assert partial_auroc(score, y, max_fpr) == pytest.approx(expected, abs=1e-12)
    assert partial_auroc(score, y, 1.0) == pytest.approx(auroc(score, y), abs=1e-15)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 250), st.integers(1, 60), st.integers(1, 30), st.integers(0, 99))
def test_low_rates_agree_with_scikit_learn_on_larger_sets_with_ties(n0: int, n1: int, values: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    y, score = np.repeat([0, 1], [n0, n1]), draw.integers(0, values, n0 + n1).astype(float)
    found = ranking_metrics(score, y)
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    assert found["recall_fpr_1"] == max(tpr[fpr <= 0.01])
    assert found["recall_fpr_5"] == max(tpr[fpr <= 0.05])
    assert found["auroc_fpr_10"] == pytest.approx(roc_auc_score(y, score, max_fpr=0.1), abs=1e-12)
    assert found["average_precision"] == pytest.approx(average_precision_score(y, score), abs=1e-12)


def best_recall(score: np.ndarray, y: np.ndarray, percent: int) -> Fraction:
    """A plain loop over all thresholds, in fractions."""
    best = Fraction(0)
    for threshold in score:
        flagged = score >= threshold
        if 100 * int(flagged[~y].sum()) <= percent * int((~y).sum()):
            best = max(best, Fraction(int(flagged[y].sum()), int(y.sum())))
    return best


@settings(deadline=None, max_examples=60)
@given(samples, st.sampled_from([1, 5, 20, 50, 100]))
def test_recall_agrees_with_a_plain_loop(samples: list[tuple[float, bool]], percent: int) -> None:
    score, y = (np.array(column) for column in zip(*samples, strict=True))
    assert recall_at(score, y, percent / 100) == float(best_recall(score, y, percent))


def test_one_false_positive_in_a_hundred_is_within_one_percent() -> None:
    """100 x .01 is 1 in fractions, whatever it is in floating point."""
    for normals in (100, 300, 700, 2900):
        y = np.repeat([0, 1], [normals, 2])
        score = np.concatenate([np.arange(normals), [normals - normals // 100 - 0.5, normals]])
        assert recall_at(score, y, 0.01) == 1.0
        assert recall_at(score, y, 0.0099) == 0.5


def test_a_perfect_ranking_has_every_metric_exactly_one() -> None:
    for normal, anomalous in ((1, 1), (7, 300), (333, 3)):
        y = np.repeat([0, 1], [normal, anomalous])
        assert set(ranking_metrics(y.astype(float), y).values()) == {1.0}


def test_samples_without_truth_do_not_count() -> None:
    score, y = np.array([0.1, 5.0, 0.3, 0.2, 0.9]), np.array([0, -1, 0, 1, 1])
    assert ranking_metrics(score, y) == ranking_metrics(score[y >= 0], y[y >= 0])
    assert set(ranking_metrics(score[:3], y[:3]).values()) == {None}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(scores, st.integers(0, 4)), min_size=2, max_size=40), st.sets(st.integers(1, 4)))
def test_classes_apart_agree_with_the_auroc_of_their_samples(
    samples: list[tuple[float, int]], wanted: set[int]
) -> None:
    score, label = (np.array(column) for column in zip(*samples, strict=True))
    y = (label > 0).astype(int)
    if len(set(y.tolist())) < 2:
        return
    parts = auroc_by_class(score, y, label)
    assert sorted(parts) == sorted({*label.tolist()} - {0})
    for one, (size, value) in parts.items():
        kept = (label == 0) | (label == one)
        assert (size, value) == ((label == one).sum(), auroc(score[kept], y[kept]))
    kept = (label == 0) | np.isin(label, list(wanted))
    found = auroc_of_union([parts[one] for one in wanted if one in parts], int((label == 0).sum()))
    assert found == (auroc(score[kept], y[kept]) if y[kept].any() else None)
