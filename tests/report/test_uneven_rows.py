"""Cells of a row that were run for different experiments: the best is decided over those that all of them have."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_rows import AXES, row

from deepsad_pl.report import Report, write_report
from deepsad_pl.report.significance import paired, side_by_side


def of_classes(column: str, values: dict[str, float], **more: Any) -> list[dict[str, Any]]:
    """An experiment for each normal class."""
    return [row(column, 0.05, value, **{"normal_class": name, **more}) for name, value in values.items()]


def report_of(folder: Path, *rows: list[dict[str, Any]]) -> Report:
    return write_report(folder, pd.DataFrame([one for part in rows for one in part]), name="x", title="x", axes=AXES)


def best_of(report: Report) -> list[str]:
    return [cell.column for cell in report.cells if cell.best]


def test_a_method_without_the_hardest_class_is_not_the_best_for_that(tmp_path: Path) -> None:
    few = of_classes("cae", {"0": 0.99, "1": 0.98})
    all_ = of_classes("deep_sad", {"0": 0.995, "1": 0.985, "2": 0.70})
    report = report_of(tmp_path, few, all_)
    assert best_of(report) == ["deep_sad"]
    assert [(found.best, found.second) for found in report.rankings] == [("deep_sad", "cae")]
    (note,) = [note for note in report.notes if "different experiments" in note]
    assert note.startswith("In mnist, the cells of a row cover different experiments: the best is decided over")


def test_without_a_common_experiment_none_is_the_best(tmp_path: Path) -> None:
    report = report_of(tmp_path, of_classes("cae", {"0": 1.0, "6": 1.0}), of_classes("deep_sad", {"8": 0.9, "9": 0.9}))
    assert best_of(report) == []
    assert [found.comparison for found in report.rankings] == [None]
    assert "In mnist, no experiment is common to all cells of a row, so none is called the best." in report.notes
    assert "**" not in (tmp_path / "table.md").read_text()


def test_other_seeds_are_other_experiments(tmp_path: Path) -> None:
    rows = [of_classes(name, {"0": 0.9}, seed=seed) for name, seed in (("cae", 0), ("deep_sad", 1))]
    assert best_of(report_of(tmp_path, *rows)) == []


def test_the_best_variant_is_that_on_the_experiments_that_all_variants_have(tmp_path: Path) -> None:
    rows = of_classes("ocsvm_raw", {"0": 0.9, "1": 0.9, "2": 0.5, "3": 0.5}, variant="raw")
    rows += of_classes("ocsvm_raw", {"0": 0.85, "1": 0.85}, variant="hybrid")
    (cell,) = report_of(tmp_path, rows).cells
    assert (cell.variant, cell.n) == ("raw", 4)


def test_a_method_without_known_classes_is_weighted_like_the_others(tmp_path: Path) -> None:
    """Class 0 has three pairs and class 1 one, so equal values in each class are equal means."""
    blind = of_classes("cae", {"0": 0.9, "1": 0.5})
    known = [row("deep_sad", 0.05, 0.9, normal_class="0", anomaly_class=name) for name in "abc"]
    known.append(row("deep_sad", 0.05, 0.5, normal_class="1", anomaly_class="a"))
    report = report_of(tmp_path, blind, known)
    assert best_of(report) == ["cae", "deep_sad"]
    assert not any("different experiments" in note for note in report.notes)
    # With a little less in class 1, Deep SAD has the higher mean, but is not the best.
    known[-1]["auroc"] = 0.48
    report = report_of(tmp_path, blind, known)
    assert best_of(report) == ["cae"]
    assert any("counts once for each known class" in note for note in report.notes)


def test_pairs_do_not_multiply_where_one_column_mixes_given_and_drawn_classes() -> None:
    mixed = pd.DataFrame(
        [
            row("knn_ratio_raw", 0.05, 0.9 - i / 100, normal_class="3", anomaly_class=a)
            for i, a in enumerate([None, "1", "2"])
        ]
    )
    named = pd.DataFrame([row("trees", 0.05, 0.8, normal_class="3", anomaly_class=a) for a in ("1", "2")])
    pairs = paired(mixed, named)
    assert sorted(pairs["one"]) == [0.88, 0.89] and len(pairs) == 2
    three = side_by_side(
        {"a": mixed, "b": named, "c": pd.DataFrame([row("cae", 0.05, 0.7, normal_class="3")])}, "auroc"
    )
    assert three[["b", "c"]].to_numpy().tolist() == [[0.8, 0.7], [0.8, 0.7]]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_columns_does_not_matter(tmp_path: Path, order: int) -> None:
    rows = [of_classes("cae", {"0": 0.7, "1": 0.9}), of_classes("deep_sad", {"0": 0.8})][::order]
    assert best_of(report_of(tmp_path, *rows)) == ["deep_sad"]
