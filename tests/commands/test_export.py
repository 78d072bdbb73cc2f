"""The command ``export.py``: all errors at once, one file, and an older file that stays if there is no new one."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_tables import parts
from processes import ROOT

import deepsad_pl
from deepsad_pl.commands.export import parsed
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.detector.export_file import onnx_scorer, program_scorer, raw_samples

CLI = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    overrides = ["trainer.max_epochs=1", "logger=none"]
    return deepsad_pl.run("deep_sad", "digits", overrides, output_dir=tmp_path / "runs").run_dir


def test_a_run_becomes_one_file(cli: CLI, run_dir: Path, tmp_path: Path) -> None:
    detector = deepsad_pl.load(run_dir)
    x = raw_samples(detector.facts.inputs, 10)
    for kind, name, read in (("onnx", "a.onnx", onnx_scorer), ("torch_export", "a.pt2", program_scorer)):
        (tmp_path / name).write_text("an older file")
        done = cli("export.py", f"run={run_dir}", f"format={kind}", f"output={name}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{name} (")
        assert done.stdout.endswith("x uint8 (batch, 1, 8, 8) to score float64 (batch)\n")
        assert read(tmp_path / name)(x) == pytest.approx(detector.score(x), rel=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.pt2", "runs"]


def test_all_wrong_arguments_of_an_export_are_reported_at_once(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(DeepSADError) as caught:
        parsed([f"run={tmp_path}/none", "format=onx", f"output={tmp_path}/none/a.onnx"])
    told = str(caught.value)
    assert "run: there is no folder" in told
    assert "format is 'onx'; choose onnx or torch_export" in told
    assert f"output: there is no folder {tmp_path}/none; create it or choose another" in told
    with pytest.raises(DeepSADError, match=r"with format=onnx its name must end in \.onnx"):
        parsed([f"run={run_dir}", "format=onnx", f"output={tmp_path}/a.pt2"])
    with pytest.raises(DeepSADError, match=r"no setting fromat of export\.py; did you mean format\?"):
        parsed([f"run={run_dir}", "fromat=onnx"])


def test_a_damaged_detector_keeps_the_older_file(cli: CLI, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "detector" / "module.ckpt").write_bytes(b"damaged")
    (tmp_path / "a.onnx").write_text("an older file")
    done = cli("export.py", f"run={run_dir}", "format=onnx", "output=a.onnx")
    assert done.returncode == 1
    assert "is damaged" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "a.onnx").read_text() == "an older file"


def test_help_imports_no_torch(cli: CLI) -> None:
    done = cli("export.py", "--help")
    assert done.returncode == 0 and "format      onnx" in done.stdout


@pytest.mark.slow
def test_the_page_agrees_with_the_command(cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts().drop(columns="truth").to_csv(tmp_path / "parts.csv", index=False)
    words = ["dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part"]
    overrides = [f"dataset.path={tmp_path / 'parts.csv'}", *words, "trainer.max_epochs=1", "logger=none"]
    run = deepsad_pl.run("deep_sad", "table", overrides, output_dir=tmp_path / "runs").run_dir
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for command in commands.splitlines():
        _, script, *arguments = shlex.split(command.replace("$RUN", str(run)))
        assert cli(script, *arguments).returncode == 0, command
    detector = deepsad_pl.load(run)
    x = raw_samples(detector.facts.inputs, 40)
    monkeypatch.chdir(tmp_path)
    onnx_block, torch_block = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    of_onnx, of_torch = {"x": x}, {"x": x}
    exec(onnx_block, of_onnx)
    exec(torch_block, of_torch)
    assert np.asarray(of_torch["score"]) == pytest.approx(of_onnx["score"], rel=1e-5)
    assert of_onnx["anomaly"].tolist() == (of_onnx["score"] > detector.threshold_value()).tolist()
