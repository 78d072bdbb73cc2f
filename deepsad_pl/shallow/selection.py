"""Building blocks of hyper-parameter selection: test subset, holdout split, folds, the consistency criterion."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.errors import DeepSADError

IntArray = npt.NDArray[np.int64]

# Independent random streams, so draws from one never change those from another.
TEST_SUBSET_STREAM, HOLDOUT_STREAM, KDE_FOLDS_STREAM, FOREST_STREAM, ANOMALY_FOLDS_STREAM = range(110, 115)
TREES_STREAM, XGBOD_STREAM, TABICL_STREAM = range(115, 118)

# With given labels: the largest number of folds of selection=holdout.
MOST_FOLDS = 5


def generator(seed: int, stream: int) -> np.random.Generator:
    """Make the random generator of a stream (one per purpose) for a seed."""
    return np.random.default_rng([seed, stream])


def test_subset(y: IntArray, seed: int, share: float = 0.1) -> IntArray:
    """Draw the part of the test set on which the paper selects hyper-parameters (appendix C), stratified by class.

    Args:
        y: ground truth of the test set: 0 normal, 1 anomaly, shape (t,).
        seed: seed of this draw, which is independent of all other draws.
        share: share of each class to draw, in (0, 1]; at least one sample of each is drawn.

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
                f"method.selection=test_subset maximizes AUROC on a part of the test set, but none of its {len(y)} "
                f"samples is {name}; use selection=holdout or none"
            )
        drawn.append(rng.permutation(members)[: max(1, round(share * len(members)))])
    return np.sort(np.concatenate(drawn))


def holdout_split(semi_y: IntArray, seed: int, share: float = 0.1) -> tuple[IntArray, IntArray]:
    """Split the training rows into those to fit on and those held out for the selection, stratified by semi-label.

    Each part has at least one row that is not a labeled anomaly. If there are two or more labeled anomalies, the
    held-out part has at least one of them.

    Args:
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        seed: seed of this draw, which is independent of all other draws.
        share: share of each kind of row to hold out, in (0, 1).

    Returns:
        Indices of the rows to fit on and of the held-out rows, both ascending.

    Raises:
        DeepSADError: if there are fewer than two rows besides labeled anomalies.
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


def anomaly_folds(semi_y: IntArray, seed: int, most: int = MOST_FOLDS) -> list[IntArray]:
    """Divide the training rows into folds for cross-validation, stratified by semi-label.

    There are ``most`` folds, or one for each labeled anomaly if there are fewer of these, so each fold has a labeled
    anomaly. Every row is in exactly one fold. The sizes of the folds differ by at most one, in total and for each
    semi-label.

    Args:
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (n,).
        seed: seed of this draw, which is independent of all other draws.
        most: largest number of folds, >= 2.

    Returns:
        The ascending row indices of each fold; no folds if there are fewer than two labeled anomalies.

    Raises:
        DeepSADError: if fewer rows than folds are not labeled anomalies.
    """
    rng = generator(seed, ANOMALY_FOLDS_STREAM)
    order = [rng.permutation(np.flatnonzero(semi_y == label)) for label in (-1, 1, 0)]
    anomalies = len(order[0])
    others, folds = len(semi_y) - anomalies, min(most, anomalies)
    if folds < 2:
        return []
    if others < folds:
        raise DeepSADError(
            f"method.selection=holdout divides the training rows into {folds} folds, each with a labeled anomaly and "
            f"another row to compare it with, but only {others} of {len(semi_y)} rows are not labeled anomalies; add "
            "data or use method.selection=none"
        )
    # Dealt out to the folds in turn, like cards, one semi-label after the other.
    dealt = np.concatenate(order)
    return [np.sort(dealt[fold::folds]) for fold in range(folds)]


def consistency(gammas: Sequence[float], rejected: Sequence[float], *, nu: float, held_out: int) -> int:
    r"""Select the most complex one-class model that does not reject more normal data than it should.

    A model that should reject a share nu of normal data is consistent if it rejects at most a share :math:`\nu + 2
    \sqrt{\nu (1 - \nu) / M}` of M held-out rows, that is, nu plus two standard deviations of a binomial share. With a
    larger gamma a model follows the training data more closely, until it rejects too many held-out rows. No anomalies
    are needed.

    Source: D. M. J. Tax, K.-R. Mueller: A consistency-based model selection for one-class classification, ICPR 2004.

    Args:
        gammas: kernel scale of each model; a larger one means a more complex model.
        rejected: the share of held-out rows that each model rejects, in [0, 1].
        nu: the share that a model should reject, in (0, 1].
        held_out: M, the number of held-out rows, >= 1.

    Returns:
        The index of the largest consistent gamma; if none is consistent, the index of the smallest gamma.
    """
    bound = nu + 2 * sqrt(nu * (1 - nu) / held_out)
    consistent = [i for i, share in enumerate(rejected) if share <= bound]
    if not consistent:
        return int(np.argmin(gammas))
    return max(consistent, key=lambda i: gammas[i])
