"""The benchmark of exported detectors runs and reports what it measured."""

import json
from pathlib import Path

import pytest

from benchmarks import export


@pytest.mark.slow
def test_a_quick_run_compares_the_exported_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--quick", "--repeats", "1", "--threads", "1", "--out", str(tmp_path)]
    found = json.loads(export.main(given).read_text())["rows"]
    assert [row["case"] for row in found] == ["PyTorch", "torch_export", "ONNX"] * 6
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in found)
    assert "digits, LeNet, batch 1,000" in capsys.readouterr().out
