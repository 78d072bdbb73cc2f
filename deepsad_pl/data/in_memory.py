"""Make sources from arrays and data frames in memory; all of their samples are used for training."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.own_table import encoded_source
from deepsad_pl.data.sources import Source

IntArray = npt.NDArray[np.int64]


def in_memory(
    x: "pd.DataFrame | npt.NDArray[Any]", semi_y: IntArray, scaling: Literal["zscore", "minmax"] | None
) -> Source:
    """Make a source from rows (:func:`rows_in_memory`) or images (:func:`images_in_memory`).

    Args:
        x: rows (two axes) or images (four axes).
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).
        scaling: scaling of rows; None: ``zscore``.

    Raises:
        DeepSADError: if the samples cannot be learned from.
    """
    if isinstance(x, pd.DataFrame) or x.ndim == 2:
        return rows_in_memory(x, semi_y, scaling or "zscore")
    return images_in_memory(x, semi_y)


def rows_in_memory(
    rows: "pd.DataFrame | npt.NDArray[Any]", semi_y: IntArray, scaling: Literal["zscore", "minmax"]
) -> Source:
    """Make a source from rows, encoded like those of ``dataset=table``.

    Args:
        rows: a data frame with any columns that a table may have, or an array of numbers, shape (N, D), whose columns
            are named x0, x1, ...; a missing number is NaN.
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).
        scaling: see :class:`~deepsad_pl.data.scaling.Scaling`.

    Raises:
        DeepSADError: if a column cannot be learned from; names every such column.
    """
    all_numbers = not isinstance(rows, pd.DataFrame)
    if isinstance(rows, pd.DataFrame):
        frame = rows.set_axis(list(map(str, rows.columns)), axis=1).reset_index(drop=True)
    else:
        values = np.asarray(rows, dtype=np.float64)
        frame = pd.DataFrame(values, columns=[f"x{place}" for place in range(values.shape[1])])
    names = list(frame.columns)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DeepSADError(f"X has more than one column {', '.join(map(repr, twice))}; give each its own name")
    known, unknown = (semi_y == -1).astype(np.int64), np.full(len(frame), -1)
    return encoded_source(frame, known, frame, unknown, {"semi_y_train": semi_y}, scaling, all_numbers=all_numbers)


def images_in_memory(images: npt.NDArray[Any], semi_y: IntArray) -> Source:
    """Make a source from images, whose values are not changed.

    Args:
        images: shape (N, C, H, W): whole numbers from 0 to 255, or floats in [0, 1].
        semi_y: see :func:`rows_in_memory`.

    Raises:
        DeepSADError: if a value is out of its range.
    """
    is_float = images.dtype.kind == "f"
    low, high, most = images.min(), images.max(), 1 if is_float else 255
    if not (images.dtype.kind in "uif" and 0 <= low <= high <= most):
        raise DeepSADError(
            f"X has images of the type {images.dtype} with values from {low} to {high}; give whole numbers from 0 to "
            "255, or floats from 0 to 1"
        )
    x = images.astype(np.float32 if is_float else np.uint8)
    known, unknown = (semi_y == -1).astype(np.int64), np.full(len(x), -1)
    return Source(x, known, x, unknown, None if is_float else 255.0, semi_y)
