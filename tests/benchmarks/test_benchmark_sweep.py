"""The benchmark of many experiments runs and reports what it measured."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import commands, precision, scenario, sweep
from benchmarks.stacking import doublings


def test_a_quick_run_reports_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.slow
@pytest.mark.usefixtures("forked_commands")
def test_a_sweep_run_as_a_command_reports_seconds_per_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.slow
@pytest.mark.usefixtures("forked_commands")
def test_a_quick_run_reports_how_far_auroc_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--quick", "--ways", "bf16", "stacked", "--extra", "pretrain=none", "--out", str(tmp_path)]
    found = json.loads(precision.main(given).read_text())["rows"]
    assert [(row["what"], row["case"]) for row in found] == [("digits, 2 cells", way) for way in ("stacked", "bf16")]
    stacked, bf16 = found
    # In points of AUROC: one swapped pair of test samples is about .002.
    assert 0 <= stacked["more"]["mean"] < 0.1
    assert 0 < bf16["more"]["mean"] < 20
    for row in found:
        assert row["more"]["mean"] == pytest.approx(sum(row["values"]) / 2)
        assert abs(row["more"]["shift"]) <= row["more"]["mean"] + 1e-12
    assert "bf16" in capsys.readouterr().out


def test_a_failing_command_is_reported(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        precision.main(["--quick", "--extra", "scenario.gamma_l=7", "--out", str(tmp_path)])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_commands")
def test_a_quick_scenario_reports_the_work_for_a_gpu(tmp_path: Path) -> None:
    given = ["--quick", "--repeats", "1", "--singles", "1", "--peak", "0.5", "--out", str(tmp_path)]
    found = json.loads(scenario.main(given).read_text())["rows"]
    assert [(row["what"], row["case"], row["unit"]) for row in found] == [
        ("digits, 2 experiments", "one by one", "s"),
        ("digits, 2 experiments", "stacked", "s"),
        ("digits, scenario (i)", "stacked", "min"),
        *((f"digits {phase}, extrapolated", f"K = {k}", "min") for phase in ("pretrain", "fit") for k in (1, 2)),
    ]
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in found)
    for row in found[3:]:
        assert 0 < row["more"]["TFLOP/s"] < 1
        assert row["more"]["% of peak"] == pytest.approx(200 * row["more"]["TFLOP/s"])


def test_flop_are_the_sum_over_the_layers() -> None:
    """The first convolution needs no gradient of its input; each other layer costs its forward pass three times."""
    flop, batches = scenario.flop_of_step("cardio", "fit", scenario.Length(190, 1))
    assert batches == 1
    assert flop == 2 * 200 * (2 * 21 * 32 + 3 * (32 * 16 + 16 * 8))
