"""Axes: round ticks inside the range, few of them, also for odd ranges."""

import math

import pytest

from deepsad_pl.pages.ticks import scale

RANGES = [(0.0, 1.0), (-3.0, 5.0), (0.913, 0.987), (1e-9, 2e-9), (4.0, 4.0), (0.0, 0.0), (-1e6, 3e7)]


@pytest.mark.parametrize("low, high", RANGES)
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = scale(low, high)
    assert 2 <= len(found.ticks) <= 7
    assert len(set(found.labels)) == len(found.ticks)
    slack = 1e-9 * (found.high - found.low)
    assert all(found.low - slack <= tick <= found.high + slack for tick in found.ticks)
    assert [found.share(found.low), found.share(found.high)] == [0, 1]


@pytest.mark.parametrize("low, high", [(0.2, 3.0), (1e-12, 1e9), (0.5, 700.0)])
def test_logarithmic_ticks_are_evenly_labeled(low: float, high: float) -> None:
    found = scale(low, high, is_log=True)
    assert found.is_log
    assert 2 <= len(found.ticks) <= 7
    assert all(low <= tick <= high for tick in found.ticks)
    assert found.share(math.sqrt(low * high)) == pytest.approx(0.5)


def test_a_narrow_or_negative_range_is_not_logarithmic() -> None:
    assert not scale(1.0, 5.0, is_log=True).is_log
    assert not scale(-1.0, 500.0, is_log=True).is_log


def test_values_outside_are_put_at_the_ends() -> None:
    found = scale(0.0, 1.0)
    assert [found.share(-1.0), found.share(2.0)] == [0, 1]
