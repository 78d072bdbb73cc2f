"""Scale the columns of a table by statistics of the training rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Method = Literal["zscore", "minmax"]


@dataclass(frozen=True)
class Scaling:
    """A scaling learned from the training rows, with one value for each of D columns.

    A value v becomes ``w = (v * 2**-unit - origin) * 2**-spread``, and then ``(w - shift) / factor`` (zscore) or
    ``w * factor + shift`` (minmax).

    Attributes:
        method: ``zscore`` (zero mean, unit variance) or ``minmax`` (training rows in [0, 1]; others may lie outside).
        unit: exponent of the power of two near the largest training value; dividing by it is exact.
        origin: the first training row in this unit.
        spread: exponent of the power of two near the largest distance from the origin; dividing by it is exact.
        shift: mean, or offset of the minimum.
        factor: standard deviation, or one over the range; 1 for a constant column.
    """

    method: Method
    unit: tuple[int, ...]
    origin: tuple[float, ...]
    spread: tuple[int, ...]
    shift: tuple[float, ...]
    factor: tuple[float, ...]

    @classmethod
    def fit(cls, x: Array, method: Method) -> Self:
        """Learn the scaling from training rows.

        Args:
            x: finite, float64, shape (N, D) with N >= 1.
            method: ``zscore`` or ``minmax``.
        """
        from sklearn import config_context
        from sklearn.preprocessing import MinMaxScaler, StandardScaler

        with np.errstate(over="ignore", invalid="ignore"), config_context(assume_finite=True):
            x = np.asarray(x, dtype=np.float64)
            unit = _exponents(x)
            x = np.ldexp(x, -unit)
            # Relative to the first row: a computed mean of equal values can differ from them, by much far from 0.
            origin = x[0].copy()
            x = x - origin
            spread = _exponents(x)
            x = np.ldexp(x, -spread)
            scaler = StandardScaler(copy=False) if method == "zscore" else MinMaxScaler()
            scaler.fit(x)
        shift = scaler.mean_ if method == "zscore" else scaler.min_
        numbers = (unit, origin, spread, shift, scaler.scale_)
        return cls(method, *(tuple(values.tolist()) for values in numbers))

    @classmethod
    def beside(cls, parts: Sequence[Self]) -> Self:
        """Join scalings of the same method: the scaling of all their columns, in order."""
        (method,) = {part.method for part in parts}
        names = [field.name for field in fields(cls)][1:]
        return cls(method, *(tuple(v for part in parts for v in getattr(part, name)) for name in names))

    def transform(self, x: Array) -> npt.NDArray[np.float32]:
        """Scale rows; NaN stays NaN, and values that do not fit float32 become infinite or NaN.

        Args:
            x: float64, shape (M, D).

        Returns:
            float32, shape (M, D).
        """
        shift, factor = np.array(self.shift), np.array(self.factor)
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.ldexp(np.asarray(x, dtype=np.float64), -np.array(self.unit, dtype=np.int64))
            x -= np.array(self.origin)
            x = np.ldexp(x, -np.array(self.spread, dtype=np.int64))
            if self.method == "zscore":
                x -= shift
                x /= factor
            else:
                x *= factor
                x += shift
            return x.astype(np.float32)

    def inverse(self, x: Array) -> npt.NDArray[np.float64]:
        """Raw rows that are scaled to the given ones, up to rounding.

        Args:
            x: scaled rows, shape (M, D).

        Returns:
            float64, shape (M, D).
        """
        shift, factor = np.array(self.shift), np.array(self.factor)
        x = np.asarray(x, dtype=np.float64)
        x = x * factor + shift if self.method == "zscore" else (x - shift) / factor
        x = np.ldexp(x, np.array(self.spread, dtype=np.int64)) + np.array(self.origin)
        return np.ldexp(x, np.array(self.unit, dtype=np.int64))

    def as_dict(self) -> dict[str, Any]:
        """All attributes, as plain values that JSON keeps exactly."""
        return {name: value if isinstance(value, str) else list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The scaling that :meth:`as_dict` wrote."""
        return cls(values["method"], *(tuple(values[field.name]) for field in fields(cls)[1:]))


def _exponents(x: Array) -> Array:
    """Exponents of the powers of two that bring the values of each column near 1; 0 for a constant column.

    In other units, the square of a difference could overflow or underflow.
    """
    varies = x.min(axis=0) < x.max(axis=0)
    return np.where(varies, np.frexp(np.abs(x).max(axis=0))[1], 0)
