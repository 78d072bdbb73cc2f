"""Which part of an axis to show: a few curves far below the others would squeeze the others together."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

# At most this share of the curves is left out, and only if the axis gets this much shorter.
_SHARE, _SHORTER = 0.25, 0.55
MARGIN = 0.06


@dataclass(frozen=True)
class View:
    """The part of an axis that is shown.

    Attributes:
        low: lower end of the axis.
        high: upper end.
        below: the lowest and the highest value of each curve that lies below the axis, the lowest curve first.
    """

    low: float
    high: float
    below: Mapping[str, tuple[float, float]]


def zoomed(curves: Mapping[str, Sequence[float]], least: float) -> View:
    """Show all curves but a few that are far below the others.

    >>> zoomed({"a": [99.0, 99.4], "b": [99.1], "c": [99.2], "d": [93.0, 96.0]}, least=0.1).below
    {'d': (93.0, 96.0)}

    Args:
        curves: the finite values of each curve; at least one curve with a value.
        least: the least length of the axis, for curves whose values are all equal.
    """
    ends = {name: (min(values), max(values)) for name, values in curves.items() if len(values)}
    lowest_first = sorted(ends, key=lambda name: ends[name])
    whole = _length(ends.values())
    for count in range(1, math.floor(_SHARE * len(ends)) + 1):
        out, rest = lowest_first[:count], [ends[name] for name in lowest_first[count:]]
        is_apart = max(ends[name][1] for name in out) < min(low for low, _ in rest)
        if is_apart and max(_length(rest), least) < _SHORTER * whole:
            return _view(rest, {name: ends[name] for name in out}, least)
    return _view(ends.values(), {}, least)


def _length(ends: Collection[tuple[float, float]]) -> float:
    pairs = list(ends)
    return float(max(high for _, high in pairs) - min(low for low, _ in pairs))


def _view(ends: Collection[tuple[float, float]], below: Mapping[str, tuple[float, float]], least: float) -> View:
    pairs = list(ends)
    low, high = min(low for low, _ in pairs), max(high for _, high in pairs)
    missing = max(0.0, least - (high - low))
    low, high = low - missing / 2, high + missing / 2
    margin = MARGIN * (high - low)
    return View(low - margin, high + margin, below)
