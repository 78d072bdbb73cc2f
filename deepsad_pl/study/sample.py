"""Draw a balanced sample of the pairs of a study, such as (normal class, known class)."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

A = TypeVar("A", bound=Hashable)
B = TypeVar("B", bound=Hashable)

# Cost of a pair that is not available; larger than any sum of counts.
_NEVER = 1e9


def balanced_sample(pairs: Sequence[tuple[A, B]], size: int, seed: int) -> list[tuple[A, B]]:
    """Draw pairs without replacement so that each first and each second entry occurs as evenly as possible.

    Pairs are drawn in rounds. A round is a matching, in which no entry occurs twice, of as many pairs as possible, and
    among these one of entries that have been drawn least often; the seed decides between equals. For all ordered pairs
    of K different classes, a round has K pairs, so each class occurs equally often in any multiple of K.

    Args:
        pairs: distinct pairs, shape (N,).
        size: number of pairs to draw, in [0, N].
        seed: determines the draw. With the same pairs and seed, a larger sample begins with the smaller one.

    Raises:
        ValueError: if ``size`` is out of range.
    """
    # scipy takes a while to import, and most studies are not sampled.
    from scipy.optimize import linear_sum_assignment

    if not 0 <= size <= len(pairs):
        raise ValueError(f"cannot draw {size} of {len(pairs)} pairs")
    first, second = list(dict.fromkeys(a for a, _ in pairs)), list(dict.fromkeys(b for _, b in pairs))
    places = {(first.index(a), second.index(b)): (a, b) for a, b in pairs}
    left = np.zeros((len(first), len(second)), bool)
    left[tuple(zip(*places, strict=True))] = True
    chance = np.random.default_rng(seed).random(left.shape) / len(pairs)
    often = np.zeros(len(first))[:, None], np.zeros(len(second))[None, :]
    drawn: list[tuple[A, B]] = []
    while len(drawn) < size:
        cost = often[0] + often[1] + chance
        rows, columns = linear_sum_assignment(np.where(left, cost, _NEVER))
        matched = sorted((cost[i, j], i, j) for i, j in zip(rows, columns, strict=True) if left[i, j])
        for _, i, j in matched:
            drawn.append(places[i, j])
            left[i, j] = False
            often[0][i] += 1
            often[1][0, j] += 1
    return drawn[:size]
