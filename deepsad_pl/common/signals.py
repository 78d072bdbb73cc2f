"""Leave cleanly on SIGTERM, SIGHUP and Ctrl-C: close what is open, then exit with 128 plus the signal's number."""

import os
import signal
import stat
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

# Seconds that a stopped experiment has for closing its trackers.
CLOSE_S = 30
# Seconds until a signal that arrives during an import is sent again.
_AGAIN_S = 0.05
_PACKAGE = str(Path(__file__).parent.parent)
# The signals that stop a command. Windows has no SIGHUP.
STOPS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Stopped(SystemExit):
    """Raised where a signal interrupts the command; its code is 128 plus the signal's number, as in a shell."""


def exit_at_once_on_signals() -> None:
    """Let SIGTERM, SIGHUP and Ctrl-C end the process without a word while it imports and reads its settings.

    There is nothing to close yet, and an exception inside an import or a library may be lost or become another one.
    :func:`signals_exit` takes over when the work starts.
    """
    for number in STOPS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _exit_at_once)


def _exit_at_once(number: int, _: object) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # gone, closed, or interrupted while it was writing
            stream.flush()
    os._exit(128 + number)


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
    default = (signal.SIG_DFL, signal.default_int_handler, _exit_at_once)
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
        # See ctrl_c_held_back.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    except Exception as error:
        if ours and _left:
            # A library that was interrupted turned the exit into an error of its own.
            raise Stopped(128 + _left[0]) from error
        raise
    finally:
        if not _left:
            for number in ours:
                signal.signal(number, before[number])


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Block Ctrl-C in this thread, and in a process started inside the block until that installs its own handlers.

    Otherwise, it would cause a traceback while that process is importing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The signal for which this process is ending.
_left: list[int] = []


def leave(number: int, frame: FrameType | None) -> None:
    """Signal handler that raises :class:`Stopped`, once, and not inside an import, where it might be lost."""
    if _is_importing(frame) and hasattr(signal, "pthread_kill"):
        start_new_thread(_send_again, (number,))
        return
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


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a function of this package waits for an import."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return True
        if name.startswith(_PACKAGE) and frame.f_code.co_name != "<module>":
            return False
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    time.sleep(_AGAIN_S)
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def leave_the_terminal() -> None:
    """Discard output that would go to a terminal: after SIGHUP the terminal is gone, and writing to it would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a stream that is closed, or has no file
            # isatty() is false for a terminal that is gone.
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
