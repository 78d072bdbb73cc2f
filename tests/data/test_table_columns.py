"""Columns of a table as numbers: learned from training rows only; unusual cells are reported, bad columns refused."""

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.scaling import Method, Scaling
from deepsad_pl.data.table_cells import MISSING_WORDS
from deepsad_pl.data.table_columns import OutputColumn, TableColumns, Unreadable

METHODS: list[Method] = ["zscore", "minmax"]
TRAIN = pd.DataFrame(
    {
        "color": ["red", "blue", None, "red"],
        "age": [1.0, np.nan, 3.0, 8.0],
        "ok": ["Yes", "no", "no", "yes"],
        "shape": ["round", "flat", "flat", "flat"],
        "size": [10, 20, 30, 40],
    }
)


def encode(train: pd.DataFrame, rows: pd.DataFrame | None = None, scaling: Method = "minmax") -> np.ndarray:
    encoded = TableColumns.fit(train, scaling=scaling).transform(train if rows is None else rows)
    assert encoded.unreadable == []
    return encoded.x


def problems_of(frame: pd.DataFrame) -> list[str]:
    with pytest.raises(DeepSADError) as caught:
        TableColumns.fit(frame, scaling="zscore")
    return caught.value.problems


def test_scaled_columns_come_first_then_categories_and_empty_cells_by_column() -> None:
    columns = TableColumns.fit(TRAIN, scaling="minmax")
    assert columns.names == ["color", "age", "ok", "shape", "size"]
    assert columns.text == ["color", "ok", "shape"]
    assert [tuple(source) for source in columns.sources] == [
        ("age", "age"),
        ("ok", "ok"),
        ("size", "size"),
        ("color", "color=blue"),
        ("color", "color=red"),
        ("color", "color is missing"),
        ("age", "age is missing"),
        ("shape", "shape=flat"),
        ("shape", "shape=round"),
    ]
    assert columns.width == 9
    encoded = columns.transform(TRAIN)
    assert encoded.x.dtype == np.float32
    assert encoded.x == pytest.approx(
        np.array(
            [
                [0, 1, 0, 0, 1, 0, 0, 0, 1],
                [2 / 7, 0, 1 / 3, 1, 0, 0, 1, 1, 0],  # the median of 1, 3, 8 is 3
                [2 / 7, 0, 2 / 3, 0, 0, 1, 0, 1, 0],
                [1, 1, 1, 0, 1, 0, 0, 1, 0],
            ]
        )
    )
    assert (encoded.unreadable, encoded.unknown, encoded.missing) == ([], {}, {})


def test_unseen_values_are_counted_and_unreadable_cells_named() -> None:
    columns = TableColumns.fit(TRAIN, scaling="minmax")
    rows = pd.DataFrame(
        {
            "size": ["10", "ten", None, "40"],
            "shape": ["oval", "flat", None, "flat"],
            "ok": ["yes", "maybe", None, "no"],
            "age": [1e300, 1.0, None, 1.0],
            "color": ["green", "red", None, "green"],
        }
    )
    encoded = columns.transform(rows)
    assert encoded.unreadable == [
        Unreadable(0, "age", "1e+300"),
        Unreadable(1, "ok", "maybe", "boolean"),
        Unreadable(1, "size", "ten"),
    ]
    assert [cell.told for cell in encoded.unreadable] == [
        "column 'age' holds '1e+300', which is out of range: too far from the training rows",
        "column 'ok' holds 'maybe', which is neither true, yes or 1 nor false, no or 0",
        "column 'size' holds 'ten', which is not a number",
    ]
    assert encoded.unknown == {"color": 2, "shape": 1}
    assert encoded.missing == {"size": 1, "ok": 1, "shape": 1}
    assert np.isnan(encoded.x[:2]).all()
    # Medians: age 3, ok 1/2, size 25.
    assert encoded.x[2] == pytest.approx([2 / 7, 0.5, 0.5, 0, 0, 1, 1, 0, 0])
    assert encoded.x[3] == pytest.approx([0, 0, 1, 0, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "1,5", "0x1F", "1_000", "\u0661", "nan(x)", math.inf])
def test_cells_that_are_not_finite_numbers_are_unreadable(cell: object) -> None:
    columns = TableColumns.fit(pd.DataFrame({"a": [1.0, 2.0]}), scaling="zscore")
    for others in ([], ["x"], [None, "+2"]):
        encoded = columns.transform(pd.DataFrame({"a": pd.Series([cell, *others], dtype=object)}))
        assert encoded.unreadable[0] == Unreadable(0, "a", str(cell))
        assert np.isnan(encoded.x[0]).all()


def test_numbers_in_text_are_numbers() -> None:
    text = pd.DataFrame({"a": ["1", "+2.5", " 3 ", "", "NA", "-.5e1"]})
    numbers = pd.DataFrame({"a": [1, 2.5, 3, None, None, -5]})
    assert np.array_equal(encode(text), encode(numbers))
    assert TableColumns.fit(text, scaling="minmax") == TableColumns.fit(numbers, scaling="minmax")


@pytest.mark.parametrize(
    "cells",
    [
        [True, False, True],
        ["true", "false", "TRUE"],
        ["Yes", "NO", "yes"],
        pd.array([True, False, True], dtype="boolean"),
    ],
)
def test_booleans_are_scaled_like_numbers(cells: Any) -> None:
    assert encode(pd.DataFrame({"a": cells})).tolist() == [[1], [0], [1]]
    assert encode(pd.DataFrame({"a": cells}), pd.DataFrame({"a": [0, 1]})).tolist() == [[0], [1]]
    assert encode(pd.DataFrame({"a": cells}), scaling="zscore")[:, 0] == pytest.approx(
        [math.sqrt(0.5), -math.sqrt(2), math.sqrt(0.5)]
    )


def test_a_constant_column_is_0() -> None:
    train = pd.DataFrame({"a": [5.5] * 30, "b": ["yes"] * 30, "c": np.arange(30) * 2.0})
    assert not encode(train, scaling="zscore")[:, :2].any()


def test_pandas_categories_count_as_their_values() -> None:
    frame = pd.DataFrame({"a": pd.Categorical(["u", "v", None]), "b": pd.Categorical([1, 2, 4])})
    plain = pd.DataFrame({"a": ["u", "v", None], "b": [1, 2, 4]})
    assert np.array_equal(encode(frame), encode(plain))


@pytest.mark.parametrize("rows", [1, 20])
def test_a_few_rows_may_all_differ(rows: int) -> None:
    assert (
        encode(pd.DataFrame({"a": [f"n{i}" for i in range(rows)]})).tolist()
        == np.eye(rows)[np.argsort(np.argsort([f"n{i}" for i in range(rows)]))].tolist()
    )


DATES = [
    *("2024-01-31", "2024-01-31 10:20", "2024-01-31T10:20:30.5Z", "2024-01-31 10:20:30+02:00", "31.1.2024"),
    *("01/31/2024", "2024/01/31", "31-01-24", "12:30", "12:30:15", "31 Jan 2024", "Jan 31, 2024", "05-Feb-24"),
    "1/31/2024 3:20 PM",
]


@pytest.mark.parametrize("date", DATES)
def test_a_column_of_dates_is_refused(date: str) -> None:
    (problem,) = problems_of(pd.DataFrame({"when": [date, None, date]}))
    assert problem == (
        f"column 'when' holds dates or times, such as {date!r}; turn them into numbers, such as days since a fixed "
        "date, or leave the column out: dataset.drop=[when]"
    )


@pytest.mark.parametrize(
    "cells",
    [
        pd.to_datetime(["2024-01-31", None]),
        pd.to_timedelta([3, 4], unit="s"),
        np.array([20240131, 20240201]),
        pd.Series([pd.Timestamp("2024-01-31").date(), None]),
    ],
)
def test_date_types_and_whole_numbers_that_are_dates_are_refused(cells: Any) -> None:
    (problem,) = problems_of(pd.DataFrame({"when": cells}))
    assert problem.startswith("column 'when' holds dates or times, such as '")


@pytest.mark.parametrize(
    "cells", [["1.2.3", "1.10.2"], ["10-20", "20-30"], [20240131, 20241331], [20240131] * 2, ["3/4", "5/8"]]
)
def test_versions_ranges_and_other_numbers_are_not_dates(cells: list[object]) -> None:
    columns = TableColumns.fit(pd.DataFrame({"a": cells}), scaling="zscore")
    assert columns.names == ["a"]


def test_all_columns_that_cannot_be_learned_from_are_named_at_once_with_the_way_out() -> None:
    rows = 202
    frame = pd.DataFrame(
        {
            "part no": [f"P-{i:04}" for i in range(rows)],
            "town": [f"town {i // 2}" for i in range(rows)],
            "row": np.arange(rows) + 1,
            "partId": np.random.default_rng(0).permutation(rows) * 3,
            "empty": [None] * rows,
            "words": [""] * rows,
            "weight": [*range(2, 2 * rows, 2), "n.v."],
            "ratio": [1.0] * (rows - 2) + [np.inf] * 2,
            "fine": np.arange(rows) ** 2,
        }
    )
    leave = "leave the column out: dataset.drop="
    assert problems_of(frame) == [
        "column 'part no' has 202 different texts in 202 rows, more than 50% of these, such as 'P-0000' and 'P-0001'; "
        f'set dataset.id="part no" if it names the rows, or {leave}["part no"]',
        "column 'town' has 101 different texts in 202 rows, more than 100 categories, such as 'town 0' and 'town 1'; "
        f"set dataset.id=town if it names the rows, or {leave}[town]",
        f"column 'row' seems to number the rows, such as '1' and '2'; set dataset.id=row, or {leave}[row]",
        f"column 'partId' seems to number the rows, such as '{frame['partId'][0]}' and '{frame['partId'][1]}'; set "
        f"dataset.id=partId, or {leave}[partId]",
        f"column 'empty' has no value in the 202 training rows; {leave}[empty]",
        f"column 'words' has no value in the 202 training rows; {leave}[words]",
        "column 'weight' has numbers in most rows but text in 1, such as 'n.v.' in row 201, counted from 0; correct "
        f"these cells or leave them empty, or {leave}[weight]",
        f"column 'ratio' has infinite values in 2 training rows; correct them or leave them empty, or {leave}[ratio]",
    ]


def test_a_running_number_is_recognized_without_the_test_rows() -> None:
    frame = pd.DataFrame({"row": np.arange(100) + 7, "x": np.arange(100) ** 2})
    train = frame.iloc[np.sort(np.random.default_rng(0).permutation(100)[:60])]
    assert "column 'row' seems to number the rows" in problems_of(train)[0]
    TableColumns.fit(frame.assign(row=frame["row"] * 2), scaling="zscore")
    TableColumns.fit(frame.iloc[:20], scaling="zscore")


@pytest.mark.parametrize("frame", [pd.DataFrame({"a": []}), pd.DataFrame(index=range(3))])
def test_a_table_without_rows_or_columns_is_an_error(frame: pd.DataFrame) -> None:
    assert "to learn from; at least one of each is needed" in problems_of(frame)[0]


def test_other_columns_are_reported_before_any_row() -> None:
    columns = TableColumns.fit(TRAIN, scaling="zscore")
    assert columns.column_problems(["size", "shape", "ok", "age", "color"]) == []
    assert columns.column_problems(["id", "size", "shape", "ok", "age", "color"], known=["id", "label"]) == []
    assert columns.column_problems(["sizes", "shape", "ok", "color", "id"], known=["id"]) == [
        "the training table's column 'age' is missing; add it",
        "the training table's column 'size' is missing; did you mean sizes?",
        "column 'sizes' was not in the training table; leave it out",
    ]
    with pytest.raises(DeepSADError, match="the training table's column 'age' is missing; add it"):
        columns.transform(TRAIN.drop(columns="age"))
    assert np.array_equal(columns.transform(TRAIN.assign(id=1)).x, columns.transform(TRAIN).x)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float)
WORDS = st.sampled_from(["red", "blue", "green", "NA", "1", "01"])


@st.composite
def tables(draw: st.DrawFn, min_rows: int = 1) -> pd.DataFrame:
    """Rows of two numbers, a boolean and two categories, with empty cells, and with text in a number column."""
    rows = draw(st.integers(min_rows, 12))

    def cells(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    return pd.DataFrame(
        {
            "n": pd.Series(cells(NUMBERS | st.none()), dtype="float64"),
            "m": pd.Series(cells(NUMBERS.map(repr) | st.sampled_from(["", "NA", "?"])), dtype=object),
            "b": pd.Series(cells(st.sampled_from(["yes", "NO", None])), dtype=object),
            "c": pd.Series(cells(WORDS | st.none()), dtype=object),
        }
    )


def training(draw_from: pd.DataFrame) -> pd.DataFrame:
    """The table, changed so that its columns can be learned from: a value in each, and no text in a number column."""
    first = pd.DataFrame({"n": [2.0], "m": ["1.5"], "b": ["yes"], "c": ["red"]})
    frame = pd.concat([first, draw_from], ignore_index=True)
    return frame.assign(m=frame["m"].replace("?", "3"))


def number_of(cell: Any) -> float | str | None:
    """A cell as a number; None if it is missing, its text if it is not a number."""
    if cell is None or cell != cell or cell in MISSING_WORDS:
        return None
    if cell in ("yes", "NO"):
        return float(cell == "yes")
    return cell if cell == "?" else float(cell)


def encoded_by_cell(train: pd.DataFrame, rows: pd.DataFrame, scaling: Method) -> tuple[Any, ...]:
    """The encoding of ``tables`` by the rules, cell by cell."""
    x: list[list[float]] = [[] for _ in range(len(rows))]
    unreadable: set[tuple[int, str, str]] = set()
    unknown: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for name in ("n", "m", "b"):
        known = [number_of(cell) for cell in train[name]]
        values = sorted(value for value in known if isinstance(value, float))
        low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
        median = low if low == high else float(np.median([low, high]))
        median = median if math.isfinite(median) else 2 * (low / 4 + high / 4)
        fitted = Scaling.fit(np.array([median if v is None else v for v in known], dtype=float)[:, None], scaling)
        for row, cell in enumerate(rows[name]):
            value = number_of(cell)
            missing[name] += value is None and None not in known
            value = median if value is None else value
            scaled = fitted.transform(np.array([[value]]))[0, 0] if isinstance(value, float) else math.nan
            if not math.isfinite(scaled):
                unreadable.add((row, name, str(cell)))
            x[row].append(float(scaled))
    for name in ("n", "m", "b"):
        if None in [number_of(cell) for cell in train[name]]:
            for row, cell in enumerate(rows[name]):
                x[row].append(float(number_of(cell) is None))
    words = sorted({cell for cell in train["c"] if cell is not None})
    for row, cell in enumerate(rows["c"]):
        x[row] += [float(cell == word) for word in words]
        if None in [*train["c"]]:
            x[row].append(float(cell is None))
        else:
            missing["c"] += cell is None
        unknown["c"] += cell is not None and cell not in words
    bad = {row for row, _, _ in unreadable}
    expected = np.array([[math.nan] * len(values) if row in bad else values for row, values in enumerate(x)])
    return expected, unreadable, {k: v for k, v in unknown.items() if v}, {k: v for k, v in missing.items() if v}


@settings(max_examples=150, deadline=None)
@given(seen=tables(), rows=tables(), scaling=st.sampled_from(METHODS))
def test_rows_are_encoded_like_by_a_plain_loop_over_cells(
    seen: pd.DataFrame, rows: pd.DataFrame, scaling: Method
) -> None:
    train = training(seen)
    columns = TableColumns.fit(train, scaling=scaling)
    encoded = columns.transform(rows)
    x, unreadable, unknown, missing = encoded_by_cell(train, rows, scaling)
    assert encoded.x.shape == x.shape
    assert np.array_equal(encoded.x, x.astype(np.float32), equal_nan=True)
    assert {(cell.row, cell.column) for cell in encoded.unreadable} == {(row, name) for row, name, _ in unreadable}
    assert encoded.unreadable == sorted(encoded.unreadable, key=lambda cell: (cell.row, "nmb".index(cell.column)))
    assert (encoded.unknown, encoded.missing) == (unknown, missing)


@settings(max_examples=60, deadline=None)
@given(seen=tables(), rows=tables(), scaling=st.sampled_from(METHODS))
def test_an_encoding_survives_json_to_the_bit(seen: pd.DataFrame, rows: pd.DataFrame, scaling: Method) -> None:
    columns = TableColumns.fit(training(seen), scaling=scaling)
    again = TableColumns.from_dict(json.loads(json.dumps(columns.as_dict())))
    assert again == columns
    assert again.sources == columns.sources
    found, expected = again.transform(rows), columns.transform(rows)
    assert found.x.tobytes() == expected.x.tobytes()
    assert found.unreadable == expected.unreadable


@settings(max_examples=60, deadline=None)
@given(seen=tables(), rows=tables(), order=st.permutations(["n", "m", "b", "c"]), cut=st.integers(0, 12))
def test_neither_the_order_of_columns_nor_the_other_rows_change_a_row(
    seen: pd.DataFrame, rows: pd.DataFrame, order: list[str], cut: int
) -> None:
    columns = TableColumns.fit(training(seen), scaling="zscore")
    x = columns.transform(rows).x
    assert columns.transform(rows[order]).x.tobytes() == x.tobytes()
    parts = [columns.transform(part).x for part in (rows.iloc[:cut], rows.iloc[cut:])]
    assert np.concatenate(parts).tobytes() == x.tobytes()


def test_rows_beyond_one_block_are_encoded_and_named_alike() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=20_000), "c": rng.choice(["u", "v"], 20_000)})
    columns = TableColumns.fit(frame, scaling="zscore")
    x = columns.transform(frame).x
    expected = (frame["a"] - frame["a"].mean()) / frame["a"].std(ddof=0)
    assert x[:, 0] == pytest.approx(expected.to_numpy(), abs=1e-6)
    assert np.array_equal(x[:, 1:], np.stack([frame["c"] == "u", frame["c"] == "v"], axis=1))
    text = frame.assign(a=frame["a"].map(repr))
    text.loc[19_999, "a"] = "?"
    encoded = columns.transform(text)
    assert encoded.unreadable == [Unreadable(19_999, "a", "?")]
    assert encoded.x[:-1].tobytes() == x[:-1].tobytes()


def test_medians_in_the_middle_of_the_largest_numbers_do_not_overflow() -> None:
    columns = TableColumns.fit(pd.DataFrame({"a": [1.6e308, 1.7e308, None]}), scaling="zscore")
    assert columns.columns[0].fill == pytest.approx(1.65e308)
    assert columns.sources == (OutputColumn("a", "a"), OutputColumn("a", "a is missing"))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("inf", "which is not finite"),
        ("1e999", "which is out of range: too far from the training rows"),
        ("1,5", "which has a comma; write a decimal point, and nothing between thousands"),
        ("0x1F", "which is not a number"),
        ("1,5 kg", "which is not a number"),
    ],
)
def test_it_is_told_why_a_cell_cannot_be_read(cell: str, why: str) -> None:
    columns = TableColumns.fit(pd.DataFrame({"a": [1.0, 2.0]}), scaling="zscore")
    (unreadable,) = columns.transform(pd.DataFrame({"a": [cell]})).unreadable
    assert unreadable.told == f"column 'a' holds {cell!r}, {why}"


@pytest.mark.parametrize("cells", [["63,39", "7", "", "-,5"], ["1.234,5", "NA"], ["1,234,567.8", "1,000"]])
@pytest.mark.parametrize("copies", [1, 30])
def test_numbers_with_commas_are_neither_categories_nor_names(cells: list[str], copies: int) -> None:
    (problem,) = problems_of(pd.DataFrame({"t": cells * copies}))
    assert problem.startswith(f"column 't' holds numbers with commas, such as {cells[0]!r}")
    assert problem.endswith(
        "; write a decimal point and nothing between thousands, as in 1234.5, or leave the column out: dataset.drop=[t]"
    )


def test_text_beside_numbers_with_commas_is_a_category() -> None:
    assert TableColumns.fit(pd.DataFrame({"a": ["1,5", "low"]}), scaling="zscore").columns[0].kind == "category"
