"""The console that all output goes to."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console

# In a notebook, rich would show progress with ipywidgets, and print a warning for each step if they are missing.
console = Console(highlight=False, force_jupyter=False)

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
