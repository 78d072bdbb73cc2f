"""Scaled columns of tables are correct at every magnitude, or refused by column."""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planned import plan_of
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from tiny_data import table_of, write_table

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.odds import ODDS_FILES, load_odds
from deepsad_pl.data.scaling import Method, Scaling
from deepsad_pl.data.sources import as_source, split_rows, standardize, table_source
from deepsad_pl.experiment.build import load_data


def test_zscore_is_fitted_on_the_training_rows_only() -> None:
    x, y = table_of(100, 4, 30)
    x[:, 1] *= 1000
    train, test = split_rows(y, 5)
    source = table_source(x, y, 5, "zscore")
    mean, std = x[train].mean(0), x[train].std(0)
    assert source.x_train == pytest.approx((x[train] - mean) / std, abs=1e-5)
    assert source.x_test == pytest.approx((x[test] - mean) / std, abs=1e-5)
    assert source.x_train.mean(0) == pytest.approx(np.zeros(4), abs=1e-6)
    assert source.x_train.std(0) == pytest.approx(np.ones(4), abs=1e-6)
    assert np.array_equal(source.labels_train, y[train])
    assert np.array_equal(source.labels_test, y[test])


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
@pytest.mark.parametrize("constant", [0.0, 7.0, 1e9, 0.1])
def test_a_constant_column_is_divided_by_1(scaling: str, constant: float) -> None:
    x_train, x_test = np.full((20, 1), constant), np.full((3, 1), constant + 2)
    train, test = standardize(x_train, x_test, scaling)
    assert train == pytest.approx(np.zeros((20, 1)), abs=1e-6)
    assert test == pytest.approx(np.full((3, 1), 2.0), abs=1e-6)


def test_minmax_puts_the_training_rows_between_0_and_1() -> None:
    x, y = table_of(100, 4, 30)
    train, test = split_rows(y, 0)
    source = table_source(x, y, 0, "minmax")
    low, high = x[train].min(0), x[train].max(0)
    assert source.x_train == pytest.approx((x[train] - low) / (high - low), abs=1e-6)
    assert source.x_test == pytest.approx((x[test] - low) / (high - low), abs=1e-6)


FLOAT32_MAX = float(np.finfo(np.float32).max)

# Of all magnitudes, also close to each other but far from 0.
MAGNITUDES = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1, 1) | st.integers(-4, 4).map(float)
COLUMNS = st.lists(MAGNITUDES, min_size=2, max_size=12) | st.builds(
    lambda offset, steps: [offset + step * math.ulp(offset) for step in steps],
    st.sampled_from([1.7e18, 0.1, 1e9, -1e300, 1e-300]),
    st.lists(st.integers(-3, 3), min_size=2, max_size=12),
)


def exactly_scaled(train: list[float], values: list[float], scaling: str) -> list[float]:
    """The definition in rational numbers; only its square root is rounded."""
    rows = [Fraction(value) for value in train]
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / len(rows)
    if not variance:
        return [float(Fraction(value) - rows[0]) for value in values]
    if scaling == "minmax":
        return [float((Fraction(value) - min(rows)) / (max(rows) - min(rows))) for value in values]
    squares = [(Fraction(value) - mean) ** 2 / variance for value in values]
    # The difference itself may be too large for a float.
    signs = [1 if Fraction(value) >= mean else -1 for value in values]
    return [sign * math.sqrt(square) for sign, square in zip(signs, squares, strict=True)]


@settings(max_examples=100, deadline=None)
@given(train=COLUMNS, scaling=st.sampled_from(["zscore", "minmax"]))
def test_training_rows_of_every_magnitude_are_scaled_correctly(train: list[float], scaling: str) -> None:
    x = np.array(train)[:, None]
    if len(set(train)) > 1:
        found, again = standardize(x, x, scaling)
        assert found[:, 0] == pytest.approx(exactly_scaled(train, train, scaling), rel=1e-6, abs=1e-6)
        assert np.array_equal(found, again)
    else:
        assert not standardize(x, x, scaling)[0].any()


@settings(max_examples=100, deadline=None)
@given(train=COLUMNS, test=COLUMNS, scaling=st.sampled_from(["zscore", "minmax"]))
def test_test_rows_are_scaled_correctly_or_refused(train: list[float], test: list[float], scaling: str) -> None:
    try:
        expected = exactly_scaled(train, test, scaling)
        largest = max(map(abs, expected))
    except OverflowError:
        largest = math.inf
    assume(not 0.999 < largest / FLOAT32_MAX < 1.001)
    if largest > FLOAT32_MAX:
        with pytest.raises(DeepSADError, match=r"overflow float32 .* in column 0 \(0 training and \d+ test rows\)"):
            standardize(np.array(train)[:, None], np.array(test)[:, None], scaling)
    else:
        found = standardize(np.array(train)[:, None], np.array(test)[:, None], scaling)[1][:, 0]
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    constant=st.floats(allow_nan=False, allow_infinity=False),
    rows=st.integers(1, 100),
    scaling=st.sampled_from(["zscore", "minmax"]),
)
def test_a_constant_column_is_exactly_0(constant: float, rows: int, scaling: str) -> None:
    train, test = standardize(np.full((rows, 1), constant), np.full((3, 1), constant), scaling)
    assert not train.any()
    assert not test.any()


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
def test_a_column_of_time_stamps_changes_no_other_column(scaling: str) -> None:
    x, y = table_of(100, 4, 30)
    stamps = np.full((100, 1), 1.7935852379849293e18)  # whose mean over 60 rows is 768 off
    alone, beside = (table_source(table, y, 0, scaling) for table in (x, np.hstack([x, stamps])))
    assert np.array_equal(beside.x_train[:, :4], alone.x_train)
    assert np.array_equal(beside.x_test[:, :4], alone.x_test)
    assert not beside.x_train[:, 4].any()
    assert not beside.x_test[:, 4].any()


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
def test_columns_that_do_not_fit_are_named_with_their_rows_and_the_way_out(scaling: str) -> None:
    train, test = np.random.default_rng(0).normal(size=(2, 20, 15))
    test[:3, 4], test[7, 9] = 1e300, -1e200
    with pytest.raises(DeepSADError) as caught:
        standardize(train, test, scaling)
    assert str(caught.value) == (
        "some values are so far from the training rows that they overflow float32 after "
        f"dataset.scaling={scaling}, in column 4 (0 training and 3 test rows), 9 (0 training and 1 test rows) of the "
        "table, counted from 0; correct them, or leave the column out"
    )
    test[:, :12] = 1e300
    with pytest.raises(DeepSADError, match=r" 9 \(0 training and 20 test rows\) and 2 more of the table"):
        standardize(train, test, scaling)


def test_a_value_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    x, y = table_of(60, 6, 20)
    x[split_rows(y, 0)[1][0], 2] = 1e300
    write_table(tmp_path / "odds" / "thyroid.npz", x, y)
    for method in ("deep_sad", "iforest_raw"):
        with pytest.raises(DeepSADError, match=r"in column 2 \(0 training and 1 test rows\) of the table"):
            load_data(plan_of("dataset=thyroid", f"method={method}", f"data_dir={tmp_path}"))


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
@pytest.mark.parametrize("name", ODDS_FILES)
def test_the_real_tables_keep_every_bit(real_data: Path, name: str, scaling: str) -> None:
    """Earlier unfinished runs can be resumed, and finished ones remain comparable with new ones."""
    if not list((real_data / "odds").glob(f"{name}.*")):
        pytest.skip(f"no {name} in DEEPSAD_DATA_DIR")
    x, y = load_odds(name, real_data)
    train, test = split_rows(y, 0)
    scaler = StandardScaler() if scaling == "zscore" else MinMaxScaler()
    source = table_source(x, y, 0, scaling)
    assert source.x_train.tobytes() == scaler.fit_transform(x[train]).astype(np.float32).tobytes()
    assert source.x_test.tobytes() == scaler.transform(x[test]).astype(np.float32).tobytes()


Array = npt.NDArray[Any]
METHODS: list[Method] = ["zscore", "minmax"]


def standardized_before(x_train: Array, x_test: Array, scaling: str) -> tuple[Array, Array]:
    """The former arithmetic, before it was divided into fit and transform."""

    def in_handy_units(train: Array, test: Array) -> tuple[Array, Array]:
        varies = train.min(axis=0) < train.max(axis=0)
        exponent = np.where(varies, np.frexp(np.abs(train).max(axis=0))[1], 0)
        return np.ldexp(train, -exponent), np.ldexp(test, -exponent)

    scaler = StandardScaler() if scaling == "zscore" else MinMaxScaler()
    with np.errstate(over="ignore", invalid="ignore"):
        train, test = in_handy_units(x_train, x_test)
        train, test = in_handy_units(train - train[0], test - train[0])
        return scaler.fit_transform(train).astype(np.float32), scaler.transform(test).astype(np.float32)


def table_of_magnitudes(seed: int, order: str) -> tuple[Array, Array]:
    """Training and test rows whose columns lie between 1e-300 and 1e300, some constant, some nearly."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(2, 400)), int(rng.integers(1, 40))
    magnitudes = 10.0 ** rng.uniform(-300, 300, columns)
    x = (rng.normal(size=(rows + 50, columns)) + rng.choice([0, 1, 1e6, 1e14], columns)) * magnitudes
    x = np.clip(x, -1e300, 1e300)
    constant = rng.random(columns) < 0.2
    x[:, constant] = x[0, constant]
    x[:, rng.random(columns) < 0.1] = rng.integers(0, 2, (rows + 50, 1))
    return (np.asfortranarray if order == "F" else np.ascontiguousarray)(x[:rows]), x[rows:]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("scaling", METHODS)
def test_fit_and_transform_give_the_bits_of_the_former_arithmetic(scaling: Method, order: str, seed: int) -> None:
    train, test = table_of_magnitudes(seed, order)
    expected = standardized_before(train, test, scaling)
    found = standardize(train, test, scaling)
    assert [part.tobytes() for part in found] == [part.tobytes() for part in expected]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scaling", METHODS)
def test_a_scaling_survives_json_to_the_bit(scaling: Method, seed: int) -> None:
    train, test = table_of_magnitudes(seed, "C")
    fitted = Scaling.fit(train, scaling)
    again = Scaling.from_dict(json.loads(json.dumps(fitted.as_dict())))
    assert again == fitted
    assert again.transform(test).tobytes() == fitted.transform(test).tobytes()


@pytest.mark.parametrize("scaling", METHODS)
def test_rows_scaled_in_pieces_and_columns_fitted_alone_have_the_same_bits(scaling: Method) -> None:
    train, test = table_of_magnitudes(3, "F")
    fitted = Scaling.fit(train, scaling)
    assert Scaling.beside([Scaling.fit(train[:, [i]], scaling) for i in range(train.shape[1])]) == fitted
    pieces = [fitted.transform(np.ascontiguousarray(test[i : i + 7])) for i in range(0, len(test), 7)]
    assert np.concatenate(pieces).tobytes() == fitted.transform(test).tobytes()


def test_transform_passes_nan_and_overflow_on_and_keeps_its_argument() -> None:
    x = np.array([[np.nan, 1e300], [0.5, 1.0]])
    before = x.copy()
    found = Scaling.fit(np.array([[0.0, 0.0], [1.0, 1.0]]), "minmax").transform(x)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[np.nan, np.inf], [0.5, 1.0]]), nan_ok=True)
    assert np.array_equal(x, before, equal_nan=True)


@pytest.mark.parametrize("scaling", ["zscore", "minmax"])
def test_a_scaling_kept_as_json_prepares_raw_rows_to_the_bit(scaling: str) -> None:
    x, y = table_of(100, 4, 30)
    x[:, 1], x[:, 2] = 7.0, x[:, 2] * 1e-200
    source = table_source(x, y, 0, scaling)
    assert source.preparation is not None
    again = Scaling.from_dict(json.loads(json.dumps(source.preparation.as_dict())))
    train, test = split_rows(y, 0)
    assert np.array_equal(again.transform(x[train]), source.x_train)
    assert np.array_equal(again.transform(x[test]), source.x_test)


def test_arrays_of_a_data_frame_keep_the_names_of_their_columns() -> None:
    x, y = table_of(100, 2, 30)
    source = as_source((pd.DataFrame(x, columns=["speed", "load"]), y), seed=0, scaling="zscore")
    assert source.columns == ("speed", "load")
    assert as_source((x, y), seed=0, scaling=None).preparation is None


@pytest.mark.parametrize("method", ["zscore", "minmax"])
def test_the_inverse_gives_the_raw_rows(method: Method) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)) * [1e-200, 1, 1e200] + [0, 1e6, 0]
    scaling = Scaling.fit(x, method)
    assert scaling.inverse(scaling.transform(x)) == pytest.approx(x, rel=1e-4)
