"""Weights & Biases' offline run file, the losses as CSV, and no logger."""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb_file
from omegaconf import OmegaConf
from planned import settings_of
from pytorch_lightning import Trainer

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import METRICS
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.tracking.loggers import wandb_settings
from deepsad_pl.tracking.trackers import CSVTracker, flatten

Experiment = Callable[..., Outcome]
ROC = "test/roc_table"
HISTOGRAMS = {"test/scores_normal", "test/scores_anomalous"}
STEPS = 4  # of an epoch: 112 training rows in batches of 32


@pytest.fixture(autouse=True, scope="module")
def no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the W&B key and settings of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_CONFIG_DIR", str(tmp_path_factory.mktemp("wandb_config")))
        yield


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished single run under W&B."""
    output_dir = tmp_path_factory.mktemp("tracked")
    settings = settings_of(f"output_dir={output_dir}", "trainer.max_epochs=2", "logger.tags=[a,b]")
    plan = make_plan(settings)
    return run_experiment(plan, config=settings, config_yaml=OmegaConf.to_yaml(settings), command="", single=True)


@pytest.fixture(scope="module")
def tracked(outcome: Outcome) -> wandb_file.OfflineRun:
    (path,) = wandb_file.run_files(outcome.run_dir)
    return wandb_file.read(path)


def keys_of(run: wandb_file.OfflineRun) -> set[str]:
    return {key.rsplit(".", 1)[0] for key in run.summary}


def losses_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_can_be_read_from_the_run_file(outcome: Outcome, tracked: wandb_file.OfflineRun) -> None:
    assert not any("threshold" in key for key in tracked.summary)
    assert tracked.summary["test/auroc"] == outcome.record["auroc"]
    for name in METRICS:
        assert tracked.summary[f"test/{name}"] == outcome.record[name]


def test_project_group_job_type_and_tags_are_set(tracked: wandb_file.OfflineRun) -> None:
    assert (tracked.project, tracked.group, tracked.job_type) == ("deepsad-pl", "digits/deep_sad", "train")
    assert tracked.tags == ["a", "b"]


def test_config_has_flat_keys(tracked: wandb_file.OfflineRun) -> None:
    expected = {"scenario.gamma_l": 0.05, "method.name": "deep_sad", "seed": 0, "pretrain.lr": [1e-3, 1e-4]}
    assert expected.items() <= tracked.config.items()
    ours = {key: value for key, value in tracked.config.items() if not key.startswith("_wandb")}
    assert not any(isinstance(value, dict) for value in ours.values())


@pytest.mark.parametrize("phase", ["pretrain", "fit"])
def test_each_steps_loss_is_logged_with_its_epoch(tracked: wandb_file.OfflineRun, phase: str) -> None:
    rows = [row for row in tracked.history if f"{phase}/loss" in row]
    assert [row[f"{phase}/step"] for row in rows] == list(range(2 * STEPS))
    assert [row[f"{phase}/epoch"] for row in rows] == [0] * STEPS + [1] * STEPS
    assert all(math.isfinite(row[f"{phase}/loss"]) for row in rows)


def test_a_job_is_one_run_closed_as_successful(outcome: Outcome, tracked: wandb_file.OfflineRun) -> None:
    assert tracked.ids == {(outcome.run_dir / "wandb_id").read_text().strip()}
    assert tracked.exit_codes == [0]


def test_a_single_run_draws_the_roc_curve_and_the_scores(tracked: wandb_file.OfflineRun) -> None:
    assert keys_of(tracked) >= {ROC} | HISTOGRAMS
    assert sum(tracked.summary["test/scores_normal.values"]) == 71
    assert sum(tracked.summary["test/scores_anomalous.values"]) == 648


def test_nothing_is_written_beside_the_run_folder(outcome: Outcome) -> None:
    output_dir = outcome.run_dir.parents[2]
    files = [path for path in output_dir.rglob("*") if path.is_file() and outcome.run_dir not in path.parents]
    assert {path.parent for path in files} == {output_dir / "cache"}


@pytest.mark.parametrize("plots", ["null", "false"])
def test_the_roc_curve_can_be_off_but_histograms_are_always_on(experiment: Experiment, plots: str) -> None:
    # The fixture passes single=False, as a sweep does.
    outcome = experiment("logger=wandb", f"logger.plots={plots}", "trainer.max_epochs=1", "pretrain=none")
    (path,) = wandb_file.run_files(outcome.run_dir)
    run = wandb_file.read(path)
    assert run.summary["test/auroc"] == outcome.record["auroc"]
    assert ROC not in keys_of(run)
    assert keys_of(run) >= HISTOGRAMS
    assert sum(run.summary["test/scores_normal.values"]) == 71
    assert not list(outcome.run_dir.rglob("*.table.json"))


def test_settings_can_request_plots_and_another_project(experiment: Experiment) -> None:
    settings = ("logger.plots=true", "logger.project=mine", "logger.group=g", "logger.job_type=j")
    outcome = experiment("logger=wandb", *settings, "trainer.max_epochs=1", "pretrain=none")
    (path,) = wandb_file.run_files(outcome.run_dir)
    run = wandb_file.read(path)
    assert keys_of(run) >= {ROC} | HISTOGRAMS
    assert (run.project, run.group, run.job_type) == ("mine", "g", "j")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Fitting fails in its second epoch, until the patch is undone."""
    step = DeepSADModule.training_step

    def fail(self: DeepSADModule, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and batch_idx == 1:
            raise RuntimeError("the machine is on fire")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DeepSADModule, "training_step", fail)
        yield patch


def test_a_failed_job_is_a_failed_run_and_resumes_in_it(
    experiment: Experiment, failing: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overrides = ("logger=wandb", "trainer.max_epochs=2", "trainer.checkpoint_seconds=0", "pretrain=none")
    with pytest.raises(RuntimeError, match="on fire"):
        experiment(*overrides)
    (run_dir,) = [path.parent for path in tmp_path.rglob("wandb_id")]
    (failed,) = (wandb_file.read(path) for path in wandb_file.run_files(run_dir))
    assert [code != 0 for code in failed.exit_codes] == [True]
    assert "test/auroc" not in failed.summary

    failing.undo()
    outcome = experiment(*overrides)
    runs = [wandb_file.read(path) for path in wandb_file.run_files(outcome.run_dir)]
    assert len(runs) == 2
    assert runs[0].ids == runs[1].ids
    assert runs[1].exit_codes == [0]
    assert runs[1].summary["test/auroc"] == outcome.record["auroc"]
    epochs = [[row["fit/epoch"] for row in run.history if "fit/loss" in row] for run in runs]
    assert epochs == [[0] * STEPS, [1] * STEPS]


def test_a_finished_run_opens_no_new_wandb_run(outcome: Outcome) -> None:
    settings = settings_of(f"output_dir={outcome.run_dir.parents[2]}", "trainer.max_epochs=2")
    again = run_experiment(make_plan(settings), config=settings, config_yaml="", command="")
    assert again.was_finished
    assert len(wandb_file.run_files(outcome.run_dir)) == 1


@contextmanager
def agent(tmp_path: Path) -> Iterator[None]:
    """What a W&B agent passes to a trial's process: the run's id, the sweep, the values to try."""
    values = tmp_path / "config-trial.yaml"
    values.write_text("wandb_version: 1\nseed:\n  value: 0\n")
    wandb.teardown()  # it has read the environment already
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("SWEEP_ID", "sweep1"), ("RUN_ID", "trial1"), ("PROJECT", "theirs")):
            patch.setenv(f"WANDB_{name}", value)
        patch.setenv("WANDB_SWEEP_PARAM_PATH", str(values))
        yield
    wandb.teardown()


def agents_run(run_dir: Path) -> wandb_file.OfflineRun:
    (path,) = run_dir.glob("wandb/offline-run-*-trial1/run-trial1.wandb")
    run = wandb_file.read(path)
    assert run.ids == {"trial1"}
    assert (run.sweeps, run.project) == ({"sweep1"}, "theirs")
    assert run.exit_codes == [0]
    return run


def test_a_trial_of_a_finished_run_has_the_stored_metrics(
    experiment: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("logger=wandb", "method=iforest_raw", "scenario.gamma_l=0.1")
    first = experiment(*words)
    experiment(*words)
    assert len(wandb_file.run_files(first.run_dir)) == 1
    own = (first.run_dir / "wandb_id").read_text()
    assert own != "trial1"

    with agent(tmp_path):
        again = experiment(*words)
        # A run that does not log to W&B reports nothing there.
        experiment("logger=csv", *words[1:])
    assert again.was_finished
    run = agents_run(first.run_dir)
    assert run.summary["test/auroc"] == first.record["auroc"]
    assert run.summary["test/average_precision"] == first.record["average_precision"]
    assert keys_of(run) >= HISTOGRAMS
    assert sum(run.summary["test/scores_anomalous.values"]) == 648
    assert {"scenario.gamma_l": 0.1, "method.name": "iforest_raw"}.items() <= run.config.items()
    assert run.group == "digits/iforest_raw"
    assert (first.run_dir / "wandb_id").read_text() == own
    assert any("logger.mode=online" in record.getMessage() for record in caplog.records)
    assert len(wandb_file.run_files(first.run_dir)) == 2


def test_own_metrics_are_in_the_summary_of_a_run_and_of_an_agents_trial(experiment: Experiment, tmp_path: Path) -> None:
    words = ("logger=wandb", "method=iforest_raw", "+metrics.ap._target_=sklearn.metrics.average_precision_score")
    first = experiment(*words)
    (path,) = wandb_file.run_files(first.run_dir)
    assert wandb_file.read(path).summary["test/ap"] == first.record["ap"]
    assert first.record["ap"] == pytest.approx(first.record["average_precision"])
    with agent(tmp_path):
        again = experiment(*words, "+metrics.of_many._target_=math.dist")
    summary = agents_run(first.run_dir).summary
    assert (summary["test/ap"], summary["test/of_many"]) == (first.record["ap"], again.record["of_many"])


def test_an_unfinished_run_resumes_in_the_run_of_the_agent(experiment: Experiment, tmp_path: Path) -> None:
    words = ("logger=wandb", "method=iforest_raw")
    folder = experiment("logger=none", *words[1:]).run_dir
    (folder / "metrics.json").unlink()
    (folder / "wandb_id").write_text("before")
    with agent(tmp_path):
        outcome = experiment(*words)
    assert not outcome.was_finished
    assert agents_run(folder).summary["test/auroc"] == outcome.record["auroc"]
    assert (folder / "wandb_id").read_text() == "trial1"


def test_the_trial_of_an_agent_is_one_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    with pytest.raises(DeepSADError, match=r"a W&B agent gives logger=wandb one run, for one experiment"):
        make_plan(settings_of("logger=wandb"), multirun=True)
    make_plan(settings_of("logger=wandb"))
    make_plan(settings_of("logger=csv"), multirun=True)
    monkeypatch.delenv("WANDB_SWEEP_ID")
    make_plan(settings_of("logger=wandb"), multirun=True)


@pytest.mark.parametrize("kind", ["conformal", "quantile"])
def test_the_threshold_is_reported_with_what_it_does(experiment: Experiment, kind: str, tmp_path: Path) -> None:
    words = ("logger=wandb", "method=iforest_raw", f"threshold={kind}", "threshold.alpha=0.1")
    outcome = experiment(*words)
    threshold = outcome.record["threshold"]
    # The second time, an agent's trial finds it finished.
    with agent(tmp_path):
        assert experiment(*words).was_finished
    first, second = (wandb_file.read(path) for path in wandb_file.run_files(outcome.run_dir))
    for run in (first, second):
        assert run.summary["test/threshold"] == threshold["value"]
        assert run.summary["test/threshold_false_alarm_rate"] == threshold["test"]["false_alarm_rate"]
        assert run.summary["test/threshold_recall"] == threshold["test"]["recall"]
        assert (run.config["threshold.name"], run.config["threshold.alpha"]) == (kind, 0.1)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_is_closed_as_failed(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interrupt: type[BaseException]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise interrupt

    monkeypatch.setattr(Trainer, "test", stop)
    with pytest.raises(interrupt):
        experiment("logger=wandb", "trainer.max_epochs=1", "pretrain=none")
    (run_dir,) = [path.parent for path in tmp_path.rglob("wandb_id")]
    (run,) = (wandb_file.read(path) for path in wandb_file.run_files(run_dir))
    assert [code != 0 for code in run.exit_codes] == [True]


def test_csv_logger_writes_every_loss_once(experiment: Experiment) -> None:
    outcome = experiment("logger=csv", "trainer.max_epochs=2")
    rows = losses_of(outcome.run_dir / "losses.csv")
    expected = [(phase, str(step // STEPS), str(step)) for phase in ("pretrain", "fit") for step in range(2 * STEPS)]
    assert [(row["phase"], row["epoch"], row["step"]) for row in rows] == expected
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert not (outcome.run_dir / "wandb").exists()


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_the_record_is_written_whatever_the_logger(experiment: Experiment, logger: str) -> None:
    outcome = experiment(f"logger={logger}", "trainer.max_epochs=1", "pretrain=none")
    assert json.loads((outcome.run_dir / "metrics.json").read_text())["auroc"] == outcome.record["auroc"]
    assert (outcome.run_dir / "losses.csv").exists() == (logger == "csv")
    assert not (outcome.run_dir / "wandb").exists()


def test_the_logger_does_not_change_the_scores(experiment: Experiment, tmp_path: Path) -> None:
    scores = {
        (
            experiment(f"logger={logger}", "trainer.max_epochs=1", f"output_dir={tmp_path / logger}").run_dir
            / "scores.csv"
        ).read_bytes()
        for logger in ("wandb", "csv", "none")
    }
    assert len(scores) == 1


def test_the_csv_tracker_drops_rows_that_a_resumed_training_repeats(tmp_path: Path) -> None:
    before = CSVTracker(tmp_path)
    before.losses("pretrain", 0, 0, [1.0, 2.0])
    before.losses("fit", 0, 0, [3.0, 4.0])
    before.losses("fit", 1, 2, [5.0, 6.0])
    with (tmp_path / "losses.csv").open("a") as file:
        file.write("fit,2,4")  # killed while writing

    CSVTracker(tmp_path).losses("fit", 1, 2, [7.0, 0.1 + 0.2])
    rows = [tuple(row.values()) for row in losses_of(tmp_path / "losses.csv")]
    assert rows == [
        *(("pretrain", "0", "0", "1.0"), ("pretrain", "0", "1", "2.0")),
        *(("fit", "0", "0", "3.0"), ("fit", "0", "1", "4.0")),
        *(("fit", "1", "2", "7.0"), ("fit", "1", "3", "0.30000000000000004")),
    ]


def test_flatten_joins_keys_with_dots() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": None, "g": {}}
    assert flatten(nested) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": None}


def test_the_reader_joins_records_across_blocks() -> None:
    def record(kind: int, payload: bytes) -> bytes:
        return bytes(4) + len(payload).to_bytes(2, "little") + bytes([kind]) + payload

    # The file's header is part of the first block; 3 bytes at its end are too few for a record's header.
    first = b"header!" + record(1, b"x" * (32768 - 7 - 7 - 3)) + bytes(3)
    second = record(1, b"whole") + record(2, b"a" * (32768 - 12 - 7))
    third = record(3, b"b" * (32768 - 7))
    data = first + second + third + record(4, b"c")
    assert [len(first), len(first + second), len(first + second + third)] == [32768, 65536, 98304]
    _, whole, joined = wandb_file.payloads(data)
    assert whole == b"whole"
    assert joined == b"a" * (32768 - 19) + b"b" * (32768 - 7) + b"c"


def test_a_tracker_that_fails_loses_only_its_own_output(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(CSVTracker, "losses", fail)
    outcome = experiment("trainer.max_epochs=1", "logger=csv")
    assert (outcome.run_dir / "metrics.json").exists()
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "no space left" in told[0]


def test_online_without_an_account_is_reported(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise wandb.errors.UsageError("api_key not configured")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(DeepSADError, match=r"api_key not configured.* logger.mode=offline"):
        experiment("trainer.max_epochs=1", "logger=wandb", "logger.mode=online")


def test_step_numbers_continue_across_phases(tracked: wandb_file.OfflineRun) -> None:
    # two epochs in each phase; the plots share the last step
    assert [int(row["_step"]) for row in tracked.history] == list(range(4 * STEPS))


def test_environment_variables_of_wandb_set_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "online", "PROJECT": "p", "ENTITY": "e", "RUN_GROUP": "g", "TAGS": "a, b"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    found = wandb_settings(settings_of("logger=wandb")["logger"])
    assert found is not None
    assert [found[key] for key in ("mode", "project", "entity", "group", "tags")] == [
        "online",
        "p",
        "e",
        "g",
        ["a", "b"],
    ]
    given = wandb_settings(settings_of("logger=wandb", "logger.project=mine", "logger.tags=[]")["logger"])
    assert given is not None
    assert (given["project"], given["tags"], given["entity"]) == ("mine", [], "e")
    monkeypatch.setenv("WANDB_ENTITY", "")
    assert settings_of("logger=wandb")["logger"]["entity"] is None
    # We have no other modes, such as disabled: the run stays offline.
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert settings_of("logger=wandb")["logger"]["mode"] == "offline"
