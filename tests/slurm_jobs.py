"""A real Slurm for tests, installed and started if DEEPSAD_TEST_SLURM=1 (Debian, root), and the jobs that ran on it."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from processes import ROOT

SLURM = ("hydra/launcher=slurm", "trainer.threads=1", "hydra.launcher.cpus_per_task=1")

CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running Slurm of one node, with its commands on the PATH."""
    if os.environ.get("DEEPSAD_TEST_SLURM") != "1":
        pytest.skip("DEEPSAD_TEST_SLURM=1 is not set, so no Slurm is installed and started here")
    # The workers of pytest-xdist share one.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    change_users(shared, +1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", f"{shared}/slurm/slurm.conf")
            patch.setenv("PATH", f"{shared}/slurm/bin", prepend=os.pathsep)
            yield
    finally:
        change_users(shared, -1)


def change_users(shared: Path, change: int) -> None:
    """Start Slurm for the first user, stop it after the last one."""
    count, folder = shared / "slurm.users", str(shared / "slurm")
    command = ["bash", str(ROOT / "tests" / "slurm.sh")]
    with FileLock(shared / "slurm.lock"):
        users = int(count.read_text()) if count.exists() else 0
        if users == 0:
            environment = {**os.environ, "SLURM_TEST_PORT": str(two_free_ports())}
            subprocess.run([*command, "start", folder], env=environment, check=True, timeout=300)
        count.write_text(str(users + change))
        if users + change == 0:
            subprocess.run([*command, "stop", folder], check=True, timeout=60)


def two_free_ports() -> int:
    for port in range(16900, 17900, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("", port))
                second.bind(("", port + 1))
            except OSError:
                continue
            return port
    raise RuntimeError("no two neighbouring ports are free")


def records(where: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(where.rglob("metrics.json"))]


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def job_folders(where: Path) -> list[str]:
    """Ids of the jobs that ran; for an array, those of its tasks."""
    return sorted(path.parent.name for path in (where / "runs" / "submitit").glob("*/*_submitted.pkl"))


def end_of(process: subprocess.Popen[str]) -> str:
    """The output of the sweep so far."""
    return process.communicate(timeout=300)[0]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], what: str) -> Any:
    """The first true value of a condition while a sweep runs."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if value := condition():
            return value
        assert process.poll() is None, f"ended before {what}: {end_of(process)}"
        time.sleep(0.1)
    raise AssertionError(f"no {what} in time")
