"""Fitted detectors as plain arrays: scoring, saving and loading do not need the library that fitted them.

A model file is a single ``.npz`` of plain arrays without pickle, so it executes no code of its own when it is loaded,
and a new release of scikit-learn changes no score. All scores are computed in blocks, since the distances between t
test rows and s training rows may not fit into memory (shuttle: 4.7 GB).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from math import log, pi
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from deepsad_pl.common.arrays import read_arrays, write_arrays
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow.kernels import FloatArray, Rows, gaussian_kernel, squared_distances
from deepsad_pl.shallow.tree_nodes import TreeNodes
from deepsad_pl.shallow.tree_nodes import demand as _demand

Arrays = dict[str, npt.NDArray[Any]]

# Incremented when the meaning of the arrays in a file changes.
FILE_FORMAT = 1

# A block takes two float64 copies of rows and two or three tiles of distances: below 100 MB together.
_BLOCK_BYTES = 24 * 2**20
_TILE = (1024, 2048)


class Model(ABC):
    """A fitted detector.

    Attributes:
        kind: name of the class in model files.
        width: D, the number of features.
    """

    kind: ClassVar[str]
    width: int

    def score(self, x: Rows) -> FloatArray:
        """Compute the anomaly score of each row, with less than 100 MB of temporary memory.

        Args:
            x: shape (t, D), finite.

        Returns:
            Shape (t,), higher is more anomalous.

        Raises:
            ValueError: if x does not have as many columns as the training rows.
        """
        if x.ndim != 2 or x.shape[1] != self.width:
            raise ValueError(
                f"the model scores rows of {counted(self.width, 'feature')}, but x has the shape {x.shape}"
            )
        return self._score(x)

    @abstractmethod
    def arrays(self) -> Arrays:
        """Everything that the model consists of: the arguments of its constructor, by name."""

    @abstractmethod
    def _score(self, x: Rows) -> FloatArray: ...


class KernelModel(Model):
    r"""A Gaussian kernel expansion, :math:`s(x) = \rho - \sum_i c_i \exp(-\gamma \|x_i - x\|^2)`.

    Args:
        rows: the support vectors, shape (s, D).
        coef: c, shape (s,), of any sign, finite.
        gamma: > 0.
        offset: rho.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    kind = "kernel"

    def __init__(self, rows: npt.NDArray[np.float32], coef: FloatArray, gamma: float, offset: float) -> None:
        self.rows, self.coef = _rows(rows), np.asarray(coef)
        self.gamma, self.offset = _scalar(gamma), _scalar(offset)
        _demand(self.coef.shape == self.rows.shape[:1] and self.coef.dtype == np.float64, "one float64 coef per row")
        _demand(bool(np.isfinite(self.coef).all()) and self.gamma > 0, "finite coef and gamma > 0")
        self.width = self.rows.shape[1]

    def arrays(self) -> Arrays:
        """Rows, coef, gamma and offset."""
        gamma, offset = np.asarray(self.gamma), np.asarray(self.offset)
        return {"rows": self.rows, "coef": self.coef, "gamma": gamma, "offset": offset}

    def _score(self, x: Rows) -> FloatArray:
        score = np.full(len(x), self.offset)
        for queries, rows in tiles(len(x), len(self.rows), self.width):
            kernel = squared_distances(x[queries], self.rows[rows])
            score[queries] -= gaussian_kernel(kernel, self.gamma, out=kernel) @ self.coef[rows]
        return score


class DensityModel(Model):
    r"""A Gaussian kernel density estimate, :math:`s(x) = -\log \frac1n \sum_i \mathcal N(x; x_i, h^2 I)`.

    Args:
        rows: the training rows, shape (n, D).
        bandwidth: h, > 0.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    kind = "density"

    def __init__(self, rows: npt.NDArray[np.float32], bandwidth: float) -> None:
        self.rows, self.bandwidth = _rows(rows), _scalar(bandwidth)
        _demand(self.bandwidth > 0 and len(self.rows) > 0, "at least one row and bandwidth > 0")
        self.width = self.rows.shape[1]

    def arrays(self) -> Arrays:
        """Rows and bandwidth."""
        return {"rows": self.rows, "bandwidth": np.asarray(self.bandwidth)}

    def _score(self, x: Rows) -> FloatArray:
        log_density: FloatArray = log_densities(self.rows, x, [self.bandwidth])[0]
        return -log_density


class ForestModel(Model):
    r"""An isolation forest, :math:`s(x) = 2^{-E[h(x)] / c(\psi)}` (Liu, Ting and Zhou 2008).

    h(x) is the depth of the leaf that x falls into plus c(number of training rows in that leaf), the mean depth at
    which a further subtree would have separated these rows. Each quantity is one array over the nodes of all trees,
    tree after tree. The index of a child counts from the first node of its tree and is -1 at a leaf; children come
    after their parents.

    Args:
        children_left: shape (N,) for N nodes of all trees.
        children_right: shape (N,).
        feature: the column that a node splits on, shape (N,); any value at a leaf.
        threshold: rows with x <= threshold go left, where x is in single precision as in training; shape (N,).
        n_node_samples: number of training rows in a node, shape (N,).
        tree_start: index of the first node of each tree, and N at the end; shape (trees + 1,).
        psi: number of training rows per tree.
        width: D, the number of features.

    Attributes:
        nodes: the trees.
        path: estimated path length of a row that ends in a node, shape (N,).
        normalizer: trees times c(psi); 0 for trees of a single row.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    kind = "forest"

    def __init__(
        self,
        children_left: npt.NDArray[np.int64],
        children_right: npt.NDArray[np.int64],
        feature: npt.NDArray[np.int64],
        threshold: FloatArray,
        n_node_samples: npt.NDArray[np.int64],
        tree_start: npt.NDArray[np.int64],
        psi: int,
        width: int,
    ) -> None:
        self.psi, self.width = int(_scalar(psi)), int(_scalar(width))
        self._arrays: Arrays = {
            "children_left": children_left,
            "children_right": children_right,
            "feature": feature,
            "threshold": threshold,
            "n_node_samples": n_node_samples,
            "tree_start": tree_start,
        }
        _demand(n_node_samples.shape == threshold.shape, "one value per node")
        _demand(n_node_samples.dtype == np.int64 and self.psi >= 1, "indices as int64 and psi >= 1")
        self.nodes = TreeNodes(children_left, children_right, feature, threshold, tree_start, self.width, single=True)
        self.path = self.nodes.depth + average_path_length(n_node_samples)
        self.normalizer = len(self.nodes.roots) * float(average_path_length(np.array([self.psi]))[0])

    def arrays(self) -> Arrays:
        """The nodes of all trees, psi and width."""
        return {**self._arrays, "psi": np.asarray(self.psi), "width": np.asarray(self.width)}

    def _score(self, x: Rows) -> FloatArray:
        if self.normalizer == 0:
            # Trees of a single row carry no information; 0.5 is scikit-learn's convention.
            return np.full(len(x), 0.5)
        score = np.empty(len(x))
        for rows, leaf in self.nodes.leaves(x):
            score[rows] = 2.0 ** (-self.path[leaf].sum(axis=1) / self.normalizer)
        return score


def average_path_length(n: npt.NDArray[np.int64]) -> FloatArray:
    """c(n), the mean depth of an unsuccessful search in a binary search tree of n rows (Liu et al., equation 1).

    Args:
        n: >= 1, any shape.

    Returns:
        The same shape; 0 for one row, 1 for two.
    """
    large = np.maximum(n, 3).astype(np.float64)
    c = 2 * (np.log(large - 1) + np.euler_gamma) - 2 * (large - 1) / large
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, c))


def log_densities(rows: Rows, x: Rows, bandwidths: Sequence[float]) -> FloatArray:
    r"""Exact logarithms of Gaussian kernel density estimates, by a matrix product and a log-sum-exp over all rows.

    Let m be the squared distance to the nearest row. Then :math:`\log \sum_i e^{-d_i^2 / 2h^2} = -m / 2h^2 + \log
    \sum_i e^{-(d_i^2 - m) / 2h^2}`. The sum on the right is at least 1, so nothing underflows, however large D and
    however small h. All bandwidths share the differences :math:`d_i^2 - m`.

    Args:
        rows: centers of the kernels, shape (n, D), n >= 1.
        x: points at which the densities are evaluated, shape (t, D).
        bandwidths: values of h, each > 0.

    Returns:
        Log densities in nats, shape (len(bandwidths), t).
    """
    n, width = rows.shape
    scales = [1 / (2 * h**2) for h in bandwidths]
    result = np.empty((len(bandwidths), len(x)))
    blocks: list[FloatArray] = []
    for queries, part in tiles(len(x), n, width):
        distance2 = torch.from_numpy(squared_distances(x[queries], rows[part]))
        nearest = distance2.min(dim=1, keepdim=True).values
        distance2 -= nearest
        buffer = torch.empty_like(distance2)
        block = np.empty((len(bandwidths), len(distance2)))
        for i, scale in enumerate(scales):
            # Computing a denormal takes six times as long as e^-700, which is negligible beside the summand of 1.
            total = torch.mul(distance2, -scale, out=buffer).clamp_(min=-700).exp_().sum(dim=1)
            block[i] = (total.log_() - scale * nearest[:, 0]).numpy()
        blocks.append(block)
        if part.stop == n:
            result[:, queries] = np.logaddexp.reduce(blocks, axis=0)
            blocks.clear()
    constants = [log(n) + width * (log(h) + log(2 * pi) / 2) for h in bandwidths]
    result -= np.array(constants)[:, None]
    return result


KINDS: dict[str, type[Model]] = {kind.kind: kind for kind in (KernelModel, DensityModel, ForestModel)}


def save_model(path: Path, model: Model) -> None:
    """Write a model to a file, atomically; the loaded model gives the same scores, bit for bit."""
    kind = type(model)
    name = kind.kind if KINDS.get(getattr(kind, "kind", "")) is kind else f"{kind.__module__}:{kind.__qualname__}"
    write_arrays(path, {"format": np.asarray(FILE_FORMAT), "kind": np.asarray(name), **model.arrays()})


def load_model(path: Path, package: str = "deepsad_pl") -> Model:
    """Load a model that :func:`save_model` has written.

    Args:
        path: the model file.
        package: top-level package from which the model's class may be imported; other packages are refused.

    Raises:
        DeepSADError: if the file is missing, damaged or no model, or its class is of another package.
    """
    remedy = "use the model file of a finished run, or run the experiment again"
    try:
        arrays = read_arrays(path)
        found = int(arrays.pop("format"))
        if found != FILE_FORMAT:
            raise ValueError(f"its format is {found}, but this release reads {FILE_FORMAT}")
        return _class_of(str(arrays.pop("kind")), package)(**arrays)
    except FileNotFoundError:
        raise DeepSADError(f"there is no model file {path}; {remedy}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DeepSADError(f"{path} is not a readable model ({error}); {remedy}") from error


def _class_of(name: str, package: str) -> type[Model]:
    """The class of a model by its kind or, for a class from outside, by ``module:Class``.

    Raises:
        ValueError: if the class is not of that package, or is no :class:`Model`.
    """
    module, _, kind = name.partition(":")
    if not kind:
        return KINDS[name]
    if module.partition(".")[0] != package:
        top = module.partition(".")[0]
        raise ValueError(f"its class is {name}; if you trust that code, load it with package={top!r}")
    found = getattr(import_module(module), kind, None)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ValueError(f"its class is {name}, which is not a Model")
    return found


def tiles(queries: int, rows: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of a block of queries and a block of rows; for each block of queries all blocks of rows, in order."""
    most = max(1, _BLOCK_BYTES // (8 * width))
    tall, wide = (min(side, most) for side in _TILE)
    for i in range(0, queries, tall):
        for j in range(0, rows, wide):
            yield slice(i, min(i + tall, queries)), slice(j, min(j + wide, rows))


def _rows(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    _demand(rows.ndim == 2 and rows.dtype == np.float32 and rows.shape[1] > 0, "float32 rows of shape (n, D)")
    return np.ascontiguousarray(rows)


def _scalar(value: Any) -> float:
    _demand(np.ndim(value) == 0 and bool(np.isfinite(value)), "finite scalars")
    return float(value)
