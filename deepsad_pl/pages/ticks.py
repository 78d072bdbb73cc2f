"""The ticks of an axis: round numbers, or powers of ten."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """An axis from its lowest to its highest value.

    Attributes:
        low: value at the start.
        high: value at the end, above ``low``.
        is_log: whether the axis is logarithmic; ``low`` is then positive.
        ticks: values with a label.
        names: texts at the ticks; empty: their numbers.
        is_reversed: whether the highest value is at the start.
    """

    low: float
    high: float
    is_log: bool
    ticks: tuple[float, ...]
    names: tuple[str, ...] = ()
    is_reversed: bool = False

    def share(self, value: float) -> float:
        """The position of a value, from 0 at the start to 1 at the end; values outside are moved to the ends."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return 1 - share if self.is_reversed else share

    @property
    def labels(self) -> list[str]:
        """The texts at the ticks, with all digits that they have.

        >>> scale(63.9701, 63.9712).labels
        ['63.97025', '63.9705', '63.97075', '63.971']
        """
        return list(self.names) or [_text(tick) for tick in self.ticks]


def _text(tick: float) -> str:
    texts = (f"{tick:.{digits}g}" for digits in range(4, 13))
    return next((text for text in texts if math.isclose(float(text), tick, rel_tol=1e-9)), f"{tick:.4g}")


def scale(low: float, high: float, *, is_log: bool = False, is_whole: bool = False, most: int = 6) -> Scale:
    """An axis for values between two numbers.

    >>> scale(0.0, 0.83).ticks
    (0.0, 0.2, 0.4, 0.6, 0.8)
    >>> scale(0.02, 300.0, is_log=True).ticks
    (0.1, 1.0, 10.0, 100.0)

    Args:
        low: lowest value; positive if ``is_log``.
        high: highest value.
        is_log: whether the axis is logarithmic, which needs at least a factor of ten between the two values.
        is_whole: whether all ticks are whole numbers.
        most: the largest number of ticks, as a goal.
    """
    if not high > low:
        low, high = low - (abs(low) or 1) / 2, low + (abs(low) or 1) / 2
    if is_log and low > 0 and high >= 10 * low:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        every = -(-(last - first + 1) // most)
        found = [10.0**power for power in range(first, last + 1, every)]
        if len(found) < 3:
            between = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
            found = [value for value in between if low <= value <= high]
        return Scale(low, high, True, tuple(found))
    ticks = _round_numbers(low, high, most)
    return Scale(low, high, False, tuple(tick for tick in ticks if not is_whole or tick == round(tick)))


def rank_scale(worst: float, *, is_reversed: bool = False, most: int = 8) -> Scale:
    """An axis of ranks from 1, the best.

    >>> rank_scale(14.0).ticks, rank_scale(3.5, is_reversed=True).share(1.0)
    ((1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0), 1.0)

    Args:
        worst: the highest rank, above 1.
        is_reversed: whether 1 is at the end.
        most: the largest number of ticks.
    """
    ranks = range(1, math.floor(worst) + 1)
    return Scale(1.0, worst, False, tuple(map(float, ranks[:: math.ceil(len(ranks) / most)])), is_reversed=is_reversed)


def named_scale(names: Sequence[str]) -> Scale:
    """An axis of names at 0, 1, ... with some room at both ends."""
    ticks = tuple(map(float, range(len(names))))
    return Scale(-0.3, len(names) - 0.7, False, ticks, tuple(names))


def _round_numbers(low: float, high: float, most: int) -> Sequence[float]:
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12 - math.floor(math.log10(step))) for place in range(first, last + 1)]
