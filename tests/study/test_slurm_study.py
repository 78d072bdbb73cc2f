"""Studies through a real Slurm: packed arrays, a killed job, a killed sweep."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT
from slurm_jobs import CLI, SLURM, job_folders, output_of, records, wait_for

WORDS = (
    "study=labeled_anomalies",
    "dataset=digits",
    "method=deep_sad,ocsvm_raw",
    "study.axes.gamma_l=[0.0,0.05]",
    "study.normal_classes=[0]",
    "study.anomaly_classes=[1,2]",
    "logger=none",
)
QUICK = ("trainer.max_epochs=1",)
LONG = ("pretrain=none", "method.epochs=[400]", "method.lr=[1e-3]", "trainer.checkpoint_seconds=0.1")


def table(where: Path) -> str:
    return (where / "runs" / "studies" / "labeled_anomalies" / "table.csv").read_text()


def test_a_study_runs_in_packs(slurm: None, cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", *WORDS, *QUICK, *SLURM, "experiments_per_job=3")
    assert done.returncode == 0, output_of(done)
    assert len(records(tmp_path)) == 4
    assert len(job_folders(tmp_path)) == 2
    assert "4/4" in done.stdout
    assert table(tmp_path).startswith("dataset,gamma_l,column")
    assert {shlex.split(record["command"])[1] for record in records(tmp_path)} == {str(ROOT / "train.py")}


def test_outside_methods_run_in_packs(slurm: None, cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples" / "methods"))
    words = [word for word in WORDS if not word.startswith("method=")]
    where = ("--config-dir", str(ROOT / "examples" / "methods" / "conf"))
    done = cli("sweep.py", *where, *words, "method=robust_sad,mahalanobis", *QUICK, *SLURM, "experiments_per_job=2")
    assert done.returncode == 0, output_of(done)
    found = records(tmp_path)
    assert {record["method"] for record in found} == {"robust_sad", "mahalanobis"}
    assert max(record["trainer"]["replicas"] for record in found) == 2
    assert "Robust SAD" in table(tmp_path)


def test_a_study_resumes_after_a_killed_job_and_after_a_killed_sweep(slurm: None, cli: CLI, tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith("method=")]
    words += ["method=deep_sad", *LONG, *SLURM]
    command = [sys.executable, str(ROOT / "sweep.py"), *words]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def saved(known: str) -> list[Path]:
        return list(tmp_path.glob(f"runs/digits/deep_sad/*known_{known}-*/checkpoints/last.ckpt"))

    sweep = start()
    wait_for(lambda: saved("1") and saved("2"), sweep, "two checkpoints")
    # The second and the third experiment of three have a known class each.
    victim = job_folders(tmp_path)[1]
    subprocess.run(["scancel", victim], check=True)
    text, _ = sweep.communicate(timeout=240)
    assert sweep.returncode == 1, text
    assert "1 of 3 experiments is not finished" in text
    assert victim in text[text.index("1 of 3") :]
    assert len(records(tmp_path)) == 2

    sweep = start()
    before = len(job_folders(tmp_path))
    wait_for(lambda: len(job_folders(tmp_path)) > before, sweep, "another job")
    sweep.send_signal(signal.SIGKILL)
    sweep.wait(60)
    done = cli("sweep.py", *words)
    assert done.returncode == 0, output_of(done)
    assert len(records(tmp_path)) == 3
    logs = [path.read_text() for path in tmp_path.glob("runs/digits/deep_sad/*/train.log")]
    assert sum(bool(re.search("resumes from", log)) for log in logs) == 1
