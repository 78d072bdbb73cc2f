"""SIGTERM inside and outside of a block that must be left cleanly."""

import signal
import threading
from collections.abc import Iterator

import pytest

from deepsad_pl.common.signals import signals_exit


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_leaves_the_block_with_its_exit_code() -> None:
    closed = []
    with pytest.raises(SystemExit) as caught, signals_exit():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            closed.append(True)
    assert caught.value.code == 143
    assert closed
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_existing_handler_stays() -> None:
    seen = []

    def handler(number: int, _: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGTERM, handler)
    with signals_exit():
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_an_inner_block_leaves_the_handler_of_the_outer_one() -> None:
    with pytest.raises(SystemExit), signals_exit():
        with signals_exit():
            pass
        signal.raise_signal(signal.SIGTERM)


def test_in_another_thread_nothing_changes() -> None:
    seen: list[object] = []

    def work() -> None:
        with signals_exit():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
