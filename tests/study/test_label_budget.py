"""The study label_budget: its experiments, their order, its table and figure."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planned import settings_of
from processes import ROOT
from studies import planner, study_of

from deepsad_pl.data.queried_labels import QueriedLabels
from deepsad_pl.experiment.asked import LABELED_ROWS
from deepsad_pl.study.jobs import Planned, by_round

PAGE = (ROOT / "docs" / "labeling_budget.md").read_text(encoding="utf-8")
CLI = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("study=label_budget", "dataset=digits", "method=ssad_raw", "method.selection=none", "seed=0,1", "logger=none")
NARROW = ("study.axes.rounds=[0,1,2]", "study.axes.query_by=[random,anomalous]")


def planned(*passed_on: str, **changed: object) -> Planned:
    fields = {"datasets": ["digits"], "seeds": [0, 1], **changed}
    with planner(*passed_on) as made:
        return made.plan(study_of("label_budget", **fields), {})


def test_strategies_share_round_0() -> None:
    found = planned()
    assert len(found.places) == 2 * 6 * 4
    assert len(found.unique) == 2 * (1 + 5 * 4)
    by_seed = {
        job.plan.run_dir
        for place in found.places
        if place.row[0] == 0
        for job in [found.jobs[place.experiment]]
        if place.seed == 0
    }
    assert len(by_seed) == 1


def test_a_round_comes_after_the_one_that_it_continues() -> None:
    waves = by_round(planned().unique)
    assert [len(wave) for wave in waves] == [2, *[2 * 4] * 5]
    known: set[Path] = set()
    for wave in waves:
        assert all(job.plan.previous_round is None or job.plan.previous_round.run_dir in known for job in wave)
        known |= {job.plan.run_dir for job in wave}


def test_jobs_without_rounds_keep_their_order() -> None:
    with planner() as made:
        jobs = made.plan(study_of("classic", datasets=["cardio"], seeds=[0, 1]), {}).unique
    assert by_round(jobs) == [jobs]


def test_the_labels_are_5_to_55() -> None:
    scenarios = [job.plan.scenario for job in planned().unique]
    assert {one.labels for one in scenarios if isinstance(one, QueriedLabels)} == {5, 15, 25, 35, 45, 55}
    assert all("scenario=queried" in job.overrides for job in planned().unique)


def test_a_method_that_sees_no_labels_is_run_once_per_seed() -> None:
    assert len(planned(methods=["deep_svdd"]).unique) == 2


def test_other_choices_come_from_the_command_line() -> None:
    found = planned("scenario=queried", "threshold=quantile")
    assert {job.plan.threshold.kind for job in found.unique} == {"quantile"}
    assert all(job.overrides.count("scenario=queried") == 1 for job in found.unique)


@pytest.mark.slow
def test_the_study_is_run_and_reported(cli: CLI, tmp_path: Path) -> None:
    done = cli("sweep.py", *SMALL, *NARROW)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("metrics.json")]
    assert len(found) == 2 * (1 + 2 * 2)

    folder = tmp_path / "runs" / "studies" / "label_budget"
    assert {path.name for path in folder.glob("*.*")} >= {"budget.md", "budget.csv", "figure.png", "figure.svg"}
    table = pd.read_csv(folder / "budget.csv")
    assert len(table) == 3 * 2
    for _, row in table.iterrows():
        same = [one for one in found if len(one[LABELED_ROWS]) == row["labels"]]
        same = [one for one in same if one["scenario"].get("query_by", row["strategy"]) == row["strategy"]]
        aurocs = np.array([100 * one["auroc"] for one in same])
        assert row["seeds"] == len(same) == 2
        assert row["auroc"] == pytest.approx(aurocs.mean(), abs=1e-3)
        assert row["auroc_se"] == pytest.approx(aurocs.std(ddof=1) / np.sqrt(2), abs=1e-3)
        assert row["anomalies"] == np.mean([one["counts"]["labeled_anomalies"] for one in same])
    again = cli("sweep.py", *SMALL, *NARROW)
    assert "10 finished, 0 to do" in again.stdout


def test_a_dry_run_imports_no_torch(cli: CLI, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked" / "torch"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('torch was imported')\n")
    path = f"{blocked.parent}"
    # The setting is of a scenario that the study itself chooses.
    words = ("trainer=cpu", "dry_run=true", "scenario.query_count=5")
    done = cli("sweep.py", *SMALL, *NARROW, *words, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 experiments, 0 finished, 10 to do" in done.stdout


def test_the_page_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `scenario\.(\w+)` \| .* \| (.+) \|$", PAGE, re.MULTILINE)
    shown = {key: default.strip("`") for key, default in rows}
    assert shown == {key: str(value) for key, value in settings_of("scenario=queried")["scenario"].items()}


@pytest.mark.slow
def test_the_commands_of_the_page_run(cli: CLI) -> None:
    commands = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert {command.split()[1] for command in commands} == {"train.py", "sweep.py"}
    for command in commands:
        python, script, *words = shlex.split(command)
        small = ["trainer.max_epochs=1", "logger=none"] if script == "train.py" else ["dry_run=true"]
        done = cli(script, *words, *small)
        assert python == "python" and done.returncode == 0, done.stdout + done.stderr
