"""Decide whether a column of a table holds numbers, booleans or categories, or nothing that can be learned from."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deepsad_pl.common.counting import counted
from deepsad_pl.data.table_cells import MISSING_WORDS, are_booleans, has_comma, numbers_in, shown, text_in

Kind = Literal["number", "boolean", "category"]

# A text column with more distinct texts is not a category.
MOST_CATEGORIES = 100
# Nor is one with more than this share of distinct texts, if it has more than this many filled cells.
NEARLY_UNIQUE_SHARE, NEARLY_UNIQUE_ROWS = 0.5, 20

_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[ap]m)?"
_ZONE = r" ?(z|utc|[+-]\d{2}:?\d{2})"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = "|".join(
    (
        r"\d{4}-\d{1,2}-\d{1,2}",
        r"\d{4}[/.]\d{1,2}[/.]\d{1,2}",
        r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}",
        r"\d{2}[/.-]\d{2}[/.-]\d{2}",
        rf"\d{{1,2}}[ .-]+{_MONTH}[ -]\d{{2,4}}",
        rf"{_MONTH} \d{{1,2}},? \d{{4}}",
    )
)
_DATE = re.compile(rf"({_DAY})([t ] ?{_TIME})?({_ZONE})?|{_TIME}({_ZONE})?", re.ASCII | re.IGNORECASE)
# The last two are what pandas calls an index that it writes into a file.
_NAMED_LIKE_AN_ID = re.compile(
    r"(^|[\W_])(id|uuid|guid)$|[a-z](Id|ID|UUID|GUID)$|^__index_level_\d+__$|^Unnamed: \d+$", re.ASCII
)
_NAMED_LIKE_AN_ID_ALONE = re.compile(r"id|uuid|guid", re.IGNORECASE)


class NoFeatureError(Exception):
    """Raised if a column cannot be learned from; the message is one sentence with the way out."""


def kind_of(name: str, cells: "pd.Series[Any]", *, named: bool = False) -> Kind:
    """The kind of a column of training rows.

    A column of numbers has numeric cells, or text that is a number in each cell. A column of booleans has boolean
    cells, or only the words of one of ``BOOLEAN_PAIRS``. Other text is a category.

    Args:
        name: name of the column.
        cells: at least one cell; the index has the rows' original positions, by which running numbers are recognized.
        named: whether another column has the names of the rows; if so, messages do not suggest this one for them.

    Raises:
        NoFeatureError: if the column is empty, or holds infinite numbers, numbers with commas, dates, running numbers,
            or too varied text.
    """
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(cells.dtype.categories.dtype)
    if cells.isna().all():
        raise NoFeatureError(_is_empty(name, cells))
    if pd.api.types.is_bool_dtype(cells.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(cells.dtype):
        _check_numbers(name, cells, numbers_in(cells)[0], named)
        return "number"
    if not (pd.api.types.is_string_dtype(cells.dtype) or cells.dtype == object):
        raise NoFeatureError(_is_a_date(name, [shown(cell) for cell in cells.dropna().head(2)]))
    return _kind_of_text(name, cells, named)


def kind_of_numbers(name: str, cells: "pd.Series[Any]") -> Kind:
    """Check a column of a numeric array; its kind is a number, even if the values look like dates or running numbers.

    Args:
        name: name of the column.
        cells: at least one number.

    Raises:
        NoFeatureError: if the column is empty or holds infinite numbers.
    """
    if cells.isna().all():
        raise NoFeatureError(f"column {name!r} has no value in the {len(cells)} training rows; {_drop(name)}")
    _check_finite(name, cells, numbers_in(cells)[0])
    return "number"


def _kind_of_text(name: str, cells: "pd.Series[Any]", named: bool) -> Kind:
    text = text_in(cells)
    spellings: list[str] = pc.unique(text).drop_null().to_pylist()
    values = [spelling for spelling in spellings if spelling not in MISSING_WORDS]
    if not values:
        raise NoFeatureError(_is_empty(name, cells))
    if are_booleans(values):
        return "boolean"
    numbers, unreadable = numbers_in(cells)
    if not unreadable.any():
        _check_numbers(name, cells, numbers, named)
        return "number"
    if all(_DATE.fullmatch(value) for value in values):
        raise NoFeatureError(_is_a_date(name, values))
    strange = text.filter(pa.array(unreadable)).unique().to_pylist()
    if all(map(has_comma, strange)):
        raise NoFeatureError(
            f"column {name!r} holds numbers with commas{_such_as(strange)}; write a decimal point and nothing between "
            f"thousands, as in 1234.5, or {_drop(name)}"
        )
    filled = len(text) - text.null_count
    nearly_unique = filled > NEARLY_UNIQUE_ROWS and len(spellings) > NEARLY_UNIQUE_SHARE * filled
    if not nearly_unique and len(spellings) <= MOST_CATEGORIES:
        return "category"
    if (wrong := int(unreadable.sum())) <= 0.5 * filled:
        row = int(np.flatnonzero(unreadable)[0])
        raise NoFeatureError(
            f"column {name!r} has numbers in most rows but text in {wrong}, such as {text[row].as_py()!r} in row "
            f"{cells.index[row]}, counted from 0; correct these cells or leave them empty, or {_drop(name)}"
        )
    limit = f"more than {MOST_CATEGORIES} categories"
    if nearly_unique:
        limit = f"more than {NEARLY_UNIQUE_SHARE:.0%} of these"
    way_out = "" if named else f"set dataset.id={quoted(name)} if it names the rows, or "
    raise NoFeatureError(
        f"column {name!r} has {len(spellings)} different texts in {filled} rows, {limit}{_such_as(spellings)}; "
        f"{way_out}{_drop(name)}"
    )


def _check_finite(name: str, cells: "pd.Series[Any]", numbers: npt.NDArray[np.float64]) -> None:
    if (infinite := int(np.isinf(numbers).sum())) > 0:
        raise NoFeatureError(
            f"column {name!r} has infinite values in {counted(infinite, 'training row')}; correct them or leave them "
            f"empty, or {_drop(name)}"
        )


def _check_numbers(name: str, cells: "pd.Series[Any]", numbers: npt.NDArray[np.float64], named: bool) -> None:
    _check_finite(name, cells, numbers)
    if _are_dates(numbers):
        raise NoFeatureError(_is_a_date(name, [shown(value) for value in numbers[np.isfinite(numbers)][:2]]))
    if np.isnan(numbers).any() or len(numbers) <= NEARLY_UNIQUE_ROWS or (numbers != np.floor(numbers)).any():
        return
    if _is_running(numbers, cells.index) or (_is_named_like_an_id(name) and len(np.unique(numbers)) == len(numbers)):
        way_out = "" if named else f"set dataset.id={quoted(name)}, or "
        raise NoFeatureError(
            f"column {name!r} seems to number the rows{_such_as([shown(value) for value in numbers[:2]])}; {way_out}"
            f"{_drop(name)}"
        )


def _is_running(numbers: npt.NDArray[np.float64], index: "pd.Index[Any]") -> bool:
    if (np.diff(numbers) == 1).all():
        return True
    # If some rows are in the test part, the numbers of the others still differ from their positions by a constant.
    if not pd.api.types.is_integer_dtype(index.dtype):
        return False
    positions = index.to_numpy(dtype=np.float64)
    return bool((np.diff(positions) > 0).all() and (np.diff(numbers - positions) == 0).all())


def _is_named_like_an_id(name: str) -> bool:
    return bool(_NAMED_LIKE_AN_ID.search(name) or _NAMED_LIKE_AN_ID_ALONE.fullmatch(name))


def _are_dates(numbers: npt.NDArray[np.float64]) -> bool:
    """Whether all numbers are days of 1900 to 2099 written as 20240131, and not all of them are equal."""
    numbers = numbers[~np.isnan(numbers)]
    if not ((numbers >= 19000101) & (numbers <= 20991231)).all() or (numbers == numbers[0]).all():
        return False
    month, day = numbers // 100 % 100, numbers % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (day == np.floor(day))).all())


def _is_a_date(name: str, examples: Sequence[str]) -> str:
    return (
        f"column {name!r} holds dates or times{_such_as(examples)}; turn them into numbers, such as days since a fixed "
        f"date, or {_drop(name)}"
    )


def _is_empty(name: str, cells: "pd.Series[Any]") -> str:
    return f"column {name!r} has no value in the {counted(len(cells), 'training row')}; {_drop(name)}"


def _such_as(examples: Sequence[str]) -> str:
    return f", such as {' and '.join(repr(e if len(e) <= 40 else f'{e[:40]}...') for e in examples[:2])}"


def _drop(name: str) -> str:
    return f"leave the column out: dataset.drop=[{quoted(name)}]"


def quoted(name: str) -> str:
    """A name, quoted if Hydra's command line needs it."""
    if re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
