"""The launchers without Slurm: jobs in processes, what the preset requests, what is refused."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from planned import settings_of, slow_but
from processes import background, wait_for

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.sweep.packed_launcher import _goes_on
from deepsad_pl.sweep.worker import portable
from hydra_plugins._deepsad_submitit import LocalLauncher, SlurmLauncher

CLI = Callable[..., subprocess.CompletedProcess[str]]
LOCAL = ("hydra/launcher=submitit_local", "trainer.threads=1")
SMALL = ("trainer.max_epochs=1", "logger=none", "pretrain=none")
SLURM_TARGET = "hydra_plugins._deepsad_submitit.SlurmLauncher"


def launcher_of(*overrides: str, script: str = "train") -> Any:
    """The resolved settings of the launcher."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(script, list(overrides), return_hydra_config=True).hydra.launcher


def records(where: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(where.rglob("metrics.json"))]


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_a_pack_runs_in_one_process_and_a_failure_stops_no_other(cli: CLI, tmp_path: Path) -> None:
    gammas = "scenario.gamma_l=0.9,0.05,0.01"
    done = cli("sweep.py", *LOCAL, *SMALL, gammas, "experiments_per_job=2")
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "1 of 3 jobs failed" in text
    assert "scenario.gamma_l=0.9" in text[text.index("1 of 3 jobs") :]
    assert sorted(record["scenario"]["gamma_l"] for record in records(tmp_path)) == [0.01, 0.05]
    assert len(list((tmp_path / "runs" / "submitit").glob("*/*_result.pkl"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.slow
def test_a_killed_pack_keeps_its_finished_experiments(tmp_path: Path) -> None:
    long = ("method.epochs=[1],[100000]", "method.lr=[1e-3]", "pretrain=none", "logger=none")
    words = ("-m", *LOCAL, *long, "hydra.launcher.experiments_per_job=2")
    with background("train.py", *words, cwd=tmp_path) as sweep:
        wait_for(lambda: len(list(tmp_path.rglob("train.log"))) == 2, sweep)
        os.kill(task_of(sweep.pid), signal.SIGKILL)
        text = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 1, text
    assert "1 of 2 jobs failed" in text
    failed = text[text.index("1 of 2 jobs") :]
    assert "method.epochs=[100000]" in failed
    assert "ended without a result" in failed
    assert len(records(tmp_path)) == 1


def test_a_job_that_finally_runs_out_of_time_is_reported(tmp_path: Path) -> None:
    long = (
        "method.epochs=[100000]",
        "method.lr=[1e-3]",
        "pretrain=none",
        "logger=none",
        "seed=0",
        "trainer.checkpoint_seconds=0",
    )
    limits = ("hydra.launcher.timeout_min=5", "+hydra.launcher.max_num_timeout=0")
    with background("train.py", "-m", *LOCAL, *long, *limits, cwd=tmp_path) as sweep:
        wait_for(lambda: list(tmp_path.rglob("last.ckpt")), sweep)
        os.kill(task_of(sweep.pid), signal.SIGUSR2)
        text = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 1, text
    assert "ran out of time; the same command resumes it" in text
    (log,) = tmp_path.rglob("train.log")
    assert "the run was stopped" in log.read_text()
    assert "the run failed" not in log.read_text()


@pytest.mark.parametrize("number", slow_but((signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)))
def test_an_interrupted_sweep_cancels_its_jobs(tmp_path: Path, number: signal.Signals) -> None:
    long = ("method.epochs=[100000]", "method.lr=[1e-3]", "pretrain=none", "logger=none", "seed=0,1")
    with background("train.py", "-m", *LOCAL, *long, "hydra.launcher.array_parallelism=1", cwd=tmp_path) as sweep:
        wait_for(lambda: list(tmp_path.rglob("train.log")), sweep)
        task = task_of(sweep.pid)
        sweep.send_signal(number)
        text = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 128 + number, text
    assert text.count("interrupted: 1 job") == 1
    assert "cancelled; the same command resumes them" in text
    end = time.monotonic() + 20
    while is_running(task) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(task)


def task_of(sweep: int) -> int:
    """The process in which a sweep's only job runs: the child of submitit's controller."""
    (controller,) = children_of(sweep)
    (task,) = children_of(controller)
    return task


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_preset_follows_the_trainer() -> None:
    ddp = ("trainer=ddp", "trainer.accelerator=gpu", "trainer.devices=4", "trainer.num_nodes=2", "trainer.threads=6")
    launcher = launcher_of("hydra/launcher=slurm", *ddp, "output_dir=elsewhere", "hydra.launcher.partition=fast")
    assert launcher._target_ == SLURM_TARGET
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node, launcher.cpus_per_task) == (2, 4, 4, 6)
    # srun does not inherit it from the job, nor torch from srun.
    assert "--cpus-per-task=6" in launcher.srun_args
    assert list(launcher.setup) == ["export OMP_NUM_THREADS=6"]
    assert launcher.submitit_folder == "elsewhere/submitit/%j"
    assert launcher.max_num_timeout > 0
    assert launcher.partition == "fast"


@pytest.mark.parametrize(("trainer", "gpus"), [("auto", None), ("cpu", None), ("gpu", 1)])
def test_the_preset_asks_for_gpus_by_name_only(trainer: str, gpus: int | None) -> None:
    launcher = launcher_of("hydra/launcher=slurm", f"trainer={trainer}")
    assert launcher.gpus_per_node == gpus
    assert (launcher.nodes, launcher.tasks_per_node, launcher.cpus_per_task) == (1, 1, 4)


@pytest.mark.parametrize("name", ["submitit_slurm", "submitit_local"])
def test_the_plugins_names_give_our_launchers_with_their_fields(name: str) -> None:
    from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf

    launcher = launcher_of(f"hydra/launcher={name}")
    plain = SlurmQueueConf() if name == "submitit_slurm" else LocalQueueConf()
    assert launcher._target_.startswith("hydra_plugins._deepsad_submitit.")
    for key in set(vars(plain)) - {"_target_", "submitit_folder", "name"}:
        assert launcher[key] == getattr(plain, key)


@pytest.mark.parametrize("name", ["slurm", "submitit_slurm", "submitit_local"])
def test_all_submitting_launchers_pack_as_requested(name: str) -> None:
    words = (f"hydra/launcher={name}", "experiments_per_job=3")
    assert launcher_of(*words, script="sweep").experiments_per_job == 3
    own = "hydra.launcher.experiments_per_job=2"
    assert launcher_of(*words, own, script="sweep").experiments_per_job == 2
    assert launcher_of(f"hydra/launcher={name}").experiments_per_job == 1


@pytest.mark.parametrize(("asked", "processes"), [(3, 3), (None, 5)])
def test_a_local_launcher_knows_how_many_jobs_run_in_parallel(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, processes: int
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 5)
    assert LocalLauncher(array_parallelism=asked, submitit_folder="x").processes == processes


def test_a_launcher_that_starts_the_ranks_may_sweep_ddp_without_a_local_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    ddp = settings_of("trainer=ddp", "trainer.devices=2", "trainer.accelerator=gpu", "logger=none")
    assert make_plan(ddp, multirun=True, tasks=2).ranks == 2
    with pytest.raises(DeepSADError, match="torch sees 0 GPU"):
        make_plan(ddp)


def test_in_a_job_the_ranks_that_slurm_started_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ddp = settings_of("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "logger=none")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert make_plan(ddp, multirun=True).ranks == 2
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    with pytest.raises(DeepSADError, match="spawns its own ranks"):
        make_plan(ddp, multirun=True)


@pytest.mark.parametrize(("trainer", "tasks"), [(("trainer=ddp", "trainer.accelerator=cpu"), 1), (("trainer=cpu",), 2)])
def test_a_job_with_another_number_of_tasks_is_refused(trainer: tuple[str, ...], tasks: int) -> None:
    with pytest.raises(DeepSADError, match=f"starts {tasks} task"):
        make_plan(settings_of(*trainer, "logger=none"), multirun=True, tasks=tasks)


def test_ddp_through_processes_of_this_machine_is_refused(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "-m", *LOCAL, "seed=0,1", "trainer=ddp", "trainer.accelerator=cpu")
    assert done.returncode == 1
    assert "spawns its own ranks" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_packs_of_experiments_with_several_tasks_are_refused() -> None:
    launcher = SlurmLauncher(experiments_per_job=2, nodes=1, tasks_per_node=2, submitit_folder="x")
    with pytest.raises(DeepSADError, match="experiments_per_job is 2"):
        launcher.launch([["seed=0"]], 0)


@pytest.mark.parametrize("key", ["experiments_per_job", "max_array_size"])
def test_numbers_below_one_are_refused(cli: CLI, tmp_path: Path, key: str) -> None:
    done = cli("train.py", "-m", *LOCAL, "seed=0", *SMALL, f"hydra.launcher.{key}=0")
    assert done.returncode == 1
    assert f"hydra.launcher.{key} is 0; it must be >= 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_slurm_the_launcher_reports_it(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "-m", "hydra/launcher=slurm", "seed=0", *SMALL, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "hydra/launcher cannot submit jobs here" in done.stderr
    assert "srun" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_forced_experiment_is_not_forced_again_after_requeueing() -> None:
    assert _goes_on(["seed=0", "force=true", "logger=none"]) == ["seed=0", "logger=none", "force=false"]
    assert _goes_on(["seed=0"]) == ["seed=0"]


class OddError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def test_an_exception_that_cannot_be_pickled_is_reported_as_text() -> None:
    told = portable(OddError("this", "that"))
    assert isinstance(told, RuntimeError)
    assert str(told) == "OddError: this and that"
    fine = ValueError("fine")
    assert portable(fine) is fine
    assert portable(0.5) == 0.5
