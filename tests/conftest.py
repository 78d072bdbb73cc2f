"""Fixtures: experiments in this process, the command line in another one, the real data where there are any."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

# Tests run side by side: one thread each, also in the processes that they start.
os.environ["OMP_NUM_THREADS"] = "1"
# The server that forks must have a single thread, but the allocator of pyarrow would start one.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
# What a script starts in the background ignores Ctrl-C, and so would all the processes under test.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import processes
import pytest
from golden_files import GoldenFiles
from omegaconf import OmegaConf
from planned import settings_of
from slurm_jobs import slurm as slurm

from deepsad_pl.experiment.plan import make_plan

if TYPE_CHECKING:
    from deepsad_pl.experiment.run import Outcome

REAL_DATA = os.environ.get("DEEPSAD_DATA_DIR")

# A test of one of these rooms is no unit test, nor is one that uses, or whose file imports, one of these.
_WHOLE_ROOMS = frozenset({"detector", "estimators", "stacked", "sweep", "study", "commands", "benchmarks"})
_WHOLE = frozenset(
    (
        *("cli", "experiment", "run", "forked_commands", "real_data", "subprocess", "background", "run_script"),
        *("run_experiment", "fit_phase", "deepsad_pl", "golden"),
    )
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the files in tests/golden anew")


def pytest_configure(config: pytest.Config) -> None:
    """One server for all workers of xdist."""
    if not hasattr(config, "workerinput"):
        server = ExitStack()
        server.enter_context(processes.fork_server())
        config.add_cleanup(server.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a Slurm, and unit tests: no other process, no whole experiment, no real data."""
    for item in items:
        assert isinstance(item, pytest.Function)
        needs = {*item.fixturenames, *vars(item.module)}
        if "slurm" in needs:
            item.add_marker("slurm")
        elif (
            needs.isdisjoint(_WHOLE)
            and item.path.parent.name not in _WHOLE_ROOMS
            and item.get_closest_marker("slow") is None
        ):
            item.add_marker("unit")


@pytest.fixture(autouse=True)
def _own_wandb_service() -> Iterator[None]:
    """Scripts start a service of W&B of their own: that of this process has another working directory."""
    yield
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., "Outcome"]:
    """Runs an experiment in this process: ``experiment("dataset=cardio", ...)``, into ``tmp_path / "runs"``."""

    from deepsad_pl.experiment.run import run_experiment

    def run(*overrides: str) -> "Outcome":
        settings = settings_of(f"output_dir={tmp_path / 'runs'}", "logger=none", *overrides)
        plan = make_plan(settings)
        return run_experiment(plan, config=settings, config_yaml=OmegaConf.to_yaml(settings), command="a test")

    return run


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenFiles:
    """The files in ``tests/golden``, which ``--write-golden`` writes anew."""
    return GoldenFiles(write=request.config.getoption("--write-golden"))


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script of the checkout in ``tmp_path``: ``cli("train.py", "seed=1")``."""

    def run(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return processes.run_script(
            script, *arguments, cwd=tmp_path, env={**os.environ, "COLUMNS": "120", **(env or {})}
        )

    return run


@pytest.fixture
def forked_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the scripts of the checkout in processes of their own has them forked."""
    monkeypatch.setattr(subprocess, "run", processes.run_command)


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets; the test is skipped where there is none."""
    if not REAL_DATA:
        pytest.skip("DEEPSAD_DATA_DIR is not set: no real data here")
    return Path(REAL_DATA)
