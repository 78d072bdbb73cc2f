"""How a run on two ranks ends: by a signal to either rank or to both, or because one of them is killed."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from planned import slow_but
from processes import Script, background, run_script, wait_for

TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.checkpoint_seconds=0", "logger=csv")
LONG = ("pretrain.epochs=[3000]", "pretrain.lr=[1e-4]")
# Every process of a run has to be gone by then.
SECONDS = 10


def second_rank(process: Script) -> psutil.Process:
    """The second rank, once it has been started: until then it may be a copy of the first one."""
    found: list[psutil.Process] = []

    def started() -> bool:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):
                found.extend([child] if "hydra.job.name=rank_1" in child.cmdline() else [])
        return bool(found)

    wait_for(started, process)
    (rank,) = found
    return rank


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def end_of(process: Script, rank: psutil.Process) -> str:
    """Wait for the end of both ranks, and return what they have printed."""
    end = time.monotonic() + SECONDS
    process.wait(SECONDS)
    while is_alive(rank):
        assert time.monotonic() < end
        time.sleep(0.02)
    return process.communicate(SECONDS)[0]


def stop(cwd: Path, target: str, number: signal.Signals, seconds: float, *words: str) -> str:
    """Send a signal some time after the first checkpoint, check how the run ends, and return its output."""
    with background("train.py", *TWO, *words, f"output_dir={cwd}", cwd=cwd) as process:
        wait_for(lambda: list(cwd.rglob("pretrain.ckpt")), process)
        time.sleep(seconds)
        rank = second_rank(process)
        if target == "group":
            os.killpg(process.pid, number)
        else:
            (process if target == "rank 0" else rank).send_signal(number)
        out = end_of(process, rank)
        assert process.returncode == 128 + number, out
    assert "Traceback" not in out
    assert "the run was stopped" in out
    return out


@pytest.mark.parametrize(
    ("target", "number", "seconds"),
    [
        ("rank 0", signal.SIGTERM, 0.13),
        pytest.param("rank 1", signal.SIGTERM, 0.31, marks=pytest.mark.slow),
        pytest.param("group", signal.SIGTERM, 0.22, marks=pytest.mark.slow),
        ("rank 1", signal.SIGINT, 0.17),
    ],
)
def test_a_stopped_run_ends_in_time_and_keeps_its_checkpoint(
    tmp_path: Path, target: str, number: signal.Signals, seconds: float
) -> None:
    stop(tmp_path, target, number, seconds, *LONG)
    (checkpoint,) = tmp_path.rglob("pretrain.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] >= 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 5])
def test_a_stopped_run_resumes_to_the_undisturbed_bits(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    short = ("pretrain.epochs=[60]", "pretrain.lr=[1e-3]", "method.epochs=[4]", "method.lr=[1e-3]")
    number = chance.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    # Ctrl-C reaches all processes of the terminal.
    target = "group" if number == signal.SIGINT else chance.choice(["rank 0", "rank 1", "group"])
    stopped, undisturbed = tmp_path / "stopped", tmp_path / "undisturbed"
    for folder in (stopped, undisturbed):
        folder.mkdir()
    stop(stopped, target, number, chance.uniform(0, 0.5), *short)
    for folder in (stopped, undisturbed):
        done = run_script("train.py", *TWO, *short, f"output_dir={folder}", cwd=folder)
        assert done.returncode == 0, done.stderr
    (log,) = stopped.rglob("train.log")
    assert "pretrain resumes from" in log.read_text()
    for name in ("scores.csv", "losses.csv"):
        one, other = (next(folder.rglob(name)).read_bytes() for folder in (stopped, undisturbed))
        assert one == other


@pytest.mark.parametrize("killed", slow_but((1,), (0, 1)))
def test_a_killed_rank_is_one_sentence_and_ends_the_other(tmp_path: Path, killed: int) -> None:
    with background("train.py", *TWO, *LONG, f"output_dir={tmp_path}", cwd=tmp_path) as process:
        wait_for(lambda: list(tmp_path.rglob("pretrain.ckpt")), process)
        rank = second_rank(process)
        (rank if killed else process).kill()
        out = end_of(process, rank)
    assert process.returncode == (1 if killed else -signal.SIGKILL)
    sentence = f"rank {killed} of this distributed run was ended by SIGKILL; the same command resumes"
    assert out.count(sentence) == 1
    assert out.count("Error executing job") == 1
    assert "Traceback" not in out
    assert "gloo" not in out


def test_a_run_that_is_stopped_while_its_ranks_meet_ends_in_time(tmp_path: Path) -> None:
    with background("train.py", *TWO, *LONG, f"output_dir={tmp_path}", cwd=tmp_path) as process:
        rank = second_rank(process)
        process.send_signal(signal.SIGTERM)
        out = end_of(process, rank)
    assert process.returncode == 128 + signal.SIGTERM, out
    assert "Traceback" not in out
