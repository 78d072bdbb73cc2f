"""The command line in a separate process: help, errors and the output of a successful run."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import ROOT

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.messages import CommandLineError, first_line
from deepsad_pl.experiment.finished import Outcome
from deepsad_pl.study.study import ACTIONS

CLI = Callable[..., subprocess.CompletedProcess[str]]
NOISE = ("GPU available", "TPU available", "Sanity", "Params", "num_workers", "ckpt_path", "Trainer.fit", "Warning")


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def assert_refused(done: subprocess.CompletedProcess[str], where: Path) -> None:
    assert done.returncode != 0
    assert "Traceback" not in output_of(done)
    assert not any(where.iterdir())


@pytest.mark.parametrize("launcher", ["basic", "stacked"])
def test_a_script_imports_nothing_for_metrics_that_nobody_computes(launcher: str, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
        "print([name for name in ('torchvision', 'scipy.signal', 'matplotlib') if name in sys.modules])"
    )
    words = ["-m", f"hydra/launcher={launcher}", "dataset=toy", "trainer.max_epochs=1", "logger=none"]
    command = [sys.executable, "-c", code, *words, f"output_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_finished_run_is_answered_without_torch(experiment: Callable[..., Outcome], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ["method=iforest_raw", "logger=none", f"output_dir={runs}"]
    auroc = experiment(words[0], "report=true").record["auroc"]
    code = (
        "import runpy, sys\n"
        "script, *words = sys.argv[1:]\n"
        "for more in ([], ['-m'], ['-m', 'hydra/launcher=stacked', 'method=iforest_raw,iforest_raw']):\n"
        "    sys.argv[1:] = [*more, *(w for w in words if len(more) < 3 or not w.startswith('method'))]\n"
        "    runpy.run_path(script, run_name='__main__')\n"
        "heavy = ('torch', 'pytorch_lightning', 'torchmetrics', 'torchvision', 'sklearn', 'pandas', 'matplotlib')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "train.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.count("already finished") == 3
    assert done.stdout.count(f"{auroc:.4f}") == 3 + 1  # the stacked sweep has a table


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train.py", "--help"], "gamma_l"),
        (["sweep.py", "study=classic", "dataset=cardio", "trainer=cpu", "dry_run=true"], "0 finished, 120 to do"),
        (["sweep.py", "study=classic", "dataset=cardio", "trainer=auto", "dry_run=true"], "0 finished, 120 to do"),
    ],
)
def test_help_and_a_dry_run_import_nothing_heavy(words: list[str], shown: str, tmp_path: Path) -> None:
    code = (
        "import atexit, runpy, sys\n"
        "heavy = ('torch', 'pytorch_lightning', 'torchmetrics', 'torchvision', 'sklearn', 'pandas', 'matplotlib')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules]))\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, *words, f"output_dir={tmp_path}", f"data_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_the_choices_and_the_settings(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "--help")
    assert done.returncode == 0
    groups = {path.name: path for path in (ROOT / "conf").iterdir() if path.is_dir()}
    for group in (path for name, path in groups.items() if name not in ("scenario", "study", "hydra")):
        for option in group.glob("*.yaml"):
            assert re.search(rf"\b{re.escape(option.stem)}\b", done.stdout)
    for key in ("gamma_l", "eta", "output_dir", "max_epochs"):
        assert key in done.stdout
    assert not any(tmp_path.iterdir())


def test_help_of_sweep_names_the_studies_and_the_launchers(cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", "--help")
    assert done.returncode == 0
    launchers = (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml")
    for option in [*(ROOT / "conf" / "study").glob("*.yaml"), *launchers]:
        assert re.search(rf"\b{re.escape(option.stem)}\b", done.stdout)
    for key in ("joblib", *ACTIONS, "dry_run", "experiments_per_job"):
        assert key in done.stdout
    assert not any(tmp_path.iterdir())


def test_misspelt_keys_and_wrong_types_are_refused(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "scenario.gama_l=0.1", "dataset=minst", "seed=x")
    for told in ("did you mean scenario.gamma_l?", "did you mean mnist?", "seed=x: Value 'x' of type 'str'", "Integer"):
        assert told in output_of(done)
    assert "To append to your config" not in output_of(done)
    assert_refused(done, tmp_path)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DeepSADError("job 7 ran out of time"), "job 7 ran out of time"),
        (CommandLineError(str(DeepSADError("eta is 0", "seed is -1"))), "2 problems: - eta is 0"),
        (ValueError("a worker was killed\nand more"), "ValueError: a worker was killed"),
        (MemoryError(), "MemoryError"),
        (SystemExit(143), "143"),
    ],
)
def test_the_first_line_of_an_error_says_what_is_wrong(error: BaseException, told: str) -> None:
    assert first_line(error) == told


def test_wrong_values_are_reported_all_at_once(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "method.eta=0", "pretrain.batch_size=1", "scenario.normal_class=1", "trainer.precision=8")
    for key in ("method.eta", "pretrain.batch_size", "scenario.anomaly_class", "trainer.precision"):
        assert key in output_of(done)
    assert_refused(done, tmp_path)


def test_a_missing_root_of_an_image_folder_is_reported(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "dataset=image_folder")
    assert "dataset.root" in output_of(done)
    assert "dataset.root=..." in output_of(done)
    assert_refused(done, tmp_path)


def test_a_good_run_shows_its_result_and_folder(cli: CLI, tmp_path: Path) -> None:
    overrides = ("trainer.max_epochs=1", "scenario.normal_class=[2,'7']")
    done = cli("train.py", *overrides)
    text = output_of(done)
    assert done.returncode == 0, text
    (path,) = tmp_path.rglob("metrics.json")
    record = json.loads(path.read_text())
    assert [child.name for child in tmp_path.iterdir()] == ["runs"]

    shown = [f"{record['auroc']:.4f}", f"{record['average_precision']:.4f}", str(path.parent.relative_to(tmp_path))]
    shown += [f"{record['seconds'][part]:.1f}" for part in ("pretrain", "fit", "score")]
    shown += [str(record["counts"][key]) for key in ("train", "unlabeled", "labeled_anomalies", "test")]
    shown += ["AUROC", "average precision", "pretrain", "fit"]
    for fact in shown:
        assert fact in text
    for noise in NOISE:
        assert noise not in text
    assert record["counts"]["labeled_anomalies"] > 0

    assert shlex.split(record["command"]) == ["python", str(ROOT / "train.py"), *overrides]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    again = subprocess.run(
        record["command"], shell=True, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert again.returncode == 0, output_of(again)
    assert "already finished" in again.stdout
    assert [path.parent] == [found.parent for found in tmp_path.rglob("metrics.json")]

    log = (path.parent / "train.log").read_text()
    assert "digits" in log
    assert all(noise not in log for noise in NOISE)


def test_console_script_works_outside_the_checkout(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "deepsad-train"
    if not script.exists():
        pytest.skip(f"{script} is not installed")
    done = subprocess.run(
        [script, "--help"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, output_of(done)
    assert "gamma_l" in done.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["train.py", "sweep.py"])
def test_both_versions_are_printed(cli: CLI, script: str) -> None:
    done = cli(script, "--version")
    assert done.returncode == 0
    assert re.fullmatch(r"deepsad_pl \d+\.\d+\.\d+, Hydra 1\.3\.\d+\n", done.stdout)
