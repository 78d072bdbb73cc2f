"""Binary trees as plain arrays, and the way of rows from the roots to the leaves."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.shallow.kernels import FloatArray, Rows

IntArray = npt.NDArray[np.int64]

# A block of rows and the nodes that they are at take a few arrays of this size: below 100 MB together.
_BLOCK_BYTES = 24 * 2**20
_NODES_AT_ONCE = 2**20


def demand(holds: bool, what: str) -> None:
    """Check what a model's arrays must satisfy.

    Raises:
        ValueError: if it does not hold.
    """
    if not holds:
        raise ValueError(f"a model needs {what}")


class TreeNodes:
    """The nodes of all trees of an ensemble, tree after tree; a leaf is its own child, so all rows take equal steps.

    Args:
        children_left: left child of each node, counted from the first node of its tree, -1 at a leaf; shape (N,).
        children_right: right child; shape (N,). Children come after their parents.
        feature: the column that a node splits on, shape (N,); any value at a leaf.
        threshold: rows with x <= threshold go left, shape (N,); any value at a leaf.
        tree_start: index of the first node of each tree, and N at the end; shape (trees + 1,).
        width: D, the number of columns.
        single: whether x is compared in single precision.

    Attributes:
        left: index of the left child of each node among all nodes, of itself at a leaf; shape (N,).
        right: of the right child.
        feature: the column that a node splits on; 0 at a leaf.
        threshold: as passed.
        depth: of each node, shape (N,).
        roots: index of the first node of each tree, shape (trees,).
        steps: depth of the deepest tree.

    Raises:
        ValueError: if a shape, a type or a value is not as described.
    """

    def __init__(
        self,
        children_left: IntArray,
        children_right: IntArray,
        feature: IntArray,
        threshold: FloatArray,
        tree_start: IntArray,
        width: int,
        *,
        single: bool,
    ) -> None:
        n = len(threshold)
        indices = (children_left, children_right, feature)
        demand(all(array.shape == (n,) for array in (*indices, threshold)), "one value per node")
        demand(all(array.dtype == np.int64 for array in (*indices, tree_start)), "indices as int64")
        demand(threshold.dtype == np.float64, "float64 thresholds")
        sizes = np.diff(tree_start)
        demand(len(sizes) > 0 and tree_start[0] == 0 and tree_start[-1] == n, "trees that hold all nodes")
        demand(bool((sizes > 0).all()), "at least one node per tree")
        start, stop = np.repeat(tree_start[:-1], sizes), np.repeat(tree_start[1:], sizes)
        leaf = children_left < 0
        left, right = children_left + start, children_right + start
        # Without this check, a damaged file could make the descent run in a circle.
        for child in (left[~leaf], right[~leaf]):
            demand(bool(((child > np.flatnonzero(~leaf)) & (child < stop[~leaf])).all()), "children after parents")
        inner = feature[~leaf]
        demand(bool(((inner >= 0) & (inner < width)).all()), "features that exist")

        own = np.arange(n)
        self.left, self.right = np.where(leaf, own, left), np.where(leaf, own, right)
        self.feature, self.threshold, self.roots = np.where(leaf, 0, feature), threshold, tree_start[:-1]
        self.depth, self._width = np.zeros(n, dtype=np.int64), width
        self._kind: type[np.floating] = np.float32 if single else np.float64
        level = self.roots[~leaf[self.roots]]
        while len(level):
            children = np.unique(np.concatenate([left[level], right[level]]))
            self.depth[children] = self.depth[level[0]] + 1
            level = children[~leaf[children]]
        self.steps = int(self.depth.max())

    def leaves(self, x: Rows) -> Iterator[tuple[slice, IntArray]]:
        """Yield blocks of rows, each with the leaves that they fall into, shape (rows, trees).

        Args:
            x: shape (t, D), finite.
        """
        step = max(1, min(_NODES_AT_ONCE // len(self.roots), _BLOCK_BYTES // (4 * self._width)))
        for begin in range(0, len(x), step):
            chunk = x[begin : begin + step].astype(self._kind)
            row = np.arange(len(chunk))[:, None]
            node = np.broadcast_to(self.roots, (len(chunk), len(self.roots)))
            for _ in range(self.steps):
                goes_left = chunk[row, self.feature[node]] <= self.threshold[node]
                node = np.where(goes_left, self.left[node], self.right[node])
            yield slice(begin, begin + len(chunk)), node


def arrays_of(trees: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
    """The nodes of scikit-learn's trees (``estimator.tree_``), as the first five arguments of :class:`TreeNodes`."""
    return {
        "children_left": np.concatenate([tree.children_left for tree in trees]).astype(np.int64),
        "children_right": np.concatenate([tree.children_right for tree in trees]).astype(np.int64),
        "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int64),
        "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        "tree_start": np.cumsum([0, *(tree.node_count for tree in trees)]).astype(np.int64),
    }
