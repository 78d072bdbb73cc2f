"""Compare methods pair by pair over data sets: Wilcoxon signed-rank tests with Holm's correction, and Nemenyi."""

import itertools

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from deepsad_pl.report.rank_tests import nemenyi_p, rank_scores
from deepsad_pl.report.significance import holm, signed_rank_p

COLUMNS = ("better", "other", "n", "wins", "ties", "losses", "median_difference", "p", "p_holm", "p_nemenyi")
_DIGITS = 12


def compare_pairs(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare every two methods.

    Args:
        scores: one row per data set, one column per method, without NaN.

    Returns:
        A row per pair. ``better`` has the larger sum of signed ranks, or the better mean rank if both sums are equal.
        ``wins``, ``ties`` and ``losses`` count the ``n`` data sets by the sign of better minus other, of which
        ``median_difference`` is the median. ``p`` is two-sided, ``p_holm`` corrects it for the number of pairs, and
        ``p_nemenyi`` is that of the Nemenyi test. Without two methods and two data sets there are no rows.
    """
    if len(scores) < 2 or len(scores.columns) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    ranks = rank_scores(scores)
    nemenyi = nemenyi_p(ranks)
    rows = []
    for one, other in itertools.combinations(ranks.mean().sort_values(kind="stable").index, 2):
        differences = (scores[one] - scores[other]).round(_DIGITS).to_numpy()
        better, worse = (one, other) if _signed_sum(differences) >= 0 else (other, one)
        differences = differences if better == one else -differences
        wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
        rows.append(
            {
                "better": better,
                "other": worse,
                "n": len(differences),
                "wins": wins,
                "ties": len(differences) - wins - losses,
                "losses": losses,
                "median_difference": float(np.median(differences)),
                "p": signed_rank_p(differences),
                "p_nemenyi": float(nemenyi.loc[one, other]),
            }
        )
    found = pd.DataFrame(rows)
    found["p_holm"] = holm(found["p"].tolist())
    return found[list(COLUMNS)]


def _signed_sum(differences: npt.NDArray[np.float64]) -> float:
    """The sum of the ranks of positive differences minus that of negative ones."""
    found = differences[differences != 0]
    return float((rankdata(np.abs(found)) * np.sign(found)).sum())
