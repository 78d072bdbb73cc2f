"""``hydra/sweeper=optuna``: its results are in the records, its files in the output folder, and failures end it."""

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_lines import loader, problems_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from deepsad_pl.commands import main
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.messages import CommandLineError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.sweep.optuna_trials import WARNING, Trials, corners, search_problems
from hydra_plugins.deepsad_optuna_sweeper import OptunaSweeper

CLI = Callable[..., subprocess.CompletedProcess[str]]
SEARCH = ["-m", "hydra/sweeper=optuna", "scenario.gamma_l=interval(0.02,0.2)", "method.eta=1,10"]
QUICK = ["logger=none", "pretrain=none", "trainer.max_epochs=1", "trainer.threads=1"]
FINISHED = "this run had already finished"


@pytest.fixture
def plugin() -> None:
    """Skip a test if Hydra's Optuna sweeper is not installed."""
    pytest.importorskip("optuna", reason="hydra-optuna-sweeper is not installed: pip install 'deepsad-pl[optuna]'")


class Instead:
    """A launcher that returns these values."""

    def __init__(self, *values: float) -> None:
        self.values, self.launched = values, 0

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.launched += len(jobs)
        pairs = zip(jobs, self.values, strict=True)
        return [JobReturn(overrides=job, status=JobStatus.COMPLETED, _return_value=value) for job, value in pairs]


def trials_of(folder: Path) -> list[dict[str, str]]:
    (path,) = (folder / "runs" / "optuna").glob("*/trials.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_auroc_of_nan_makes_a_trial_fail() -> None:
    trials = Trials(Instead(0.5, math.nan), Composer(loader()))  # type: ignore[arg-type]
    good, bad = trials.launch([["seed=1"], ["seed=2"]], 0)
    assert (good.status, good.return_value) == (JobStatus.COMPLETED, 0.5)
    with pytest.raises(CommandLineError, match="its AUROC is nan"):
        _ = bad.return_value
    assert [job for job, _ in trials.failed] == [["seed=2"]]
    assert trials.told().splitlines() == [
        "1 of 2 trials failed, which ends the search:",
        "  seed=2: its AUROC is nan, which cannot be compared",
    ]


def test_all_trials_are_checked_before_one_is_launched() -> None:
    launcher = Instead(0.5, 0.5, 0.5)
    with pytest.raises(DeepSADError) as caught:
        Trials(launcher, Composer(loader())).launch([["seed=1"], ["method.eta=0"], ["sede=1"]], 0)  # type: ignore[arg-type]
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "method.eta is 0.0",
        "there is no setting sede",
    ]
    assert launcher.launched == 0


def test_the_bounds_of_a_search_space_are_checked() -> None:
    words = ["seed=3", "method.eta=tag(log,interval(0.1,10))", "method=deep_sad,deep_svdd", "scenario.k_l=range(0,3)"]
    first = ["seed=3", "method.eta=0.1", "method=deep_sad", "scenario.k_l=0"]
    found = corners(OverridesParser.create().parse_overrides(words))
    assert [job for job in found if job != first] == [
        [*first[:1], "method.eta=10.0", *first[2:]],
        [*first[:2], "method=deep_svdd", *first[3:]],
        [*first[:3], "scenario.k_l=3"],
    ]
    assert first in found


def test_all_problems_of_a_search_are_reported() -> None:
    sweeper = {"n_trials": 0, "n_jobs": None, "sampler": {"seed": None}, "study_name": "a/b"}
    told = list(search_problems(sweeper, "sweep", OverridesParser.create().parse_overrides(["seed=1"])))
    assert [problem.split(",")[0].split(";")[0] for problem in told] == [
        "hydra/sweeper=optuna is for train.py -m",
        "hydra.sweeper.n_trials is 0",
        "hydra.sweeper.n_jobs is None",
        "hydra.sweeper.sampler.seed is None",
        "hydra.sweeper.study_name is 'a/b'",
        "there is nothing to search",
    ]


def test_without_the_plugin_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    sweeper = OptunaSweeper(n_trials=1, n_jobs=1, sampler=None, study_name=None, params=None)
    with pytest.raises(CommandLineError, match=r"pip install 'deepsad-pl\[optuna\]'"):
        sweeper._search(tmp_path, None)  # type: ignore[arg-type]


def test_an_interval_is_checked_and_refused_in_a_grid(cli: CLI) -> None:
    told = problems_of("method.et=interval(1,3)", "method.eta=interval(1,3)", "sede=1")
    assert [one for one in told if "several values" not in one] == [
        "there is no setting method.et; did you mean method.eta?",
        "there is no setting sede; did you mean seed?",
    ]
    done = cli("train.py", "-m", "method.eta=interval(1,3)")
    assert done.returncode != 0
    assert "method.eta=interval(1,3): a grid has single values" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("plugin")
def test_a_search_can_be_continued(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", *SEARCH, *QUICK, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    assert WARNING in " ".join(done.stdout.split())
    assert FINISHED not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    (folder,) = (tmp_path / "runs" / "optuna").iterdir()
    assert {path.name for path in folder.iterdir()} == {"optimization_results.yaml", "trials.csv"}

    before = trials_of(tmp_path)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/digits/*/*/metrics.json")]
    of_records = {(r["scenario"]["gamma_l"], r["identity"]["method"]["eta"], r["auroc"]) for r in records}
    assert {tuple(float(value) for value in trial.values()) for trial in before} == of_records
    assert len(before) == len(records) == 2

    # As after a kill: finished trials are read from their records.
    again = cli("train.py", *SEARCH, *QUICK, "hydra.sweeper.n_trials=3")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(FINISHED) == 2
    after = trials_of(tmp_path)
    assert (after[:2], len(after)) == (before, 3)
    results: Any = OmegaConf.to_container(OmegaConf.load(folder / "optimization_results.yaml"))
    assert results["warning"] == WARNING
    best = max(after, key=lambda trial: float(trial["auroc"]))
    assert results["best_value"] == float(best["auroc"])
    assert f"{results['best_params']['scenario.gamma_l']}" == best["scenario.gamma_l"]


@pytest.mark.usefixtures("plugin")
def test_trials_of_a_batch_are_trained_as_a_stack(cli: CLI, tmp_path: Path) -> None:
    words = ["hydra/launcher=stacked", "hydra.launcher.n_jobs=1", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2"]
    done = cli("train.py", *SEARCH, *QUICK, *words)
    assert done.returncode == 0, done.stderr
    assert "best of 2 trials" in done.stdout
    assert len(trials_of(tmp_path)) == len(list(tmp_path.glob("runs/digits/*/*/metrics.json"))) == 2


@pytest.mark.usefixtures("plugin")
def test_an_invalid_bound_is_reported_before_any_trial(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", "-m", "hydra/sweeper=optuna", "method.eta=interval(-1,1)", "scenario.k_l=1,20", *QUICK)
    assert done.returncode != 0
    told = " ".join(done.stderr.split())
    assert "method.eta is -1.0; it must be a number > 0" in told
    assert "scenario.k_l" in told
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("plugin")
def test_a_failed_trial_ends_the_search(cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", *SEARCH, *QUICK, "+metrics.bad._target_=math.fmod")
    assert done.returncode != 0
    assert "1 of 1 trials failed, which ends the search:" in done.stderr
    assert not list(tmp_path.glob("runs/optuna/*/*"))
    assert len(list(tmp_path.glob("runs/digits/*/*/scores.csv"))) == 1


@pytest.mark.usefixtures("plugin")
def test_a_nan_ends_the_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(cfg: Any) -> float:
        return math.nan

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "run_job", job)
    monkeypatch.setattr(sys, "argv", ["train.py", *SEARCH, *QUICK])
    with pytest.raises(SystemExit):
        main.train()
    told = capsys.readouterr().err
    assert "1 of 1 trials failed, which ends the search:" in told
    assert "its AUROC is nan" in told
