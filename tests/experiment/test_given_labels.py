"""``scenario=given``: the labels come with the data, and the truth of the test samples need not be known."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import EACH_METHOD, about, plan_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.metrics import auroc
from deepsad_pl.common.records import read_record, read_scores
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.scenario import given_labels, given_training_set
from deepsad_pl.data.sources import Source

# A data set from outside: its function is in this file.
DATASET = """
defaults: [/network@network: mlp, _self_]
name: marked
_target_: marked.load
truth: some
network: {units: [8, 4]}
lr: [1.0e-3]
epochs: [2]
batch_size: 32
classes: [normal, anomaly]
about: {inputs: rows, own_test_set: true}
"""
CODE = """
import numpy as np
from deepsad_pl import Source

def load(truth: str = "some") -> Source:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5)).astype("float32")
    x[:20] += 4
    semi_y = np.zeros(120, int)
    semi_y[:12], semi_y[-15:] = -1, 1
    test = rng.normal(size=(40, 5)).astype("float32")
    test[:10] += 4
    y = np.repeat([1, 0], [10, 30])
    y = {"all": y, "some": np.where(np.arange(40) % 4 == 0, -1, y), "normal": 0 * y, "none": 0 * y - 1}[truth]
    ids = np.array([f"row {i}" for i in range(40)])
    return Source(x, (semi_y == -1).astype(int), test, y, None, semi_y, ids)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run an experiment on the data set of this file."""
    import deepsad_pl

    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "marked.yaml").write_text(DATASET)
    (tmp_path / "marked.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def result(method: str = "deep_sad", **settings: Any) -> Any:
        return deepsad_pl.run(
            method,
            "marked",
            config_dir=tmp_path / "conf",
            **{
                "scenario": "given",
                "threshold": "none",
                "logger": "none",
                "output_dir": tmp_path / "runs",
                "max_epochs": 1,
                **settings,
            },
        )

    return result


def source_of(semi_y: Any, labels_test: Any = (0, 1)) -> Source:
    x = np.zeros((len(semi_y), 2), np.float32)
    return Source(x, np.zeros(len(x), int), x[: len(labels_test)], np.array(labels_test), None, np.array(semi_y))


def test_all_samples_are_used_with_their_labels() -> None:
    semi_y = np.array([0, -1, 1, 0, -1])
    found = given_training_set(semi_y)
    assert found.index.tolist() == [0, 1, 2, 3, 4]
    assert found.semi_y.tolist() == semi_y.tolist()
    counts = found.counts
    assert (counts.labeled_anomalies, counts.labeled_normals, counts.unlabeled, counts.total) == (2, 1, 2, 5)


def test_invalid_labels_are_refused() -> None:
    with pytest.raises(DeepSADError, match=r"a label is 2; give 0 \(unlabeled\)"):
        given_training_set([0, 2])
    with pytest.raises(DeepSADError, match="all 3 training samples are labeled anomalies"):
        given_training_set([-1, -1, -1])


def test_an_unsupervised_method_leaves_labeled_anomalies_out() -> None:
    data = AnomalyDataModule(source_of([0, -1, 1, 0]), given_labels(0), batch_size=4, labeled_anomalies=False)
    assert data.semi_y.tolist() == [0, 1, 0]


def test_data_without_labels_are_refused() -> None:
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(DeepSADError, match="these data have none; use scenario=default"):
        AnomalyDataModule(Source(x, np.zeros(4, int), x, np.zeros(4, int), None), given_labels(0), batch_size=4)


def test_only_samples_of_known_truth_are_evaluated(run: Callable[..., Any]) -> None:
    result = run()
    known = result.y >= 0
    assert (~known).sum() == 10
    assert result.auroc == auroc(result.scores[known], result.y[known])
    counts = result.record["counts"]
    assert counts == {
        **{"train": 120, "unlabeled": 93, "labeled_anomalies": 12, "labeled_normals": 15},
        **{"test": 40, "test_normal": 23, "test_anomalous": 7, "test_unknown": 10},
    }
    with (result.run_dir / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"row {i}" for i in range(40)]
    assert [row["y"] for row in rows[:5]] == ["", "1", "1", "1", ""]
    assert result.run_dir.name.startswith("given-seed_0-")
    assert run().was_finished


def test_given_labels_come_with_a_conformal_threshold(run: Callable[..., Any]) -> None:
    result = run(threshold="conformal", truth="none")
    counts = result.record["counts"]
    assert (counts["train"], counts["calibration"], counts["labeled_anomalies"]) == (99, 21, 12)
    assert result.record["threshold"].keys() == {"kind", "share", "alpha", "value", "rows"}
    assert run(threshold="conformal", truth="some").record["threshold"]["test"].keys() == {
        "false_alarm_rate",
        "recall",
    }


@pytest.mark.parametrize("truth", ["normal", "none"])
def test_a_run_without_truth_ends_with_scores_alone(truth: str, run: Callable[..., Any]) -> None:
    result = run(truth=truth, metrics={})
    assert result.record["auroc"] is None and result.record["average_precision"] is None
    assert np.isnan(result.auroc)
    assert np.isfinite(result.scores).all()
    assert read_record(result.run_dir, result.record["hash"]) is not None
    assert run(truth=truth).was_finished
    # Lost scores are computed again from the model.
    before = (result.run_dir / "scores.csv").read_bytes()
    (result.run_dir / "scores.csv").unlink()
    assert run(truth=truth).was_finished
    assert (result.run_dir / "scores.csv").read_bytes() == before


def test_a_record_without_auroc_is_valid_only_where_the_truth_is_not_known(run: Callable[..., Any]) -> None:
    result = run(truth="all")
    record = json.loads((result.run_dir / "metrics.json").read_text())
    (result.run_dir / "metrics.json").write_text(json.dumps({**record, "auroc": None}))
    assert read_record(result.run_dir, record["hash"]) is None


@pytest.mark.parametrize("method", EACH_METHOD)
def test_every_method_runs_on_given_labels(method: str, run: Callable[..., Any]) -> None:
    result = run(method, truth="none")
    assert np.isfinite(result.scores).all()
    hidden = about(method).labels == "hidden"
    assert result.record["counts"]["labeled_anomalies"] == (0 if hidden else 12)
    if "protocol" in result.record.get("selection", {}):
        assert result.record["selection"]["protocol"] != "test_subset"


def test_scores_without_truth_can_be_read_back(run: Callable[..., Any]) -> None:
    y, score = read_scores(run().run_dir)
    assert set(y.tolist()) == {-1, 0, 1}
    assert len(score) == 40


def test_the_identity_has_no_ratios() -> None:
    plan = plan_of("scenario=given")
    assert plan.identity["scenario"] == {"given": True, "seed": 0}
    assert plan.classes == ("normal", "anomaly")


def test_the_ratios_of_a_drawn_scenario_are_refused(tmp_path: Path) -> None:
    import deepsad_pl

    with pytest.raises(DeepSADError, match="gamma_l"):
        deepsad_pl.run("deep_sad", "digits", ["scenario=given", "scenario.gamma_l=0.1"], output_dir=tmp_path)
