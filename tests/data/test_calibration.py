"""Which training samples are kept out of training for a threshold."""

import numpy as np
import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.calibration import calibration_rows

SEMI_Y = np.repeat([0, 1, -1], [60, 25, 15])[np.random.default_rng(0).permutation(100)]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.29, 0.999])
def test_conformal_keeps_out_a_share_of_all_but_known_anomalies(share: float) -> None:
    rows = calibration_rows(SEMI_Y, kind="conformal", share=share, seed=3)
    assert len(rows) == int(share * 85 + 1e-9)
    assert (SEMI_Y[rows] >= 0).all()
    assert (np.diff(rows) > 0).all()


def test_labeled_keeps_out_a_share_of_each_kind_and_at_least_one() -> None:
    rows = calibration_rows(SEMI_Y, kind="labeled", share=0.2, seed=3)
    assert np.bincount(SEMI_Y[rows] + 1, minlength=3).tolist() == [3, 0, 5]
    rows = calibration_rows(SEMI_Y, kind="labeled", share=0.01, seed=3)
    assert np.bincount(SEMI_Y[rows] + 1, minlength=3).tolist() == [1, 0, 1]


@pytest.mark.parametrize(("semi_y", "missing"), [([0, 1], "anomaly"), ([0, -1], "normal"), ([0], "normal or a known")])
def test_labeled_needs_both_kinds(semi_y: list[int], missing: str) -> None:
    with pytest.raises(DeepSADError, match=f"none of {len(semi_y)} training samples is a known {missing}"):
        calibration_rows(semi_y, kind="labeled", share=0.2, seed=0)


@pytest.mark.parametrize("kind", ["none", "quantile"])
def test_other_kinds_keep_out_nothing(kind: str) -> None:
    assert calibration_rows(SEMI_Y, kind=kind, share=None, seed=0).tolist() == []


def test_the_draw_depends_only_on_the_seed_and_shares_are_nested() -> None:
    def drawn(seed: int, share: float) -> set[int]:
        return {*calibration_rows(SEMI_Y, kind="conformal", share=share, seed=seed).tolist()}

    assert drawn(0, 0.2) == drawn(0, 0.2) != drawn(1, 0.2)
    assert drawn(0, 0.2) < drawn(0, 0.5)


def test_every_sample_is_drawn_about_equally_often() -> None:
    counts = np.zeros(100)
    for seed in range(400):
        counts[calibration_rows(SEMI_Y, kind="conformal", share=0.2, seed=seed)] += 1
    # Binomial with a mean of 80 and a standard deviation of 8.
    assert np.abs(counts[SEMI_Y >= 0] - 80).max() < 40
