"""AUROC and average precision against scikit-learn and plain loops over all pairs and thresholds."""

import subprocess
import sys
from fractions import Fraction
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from deepsad_pl.common.metrics import auroc, detection_metrics

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
