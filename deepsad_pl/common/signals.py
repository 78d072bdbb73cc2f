"""Leave cleanly on SIGTERM, SIGHUP and Ctrl-C: close what is open, then exit with 128 plus the signal's number."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Seconds that a stopped experiment has for closing its trackers.
CLOSE_S = 30
# The signals that stop a command. Windows has no SIGHUP.
STOPS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Stopped(SystemExit):
    """Raised where a signal interrupts the command; its code is 128 plus the signal's number, as in a shell."""


@contextmanager
def signals_exit(*, replace: bool = False) -> Iterator[None]:
    """Let SIGTERM, SIGHUP and Ctrl-C raise :class:`Stopped` inside the block instead of ending the process at once.

    A handler that is already installed is kept, and so is a signal that is ignored, as SIGHUP is under ``nohup``. Only
    the main thread receives signals; in other threads this does nothing.

    Args:
        replace: whether other handlers are replaced too, until the end of the block.

    Raises:
        Stopped: when a signal arrives; the signals are then ignored until the process ends, except a second Ctrl-C,
            which ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    default = (signal.SIG_DFL, signal.default_int_handler)
    ours = [
        number
        for number, handler in before.items()
        if handler in default or (replace and handler not in (signal.SIG_IGN, leave))
    ]
    if ours:
        _left.clear()
    for number in ours:
        signal.signal(number, leave)
    if hasattr(signal, "pthread_sigmask"):
        # A rank starts with Ctrl-C blocked, since it would cause a traceback while the rank is importing.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if not _left:
            for number in ours:
                signal.signal(number, before[number])


# The signal for which this process is ending.
_left: list[int] = []


def leave(number: int, _: object) -> None:
    """Signal handler that raises :class:`Stopped`, once."""
    if _left:
        # A signal may come twice: to the whole process group, or from an impatient user. Only a second Ctrl-C may
        # interrupt the cleanup.
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        return
    _left.append(number)
    if number not in (signal.SIGTERM, signal.SIGINT):
        leave_the_terminal()
    raise Stopped(128 + number)


def leave_the_terminal() -> None:
    """Discard output that would go to a terminal: after SIGHUP the terminal is gone, and writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a stream that is closed, or has no file
            # isatty() is false for a terminal that is gone.
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
