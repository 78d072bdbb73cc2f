"""Fixtures of the tests of signals."""

import signal
from collections.abc import Iterator

import pytest

from deepsad_pl.common.signals import STOPS


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Python's own handlers, since a process inherits which signals are ignored."""
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
