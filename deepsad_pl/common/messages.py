"""Readable error messages, and the package's log on the console."""

import logging

from hydra.errors import CompactHydraException

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError


class CommandLineError(CompactHydraException):
    """An error that Hydra prints without a traceback."""


def first_line(error: object) -> str:
    """The first line of an error message, joined with the second if the first only announces a list of problems."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, Exception) and not isinstance(error, CommandLineError | DeepSADError) and str(error).strip():
        lines[0] = f"{type(error).__name__}: {lines[0]}"
    return f"{lines[0]} {lines[1].strip()}" if len(lines) > 1 and lines[0].endswith("problems:") else lines[0]


class ConsoleHandler(logging.Handler):
    """Prints the package's log messages to the console, warnings in yellow.

    Messages with a traceback go to the run's log file only.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message without markup."""
        if record.exc_info is None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(self.format(record), style=style, soft_wrap=True, markup=False)


def set_up_logging(main: bool) -> None:
    """Send the package's log messages to the console in the main process, and debug messages to the run's log file too.

    Args:
        main: whether this is the main process.
    """
    logger = logging.getLogger("deepsad_pl")
    logging.getLogger().setLevel(logging.INFO)
    logger.setLevel(logging.DEBUG)
    if main and not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler(logging.INFO))
