"""One experiment of a study, as a launcher runs it: silent, with a note about what went wrong."""

import multiprocessing
import os
import threading
import time
import traceback
from functools import cache
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deepsad_pl.cli import CommandLineError, run_configured
from deepsad_pl.console import console
from deepsad_pl.study.state import STOPPED, Failures


def run_study_job(failures: Path, cfg: DictConfig) -> float:
    """Run the experiment and return its AUROC.

    Args:
        failures: folder of the notes.
        cfg: the configuration, without Hydra's own.

    Raises:
        CommandLineError: whatever went wrong, in one line; the note and the run's log have the traceback.
    """
    _end_with_the_sweep()
    overrides, notes = list(HydraConfig.get().overrides.task), Failures(failures)
    notes.note(overrides, STOPPED)
    # Several jobs share the terminal, which the study's own progress bar has.
    quiet, console.quiet = console.quiet, True
    try:
        outcome = run_configured(cfg, plots=False)
    except Exception as error:
        first = first_line(error)
        notes.note(overrides, first, traceback.format_exc())
        # An exception of any library may not survive the way to another process.
        raise CommandLineError(first) from None
    finally:
        console.quiet = quiet
    notes.forget(overrides)
    return float(outcome.record["auroc"])


@cache
def _end_with_the_sweep() -> None:
    """Let a worker of joblib die with a sweep that was killed; it would keep its experiment's lock, and its memory."""
    if not multiprocessing.current_process().name.startswith("Loky"):
        return
    sweep = os.getppid()

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(2)
        # Every file is written whole or not at all.
        os._exit(1)

    threading.Thread(target=watch, name="sweep-watch", daemon=True).start()


def first_line(error: object) -> str:
    """What a person reads first: the first line, with the second one if that only announces a list."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, Exception) and not isinstance(error, CommandLineError):
        lines[0] = f"{type(error).__name__}: {lines[0]}" if str(error).strip() else lines[0]
    return f"{lines[0]} {lines[1].strip()}" if len(lines) > 1 and lines[0].endswith("problems:") else lines[0]
