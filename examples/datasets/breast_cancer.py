"""A custom data set: the Wisconsin breast cancer data that comes with scikit-learn."""

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer

Arrays = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def load(features: int = 30) -> Arrays:
    """Load rows of shape (569, features), and their class: 0 benign, 1 malignant.

    Args:
        features: number of columns; the first of the 30 are used.
    """
    data = load_breast_cancer()
    return data.data[:, :features], 1 - data.target
