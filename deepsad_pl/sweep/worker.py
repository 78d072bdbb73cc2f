"""Run a pack of experiments in a worker process: from their settings to their outcomes."""

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil
from omegaconf import OmegaConf

from deepsad_pl.common.console import console
from deepsad_pl.common.messages import set_up_logging
from deepsad_pl.common.signals import CLOSE_S, STOPS, leave, leave_the_terminal, signals_exit
from deepsad_pl.common.worker_end import end_with_the_sweep
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.sweep.job import noted
from deepsad_pl.training.fast_import import import_lightning

if TYPE_CHECKING:
    from deepsad_pl.stacked.experiments import Assignment, Result

# Seconds between two checks of a worker whether the sweep is ending.
_LOOK_S = 0.1
# A signal to the whole process group may reach a worker this many seconds before the sweep announces its end.
_GRACE_S = 2.0


@dataclass(frozen=True)
class PackedJob:
    """An experiment of a sweep.

    Attributes:
        overrides: overrides of the job.
        settings: the resolved configuration as plain dictionaries.
        command: command line that repeats the experiment.
    """

    overrides: list[str]
    settings: dict[str, Any]
    command: str


@dataclass(frozen=True)
class Sweep:
    """The process that distributes packs to workers.

    Attributes:
        pid: ID of the process.
        folder: folder with the file that tells the workers to end.
    """

    pid: int
    folder: Path

    @property
    def _end(self) -> Path:
        return self.folder / "end"

    @property
    def ends(self) -> bool:
        """Whether the workers must close their experiments."""
        return self._end.exists()

    def ends_within(self, seconds: float) -> bool:
        """Whether the workers must close their experiments, waiting up to that many seconds for the announcement."""
        deadline = time.monotonic() + seconds
        while not self.ends:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def end(self) -> None:
        """Tell the workers to end."""
        self._end.touch()


def run_pack(
    jobs: Sequence[PackedJob],
    *,
    failures: Path | None,
    watch: Path | None,
    threads: int | None,
    show: bool,
    sweep: Sweep | None = None,
    in_turn: bool = False,
) -> "list[Result] | None":
    """Run the experiments together.

    Args:
        jobs: experiments that can be trained as one stack.
        failures: folder of a study's notes; None outside a study.
        watch: folder for this process's progress file; None: write no progress file.
        threads: number of CPU threads if the settings leave it open.
        show: whether this process may write to the terminal.
        sweep: the sweep whose worker this is; None in the sweep's own process.
        in_turn: whether to run them one after the other.

    Returns:
        The result of each experiment, with picklable exceptions; None if the sweep is ending.

    Raises:
        SystemExit: if a signal interrupts it; the experiments are closed first.
    """
    if sweep is not None:
        end_with_the_sweep(sweep.pid)
        # Ctrl-C and SIGHUP reach the whole process group; the sweep itself tells the workers.
        for number in set(STOPS) - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
    _allow_many_files()
    # In a joblib worker, nothing has imported Lightning yet.
    import_lightning()
    from deepsad_pl.stacked.experiments import run_in_turn, run_together

    set_up_logging(main=True)
    quiet, console.quiet = console.quiet, not show
    try:
        with signals_exit(), _ended_by(sweep):
            assignments, around = _assignments(jobs, threads), partial(_noted, jobs, failures)
            if in_turn:
                results = run_in_turn(assignments, around=around)
            else:
                results = run_together(assignments, watch=watch, around=around)
    except SystemExit as stop:
        # Lightning exits without a code at SIGTERM, which would look like success.
        code = stop.code or 128 + signal.SIGTERM
        if sweep is not None:
            if sweep.ends_within(_GRACE_S):
                # If one worker exits, joblib kills the others, which may not have closed their experiments yet.
                return None
            # joblib would pass the exception on and start the next pack.
            os._exit(int(code))
        raise SystemExit(code) from None
    finally:
        console.quiet = quiet
    return [portable(result) for result in results]


def _assignments(jobs: Sequence[PackedJob], threads: int | None) -> "list[Assignment]":
    from deepsad_pl.stacked.experiments import Assignment

    assignments: list[Assignment] = []
    for job in jobs:
        plan = make_plan(job.settings, multirun=True)
        if plan.trainer["threads"] is None:
            plan = replace(plan, trainer={**plan.trainer, "threads": threads})
        config_yaml = OmegaConf.to_yaml(OmegaConf.create(job.settings))
        assignments.append(Assignment(plan, job.settings, config_yaml, job.command))
    return assignments


@contextmanager
def _ended_by(sweep: Sweep | None) -> Iterator[None]:
    """Send SIGTERM to this process when the sweep ends.

    Raises:
        SystemExit: if the sweep is already ending.
    """
    if sweep is None:
        yield
        return
    if sweep.ends:
        raise SystemExit(128 + signal.SIGTERM)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            if sweep.ends:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, name="sweep-end", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _allow_many_files() -> None:
    """Raise the limit of open files to the maximum: each experiment opens two locks, a log and its tracker's files."""
    with suppress(ImportError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def workers_are_told(sweep: Sweep) -> Iterator[None]:
    """At SIGTERM, SIGHUP and Ctrl-C, let the workers close their experiments before joblib kills them.

    Inside the block, their packs then return None. After the block, or if the workers take too long, the signal has its
    usual effect. Only the main thread receives signals, so this has no effect in other threads.

    Args:
        sweep: this process, as described to its workers.

    Raises:
        SystemExit: with 128 plus the signal number, unless another handler exits differently; immediately at a second
            Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    came: list[int] = []
    too_late = threading.Timer(CLOSE_S, _kill_workers)
    too_late.daemon = True

    def tell(number: int, _: FrameType | None) -> None:
        if not came:
            came.append(number)
            if number not in (signal.SIGTERM, signal.SIGINT):
                leave_the_terminal()
            sweep.end()
            too_late.start()
        elif number == signal.SIGINT:
            raise SystemExit(128 + number)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, tell)
    try:
        yield
    except Exception:
        # From joblib, whose workers have been killed.
        if not came:
            raise
    finally:
        too_late.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        console.print("interrupted; the same command resumes it")
        handler = before[signal.Signals(came[0])]
        if callable(handler) and handler not in (signal.default_int_handler, leave):
            handler(came[0], None)
        raise SystemExit(128 + came[0])


def _kill_workers() -> None:
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has already ended
            if "LokyProcess" in " ".join(child.cmdline()):
                child.kill()


@contextmanager
def _noted(jobs: Sequence[PackedJob], failures: Path | None, index: int) -> Iterator[None]:
    if failures is None:
        yield
        return
    with noted(failures, jobs[index].overrides):
        yield


def portable(value: Any) -> Any:
    """Return the value; an exception that cannot be pickled is replaced by one with the same message."""
    if isinstance(value, BaseException):
        try:
            pickle.loads(pickle.dumps(value))
        except Exception:
            return RuntimeError(f"{type(value).__name__}: {value}")
    return value
