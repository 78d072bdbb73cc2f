"""Run one experiment of a study in a launcher: without console output, with a note if it fails."""

import logging
import multiprocessing
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import BlankCellError
from deepsad_pl.common.files import BusyError
from deepsad_pl.common.messages import CommandLineError, first_line
from deepsad_pl.common.records import auroc_of
from deepsad_pl.common.worker_end import end_with_the_sweep
from deepsad_pl.compose.configured import run_configured
from deepsad_pl.sweep.failures import STOPPED, Failures

log = logging.getLogger(__name__)


def run_study_job(failures: Path, sweep: int, cfg: DictConfig) -> float:
    """Run the experiment and return its AUROC.

    Args:
        failures: folder of the notes.
        sweep: ID of the process that runs the study.
        cfg: the configuration, without Hydra's own settings.

    Raises:
        CommandLineError: for any failure, in one line; the note and the run's log contain the traceback.
    """
    if multiprocessing.current_process().name.startswith("Loky"):
        end_with_the_sweep(sweep)
    # Several jobs share the terminal, where the study shows its own progress bar.
    quiet, console.quiet = console.quiet, True
    try:
        with noted(failures, list(HydraConfig.get().overrides.task)):
            outcome = run_configured(cfg, single=False)
    except Exception as error:
        # A library's exception may not be picklable for another process.
        raise CommandLineError(first_line(error)) from None
    finally:
        console.quiet = quiet
    return auroc_of(outcome.record)


@contextmanager
def noted(failures: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Keep a note about an experiment while it is running, and the error if it fails.

    Args:
        failures: folder of the notes.
        overrides: overrides of the experiment.
    """
    notes = Failures(failures)
    notes.note(overrides, STOPPED)
    try:
        yield
    except BusyError:
        # Another process is running the experiment; the note belongs to that process.
        raise
    except Exception as error:
        # The command line replaces an error that the user can fix by its message.
        cause = error if isinstance(error, BlankCellError) else error.__context__
        try:
            if isinstance(cause, BlankCellError):
                notes.note(overrides, first_line(cause), blank=cause.experiment)
            else:
                notes.note(overrides, first_line(error), traceback.format_exc())
        except OSError as unwritten:
            # The error that ended the experiment is more telling, and on a full disk it is the same.
            log.warning("the error of an experiment cannot be noted (%s): %s", unwritten, first_line(error))
        raise
    notes.forget(overrides)


def failures_of(task: object) -> Path | None:
    """The notes folder of a task function that runs the jobs of a study; None for any other task."""
    if isinstance(task, partial) and task.func is run_study_job:
        return Path(task.args[0])
    return None
