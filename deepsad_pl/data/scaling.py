"""The scaling of a table's columns: fitted on training rows, applied to any rows, kept as plain numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NUMBERS = ("first_exponent", "origin", "second_exponent", "shift", "factor")


@dataclass(frozen=True)
class Scaling:
    """How each column is scaled, from what the training rows say; a constant column is divided by 1.

    A column first loses its unit (a power of two) and its first training value, and then its unit again: the square of
    a difference may overflow or vanish in other units, and the mean of equal values far from 0 need not be their value.

    Attributes:
        kind: ``zscore`` (zero mean, unit variance) or ``minmax`` (the training rows in [0, 1], others anywhere).
        first_exponent: the power of two that each column is divided by, shape (D,).
        origin: what is subtracted then, shape (D,).
        second_exponent: the power of two that the difference is divided by, shape (D,).
        shift: mean of the training rows then, or what ``minmax`` adds at the end, shape (D,).
        factor: standard deviation of the training rows then, or what ``minmax`` multiplies by, shape (D,).
    """

    kind: str
    first_exponent: Array
    origin: Array
    second_exponent: Array
    shift: Array
    factor: Array

    @classmethod
    def fit(cls, x: Array, kind: str) -> Self:
        """Fit it on training rows.

        Args:
            x: finite, shape (N, D).
            kind: ``zscore`` or ``minmax``.
        """
        from sklearn import config_context
        from sklearn.preprocessing import MinMaxScaler, StandardScaler

        x = np.asarray(x, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"), config_context(assume_finite=True):
            first_exponent = _exponents(x)
            x = np.ldexp(x, -first_exponent)
            origin = x[0].copy()
            x = x - origin
            second_exponent = _exponents(x)
            scaler = (StandardScaler() if kind == "zscore" else MinMaxScaler()).fit(np.ldexp(x, -second_exponent))
        shift, factor = (scaler.mean_, scaler.scale_) if kind == "zscore" else (scaler.min_, scaler.scale_)
        return cls(kind, first_exponent, origin, second_exponent, shift, factor)

    def transform(self, x: Array) -> npt.NDArray[np.float32]:
        """Scale rows.

        Args:
            x: shape (n, D).

        Returns:
            The same shape; what does not fit float32 is infinite or NaN.
        """
        x = np.asarray(x, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.ldexp(np.ldexp(x, -self.first_exponent) - self.origin, -self.second_exponent)
            # In scikit-learn's order of operations, so that no bit differs from its scalers.
            x = (x - self.shift) / self.factor if self.kind == "zscore" else x * self.factor + self.shift
            return x.astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, which JSON keeps to the bit."""
        return {"kind": self.kind, **{name: getattr(self, name).tolist() for name in _NUMBERS}}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The scaling that :meth:`as_dict` has written.

        Raises:
            ValueError: if the content is something else.
        """
        kind = content.get("kind")
        if kind not in ("zscore", "minmax"):
            raise ValueError(f"the scaling is {kind!r}, neither zscore nor minmax")
        try:
            arrays = {
                name: np.array(content[name], dtype=np.int64 if name.endswith("exponent") else np.float64)
                for name in _NUMBERS
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"the scaling is incomplete ({error})") from error
        if len({array.shape for array in arrays.values()}) > 1 or arrays["origin"].ndim != 1:
            raise ValueError("the scaling has not one number for each column")
        return cls(kind, **arrays)


def _exponents(x: Array) -> Array:
    """For each column that varies the power of two, division by which rounds nothing, that brings it near 1; else 0."""
    varies = x.min(axis=0) < x.max(axis=0)
    return np.where(varies, np.frexp(np.abs(x).max(axis=0))[1], 0)
