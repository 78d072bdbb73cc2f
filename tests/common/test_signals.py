"""SIGTERM inside and outside of a block that must be left cleanly."""

import signal
import threading
from collections.abc import Iterator

import pytest

from deepsad_pl.common.signals import sigterm_exits


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_leaves_the_block_with_its_exit_code() -> None:
    closed = []
    with pytest.raises(SystemExit) as caught, sigterm_exits():
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
    with sigterm_exits():
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_an_inner_block_leaves_the_handler_of_the_outer_one() -> None:
    with pytest.raises(SystemExit), sigterm_exits():
        with sigterm_exits():
            pass
        signal.raise_signal(signal.SIGTERM)


def test_in_another_thread_nothing_changes() -> None:
    seen: list[object] = []

    def work() -> None:
        with sigterm_exits():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
