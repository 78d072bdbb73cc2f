"""A custom metric for ``metrics.<name>``: precision at n."""

from typing import Any

import numpy as np
import numpy.typing as npt


def precision_at_n(y: npt.NDArray[np.int64], score: npt.NDArray[np.float64], n: int | None = None) -> Any:
    """The share of anomalies among the n samples with the highest scores; in a tie the first ones count.

    Args:
        y: ground truth, shape (samples,): 0 normal, 1 anomaly.
        score: shape (samples,): higher is more anomalous.
        n: at least 1; None: the number of anomalies, which gives the R-precision.
    """
    highest = np.argsort(-score, kind="stable")[: n or y.sum()]
    return y[highest].mean()
