"""Read table cells as numbers or text, in the same way for every file format and regardless of neighboring cells."""

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Spellings of a missing number, as in pandas. In a text column only an empty cell is missing, since NA may be a name.
MISSING_WORDS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
    *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
# A text column is boolean if it holds only the words of one of these pairs, in upper or lower case.
BOOLEAN_PAIRS = (("false", "true"), ("no", "yes"))
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE)

# A number with a decimal comma, or with commas between thousands.
_WITH_COMMA = re.compile(r"[+-]?(\d{0,3}(\.\d{3})+|\d*),\d+(e[+-]?\d+)?|[+-]?\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII | re.I)

_BOOLEANS = {word: float(i) for pair in (*BOOLEAN_PAIRS, ("0", "1")) for i, word in enumerate(pair)}

Arrow = Any


def numbers_or_text(cells: Arrow) -> Arrow:
    """Convert Arrow text to float64 if each cell is a number or missing, and otherwise to trimmed text.

    Args:
        cells: an arrow array of text; a missing cell is null, empty, or one of ``MISSING_WORDS``.

    Returns:
        An arrow array of float64, correctly rounded, with null or NaN for missing; or the result of :func:`trimmed`.
    """
    try:
        return _parsed(cells)
    except pa.ArrowInvalid:
        text = trimmed(cells)
    try:
        return _parsed(_without_missing_words(text))
    except pa.ArrowInvalid:
        return text


def trimmed(cells: Arrow) -> Arrow:
    """Arrow text without surrounding white space; an empty cell becomes null."""
    text = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)


def text_in(cells: "pd.Series[Any]") -> Arrow:
    """The cells as text, as a user would type them.

    Returns:
        An arrow array of trimmed text; null for missing cells.
    """
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(cells.dtype.categories.dtype)
    if not isinstance(cells.dtype, pd.StringDtype):
        cells = cells.astype(object).map(shown, na_action="ignore")
    array = pa.array(cells, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return trimmed(array.cast(pa.large_string()))


def numbers_in(cells: "pd.Series[Any]") -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The cells as numbers.

    Returns:
        The values, float64 (N,), NaN where there is none; and whether each cell holds something other than a number,
        bool (N,).
    """
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(len(cells), dtype=bool)
    text = _without_missing_words(text_in(cells))
    try:
        values: npt.NDArray[np.float64] = _parsed(text).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return _coded(text, lambda spelling: float(spelling) if _NUMBER.fullmatch(spelling) else None)
    return values, np.isnan(values) & text.is_valid().to_numpy(zero_copy_only=False)


def as_booleans(cells: "pd.Series[Any]") -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Convert booleans, words of ``BOOLEAN_PAIRS``, or 0 and 1 to numbers.

    Returns:
        0 or 1, float64 (N,), NaN where there is none; and whether each cell holds something else, bool (N,).
    """
    if pd.api.types.is_numeric_dtype(cells.dtype):
        numbers = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        unreadable = ~(np.isnan(numbers) | np.isin(numbers, (0, 1)))
        return np.where(unreadable, np.nan, numbers), unreadable
    return _coded(_without_missing_words(text_in(cells)), lambda spelling: _BOOLEANS.get(spelling.lower()))


def are_booleans(texts: Collection[str]) -> bool:
    """Whether texts are only the words of one of ``BOOLEAN_PAIRS``, in upper or lower case.

    >>> are_booleans({"Yes", "no"}), are_booleans({"yes", "true"})
    (True, False)
    """
    folded = {text.lower() for text in texts}
    return any(folded <= {*pair} for pair in BOOLEAN_PAIRS)


def has_comma(text: str) -> bool:
    """Whether a text is a number with a decimal comma, or with commas between thousands.

    >>> [has_comma(text) for text in ("63,39", "-,5", "1.234,5", "1,234,567.8", "1.5", "1,2,3", "a,5")]
    [True, True, True, True, False, False, False]
    """
    return bool(_WITH_COMMA.fullmatch(text))


def why_no_number(text: str) -> str:
    """Why the text of a cell cannot be used in a column of numbers, as a relative clause."""
    if has_comma(text):
        return "which has a comma; write a decimal point, and nothing between thousands"
    if not _NUMBER.fullmatch(text):
        return "which is not a number"
    return "which is " + ("not finite" if "inf" in text.lower() else "out of range: too far from the training rows")


def why_no_boolean(text: str) -> str:
    """Why the text of a cell cannot be used in a column of booleans, as a relative clause.

    >>> why_no_boolean("maybe")
    'which is neither true, yes or 1 nor false, no or 0'
    """
    no, yes = ([word for word, value in _BOOLEANS.items() if value == wanted] for wanted in (0, 1))
    return f"which is neither {', '.join(yes[:-1])} or {yes[-1]} nor {', '.join(no[:-1])} or {no[-1]}"


def shown(cell: object) -> str:
    """A cell as a user would type it: 3 for 3.0."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer() and abs(float(cell)) < 2**53:
        return str(int(cell))
    return str(cell)


def _parsed(text: Arrow) -> Arrow:
    # A failing cast is slow, since its message covers every cell; most text already fails within the first ones.
    text.slice(0, 64).cast(pa.float64())
    return text.cast(pa.float64())


def _without_missing_words(text: Arrow) -> Arrow:
    missing = pc.is_in(text, value_set=pa.array(MISSING_WORDS, text.type))
    return pc.if_else(missing, pa.scalar(None, text.type), text)


def _coded(
    text: Arrow, value_of: Callable[[str], float | None]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The value of each cell, computed once per distinct text, and which cells with text have no value."""
    coded = text.dictionary_encode()
    found = [value_of(spelling) for spelling in coded.dictionary.to_pylist()]
    # One more entry for missing cells, whose code is -1.
    values = np.array([np.nan if value is None else value for value in found] + [np.nan])
    unreadable = np.array([value is None for value in found] + [False])
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return values[codes], unreadable[codes]
