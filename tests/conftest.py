"""Fixtures: experiments in this process, the command line in another one, and the real data if available."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

# Tests run in parallel: one thread each, also in the processes that they start.
os.environ["OMP_NUM_THREADS"] = "1"
# The fork server must have a single thread, but pyarrow's allocator would start one.
os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
# A process started in the background by a script ignores Ctrl-C, and so would all processes under test.
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

# A test in one of these rooms is not a unit test, nor is one that uses these fixtures or whose file imports these.
_WHOLE_ROOMS = frozenset({"detector", "estimators", "stacked", "sweep", "study", "commands", "benchmarks", "torture"})
_WHOLE = frozenset(
    (
        *("cli", "experiment", "run", "forked_commands", "real_data", "subprocess", "background", "run_script"),
        *("run_experiment", "fit_phase", "deepsad_pl", "golden", "alone", "together"),
    )
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the files in tests/golden anew")


def pytest_configure(config: pytest.Config) -> None:
    """Start one server for all workers of xdist."""
    if not hasattr(config, "workerinput"):
        server = ExitStack()
        server.enter_context(processes.fork_server())
        config.add_cleanup(server.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need Slurm, and unit tests, which have no other process, no whole experiment and no real data."""
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
    """Let scripts start their own W&B service, since that of this process has a different working directory."""
    yield
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., "Outcome"]:
    """Run an experiment in this process: ``experiment("dataset=cardio", ...)``, into ``tmp_path / "runs"``."""

    from deepsad_pl.experiment.run import run_experiment

    def run(*overrides: str) -> "Outcome":
        settings = settings_of(f"output_dir={tmp_path / 'runs'}", "logger=none", *overrides)
        plan = make_plan(settings)
        return run_experiment(plan, config=settings, config_yaml=OmegaConf.to_yaml(settings), command="a test")

    return run


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenFiles:
    """The files in ``tests/golden``, which ``--write-golden`` rewrites."""
    return GoldenFiles(write=request.config.getoption("--write-golden"))


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of the checkout in ``tmp_path``: ``cli("train.py", "seed=1")``."""

    def run(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return processes.run_script(
            script, *arguments, cwd=tmp_path, env={**os.environ, "COLUMNS": "120", **(env or {})}
        )

    return run


@pytest.fixture
def forked_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the scripts of the checkout that code under test starts as processes."""
    monkeypatch.setattr(subprocess, "run", processes.run_command)


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets; without one, the test is skipped."""
    if not REAL_DATA:
        pytest.skip("DEEPSAD_DATA_DIR is not set: no real data here")
    return Path(REAL_DATA)
