"""The console that all output goes to, and what fits into it."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

# What a shell reports of a program that writes to a closed pipe.
_CLOSED = 128 + signal.SIGPIPE
# Columns of a terminal below which progress is shown without the bar and the times.
_NARROW = 60


class PlainConsole(Console):
    """A console without highlighting; if its reader has gone, such as ``head``, the program ends without a word."""

    def __init__(self, *, stderr: bool = False) -> None:
        # In a notebook, rich would use ipywidgets, and print a warning for each step of progress if they are missing.
        super().__init__(stderr=stderr, highlight=False, force_jupyter=False)

    def on_broken_pipe(self) -> None:
        """End the program."""
        self.quiet = True
        _end()


console = PlainConsole()


def prepare_output(*, only_shows: bool = False) -> None:
    """Let output be written in any encoding: characters that it lacks are written as escapes, such as ``\\xe9``.

    Args:
        only_shows: whether the program only shows something, such as its help; it then ends at once if the reader of
            its output has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if only_shows and hasattr(signal, "SIGPIPE"):
        # Not for work: the signal would also end a program at a closed connection.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def say(text: str, end: str = "\n") -> None:
    """Print to standard output; end the program without a word if its reader has gone."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        _end()


def _end() -> None:
    # Python flushes standard output once more at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(_CLOSED)


def progress_columns(shown_by: Console, *columns: "ProgressColumn") -> "list[ProgressColumn]":
    """The columns of a progress display that fit into a terminal: a narrow one has neither the bar nor the times.

    Args:
        shown_by: the console that shows them.
        *columns: the columns of a wide terminal.
    """
    # Not at the top, to keep --help fast; who calls this has imported it.
    from rich.progress import BarColumn, TimeElapsedColumn, TimeRemainingColumn

    spare = (BarColumn, TimeElapsedColumn, TimeRemainingColumn) if shown_by.width < _NARROW else ()
    return [one for one in columns if not isinstance(one, spare)]


_lock, _silences, _quiet_before = Lock(), 0, False


@contextmanager
def silent() -> Iterator[None]:
    """Print nothing and show no progress in the block; several threads may each be in one."""
    global _silences, _quiet_before
    with _lock:
        if not _silences:
            _quiet_before = console.quiet
        _silences += 1
        console.quiet = True
    try:
        yield
    finally:
        with _lock:
            _silences -= 1
            console.quiet = _silences > 0 or _quiet_before
