"""study.results: experiments that a CSV file has count as finished, and finished ones are written into it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import AUROC, write_finished
from processes import ROOT
from studies import planner, study_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import METRICS
from deepsad_pl.experiment.results_version import RESULTS_VERSION
from deepsad_pl.study import results_file
from deepsad_pl.study.jobs import Job
from deepsad_pl.study.result_rows import read_rows, write_rows
from deepsad_pl.study.results_file import ResultsFile, commit, hash_of, machine_of
from deepsad_pl.study.state import Estimate, estimate

CLI = Callable[..., subprocess.CompletedProcess[str]]
STUDY = (
    *("study=labeled_anomalies", "dataset=digits", "method=knn_ratio_raw,iforest_raw"),
    *("study.axes.gamma_l=[0.05]", "study.sample=2", "logger=none", "hydra.launcher.n_jobs=1"),
)


def jobs_in(output_dir: Path, *words: str) -> list[Job]:
    fields = {"datasets": ["digits"], "methods": ["iforest_raw", "knn_ratio_raw"], "axes": {"gamma_l": [0.05]}}
    with planner(f"output_dir={output_dir}", "logger=none", *words) as made:
        return made.plan(study_of("labeled_anomalies", **fields, sample=2), {}).unique


def file_in(folder: Path) -> ResultsFile:
    return ResultsFile(folder / "results" / "digits.csv", folder / "lock")


def test_finished_experiments_are_known_without_their_folders(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path / "runs")
    for job in jobs[:3]:
        write_finished(job.plan, results_version=RESULTS_VERSION, recall_fpr_5=0.5)
    file = file_in(tmp_path)
    assert file.records(jobs) == {}
    file.add(jobs)
    shutil.rmtree(tmp_path / "runs")
    found = file.records(jobs)
    assert {*found} == {job.plan.run_dir for job in jobs[:3]}
    assert {record["auroc"] for record in found.values()} == {AUROC}
    assert {row["commit"] for row in read_rows(file.path)} == {commit()}
    # The folder of the runs is nothing to the rows, but every setting that counts is.
    elsewhere = jobs_in(tmp_path / "others")
    assert {hash_of(job) for job in elsewhere if job.plan.run_dir in file.records(elsewhere)} == {
        hash_of(job) for job in jobs[:3]
    }
    # Labeled normal samples are nothing to the isolation forest.
    with_normals = file.records(jobs_in(tmp_path / "runs", "scenario.gamma_n=0.1"))
    assert {record["method"] for record in with_normals.values()} == {"iforest_raw"}
    assert file.records(jobs_in(tmp_path / "runs", "force=true")) == {}


def test_times_of_another_machine_say_nothing_about_this_one(tmp_path: Path) -> None:
    jobs, file = jobs_in(tmp_path / "runs"), file_in(tmp_path)
    write_finished(jobs[0].plan, results_version=RESULTS_VERSION, recall_fpr_5=0.5)
    file.add(jobs)
    same = [job for job in jobs[1:] if job.plan.method.name == jobs[0].plan.method.name]
    assert estimate(same, file.records(jobs).values()) == Estimate(1.5 * len(same), unknown=[])
    write_rows(file.path, [{**row, "machine": "NVIDIA H100"} for row in read_rows(file.path)])
    assert estimate(same, file.records(jobs).values()) == Estimate(0, unknown=same)


def test_results_of_another_version_are_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, file = jobs_in(tmp_path / "runs"), file_in(tmp_path)
    write_finished(jobs[0].plan, results_version=RESULTS_VERSION, recall_fpr_5=0.5)
    file.add(jobs)
    monkeypatch.setattr("deepsad_pl.study.result_rows.RESULTS_VERSION", RESULTS_VERSION + 1)
    monkeypatch.setattr(results_file, "RESULTS_VERSION", RESULTS_VERSION + 1)
    assert file.records(jobs) == {}
    told = f"has version {RESULTS_VERSION} of the results, but this code has version {RESULTS_VERSION + 1}; remove"
    with pytest.raises(DeepSADError, match=told):
        file.add(jobs)


def test_a_row_is_replaced_and_others_stay(tmp_path: Path) -> None:
    jobs, file = jobs_in(tmp_path / "runs"), file_in(tmp_path)
    for job in jobs[:2]:
        write_finished(job.plan, results_version=RESULTS_VERSION, recall_fpr_5=0.5)
        file.add([job])
    write_finished(jobs[0].plan, results_version=RESULTS_VERSION, recall_fpr_5=0.25)
    file.add([jobs[0]])
    assert sorted(row["recall_fpr_5"] for row in read_rows(file.path)) == ["0.25", "0.5"]


def test_a_file_that_cannot_be_written_is_an_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(DeepSADError, match=r"cannot be (read|written)"):
        file_in(tmp_path).add([])


def test_code_and_machine_are_told() -> None:
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|deepsad_pl .+", commit())
    record = {"trainer": {"device": "cuda"}, "versions": {"torch": "2.11.0"}}
    assert machine_of(record, gpu="NVIDIA H100") == "NVIDIA H100, torch 2.11.0"
    assert machine_of({"trainer": {"device": "cpu"}}, cpu="16 CPU cores", gpu="NVIDIA H100") == "16 CPU cores"
    assert re.fullmatch(r"\d+ CPU cores, torch 2\.11\.0", machine_of({"versions": {"torch": "2.11.0"}}))


@pytest.mark.slow
def test_a_study_goes_on_from_the_file_alone(cli: CLI, tmp_path: Path) -> None:
    words = (*STUDY, "study.results=results/digits.csv")
    first = cli("sweep.py", *words)
    assert first.returncode == 0, first.stdout + first.stderr
    path = tmp_path / "results" / "digits.csv"
    rows, table = read_rows(path), (tmp_path / "runs/studies/labeled_anomalies/table.md").read_bytes()
    records = [json.loads(file.read_text()) for file in (tmp_path / "runs").rglob("metrics.json")]
    assert {row["hash"]: row["auroc"] for row in rows} == {r["hash"]: repr(r["auroc"]) for r in records}
    assert len(rows) == 4 and all(row[name] for row in rows for name in METRICS if name != "auroc_known")

    # Without the runs, only what the file lacks is run.
    shutil.rmtree(tmp_path / "runs")
    write_rows(path, rows[1:])
    again = cli("sweep.py", *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 experiments, 3 finished, 1 to do" in again.stdout
    (new,) = (json.loads(file.read_text()) for file in (tmp_path / "runs").rglob("metrics.json"))
    assert new["hash"] == rows[0]["hash"]
    assert [{**row, "seconds": ""} for row in read_rows(path)] == [{**row, "seconds": ""} for row in rows]
    assert (tmp_path / "runs/studies/labeled_anomalies/table.md").read_bytes() == table

    # The report needs no runs at all, and runs nothing.
    shutil.rmtree(tmp_path / "runs")
    report = cli("sweep.py", *words, "action=report", "figure.style=slides")
    assert report.returncode == 0, report.stdout + report.stderr
    assert (tmp_path / "runs/studies/labeled_anomalies/table.md").read_bytes() == table
    # 12 inches.
    assert 'width="864pt"' in (tmp_path / "runs/studies/labeled_anomalies/known_novel.svg").read_text()
    assert not [*(tmp_path / "runs").rglob("metrics.json")]
    known = (tmp_path / "runs/studies/labeled_anomalies/known_novel.md").read_text()
    assert re.search(r"\d \\\| \*{0,2}\d", known)


def test_a_study_that_needs_its_runs_has_no_such_file(cli: CLI) -> None:
    done = cli("sweep.py", "study=label_budget", "dataset=digits", "study.results=budget.csv", "dry_run=true")
    assert done.returncode != 0
    assert "study.results is budget.csv, but study.figure=budget needs the run folders" in done.stdout + done.stderr


def test_the_package_is_in_this_checkout() -> None:
    assert results_file._PACKAGE == ROOT / "deepsad_pl"
