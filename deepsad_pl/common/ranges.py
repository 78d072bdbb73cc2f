"""The types and allowed values of settings, read from annotations. Does not import torch.

A setting is declared where it is used, as an argument of a constructor or a function::

    def __init__(self, network: Mapping[str, Any], *, eta: Positive = 1.0, loss: Literal["mse", "l1"] = "mse") -> None:

The configuration is checked against this declaration before any work starts; the constructor makes the same check with
:func:`require`.
"""

import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """The range of numbers that a setting allows.

    Attributes:
        low: the lower end.
        high: the upper end.
        what: description of the range, which completes "it must be ..." in error messages.
        open: whether both ends are excluded.
        odd: whether even numbers are excluded.
    """

    low: float
    high: float
    what: str
    open: bool = False
    odd: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether a number is allowed; infinities and NaN never are."""
        inside = self.low < value < self.high if self.open else self.low <= value <= self.high
        return inside and math.isfinite(value) and not (self.odd and value % 2 == 0)


NON_EMPTY = "at least one value"

# Upper ends lie far beyond every useful value, and below those that overflow, exhaust the memory or run for years.
Positive = Annotated[float, Range(0, 1e6, "a number > 0 and < 1e6", open=True)]
NonNegative = Annotated[float, Range(0, 1e6, "a number from 0 to 1e6")]
Seconds = Annotated[float, Range(0, 1e9, "a number of seconds from 0 to 1e9")]
Share = Annotated[float, Range(0, 1, "a number > 0 and < 1", open=True)]
Slope = Annotated[float, Range(0, 1, "a number from 0 to 1")]
Bandwidth = Annotated[float, Range(1e-50, 1e50, "a width between 1e-50 and 1e50, beyond which densities overflow")]
Length = Annotated[int, Range(0, 10**6, "a whole number from 0 to 1,000,000")]
AtLeast1 = Annotated[int, Range(1, 10**6, "a whole number from 1 to 1,000,000")]
AtLeast2 = Annotated[int, Range(2, 10**6, "a whole number from 2 to 1,000,000")]
Width = Annotated[int, Range(1, 2**14, "a whole number from 1 to 16,384")]
Trees = Annotated[int, Range(1, 10**4, "a whole number from 1 to 10,000")]
Members = Annotated[int, Range(1, 1000, "a whole number from 1 to 1,000")]
Depth = Annotated[int, Range(1, 100, "a whole number from 1 to 100")]
Workers = Annotated[int, Range(1, 1024, "a whole number from 1 to 1,024")]
Odd = Annotated[int, Range(1, 99, "an odd number from 1 to 99", odd=True)]
Paths = str | Sequence[str]  # a path, a glob or a list of them
Widths = Annotated[Sequence[Width], NON_EMPTY]
Positives = Annotated[Sequence[Positive], NON_EMPTY]
Shares = Annotated[Sequence[Share], NON_EMPTY]
Bandwidths = Annotated[Sequence[Bandwidth], NON_EMPTY]

# The names that an annotation may consist of; any other name allows every value.
NAMES: Mapping[str, Any] = {
    **{name: value for name, value in globals().items() if name[0].isupper() and name not in ("Any", "Range")},
    **{kind.__name__: kind for kind in (float, int, str, bool, list, tuple, dict)},
    "None": None,
}
_NUMBERS = {float: "a number", int: "a whole number"}
_SEQUENCES = (Sequence, list, tuple)


def converted(value: Any, kind: Any) -> Any:
    """Convert a value to its declared type, such as ``1`` to ``1.0`` for a float; leave a value that does not fit."""
    origin, arguments = get_origin(kind), get_args(kind)
    value = value.tolist() if hasattr(value, "tolist") else value  # of numpy and torch
    if origin is Annotated:
        return converted(value, arguments[0])
    if origin in (Union, types.UnionType):
        return next((made for one in arguments if _fits(made := converted(value, one), one)), value)
    if origin in _SEQUENCES and isinstance(value, list | tuple):
        return [converted(one, arguments[0]) for one in value] if arguments else list(value)
    if kind is float and not isinstance(value, bool):
        return _number(value)
    if kind is int and not isinstance(value, bool):
        whole = isinstance(value, Integral) or (isinstance(value, str) and value.strip().lstrip("+-").isdecimal())
        return int(value) if whole else value
    if kind is bool and value in (0, 1) and isinstance(value, int):
        return bool(value)
    return str(value) if kind is str and isinstance(value, bool | int | float) else value


def problems(key: str, value: Any, kind: Any) -> Iterator[str]:
    """Describe what is wrong with a converted value, one sentence for each problem.

    Args:
        key: the setting, for the messages.
        value: as returned by :func:`converted`.
        kind: its declared type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found, limit = list(problems(key, value, arguments[0])), arguments[1]
        if isinstance(limit, Range) and (found or value not in limit):
            yield f"{key} is {value!r}; it must be {limit.what}"
        elif found:
            yield from found
        elif limit == NON_EMPTY and not value:
            yield f"{key} is []; it must hold {NON_EMPTY}"
    elif origin in (Union, types.UnionType):
        if not any(_fits(value, one) for one in arguments):
            # The most helpful message is that of the first alternative that, like the value, is a list or is none.
            told = [list(problems(key, value, one)) for one in arguments if one is not type(None)]
            alike = [found for one, found in zip(arguments, told, strict=False) if _is_alike(value, one)]
            yield from (alike or told)[0]
    elif origin is Literal:
        if value not in arguments:
            yield f"{key} is {value!r}; choose one of {', '.join(map(str, arguments))}"
    elif origin in _SEQUENCES:
        if not isinstance(value, list | tuple):
            inside = "..." if value is None or isinstance(value, Mapping) or value == "" else value
            yield f"{key} is {value!r}; it must be a list, such as '{key}=[{inside}]'"
        else:
            for one in value if arguments else ():
                yield from problems(key, one, arguments[0])
    elif Mapping in (origin, kind) or dict in (origin, kind):
        if not isinstance(value, Mapping):
            yield f"{key} is {value!r}; it must be a mapping of names to values"
    elif kind in _NUMBERS:
        if not isinstance(value, int if kind is int else (int, float)) or isinstance(value, bool):
            yield f"{key} is {value!r}; it must be {_NUMBERS[kind]}"
    elif kind is bool:
        if not isinstance(value, bool):
            yield f"{key} is {value!r}; it must be true or false"
    elif kind is str:
        if not isinstance(value, str):
            yield f"{key} is {value!r}; it must be a string"
    elif kind in (None, type(None)) and value is not None:
        yield f"{key} is {value!r}; it must be null"


def require(function: Callable[..., Any], **arguments: Any) -> None:
    """Check arguments against the declared types of a function, like the check of the configuration.

    Args:
        function: the function or constructor that declares them.
        **arguments: values by argument name.

    Raises:
        ValueError: with every problem found.
    """
    kinds = get_type_hints(function, include_extras=True)
    found = [
        problem
        for name, value in arguments.items()
        for problem in problems(name, converted(value, kinds[name]), kinds[name])
    ]
    if found:
        raise ValueError("; ".join(found))


def may_vary(kind: Any) -> bool:
    """Whether a setting of this type is a float, of which a stack can hold one for each replica."""
    origin, arguments = get_origin(kind), get_args(kind)
    return kind is float or (origin is Annotated and may_vary(arguments[0]))


def without_limits(kind: Any) -> Any:
    """The type of the same values with neither ranges nor choices."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return without_limits(arguments[0])
    if origin is Literal:
        return Union[tuple({type(one) for one in arguments})]  # noqa: UP007
    if origin in (Union, types.UnionType):
        return Union[tuple(map(without_limits, arguments))]  # noqa: UP007
    return list[without_limits(arguments[0])] if origin in _SEQUENCES and arguments else kind  # type: ignore[misc]


def _fits(value: Any, kind: Any) -> bool:
    return not any(problems("", value, kind))


def _is_alike(value: Any, kind: Any) -> bool:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return isinstance(value, list | tuple) == (get_origin(kind) in _SEQUENCES)


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return value
