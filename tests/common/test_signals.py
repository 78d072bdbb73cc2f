"""Signals inside and outside of a block that must be left cleanly."""

import os
import pty
import signal
import sys
import threading
from pathlib import Path

import pytest
from processes import background, wait_for

from deepsad_pl.common.signals import STOPS, Stopped, leave, signals_exit

pytestmark = pytest.mark.usefixtures("default_signals")


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_signal_leaves_the_block_with_its_exit_code(number: signal.Signals) -> None:
    closed = []
    with pytest.raises(Stopped) as caught, signals_exit():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)
            closed.append(True)
    assert caught.value.code == 128 + number
    assert closed
    # The process is ending, so that what is closed after the block is not interrupted either.
    signal.raise_signal(signal.SIGTERM)


def test_a_block_that_no_signal_ends_restores_the_handlers() -> None:
    before = {number: signal.getsignal(number) for number in STOPS}
    with signals_exit():
        assert {signal.getsignal(number) for number in STOPS} == {leave}
    assert {number: signal.getsignal(number) for number in STOPS} == before


def test_an_existing_handler_stays_unless_it_is_to_be_replaced() -> None:
    seen = []

    def handler(number: int, _: object) -> None:
        seen.append(number)

    signal.signal(signal.SIGTERM, handler)
    with signals_exit():
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    with signals_exit(replace=True):
        assert signal.getsignal(signal.SIGTERM) is leave
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("replace", [False, True])
def test_a_signal_that_is_ignored_stays_ignored(replace: bool) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_exit(replace=replace):
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_inner_block_leaves_the_handler_of_the_outer_one() -> None:
    with pytest.raises(Stopped), signals_exit():
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


def test_a_terminal_that_hangs_up_is_written_to_no_more(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nfrom deepsad_pl.common.signals import signals_exit\nwith signals_exit():\n"
        "    try:\n        print('ready', flush=True)\n        os.read(3, 1)\n        os.read(3, 1)\n"
        "    finally:\n        print('closed', flush=True)\n        open('closed', 'w').close()\n"
    )
    nothing, _ = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.dup2(nothing, 3)
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        os.execv(sys.executable, [sys.executable, str(program)])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    assert (tmp_path / "closed").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_training_that_is_stopped_says_so_and_keeps_its_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    long = ("pretrain.epochs=[100000]", "pretrain.lr=[1e-4]", "trainer.checkpoint_seconds=0", "logger=csv")
    with background("train.py", *long, cwd=tmp_path) as process:
        wait_for(lambda: list(tmp_path.rglob("pretrain.ckpt")), process)
        process.send_signal(number)
        assert process.wait(60) == 128 + number, process.communicate()
        out = process.communicate()[0]
    assert "the run was stopped" in out
    assert "Traceback" not in out
    (checkpoint,) = tmp_path.rglob("pretrain.ckpt")
    assert {path.name for path in checkpoint.parent.iterdir()} == {checkpoint.name}
