"""Training sets drawn from five classes of 60 rows each, and their kinds of rows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.data.scenario import Scenario, TrainingSet, draw_training_set, resolve_scenario

NAMES = ("airplane", "automobile", "bird", "cat", "Ankle boot")
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 60))


def scenario(**chosen: Any) -> Scenario:
    default = {"normal_class": 0, "anomaly_class": 1, "gamma_l": 0.0, "gamma_p": 0.0, "k_l": 1, "gamma_n": 0.0}
    return resolve_scenario(**{**default, "seed": 0, "classes": NAMES, **chosen})


def draw(classes: npt.NDArray[np.int64] = LABELS, /, **chosen: Any) -> TrainingSet:
    return draw_training_set(classes, scenario(**chosen), NAMES)


def rows(drawn: TrainingSet, semi_y: int, y: int) -> set[int]:
    """The rows with this label (0 unlabeled, +1 normal, -1 anomaly) and this truth (0 normal, 1 anomaly)."""
    return set(drawn.index[(drawn.semi_y == semi_y) & (drawn.y == y)].tolist())
