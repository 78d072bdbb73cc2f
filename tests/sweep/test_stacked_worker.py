"""How a stacked sweep and its workers end when one of them gets a signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import psutil
import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.sweep import worker
from deepsad_pl.sweep.worker import Sweep, run_pack, workers_are_told

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
USUAL = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(os.getpid(), tmp_path)


def handlers() -> dict[signal.Signals, object]:
    return {number: signal.getsignal(number) for number in USUAL}


@BOTH
def test_workers_get_the_signal_before_the_sweep_ends(sweep: Sweep, number: signal.Signals) -> None:
    reached = False
    with pytest.raises(SystemExit) as stop, workers_are_told(sweep):
        assert not sweep.ends
        signal.raise_signal(number)
        assert sweep.ends
        reached = True
    assert reached, "what the workers hand back is still taken"
    assert stop.value.code == 128 + number
    assert handlers() == USUAL


def test_a_second_ctrl_c_ends_at_once_but_a_second_sigterm_waits(sweep: Sweep) -> None:
    reached: list[str] = []
    with pytest.raises(SystemExit) as stop, workers_are_told(sweep):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        reached.append("after two SIGTERM")
        signal.raise_signal(signal.SIGINT)
        reached.append("after Ctrl-C")
    assert reached == ["after two SIGTERM"]
    assert stop.value.code == 128 + signal.SIGINT
    assert handlers() == USUAL


def test_another_handler_of_the_signal_runs_last(sweep: Sweep) -> None:
    def leave(number: int, _: object) -> None:
        raise SystemExit(7)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit) as stop, workers_are_told(sweep):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.value.code == 7


def test_an_error_without_a_signal_is_raised(sweep: Sweep) -> None:
    with pytest.raises(DeepSADError, match="wrong"), workers_are_told(sweep):
        raise DeepSADError("wrong")
    assert handlers() == USUAL
    assert not sweep.ends


def test_workers_that_take_too_long_are_killed(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CLOSE_S", 0.5)
    begin = time.monotonic()
    with pytest.raises(SystemExit) as stop, workers_are_told(sweep):
        for pid in joblib.Parallel(n_jobs=2, return_as="generator")(
            joblib.delayed(call)(*arguments) for call, *arguments in ((os.getpid,), (time.sleep, 60))
        ):
            if pid is not None:
                signal.raise_signal(signal.SIGTERM)
    assert stop.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - begin < 30
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_pack_that_arrives_after_the_end_is_not_started(sweep: Sweep, tmp_path: Path) -> None:
    sweep.end()
    call = joblib.delayed(run_pack)([], failures=None, watch=None, threads=1, show=False, sweep=sweep)
    assert joblib.Parallel(n_jobs=2)([call, call]) == [None, None]


LATE = """
import time
from deepsad_pl.common.worker_end import end_with_the_sweep
end_with_the_sweep({sweep})
time.sleep(6)
"""


@pytest.mark.parametrize(("gone", "code"), [(True, 1), (False, 0)])
def test_a_worker_that_starts_after_its_sweep_was_killed_ends(gone: bool, code: int) -> None:
    sweep = 1 if gone else os.getpid()
    assert os.getpid() != 1
    done = subprocess.run([sys.executable, "-c", LATE.format(sweep=sweep)], timeout=60, check=False)
    assert done.returncode == code
