"""The log file of a run, which may fail to be written without ending the run."""

import logging
import sys
from pathlib import Path

log = logging.getLogger(__name__)


class RunLog(logging.FileHandler):
    """Writes messages to a file; if that fails, as on a full disk, it warns once and the run goes on without it.

    Args:
        path: the file; messages are appended.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._failed: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, unless an earlier one could not be written."""
        if self._failed is None:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is that of the base class)
        """Give up after an error of the file; logging itself would print a traceback for each message."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            # A record with a traceback means the end of the run, about which there is a message of its own.
            self._give_up(error, tell=record.exc_info is None)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file, which also writes what is left in its buffer."""
        try:
            super().close()
        except OSError as error:
            self._give_up(error, tell=True)

    def _give_up(self, error: OSError, *, tell: bool) -> None:
        first, self._failed = self._failed is None, error
        if first and tell:
            log.warning("the log %s ends here, since it cannot be written (%s)", self.baseFilename, error.strerror)
