"""A run over two nodes of a real Slurm, both on this machine: it equals one process, and a rank that dies ends it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from processes import ROOT
from slurm_jobs import output_of, records, two_free_ports

SMALL = ("pretrain.epochs=[3]", "pretrain.lr=[1e-3]", "method.epochs=[3]", "method.lr=[1e-3]", "logger=none")
NODES = ("trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", "trainer.accelerator=cpu")
LONG = ("pretrain.epochs=[3000]", "pretrain.lr=[1e-3]", "trainer.checkpoint_seconds=0", "logger=none")


@pytest.fixture(scope="module")
def two_nodes(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the commands of a Slurm with two nodes."""
    folder = tmp_path_factory.mktemp("two_nodes") / "slurm"
    # The ports after the two of the other Slurm, which is already running.
    settings = {**os.environ, "SLURM_TEST_PORT": str(two_free_ports() + 100), "SLURM_TEST_NODES": "2"}
    command = ["bash", str(ROOT / "tests" / "slurm.sh")]
    subprocess.run([*command, "start", folder], env=settings, check=True, timeout=300)
    yield {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
    subprocess.run([*command, "stop", folder], env=settings, check=True, timeout=60)


def srun(*words: str) -> list[str]:
    step = ["srun", "--nodes=2", "--ntasks-per-node=1", "--mem=1500"]
    return [*step, sys.executable, str(ROOT / "train.py"), *NODES, *words]


def test_two_nodes_equal_one_process(two_nodes: dict[str, str], tmp_path: Path) -> None:
    for name, command in (("two", srun(*SMALL)), ("one", [*srun()[4:6], "trainer=cpu", *SMALL])):
        done = subprocess.run(
            [*command, f"output_dir={tmp_path / name}"],
            env=two_nodes,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, output_of(done)
    (single,), (double,) = records(tmp_path / "one"), records(tmp_path / "two")
    assert double["trainer"]["world_size"] == 2
    assert double["auroc"] == pytest.approx(single["auroc"], abs=1e-3)
    assert double["hash"] == single["hash"]


def ranks_of(folder: Path) -> dict[str, psutil.Process]:
    """The ranks that write to a folder, by their number."""
    found = {}
    for process in psutil.process_iter(["cmdline", "environ"]):
        words, environment = process.info["cmdline"] or [], process.info["environ"] or {}
        if f"output_dir={folder}" in words and not words[0].endswith("srun") and "SLURM_PROCID" in environment:
            found[environment["SLURM_PROCID"]] = process
    return found


def test_a_node_that_dies_ends_the_run_with_a_sentence(two_nodes: dict[str, str], tmp_path: Path) -> None:
    command = [*srun(*LONG), f"output_dir={tmp_path}"]
    with subprocess.Popen(
        command, env=two_nodes, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as step:
        while not list(tmp_path.rglob("pretrain.ckpt")):
            assert step.poll() is None, step.communicate()
            time.sleep(0.1)
        ranks = ranks_of(tmp_path)
        # With the rank, all of its node that belongs to the step.
        for process in (*ranks["1"].parents(), ranks["1"]):
            if "slurmstepd" in " ".join(process.cmdline()) or process == ranks["1"]:
                process.kill()
        begin = time.monotonic()
        while ranks["0"].is_running() and ranks["0"].status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < begin + 10
            time.sleep(0.1)
        # Slurm notices much later that the node no longer answers.
        step.terminate()
        out = step.communicate(timeout=60)[0]
    assert "another process of this distributed run has ended, or cannot be reached" in out
    assert "; the same command resumes from the last checkpoint" in out
    assert ".cc" not in out
    assert "Traceback" not in out
    assert list(tmp_path.rglob("pretrain.ckpt"))
