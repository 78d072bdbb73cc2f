"""The input and the output of every shallow method: :class:`Task` and :class:`Fitted`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.shallow.models import Model


@dataclass(frozen=True)
class Task:
    """The data and resources of a fit: training set, seed, threads and, for the paper's selection, the test set.

    Attributes:
        x: training rows, float32, shape (n, D).
        semi_y: their semi-labels: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        x_test: test rows, float32, shape (t, D), only with ``selection="test_subset"``; otherwise None.
        y_test: their ground truth: 0 normal, 1 anomaly, shape (t,); or None.
        seed: seed of every random draw.
        threads: number of solvers that may run in parallel.
        grid_dir: folder for the solutions of a grid, so that a killed run can resume; None: store none.
        advance: called with the finished share of the work, in [0, 1].
        holdout_folds: largest number of folds with ``selection="holdout"``, which is then a cross-validation over the
            labeled anomalies (see :func:`~deepsad_pl.shallow.selection.anomaly_folds`); None: it is a single split.
    """

    x: npt.NDArray[np.float32]
    semi_y: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32] | None
    y_test: npt.NDArray[np.int64] | None
    seed: int
    threads: int = 1
    grid_dir: Path | None = None
    advance: Callable[[float], None] = lambda share: None
    holdout_folds: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A fitted detector and its hyper-parameters.

    Attributes:
        model: the detector, which scores new rows.
        selection: the hyper-parameters and how they were selected, as values for JSON; goes into the run's record.
    """

    model: Model
    selection: dict[str, Any]
