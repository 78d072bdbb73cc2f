"""Leave cleanly on SIGTERM: close what is open before exiting."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds that a stopped experiment has to close its trackers.
CLOSE_S = 30


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let SIGTERM raise SystemExit inside the block instead of killing the process at once.

    A handler that is already installed is kept. Only the main thread receives signals; in other threads this does
    nothing.

    Raises:
        SystemExit: with code 143, the shell's exit code for a process ended by SIGTERM.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, _: object) -> None:
    # A second SIGTERM, sent when the whole process group is stopped, must not interrupt the cleanup.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
