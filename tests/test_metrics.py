"""AUROC and average precision against scikit-learn, where squashing or binning would show."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from deepsad_pl.metrics import detection_metrics

samples = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.booleans()), min_size=2, max_size=40)


@settings(deadline=None, max_examples=60)
@given(samples.filter(lambda s: len({y for _, y in s}) == 2))
def test_agrees_with_scikit_learn(samples: list[tuple[float, bool]]) -> None:
    score, y = (np.array(column) for column in zip(*samples, strict=True))
    found = detection_metrics(torch.tensor(score, dtype=torch.float32), torch.tensor(y))
    assert found["auroc"] == pytest.approx(roc_auc_score(y, score), abs=1e-6)
    assert found["average_precision"] == pytest.approx(average_precision_score(y, score), abs=1e-6)


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
def test_one_class_alone_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="at least one normal and one anomalous"):
        detection_metrics(torch.rand(3), torch.full((3,), label))
