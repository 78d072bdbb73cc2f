"""Convert the ``y`` of an estimator to semi-labels: 0 unlabeled, +1 known normal, -1 known anomaly."""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

CONVENTIONS = (None, "signs", "pyod")
_MOST_SHOWN = 8


def semi_labels_in(y: Any, convention: str | None = None) -> IntArray:
    """Translate the labels that a user passes to ``fit``.

    >>> semi_labels_in([0, 1, 0, -1]).tolist()
    [0, 1, 0, -1]
    >>> semi_labels_in([0, 0, 1], convention="pyod").tolist()
    [1, 1, -1]

    Args:
        y: numbers, shape (N,).
        convention: ``signs``: +1 known normal, -1 known anomaly, 0 unlabeled. ``pyod``: 0 known normal, 1 known
            anomaly. None: ``signs``, but 0 and 1 without any -1 are refused, since their meaning is not clear.

    Raises:
        ValueError: if a value is not allowed by the convention, or the meaning of the values is not clear.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}; choose None, 'signs' or 'pyod'")
    values = np.asarray(y)
    found = _different(values)
    if convention == "pyod":
        if {*found} <= {0, 1}:
            return np.where(values.astype(np.int64) == 1, -1, 1).astype(np.int64)
        raise ValueError(
            f"y has the values {_shown(found)}, but with convention='pyod' 0 is a known normal sample and 1 a known "
            "anomaly; leave the convention out to pass -1, 0 and 1"
        )
    if not {*found} <= {-1, 0, 1}:
        raise ValueError(
            f"y has the values {_shown(found)}, but 1 is a known normal sample, -1 a known anomaly and 0 an unlabeled "
            "sample; pass these"
        )
    if {*found} == {0, 1} and convention is None:
        raise ValueError(
            "y has the values 0 and 1, whose meaning is not clear; call fit(X, y, convention='pyod') if 0 is normal "
            "and 1 an anomaly, or convention='signs' if 0 is unlabeled and 1 known to be normal"
        )
    return values.astype(np.int64)


def _different(values: npt.NDArray[Any]) -> list[Any]:
    """The distinct values: numbers, or texts if not all of them are numbers."""
    if values.dtype == object:
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            return sorted({*map(str, values)})
    return [value + 0 if isinstance(value, bool) else value for value in np.unique(values).tolist()]


def _shown(found: list[Any]) -> str:
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return ", ".join(f"{one:g}" if isinstance(one, float) else repr(one) for one in found[:_MOST_SHOWN]) + more
