"""Training sets for benchmarks of shallow methods: a table, and one class of MNIST polluted with another one."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.sources import image_source

Matrix = npt.NDArray[np.float32]

# Shares of the rows, as in the paper's experiments: labeled anomalies, and anomalies among the unlabeled rows.
_LABELED, _POLLUTION = 0.05, 0.05
_QUERIES = 500
_TABLE_WIDTH, _IMAGE_WIDTH = 21, 784


@dataclass(frozen=True)
class Problem:
    """A training set, and rows on which fits are compared.

    Attributes:
        name: name of the data.
        x: training rows, shape (n, D).
        semi_y: 0 unlabeled, -1 known anomaly, shape (n,).
        queries: rows to compare fits on, shape (500, D).
    """

    name: str
    x: Matrix
    semi_y: npt.NDArray[np.int64]
    queries: Matrix


def table(n: int) -> Problem:
    """Correlated normal rows with D = 21, the number of cardio's columns, and anomalies about twice as wide."""
    return _problem(f"table, D={_TABLE_WIDTH}", n, *drawn(n, _TABLE_WIDTH))


def images(n: int) -> Problem:
    """MNIST's zeros with ones as anomalies, D = 784; random pixels if there is no MNIST in the data folder."""
    folder = Path(os.environ.get("DEEPSAD_DATA_DIR", "data"))
    if not (folder / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        return random_images(n)
    source = image_source("mnist", data_dir=folder, seed=0)
    x = (source.x_train.reshape(len(source.x_train), -1) / np.float32(255)).astype(np.float32)
    normal, anomalous = (x[source.labels_train == label] for label in (0, 1))
    return _problem("MNIST, D=784", n, normal, anomalous)


def random_images(n: int) -> Problem:
    """Correlated rows with values in [0, 1] and as many columns as MNIST has pixels."""
    normal, anomalous = drawn(n, _IMAGE_WIDTH)
    return _problem(f"random, D={_IMAGE_WIDTH}", n, expit(normal), expit(anomalous))


def drawn(n: int, width: int) -> tuple[Matrix, Matrix]:
    """Draw n + 500 correlated normal rows, and as many anomalies, which are about twice as wide."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(width // 3, width)) / (width // 3) ** 0.5
    size = (n + _QUERIES, len(mixing))
    normal, anomalous = (rng.normal(scale=scale, size=size) @ mixing for scale in (1.0, 2.0))
    noise = rng.normal(scale=0.1, size=normal.shape)
    return (normal + noise).astype(np.float32), (anomalous + noise).astype(np.float32)


def _problem(name: str, n: int, normal: Matrix, anomalous: Matrix) -> Problem:
    labeled, pollution = max(2, round(_LABELED * n)), round(_POLLUTION * n)
    own, others = n - labeled - pollution, labeled + pollution
    x = np.concatenate([anomalous[:labeled], anomalous[labeled:others], normal[:own]])
    semi_y = np.where(np.arange(n) < labeled, -1, 0).astype(np.int64)
    half = _QUERIES // 2
    if len(normal) < own + half or len(anomalous) < others + half:
        raise DeepSADError(
            f"--sizes has {n}, but {name} has {len(normal)} normal and {len(anomalous)} anomalous rows of which "
            f"{own + half} and {others + half} are needed; give a smaller one"
        )
    queries = np.concatenate([normal[own:][:half], anomalous[others:][:half]])
    return Problem(f"{name}, n={n}", x.astype(np.float32), semi_y, queries.astype(np.float32))
