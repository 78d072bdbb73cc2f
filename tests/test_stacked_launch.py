"""Sweeps through ``hydra/launcher=stacked``: what single runs leave, whatever happens on the way."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from planned import settings_of
from processes import background, wait_for
from tiny_data import write_odds
from wandb_file import OfflineRun, read, run_files

from deepsad_pl.cli import CONF
from deepsad_pl.errors import DeepSADError
from deepsad_pl.experiment import Outcome, locked_run, run_experiment
from deepsad_pl.plan import Plan, make_plan
from deepsad_pl.stacked.callbacks import ReplicaLosses
from deepsad_pl.stacked.experiments import Assignment, Result, run_together
from deepsad_pl.stacked.launch import Stacker, job_return

CLI = Callable[..., subprocess.CompletedProcess[str]]
STACKED = ("-m", "hydra/launcher=stacked", "trainer.threads=1")
SHORT = ("method.epochs=[2]", "method.lr=[1e-3]", "pretrain.epochs=[2]", "pretrain.lr=[1e-3]")
STEPS = 4  # of an epoch: about 110 training rows in batches of 32
PHASES = ("pretrain", "fit")


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    """Messages as the scripts have them, where no script runs."""
    caplog.set_level(logging.INFO)


def records(where: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(where.rglob("metrics.json"))]


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def assigned(where: Path, *overrides: str) -> Assignment:
    settings = settings_of(f"output_dir={where}", *overrides)
    plan = make_plan(settings, multirun=True)
    return Assignment(plan, settings, OmegaConf.to_yaml(OmegaConf.create(settings)), "a test")


def together(where: Path, *cells: Sequence[str]) -> list[Result]:
    return run_together([assigned(where, *cell) for cell in cells])


def alone(where: Path, *overrides: str) -> Outcome:
    one = assigned(where, *overrides)
    return run_experiment(one.plan, config=one.config, config_yaml=one.config_yaml, command=one.command)


def outcomes(results: Sequence[Result]) -> list[Outcome]:
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Outcome)]


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def scores(run_dir: Path) -> list[float]:
    return [float(row[-1]) for row in rows(run_dir / "scores.csv")[1:]]


def losses(run_dir: Path) -> tuple[list[list[str]], list[float]]:
    """Phase, epoch and step of each row; the losses."""
    table = rows(run_dir / "losses.csv")[1:]
    return [row[:3] for row in table], [float(row[3]) for row in table]


def each_step_once(epochs: Mapping[str, int]) -> list[list[str]]:
    return [[phase, str(i // STEPS), str(i)] for phase in PHASES for i in range(epochs[phase] * STEPS)]


# The same jobs through both launchers.

JOBS = ("scenario.normal_class=0,3", "seed=0,1", "method=deep_sad,deep_svdd,classifier,ocsvm_raw")


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """What ``train.py -m`` leaves and prints with either launcher, with the same relative output_dir."""
    launchers = {
        "basic": ["hydra/launcher=basic"],
        "stacked": ["hydra/launcher=stacked", "hydra.launcher.n_jobs=1"],
    }
    where = {name: tmp_path_factory.mktemp(name) for name in launchers}
    words = (*JOBS, "trainer.max_epochs=3", "logger=csv", "trainer.threads=1")
    running = {
        name: subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), "-m", *launcher, *words],
            cwd=folder,
            env={**os.environ, "COLUMNS": "120"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for (name, folder), launcher in zip(where.items(), launchers.values(), strict=True)
    }
    texts = {name: process.communicate(timeout=300)[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, texts[name]
    return {name: (where[name], texts[name]) for name in where}


def files(where: Path) -> set[str]:
    return {str(path.relative_to(where)) for path in where.rglob("*") if path.is_file()}


def test_a_stacked_sweep_leaves_the_files_of_single_runs(sweeps: dict[str, tuple[Path, str]]) -> None:
    basic, stacked = (sweeps[name][0] for name in ("basic", "stacked"))
    assert len(records(stacked)) == 16
    assert files(stacked) == files(basic)
    for path in basic.rglob("config.yaml"):
        assert (stacked / path.relative_to(basic)).read_bytes() == path.read_bytes()


def test_a_stacked_sweep_leaves_the_records_of_single_runs(sweeps: dict[str, tuple[Path, str]]) -> None:
    basic, stacked = (sweeps[name][0] for name in ("basic", "stacked"))
    for path in basic.rglob("metrics.json"):
        single = json.loads(path.read_text())
        replica = json.loads((stacked / path.relative_to(basic)).read_text())
        assert replica.keys() == single.keys()
        for metric in ("auroc", "average_precision"):
            assert replica[metric] == pytest.approx(single[metric], abs=1e-3)
        assert replica["spread"].keys() == single["spread"].keys()
        for phase, spread in single["spread"].items():
            assert replica["spread"][phase] == pytest.approx(spread, rel=1e-3)
        assert replica["seconds"].keys() == single["seconds"].keys()
        # How long the other's training took, and on what.
        assert replica["reused"].keys() == single["reused"].keys()
        for phase, reused in single["reused"].items():
            assert replica["reused"][phase]["entry"] == reused["entry"]
        count = 1 if single["method"] == "ocsvm_raw" else 8 if single["method"] != "classifier" else 4
        assert replica["trainer"] == {**single["trainer"], "replicas": count}
        noisy = {"auroc", "average_precision", "spread", "seconds", "reused", "trainer"}
        assert {key: replica[key] for key in replica.keys() - noisy} == {
            key: single[key] for key in replica.keys() - noisy
        }


def test_a_stacked_sweep_leaves_the_scores_and_losses_of_single_runs(sweeps: dict[str, tuple[Path, str]]) -> None:
    basic, stacked = (sweeps[name][0] for name in ("basic", "stacked"))
    for path in basic.rglob("scores.csv"):
        folder = stacked / path.parent.relative_to(basic)
        assert [row[:2] for row in rows(folder / "scores.csv")] == [row[:2] for row in rows(path)]
        assert scores(folder) == pytest.approx(scores(path.parent), rel=1e-3)
    for path in basic.rglob("losses.csv"):
        steps, values = losses(stacked / path.parent.relative_to(basic))
        expected_steps, expected = losses(path.parent)
        assert steps == expected_steps
        assert values == pytest.approx(expected, rel=1e-3)


def test_a_stacked_sweep_leaves_the_logs_of_single_runs(sweeps: dict[str, tuple[Path, str]]) -> None:
    """But for times; each tells of its own experiment only."""
    basic, stacked = (sweeps[name][0] for name in ("basic", "stacked"))

    def told(path: Path) -> list[str]:
        # Whoever trains an autoencoder first does it for all.
        return [line[24:] for line in path.read_text().splitlines() if ": reused the" not in line]

    for path in basic.rglob("train.log"):
        assert told(stacked / path.relative_to(basic)) == told(path)


def test_a_stacked_sweep_shows_the_table_of_single_runs(sweeps: dict[str, tuple[Path, str]]) -> None:
    def table(text: str) -> list[list[str]]:
        lines = [line.split("│") for line in text[text.index("┏") :].splitlines() if line.startswith("│")]
        return [[cell.strip() for cell in line] for line in lines]

    basic, stacked = (table(sweeps[name][1]) for name in ("basic", "stacked"))
    assert len(basic) == 8
    for replica, single in zip(stacked, basic, strict=True):
        figures = [i for i, cell in enumerate(single) if "." in cell]
        assert len(figures) == 2
        for i, (cell, expected) in enumerate(zip(replica, single, strict=True)):
            assert float(cell) == pytest.approx(float(expected), abs=1e-3) if i in figures else cell == expected


def test_each_job_is_told_by_its_own_number(sweeps: dict[str, tuple[Path, str]]) -> None:
    def jobs(text: str) -> set[str]:
        return {line.rstrip("─").strip() for line in text.splitlines() if line.startswith("job ")}

    basic, stacked = (jobs(sweeps[name][1]) for name in ("basic", "stacked"))
    assert len(basic) == 16
    assert stacked == basic


# Trackers.


def test_each_experiment_has_its_own_wandb_run(tmp_path: Path) -> None:
    cells = [("logger=wandb", *SHORT, f"seed={seed}") for seed in (0, 1)]

    def tracked(run_dir: Path) -> OfflineRun:
        (path,) = run_files(run_dir)
        return read(path)

    found = [tracked(outcome.run_dir) for outcome in outcomes(together(tmp_path / "stacked", *cells))]
    for cell, replica in zip(cells, found, strict=True):
        single = tracked(alone(tmp_path / "alone", *cell).run_dir)
        assert replica.exit_codes == single.exit_codes == [0]
        assert (replica.project, replica.group, replica.job_type) == (single.project, single.group, single.job_type)
        assert [sorted(row) for row in replica.history] == [sorted(row) for row in single.history]
        for key in ("_step", "pretrain/step", "pretrain/epoch", "fit/step", "fit/epoch"):
            assert [row.get(key) for row in replica.history] == [row.get(key) for row in single.history]
        for key in ("pretrain/loss", "fit/loss"):
            values, expected = ([row[key] for row in run.history if key in row] for run in (replica, single))
            assert len(values) == 2 * STEPS
            assert values == pytest.approx(expected, rel=1e-4)
        assert replica.summary.keys() == single.summary.keys()
        assert replica.summary["test/auroc"] == pytest.approx(single.summary["test/auroc"], abs=1e-3)
        config = {key: value for key, value in single.config.items() if key not in ("output_dir", "_wandb")}
        assert {key: replica.config[key] for key in config} == config
    assert found[0].ids.isdisjoint(found[1].ids)


# How many, and not twice.


def stacker_of(where: Path, *words: str, task: object = None, **numbers: Any) -> tuple[Stacker, list[str]]:
    config = compose("train", return_hydra_config=True)
    settings = {"max_replicas": None, "processes": 1, **numbers}
    return Stacker(GlobalHydra.instance().config_loader(), config.hydra, task, **settings), [
        f"output_dir={where}",
        "logger=none",
        "trainer.threads=1",
        *words,
    ]


@pytest.fixture
def hydra_config() -> Iterator[None]:
    with initialize_config_dir(CONF, version_base="1.3"):
        yield


def mtimes(where: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in where.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.usefixtures("hydra_config")
def test_several_stacks_in_one_process_and_finished_ones_are_skipped(tmp_path: Path) -> None:
    stacker, words = stacker_of(tmp_path, *SHORT, max_replicas=2)
    jobs = [[*words, f"seed={seed}"] for seed in (3, 0, 2, 1, 4)]
    packs, rest = stacker.plan(jobs)
    assert rest == []
    assert [[item.plan.seed for item in pack] for pack in packs] == [[0, 1], [2, 3], [4]]
    results = stacker.run(packs)
    assert [results[index].record["seed"] for index in range(5)] == [3, 0, 2, 1, 4]  # type: ignore[union-attr]
    assert [record["trainer"]["replicas"] for record in sorted(records(tmp_path), key=lambda r: r["seed"])] == [
        2,
        2,
        2,
        2,
        1,
    ]
    before = mtimes(tmp_path)
    packs, _ = stacker.plan([*jobs, [*words, "seed=5"]])
    assert [[item.plan.seed for item in pack] for pack in packs] == [[3, 0, 2, 1, 4], [5]]
    again = outcomes(list(stacker.run(packs[:1]).values()))
    assert all(outcome.was_finished for outcome in again)
    assert mtimes(tmp_path) == before

    forced = outcomes(list(stacker.run(stacker.plan([[*job, "force=true"] for job in jobs])[0]).values()))
    assert not any(outcome.was_finished for outcome in forced)
    after = mtimes(tmp_path)
    assert after.keys() == before.keys()
    for path in before:
        assert after[path] > before[path] or path.suffix == ".lock"


def test_two_processes_take_stacks_side_by_side(cli: CLI, tmp_path: Path) -> None:
    words = (*STACKED, "trainer.max_epochs=2", "logger=none", "seed=0,1,2,3,4", "method=deep_sad,ocsvm_raw")
    words += ("hydra.launcher.n_jobs=2", "hydra.launcher.max_replicas=2")
    done = cli("train.py", *words)
    assert done.returncode == 0, output_of(done)
    found = records(tmp_path)
    replicas = [record["trainer"]["replicas"] for record in found if record["method"] == "deep_sad"]
    assert sorted(replicas) == [1, 1, 1, 2, 2]  # four stacks, so that both have as many


@pytest.mark.usefixtures("hydra_config")
def test_a_network_that_cannot_be_is_left_to_fail_as_usual(tmp_path: Path) -> None:
    stacker, words = stacker_of(tmp_path)
    packs, rest = stacker.plan([[*words, "dataset.network.filters=[4,4,4,4]"], words])
    assert rest == [0]
    assert [[item.index for item in pack] for pack in packs] == [[1]]


def test_a_configuration_of_another_name_is_the_one_that_is_stacked(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - train\n  - _self_\nseed: 7\npretrain:\n  epochs: [1]\nmethod:\n  epochs: [1]\n  lr: [1e-3]\n"
    )
    options = ("--config-dir", str(tmp_path), "--config-name", "mine")
    done = cli("train.py", *options, *STACKED, "logger=none", "pretrain.lr=[1e-3]", "method.eta=1,2")
    assert done.returncode == 0, output_of(done)
    assert [record["seed"] for record in records(tmp_path)] == [7, 7]


@pytest.mark.usefixtures("hydra_config")
def test_what_has_no_data_is_left_to_fail_as_usual(tmp_path: Path) -> None:
    (tmp_path / "odds").mkdir()
    (tmp_path / "odds" / "cardio.mat").write_bytes(b"not a table")
    stacker, words = stacker_of(tmp_path, f"data_dir={tmp_path}")
    packs, rest = stacker.plan([[*words, "dataset=cardio"], [*words, "dataset=digits"]])
    assert rest == [0]
    assert [[item.index for item in pack] for pack in packs] == [[1]]


def test_a_seed_that_divides_the_data_is_not_taken_from_a_neighbour(tmp_path: Path) -> None:
    write_odds(tmp_path / "data", "cardio")
    small = ("trainer.max_epochs=1", "pretrain=none", "logger=none", f"data_dir={tmp_path / 'data'}")
    for dataset in ("digits", "toy", "cardio"):
        cells = [(f"dataset={dataset}", f"seed={seed}", *small) for seed in (0, 1)]
        found = [outcome.record["auroc"] for outcome in outcomes(together(tmp_path / "stacked", *cells))]
        expected = [alone(tmp_path / "alone", *cell).record["auroc"] for cell in cells]
        assert found == pytest.approx(expected, abs=1e-6)
        assert found[0] != found[1]


# Kills and stops.

LONG = ("trainer.checkpoint_seconds=0", "trainer.threads=1")


def test_a_stack_killed_in_each_phase_goes_on(tmp_path: Path) -> None:
    epochs = {"pretrain": 40, "fit": 40}
    schedule = ("pretrain.epochs=[40]", "method.epochs=[40]", "pretrain.lr=[1e-3]", "method.lr=[1e-3]")
    words = ("logger=csv", *LONG, *schedule)
    for name in ("pretrain.ckpt", "last.ckpt"):
        with background("train.py", *STACKED, *words, "seed=0,1,2", "hydra.launcher.n_jobs=1", cwd=tmp_path) as sweep:
            wait_for(lambda name=name: len(list(tmp_path.rglob(name))) == 3, sweep)  # type: ignore[misc]
            sweep.kill()
            sweep.wait()
        assert not records(tmp_path)

    cells = [(*words, f"seed={seed}") for seed in range(3)]
    undisturbed = outcomes(together(tmp_path / "undisturbed", *cells))
    resumed = outcomes(together(tmp_path / "runs", *cells))
    for outcome, expected in zip(resumed, undisturbed, strict=True):
        run_dir, log = outcome.run_dir, (outcome.run_dir / "train.log").read_text()
        assert f"pretrain goes on from {run_dir.relative_to(tmp_path)}" in log
        assert f"fit goes on from {run_dir}" in log
        assert log.count("goes on from") == 2
        assert losses(run_dir)[0] == each_step_once(epochs)
        assert outcome.record["auroc"] == pytest.approx(expected.record["auroc"], abs=1e-3)
        # Float noise of other company, which 320 steps amplify.
        assert scores(run_dir) == pytest.approx(scores(expected.run_dir), rel=0.02)
        assert {path.name for path in (run_dir / "checkpoints").iterdir()} <= {
            "pretrain.ckpt",
            "last.ckpt",
            "pretrain.part",
            "last.part",
        }


@pytest.mark.parametrize(
    ("processes", "number"), [(1, signal.SIGTERM), (2, signal.SIGTERM), (2, signal.SIGINT)], ids=str
)
def test_a_terminated_stack_says_so_and_goes_on_alone(tmp_path: Path, processes: int, number: signal.Signals) -> None:
    schedule = ("pretrain.epochs=[800]", "pretrain.lr=[1e-3]", "method.epochs=[1]", "method.lr=[1e-3]")
    words = (*LONG, "logger=wandb" if processes == 2 else "logger=csv", *schedule)
    launched = (*STACKED, *words, "seed=0,1,2,3", f"hydra.launcher.n_jobs={processes}")
    with background("train.py", *launched, cwd=tmp_path) as sweep:
        wait_for(lambda: len(list(tmp_path.rglob("pretrain.ckpt"))) == 4, sweep)
        sweep.send_signal(number)
        text = sweep.communicate(timeout=60)[0]
    assert sweep.returncode == 128 + number, text
    assert "Traceback" not in text
    assert processes == 1 or "interrupted; the same command goes on" in text
    assert not records(tmp_path)
    run_dirs = [path.parent for path in tmp_path.rglob("train.log")]
    assert len(run_dirs) == 4
    for run_dir in run_dirs:
        log = (run_dir / "train.log").read_text()
        assert log.count("the run was stopped") == 1
        assert "the run failed" not in log
        if processes == 2:
            (path,) = run_files(run_dir)
            assert read(path).exit_codes == [1]

    outcome = alone(tmp_path / "runs", *words, "seed=2")
    assert "pretrain goes on from" in (outcome.run_dir / "train.log").read_text()
    if processes == 1:
        assert losses(outcome.run_dir)[0] == each_step_once({"pretrain": 800, "fit": 1})


# One fails.


def test_an_experiment_that_turns_nan_fails_alone(cli: CLI, tmp_path: Path) -> None:
    rates = "method.lr=[1e-3],[1e30]"
    done = cli("train.py", *STACKED, "logger=none", "pretrain=none", "method.epochs=[2]", rates, "seed=0,1")
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    told = "the fit loss is nan in epoch 0; lower method.lr or look for extreme values in the data"
    failed = text[text.index("2 of 4 jobs failed:") :].splitlines()[1:3]
    assert [told in line and "method.lr=[1e+30]" in line for line in failed] == [True, True]
    finished = {path.parent for path in tmp_path.rglob("metrics.json")}
    assert len(finished) == 2
    for path in tmp_path.rglob("train.log"):
        assert (told in path.read_text()) == (path.parent not in finished)
        assert ("Traceback" in path.read_text()) == (path.parent not in finished)


def test_a_nan_changes_nothing_for_the_others(tmp_path: Path) -> None:
    words = ("logger=none", "pretrain=none", "method.epochs=[3]")
    cells = [(*words, f"method.lr=[{rate}]", f"seed={seed}") for seed, rate in enumerate(("1e-3", "1e30", "1e-2"))]
    results = together(tmp_path / "with", *cells)
    assert isinstance(results[1], DeepSADError)
    for i in (0, 2):
        result = results[i]
        assert isinstance(result, Outcome)
        expected = alone(tmp_path / "without", *cells[i])
        assert scores(result.run_dir) == pytest.approx(scores(expected.run_dir), rel=1e-3)


def test_a_failing_experiment_of_a_study_leaves_a_note(cli: CLI, tmp_path: Path) -> None:
    words = ("study=eta", "dataset=digits", "study.normal_classes=[0]", "study.anomaly_classes=[1,2]")
    words += ("study.axes.eta=[1.0,1.0e+39]", "trainer.max_epochs=2", "logger=none", "pretrain=none")
    done = cli("sweep.py", *words, "hydra/launcher=stacked", "hydra.launcher.n_jobs=1")
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "2 of 4 experiments are not finished" in text
    assert "the fit loss is nan in epoch 0" in text
    assert {record["trainer"]["replicas"] for record in records(tmp_path)} == {4}
    assert len(records(tmp_path)) == 2
    notes = [json.loads(path.read_text()) for path in tmp_path.glob("runs/studies/eta/failures/*.json")]
    assert len(notes) == 2
    for note in notes:
        assert "the fit loss is nan" in note["error"]
        assert "Traceback" in note["traceback"]
    status = cli("sweep.py", *words[:5], "action=status")
    assert status.returncode == 0, output_of(status)
    assert "the fit loss is nan" in status.stdout


def test_what_is_no_experiment_s_own_fails_all_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the end of a training."""

    def full(*_: Any) -> None:
        raise OSError("no space left")

    cells = [("logger=none", "pretrain=none", *SHORT[:2], f"seed={seed}") for seed in (0, 1)]
    with monkeypatch.context() as patched:
        patched.setattr("deepsad_pl.stacked.experiments.write_finished", full)
        results = together(tmp_path, *cells)
    assert [str(result) for result in results] == ["no space left"] * 2
    for path in tmp_path.rglob("train.log"):
        assert "OSError: no space left" in path.read_text()
    assert len(outcomes(together(tmp_path, *cells))) == 2


def test_a_disk_that_is_full_for_one_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [("logger=none", "trainer.checkpoint_seconds=0", *SHORT, f"seed={seed}") for seed in range(3)]
    save = torch.save

    def refuse(content: Any, file: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(file, Path) and "seed_1" in str(file):
            raise OSError("no space left")
        save(content, file, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", refuse)
        results = together(tmp_path / "with", *cells)
    assert [isinstance(result, Outcome) for result in results] == [True, False, True]
    assert str(results[1]) == "no space left"
    for i in (0, 2):
        result = results[i]
        assert isinstance(result, Outcome)
        expected = alone(tmp_path / "without", *cells[i])
        assert scores(result.run_dir) == pytest.approx(scores(expected.run_dir), rel=1e-3)


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_stack_that_does_not_fit_a_gpu_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, checkpointed: bool
) -> None:
    """Memory runs out in the midst of a training of more than two; what it had learned without saving it is gone."""
    words = ("logger=csv", "pretrain=none", "method.epochs=[4]", "method.lr=[1e-3]")
    words += (f"trainer.checkpoint_seconds={0 if checkpointed else 1000}",)
    cells = [(*words, f"seed={seed}") for seed in range(5)]
    epoch_end = ReplicaLosses.on_train_epoch_end

    def run_out(self: Any, trainer: Any, pl_module: Any) -> None:
        epoch_end(self, trainer, pl_module)
        if len(self.stack) > 2 and trainer.current_epoch == 2:
            pl_module.unstack()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(ReplicaLosses, "on_train_epoch_end", run_out)
        found = outcomes(together(tmp_path / "halved", *cells))
    # 5 -> 3 + 2 -> 2 + 1 + 2
    assert [outcome.record["trainer"]["replicas"] for outcome in found] == [2, 2, 1, 2, 2]
    assert "a stack of 5 does not fit the memory of the GPU" in caplog.text
    assert "a stack of 3 does not fit the memory of the GPU" in caplog.text
    for outcome, cell in zip(found, cells, strict=True):
        expected = alone(tmp_path / "alone", *cell)
        assert scores(outcome.run_dir) == pytest.approx(scores(expected.run_dir), rel=1e-3)
        assert losses(outcome.run_dir)[0] == losses(expected.run_dir)[0]


# What experiments share.


def test_experiments_of_a_stack_train_their_autoencoder_once(tmp_path: Path) -> None:
    cells = [("logger=csv", *SHORT, f"method.eta={eta}") for eta in (0.1, 1.0, 10.0)]
    first, *others = [outcome.record for outcome in outcomes(together(tmp_path, *cells))]
    assert first["reused"] == {}
    assert first["seconds"]["pretrain"] > 0
    (entry,) = (tmp_path / "cache").glob("*.bin")
    for record in others:
        assert record["reused"]["pretrain"]["entry"] == entry.stem
        assert record["reused"]["pretrain"]["seconds"] == pytest.approx(first["seconds"]["pretrain"], abs=1e-3)
        assert record["seconds"]["pretrain"] == 0
    assert len({record["auroc"] for record in (first, *others)}) == 3
    phases = [{row[0] for row in losses(path.parent)[0]} for path in sorted(tmp_path.rglob("losses.csv"))]
    assert sorted(map(len, phases)) == [1, 1, 2]


def test_an_experiment_that_is_asked_for_twice_is_done_once(tmp_path: Path) -> None:
    cells = [("method=deep_svdd", "logger=none", *SHORT, f"scenario.gamma_l={gamma}") for gamma in (0.05, 0.1)]
    first, second = outcomes(together(tmp_path, *cells))
    assert first.run_dir == second.run_dir
    assert (first.was_finished, second.was_finished) == (False, True)
    assert second.record == first.record


# Company.


def test_an_experiment_of_another_process_is_waited_for_and_stops_no_other(tmp_path: Path) -> None:
    cells = [("logger=none", "pretrain=none", *SHORT[:2], f"seed={seed}") for seed in (0, 1, 2, 3)]
    plans: list[Plan] = [assigned(tmp_path, *cell).plan for cell in cells]
    held, finished_meanwhile = threading.Event(), threading.Event()

    def hold() -> None:
        with locked_run(plans[1]), locked_run(plans[2]):
            held.set()
            end = time.monotonic() + 60
            while time.monotonic() < end and not finished_meanwhile.is_set():
                if all((plans[i].run_dir / "metrics.json").exists() for i in (0, 3)):
                    finished_meanwhile.set()
                time.sleep(0.01)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    results = outcomes(together(tmp_path, *cells))
    other.join()
    assert finished_meanwhile.is_set()
    # What was left there is a stack of its own.
    assert [outcome.record["trainer"]["replicas"] for outcome in results] == [2, 2, 2, 2]
    assert [outcome.record["seed"] for outcome in results] == [0, 1, 2, 3]


def test_two_sweeps_with_experiments_in_common_both_end(tmp_path: Path) -> None:
    common = (*STACKED, "logger=none", "trainer.max_epochs=10", "hydra.launcher.n_jobs=1")
    with (
        background("train.py", *common, "seed=0,1,2,3", cwd=tmp_path) as one,
        background("train.py", *common, "seed=3,2,4,1", "method=deep_sad,deep_svdd", cwd=tmp_path) as other,
    ):
        texts = [process.communicate(timeout=240)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], texts
    assert len(records(tmp_path)) == 9
    for path in tmp_path.rglob("train.log"):
        assert path.read_text().count(" on digits, normal class 0") == 1, "trained twice"


# Wrong settings.


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        ("train.py", ("hydra.launcher.max_replicas=0",), "hydra.launcher.max_replicas is 0; give a whole number >= 1"),
        ("train.py", ("hydra.launcher.max_replicas=a",), "hydra.launcher.max_replicas is a; give a whole number >= 1"),
        ("train.py", ("hydra.launcher.n_jobs=0",), "hydra.launcher.n_jobs is 0; give a whole number >= 1"),
        ("train.py", ("dataset.batch_size=32,0",), "method.batch_size is 0; give a number >= 2"),
        ("sweep.py", ("experiments_per_job=4",), "experiments_per_job is 4, but this hydra/launcher submits no jobs"),
    ],
)
def test_wrong_settings_are_told_before_any_work(
    cli: CLI, tmp_path: Path, script: str, words: tuple[str, ...], told: str
) -> None:
    done = cli(script, "-m", "hydra/launcher=stacked", "seed=0,1", "logger=none", *words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_hydra_is_told_of_an_experiment() -> None:
    done = job_return(["seed=0"], Outcome({"auroc": 0.75}, Path("x"), was_finished=False))
    assert done.return_value == 0.75
    failed = job_return(["seed=0"], DeepSADError("one", "two"))
    with pytest.raises(Exception, match=r"^2 problems:\n  - one\n  - two$"):
        _ = failed.return_value


# The full schedule.


def differences(where: Path, cells: Sequence[Sequence[str]]) -> list[float]:
    """|AUROC difference| of each cell, trained in a stack and alone."""
    words = ("logger=none", "trainer.threads=1", "pretrain.cache=false")
    stacked = outcomes(together(where / "stacked", *[(*cell, *words) for cell in cells]))
    single = [alone(where / "alone", *cell, *words) for cell in cells]
    return [abs(a.record["auroc"] - b.record["auroc"]) for a, b in zip(stacked, single, strict=True)]


def test_full_runs_on_digits_come_to_the_same(tmp_path: Path) -> None:
    cells = [(f"scenario.normal_class={i}", f"scenario.anomaly_class={i + 1}", f"seed={i}") for i in (0, 3, 8)]
    found = differences(tmp_path, cells)
    assert sum(found) / len(found) <= 2e-3


def test_full_runs_on_cardio_come_to_the_same(tmp_path: Path, real_data: Path) -> None:
    cells = [("dataset=cardio", f"data_dir={real_data}", f"seed={seed}") for seed in range(3)]
    found = differences(tmp_path, cells)
    assert sum(found) / len(found) <= 2e-3


# In jobs of submitit.

LOCAL = ("-m", "hydra/launcher=submitit_local", "trainer.threads=1", "hydra.launcher.experiments_per_job=4")


@pytest.mark.parametrize("stack", [True, False])
def test_a_pack_of_a_job_is_a_stack_unless_told_otherwise(cli: CLI, tmp_path: Path, stack: bool) -> None:
    words = ("seed=0,1", "method=deep_sad,ocsvm_raw", "trainer.max_epochs=2", "logger=none")
    done = cli("train.py", *LOCAL, *words, f"hydra.launcher.stack={stack}")
    assert done.returncode == 0, output_of(done)
    assert "AUROC" in done.stdout
    replicas = {(record["method"], record["trainer"]["replicas"]) for record in records(tmp_path)}
    assert replicas == {("deep_sad", 2 if stack else 1), ("ocsvm_raw", 1)}
    assert len(records(tmp_path)) == 4


def test_a_failing_experiment_of_a_jobs_stack_stops_no_other(cli: CLI, tmp_path: Path) -> None:
    rates = "method.lr=[1e-3],[1e30]"
    done = cli("train.py", *LOCAL, "logger=none", "pretrain=none", "method.epochs=[2]", rates, "seed=0,1")
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "2 of 4 jobs failed" in text
    assert text[text.index("2 of 4 jobs") :].count("the fit loss is nan") == 2
    assert [record["trainer"]["replicas"] for record in records(tmp_path)] == [4, 4]
