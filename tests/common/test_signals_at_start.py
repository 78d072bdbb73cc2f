"""Signals while a command still imports: the exit code of the signal, and not a word."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ROOT, wait_for

from deepsad_pl.common.signals import STOPS, Stopped, signals_exit

_SIGTERM_IS_CAUGHT = 1 << (signal.SIGTERM - 1)


pytestmark = pytest.mark.usefixtures("default_signals")


def catches(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM, which Python itself does not install."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) & _SIGTERM_IS_CAUGHT)


def test_the_entry_points_import_nothing_heavy() -> None:
    code = "import sys, deepsad_pl.commands.entry; print(len({'hydra', 'omegaconf', 'numpy', 'rich'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say which signals are caught")
@pytest.mark.parametrize("script", ["train.py", "sweep.py", "score.py", "export.py", "report.py"])
def test_a_signal_during_the_start_is_silent(script: str, tmp_path: Path) -> None:
    words = ["dataset=toy", f"output_dir={tmp_path}"] if script in ("train.py", "sweep.py") else [f"run={tmp_path}"]
    draw = random.Random(script)
    number = draw.choice(STOPS)
    with subprocess.Popen(
        [sys.executable, script, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: catches(process.pid), process)
        # Less than any of them takes, even on a fast machine.
        time.sleep(draw.uniform(0.01, 0.1))
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 128 + number


def test_a_signal_inside_an_import_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_import.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(0.2)\nfinished = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Stopped) as caught, signals_exit():
        __import__("slow_import")
        time.sleep(10)
    assert caught.value.code == 128 + signal.SIGTERM
    assert sys.modules.pop("slow_import").finished


def test_an_error_that_a_signal_became_is_the_signals_exit_again() -> None:
    with pytest.raises(Stopped) as caught, signals_exit():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise AttributeError("half-made")
    assert caught.value.code == 128 + signal.SIGTERM
