"""``study.metric``, and known and novel anomalies in a study: alike for methods that see labels and that do not."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_records import write_finished
from sklearn.metrics import roc_auc_score
from stacks import alone
from studies import planner, study_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.study.grid import Study
from deepsad_pl.study.jobs import Planned
from deepsad_pl.study.results import result_frames
from deepsad_pl.study.state import state_of
from deepsad_pl.study.study import _add_new_metrics, _require_metric
from deepsad_pl.sweep.failures import Failures

NEW = ("auroc_known", "auroc_novel", "auroc_fpr_10", "recall_fpr_1", "recall_fpr_5", "classes", "scores")


def small(name: str = "labeled_anomalies", **changed: Any) -> Study:
    grid = {"datasets": ["digits"], "methods": ["knn_raw", "knn_ratio_raw"], "normal_classes": [3, 8]}
    return study_of(name, **{**grid, "anomaly_classes": [1, 3, 5], "axes": {"gamma_l": [0.0, 0.05]}, **changed})


def run(study: Study, folder: Path) -> tuple[Planned, pd.DataFrame, pd.DataFrame]:
    words = (f"output_dir={folder}", "logger=none")
    with planner(*words) as made:
        planned = made.plan(study, {})
    for job in planned.unique:
        alone(folder, *job.overrides[:2], "logger=none", *(w for w in job.overrides[2:] if w not in words))
    records = state_of(planned.unique, Failures(folder / "failures")).records
    assert len(records) == len(planned.unique)
    return planned, *result_frames([planned], records, study, ())


def apart(run_dir: str, known: set[str]) -> list[float]:
    """AUROC of known and of novel anomalies, from ``scores.csv`` by scikit-learn."""
    with (Path(run_dir) / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for is_known in (True, False):
        kept = [row for row in rows if row["y"] == "0" or (row["class"] in known) is is_known]
        y = [int(row["y"]) for row in kept]
        found.append(roc_auc_score(y, [float(row["score"]) for row in kept]) if 1 in y else math.nan)
    return found


def test_an_experiment_without_labels_stands_for_every_known_class(tmp_path: Path) -> None:
    planned, main, by_known = run(small(), tmp_path)
    assert len(planned.unique) == 2 + 5  # kNN once per normal class, the ratio once per known class
    # kNN has each normal class in both rows of the table; 3 is not an anomaly where it is normal.
    knn = by_known[by_known["column"] == "knn_raw"]
    cells = [("3", "1"), ("3", "5"), ("8", "1"), ("8", "3"), ("8", "5")]
    for value in (0.0, 0.05):
        here = knn[knn["gamma_l"] == value]
        assert list(zip(here["normal_class"], here["anomaly_class"], strict=True)) == cells
    for _, row in by_known.iterrows():
        found = [row["auroc_known"], row["auroc_novel"]]
        assert found == pytest.approx(apart(row["experiment"], {row["known"]}), abs=1e-9)
    ratio = by_known[by_known["column"] == "knn_ratio_raw"]
    assert list(zip(ratio["normal_class"], ratio["known"], strict=True)) == cells
    # results.csv has one row for each experiment and cell, with means over the known classes.
    assert len(main[main["column"] == "knn_raw"]) == 4
    first = main[(main["column"] == "knn_raw") & (main["gamma_l"] == 0.05)].iloc[0]
    assert first["auroc_known"] == pytest.approx(knn[knn["experiment"] == first["experiment"]]["auroc_known"].mean())


def test_a_report_of_several_commands_has_the_known_classes_of_all(tmp_path: Path) -> None:
    parts = []
    for classes in ([1], [3, 5]):
        study = small(normal_classes=[8], anomaly_classes=classes, axes={"gamma_l": [0.05]})
        with planner(f"output_dir={tmp_path}") as made:
            parts.append(made.plan(study, {}))
    _, by_known = result_frames(parts, {}, study, ())
    for name in ("knn_raw", "knn_ratio_raw"):
        assert by_known[by_known["column"] == name]["anomaly_class"].tolist() == ["1", "3", "5"]
    # A cell without any known class is in no comparison.
    with planner(f"output_dir={tmp_path}") as made:
        planned = made.plan(small(normal_classes=[8], anomaly_classes=[8], methods=["knn_raw"]), {})
    assert result_frames([planned], {}, study, ())[1].empty


def test_known_classes_drawn_by_the_seed_are_the_same_for_all_methods(tmp_path: Path) -> None:
    axes = {"k_l": [0, 2]}
    study = small("anomaly_classes", anomaly_classes=None, axes=axes, normal_classes=[8], seeds=[0, 1])
    _, _, by_known = run(study, tmp_path)
    knn, ratio = (by_known[by_known["column"] == name] for name in ("knn_raw", "knn_ratio_raw"))
    two = knn[knn["k_l"] == 2]
    assert two["known"].tolist() == ratio["known"].tolist()
    assert all(len(known.split(", ")) == 2 for known in two["known"])
    for _, row in two.iterrows():
        known = set(row["known"].split(", "))
        found = [row["auroc_known"], row["auroc_novel"]]
        assert found == pytest.approx(apart(row["experiment"], known), abs=1e-9)
    none = knn[knn["k_l"] == 0]
    assert none["auroc_known"].isna().all() and none["auroc_novel"].tolist() == none["auroc"].tolist()


def test_records_of_an_earlier_release_are_completed_for_a_report(tmp_path: Path) -> None:
    study = small(normal_classes=[8], anomaly_classes=[1], methods=["knn_raw"])
    planned, _, before = run(study, tmp_path)
    (job,) = planned.unique
    path = job.plan.run_dir / "metrics.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key not in (*NEW, "sha256")}))
    state = state_of(planned.unique, Failures(tmp_path / "failures"))
    assert state.waiting == [job]
    _add_new_metrics(planned.unique)
    state = state_of(planned.unique, Failures(tmp_path / "failures"))
    _, after = result_frames([planned], state.records, study, ())
    pd.testing.assert_frame_equal(before, after)


def test_the_metric_must_be_one_that_the_experiments_have(tmp_path: Path) -> None:
    study = small(normal_classes=[8], anomaly_classes=[1], methods=["knn_raw"])
    with planner(f"output_dir={tmp_path}") as made:
        planned = made.plan(study, {})
    with pytest.raises(
        DeepSADError, match=r"study\.metric is auroc_nov, which none of the experiments has; choose auroc,"
    ):
        _require_metric("auroc_nov", planned)
    _require_metric("recall_fpr_1", planned)
    # Computed by an earlier command.
    write_finished(planned.unique[0].plan, mine=2.0, metrics={"mine": {}})
    _require_metric("mine", planned)
    with planner("+metrics.mine._target_=sklearn.metrics.brier_score_loss", f"output_dir={tmp_path / 'b'}") as made:
        _require_metric("mine", made.plan(study, {}))


@pytest.mark.slow
def test_a_study_reports_any_metric_without_training(cli: Callable[..., Any], tmp_path: Path) -> None:
    words = ("study=labeled_anomalies", "dataset=digits", "method=knn_raw,knn_ratio_raw", "logger=none",
             "study.axes.gamma_l=[0.05]", "study.normal_classes=[8]", "study.anomaly_classes=[1,5]",
             "hydra/launcher=basic")  # fmt: skip
    wrong = cli("sweep.py", *words, "study.metric=auroc_nov")
    assert wrong.returncode == 1 and "study.metric is auroc_nov" in wrong.stderr + wrong.stdout
    done = cli("sweep.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "known | novel" in done.stdout
    folder = tmp_path / "runs" / "studies" / "labeled_anomalies"
    assert "AUROC in percent" in (folder / "table.md").read_text()
    records = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
    done = cli("sweep.py", *words, "study.metric=auroc_novel", "action=report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AUROC of novel anomalies in percent" in (folder / "table.md").read_text()
    assert records == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
