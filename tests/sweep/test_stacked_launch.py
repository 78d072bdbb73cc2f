"""Sweeps through ``hydra/launcher=stacked`` leave what single runs do, in the expected stacks and processes."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from planned import slow_but
from processes import ROOT, Script
from stacks import CLI, SHORT, STACKED, STEPS, alone, losses, outcomes, output_of, records, rows, scores, together
from tiny_data import write_odds
from wandb_file import OfflineRun, read, run_files

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import METRICS, scores_problem
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.sweep.launch import Stacker
from deepsad_pl.sweep.outcomes import job_return


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    """Set up log messages as the scripts do, since no script runs here."""
    caplog.set_level(logging.INFO)


# The same jobs through both launchers.

JOBS = ("scenario.normal_class=0,3", "seed=0,1", "method=deep_sad,deep_svdd,classifier,ocsvm_raw")


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """The files and output of ``train.py -m`` with each launcher, with the same relative output_dir."""
    launchers = {
        "basic": ["hydra/launcher=basic"],
        "stacked": ["hydra/launcher=stacked", "hydra.launcher.n_jobs=1"],
    }
    where = {name: tmp_path_factory.mktemp(name) for name in launchers}
    words = (*JOBS, "trainer.max_epochs=3", "logger=csv", "trainer.threads=1")
    running = {
        name: Script("train.py", "-m", *launcher, *words, cwd=folder, env={**os.environ, "COLUMNS": "120"}, merged=True)
        for (name, folder), launcher in zip(where.items(), launchers.values(), strict=True)
    }
    texts = {name: process.communicate(timeout=300)[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, texts[name]
    return {name: (where[name], texts[name]) for name in where}


def files(where: Path) -> set[str]:
    return {str(path.relative_to(where)) for path in where.rglob("*") if path.is_file()}


@pytest.mark.slow
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
        for metric in METRICS:
            # At a threshold, a rounding error can move all anomalies between two normal samples.
            tolerance = 1e-3 if metric in ("auroc", "average_precision") else 2e-2
            assert replica[metric] == pytest.approx(single[metric], abs=tolerance)
        assert replica["classes"].keys() == single["classes"].keys()
        assert replica["spread"].keys() == single["spread"].keys()
        for phase, spread in single["spread"].items():
            assert replica["spread"][phase] == pytest.approx(spread, rel=1e-3)
        assert replica["seconds"].keys() == single["seconds"].keys()
        # Duration and hardware of the other's training.
        assert replica["reused"].keys() == single["reused"].keys()
        for phase, reused in single["reused"].items():
            assert replica["reused"][phase]["entry"] == reused["entry"]
        count = 1 if single["method"] == "ocsvm_raw" else 8 if single["method"] != "classifier" else 4
        assert replica["trainer"] == {**single["trainer"], "replicas": count}
        assert scores_problem(stacked / path.parent.relative_to(basic), replica) is None
        noisy = {*METRICS, "classes", "spread", "seconds", "reused", "trainer", "scores", "sha256"}
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
    """Except for times; each log is only about its own experiment."""
    basic, stacked = (sweeps[name][0] for name in ("basic", "stacked"))

    def told(path: Path) -> list[str]:
        # The first experiment that needs an autoencoder trains it for all.
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


def test_each_job_is_reported_by_its_own_number(sweeps: dict[str, tuple[Path, str]]) -> None:
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


# All of them, and none twice.


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


def test_two_processes_train_stacks_in_parallel(cli: CLI, tmp_path: Path) -> None:
    words = (*STACKED, "trainer.max_epochs=2", "logger=none", "seed=0,1,2,3,4", "method=deep_sad,ocsvm_raw")
    words += ("hydra.launcher.n_jobs=2", "hydra.launcher.max_replicas=2")
    done = cli("train.py", *words)
    assert done.returncode == 0, output_of(done)
    found = records(tmp_path)
    replicas = [record["trainer"]["replicas"] for record in found if record["method"] == "deep_sad"]
    assert sorted(replicas) == [1, 1, 1, 2, 2]  # four stacks, so that both have as many


@pytest.mark.usefixtures("hydra_config")
@pytest.mark.parametrize(
    ("words", "stacked"),
    [
        (("method.batch_size=128",), True),  # 128 x 8 x 8 pixels
        (("method.batch_size=129",), False),
        (("pretrain.batch_size=129",), False),
        (("dataset=cardio", "method.batch_size=500"), True),
    ],
)
def test_large_images_are_not_stacked_on_a_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], stacked: bool
) -> None:
    write_odds(tmp_path / "data", "cardio")
    for most in (None, 2):
        stacker, given = stacker_of(tmp_path, "trainer=cpu", f"data_dir={tmp_path / 'data'}", *words, max_replicas=most)
        packs, rest = stacker.plan([[*given, f"seed={seed}"] for seed in (0, 1)])
        together = stacked or most == 2
        assert (list(map(len, packs)), rest) == (([2], []) if together else ([], [0, 1]))
        told = "2 experiments run alone: on a CPU, stacks are slower for images of this size"
        assert (told in capsys.readouterr().out) != together


@pytest.mark.usefixtures("hydra_config")
def test_an_impossible_network_fails_as_usual(tmp_path: Path) -> None:
    stacker, words = stacker_of(tmp_path)
    packs, rest = stacker.plan([[*words, "dataset.network.filters=[4,4,4,4]"], words])
    assert rest == [0]
    assert [[item.index for item in pack] for pack in packs] == [[1]]


def test_a_configuration_with_another_name_is_stacked(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults:\n  - train\n  - _self_\nseed: 7\npretrain:\n  epochs: [1]\nmethod:\n  epochs: [1]\n  lr: [1e-3]\n"
    )
    options = ("--config-dir", str(tmp_path), "--config-name", "mine")
    done = cli("train.py", *options, *STACKED, "logger=none", "pretrain.lr=[1e-3]", "method.eta=1,2")
    assert done.returncode == 0, output_of(done)
    assert [record["seed"] for record in records(tmp_path)] == [7, 7]


@pytest.mark.usefixtures("hydra_config")
def test_an_experiment_without_data_fails_as_usual(tmp_path: Path) -> None:
    (tmp_path / "odds").mkdir()
    (tmp_path / "odds" / "cardio.mat").write_bytes(b"not a table")
    stacker, words = stacker_of(tmp_path, f"data_dir={tmp_path}")
    packs, rest = stacker.plan([[*words, "dataset=cardio"], [*words, "dataset=digits"]])
    assert rest == [0]
    assert [[item.index for item in pack] for pack in packs] == [[1]]


def test_each_experiment_gets_the_split_of_its_own_seed(tmp_path: Path) -> None:
    write_odds(tmp_path / "data", "cardio")
    small = ("trainer.max_epochs=1", "pretrain=none", "logger=none", f"data_dir={tmp_path / 'data'}")
    for dataset in ("digits", "toy", "cardio"):
        cells = [(f"dataset={dataset}", f"seed={seed}", *small) for seed in (0, 1)]
        found = [outcome.record["auroc"] for outcome in outcomes(together(tmp_path / "stacked", *cells))]
        expected = [alone(tmp_path / "alone", *cell).record["auroc"] for cell in cells]
        assert found == pytest.approx(expected, abs=1e-6)
        assert found[0] != found[1]


# Wrong settings.


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        (
            "train.py",
            ("hydra.launcher.max_replicas=0",),
            "hydra.launcher.max_replicas is 0; it must be a whole number >= 1",
        ),
        (
            "train.py",
            ("hydra.launcher.max_replicas=a",),
            "hydra.launcher.max_replicas is a; it must be a whole number >= 1",
        ),
        (
            "train.py",
            ("hydra.launcher.n_jobs=0",),
            "hydra.launcher.n_jobs is 0; it must be a whole number from 1",
        ),
        (
            "train.py",
            ("dataset.batch_size=32,0",),
            "method.batch_size is 0; it must be a whole number from 2",
        ),
        ("sweep.py", ("experiments_per_job=4",), "experiments_per_job is 4, but this hydra/launcher submits no jobs"),
    ],
)
def test_wrong_settings_are_reported_before_any_work(
    cli: CLI, tmp_path: Path, script: str, words: tuple[str, ...], told: str
) -> None:
    done = cli(script, "-m", "hydra/launcher=stacked", "seed=0,1", "logger=none", *words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_hydra_gets_the_outcome_of_each_experiment() -> None:
    done = job_return(["seed=0"], Outcome({"auroc": 0.75}, Path("x"), was_finished=False))
    assert done.return_value == 0.75
    failed = job_return(["seed=0"], DeepSADError("one", "two"))
    with pytest.raises(Exception, match=r"^2 problems:\n  - one\n  - two$"):
        _ = failed.return_value


# In jobs of submitit.

LOCAL = ("-m", "hydra/launcher=submitit_local", "trainer.threads=1", "hydra.launcher.experiments_per_job=4")


@pytest.mark.parametrize("stack", slow_but((True,), (True, False)))
def test_a_pack_of_a_job_is_a_stack_unless_configured_otherwise(cli: CLI, tmp_path: Path, stack: bool) -> None:
    words = ("seed=0,1", "method=deep_sad,ocsvm_raw", "trainer.max_epochs=2", "logger=none")
    done = cli("train.py", *LOCAL, *words, f"hydra.launcher.stack={stack}")
    assert done.returncode == 0, output_of(done)
    assert "AUROC" in done.stdout
    replicas = {(record["method"], record["trainer"]["replicas"]) for record in records(tmp_path)}
    assert replicas == {("deep_sad", 2 if stack else 1), ("ocsvm_raw", 1)}
    assert len(records(tmp_path)) == 4


def test_a_failing_experiment_of_a_jobs_stack_stops_no_other(cli: CLI, tmp_path: Path) -> None:
    rates = "method.lr=[1e-3],[1e30]"
    words = ("logger=none", "pretrain=none", "method.epochs=[2]", rates, "seed=0,1")
    # The bounds of the settings would refuse what makes a loss that is no number, here and in the jobs.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text((ROOT / "tests" / "no_bounds.py").read_text())
    env = {"DEEPSAD_TEST_HOOK": "no_bounds", "PYTHONPATH": str(tmp_path / "site")}
    done = cli("train.py", *LOCAL, *words, env=env)
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "2 of 4 jobs failed" in text
    assert text[text.index("2 of 4 jobs") :].count("the fit loss is nan") == 2
    assert [record["trainer"]["replicas"] for record in records(tmp_path)] == [4, 4]
