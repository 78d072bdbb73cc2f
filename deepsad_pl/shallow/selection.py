"""Which samples hyper-parameters are selected on, and by what: test subset, held-out rows, consistency."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError

IntArray = npt.NDArray[np.int64]

# Independent random streams, so that what one of them draws never moves another.
TEST_SUBSET_STREAM, HOLDOUT_STREAM, KDE_FOLDS_STREAM, FOREST_STREAM = 110, 111, 112, 113


def generator(seed: int, stream: int) -> np.random.Generator:
    """The random numbers of one purpose under one seed."""
    return np.random.default_rng([seed, stream])


def test_subset(y: IntArray, seed: int, share: float = 0.1) -> IntArray:
    """The part of the test set that the paper selects hyper-parameters on (appendix C), stratified.

    Args:
        y: ground truth of the test set: 0 normal, 1 anomaly, shape (t,).
        seed: of the draw, which no other draw moves.
        share: of each class, in (0, 1]; at least one sample.

    Returns:
        Ascending indices into y.

    Raises:
        DeepSADError: if a class is missing.
    """
    rng = generator(seed, TEST_SUBSET_STREAM)
    drawn = []
    for label, name in ((0, "normal"), (1, "anomalous")):
        members = np.flatnonzero(y == label)
        if len(members) == 0:
            raise DeepSADError(
                f"method.selection=test_subset maximizes AUROC on a part of the test set, but of its {len(y)} samples "
                f"none is {name}; use selection=holdout or none"
            )
        drawn.append(rng.permutation(members)[: max(1, round(share * len(members)))])
    return np.sort(np.concatenate(drawn))


def holdout_split(semi_y: IntArray, seed: int, share: float = 0.1) -> tuple[IntArray, IntArray]:
    """Training rows to fit on and to select with, stratified by semi-label.

    Both parts hold at least one row that is no labeled anomaly, and the held-out part a labeled anomaly where there are
    two or more.

    Args:
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        seed: of the draw, which no other draw moves.
        share: of each kind to hold out, in (0, 1).

    Returns:
        Indices of the kept and of the held-out rows, both ascending.

    Raises:
        DeepSADError: if fewer than two rows are no labeled anomalies.
    """
    rng = generator(seed, HOLDOUT_STREAM)
    order = {label: rng.permutation(np.flatnonzero(semi_y == label)) for label in (0, 1, -1)}
    if len(order[0]) + len(order[1]) < 2:
        raise DeepSADError(
            f"method.selection=holdout needs at least two training rows that are not labeled anomalies, but there are "
            f"only {len(order[0]) + len(order[1])}; add data or use selection=none"
        )
    counts = {label: min(round(share * len(rows)), max(len(rows) - 1, 0)) for label, rows in order.items()}
    if len(order[-1]) >= 2:
        counts[-1] = max(counts[-1], 1)
    if counts[0] + counts[1] == 0:
        counts[0 if len(order[0]) >= len(order[1]) else 1] = 1
    held = np.sort(np.concatenate([order[label][:count] for label, count in counts.items()]))
    return np.setdiff1d(np.arange(len(semi_y)), held), held


def consistency(gammas: Sequence[float], rejected: Sequence[float], *, nu: float, held_out: int) -> int:
    r"""The most complex one-class model whose error on normal data is what it was asked to be.

    A model that is to reject the share nu of normal data is consistent if it rejects no more of M held-out rows than
    :math:`\nu + 2 \sqrt{\nu (1 - \nu) / M}`, two standard deviations of a binomial share. A larger gamma follows the
    data more closely, up to the point where held-out rows fall outside. No anomaly is needed.

    Source: D. M. J. Tax, K.-R. Mueller: A consistency-based model selection for one-class classification, ICPR 2004.

    Args:
        gammas: scales of the kernel; larger is more complex.
        rejected: the share of held-out rows that each model rejects, in [0, 1].
        nu: the reject rate that was asked for, in (0, 1].
        held_out: M, >= 1.

    Returns:
        The index of the largest consistent gamma; that of the smallest one if none is consistent.
    """
    bound = nu + 2 * sqrt(nu * (1 - nu) / held_out)
    consistent = [i for i, share in enumerate(rejected) if share <= bound]
    if not consistent:
        return int(np.argmin(gammas))
    return max(consistent, key=lambda i: gammas[i])
