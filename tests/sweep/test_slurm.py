"""Sweeps through a real Slurm."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import ROOT
from slurm_jobs import CLI, SLURM, end_of, job_folders, output_of, records, wait_for
from wandb_file import read, run_files

SMALL = ("trainer.max_epochs=1", "logger=none", "pretrain=none")
# Takes seconds on any machine, with a checkpoint soon after the start.
LONG = ("pretrain=none", "method.epochs=[400]", "method.lr=[1e-3]", "trainer.checkpoint_seconds=0.1")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(slurm: None, tmp_path: Path) -> Iterator[Start]:
    """Start a sweep in the background, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def sweep(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "train.py"), "-m", *SLURM, *words]
        process = subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        started.append(process)
        return process

    yield sweep
    for process in started:
        process.kill()
        process.wait()


def checkpoint_of(where: Path, seed: int) -> Callable[[], list[Path]]:
    return lambda: list(where.glob(f"runs/digits/deep_sad/*-seed_{seed}-*/checkpoints/last.ckpt"))


def log_of(where: Path, seed: int) -> str:
    (path,) = where.glob(f"runs/digits/deep_sad/*-seed_{seed}-*/train.log")
    return path.read_text()


def test_arrays_are_submitted_in_chunks(slurm: None, cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "-m", *SLURM, *SMALL, "seed=0,1,2", "hydra.launcher.max_array_size=2")
    assert done.returncode == 0, output_of(done)
    assert sorted(record["seed"] for record in records(tmp_path)) == [0, 1, 2]
    first, second, third = job_folders(tmp_path)
    array = first.partition("_")[0]
    assert (first, second) == (f"{array}_0", f"{array}_1")
    assert "_" not in third
    assert third != array
    assert f"3 jobs ({array}, {third}) submitted" in done.stdout
    assert "AUROC" in done.stdout
    out = (tmp_path / "runs" / "submitit" / first / f"{first}_0_log.out").read_text()
    assert "AUROC" in out
    again = cli("train.py", "-m", *SLURM, *SMALL, "seed=0,1,2")
    assert again.returncode == 0, output_of(again)
    assert len(records(tmp_path)) == 3


def test_a_failing_experiment_stops_no_other_of_its_job(slurm: None, cli: CLI, tmp_path: Path) -> None:
    gammas = "scenario.gamma_l=0.9,0.05,0.01"
    done = cli("train.py", "-m", *SLURM, *SMALL, gammas, "hydra.launcher.experiments_per_job=3")
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "1 of 3 jobs failed" in text
    assert "scenario.gamma_l=0.9" in text[text.index("1 of 3 jobs") :]
    assert sorted(record["scenario"]["gamma_l"] for record in records(tmp_path)) == [0.01, 0.05]
    assert len(job_folders(tmp_path)) == 1


def test_a_killed_job_stops_no_other_and_resumes(start: Start, cli: CLI, tmp_path: Path) -> None:
    words = ("seed=0,1", "logger=none", *LONG)
    sweep = start(*words)
    wait_for(checkpoint_of(tmp_path, 1), sweep, "a checkpoint")
    victim = job_folders(tmp_path)[1]
    subprocess.run(["scancel", victim], check=True)
    text = end_of(sweep)
    assert sweep.returncode == 1, text
    assert "Traceback" not in text
    assert "1 of 2 jobs failed" in text
    assert f"job {victim} ended without a result (state CANCELLED)" in text
    assert "seed=1" in text[text.index("1 of 2 jobs") :]
    assert [record["seed"] for record in records(tmp_path)] == [0]
    assert "resumes from" not in log_of(tmp_path, 1)

    done = cli("train.py", "-m", *SLURM, *words)
    assert done.returncode == 0, output_of(done)
    assert sorted(record["seed"] for record in records(tmp_path)) == [0, 1]
    assert "resumes from" in log_of(tmp_path, 1)
    assert "resumes from" not in log_of(tmp_path, 0)


def test_a_preempted_job_is_requeued_and_resumes_in_its_wandb_run(start: Start, tmp_path: Path) -> None:
    sweep = start("seed=0", "logger=wandb", *LONG)
    (checkpoint,) = wait_for(checkpoint_of(tmp_path, 0), sweep, "a checkpoint")
    (job,) = job_folders(tmp_path)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    text = end_of(sweep)
    assert sweep.returncode == 0, text
    assert len(records(tmp_path)) == 1
    log = log_of(tmp_path, 0)
    assert "the run was stopped (SystemExit); the same command resumes it" in log
    assert "fit resumes from" in log
    assert "failed" not in log
    assert log_out(tmp_path, job).count("Starting with JobEnvironment") == 2
    files = run_files(checkpoint.parent.parent)
    assert len(files) == 2
    first, second = map(read, files)
    assert first.ids == second.ids
    assert len(first.ids) == 1
    assert first.exit_codes
    assert second.exit_codes == [0]


def test_a_job_that_times_out_is_requeued_and_resumes(start: Start, tmp_path: Path) -> None:
    # Slurm's shortest limit is a minute; its warning comes some ten seconds after the start.
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=50", "hydra.launcher.max_num_timeout=5")
    packed = "hydra.launcher.experiments_per_job=2"
    sweep = start("seed=0,1", "logger=none", *LONG, "trainer.max_epochs=150", *limits, packed)
    wait_for(checkpoint_of(tmp_path, 0), sweep, "a checkpoint")
    (job,) = job_folders(tmp_path)
    # However fast this machine is, the job is not finished by then: it is suspended until Slurm's warning wakes it.
    subprocess.run(["scancel", "--signal=STOP", job], check=True)
    text = end_of(sweep)
    assert sweep.returncode == 0, text
    assert sorted(record["seed"] for record in records(tmp_path)) == [0, 1]
    assert "fit resumes from" in log_of(tmp_path, 0)
    out = log_out(tmp_path, job)
    assert "this job is timed-out" in out
    assert "Requeued job" in out
    assert "AUROC" in text


def log_out(where: Path, job: str) -> str:
    """The output of a job and of submitit."""
    return "".join(path.read_text() for path in (where / "runs" / "submitit" / job).glob(f"{job}_0_log.*"))


def test_an_interrupted_sweep_cancels_its_jobs(start: Start, tmp_path: Path) -> None:
    sweep = start("seed=0,1", "logger=none", "pretrain=none", "method.epochs=[100000]", "method.lr=[1e-3]")
    wait_for(lambda: list(tmp_path.rglob("train.log")), sweep, "a running job")
    first, second = job_folders(tmp_path)
    sweep.send_signal(signal.SIGINT)
    text = end_of(sweep)
    assert sweep.returncode == 128 + signal.SIGINT, text
    assert f"interrupted: 2 jobs ({first.partition('_')[0]}) cancelled; the same command resumes them" in text
    assert "Traceback" not in text
    listed = subprocess.run(
        ["squeue", "--noheader", f"--jobs={first},{second}", "--states=PENDING,RUNNING"],
        check=True,
        capture_output=True,
    )
    assert not listed.stdout


def test_two_tasks_of_a_job_are_two_ranks(slurm: None, cli: CLI, tmp_path: Path) -> None:
    small = ("trainer.max_epochs=2", "logger=none", "seed=0")
    ddp = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "output_dir=two")
    two = cli("train.py", "-m", *SLURM, *small, *ddp)
    assert two.returncode == 0, output_of(two)
    one = cli("train.py", *small, "trainer=cpu", "output_dir=one")
    assert one.returncode == 0, output_of(one)
    (single,), (double,) = records(tmp_path / "one"), records(tmp_path / "two")
    assert double["trainer"]["world_size"] == 2
    assert double["auroc"] == pytest.approx(single["auroc"], abs=1e-3)
    assert double["hash"] == single["hash"]
    (out,) = (tmp_path / "two" / "submitit").glob("*/*_1_log.out")
    assert "Job completed successfully" in out.with_suffix(".err").read_text() + out.read_text()
    assert not list((tmp_path / "two").rglob("train.rank*.log"))
