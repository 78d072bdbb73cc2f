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
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from deepsad_pl.common.arrays import read_arrays, write_arrays
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow.kernels import FloatArray, Rows, gaussian_kernel, squared_distances

Arrays = dict[str, npt.NDArray[Any]]

# Incremented when the meaning of the arrays in a file changes.
FILE_FORMAT = 1

# A block takes two float64 copies of rows and two or three tiles of distances: below 100 MB together.
_BLOCK_BYTES = 24 * 2**20
_TILE = (1024, 2048)
_NODES_AT_ONCE = 2**20


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
        for queries, rows in _tiles(len(x), len(self.rows), self.width):
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


class Descent(NamedTuple):
    """The nodes of all trees such that each row takes the same number of steps: a leaf is its own child.

    Attributes:
        left: index of the left child of each node, shape (N,).
        right: of the right child.
        feature: the column that a node splits on; 0 at a leaf.
        threshold: rows with x <= threshold go left.
        path: estimated path length of a row that ends in a node.
        roots: index of the first node of each tree, shape (trees,).
        steps: depth of the deepest tree.
        normalizer: trees times c(psi); 0 for trees of a single row.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: FloatArray
    path: FloatArray
    roots: npt.NDArray[np.int64]
    steps: int
    normalizer: float


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
        n = len(threshold)
        _demand(all(a.shape == (n,) for k, a in self._arrays.items() if k != "tree_start"), "one value per node")
        _demand(all(a.dtype == np.int64 for k, a in self._arrays.items() if k != "threshold"), "indices as int64")
        _demand(threshold.dtype == np.float64 and self.psi >= 1, "float64 thresholds and psi >= 1")
        sizes = np.diff(tree_start)
        _demand(len(sizes) > 0 and tree_start[0] == 0 and tree_start[-1] == n, "trees that hold all nodes")
        _demand(bool((sizes > 0).all()), "at least one node per tree")
        start, stop = np.repeat(tree_start[:-1], sizes), np.repeat(tree_start[1:], sizes)
        leaf = children_left < 0
        left, right = children_left + start, children_right + start
        # Without this check, a damaged file could make the descent run in a circle.
        for child in (left[~leaf], right[~leaf]):
            _demand(bool(((child > np.flatnonzero(~leaf)) & (child < stop[~leaf])).all()), "children after parents")
        inner = feature[~leaf]
        _demand(bool(((inner >= 0) & (inner < self.width)).all()), "features that exist")

        # A leaf is its own child, so all rows can take the same number of steps.
        own = np.arange(n)
        self._left, self._right = np.where(leaf, own, left), np.where(leaf, own, right)
        self._feature, self._threshold, self._roots = np.where(leaf, 0, feature), threshold, tree_start[:-1]
        depth = np.zeros(n, dtype=np.int64)
        for node in np.flatnonzero(~leaf):
            depth[left[node]] = depth[right[node]] = depth[node] + 1
        self._steps = int(depth.max())
        self._path = depth + average_path_length(n_node_samples)

    def arrays(self) -> Arrays:
        """The nodes of all trees, psi and width."""
        return {**self._arrays, "psi": np.asarray(self.psi), "width": np.asarray(self.width)}

    def descent(self) -> Descent:
        """What a row's way through the trees needs."""
        normalizer = len(self._roots) * float(average_path_length(np.array([self.psi]))[0])
        return Descent(
            self._left,
            self._right,
            self._feature,
            self._threshold,
            self._path,
            self._roots,
            self._steps,
            normalizer,
        )

    def _score(self, x: Rows) -> FloatArray:
        normalizer = self.descent().normalizer
        if normalizer == 0:
            # Trees of a single row carry no information; 0.5 is scikit-learn's convention.
            return np.full(len(x), 0.5)
        score = np.empty(len(x))
        step = max(1, min(_NODES_AT_ONCE // len(self._roots), _BLOCK_BYTES // (4 * self.width)))
        for begin in range(0, len(x), step):
            chunk = x[begin : begin + step].astype(np.float32)
            row = np.arange(len(chunk))[:, None]
            node = np.broadcast_to(self._roots, (len(chunk), len(self._roots)))
            for _ in range(self._steps):
                goes_left = chunk[row, self._feature[node]] <= self._threshold[node]
                node = np.where(goes_left, self._left[node], self._right[node])
            score[begin : begin + step] = 2.0 ** (-self._path[node].sum(axis=1) / normalizer)
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
    for queries, part in _tiles(len(x), n, width):
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


def _tiles(queries: int, rows: int, width: int) -> Iterator[tuple[slice, slice]]:
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


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"a model needs {what}")
