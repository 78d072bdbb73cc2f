"""AUROC of records written in single precision is corrected, so that ties are ties again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepsad_pl.common.metrics import auroc
from deepsad_pl.common.records import write_scores
from deepsad_pl.study.results import exact_auroc


def record(value: float, normal: int, anomalous: int) -> dict[str, Any]:
    counts = {"test": normal + anomalous, "test_normal": normal, "test_anomalous": anomalous}
    read: dict[str, Any] = json.loads(json.dumps({"auroc": value, "counts": counts}))
    return read


@pytest.mark.parametrize("noisy", [1.0, 0.99999994, 0.99999988, float(np.float32(1) - np.float32(6e-8))])
def test_a_perfect_ranking_has_auroc_one(noisy: float) -> None:
    assert exact_auroc(Path("nowhere"), record(noisy, 72, 648)) == 1.0
    # Without the scores of as many samples as MNIST has, it is the nearest possible value.
    assert exact_auroc(Path("nowhere"), record(noisy, 1000, 9000)) == pytest.approx(noisy, abs=6e-8)


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_any_area_is_recovered_from_single_precision(normal: int, anomalous: int, data: st.DataObject) -> None:
    halves = 2 * normal * anomalous
    exact = data.draw(st.integers(0, halves)) / halves
    noise = data.draw(st.sampled_from([-1.2e-7, 0.0, 1.2e-7]))
    assert exact_auroc(Path("nowhere"), record(float(np.float32(exact)) + noise, normal, anomalous)) == exact


@pytest.mark.parametrize("wrong", [0, 1, 5])
def test_large_test_sets_are_computed_from_their_scores(tmp_path: Path, wrong: int) -> None:
    """With 9 million pairs, two neighboring areas are equal in single precision."""
    y = np.repeat([0, 1], [1000, 9000])
    score = np.arange(10_000, dtype=np.float32)
    score[1000 - wrong] += wrong + 0.5
    write_scores(tmp_path, np.arange(10_000), y, score)
    exact = auroc(score, y)
    for noise in (-1.2e-7, 0.0, 6e-8):
        assert exact_auroc(tmp_path, record(float(np.float32(exact + noise)), 1000, 9000)) == exact


def test_missing_scores_and_scores_of_another_run_do_not_count(tmp_path: Path) -> None:
    noisy = float(np.float32(1 - 7 / 9_000_000))
    expected = round(noisy * 18_000_000) / 18_000_000
    assert exact_auroc(tmp_path, record(noisy, 1000, 9000)) == expected
    for text in ("index,y,score\n0,0,1\n1,1,0\n", "index,y,score\n0,0,1\n", "not a table", ""):
        (tmp_path / "scores.csv").write_text(text)
        assert exact_auroc(tmp_path, record(noisy, 1000, 9000)) == expected


def test_exact_values_and_values_without_counts_are_unchanged() -> None:
    exact = 1 - 1 / 9_000_000
    assert exact_auroc(Path("nowhere"), record(exact, 1000, 9000)) == exact
    assert exact_auroc(Path("nowhere"), {"auroc": 0.123456789}) == 0.123456789
