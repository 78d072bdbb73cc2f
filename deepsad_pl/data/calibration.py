"""Choose the training samples that are kept out of training to calibrate a threshold. Pure numpy."""

from fractions import Fraction
from math import floor

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError

IntArray = npt.NDArray[np.int64]

# Number of a separate random stream, so that this draw changes no other one; the scenario's numbers are below 4.
_STREAM = 200
_LABELS = {1: "normal", -1: "anomaly"}


def calibration_rows(semi_y: npt.ArrayLike, *, kind: str, share: float | None, seed: int) -> IntArray:
    """The positions in a training set of the samples that are kept out of training for a threshold.

    A larger share keeps out all samples that a smaller one does, and more.

    >>> calibration_rows([0, 0, -1, 1, 0], kind="conformal", share=0.5, seed=0).size
    2

    Args:
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).
        kind: ``conformal``: ``floor(share * n)`` of the n samples that are not known anomalies, drawn uniformly;
            ``labeled``: the same share of the known normal ones and of the known anomalies, at least one of each;
            ``quantile`` and ``none``: nothing.
        share: in (0, 1); not used by ``quantile`` and ``none``.
        seed: determines the draw.

    Returns:
        Ascending, shape (n,).

    Raises:
        DeepSADError: if ``labeled`` has no known normal samples or no known anomalies.
    """
    labels = np.asarray(semi_y)
    if share is None or kind not in ("conformal", "labeled"):
        return np.zeros(0, np.int64)
    if kind == "conformal":
        pools, least = [np.flatnonzero(labels >= 0)], 0
    else:
        pools, least = [np.flatnonzero(labels == label) for label in _LABELS], 1
        if missing := [name for name, pool in zip(_LABELS.values(), pools, strict=True) if not len(pool)]:
            raise DeepSADError(
                f"threshold=labeled needs labeled samples of both kinds, but none of {len(labels)} training samples is "
                f"a known {' or a known '.join(missing)}; label some, or choose threshold=conformal"
            )
    exact, drawn = Fraction(repr(float(share))), []
    for number, pool in enumerate(pools):
        order = np.random.default_rng([seed, _STREAM, number]).permutation(pool)
        drawn.append(order[: max(least, floor(exact * len(pool)))])
    return np.sort(np.concatenate(drawn)).astype(np.int64)
