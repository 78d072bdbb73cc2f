"""SIGTERM as a way to leave: what is open is closed first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Experiments that are stopped have so many seconds to close their trackers.
CLOSE_S = 30


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let SIGTERM raise SystemExit inside the block, where Python would die on the spot.

    A handler that somebody else has installed stays. Only the main thread gets signals: in others nothing changes.

    Raises:
        SystemExit: with code 143, as a shell tells a process that SIGTERM has ended.
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
    # A second one, of whoever stops the whole group, must not cut the closing short.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)
