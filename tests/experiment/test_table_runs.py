"""Experiments and studies on an own table, from the command line to scores and report."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_tables import parts
from planned import EACH_METHOD, settings_of

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.metrics import auroc
from deepsad_pl.experiment.plan import make_plan

CLI = Callable[..., subprocess.CompletedProcess[str]]
WORDS = (
    *("dataset=table", "dataset.path=parts.csv", "dataset.label=quality", "dataset.normal=[ok]"),
    *("dataset.anomaly=[scrap]", "dataset.id=part", "trainer.max_epochs=1", "logger=none"),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "parts.csv"
    parts().to_csv(path, index=False)
    return path


def run(method: str, table: Path, *overrides: str, **settings: object) -> deepsad_pl.Result:
    return deepsad_pl.run(
        method,
        "table",
        [f"dataset.path={table}", *WORDS[2:], *overrides],
        output_dir=table.parent / "runs",
        data_dir=table.parent,
        **settings,
    )


def test_the_command_ends_with_a_score_for_each_row(table: Path, cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", *WORDS, "dataset.drop=[truth]")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "322 training samples: 301 unlabeled, 11 known normal, 10 known anomalies" in told
    assert "78 samples are kept out" in told
    used = (
        "6 columns: 4 numbers, 1 category (machine: 3), 1 boolean; not learned from: quality (label), part (id), truth"
    )
    assert used in told
    assert "unknown" in done.stdout
    (path,) = (tmp_path / "runs" / "table" / "deep_sad").glob("given-seed_0-*/scores.csv")
    assert used in (path.parent / "train.log").read_text()
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == pd.read_csv(table)["part"].tolist()
    assert {row["y"] for row in rows} == {""}


@pytest.mark.parametrize("method", EACH_METHOD)
def test_every_method_is_evaluated_where_there_is_truth(method: str, table: Path) -> None:
    result = run(method, table, "dataset.truth=truth")
    assert len(result.scores) == 160
    assert result.auroc == auroc(result.scores, result.y)
    assert run(method, table, "dataset.truth=truth").was_finished


def test_the_identity_depends_on_the_content_of_the_file_not_its_path(table: Path, tmp_path: Path) -> None:
    def identity(path: Path, *words: str) -> str:
        plan = make_plan(settings_of(*WORDS, f"dataset.path={path}", "dataset.drop=[truth]", *words))
        return plan.run_dir.name

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = elsewhere / "same.csv"
    copy.write_bytes(table.read_bytes())
    assert identity(table) == identity(copy) == identity(table, "dataset.network.units=[32,16,4]")
    assert identity(table) != identity(table, "dataset.anomaly=[scrap,ok]", "dataset.normal=[]")
    assert identity(table) != identity(table, "dataset.network.units=[8,4]")
    copy.write_bytes(table.read_bytes().replace(b"P00000", b"P99999"))
    assert identity(table) != identity(copy)


def test_the_identity_depends_on_the_files_that_a_glob_names(table: Path, tmp_path: Path) -> None:
    def identity(*words: str) -> str:
        return make_plan(settings_of(*WORDS, "dataset.drop=[truth]", *words)).run_dir.name

    by_glob = f"dataset.path={tmp_path}/part*.csv"
    assert identity(by_glob) == identity(f"dataset.path=[{table}]")
    one = identity(by_glob)
    (tmp_path / "parts2.csv").write_bytes(table.read_bytes())
    assert identity(by_glob) == identity(f"dataset.path=[{table},{tmp_path}/parts2.csv]") != one


def test_problems_are_reported_at_once_and_before_any_work(table: Path) -> None:
    words = [word for word in WORDS if "quality" not in word]
    with pytest.raises(DeepSADError) as caught:
        make_plan(settings_of(*words, f"dataset.path={table}", "dataset.label=qality", "dataset.train_share=2"))
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == ["dataset.train_share", "dataset.label"]


def test_labels_of_unknown_meaning_are_refused(table: Path) -> None:
    with pytest.raises(
        DeepSADError, match=r"'scrap' \(10\), 'ok' \(12\), no label \(378\), whose meaning is not known"
    ):
        run("deep_sad", table, "dataset.normal=[]", "dataset.anomaly=[]", "dataset.drop=[truth]")


@pytest.mark.slow
def test_a_study_varies_methods_and_seeds(table: Path, cli: CLI, tmp_path: Path) -> None:
    words = (*WORDS, "dataset.truth=truth", "method=deep_sad,iforest_raw", "seed=0,1")
    done = cli("sweep.py", "study=classic", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    results = pd.read_csv(tmp_path / "runs" / "studies" / "classic" / "results.csv")
    assert sorted(results["seed"]) == [0, 0, 1, 1]
    assert set(results["normal_class"]) == {"given"}
    assert results["auroc"].between(0.5, 1).all()
    wrong = cli("sweep.py", "study=labeled_anomalies", *WORDS, "dataset.truth=truth", "dry_run=true")
    assert wrong.returncode != 0
    assert "the labels of dataset=table are given (scenario=given), so that nothing is drawn" in wrong.stderr


def test_a_table_with_classes_can_have_a_scenario_of_the_paper(table: Path) -> None:
    classes = ("dataset.label=truth", "dataset.drop=[quality]", "scenario=default", "scenario.normal_class=ok")
    result = run("deep_sad", table, *classes, "scenario.anomaly_class=scrap", "dataset.normal=[]", "dataset.anomaly=[]")
    assert result.record["scenario"]["anomaly_class"] == ["scrap"]
    assert np.isfinite(result.auroc)
