"""The table "known | novel", its figure, and tables that show another metric than AUROC."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from report_rows import AXES, lines_of, row

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.report import Report, write_report
from deepsad_pl.report.budget import BudgetPoint, budget_frame, budget_markdown
from deepsad_pl.report.measure import measure_of

NAMES = {f"known_novel.{kind}" for kind in ("md", "csv", "tex", "png", "svg")}


def apart(column: str, value: float, known: float, novel: float, **more: Any) -> dict[str, Any]:
    blank = {"auroc_known": known, "auroc_novel": novel, "known": more["anomaly_class"], "finished": True}
    return row(column, value, 0.5, **more) | blank


def by_known() -> pd.DataFrame:
    """Two normal classes and two known ones; kNN is trained once for both known ones."""
    rows = []
    for n in range(2):
        for a in range(2):
            place = {"normal_class": str(n), "anomaly_class": f"k{a}"}
            for value in (0.0, 0.05):
                shared = {"experiment": f"knn {n}"}
                rows.append(apart("knn_raw", value, 0.7 + a / 10, 0.9 + n / 100, **place, **shared))
            rows.append(apart("deep_sad", 0.05, 0.98 + n / 100, 0.8 + a / 10, **place))
    return pd.DataFrame(rows)


def main_rows() -> pd.DataFrame:
    found = by_known().drop_duplicates(["experiment", "gamma_l"]).copy()
    found.loc[found["column"] == "knn_raw", "anomaly_class"] = None
    return found.drop(columns="known")


def written(folder: Path, **more: Any) -> Report:
    more = {"by_known": by_known(), **more}
    return write_report(folder, main_rows(), name="x", title="A study", axes=AXES, **more)


def test_known_and_novel_means_are_side_by_side(tmp_path: Path) -> None:
    report = written(tmp_path)
    assert {path.name for path in report.files} >= NAMES
    knn, deep = (
        {line["column"]: line for line in lines_of(tmp_path / "known_novel.csv") if line["gamma_l"] == "0.05"}[name]
        for name in ("knn_raw", "deep_sad")
    )
    # Two trainings of kNN, each for two known classes.
    assert (knn["known_mean"], knn["novel_mean"], knn["known_n"]) == ("75.0000", "90.5000", "4")
    assert float(knn["known_std"]) == pytest.approx(100 * pd.Series([0.7, 0.8, 0.7, 0.8]).std(), abs=1e-4)
    assert (deep["known_mean"], deep["novel_mean"], deep["novel_n"]) == ("98.5000", "85.0000", "4")
    text = (tmp_path / "known_novel.md").read_text()
    assert r"75.0 \| **90.5**" in text and r"**98.5** \| 85.0" in text and "n 4" in text
    latex = (tmp_path / "known_novel.tex").read_text()
    assert r"75.0 $|$ \textbf{90.5}" in latex
    assert latex.count("{") == latex.count("}")
    with Image.open(tmp_path / "known_novel.png") as image:
        assert len(image.convert("L").getcolors() or []) > 10
    # The main table has each training of kNN once.
    assert {cell.n for cell in report.cells if cell.column == "knn_raw"} == {2}
    assert set(report.frames()) == {"table", "tests", "known_novel_table"}


def test_test_informed_results_are_marked(tmp_path: Path) -> None:
    deep = by_known()["column"] == "deep_sad"
    written(tmp_path, by_known=by_known().assign(lr_from_test=deep))
    text = (tmp_path / "known_novel.md").read_text()
    assert r"**98.5** \| 85.0†" in text and r"75.0 \| **90.5** " in text and "† test-informed" in text
    marks = {line["column"]: line["test_informed"] for line in lines_of(tmp_path / "known_novel.csv")}
    assert marks == {"deep_sad": "learning_rate", "knn_raw": ""}


def test_a_data_set_without_known_anomalies_has_no_panel(tmp_path: Path) -> None:
    blank = by_known().assign(dataset="fmnist", auroc_known=math.nan, auroc_novel=math.nan)
    written(tmp_path, by_known=pd.concat([by_known(), blank], ignore_index=True))
    assert "fmnist" not in (tmp_path / "known_novel.svg").read_text()


def test_all_cells_are_over_the_classes_that_each_has(tmp_path: Path) -> None:
    """A method with a sample of the pairs is compared neither with means over all pairs nor with other values."""
    everything = by_known()
    deep = everything["column"] == "deep_sad"
    first = everything["anomaly_class"] == "k0"
    rows = everything[~deep | first | (everything["normal_class"] == "1")]
    written(tmp_path, by_known=rows)
    found = {(line["column"], line["gamma_l"]): line for line in lines_of(tmp_path / "known_novel.csv")}
    # Without (0, k1): .7, .7 and .8 of kNN on known anomalies, .98, .99 and .99 of Deep SAD.
    assert found["knn_raw", "0.05"]["known_n"] == found["deep_sad", "0.05"]["known_n"] == "3"
    assert float(found["knn_raw", "0.05"]["known_mean"]) == pytest.approx(220 / 3, abs=1e-4)
    assert float(found["deep_sad", "0.05"]["known_mean"]) == pytest.approx(296 / 3, abs=1e-4)
    # A method that sees no labels stays the same over the axis.
    assert found["knn_raw", "0.0"]["known_mean"] == found["knn_raw", "0.05"]["known_mean"]


def test_cells_that_share_no_classes_keep_their_own(tmp_path: Path) -> None:
    everything = by_known()
    deep, first = everything["column"] == "deep_sad", everything["normal_class"] == "0"
    written(tmp_path, by_known=everything[deep == first])
    counts = {(line["column"], line["gamma_l"]): line["known_n"] for line in lines_of(tmp_path / "known_novel.csv")}
    assert counts == {("knn_raw", "0.0"): "2", ("knn_raw", "0.05"): "2", ("deep_sad", "0.05"): "2"}


def test_a_method_with_novel_anomalies_only_is_in_the_figure(tmp_path: Path) -> None:
    rows = by_known()
    rows.loc[rows["column"] == "deep_sad", "auroc_known"] = math.nan
    written(tmp_path, by_known=rows)
    assert "Deep SAD" in (tmp_path / "known_novel.svg").read_text()


def test_the_figure_has_the_same_bytes_again(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        written(tmp_path / folder)
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_figure_of_a_study_without_axis_is_drawn(tmp_path: Path) -> None:
    one = by_known()[lambda frame: frame["gamma_l"] == 0.05].drop(columns="gamma_l")
    report = write_report(tmp_path, one, name="x", title="x", axes=[], by_known=one)
    assert {path.name for path in report.files} >= NAMES


def test_without_novel_anomalies_there_is_no_such_table(tmp_path: Path) -> None:
    report = written(tmp_path, by_known=by_known().assign(auroc_novel=math.nan))
    assert report.known_novel is None and not {path.name for path in report.files} & NAMES


def test_another_metric_is_the_figure_of_all_tables(tmp_path: Path) -> None:
    report = written(tmp_path, metric="auroc_novel", with_paper=True)
    (deep,) = [cell for cell in report.cells if cell.column == "deep_sad"]
    assert (deep.mean, deep.n, deep.best) == (pytest.approx(85.0), 4, False)
    (test,) = lines_of(tmp_path / "tests.csv")
    assert (test["best"], test["second"], test["metric"]) == ("knn_raw", "deep_sad", "auroc_novel")
    # Paired by normal class, known class and seed: (90, 91) against the mean of (80, 90) for each class.
    assert (test["unit"], test["n"]) == ("normal_class", "2")
    assert float(test["median_difference"]) == pytest.approx(5.5)
    assert {line["metric"] for line in lines_of(tmp_path / "table.csv")} == {"auroc_novel"}
    text = (tmp_path / "table.md").read_text()
    assert "AUROC of novel anomalies in percent" in text
    assert "AUROC of novel anomalies in percent" in (tmp_path / "table.tex").read_text()
    assert "AUROC of novel anomalies in %" in (tmp_path / "figure.svg").read_text()
    assert not any(cell.paper for cell in report.cells)
    assert "The paper reports AUROC only" in text


def test_a_metric_of_ones_own_is_shown_as_it_is(tmp_path: Path) -> None:
    rows = [row("deep_sad", 0.05, 0.9, seed=i) | {"cost": -1200.0 - i} for i in range(3)]
    rows += [row("classifier", 0.05, 0.9, seed=i) | {"cost": -3400.5} for i in range(3)]
    report = write_report(tmp_path, pd.DataFrame(rows), name="x", title="x", axes=AXES, metric="cost")
    text = (tmp_path / "table.md").read_text()
    assert "**-1201 ± 1**" in text and "-3400 ± 0" in text
    assert "cost: mean" in text.lower() and "where more is better" in text
    assert report.rankings[0].best == "deep_sad"
    assert lines_of(tmp_path / "tests.csv")[0]["median_difference"] == "2199.5000"


def test_finished_experiments_without_the_metric_are_not_missing(tmp_path: Path) -> None:
    rows = main_rows().assign(recall_fpr_1=[0.5] + [math.nan] * (len(main_rows()) - 1))
    report = write_report(tmp_path, rows, name="x", title="x", axes=AXES, metric="recall_fpr_1")
    assert sum(cell.n for cell in report.cells) == sum(cell.expected for cell in report.cells) == 1
    assert not any("incomplete" in note for note in report.notes)
    with pytest.raises(DeepSADError, match="all 8 finished experiments of the study x leave it blank; choose another"):
        write_report(
            tmp_path, rows.assign(recall_fpr_1=math.nan), name="x", title="x", axes=AXES, metric="recall_fpr_1"
        )


def test_the_metric_of_a_label_budget() -> None:
    points = [BudgetPoint("digits", "deep_sad", "random", n, 0, "0", 0.25, 1) for n in (5, 15)]
    measure = measure_of("recall_fpr_1")
    frame = budget_frame(points, measure)
    assert frame["recall_fpr_1"].tolist() == [25.0, 25.0] and "auroc" not in frame
    assert "recall at an FPR of at most 1 % in percent: mean" in budget_markdown("x", frame, "", measure)
