"""One experiment of a study, as a launcher runs it: silent, with a note about what went wrong."""

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deepsad_pl.common.console import console
from deepsad_pl.common.files import BusyError
from deepsad_pl.common.messages import CommandLineError, first_line
from deepsad_pl.compose.configured import run_configured
from deepsad_pl.sweep.failures import STOPPED, Failures


def run_study_job(failures: Path, sweep: int, cfg: DictConfig) -> float:
    """Run the experiment and return its AUROC.

    Args:
        failures: folder of the notes.
        sweep: process that runs the study.
        cfg: the configuration, without Hydra's own.

    Raises:
        CommandLineError: whatever went wrong, in one line; the note and the run's log have the traceback.
    """
    if multiprocessing.current_process().name.startswith("Loky"):
        end_with_the_sweep(sweep)
    # Several jobs share the terminal, which the study's own progress bar has.
    quiet, console.quiet = console.quiet, True
    try:
        with noted(failures, list(HydraConfig.get().overrides.task)):
            outcome = run_configured(cfg, plots=False)
    except Exception as error:
        # An exception of any library may not survive the way to another process.
        raise CommandLineError(first_line(error)) from None
    finally:
        console.quiet = quiet
    return float(outcome.record["auroc"])


@contextmanager
def noted(failures: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Keep a note about an experiment while it is at work, and what went wrong if it fails.

    Args:
        failures: folder of the notes.
        overrides: of the experiment.
    """
    notes = Failures(failures)
    notes.note(overrides, STOPPED)
    try:
        yield
    except BusyError:
        # Its note is that of the process which has it, and goes with it.
        raise
    except Exception as error:
        notes.note(overrides, first_line(error), traceback.format_exc())
        raise
    notes.forget(overrides)


def failures_of(task: object) -> Path | None:
    """Where a task function that runs the jobs of a study leaves its notes; None of any other."""
    if isinstance(task, partial) and task.func is run_study_job:
        return Path(task.args[0])
    return None


@cache
def end_with_the_sweep(sweep: int) -> None:
    """Let a worker of joblib die with a sweep that was killed; it would keep its experiment's lock, and its memory.

    Args:
        sweep: process whose worker this one is. It may have died before this one looks.
    """

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(2)
        # Every file is written whole or not at all.
        os._exit(1)

    threading.Thread(target=watch, name="sweep-watch", daemon=True).start()
