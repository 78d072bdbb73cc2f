"""What more labels gain: means, standard errors and gains over the seeds, as a table and a figure."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepsad_pl.report.budget import BudgetPoint, budget_frame, budget_markdown, write_budget


def point(strategy: str, labels: int, seed: int, auroc: float, anomalies: int = 0, normal: str = "0") -> BudgetPoint:
    return BudgetPoint("digits", "deep_sad", strategy, labels, seed, normal, auroc, anomalies)


POINTS = [
    *(point("random", 5, seed, auroc) for seed, auroc in enumerate((0.90, 0.92, 0.97))),
    *(point("random", 15, seed, auroc, 1 + seed) for seed, auroc in enumerate((0.91, 0.94, 0.97))),
    *(point("diverse", 5, seed, auroc) for seed, auroc in enumerate((0.90, 0.92, 0.97))),
    *(point("diverse", 15, seed, auroc, 6) for seed, auroc in enumerate((0.95, 0.96))),
]


def row(frame: pd.DataFrame, strategy: str, labels: int) -> pd.Series:
    (found,) = [one for _, one in frame.iterrows() if (one["strategy"], one["labels"]) == (strategy, labels)]
    return found


def test_means_and_standard_errors_are_over_seeds() -> None:
    found = row(budget_frame(POINTS), "random", 15)
    values = np.array([91.0, 94.0, 97.0])
    assert found["auroc"] == pytest.approx(values.mean())
    assert found["auroc_se"] == pytest.approx(values.std(ddof=1) / math.sqrt(3))
    assert (found["seeds"], found["anomalies"]) == (3, 2)


def test_gains_are_paired_by_seed() -> None:
    frame = budget_frame(POINTS)
    gain = np.array([1.0, 2.0, 0.0])
    found = row(frame, "random", 15)
    assert found["gain"] == pytest.approx(gain.mean())
    assert found["gain_se"] == pytest.approx(gain.std(ddof=1) / math.sqrt(3))
    # The third seed of diverse is not finished, and there is no round before the first one.
    assert row(frame, "diverse", 15)["gain"] == pytest.approx((5.0 + 4.0) / 2)
    assert row(frame, "diverse", 15)["gain_seeds"] == 2
    assert math.isnan(row(frame, "random", 5)["gain"]) and row(frame, "random", 5)["gain_seeds"] == 0


def test_normal_classes_are_averaged_within_a_seed() -> None:
    points = [point("random", 5, seed, auroc, normal=normal) for seed, normal, auroc in (
        (0, "0", 0.8), (0, "1", 1.0), (1, "0", 0.6), (1, "1", 0.8),
    )]  # fmt: skip
    (found,) = budget_frame(points).to_dict("records")
    assert found["seeds"] == 2
    assert found["auroc"] == pytest.approx(80.0) and found["auroc_se"] == pytest.approx(10.0)


def test_gains_are_paired_by_normal_class() -> None:
    """Class B is hard, and only class A has the second round."""
    points = [
        point("random", 5, seed, auroc, normal=normal) for seed in (0, 1) for normal, auroc in (("A", 0.9), ("B", 0.5))
    ]
    points += [point("random", 15, seed, 0.91, normal="A") for seed in (0, 1)]
    found = row(budget_frame(points), "random", 15)
    assert (found["gain"], found["total_gain"]) == pytest.approx((1.0, 1.0))


def test_a_gain_is_over_the_row_before() -> None:
    points = [point("random", labels, 0, auroc) for labels, auroc in ((5, 0.5), (15, 0.6), (25, 0.7))]
    points += [point("random", labels, seed, auroc) for seed in (1, 2) for labels, auroc in ((5, 0.5), (25, 0.7))]
    found = row(budget_frame(points), "random", 25)
    assert found["gain"] == pytest.approx(10.0) and found["gain_seeds"] == 1
    assert found["total_gain"] == pytest.approx(20.0)


def test_a_strategy_without_the_first_round_has_no_gain_over_it() -> None:
    points = [
        point("random", 5, 0, 0.5),
        point("random", 15, 0, 0.6),
        point("diverse", 15, 0, 0.7),
        point("diverse", 25, 0, 0.8),
    ]
    frame = budget_frame(points)
    assert math.isnan(row(frame, "diverse", 25)["total_gain"]) and row(frame, "diverse", 25)["gain"] == pytest.approx(
        10.0
    )


def test_strategies_that_start_at_different_values_are_named(tmp_path: Path) -> None:
    points = [
        point(name, labels, 0, auroc) for name, auroc in (("random", 0.7), ("uncertain", 0.9)) for labels in (15, 25)
    ]
    write_budget(tmp_path, "a title", points)
    drawn = (tmp_path / "figure.svg").read_text()
    assert "random 70.0" in drawn and "uncertain 90.0" in drawn


def test_test_informed_points_are_marked() -> None:
    points = [dataclasses.replace(one, test_informed=True) for one in POINTS]
    text = budget_markdown("a title", budget_frame(points), "")
    assert "| digits | Deep SAD† | 5 |" in text and "† test-informed" in text
    assert "†" not in budget_markdown("a title", budget_frame(POINTS), "")


def test_a_single_seed_has_no_standard_error(tmp_path: Path) -> None:
    frame = budget_frame([point("random", 5, 0, 0.9)])
    assert math.isnan(frame["auroc_se"].iloc[0])
    assert "| digits | Deep SAD | 5 | 90.0 (0.0) |" in budget_markdown("a title", frame, "")


def test_the_table_has_a_row_for_each_number_of_labels() -> None:
    lines = budget_markdown("a title", budget_frame(POINTS), "seed=0,1,2").splitlines()
    assert lines[2] == "| data set | method | labels | random | diverse |"
    assert lines[4] == "| digits | Deep SAD | 5 | 93.0 ± 2.1 (0.0) | 93.0 ± 2.1 (0.0) |"
    assert lines[5] == "| digits | Deep SAD | 15 | 94.0 ± 1.7 (2.0) | 95.5 ± 0.5 (6.0) |"
    assert lines[7] == "Gain in AUROC over the row before, in percentage points:"
    assert lines[11] == "| digits | Deep SAD | 15 | +1.0 ± 0.6 | +4.5 ± 0.5 |"
    assert "over 2 to 3 seeds" in lines[13] and "seed=0,1,2" in lines[14]


def test_the_files_are_reproduced_byte_for_byte(tmp_path: Path) -> None:
    files = write_budget(tmp_path / "a", "a title", POINTS, ["seed=0"])
    again = write_budget(tmp_path / "b", "a title", POINTS, ["seed=0"])
    assert [path.name for path in files] == ["budget.md", "budget.csv", "figure.png", "figure.svg"]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
    drawn = (tmp_path / "a" / "figure.svg").read_text()
    texts = (
        "labeled samples",
        "labeled anomalies",
        "gain in AUROC",
        "random",
        "diverse",
        "run with seed=0",
        "2 to 3 seeds",
    )
    for told in texts:
        assert told in drawn
    read = pd.read_csv(tmp_path / "a" / "budget.csv")
    assert read["auroc"].tolist() == pytest.approx(budget_frame(POINTS)["auroc"].tolist(), abs=1e-4)


def test_without_a_finished_loop_nothing_is_written(tmp_path: Path) -> None:
    assert write_budget(tmp_path / "a", "a title", []) == []
    assert not (tmp_path / "a").exists()
