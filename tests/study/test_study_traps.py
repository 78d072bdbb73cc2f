"""What could make the table of a study wrong without a word, or leave a user without a way out."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_records import write_finished
from studies import planner, study_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.settings.own_metrics import OwnMetric
from deepsad_pl.study.differences import Asked, require_one_table
from deepsad_pl.study.grid import Study, study_problems
from deepsad_pl.study.jobs import Job, Planned
from deepsad_pl.study.requests import Request
from deepsad_pl.study.results import results_frame
from deepsad_pl.study.state import state_of
from deepsad_pl.sweep.failures import Failures

CLI = Callable[..., subprocess.CompletedProcess[str]]
TABLE = ("scenario=default", "dataset.label=truth", "dataset.normal=[ok]")
QUICK = ("logger=none", "hydra.launcher.n_jobs=1", "seed=0")


def table(path: Path, seed: int, *classes: str, rows: int = 90) -> str:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["ok", *classes], rows, p=[0.7, *[0.3 / len(classes)] * len(classes)])
    x = rng.normal(size=(rows, 3)) + (kinds != "ok")[:, None] * rng.uniform(0, 3)
    path.parent.mkdir(exist_ok=True, parents=True)
    pd.DataFrame({**{f"x{i}": x[:, i] for i in range(3)}, "truth": kinds}).to_csv(path, index=False)
    return f"table/{path}"


def small(**changed: Any) -> Study:
    fields = {"methods": ["knn_raw"], "axes": {"gamma_l": [0.05]}, "normal_classes": ["ok"]}
    return study_of("labeled_anomalies", **{**fields, **changed})


def asked(study: Study, *words: str) -> Asked:
    with planner(*words) as made:
        return Asked(Request((), {}), study, made.plan(study, {}))


def test_two_tables_of_the_same_name_are_not_one_row(tmp_path: Path) -> None:
    entries = [table(tmp_path / folder / "parts.csv", seed, "bad") for seed, folder in enumerate("ab")]
    one, other = (asked(small(datasets=[entry]), *TABLE) for entry in entries)
    require_one_table([one, one])
    with pytest.raises(DeepSADError, match="which are all called parts in reports; leave all but one out"):
        require_one_table([other, one])


def test_a_report_leaves_a_command_with_another_table_of_the_same_name_out(cli: CLI, tmp_path: Path) -> None:
    entries = [table(tmp_path / folder / "parts.csv", seed, "bad") for seed, folder in enumerate("ab")]
    words = ("study=labeled_anomalies", "method=knn_raw", "study.normal_classes=[ok]", *TABLE, *QUICK)
    for entry in entries:
        done = cli("sweep.py", *words, "study.axes.gamma_l=[0.05]", f"study.datasets=['{entry}']")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "is left out of the report" in done.stdout and "all called parts" in done.stdout
    found = pd.read_csv(tmp_path / "runs" / "studies" / "labeled_anomalies" / "table.csv")
    (run,) = (tmp_path / "runs" / "parts" / "knn_raw").glob(f"*{_hash(done, tmp_path)}/metrics.json")
    assert found["n"].tolist() == [1] and found["mean"][0] == pytest.approx(100 * json.loads(run.read_text())["auroc"])


def _hash(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    results = pd.read_csv(folder / "runs" / "studies" / "labeled_anomalies" / "results.csv")
    return str(results["experiment"].iloc[0]).rpartition("-")[2]


def test_a_command_with_other_axes_is_left_out_and_can_be_forgotten(cli: CLI, tmp_path: Path) -> None:
    """An axis is added to a user's own study between two commands."""
    mine = tmp_path / "conf" / "study" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    text = "defaults: [labeled_anomalies, _self_]\nname: mine\n"
    mine.write_text(text)
    words = ("study=mine", "--config-dir", str(tmp_path / "conf"), "method=knn_ratio_raw", "dataset=digits")
    grid = ("study.axes.gamma_l=[0.05]", "study.normal_classes=[0]", "study.anomaly_classes=[1]")
    done = cli("sweep.py", *words, *grid, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    mine.write_text(f"{text}axes: {{k: [3, 5]}}\nkeys: {{k: method.neighbors}}\ndepends: {{k: all}}\n")
    done = cli("sweep.py", *words, *grid, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it has the axes gamma_l, but the study now has gamma_l, k; repeat it, or remove it" in " ".join(
        done.stdout.split()
    )
    assert len(pd.read_csv(tmp_path / "runs" / "studies" / "mine" / "table.csv")) == 2
    requests = tmp_path / "runs" / "studies" / "mine" / "requests.json"
    assert len(json.loads(requests.read_text())) == 2
    done = cli("sweep.py", *words, *grid, *QUICK, "action=forget")
    assert done.returncode == 0, done.stdout + done.stderr
    (left,) = json.loads(requests.read_text())
    assert {*left["narrowed"]["axes"]} == {"gamma_l", "k"}


def test_an_experiment_without_the_metric_of_the_table_is_not_finished(tmp_path: Path) -> None:
    """A metric of the user's own that could not be computed for some."""
    study = study_of(
        "labeled_anomalies",
        **{"datasets": ["digits"], "methods": ["knn_ratio_raw"], "axes": {"gamma_l": [0.05]}},
        **{"normal_classes": [0], "anomaly_classes": [1, 3, 5], "metric": "mine"},
    )
    with planner(f"output_dir={tmp_path}", "logger=none") as made:
        planned = made.plan(study, {})
    metric = OwnMetric({"_target_": "lab.mine"}, {"_target_": "lab.mine"})
    jobs = {of: Job(job.overrides, replace(job.plan, metrics={"mine": metric})) for of, job in planned.jobs.items()}
    planned = Planned(planned.places, jobs)
    for number, job in enumerate(planned.unique):
        done = {"mine": 0.7, "metrics": {"mine": metric.description}} if number else {}
        write_finished(job.plan, auroc=0.9, **done)
    records = state_of(planned.unique, Failures(tmp_path / "failures"), with_scores=False).records
    assert len(records) == 3
    frame = results_frame([planned], records, study, ())
    assert frame["finished"].tolist() == [False, True, True]
    assert results_frame([planned], records, replace(study, metric="auroc"), ())["finished"].all()


def test_what_is_novel_is_blank_where_nothing_is(cli: CLI, tmp_path: Path) -> None:
    """One anomaly class: known to a method that sees labels, and to the table of one that does not."""
    entry = table(tmp_path / "one.csv", 0, "bad")
    words = ("study=adbench", f"study.datasets=['{entry}']", "method=knn_raw,knn_ratio_raw", "study.axes.labels=[1]")
    done = cli("sweep.py", *words, *TABLE[1:], *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    found = pd.read_csv(tmp_path / "runs" / "studies" / "adbench" / "results.csv")
    assert found["auroc_known"].notna().all()
    assert "auroc_novel" not in found or found["auroc_novel"].isna().all()


def test_an_axis_over_tables_with_other_classes_is_refused(tmp_path: Path) -> None:
    entries = [table(tmp_path / f"{kinds}{seed}.csv", seed, *kinds) for seed, kinds in enumerate(("x", "xy", "x"))]
    paths = [entry.removeprefix("table/") for entry in entries]
    axis = {"keys": {"path": "dataset.path"}, "depends": {"path": "all"}, "datasets": ["table"]}
    with pytest.raises(
        DeepSADError, match=r"the values of study.axes.path give table different classes, such as ok, x"
    ):
        asked(small(**axis, axes={"path": paths}), *TABLE)
    assert len(asked(small(**axis, axes={"path": paths[::2]}), *TABLE).planned.unique) == 2
    # Classes that are listed by name need only be in all of the tables.
    assert len(asked(small(**axis, axes={"path": paths}, anomaly_classes=["x"]), *TABLE).planned.unique) == 3
    with pytest.raises(DeepSADError, match="list by name those that all have"):
        asked(small(**axis, axes={"path": paths[::-1]}, anomaly_classes=["y"]), *TABLE)


def test_what_a_study_fixes_about_its_data_set_holds_when_classes_are_looked_up(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", 0, "x").removeprefix("table/")
    fixed = {"dataset.path": path, "dataset.label": "truth"}
    found = asked(small(datasets=["table"], fixed=fixed), "scenario=default")
    assert [place.normal_class for place in found.planned.places] == ["ok"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"axes": {"gamma_l": [0.05, "0.05"]}}, "study.axes.gamma_l has 0.05 more than once; list each value once"),
        ({"fixed": {"method": {"eta": 3}}}, "write the whole name of the setting in braces: 'study.fixed={method.eta:"),
    ],
)
def test_wrong_studies_are_refused(changed: dict[str, Any], told: str) -> None:
    assert any(told in problem for problem in study_problems(small(**changed), ["knn_raw"]))
