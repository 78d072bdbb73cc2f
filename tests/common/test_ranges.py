"""The types of settings: what each allows and how values are converted; constructors make the same checks."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepsad_pl.common.ranges import (
    AtLeast1,
    AtLeast2,
    Bandwidth,
    Depth,
    Length,
    Members,
    NonNegative,
    Odd,
    Positive,
    Positives,
    Seconds,
    Share,
    Slope,
    Trees,
    Width,
    Widths,
    Workers,
    converted,
    may_vary,
    problems,
    require,
)
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import SoftBoundarySVDDModule

NETWORK = {"name": "mlp", "in_features": 2, "units": [3]}
# By definition, independently of the module's tables.
ALLOWED: dict[Any, Any] = {
    Positive: lambda x: 0 < x < 1e6,
    NonNegative: lambda x: 0 <= x <= 1e6,
    Seconds: lambda x: 0 <= x <= 1e9,
    Share: lambda x: 0 < x < 1,
    Slope: lambda x: 0 <= x <= 1,
    Bandwidth: lambda x: 1e-50 <= x <= 1e50,
}
WHOLE: dict[Any, Any] = {
    Length: lambda n: 0 <= n <= 1_000_000,
    AtLeast1: lambda n: 1 <= n <= 1_000_000,
    AtLeast2: lambda n: 2 <= n <= 1_000_000,
    Width: lambda n: 1 <= n <= 16_384,
    Trees: lambda n: 1 <= n <= 10_000,
    Members: lambda n: 1 <= n <= 1_000,
    Depth: lambda n: 1 <= n <= 100,
    Workers: lambda n: 1 <= n <= 1_024,
    Odd: lambda n: 1 <= n <= 99 and n % 2 == 1,
}


@pytest.mark.parametrize("kind", ALLOWED)
@given(st.floats())
def test_ranges_of_real_numbers(kind: Any, value: float) -> None:
    assert (not list(problems("x", value, kind))) == bool(ALLOWED[kind](value))


@pytest.mark.parametrize("kind", WHOLE)
@given(
    st.integers(-5, 9)
    | st.sampled_from([n + d for n in (99, 100, 1000, 1024, 10**4, 2**14, 10**6) for d in (-1, 0, 1)])
)
def test_ranges_of_whole_numbers(kind: Any, value: int) -> None:
    assert (not list(problems("x", value, kind))) == WHOLE[kind](value)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, float, 1.0),
        ("1e-3", float, 0.001),
        ("wide", float, "wide"),
        (True, float, True),
        (np.float32(0.5), Positive, 0.5),
        (np.int64(3), AtLeast1, 3),
        ("7", int, 7),
        (2.0, int, 2.0),
        (1, bool, True),
        (7, str, "7"),
        ((1, 2), Sequence[Positive], [1.0, 2.0]),
        (np.array([1, 2]), Positives, [1.0, 2.0]),
        (torch.tensor(2.0), Positive, 2.0),
        (None, Widths | None, None),
        ([4], Widths | None, [4]),
        (4, AtLeast1 | list[AtLeast1], 4),
        ({"a": 1}, Any, {"a": 1}),
    ],
)
def test_values_are_converted_to_the_declared_type(value: Any, kind: Any, expected: Any) -> None:
    made = converted(value, kind)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (0.0, Positive, "x is 0.0; it must be a number > 0 and < 1e6"),
        ("wide", Positive, "x is 'wide'; it must be a number > 0 and < 1e6"),
        (True, float, "x is True; it must be a number"),
        (2.5, int, "x is 2.5; it must be a whole number"),
        ([1.0, -1.0], Positives, "x is -1.0; it must be a number > 0 and < 1e6"),
        ([], Positives, "x is []; it must hold at least one value"),
        (3, Positives, "x is 3; it must be a list, such as 'x=[3]'"),
        ("c", Literal["a", "b"], "x is 'c'; choose one of a, b"),
        ("yes", bool, "x is 'yes'; it must be true or false"),
        ([1], str, "x is [1]; it must be a string"),
        ([0], Widths | None, "x is 0; it must be a whole number from 1 to 16,384"),
        (0, AtLeast1 | list[AtLeast1], "x is 0; it must be a whole number from 1 to 1,000,000"),
        ([0], AtLeast1 | list[AtLeast1], "x is 0; it must be a whole number from 1 to 1,000,000"),
    ],
)
def test_each_problem_is_one_sentence(value: Any, kind: Any, told: str) -> None:
    assert list(problems("x", value, kind)) == [told]


def test_only_real_numbers_may_vary_within_a_stack() -> None:
    assert may_vary(float) and may_vary(Positive) and may_vary(Share)
    assert not any(map(may_vary, (int, AtLeast1, str, bool, Literal["a"], Sequence[Positive], Any)))


def test_all_problems_are_reported_at_once() -> None:
    def function(*, a: Positive, b: Share) -> None: ...

    require(function, a=1, b=0.5)
    with pytest.raises(
        ValueError, match=r"^a is 0\.0; it must be a number > 0 and < 1e6; b is 1\.0; it must be a number > 0 and < 1$"
    ):
        require(function, a=0, b=1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: DeepSADModule(NETWORK, eta=0), "eta is 0.0; it must be a number > 0 and < 1e6"),
        (
            lambda: DeepSADModule(NETWORK, center_from="x"),
            "center_from is 'x'; choose one of unlabeled_and_normal, all",
        ),
        (lambda: DeepSADModule(NETWORK, lr=[-1.0], epochs=[1]), "lr is -1.0; it must be a number > 0 and < 1e6"),
        (lambda: DeepSADModule(NETWORK, weight_decay=-1), "weight_decay is -1.0; it must be a number from 0 to 1e6"),
        (lambda: SoftBoundarySVDDModule(NETWORK, nu=1.0), "nu is 1.0; it must be a number > 0 and < 1"),
        (lambda: AutoencoderModule(NETWORK, sigmoid=True, loss="l1"), "loss is 'l1'; choose one of mse, cross_entropy"),
    ],
)
def test_a_constructor_makes_the_same_checks_as_the_configuration(make: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert told in str(caught.value)
