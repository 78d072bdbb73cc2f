"""Loggers named by ``_target_``, alone and beside our own: checked before any work, independent of each other."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb_file
import yaml
from broken_runs import broken_at
from lightning_utilities.core.rank_zero import rank_zero_only
from planned import plan_of, problems_of, settings_of
from processes import ROOT
from pytorch_lightning.loggers import CSVLogger

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.tracking.loggers import logger_names, logger_nodes, wandb_settings
from deepsad_pl.tracking.trackers import CSVTracker

CLI = Callable[..., subprocess.CompletedProcess[str]]
Experiment = Callable[..., Outcome]
EXAMPLE = ROOT / "examples" / "logger"
LIGHTNING = "+logger.mine={_target_: pytorch_lightning.loggers.CSVLogger, name: rows}"
SHORT = ("trainer.max_epochs=2", "pretrain=none", "trainer.checkpoint_seconds=0")
STEPS = 4  # of an epoch: 112 training rows in batches of 32


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def script(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A separate process, since a forked one has the import path of its parent."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = os.pathsep.join([str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])])
    env |= {"PYTHONPATH": path, "COLUMNS": "200", "WANDB_CONFIG_DIR": str(cwd / "wandb_config")}
    command = [sys.executable, str(ROOT / name), "--config-dir", str(EXAMPLE / "conf"), *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("chosen", ["[csv,wandb]", "[wandb,csv]", "[none,csv,wandb]", "[wandb,csv,none]"])
def test_several_loggers_are_composed_in_any_order(chosen: str) -> None:
    logger = settings_of(f"logger={chosen}", "logger.mode=online", "logger.project=p", "logger.tags=[a]")["logger"]
    settings = wandb_settings(logger)
    assert settings is not None
    assert (settings["mode"], settings["project"], settings["tags"]) == ("online", "p", ["a"])
    assert logger_nodes(logger) == {"csv": {"_target_": "deepsad_pl.tracking.trackers.CSVTracker"}}
    assert logger_names(logger) == "csv, wandb"


@pytest.mark.parametrize(
    ("chosen", "names"), [("csv", "csv"), ("none", "none"), ("wandb", "wandb"), ("[csv,none]", "csv")]
)
def test_a_single_logger_or_none_keeps_its_name(chosen: str, names: str) -> None:
    assert logger_names(settings_of(f"logger={chosen}")["logger"]) == names


def test_loggers_are_not_part_of_the_identity() -> None:
    plans = [plan_of(*words) for words in ((), (LIGHTNING,), ("logger=[csv,wandb]",), ("logger=csv", LIGHTNING))]
    assert len({plan.run_dir for plan in plans}) == 1
    assert "logger" not in json.dumps(plans[0].identity)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            "{_target_: nowhere.at_all.Logger}",
            "logger.mine._target_ is nowhere.at_all.Logger, whose module is not found",
        ),
        ("{_target_: pytorch_lightning.loggers.CSVLoger}", "loggers/__init__.py defines no CSVLoger"),
        (
            "{_target_: pytorch_lightning.loggers.CSVLogger, nam: a}",
            "logger.mine.nam is not an argument of pytorch_lightning.loggers.CSVLogger in ",
        ),
        ("{_target_: a_lacking_logger.Lacking}", "a_lacking_logger.py requires"),
        ("{_target_: a_broken_logger.Broken}", "a_broken_logger.py, line 1, is not valid Python"),
    ],
)
def test_errors_in_a_logger_are_reported_before_any_work(
    node: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    lacking = "class Lacking:\n    def __init__(self, save_dir, address): ...\n"
    (tmp_path / "a_lacking_logger.py").write_text(lacking)
    (tmp_path / "a_broken_logger.py").write_text("class Broken\n")
    (problem,) = problems_of(f"+logger.mine={node}")
    assert told in problem
    assert "save_dir" not in problem or "it has" in problem


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("logger=[csv,wandb]", "logger.projct=x"), "there is no setting logger.projct; did you mean logger.project?"),
        (("logger=[csv,wandb]", "+logger.projct=x"), "there is no setting logger.projct; did you mean logger.project?"),
        (("logger=[csv,wnadb]",), "logger has no option wnadb; did you mean wandb? (its options: bare, csv, "),
        (("logger=[csv,wandb]", "logger.mode=cloud"), "logger.mode is 'cloud'; choose one of offline, online"),
        (("logger=bare",), "there is no setting logger.bare, which a config file sets; for a component of that name, "),
        (
            ("logger=flat",),
            "there is no setting logger._target_, which a config file sets; put it and its arguments one ",
        ),
        (
            ("logger=lightning_csv", "logger.lightning_cvs.name=x"),
            "there is no setting logger.lightning_cvs; did you mean",
        ),
        (("logger=lightning_csv", "logger.lightning_csv.nam=x"), "logger.lightning_csv.nam is not an argument of "),
    ],
)
def test_an_unknown_word_is_refused(words: tuple[str, ...], told: str, cli: CLI, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "logger"
    folder.mkdir(parents=True)
    (folder / "bare.yaml").write_text("bare:\n  save_dir: x\n")
    (folder / "flat.yaml").write_text("_target_: pytorch_lightning.loggers.CSVLogger\n")
    (folder / "lightning_csv.yaml").write_text((EXAMPLE / "conf" / "logger" / "lightning_csv.yaml").read_text())
    done = cli("train.py", "--config-dir", str(tmp_path / "conf"), *words)
    assert done.returncode != 0
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("+logger.mine={_target_: pytorch_lightning.loggers.CSVLogger}", "logger.mine.name=x"),
        ("+logger.mine._target_=pytorch_lightning.loggers.CSVLogger", "+logger.mine.name=x"),
        ("logger=[csv,wandb]", "~logger.csv", "logger.mode=online"),
    ],
)
def test_a_correct_logger_setting_is_not_reported_beside_a_wrong_one(words: tuple[str, ...], cli: CLI) -> None:
    done = cli("train.py", *words, "+nonsense=1")
    assert done.stderr.split("\n")[0] == "there is no setting nonsense; python train.py --help lists all settings"


@pytest.mark.slow
def test_the_example_runs_alone_beside_wandb(tmp_path: Path) -> None:
    words = ("logger=[lightning_csv,json_lines,csv,wandb]", "logger.tags=[t]", "trainer.max_epochs=2")
    done = script("train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = [path.parent for path in tmp_path.glob("runs/**/metrics.json")]
    record = json.loads((run_dir / "metrics.json").read_text())
    rows = rows_of(run_dir / "lightning" / "version_0" / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [3, 7, 11, 15, 15]
    assert [row.get("fit/epoch") for row in rows] == [None, None, "0.0", "1.0", None]
    assert float(rows[-1]["test/auroc"]) == record["auroc"]
    assert float(rows[-1]["test/average_precision"]) == record["average_precision"]
    losses = rows_of(run_dir / "losses.csv")
    assert len(losses) == 4 * STEPS
    last = [float(row["loss"]) for row in losses[-STEPS:]]
    assert float(rows[-2]["fit/loss"]) == pytest.approx(sum(last) / STEPS)
    assert "name: deep_sad" in (run_dir / "lightning" / "version_0" / "hparams.yaml").read_text()
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 7, 11, 15, 15]
    assert lines[-1]["test/auroc"] == round(record["auroc"], 6)
    (path,) = wandb_file.run_files(run_dir)
    run = wandb_file.read(path)
    assert (len(run.ids), run.exit_codes, run.tags) == (1, [0], ["t"])
    assert run.summary["test/auroc"] == record["auroc"]


@pytest.mark.slow
def test_a_stacked_study_has_outside_loggers_and_its_report_in_wandb(tmp_path: Path) -> None:
    words = ["study=labeled_anomalies", "study.axes.gamma_l=[0.0,0.05]", "study.normal_classes=[0]"]
    words += ["study.anomaly_classes=[1]", "dataset=digits", "method=deep_sad", "trainer.accelerator=cpu"]
    words += [
        "hydra/launcher=stacked",
        "hydra.launcher.n_jobs=1",
        "trainer.threads=1",
        "trainer.max_epochs=2",
        "logger=[json_lines,wandb]",
    ]
    done = script("sweep.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = [path.parent for path in tmp_path.glob("runs/digits/**/metrics.json")]
    assert len(folders) == 2
    for folder in folders:
        record = json.loads((folder / "metrics.json").read_text())
        assert record["trainer"]["replicas"] == 2
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["fit/epoch"] for line in lines if "fit/loss" in line] == [0, 1]
        assert lines[-1]["test/auroc"] == round(record["auroc"], 6)
        (path,) = wandb_file.run_files(folder)
        run = wandb_file.read(path)
        assert (run.group, run.job_type, run.exit_codes) == ("labeled_anomalies", "train", [0])
    (path,) = wandb_file.run_files(tmp_path / "runs" / "studies" / "labeled_anomalies")
    assert wandb_file.read(path).job_type == "report"


def test_a_study_is_planned_with_outside_loggers_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\nfrom deepsad_pl.commands.main import sweep\nsweep()\n"
        "print('torch' in sys.modules, 'pytorch_lightning' in sys.modules, 'json_lines' in sys.modules)\n"
    )
    words = ["--config-dir", str(EXAMPLE / "conf"), "study=classic", "study.datasets=[cardio]", "dry_run=true"]
    words += ["logger=[json_lines,lightning_csv,csv]", "method=kde_raw", f"data_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE), *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["False False False"], done.stdout + done.stderr


def test_csv_with_none_is_csv(experiment: Experiment) -> None:
    run_dir = experiment("logger=[csv,none]", *SHORT).run_dir
    assert (run_dir / "losses.csv").exists()
    assert not (run_dir / "wandb").exists()


@pytest.mark.parametrize("version", [None, "all"])
def test_a_resumed_run_keeps_the_rows_of_its_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    words = (*SHORT, LIGHTNING if version is None else LIGHTNING.replace("}", f", version: {version}}}"))
    settings = settings_of(f"output_dir={tmp_path}", "logger=none", *words)

    def run() -> Outcome:
        return run_experiment(make_plan(settings), config=settings, config_yaml="", command="")

    with monkeypatch.context() as patch:
        broken_at(patch, "fit", epoch=1)
        with pytest.raises(RuntimeError, match="the power is out"):
            run()
    folder = run().run_dir / "rows"
    files = (
        ("version_0/metrics.csv", "version_1/metrics.csv")
        if version is None
        else ("all/metrics.1.csv", "all/metrics.csv")
    )
    first, second = (rows_of(folder / name) for name in files)
    assert [(row["step"], row["fit/epoch"]) for row in first] == [("3", "0.0")]
    assert [row["step"] for row in second] == ["7", "7"]
    assert "test/auroc" in second[-1]


def test_rows_are_on_the_disk_as_soon_as_an_epoch_ends(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CSVLogger, "finalize", lambda self, status: None)
    run_dir = experiment(LIGHTNING, *SHORT).run_dir
    assert [row["step"] for row in rows_of(run_dir / "rows" / "version_0" / "metrics.csv")] == ["3", "7"]


class Recorder(CSVLogger):
    """A logger that remembers how it was closed, and fails in one of its methods."""

    closed: list[str] = []  # noqa: RUF012
    fails = ""

    def log_hyperparams(self, params: Any = None) -> None:
        self._maybe_fail("log_hyperparams")
        super().log_hyperparams(params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._maybe_fail("log_metrics")
        super().log_metrics(metrics, step)

    def finalize(self, status: str) -> None:
        Recorder.closed.append(status)
        self._maybe_fail("finalize")
        super().finalize(status)

    def _maybe_fail(self, name: str) -> None:
        if Recorder.fails == name:
            raise OSError(f"no {name} today")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Recorder, "closed", [])
    monkeypatch.setattr(Recorder, "fails", "")
    return f"+logger.mine={{_target_: {__name__}.Recorder, name: rows}}"


@pytest.mark.parametrize("fails", ["log_hyperparams", "log_metrics", "finalize"])
def test_a_logger_that_raises_loses_only_its_own_output(
    experiment: Experiment,
    recorder: str,
    fails: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Recorder, "fails", fails)
    done = experiment("logger=[csv,wandb]", recorder, *SHORT)
    assert (done.run_dir / "metrics.json").exists()
    assert len(rows_of(done.run_dir / "losses.csv")) == 2 * STEPS
    (path,) = wandb_file.run_files(done.run_dir)
    run = wandb_file.read(path)
    assert run.exit_codes == [0]
    assert run.summary["test/auroc"] == done.record["auroc"]
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"logging with mine stops here (OSError: no {fails} today); the run goes on"]
    assert Recorder.closed == ["success" if fails == "finalize" else "failed"]


def test_a_failing_wandb_is_closed_and_loses_only_its_own_output(
    experiment: Experiment, recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepsad_pl.tracking.trackers import WandbTracker

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(WandbTracker, "losses", fail)
    done = experiment("logger=[csv,wandb]", recorder, *SHORT)
    assert len(rows_of(done.run_dir / "losses.csv")) == 2 * STEPS
    assert Recorder.closed == ["success"]
    (path,) = wandb_file.run_files(done.run_dir)
    assert wandb_file.read(path).exit_codes == [1]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_all_loggers_of_a_failed_run_are_closed_as_failed(
    experiment: Experiment,
    recorder: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stop: type[BaseException],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise stop

    monkeypatch.setattr("pytorch_lightning.Trainer.test", fail)
    with pytest.raises(stop):
        experiment("logger=wandb", recorder, *SHORT)
    assert Recorder.closed == ["failed"]
    (run_dir,) = [path.parent for path in tmp_path.rglob("wandb_id")]
    (path,) = wandb_file.run_files(run_dir)
    assert [code != 0 for code in wandb_file.read(path).exit_codes] == [True]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ("{_target_: pathlib.PurePath}", "which creates a PurePosixPath; use a class derived from Lightning's Logger"),
        (
            "{_target_: fractions.Fraction, numerator: a}",
            "logger.mine: fractions.Fraction cannot be created (ValueError: ",
        ),
    ],
)
def test_what_is_not_a_logger_is_refused_before_a_wandb_run_starts(
    experiment: Experiment, recorder: str, node: str, told: str, tmp_path: Path
) -> None:
    first = recorder.replace("logger.mine", "logger.first")
    with pytest.raises(DeepSADError) as caught:
        experiment("logger=wandb", first, f"+logger.mine={node}", *SHORT)
    assert told in str(caught.value)
    assert not list(tmp_path.rglob("*.wandb"))
    assert not list(tmp_path.rglob("last.ckpt"))
    assert Recorder.closed == ["failed"]


def test_a_logger_is_closed_when_wandb_refuses(
    experiment: Experiment, recorder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise wandb.errors.UsageError("api_key not configured")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(DeepSADError, match="api_key not configured"):
        experiment("logger=wandb", "logger.mode=online", recorder, *SHORT)
    assert Recorder.closed == ["failed"]


def test_an_own_folder_is_kept_and_may_be_interpolated(experiment: Experiment, tmp_path: Path) -> None:
    node = "{_target_: pytorch_lightning.loggers.CSVLogger, save_dir: '${output_dir}/all', name: 'seed_${seed}'}"
    done = experiment(f"+logger.mine={node}", "seed=3", *SHORT)
    assert (tmp_path / "runs" / "all" / "seed_3" / "version_0" / "metrics.csv").exists()
    assert not (done.run_dir / "lightning_logs").exists()


def test_a_finished_run_opens_no_logger(experiment: Experiment, recorder: str) -> None:
    experiment(*SHORT)
    assert experiment(recorder, *SHORT).was_finished
    assert Recorder.closed == []


def test_a_run_without_a_training_logs_its_result(experiment: Experiment) -> None:
    done = experiment(LIGHTNING, "method=iforest_raw")
    (row,) = rows_of(done.run_dir / "rows" / "version_0" / "metrics.csv")
    assert float(row["test/auroc"]) == done.record["auroc"]


def test_a_logger_gets_the_threshold(experiment: Experiment) -> None:
    done = experiment(LIGHTNING, "method=iforest_raw", "threshold=conformal", "threshold.alpha=0.1")
    (row,) = rows_of(done.run_dir / "rows" / "version_0" / "metrics.csv")
    assert float(row["test/threshold"]) == done.record["threshold"]["value"]
    assert float(row["test/threshold_recall"]) == done.record["threshold"]["test"]["recall"]
    config = yaml.safe_load((done.run_dir / "rows" / "version_0" / "hparams.yaml").read_text())
    assert (config["threshold"]["name"], config["threshold"]["alpha"]) == ("conformal", 0.1)


def test_a_task_of_a_job_farm_logs_for_itself(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Lightning finds it if SLURM_PROCID is 3.
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    run_dir = experiment(LIGHTNING, *SHORT).run_dir
    assert len(rows_of(run_dir / "rows" / "version_0" / "metrics.csv")) == 3


@pytest.mark.slow
def test_only_the_first_of_two_ranks_logs(tmp_path: Path) -> None:
    words = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "logger=[json_lines,lightning_csv]", *SHORT)
    done = script("train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("runs/**/metrics.jsonl")
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [3, 7, 7]
    assert len(list(path.parent.glob("lightning/*"))) == 1


def test_a_trial_of_a_wandb_agent_can_have_several_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    for chosen in ("[csv,wandb]", "[wandb,csv]"):
        (problem,) = problems_of(f"logger={chosen}", multirun=True)
        assert "a W&B agent gives logger=wandb one run" in problem
    make_plan(settings_of("logger=csv", LIGHTNING), multirun=True)


def test_an_own_tracker_gets_the_run_folder(experiment: Experiment) -> None:
    run_dir = experiment("+logger.losses={_target_: deepsad_pl.tracking.trackers.CSVTracker}", *SHORT).run_dir
    assert len(rows_of(run_dir / CSVTracker(run_dir)._path.name)) == 2 * STEPS


def test_tensorboard_has_the_losses_and_the_result(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = script("train.py", "logger=tensorboard", *SHORT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = [path.parent for path in tmp_path.glob("runs/**/metrics.json")]
    events = accumulator.EventAccumulator(str(run_dir / "tensorboard" / "version_0")).Reload()
    assert [event.step for event in events.Scalars("fit/loss")] == [3, 7]
    auroc = json.loads((run_dir / "metrics.json").read_text())["auroc"]
    assert events.Scalars("test/auroc")[0].value == pytest.approx(auroc)


def test_the_example_is_short() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(files) == 4
    assert all(len(path.read_text().splitlines()) <= 40 for path in files)


def test_wandb_settings_work_at_its_node_too() -> None:
    settings = settings_of("logger=[csv,wandb]", "logger.wandb.mode=online", "logger.project=mine", "logger.tags=[a]")
    found = wandb_settings(settings["logger"])
    assert found is not None
    assert (found["mode"], found["project"], found["tags"]) == ("online", "mine", ["a"])
    assert wandb_settings(settings_of("logger=wandb", "logger.mode=online")["logger"])["mode"] == "online"  # type: ignore[index]
