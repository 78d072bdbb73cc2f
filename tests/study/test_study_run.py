"""Studies from the command line: run, resumed after kills, partly failing, reported, narrowed, or the user's own."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import pytest
from omegaconf import OmegaConf
from processes import Script, run_script

CLI = Callable[..., subprocess.CompletedProcess[str]]
# Sixteen experiments: two normal classes with one known class each, at two ratios, three methods.
SMALL = (
    "study=labeled_anomalies",
    "dataset=digits",
    "method=deep_sad,classifier,ocsvm_raw",
    "study.axes.gamma_l=[0.0,0.05]",
    "study.normal_classes=[0,1]",
    "study.anomaly_classes=[0,1]",
    "logger=none",
)
QUICK = ("pretrain.epochs=[1,1]", "method.epochs=[1,1]")
TABLES = ("table.md", "table.csv", "table.tex", "tests.csv", "figure.svg", "figure.png", "scatter.svg", "scatter.png")


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def report_in(where: Path) -> dict[str, bytes]:
    folder = where / "runs" / "studies" / "labeled_anomalies"
    return {name: (folder / name).read_bytes() for name in TABLES}


def records(where: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(where.rglob("metrics.json"))]


@pytest.mark.slow
def test_a_study_is_run_once_and_reported(cli: CLI, tmp_path: Path) -> None:
    asked = cli("sweep.py", *SMALL, *QUICK, "dry_run=true")
    assert asked.returncode == 0, output_of(asked)
    assert re.search(r"8 experiments, 0 finished, 8 to do, about \d+ s .*\(rough: from the speed", asked.stdout)
    assert not any(tmp_path.iterdir())

    first = cli("sweep.py", *SMALL, *QUICK)
    assert first.returncode == 0, output_of(first)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    done = records(tmp_path)
    assert len(done) == 8
    assert re.search(r"8/8", first.stdout)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*/*/*/metrics.json")}

    # The command in a record is one of train.py, which finds the run finished.
    command = shlex.split(done[0]["command"])
    assert command[1].endswith("train.py")
    again = cli("train.py", *command[2:])
    assert "already finished" in again.stdout, output_of(again)

    before = report_in(tmp_path)
    second = cli("sweep.py", "study=labeled_anomalies", "action=report")
    assert second.returncode == 0, output_of(second)
    assert report_in(tmp_path) == before
    assert "Deep SAD" in second.stdout
    state = cli("sweep.py", "study=labeled_anomalies", "action=status")
    assert "8 experiments, 8 finished, 0 to do" in state.stdout, output_of(state)
    third = cli("sweep.py", *SMALL, *QUICK)
    assert third.returncode == 0
    assert report_in(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in files} == files

    # Another part of the same study is added to the same table.
    wider = [word for word in SMALL if not word.startswith(("method", "study.axes"))]
    more = cli("sweep.py", *wider, *QUICK, "method=deep_svdd", "study.axes.gamma_l=[0.05]")
    assert more.returncode == 0, output_of(more)
    lines = (tmp_path / "runs" / "studies" / "labeled_anomalies" / "table.csv").read_text().splitlines()
    assert {line.split(",")[2] for line in lines[1:]} == {"deep_sad", "classifier", "ocsvm_raw", "deep_svdd"}


def test_a_failing_experiment_stops_no_other_and_is_retried(cli: CLI, tmp_path: Path) -> None:
    """A share of 0.9 cannot be labeled anomalies of one digit, which is known only after loading the data."""
    words = ["study=labeled_anomalies", "dataset=digits", "method=deep_sad", "study.normal_classes=[0]"]
    words += ["study.anomaly_classes=[1]", "study.axes.gamma_l=[0.9,0.05]", "logger=none", *QUICK]
    done = cli("sweep.py", *words)
    text = output_of(done)
    assert done.returncode == 1
    assert "Traceback" not in text
    assert text.count("asks for") >= 2, "when it happens and at the end"
    assert "1 of 2 experiments is not finished" in text
    (record,) = records(tmp_path)
    assert record["scenario"]["gamma_l"] == 0.05
    state = cli("sweep.py", "study=labeled_anomalies", "action=status")
    assert state.returncode == 0
    assert re.search(r"failed before: .*gamma_l=0.9.*asks for", state.stdout)
    again = cli("sweep.py", *words)
    assert again.returncode == 1
    assert "2 experiments, 1 finished, 1 to do, about" in again.stdout
    assert len(list(tmp_path.rglob("failures/*.json"))) == 1


@pytest.mark.slow
def test_the_processes_of_the_launcher_share_the_cores(cli: CLI, tmp_path: Path) -> None:
    words = ["study=labeled_anomalies", "dataset=digits", "method=kde_raw", "study.normal_classes=[0]"]
    words += ["study.anomaly_classes=[1]", "study.axes.gamma_l=[0.05]", "logger=none"]
    for n_jobs, seeds, threads in ((1, "0", None), (3, "0,1", max(1, joblib.cpu_count() // 3))):
        done = cli("sweep.py", *words, f"seed={seeds}", f"hydra.launcher.n_jobs={n_jobs}")
        assert done.returncode == 0, output_of(done)
        (config,) = tmp_path.rglob(f"*seed_{seeds[-1]}*/config.yaml")
        assert OmegaConf.load(config).trainer.threads == threads
    assert re.search(r"2 experiments, 1 finished, 1 to do, about .* on 3 processes", done.stdout)
    local = ("hydra/launcher=submitit_local", "hydra.launcher.array_parallelism=4")
    done = cli("sweep.py", *words, "seed=0,1,2", *local, "dry_run=true")
    assert re.search(r"3 experiments, 2 finished, 1 to do, about .* on 4 processes", done.stdout), output_of(done)


@pytest.mark.slow
def test_a_study_killed_three_times_ends_with_the_same_tables(tmp_path: Path) -> None:
    longer = ("pretrain.epochs=[25]", "pretrain.lr=[1e-3]", "method.epochs=[25]", "method.lr=[1e-3]")
    # Alone, an experiment resumes to the same bits; in another stack rounding differs, which may swap two samples.
    words = (*SMALL, *longer, "trainer.checkpoint_seconds=0", "hydra.launcher.max_replicas=1")
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    for folder in (killed, undisturbed):
        folder.mkdir()
    # The second time only the sweep is killed; its workers end by themselves, maybe after much of the remaining work.
    for new_checkpoints, workers in ((1, True), (2, False), (1, True)):
        kill_after(words, killed, new_checkpoints=new_checkpoints, workers=workers)
    assert len(records(killed)) < 8
    for folder in (killed, undisturbed):
        done = run_script("sweep.py", *words, cwd=folder)
        assert done.returncode == 0, output_of(done)
    assert report_in(killed) == report_in(undisturbed)
    assert len(records(killed)) == 8
    logs = [path.read_text() for path in killed.rglob("train.log")]
    assert any("resumes from" in log for log in logs)
    assert not list(killed.rglob("failures/*.json"))


def kill_after(words: Sequence[str], cwd: Path, new_checkpoints: int, workers: bool) -> None:
    """Start a sweep and kill it (and its workers) as soon as this many trainings have been saved or resumed."""
    seen = {path: path.stat().st_mtime_ns for path in cwd.rglob("*.ckpt")}
    process = Script("sweep.py", *words, cwd=cwd, new_session=True)

    def changed() -> int:
        found = 0
        for path in cwd.rglob("*.ckpt"):
            try:
                found += seen.get(path) != path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
        return found

    deadline = time.monotonic() + 120
    while process.poll() is None and changed() < new_checkpoints:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    (os.killpg if workers else os.kill)(process.pid, signal.SIGKILL)
    process.wait(60)
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while processes_in(cwd):
        assert time.monotonic() < deadline, "a worker has survived its sweep"
        time.sleep(0.2)


def processes_in(folder: Path) -> list[str]:
    """Python processes with this working directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder and b"python" in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_an_own_study_needs_only_a_yaml(cli: CLI, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "study"
    folder.mkdir(parents=True)
    (folder / "batches.yaml").write_text(
        """
        defaults:
          - /schema/study@_here_: base
        name: batches
        title: Does the batch size matter?
        datasets: [digits]
        methods: [deep_sad, deep_svdd]
        axes: {batch_size: [16, 64]}
        keys: {batch_size: method.batch_size}
        depends: {batch_size: all}
        fixed: {pretrain.batch_size: 32, scenario.gamma_l: 0.1}
        normal_classes: [8]
        anomaly_classes: [1, 9]
        """
    )
    words = ("--config-dir", str(tmp_path / "mine"), "study=batches", "logger=none", *QUICK)
    done = cli("sweep.py", *words, "hydra/launcher=basic")
    assert done.returncode == 0, output_of(done)
    made = records(tmp_path)
    assert len(made) == 2 * 2 + 2
    assert {record["identity"]["method"]["batch_size"] for record in made} == {16, 64}
    assert "--config-dir" in made[0]["command"]
    table = (tmp_path / "runs" / "studies" / "batches" / "table.csv").read_text()
    assert table.startswith("dataset,batch_size,")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("study=labeled_anomalies", "action=fly"), "action is 'fly'"),
        (("study=labelled", "method=deep_sad,ocsvm_raw"), "labelled"),
        (("study=eta", "dataset=digits,mnist", "study.sedes=[0]"), "sedes"),
        (("study=eta", "dataset=digits", "study.anomaly_classes=1"), "study.anomaly_classes is 1"),
        (
            ("study=eta", "dataset=digits", "study.normal_classes=[0]", "study.anomaly_classes=[0]"),
            "no experiment left",
        ),
        (("study=eta", "scenario.gamma_p=0.1,0.2"), "comma lists"),
        (("study=pollution", "scenario.gamma_p=0.1"), "study.axes.gamma_p"),
        (("study=pollution", "study.axes.gamma_x=[1]"), "gamma_x"),
        (("study=pollution", "dataset=digits", "method=deep_sad", "method.eta=0"), "method.eta is 0"),
        (("study=pollution", "dataset=digits", "method=deep_sad", "trainer=ddp"), "ddp"),
        (("study=pollution", "dataset=digits", "study.normal_classes=[cat]"), "cat"),
        (("study=pollution", "method=deep_bad"), "deep_bad"),
        (("study=pollution", "action=forget", "dataset=gone", "method=deep_bad"), "remembers no command"),
        (("study=pollution", "dataset=digits", "method=kde_raw", "experiments_per_job=3"), "experiments_per_job is 3"),
        (("study=pollution", "dataset=digits", "method=ssad_raw,kde_raw", "method.eta=2"), "none of the methods"),
        (("study=pollution", "dataset=digits", "method=deep_sad", "method.lr=[1"), "method.lr=[1"),
        (("action=report",), "study="),
        (("study.seeds=[0]", "dataset=toy"), "study.seeds=[0] is for a study, but none is named; add study="),
        (
            ("study=toy", "threshold.alpha=0.1"),
            "no experiment of the study has threshold.alpha; leave it out or choose a threshold",
        ),
        (("study=toy,eta",), "study=toy,eta: a command runs one study"),
        (("study=toy", "study.seeds=0,1"), "study.seeds=0,1: this setting is a list; write 'study.seeds=[0,1]'"),
        (("study=eta", "study.axes.eta=1,10"), "write 'study.axes.eta=[1,10]'"),
        (("study=toy", "action=status,report"), "action=status,report: this setting has one value"),
        (("study=toy", "dry_run=true,false", "study.sample=1,2"), "2 problems:"),
        (("study=pollution", "dataset=digits", "method=deep_sad", "action=report"), "no experiment of the study"),
    ],
)
def test_wrong_words_are_refused_before_any_work(cli: CLI, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    done = cli("sweep.py", *words)
    assert done.returncode != 0
    assert told in output_of(done)
    assert "Traceback" not in output_of(done)
    assert not any(tmp_path.iterdir())
