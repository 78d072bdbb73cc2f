"""A pack of experiments in a process of its own: from their settings to what became of them."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from omegaconf import OmegaConf

from deepsad_pl.cli import set_up_logging
from deepsad_pl.console import console
from deepsad_pl.plan import make_plan
from deepsad_pl.signals import sigterm_exits
from deepsad_pl.stacked.experiments import Assignment, Result, run_together
from deepsad_pl.study.job import end_with_the_sweep, noted

# Experiments that are stopped have so many seconds to close their trackers.
_CLOSE_S = 30


@dataclass(frozen=True)
class PackedJob:
    """An experiment of a sweep.

    Attributes:
        overrides: of the job.
        settings: the resolved configuration as plain dictionaries.
        command: repeats the experiment.
    """

    overrides: list[str]
    settings: dict[str, Any]
    command: str


def run_pack(
    jobs: Sequence[PackedJob], *, failures: Path | None, watch: Path | None, threads: int | None, show: bool
) -> list[Result]:
    """Run the experiments together.

    Args:
        jobs: that can be trained as one.
        failures: folder of a study's notes; None outside a study.
        watch: folder in which the process tells how far it is; None tells nobody.
        threads: of the computation where the settings leave it open.
        show: whether this process has the terminal.

    Returns:
        What became of each; exceptions are such as another process can load.

    Raises:
        SystemExit: if SIGTERM interrupts it; the experiments are closed then.
    """
    end_with_the_sweep()
    _allow_many_files()
    set_up_logging(main=True)
    assignments: list[Assignment] = []
    for job in jobs:
        plan = make_plan(job.settings, multirun=True)
        if plan.trainer["threads"] is None:
            plan = replace(plan, trainer={**plan.trainer, "threads": threads})
        config_yaml = OmegaConf.to_yaml(OmegaConf.create(job.settings))
        assignments.append(Assignment(plan, job.settings, config_yaml, job.command))
    quiet, console.quiet = console.quiet, not show
    try:
        with sigterm_exits():
            results = run_together(assignments, watch=watch, around=partial(_noted, jobs, failures))
    except SystemExit as stop:
        # Lightning leaves with no code at SIGTERM, which would look like success.
        code = stop.code or 128 + signal.SIGTERM
        if multiprocessing.current_process().name.startswith("Loky"):
            # joblib would hand the exception on and begin the next pack.
            os._exit(int(code))
        raise SystemExit(code) from None
    finally:
        console.quiet = quiet
    return [portable(result) for result in results]


def _allow_many_files() -> None:
    """As many as the system grants: each experiment has two locks, a log and its tracker's files open."""
    with suppress(ImportError):  # Windows knows no limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def workers_are_told() -> Iterator[None]:
    """Pass SIGTERM on to the workers of joblib, which it would kill, and wait until they have closed their experiments.

    Only the main thread gets signals: in others nothing changes.

    Raises:
        SystemExit: with code 143, or what whoever else handles the signal does, when they have.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def tell(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        workers: list[psutil.Process] = []
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # it has ended meanwhile
                if "LokyProcess" in " ".join(child.cmdline()):
                    child.terminate()
                    workers.append(child)
        psutil.wait_procs(workers, timeout=_CLOSE_S)
        if callable(before):
            before(number, frame)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _noted(jobs: Sequence[PackedJob], failures: Path | None, index: int) -> Iterator[None]:
    if failures is None:
        yield
        return
    with noted(failures, jobs[index].overrides):
        yield


def portable(value: Any) -> Any:
    """A value, or in place of an exception that another process could not load one with the same message."""
    if isinstance(value, BaseException):
        try:
            pickle.loads(pickle.dumps(value))
        except Exception:
            return RuntimeError(f"{type(value).__name__}: {value}")
    return value
