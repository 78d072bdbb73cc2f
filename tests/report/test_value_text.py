"""The texts of axis values tell them apart."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepsad_pl.report.columns import value_text

pytestmark = pytest.mark.unit

FLOATS = st.floats(allow_nan=False).map(lambda value: value + 0.0)  # without -0.0
NUMBERS = st.one_of(st.integers(), FLOATS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "none"), ("random", "random"), (True, "True"), (100, "100"), (100.0, "100"), (0.05, "0.05")),
        *((np.float64(0.2), "0.2"), (np.int64(3), "3"), (math.nan, "nan"), (2_000_000, "2000000")),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_a_value_is_written_as_it_was_given(value: object, text: str) -> None:
    assert value_text(value) == text


@given(one=NUMBERS, other=NUMBERS)
def test_different_numbers_have_different_texts(one: float, other: float) -> None:
    assert (value_text(one) == value_text(other)) == (one == other) or isinstance(one, int) != isinstance(other, int)


@given(FLOATS)
def test_a_text_is_the_number(value: float) -> None:
    assert float(value_text(value)) == value
