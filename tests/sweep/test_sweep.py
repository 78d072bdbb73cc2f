"""Many experiments in one command: checked before any work, not stopped by each other, with a table at the end."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from deepsad_pl.commands.main import CONF
from deepsad_pl.experiment.show_outcome import show_sweep

CLI = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("trainer.max_epochs=1", "logger=none", "pretrain=none")


def records(where: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(where.rglob("metrics.json"))]


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def table_rows(text: str) -> list[list[str]]:
    """The cells of each row of all tables with borders."""
    lines = (line.strip() for line in text.splitlines())
    return [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines if line.startswith("│")]


def test_a_sweep_ends_with_a_table_and_runs_only_once(cli: CLI, tmp_path: Path) -> None:
    sweep = ("seed=0,1", "scenario.normal_class=0,8", *SMALL)
    first = cli("train.py", "-m", *sweep)
    assert first.returncode == 0, output_of(first)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    done = records(tmp_path)
    assert len(done) == 4

    aurocs: dict[str, list[float]] = {}
    for record in sorted(done, key=lambda record: str(record["seed"])):
        aurocs.setdefault(record["scenario"]["normal_class"][0], []).append(record["auroc"])  # type: ignore[index]
    rows = {row[0]: row[1:] for row in table_rows(first.stdout)}
    expected = {name: [f"{mean(values):.4f}", f"{stdev(values):.4f}", "2"] for name, values in aurocs.items()}
    assert rows == expected

    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = cli("sweep.py", *sweep)
    assert second.returncode == 0, output_of(second)
    assert second.stdout.count("already finished") == 4
    assert {row[0]: row[1:] for row in table_rows(second.stdout)} == expected
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_same_value_twice_is_no_further_seed(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "-m", "dataset=toy", "method=knn_raw,kde_raw", "seed=0,0,1", "logger=none")
    assert done.returncode == 0, output_of(done)
    assert [(row[0], row[-1]) for row in table_rows(done.stdout)] == [("knn_raw", "2"), ("kde_raw", "2")]
    assert len(records(tmp_path)) == 4 and "already finished" not in done.stdout


@pytest.mark.parametrize("word", ["seed=range(5,5)", "method=glob(nothing*)"])
def test_a_sweep_without_a_value_is_refused(cli: CLI, tmp_path: Path, word: str) -> None:
    done = cli("train.py", "-m", "dataset=toy", word)
    assert done.returncode != 0
    assert f"{word} has no value, so there is nothing to run" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_failing_job_stops_no_other_and_fails_the_sweep(cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", "scenario.gamma_l=0.9,0.05", "seed=0", *SMALL)
    text = output_of(done)
    assert done.returncode != 0
    assert "Traceback" not in text
    (record,) = records(tmp_path)
    assert record["scenario"]["gamma_l"] == 0.05  # type: ignore[index]
    assert [row[0] for row in table_rows(text)] == ["0.9", "0.05"]
    assert f"{record['auroc']:.4f}" in text
    listed = text[text.index("1 of 2 jobs") :]
    assert "scenario.gamma_l=0.9" in listed
    assert "labeled anomalies" in listed


@pytest.mark.parametrize("script", ["train.py", "sweep.py"])
def test_a_wrong_value_in_one_job_stops_the_sweep_before_any_work(cli: CLI, tmp_path: Path, script: str) -> None:
    flags = ["-m"] if script == "train.py" else []
    done = cli(script, *flags, "method.eta=1,0", "scenario.normal_class=0,1", *SMALL)
    text = output_of(done)
    assert done.returncode != 0
    assert "Traceback" not in text
    assert text.count("method.eta is 0") == 1
    assert text.count("scenario.anomaly_class") == 1
    assert not any(tmp_path.iterdir())


def test_experiments_per_job_is_refused_without_submitted_jobs(cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", "seed=0,1", "experiments_per_job=3", *SMALL)
    assert done.returncode != 0
    assert "experiments_per_job is 3, but this hydra/launcher submits no jobs" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_n_jobs_alone_makes_a_free_sweep_run_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def wait_for_the_other(cfg: DictConfig) -> float:
        (tmp_path / str(cfg.seed)).touch()
        end = time.monotonic() + 60
        while not all((tmp_path / seed).exists() for seed in ("0", "1")):
            assert time.monotonic() < end
            time.sleep(0.05)
        return float(os.getpid())

    with initialize_config_dir(CONF, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("sweep", ["hydra.launcher.n_jobs=2"], run_mode=RunMode.MULTIRUN)
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=wait_for_the_other, config=config
        )
        returns = sweeper.sweep(["seed=0,1", "trainer.max_epochs=1", "logger=none"])
    assert len({done.return_value for done in returns} - {float(os.getpid())}) == 2


def test_a_misspelt_key_in_a_sweep_is_reported_with_all_problems(cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", "sede=0,1", "method.eta=0,1")
    assert done.returncode != 0
    assert output_of(done).count("there is no setting sede; did you mean seed?") == 1
    assert output_of(done).count("method.eta is 0.0") == 1
    assert "Traceback" not in output_of(done)
    assert not any(tmp_path.iterdir())


def test_ddp_is_refused_in_a_sweep(cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", "seed=0,1", "trainer=ddp")
    assert done.returncode != 0
    assert "ddp" in output_of(done)
    assert "Traceback" not in output_of(done)
    assert not any(tmp_path.iterdir())


def test_the_table_shows_values_in_brackets_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    show_sweep([({"scenario.normal_class": "[cat,dog]"}, 0.5), ({"scenario.normal_class": "[/x]"}, 0.25)])
    assert table_rows(capsys.readouterr().out) == [["[cat,dog]", "0.5000"], ["[/x]", "0.2500"]]


def test_the_table_has_no_deviation_of_an_unknown_auroc(capsys: pytest.CaptureFixture[str]) -> None:
    show_sweep([({"seed": str(seed), "k": "a"}, auroc) for seed, auroc in enumerate((0.5, float("nan"), 0.7))])
    assert [cell for cell in table_rows(capsys.readouterr().out)[0] if cell] == ["a", "unknown", "3"]


def test_the_table_leaves_failed_jobs_out_of_the_mean_and_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_sweep([({"seed": str(seed), "k": "a"}, auroc) for seed, auroc in enumerate((0.5, None, 0.7))])
    ((name, average, deviation, seeds),) = table_rows(capsys.readouterr().out)
    assert (name, average, deviation) == ("a", "0.6000", "0.1414")
    assert seeds.startswith("2")
    assert "1 failed" in seeds
