"""Cases of the scoring benchmark and their sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True)
class Sizes:
    """Numbers of samples.

    Attributes:
        tests: test samples of a network; None: as many as the data set has.
        rows: training rows of a shallow method.
        queries: test rows of a shallow method.
        alone: samples that are scored one by one.
    """

    tests: int | None
    rows: int
    queries: int
    alone: int


FULL = Sizes(tests=None, rows=3000, queries=2000, alone=500)
QUICK = Sizes(tests=40, rows=60, queries=30, alone=5)


@dataclass(frozen=True)
class Case:
    """A way to score samples.

    Attributes:
        samples: number of samples that ``run`` scores; if not all, the first ones.
        run: returns their scores, shape (samples,).
    """

    samples: int
    run: Callable[[], npt.NDArray[Any]]
