"""Errors as a person reads them, and our log on the console."""

import logging

from hydra.errors import CompactHydraException

from deepsad_pl.common.console import console
from deepsad_pl.common.errors import DeepSADError


class CommandLineError(CompactHydraException):
    """An error that Hydra prints without a traceback."""


def first_line(error: object) -> str:
    """What a person reads first: the first line, with the second one if that only announces a list."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, Exception) and not isinstance(error, CommandLineError | DeepSADError) and str(error).strip():
        lines[0] = f"{type(error).__name__}: {lines[0]}"
    return f"{lines[0]} {lines[1].strip()}" if len(lines) > 1 and lines[0].endswith("problems:") else lines[0]


class ConsoleHandler(logging.Handler):
    """Our messages to the console, warnings in yellow; tracebacks are for the run's log file."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message as it is."""
        if record.exc_info is None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(self.format(record), style=style, soft_wrap=True, markup=False)


def set_up_logging(main: bool) -> None:
    """Our messages to the console of the main process, with more detail to the run's log file."""
    logger = logging.getLogger("deepsad_pl")
    logging.getLogger().setLevel(logging.INFO)
    logger.setLevel(logging.DEBUG)
    if main and not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler(logging.INFO))
