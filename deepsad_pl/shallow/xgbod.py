r"""XGBOD: boosted trees on the columns of a row and on the scores of unsupervised detectors.

Objective. Let z(x) be the row x followed by its scores of 26 detectors that were fitted without labels
(:mod:`~deepsad_pl.shallow.detector_scores`). The label y is 1 for known anomalies and 0 for all other rows, also for
unlabeled ones. A sum of trees f minimizes the logistic loss

.. math::

    \sum_{i=1}^n \log\left(1 + e^{f(z(x_i))}\right) - y_i f(z(x_i)) + \frac{\lambda}{2} \sum_{\text{leaves}} v^2,

one tree after the other, and the score is f(z(x)), the log odds of an anomaly.

Source: Y. Zhao, M. K. Hryniewicki: XGBOD: Improving supervised outlier detection with unsupervised representation
learning, IJCNN 2018; and its implementation in PyOD.

Knobs:
    ``rounds``: number of trees, 100.
    ``depth``: depth of each tree, 3.
    ``learning_rate``: factor of each tree's values, .1.
    These and lambda = 1 are PyOD's defaults.

What differs from common practice, and why:
    scikit-learn's histogram-based boosting takes the place of XGBoost, so there is no further dependency; it starts
    from the log odds of the labels. A leaf may have a single row.
    PyOD also has local outlier factors and histograms among the detectors, and the paper others. Ours are those that
    the package has. PyOD standardizes the rows for some detectors; here all get the rows as the data set scales them.
    As in PyOD, a training row is not its own neighbor in training. Scored later as a new row, it is.
    Boosting runs on one thread, so that scores do not depend on the number of threads.

The method needs labeled anomalies. Labeled normal rows are treated like unlabeled ones. There are no hyper-parameters
to select.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.ranges import Depth, Positive, Trees
from deepsad_pl.shallow.boosting import BoostedTrees, fit_boosting
from deepsad_pl.shallow.detector_scores import DetectorScores, fit_detectors
from deepsad_pl.shallow.kernels import FloatArray, Rows
from deepsad_pl.shallow.models import Arrays, ForestModel, Model
from deepsad_pl.shallow.selection import XGBOD_STREAM, generator
from deepsad_pl.shallow.task import Fitted, Task
from deepsad_pl.shallow.trees import is_known

# What is finished when the detectors are fitted.
_DETECTORS = 0.8


def fit_xgbod(task: Task, *, rounds: Trees, depth: Depth, learning_rate: Positive) -> Fitted:
    """Fit the detectors and boost trees on their scores; see the module docstring.

    Args:
        task: training data and resources, with at least one known anomaly and one other row.
        rounds: number of trees, >= 1.
        depth: of each tree, >= 1.
        learning_rate: factor of each tree's values, > 0.

    Returns:
        An :class:`XGBODModel`, the same for any number of threads.

    Raises:
        DeepSADError: if no row is a known anomaly, or all are.
    """
    known = is_known(task.semi_y)
    detectors = fit_detectors(task, XGBOD_STREAM, share=_DETECTORS)
    boosted = fit_boosting(
        np.hstack([task.x, detectors.of_training_rows()]),
        known,
        seed=int(generator(task.seed, XGBOD_STREAM).integers(2**32)),
        rounds=rounds,
        depth=depth,
        learning_rate=learning_rate,
    )
    task.advance(1.0)
    settings = {"rounds": rounds, "depth": depth, "learning_rate": learning_rate}
    return Fitted(XGBODModel.of(detectors, boosted), {"protocol": "none", **settings, "detectors": len(detectors)})


class XGBODModel(Model):
    """Boosted trees on the columns of a row and on its scores of unsupervised detectors.

    Args:
        arrays: those of :meth:`~deepsad_pl.shallow.detector_scores.DetectorScores.arrays`, and the arguments of
            :class:`~deepsad_pl.shallow.boosting.BoostedTrees` with the prefix ``boosted_``.

    Attributes:
        detectors: the unsupervised detectors.
        boosted: the trees.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
        TypeError: if an array is missing.
    """

    def __init__(self, **arrays: npt.NDArray[Any]) -> None:
        forest, boosted = (_with_prefix(arrays, prefix) for prefix in ("forest_", "boosted_"))
        own = {name: array for name, array in arrays.items() if not name.startswith(("forest_", "boosted_"))}
        self.detectors = DetectorScores(**own, forest=ForestModel(**forest))
        self.boosted = BoostedTrees(**boosted)
        self.width = self.detectors.rows.shape[1]
        if self.boosted.width != self.width + len(self.detectors):
            raise ValueError(f"its trees take {self.boosted.width} columns, not {self.width} + {len(self.detectors)}")

    @classmethod
    def of(cls, detectors: DetectorScores, boosted: BoostedTrees) -> "XGBODModel":
        """The model of fitted detectors and trees."""
        return cls(**detectors.arrays(), **{f"boosted_{name}": array for name, array in boosted.arrays().items()})

    def arrays(self) -> Arrays:
        """The arrays of the detectors and of the trees."""
        boosted = {f"boosted_{name}": array for name, array in self.boosted.arrays().items()}
        return {**self.detectors.arrays(), **boosted}

    def _score(self, x: Rows) -> FloatArray:
        return self.boosted.score(np.hstack([x, self.detectors.of(x)]))


def _with_prefix(arrays: Arrays, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
