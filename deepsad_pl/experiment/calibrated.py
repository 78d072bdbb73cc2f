"""Compute the threshold in a run's record. Does not import torch, so that a repeated run with another alpha is fast."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.calibration_scores import read_calibration
from deepsad_pl.common.records import read_scores
from deepsad_pl.common.thresholds import Threshold, rates


def threshold_entry(
    threshold: Threshold,
    score: npt.NDArray[Any],
    semi_y: npt.NDArray[np.int64],
    test_score: npt.ArrayLike,
    test_y: npt.ArrayLike,
) -> dict[str, Any]:
    """The threshold as an entry of the record: its settings, value and number of calibration samples.

    The entry has ``test`` if the truth of a test sample is known.

    Args:
        threshold: how it is set.
        score: scores of the calibration samples, shape (n,).
        semi_y: their semi-labels, shape (n,).
        test_score: scores of the test samples, shape (m,), in the precision of ``score``.
        test_y: their ground truth: 0 normal, 1 anomaly, -1 not known, shape (m,).

    Raises:
        DeepSADError: if there are too few calibration samples.
        ValueError: if a score is not finite.
    """
    value = threshold.value(score, semi_y)
    found = {**threshold.described, "value": value, "rows": len(score)}
    return found | ({"test": rates(value, test_score, test_y)} if (np.asarray(test_y) >= 0).any() else {})


def threshold_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers about a record's threshold for loggers; its kind and level are in the configuration that they get.

    Returns:
        ``threshold``, and ``threshold_false_alarm_rate`` and ``threshold_recall`` on the test set where they are known;
        nothing without a threshold.
    """
    if "threshold" not in record:
        return {}
    test = record["threshold"].get("test", {})
    known = {f"threshold_{name}": value for name, value in test.items() if value is not None}
    return {"threshold": record["threshold"]["value"], **known}


def has_threshold(record: Mapping[str, Any], threshold: Threshold) -> bool:
    """Whether a record has the threshold of these settings, or the settings ask for none."""
    known = record.get("threshold", {})
    return not threshold or all(known.get(key) == value for key, value in threshold.described.items())


def with_threshold(run_dir: Path, record: Mapping[str, Any], threshold: Threshold) -> dict[str, Any]:
    """The record with the threshold of these settings, computed from the run's stored scores.

    Args:
        run_dir: the run folder.
        record: record of the run.
        threshold: how the threshold is set.

    Raises:
        DeepSADError: if there are too few calibration samples for another alpha.
    """
    if has_threshold(record, threshold):
        return dict(record)
    score, semi_y = read_calibration(run_dir)
    y, test_score = read_scores(run_dir)
    # A score read from its decimal digits is exact only in the precision in which it was written.
    entry = threshold_entry(threshold, score, semi_y, test_score.astype(score.dtype), y)
    return {**record, "threshold": entry}
