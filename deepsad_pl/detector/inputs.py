"""Check raw input against the shape and the columns that a detector takes, and prepare it for the network."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.arrays import without_mask
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.data.sources import Preparation, Source

if TYPE_CHECKING:
    import pandas as pd

    from deepsad_pl.data.table_columns import Encoded, TableColumns

Array = npt.NDArray[Any]

_MOST_NAMES = 10


# The preparations that a detector's folder may name. The second one is imported on demand, since it needs pandas.
PREPARATIONS = {
    "scaling": "deepsad_pl.data.scaling.Scaling",
    "table_columns": "deepsad_pl.data.table_columns.TableColumns",
}


@dataclass
class Prepared:
    """Samples as a network takes them.

    Attributes:
        x: float32 rows or uint8 pixels, shape (n, ...).
        problems: why samples cannot be scored, by position; the values of these samples in ``x`` are meaningless.
        unusual: number of cells with something that no training row had (an unknown category, a missing value), by
            description.
    """

    x: Array
    problems: dict[int, str] = field(default_factory=dict)
    unusual: Counter[str] = field(default_factory=Counter)


def unusual_sentences(unusual: Mapping[str, int]) -> list[str]:
    """A sentence for each entry of :attr:`Prepared.unusual`."""
    return [
        f"{count:,} {'row has' if count == 1 else 'rows have'} {what}, which no training row has"
        for what, count in unusual.items()
    ]


@dataclass(frozen=True)
class Inputs:
    """The raw input that a detector takes, and how it is prepared.

    Attributes:
        shape: shape of one sample: (C, H, W) or (D,).
        scale: number by which pixels are divided; None for rows.
        columns: names of a table's columns, in the order of training; None if they have no names.
        preparation: how raw rows are prepared; None: they are used unchanged.
        id_column: column with the names of the rows in the training table; None if there was none.
    """

    shape: tuple[int, ...]
    scale: float | None
    columns: tuple[str, ...] | None = None
    preparation: "Preparation | TableColumns | None" = None
    id_column: str | None = None

    @classmethod
    def of_source(cls, source: Source) -> Self:
        """The inputs of a detector that was trained on this source."""
        return cls(source.shape, source.scale, source.columns, source.preparation, source.id_column)

    def as_dict(self) -> dict[str, Any]:
        """All attributes, as plain values for JSON."""
        prepared = None if self.preparation is None else {"kind": _kind(self.preparation), **self.preparation.as_dict()}
        names = None if self.columns is None else list(self.columns)
        return {
            "shape": list(self.shape),
            "scale": self.scale,
            "columns": names,
            "preparation": prepared,
            "id_column": self.id_column,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inputs that :meth:`as_dict` wrote.

        Raises:
            KeyError: if a part is missing.
            TypeError: if a part has another type.
            ValueError: if the preparation is unknown.
        """
        preparation = None
        if (prepared := content["preparation"]) is not None:
            kind = prepared["kind"]
            if kind not in PREPARATIONS:
                raise ValueError(f"its rows were prepared by {kind}, but this release has {', '.join(PREPARATIONS)}")
            module, _, name = PREPARATIONS[kind].rpartition(".")
            made_by = getattr(import_module(module), name)
            preparation = made_by.from_dict({k: v for k, v in prepared.items() if k != "kind"})
        names = content["columns"]
        return cls(
            tuple(map(int, content["shape"])),
            content["scale"],
            None if names is None else tuple(map(str, names)),
            preparation,
            content["id_column"],
        )

    @property
    def are_rows(self) -> bool:
        """Whether a sample is a row of numbers."""
        return self.scale is None and len(self.shape) == 1

    @property
    def feature_names(self) -> list[str]:
        """The names of a table's columns; numbers from 0 if they have none."""
        if self._encoding is not None:
            return self._encoding.names
        return list(self.columns or map(str, range(math.prod(self.shape))))

    @property
    def feature_groups(self) -> npt.NDArray[np.int64]:
        """For each value of a prepared row, the position of its column in :attr:`feature_names`."""
        if self._encoding is None:
            return np.arange(math.prod(self.shape))
        places = {name: place for place, name in enumerate(self._encoding.names)}
        return np.array([places[source.column] for source in self._encoding.sources], np.int64)

    @property
    def are_image_files(self) -> bool:
        """Whether image files can be decoded into samples."""
        return self.scale == 255 and len(self.shape) == 3 and self.shape[0] in (1, 3)

    def described(self) -> str:
        """A description of the samples, for messages."""
        if self._encoding is not None:
            return f"rows of a table with the columns {_listed(self._encoding.names)}"
        if self.are_rows:
            return f"rows of {counted(self.shape[0], 'number')}"
        size = " x ".join(map(str, self.shape))
        return (
            f"arrays of {size} numbers" if self.scale is None else f"images of {size} pixels from 0 to {self.scale:g}"
        )

    def column_problems(self, names: Sequence[str]) -> list[str]:
        """Reasons why a table with these columns cannot be scored, one sentence each.

        Args:
            names: names of its columns, in any order if the training columns have names.
        """
        if not self.are_rows:
            return [f"it is a table, but the detector scores {self.described()}; give images, or X in a .npz file"]
        if self.columns is None:
            if len(names) == self.shape[0]:
                return []
            return [
                f"it has {counted(len(names), 'column')} ({_listed(names)}), but the detector scores "
                f"{self.described()}; leave others out with drop=[...] and name a column of names with id=..."
            ]
        if twice := [name for name in self.columns if names.count(name) > 1]:
            return [f"it has several columns named {_listed(twice)}; give each column its own name"]
        lacking = [name for name in self.columns if name not in names]
        if len(lacking) > 1 and len(lacking) == len(self.columns) and not any(suggested(one, names) for one in lacking):
            return [
                f"it has none of the training columns {_listed(self.columns)}, but {_listed([*names])}; is the first "
                "line a header? If not, add one"
            ]
        return [
            f"it lacks the column {name!r}, which the training data had; {suggested(name, names) or 'add it'}"
            for name in lacking[:_MOST_NAMES]
        ]

    def from_frame(self, frame: "pd.DataFrame") -> Prepared:
        """Prepare the rows of a table.

        Args:
            frame: rows with the training columns; if these have names, other columns are ignored.

        Raises:
            DeepSADError: if a training column is missing.
        """
        # Not at the top: every training imports this module, and pandas is slow to import and starts threads.
        import pandas as pd

        if problems := self.column_problems(list(map(str, frame.columns))):
            raise DeepSADError(*problems)
        frame = frame.set_axis(list(map(str, frame.columns)), axis=1)
        frame = frame if self.columns is None else frame[list(self.columns)]
        if self._encoding is not None:
            return self._encoded(self._encoding.transform(frame))
        x, problems_of_rows = np.empty((len(frame), frame.shape[1])), dict[int, str]()
        for place, name in enumerate(frame.columns):
            column = frame.iloc[:, place]
            if pd.api.types.is_numeric_dtype(column.dtype):
                x[:, place] = column.to_numpy(dtype=np.float64, na_value=np.nan)
                continue
            # Of dates and durations, pandas would take the nanoseconds.
            are_texts = pd.api.types.is_string_dtype(column.dtype) or column.dtype == object
            text = column if are_texts else column.astype(str).where(column.notna())
            x[:, place] = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            for row in np.flatnonzero(np.isnan(x[:, place]) & column.notna().to_numpy()):
                cell = column.iloc[row]
                told = "is empty" if not str(cell).strip() else f"holds {cell!r}, which is not a number"
                problems_of_rows.setdefault(int(row), f"column {name!r} {told}")
        return self._from_rows(x, problems_of_rows, [repr(name) for name in frame.columns])

    def from_array(self, x: npt.ArrayLike) -> Prepared:
        """Prepare raw rows or pixels.

        Args:
            x: shape (n, ...); for grey images also (n, H, W). Masked values of a masked array are empty.

        Raises:
            DeepSADError: if the shape, the type or the range of pixels is wrong.
        """
        x = without_mask(x)
        if self._encoding is not None:
            if problems := self.array_problems(x.shape, x.dtype):
                raise DeepSADError(*problems)
            import pandas as pd

            return self.from_frame(pd.DataFrame(x, columns=self._encoding.names).infer_objects())
        if self.shape[0] == 1 and x.shape[1:] == self.shape[1:] and len(self.shape) == 3:
            x = x[:, None]
        if problems := self.array_problems(x.shape, x.dtype):
            raise DeepSADError(*problems)
        if self.scale is not None:
            # Booleans would be nearly black.
            if x.dtype.kind in "bf" or (x.size and not 0 <= x.min() <= x.max() <= self.scale):
                held = f"type {x.dtype}" if x.dtype.kind in "bf" else f"values from {x.min()} to {x.max()}"
                raise DeepSADError(
                    f"x has {held}, but pixels must be whole numbers from 0 to {self.scale:g}; convert it"
                )
            return Prepared(x.astype(np.uint8))
        flat = x.reshape(len(x), math.prod(self.shape)).astype(np.float64)
        prepared = self._from_rows(flat, {}, [str(place) for place in range(flat.shape[1])])
        return Prepared(prepared.x.reshape(x.shape), prepared.problems)

    def array_problems(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[str]:
        """The reason why an array of this shape and type cannot be scored, if any: at most one sentence."""
        # A table that is encoded has fewer cells than encoded values, and its cells may be text.
        expected = self.shape if self._encoding is None else (len(self._encoding.names),)
        forms, what = [expected], "numbers" if self._encoding is None else "cells"
        if len(self.shape) == 3 and self.shape[0] == 1:
            forms.append(self.shape[1:])
        if shape and shape[1:] in forms and (self._encoding is not None or dtype.kind in "biuf"):
            return []
        told = f"x has the shape {shape} and the type {dtype}"
        return [f"{told}, but the detector scores {self.described()}; give {what} of shape (n, {_listed(expected)})"]

    def from_image(self, path: Path) -> npt.NDArray[np.uint8]:
        """Decode an image file in the same way as the training images.

        Raises:
            DeepSADError: if it cannot be read.
        """
        from deepsad_pl.data import pixels

        try:
            content = path.read_bytes()
        except OSError as error:
            raise DeepSADError(f"{path} cannot be read ({error.strerror}); repair or remove it") from error
        return pixels.decode(path, content, self.shape)

    @property
    def text(self) -> list[str]:
        """The columns of a table whose cells must be read as text."""
        return [] if self._encoding is None else self._encoding.text

    @property
    def _encoding(self) -> "TableColumns | None":
        """The encoding of a table's columns; None if rows are not encoded."""
        return cast("TableColumns", self.preparation) if hasattr(self.preparation, "column_problems") else None

    @staticmethod
    def _encoded(found: "Encoded") -> Prepared:
        problems: dict[int, str] = {}
        for cell in found.unreadable:
            problems.setdefault(cell.row, cell.told)
        unusual = Counter({f"an unknown category in column {name!r}": n for name, n in found.unknown.items()})
        unusual += Counter({f"no value in column {name!r}": n for name, n in found.missing.items()})
        return Prepared(found.x, problems, unusual)

    def _from_rows(self, x: Array, problems: dict[int, str], names: Sequence[str]) -> Prepared:
        for row, place in np.argwhere(~np.isfinite(x)):
            told = "is empty" if np.isnan(x[row, place]) else f"holds {x[row, place]}"
            problems.setdefault(int(row), f"column {names[place]} {told}")
        with np.errstate(over="ignore"):
            made = (
                x.astype(np.float32) if self.preparation is None else cast(Preparation, self.preparation).transform(x)
            )
            rows: Array = np.asarray(made)
        for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
            place = int(np.flatnonzero(~np.isfinite(rows[row]))[0])
            problems.setdefault(
                int(row), f"column {names[place]} holds {x[row, place]:g}, too far from the training rows"
            )
        return Prepared(rows, problems)


def _kind(preparation: object) -> str:
    made_by = f"{type(preparation).__module__}.{type(preparation).__qualname__}"
    return next((name for name, target in PREPARATIONS.items() if target == made_by), made_by)


def _listed(values: Sequence[Any]) -> str:
    more = f", and {len(values) - _MOST_NAMES} more" if len(values) > _MOST_NAMES else ""
    return ", ".join(map(str, values[:_MOST_NAMES])) + more
