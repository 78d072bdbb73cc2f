"""Everything that is read from a finished run is checked: its record, its scores, a study's notes and requests."""

import csv
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import AUROC, SCORE, Y, made_record, write_finished
from planned import plan_of, settings_of
from sklearn.metrics import roc_auc_score
from stacks import alone, assigned

from deepsad_pl.common import records as results
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_scores, scores_problem
from deepsad_pl.experiment.finished import Outcome, finished_outcome, record_of
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.experiment.run import DAMAGED
from deepsad_pl.stacked.experiments import run_together

Experiment = Callable[..., Outcome]
ONE_EPOCH = "trainer.max_epochs=1"


@pytest.fixture(autouse=True)
def _each_warning_anew() -> Iterator[None]:
    results.warn_once.cache_clear()
    yield


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(f"output_dir={tmp_path}")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def damage(outcome: Outcome, **changed: Any) -> None:
    path = outcome.run_dir / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def counts(**changed: Any) -> dict[str, Any]:
    return {"counts": {**made_record(plan_of())["counts"], **changed}}


def test_a_record_of_the_first_release_is_valid(plan: Plan) -> None:
    record = write_finished(plan)
    assert finished_outcome(plan) == Outcome(record, plan.run_dir, was_finished=True)
    assert pytest.approx(roc_auc_score(Y, SCORE)) == AUROC


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        (b"\xff\xfe\x00", "codec can't decode"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "a list instead of an object"),
        ("{}", "its hash is None"),
        ("null", "a NoneType instead of an object"),
    ],
)
def test_an_invalid_record_counts_as_unfinished(
    plan: Plan, caplog: pytest.LogCaptureFixture, content: str | bytes, reason: str
) -> None:
    write_finished(plan)
    path = plan.run_dir / "metrics.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for _ in range(2):
        assert finished_outcome(plan) is None
    (told,) = warnings_of(caplog)
    assert told.startswith(f"{path} is not a valid record (")
    assert reason in told


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        *(({"auroc": value}, "its auroc is") for value in (True, "0.9", None, float("nan"), 1.5, -0.1, float("inf"))),
        ({"average_precision": 2}, "its average_precision is 2"),
        *(({name: value}, f"its {name} is") for name in ("auroc_known", "recall_fpr_5") for value in (1.5, "0.9", -1)),
        *(({"classes": value}, "its classes are") for value in ([], {"a": 1}, {"a": {"test": 1, "auroc": 2}})),
        ({"hash": "00000000"}, "its hash is '00000000'"),
        ({"dataset": None}, "its dataset is None"),
        ({"method": 3}, "its method is 3"),
        *(({"counts": value}, "its counts are") for value in (None, [], {}, {"test": 5})),
        *((counts(test=value), "its counts are") for value in ("5", True, -5, 5.0)),
        (counts(test=6), "its counts of test samples do not add up"),
        (counts(test=2, test_anomalous=0), "its counts of test samples do not add up"),
        *(({"seconds": value}, "its seconds are") for value in (None, [], {}, {"fit": "1"}, {"fit": -1})),
        ({"selection": "holdout"}, "its selection is 'holdout'"),
        *(({"scores": value}, "its scores are") for value in ("x", {"bytes": 1}, {"bytes": "1", "sha256": "a"})),
    ],
)
def test_a_record_with_one_wrong_entry_counts_as_unfinished(
    plan: Plan, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], reason: str
) -> None:
    write_finished(plan, **changed)
    assert record_of(plan) is None
    (told,) = warnings_of(caplog)
    assert reason in told


def test_the_record_of_another_experiment_is_not_accepted(plan: Plan, tmp_path: Path) -> None:
    other = plan_of(f"output_dir={tmp_path}", "seed=1")
    write_finished(other)
    other.run_dir.rename(plan.run_dir)
    assert finished_outcome(plan) is None


def test_a_record_that_cannot_be_read_is_an_error(plan: Plan) -> None:
    (plan.run_dir / "metrics.json").mkdir(parents=True)
    with pytest.raises(DeepSADError, match=r"metrics.json cannot be read .*; make it readable"):
        finished_outcome(plan)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"\xff\xfe", "codec can't decode"),
        (b"index,y\n0,1\n", "it has no column score"),
        (b"index,y,points\n0,1,1.0\n", "it has no column score"),
        (b"index,y,score\n", "0 rows do not match the 5"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,1.0\n3,0,1.0\n", "4 rows do not match the 5 test samples"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,1.0\n3,0,1.0\n3,1,0.25\n", "5 rows do not match the 5 test samples"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,1.0\n3,0,1.0\n4,1\n", "a row does not have 3 columns"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,1.0\n3,0,1.0\n4,0,0.25\n", "y does not mark 3 anomalies"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,nan\n3,0,1.0\n4,1,0.25\n", "not finite"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,high\n3,0,1.0\n4,1,0.25\n", "could not convert"),
        (b"index,y,score\n0,0,0.5\n1,1,2.0\n2,1,3.0\n3,0,1.0\n4,1,0.25\n", "its AUROC is 0.666667, but the record's"),
    ],
)
def test_scores_that_do_not_fit_an_older_record_are_damaged(plan: Plan, content: bytes, reason: str) -> None:
    record = write_finished(plan)
    (plan.run_dir / "scores.csv").write_bytes(content)
    problem = scores_problem(plan.run_dir, record)
    assert problem is not None
    assert problem.startswith("is damaged")
    assert reason in problem
    assert finished_outcome(plan) is None


def test_further_columns_and_another_column_order_are_allowed(plan: Plan) -> None:
    write_finished(plan)
    path = plan.run_dir / "scores.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["class", "score", "index", "id", "y"])
        writer.writeheader()
        writer.writerows({**row, "class": "a,b", "id": "ä"} for row in rows)
    assert finished_outcome(plan) is not None
    y, score = read_scores(plan.run_dir)
    assert y.tolist() == list(Y)
    assert score.tolist() == list(SCORE)


def test_the_checksum_detects_one_changed_digit(experiment: Experiment) -> None:
    outcome = experiment("method=iforest_raw")
    path = outcome.run_dir / "scores.csv"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + (b"1" if content[-2:-1] != b"1" else b"2") + content[-1:])
    assert scores_problem(outcome.run_dir, outcome.record) == "is damaged (its SHA-256 differs)"
    assert scores_problem(outcome.run_dir, outcome.record, contents=False) is None
    path.write_bytes(content[:-2])
    assert scores_problem(outcome.run_dir, outcome.record, contents=False) == f"is damaged ({len(content) - 2} bytes)"
    path.write_bytes(content)
    assert scores_problem(outcome.run_dir, outcome.record) is None


def test_a_damaged_record_is_renamed_and_only_scoring_is_repeated(
    experiment: Experiment, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = experiment(ONE_EPOCH)
    scores = (first.run_dir / "scores.csv").read_bytes()
    damage(first, auroc=1.5)
    monkeypatch.setattr("deepsad_pl.experiment.fit_deep.train", forbidden)
    again = experiment(ONE_EPOCH)
    assert not again.was_finished
    assert again.record["auroc"] == first.record["auroc"]
    assert (first.run_dir / "scores.csv").read_bytes() == scores
    assert json.loads((first.run_dir / DAMAGED).read_text())["auroc"] == 1.5
    assert len(warnings_of(caplog)) == 1
    assert experiment(ONE_EPOCH).was_finished


def test_force_removes_renamed_damaged_files(experiment: Experiment) -> None:
    first = experiment("method=iforest_raw")
    damage(first, auroc=1.5)
    assert (experiment("method=iforest_raw").run_dir / DAMAGED).exists()
    assert not (experiment("method=iforest_raw", "force=true").run_dir / DAMAGED).exists()


def forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("something is trained again")


@pytest.mark.parametrize("method", ["deep_sad", "ss_dgm_m1m2", "autoencoder", "ssad_hybrid", "kde_raw"])
@pytest.mark.parametrize("lost", [True, False])
def test_lost_scores_are_written_again_to_the_bit_without_training(
    experiment: Experiment,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    lost: bool,
) -> None:
    words = (ONE_EPOCH, f"method={method}")
    first = experiment(*words)
    path = first.run_dir / "scores.csv"
    scores, record = path.read_bytes(), (first.run_dir / "metrics.json").read_bytes()
    if lost:
        path.unlink()
    else:
        path.write_bytes(scores[: len(scores) // 2])
    monkeypatch.setattr("deepsad_pl.experiment.fit_deep.train", forbidden)
    monkeypatch.setattr("deepsad_pl.experiment.fit_shallow.score_shallow", forbidden)
    caplog.set_level(logging.INFO)
    again = experiment(*words)
    assert again.was_finished
    assert again.record == first.record
    assert path.read_bytes() == scores
    assert (first.run_dir / "metrics.json").read_bytes() == record
    assert not (first.run_dir / DAMAGED).exists()
    (told,) = warnings_of(caplog)
    assert told.startswith(f"{path} is {'missing' if lost else 'damaged'}")
    assert "written again" in (first.run_dir / "train.log").read_text()


def test_an_older_record_gets_the_checksum_of_its_new_scores(experiment: Experiment) -> None:
    first = experiment("method=iforest_raw")
    path = first.run_dir / "metrics.json"
    older = {key: value for key, value in first.record.items() if key != "scores"}
    path.write_text(json.dumps(older))
    assert experiment("method=iforest_raw").record == older
    (first.run_dir / "scores.csv").unlink()
    assert experiment("method=iforest_raw").record == first.record


@pytest.mark.parametrize(("method", "model"), [("deep_sad", "last.ckpt"), ("kde_raw", "model.npz")])
@pytest.mark.parametrize("lost", [True, False])
def test_if_the_model_is_lost_too_the_experiment_is_run_again(
    experiment: Experiment, caplog: pytest.LogCaptureFixture, method: str, model: str, lost: bool
) -> None:
    words = (ONE_EPOCH, f"method={method}")
    first = experiment(*words)
    scores = (first.run_dir / "scores.csv").read_bytes()
    (first.run_dir / "scores.csv").unlink()
    if lost:
        (first.run_dir / "checkpoints" / model).unlink()
    else:
        (first.run_dir / "checkpoints" / model).write_bytes(b"PK")
    again = experiment(*words)
    assert not again.was_finished
    assert again.record["auroc"] == first.record["auroc"]
    assert (first.run_dir / "scores.csv").read_bytes() == scores
    assert any("its trained model is lost too" in told for told in warnings_of(caplog))
    assert experiment(*words).was_finished


def test_a_model_that_does_not_match_the_record_is_trained_again(
    experiment: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = experiment(ONE_EPOCH), experiment(ONE_EPOCH, "seed=1")
    scores = (first.run_dir / "scores.csv").read_bytes()
    (other.run_dir / "checkpoints" / "last.ckpt").replace(first.run_dir / "checkpoints" / "last.ckpt")
    (first.run_dir / "scores.csv").unlink()
    again = experiment(ONE_EPOCH)
    assert not again.was_finished
    assert (first.run_dir / "scores.csv").read_bytes() == scores
    assert any("is run again from the start" in told for told in warnings_of(caplog))


def test_a_stack_rewrites_lost_scores_and_repeats_damaged_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [(ONE_EPOCH, "logger=none", "pretrain=none", f"seed={seed}") for seed in range(2)]
    first = [alone(tmp_path, *cell) for cell in words]
    scores = [(outcome.run_dir / "scores.csv").read_bytes() for outcome in first]
    (first[0].run_dir / "scores.csv").unlink()
    damage(first[1], counts=None)
    monkeypatch.setattr("deepsad_pl.stacked.experiments.train_stack", forbidden)
    again = run_together([assigned(tmp_path, *cell) for cell in words])
    assert [outcome.was_finished for outcome in again if isinstance(outcome, Outcome)] == [True, False]
    assert (first[0].run_dir / "scores.csv").read_bytes() == scores[0]
    assert np.allclose(read_scores(first[1].run_dir)[1], columns(scores[1]), rtol=1e-5)


def columns(content: bytes) -> list[float]:
    return [float(row["score"]) for row in csv.DictReader(content.decode().splitlines())]


def test_a_forced_run_ignores_existing_files(experiment: Experiment) -> None:
    first = experiment("method=iforest_raw")
    (first.run_dir / "metrics.json").write_text("[]")
    (first.run_dir / "scores.csv").unlink()
    again = experiment("method=iforest_raw", "force=true")
    assert again.record["auroc"] == first.record["auroc"]
    settings = settings_of(f"output_dir={first.run_dir.parents[2]}", "method=iforest_raw", "logger=none")
    assert finished_outcome(make_plan(settings)) is not None
