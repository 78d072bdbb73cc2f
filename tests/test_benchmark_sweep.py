"""The benchmark of many experiments runs and tells what it measured."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import commands, sweep
from benchmarks.stacking import doublings


def test_a_quick_run_tells_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--quick", "--repeats", "1", "--threads", "1", "--parts", "replicas", "growth", "--out", str(tmp_path)]
    found = json.loads(sweep.main(given).read_text())["rows"]
    assert [(row["what"], row["case"]) for row in found] == [
        *((f"cardio {phase}", case) for phase in ("pretrain", "fit") for case in ("bare loop", "K = 1", "K = 2")),
        ("growth with n", "n = 500"),
        ("growth with n", "n = 1000"),
        ("growth with D", "D = 8"),
        ("growth with D", "D = 32"),
    ]
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in found)
    shown = capsys.readouterr().out
    assert "growth with n" in shown and "K = 2" in shown


def test_a_sweep_as_a_command_tells_seconds_an_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    def eight_seconds(work: Callable[[], object]) -> float:
        work()
        return 8.0

    monkeypatch.setattr(commands, "seconds", eight_seconds)
    assert commands.sweep_case("stacked, one process", "toy", "cpu", seeds=2, epochs=1)() == 4.0
    with pytest.raises(subprocess.CalledProcessError):
        commands.sweep_case("stacked", "nothing", "cpu", seeds=2, epochs=1)()


def test_numbers_of_replicas_double() -> None:
    assert list(doublings(1)) == [1]
    assert list(doublings(20)) == [1, 2, 4, 8, 16]
    assert list(doublings(32)) == [1, 2, 4, 8, 16, 32]
