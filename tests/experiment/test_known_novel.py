"""Known and novel anomalies apart: in a new run's files, where they are blank, and for runs of earlier releases."""

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import plan_of
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from stacks import outcomes, together

from deepsad_pl.common.records import METRICS
from deepsad_pl.experiment import class_metrics
from deepsad_pl.experiment.class_metrics import known_and_novel, metrics_of
from deepsad_pl.experiment.finished import Outcome
from deepsad_pl.experiment.show_outcome import show_outcome

Experiment = Callable[..., Outcome]
DIGITS = ("dataset=digits", "method=knn_ratio_raw", "scenario.normal_class=8")
NEW = [name for name in METRICS if name not in ("auroc", "average_precision")]


def rows_of(outcome: Outcome) -> list[dict[str, str]]:
    with (outcome.run_dir / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected(rows: list[dict[str, str]], known: set[str]) -> dict[str, float | None]:
    """Known and novel AUROC from ``scores.csv`` alone, by scikit-learn."""
    found: dict[str, float | None] = {}
    for name, is_kind in (("auroc_known", known.__contains__), ("auroc_novel", lambda c: c not in known)):
        kept = [row for row in rows if row["y"] == "0" or is_kind(row["class"])]
        y = [int(row["y"]) for row in kept]
        found[name] = roc_auc_score(y, [float(row["score"]) for row in kept]) if 1 in y else None
    return found


def test_a_run_tells_known_and_novel_anomalies_apart(experiment: Experiment, capsys: Any) -> None:
    outcome = experiment(*DIGITS, "scenario.anomaly_class=[3,7]")
    rows = rows_of(outcome)
    assert list(rows[0]) == ["index", "y", "score", "class"]
    assert {row["class"] for row in rows if row["y"] == "0"} == {"8"}
    assert sorted({row["class"] for row in rows}) == [str(i) for i in range(10)]
    for name, value in expected(rows, {"3", "7"}).items():
        assert outcome.record[name] == pytest.approx(value, abs=1e-12)
    assert list(outcome.record)[: len(METRICS)] == list(METRICS)
    classes = outcome.record["classes"]
    assert sorted(classes) == list("012345679")
    assert sum(one["test"] for one in classes.values()) == outcome.record["counts"]["test_anomalous"]
    show_outcome(outcome)
    shown = capsys.readouterr().out
    assert "AUROC known" in shown and "recall FPR <= 5 %" in shown
    show_outcome(outcome, compact=True)
    assert f"(known {outcome.record['auroc_known']:.4f}, novel" in capsys.readouterr().out


def test_without_a_known_class_all_anomalies_are_novel(experiment: Experiment) -> None:
    without = ("method=ssad_raw", "method.selection=none", "scenario.gamma_l=0")
    for words in (("method=knn_raw", "scenario.anomaly_class=3"), without):
        record = experiment("dataset=digits", *words).record
        assert record["auroc_known"] is None
        assert record["auroc_novel"] == record["auroc"]


def test_a_single_anomaly_class_leaves_no_novel_one(experiment: Experiment) -> None:
    record = experiment("dataset=digits", DIGITS[1], "scenario.normal_class=[0,1,2,3,4,5,6,7,8]",
                        "scenario.anomaly_class=9").record  # fmt: skip
    assert record["auroc_novel"] is None
    assert record["auroc_known"] == record["auroc"]


def test_a_known_class_without_test_samples_is_blank() -> None:
    found = metrics_of([0.1, 0.2, 0.9], [0, 0, 1], [0, 0, 2], ["a", "b", "c"], ["b"])
    assert (found["auroc_known"], found["auroc_novel"]) == (None, 1.0)
    assert found["classes"] == {"c": {"test": 1, "auroc": 1.0}}
    assert known_and_novel({}, ["b"], 2) == {"auroc_known": None, "auroc_novel": None}


def test_with_given_labels_the_class_is_blank(experiment: Experiment, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    lines = ["a,b,quality"] + [f"{a:.3f},{b:.3f},{'ok' if a < 1 else 'bad'}" for a, b in draw.normal(size=(120, 2))]
    (tmp_path / "parts.csv").write_text("\n".join(lines))
    words = ("dataset=table", f"dataset.path={tmp_path / 'parts.csv'}", "dataset.label=quality")
    outcome = experiment(
        *words,
        "dataset.truth=quality",
        "dataset.normal=[ok]",
        "dataset.anomaly=[bad]",
        "method=knn_raw",
        "threshold=none",
    )
    assert {row["class"] for row in rows_of(outcome)} == {""}
    assert (outcome.record["auroc_known"], outcome.record["auroc_novel"]) == (None, None)
    assert outcome.record["recall_fpr_5"] is not None and "classes" not in outcome.record


def test_with_queries_the_classes_of_the_answers_are_known(experiment: Experiment) -> None:
    outcome = experiment("dataset=digits", "method=knn_ratio_raw", "scenario=queried", "scenario.start=20",
                         "scenario.rounds=0", "scenario.gamma_p=0.3")  # fmt: skip
    plan = plan_of("dataset=digits", "seed=0")
    labels = class_metrics._labels(plan)[0]
    known = {str(label) for label in labels[outcome.record["labeled_rows"]].tolist()} - {"0"}
    assert 0 < len(known) < 9
    for name, value in expected(rows_of(outcome), known).items():
        assert outcome.record[name] == pytest.approx(value, abs=1e-12)


def as_of_an_earlier_release(outcome: Outcome) -> bytes:
    """Remove what earlier releases did not write; return the content of ``scores.csv``."""
    scores = outcome.run_dir / "scores.csv"
    lines = [line.rsplit(",", 1)[0] for line in scores.read_text().splitlines()]
    scores.write_text("\n".join(lines) + "\n")
    left = {key: value for key, value in outcome.record.items() if key not in (*NEW, "classes", "scores")}
    (outcome.run_dir / "metrics.json").write_text(json.dumps(left))
    return scores.read_bytes()


def test_a_finished_run_gets_the_metrics_from_its_scores(experiment: Experiment) -> None:
    words = (*DIGITS, "scenario.anomaly_class=4", "seed=3")
    new = experiment(*words)
    before = as_of_an_earlier_release(new)
    model = (new.run_dir / "checkpoints" / "model.npz").stat().st_mtime_ns
    again = experiment(*words)
    assert again.was_finished
    assert (new.run_dir / "scores.csv").read_bytes() == before
    assert (new.run_dir / "checkpoints" / "model.npz").stat().st_mtime_ns == model
    for name in METRICS:
        assert again.record[name] == pytest.approx(new.record[name], abs=1e-12)
    assert again.record["classes"] == new.record["classes"]
    written = json.loads((new.run_dir / "metrics.json").read_text())
    assert written.pop("sha256") and written == again.record
    kept = {key: value for key, value in new.record.items() if key not in (*METRICS, "classes", "scores")}
    assert kept.items() <= again.record.items()


@pytest.mark.parametrize("why", ["lost", "other"])
def test_without_the_same_data_known_and_novel_stay_blank(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    words = (*DIGITS, "scenario.anomaly_class=4", "seed=5")
    new = experiment(*words)
    as_of_an_earlier_release(new)
    monkeypatch.setattr(class_metrics, "_known_labels", {})
    digits = load_digits()
    if why == "other":
        digits.target = digits.target[::-1].copy()

    def load(*_: Any, **__: Any) -> Any:
        if why == "lost":
            raise class_metrics.DeepSADError("the data cannot be read")
        return digits

    monkeypatch.setattr("sklearn.datasets.load_digits", load)
    with caplog.at_level(logging.WARNING):
        again = experiment(*words)
    assert again.was_finished
    assert (again.record["auroc_known"], again.record["auroc_novel"]) == (None, None)
    assert again.record["auroc_fpr_10"] == pytest.approx(new.record["auroc_fpr_10"], abs=1e-12)
    assert "auroc_known and auroc_novel are blank" in caplog.text
    assert "classes" not in again.record


def test_an_own_metric_of_that_name_gives_way(experiment: Experiment) -> None:
    new = experiment(*DIGITS, "seed=7")
    as_of_an_earlier_release(new)
    path = new.run_dir / "metrics.json"
    record = json.loads(path.read_text()) | {
        "recall_fpr_5": -3.0,
        "metrics": {"recall_fpr_5": {}, "mine": {}},
        "mine": 2,
    }
    path.write_text(json.dumps(record))
    again = experiment(*DIGITS, "seed=7").record
    assert again["recall_fpr_5"] == new.record["recall_fpr_5"]
    assert (again["metrics"], again["mine"]) == ({"mine": {}}, 2)


def test_a_stack_writes_the_same_metrics(tmp_path: Path) -> None:
    words = ("logger=none", "trainer.max_epochs=1", "scenario.gamma_l=0.1")
    found = outcomes(together(tmp_path, *((*words, f"scenario.anomaly_class={c}") for c in (2, 5))))
    for outcome, known in zip(found, ("2", "5"), strict=True):
        for name, value in expected(rows_of(outcome), {known}).items():
            assert outcome.record[name] == pytest.approx(value, abs=1e-6)
