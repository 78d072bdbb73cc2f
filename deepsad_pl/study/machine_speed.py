"""The speed of one core of this machine, from a short computation whose time is the unit of declared costs."""

import time
from collections.abc import Callable
from functools import cache

import numpy as np
from threadpoolctl import threadpool_limits

# Many short rounds, so that at least one is likely to run undisturbed by other work on the machine.
_ROUNDS = 30
_SIDE, _VALUES, _TURNS = 320, 100_000, 3_000


@cache
def probe_seconds() -> float:
    """The CPU seconds that a computation of fixed size takes on one core of this machine: the unit of all costs.

    Like a training it multiplies matrices, passes over arrays and interprets Python. For each part, the fastest of many
    rounds counts, since other work on the machine only slows it down; together they take a tenth of a second.
    """
    matrix = np.full((_SIDE, _SIDE), 0.5, dtype=np.float32)
    values = np.linspace(-1, 1, _VALUES, dtype=np.float32)
    product, passed = np.empty_like(matrix), np.empty_like(values)

    def multiply() -> None:
        np.matmul(matrix, matrix, out=product)

    def go_over() -> None:
        np.multiply(values, 0.1, out=passed)
        np.maximum(values, passed, out=passed)
        np.exp(values, out=passed)

    def interpret() -> None:
        sum(len(str(turn)) for turn in range(_TURNS))

    with threadpool_limits(1, "blas"):
        return sum(min(_seconds(part) for _ in range(_ROUNDS)) for part in (multiply, go_over, interpret))


def _seconds(part: Callable[[], None]) -> float:
    start = time.thread_time()
    part()
    return time.thread_time() - start
