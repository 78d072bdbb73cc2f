"""AUROC on the labeled samples, as a scorer for hyper-parameter searches."""

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.validation import column_or_1d

from deepsad_pl.common.metrics import detection_metrics
from deepsad_pl.estimators.label_conventions import semi_labels_in


def labeled_auroc(estimator: Any, X: Any, y: Any, *, convention: str | None = None) -> float:  # noqa: N803
    """AUROC of known anomalies against known normal samples, in [0, 1]; unlabeled samples are ignored.

    Pass it to scikit-learn as ``scoring=``. For labels in PyOD's convention, pass
    ``functools.partial(labeled_auroc, convention="pyod")``.

    Args:
        estimator: a fitted estimator with ``score_samples``, such as a pipeline that ends in one of
            the package's estimators.
        X: see the estimator.
        y: +1 known normal, -1 known anomaly, 0 unlabeled, shape (n,).
        convention: see :func:`~deepsad_pl.estimators.label_conventions.semi_labels_in`.

    Returns:
        The AUROC; NaN, with an ``UndefinedMetricWarning``, if y lacks known anomalies or known normal samples.

    Raises:
        ValueError: if y has other labels.
    """
    # A fold may lack known anomalies, so 0 and 1 without -1 are not refused here.
    semi_y = semi_labels_in(column_or_1d(y), convention or "signs")
    known = semi_y != 0
    if not {-1, 1} <= {*semi_y.tolist()}:
        told = (
            f"of {len(semi_y)} samples {int((semi_y == -1).sum())} are known anomalies (-1) and "
            f"{int((semi_y == 1).sum())} known to be normal (+1), but AUROC needs both; use fewer folds, "
            "StratifiedKFold, or convention='pyod' for labels 0 and 1"
        )
        warnings.warn(told, UndefinedMetricWarning, stacklevel=2)
        return float("nan")
    score = -np.asarray(estimator.score_samples(X))
    return float(detection_metrics(score[known], (semi_y[known] == -1).astype(np.int64))["auroc"])
