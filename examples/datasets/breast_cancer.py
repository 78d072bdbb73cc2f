"""A data set of one's own: the Wisconsin breast cancer data that scikit-learn brings along."""

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer

Arrays = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def load(features: int = 30) -> Arrays:
    """Rows of shape (569, features), and their class: 0 benign, 1 malignant.

    Args:
        features: how many of the 30 columns, from the first.
    """
    data = load_breast_cancer()
    return data.data[:, :features], 1 - data.target
