"""The benchmark of many tables: its grid, its blank cells, its results.csv and what is made of that alone."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from own_tables import parts
from processes import ROOT
from studies import composer, planner, study_of
from tiny_data import write_adbench

from deepsad_pl.common.errors import BlankCellError, DeepSADError
from deepsad_pl.common.records import APART, METRICS
from deepsad_pl.data.adbench_tables import adbench_tables
from deepsad_pl.study.grid import study_problems
from deepsad_pl.study.jobs import Planned
from deepsad_pl.sweep.failures import Failures
from deepsad_pl.sweep.job import noted

CLI = Callable[..., subprocess.CompletedProcess[str]]
# Only methods that are fitted in milliseconds.
METHODS = ["ssad_raw", "iforest_raw", "knn_ratio_raw"]
QUICK = ("study=adbench", f"method={','.join(METHODS)}", "seed=0,1", "data_dir=data", "hydra.launcher.n_jobs=1")
FEW = ("study.axes.labels=[1,5]",)
TABLES = ("adbench/WBC", "adbench/wine", "adbench/Lymphography")


def planned(*passed_on: str, **changed: object) -> Planned:
    fields = {"datasets": ["adbench/cardio"], "methods": METHODS, "seeds": [0, 1], **changed}
    with planner(*passed_on, may_lack=[*study_of("adbench").fixed]) as made:
        return made.plan(study_of("adbench", **fields), {})


def write_tables(data_dir: Path) -> None:
    for number, (name, outliers) in enumerate((("WBC", 20), ("wine", 20), ("Lymphography", 6))):
        write_adbench(data_dir, name, rows=80, outliers=outliers, seed=number)


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_the_tables_are_the_small_ones_and_the_features_of_mvtec() -> None:
    small = [table.name for table in adbench_tables().values() if table.rows <= 10_000]
    listed = study_of("adbench").datasets
    assert listed == [f"adbench/{name}" for name in small] and len(listed) == 48
    assert sum(name.startswith("adbench/MVTec-AD_") for name in listed) == 15


def test_a_method_that_sees_no_labels_is_run_once_and_shown_for_every_number() -> None:
    found = planned()
    by_method = {name: {job.plan.run_dir for job in found.unique if job.plan.method.name == name} for name in METHODS}
    assert {name: len(dirs) for name, dirs in by_method.items()} == {
        **{"ssad_raw": 6, "knn_ratio_raw": 6},
        "iforest_raw": 2,
    }
    assert {place.row for place in found.places if place.column == "iforest_raw"} == {(1,), (5,), (10,)}


def test_the_protocol_is_that_of_adbench() -> None:
    for job in planned().unique:
        plan = job.plan
        assert plan.dataset.arguments["test_share"] == 0.3 and plan.scenario.unlabeled == "all"
        assert plan.scenario.normal_classes == (0,) and plan.scenario.gamma_p == 0
        assert plan.logger["name"] == "none"
        labels = {"ssad_raw": (1, 5, 10), "knn_ratio_raw": (1, 5, 10)}.get(plan.method.name, (None,))
        assert plan.scenario.label_count in labels


def test_nothing_is_tuned_on_test_data() -> None:
    plans = [job.plan for job in planned(methods=["ocsvm_raw", "ssad_raw"]).unique]
    assert {plan.method.arguments["selection"] for plan in plans} == {"none"}


def test_ranks_have_no_other_axis_than_the_number_of_labels() -> None:
    study = study_of("adbench", axes={"eta": [1.0]}, keys={"eta": "method.eta"}, depends={"eta": "all"})
    with planner():
        methods = composer().options("method")
    (problem,) = study_problems(study, methods)
    assert "study.axes.eta varies method.eta, but study.figure=ranks" in problem
    assert not study_problems(study_of("adbench"), methods)


def test_a_blank_cell_is_one_of_these_data(tmp_path: Path) -> None:
    notes, words = Failures(tmp_path), ["dataset=adbench", "seed=0"]
    with pytest.raises(BlankCellError), noted(tmp_path, words):
        raise BlankCellError("too few", experiment="0a1b2c3d")
    assert notes.error(words) == "too few"
    assert notes.is_blank(words, "0a1b2c3d") and not notes.is_blank(words, "ffffffff")
    with pytest.raises(DeepSADError), noted(tmp_path, words):
        raise DeepSADError("another")
    assert not notes.is_blank(words, "0a1b2c3d")


@pytest.mark.slow
def test_the_benchmark_is_run_resumed_and_reported_from_its_table(cli: CLI, tmp_path: Path) -> None:
    write_tables(tmp_path / "data")
    words = (*QUICK, *FEW, f"study.datasets=[{','.join(TABLES)}]")
    done = cli("sweep.py", *words)
    assert done.returncode == 0, output_of(done)
    # Lymphography has 4 training anomalies: two methods and two seeds cannot have 5.
    told = "blank: 4 experiments on adbench-Lymphography: scenario.labels=5 asks for 5 labeled anomalies"
    assert output_of(done).count(told) == 1

    folder = tmp_path / "runs" / "studies" / "adbench"
    results = pd.read_csv(folder / "results.csv")
    assert len(results) == 3 * 2 * (2 * 2 + 1) - 4
    assert not results.duplicated(["dataset", "method", "labels", "seed"]).any() and results["hash"].is_unique
    assert [*results.columns[:4], *results.columns[-3:]] == [
        *("dataset", "method", "labels", "seed"),
        *("seconds", "hash", "run_with"),
    ]
    assert results.loc[results["method"] == "iforest_raw", "labels"].isna().all()
    left = results[results["dataset"] == "adbench-Lymphography"]
    assert {*left.loc[left["method"] == "ssad_raw", "labels"]} == {1}
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("metrics.json")]
    by_hash = {record["hash"]: record for record in records}
    for _, row in results.iterrows():
        record = by_hash[row["hash"]]
        assert [record["dataset"], record["method"], record["seed"]] == [row["dataset"], row["method"], row["seed"]]
        same = [name for name in METRICS if name not in APART]
        assert row[same].tolist() == pytest.approx([record[name] for name in same], abs=1e-12)
        # All anomalies of these tables are of one class.
        assert row["auroc_known"] == pytest.approx(row["auroc"], abs=1e-12)
        assert row["seconds"] == pytest.approx(sum(record["seconds"].values()), abs=1e-3)

    ranks = pd.read_csv(folder / "ranks.csv", dtype={"labels": str})
    assert {*zip(ranks["labels"], ranks["datasets"], strict=True)} >= {("1", 3), ("5", 2)}
    assert {*ranks["method"]} == set(METHODS)
    assert "data other than the published adbench-WBC" in (folder / "ranks.md").read_text()
    page = (folder / "report.html").read_text()
    assert "26 of 30 experiments finished, 4 blank, since their data have too few anomalies; 3 data sets" in page
    assert page.count("<code>python report.py run=") == 26

    made = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix in (".csv", ".md", ".tex")}
    again = cli("sweep.py", *words)
    assert again.returncode == 0, output_of(again)
    assert "30 experiments, 26 finished, 0 to do, 4 blank" in again.stdout
    reported = cli("sweep.py", "study=adbench", "action=report", "data_dir=data")
    assert reported.returncode == 0, output_of(reported)
    assert {name: (folder / name).read_bytes() for name in made} == made

    # The table alone, somewhere without any run.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "results.csv").write_bytes(made["results.csv"])
    alone = cli("sweep.py", "study=adbench", "action=report", f"study.results={elsewhere / 'results.csv'}")
    assert alone.returncode == 0, output_of(alone)
    assert {name: (elsewhere / name).read_bytes() for name in made} == made


def test_a_user_s_table_stands_beside_those_of_the_benchmark(cli: CLI, tmp_path: Path) -> None:
    write_adbench(tmp_path / "data", "WBC", rows=80)
    parts(rows=200).drop(columns="quality").to_csv(tmp_path / "parts.csv", index=False)
    words = ("study.datasets=[adbench/WBC,table/parts.csv]", "study.axes.labels=[1]", "seed=0")
    own = ("dataset.label=truth", "dataset.normal=[ok]", "dataset.id=part")
    quick = [word for word in QUICK if not word.startswith("seed")]
    done = cli("sweep.py", *quick, *words, *own)
    assert done.returncode == 0, output_of(done)
    results = pd.read_csv(tmp_path / "runs" / "studies" / "adbench" / "results.csv")
    assert {*results["dataset"]} == {"adbench-WBC", "parts"} and len(results) == 2 * len(METHODS)


def test_a_dry_run_counts_and_imports_no_torch(cli: CLI, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked" / "torch"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('torch was imported')\n")
    words = (*QUICK, "study.datasets=[adbench/WBC,thyroid]", "trainer=cpu", "dry_run=true")
    done = cli("sweep.py", *words, env={"PYTHONPATH": f"{blocked.parent}"})
    assert done.returncode == 0, output_of(done)
    assert "28 experiments, 0 finished, 28 to do" in done.stdout


def test_the_tables_at_hand_are_listed(cli: CLI, tmp_path: Path) -> None:
    write_tables(tmp_path / "data")
    words = ("study.datasets=${adbench_tables:10000,at_hand}", "dry_run=true")
    done = cli("sweep.py", *QUICK, *words)
    assert done.returncode == 0, output_of(done)
    assert "42 experiments" in done.stdout
    assert {name for name in ("WBC", "wine", "Lymphography", "cardio") if f"adbench-{name}" in done.stdout} == {
        *("WBC", "wine", "Lymphography"),
    }


def test_a_results_file_is_for_a_report(cli: CLI) -> None:
    done = cli("sweep.py", *QUICK, "study.results=results.csv")
    assert done.returncode != 0 and "add action=report" in output_of(done)


@pytest.mark.slow
def test_the_commands_of_the_page_are_valid(cli: CLI, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "adbench.md").read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    write_tables(tmp_path / "data")
    parts(rows=200).drop(columns="quality").to_csv(tmp_path / "parts.csv", index=False)
    shown = [command for command in commands if "action=report" not in command]
    assert len(shown) == 4 and len(commands) == 7
    for command in shown:
        _, script, *words = shlex.split(command)
        few = [word for word in ("method=iforest_raw", "seed=0") if not any(w.startswith(word[:5]) for w in words)]
        done = cli(script, *words, *few, "data_dir=data", "dry_run=true")
        assert done.returncode == 0, output_of(done)
        assert "0 finished" in done.stdout


@pytest.mark.slow
def test_the_ranks_on_the_page_are_those_of_its_results(cli: CLI, tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / "results" / "adbench" / "results.csv", tmp_path)
    done = cli("sweep.py", "study=adbench", "action=report", "study.results=results.csv")
    assert done.returncode == 0, output_of(done)
    page = (ROOT / "docs" / "adbench.md").read_text(encoding="utf-8")
    ranked = re.compile(r"\d+\.\d\d \(\d+\.\d\)")
    shown, found = (
        {tuple(cells[:3]) for line in text.replace("*", "").splitlines() if len(cells := ranked.findall(line)) >= 3}
        for text in (page, (tmp_path / "ranks.md").read_text(encoding="utf-8"))
    )
    assert len(shown) == 14 and shown == found


def test_only_what_the_study_fixes_may_be_missing_after_narrowing() -> None:
    fixed = {**study_of("adbench").fixed, "method.kappa": 2.0}
    planned(methods=["iforest_raw"])
    with pytest.raises(DeepSADError, match=r"sets method\.kappa, which none of its methods has"):
        planned(methods=["iforest_raw"], fixed=fixed)
