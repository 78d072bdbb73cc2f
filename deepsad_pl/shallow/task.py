"""What a shallow detector gets and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.shallow.models import Model


@dataclass(frozen=True)
class Task:
    """A training set, for the paper's protocol of selection the test set too, and where to work.

    Attributes:
        x: training rows, float32, shape (n, D).
        semi_y: their semi-labels: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        x_test: test rows, float32, shape (t, D), for ``selection="test_subset"`` alone; else None.
        y_test: their ground truth: 0 normal, 1 anomaly, shape (t,); or None.
        seed: of every draw.
        threads: how many solvers may work side by side.
        grid_dir: where the solutions of a grid are kept, so that a killed run goes on; None keeps none.
        advance: called with the share of the work that is done, in [0, 1].
    """

    x: npt.NDArray[np.float32]
    semi_y: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32] | None
    y_test: npt.NDArray[np.int64] | None
    seed: int
    threads: int = 1
    grid_dir: Path | None = None
    advance: Callable[[float], None] = lambda share: None


@dataclass(frozen=True)
class Fitted:
    """A fitted detector.

    Attributes:
        model: scores new rows.
        selection: how its hyper-parameters were found and which they are, for the record (JSON).
    """

    model: Model
    selection: dict[str, Any]
