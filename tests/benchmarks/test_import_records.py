"""Records of run folders get into the CSV files of the studies that have these experiments."""

from pathlib import Path

import pytest
import yaml
from made_records import write_finished
from studies import planner, study_of

from benchmarks.import_records import main
from deepsad_pl.experiment.results_version import RESULTS_VERSION
from deepsad_pl.study.jobs import Job
from deepsad_pl.study.result_rows import read_rows

STEP = {"results": "digits", "study": "labeled_anomalies", "dataset": "digits", "methods": ["iforest_raw"]}


def jobs_in(output_dir: Path, method: str) -> list[Job]:
    fields = {"datasets": ["digits"], "methods": [method], "axes": {"gamma_l": [0.05]}}
    with planner(f"output_dir={output_dir}", "logger=none") as made:
        return made.plan(study_of("labeled_anomalies", **fields, sample=3), {}).unique


@pytest.mark.slow
def test_each_experiment_of_the_queue_gets_a_row_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs, (other, *_) = jobs_in(tmp_path / "runs", "iforest_raw"), jobs_in(tmp_path / "runs", "knn_raw")
    for job in (*jobs, other):
        write_finished(job.plan, results_version=1, recall_fpr_5=0.5)
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump([{**STEP, "axes": {"gamma_l": [0.05]}}]))
    words = [str(tmp_path / "runs"), "--queue", str(tmp_path / "queue.yaml"), "--results", str(tmp_path / "results")]
    made = ["--commit", "1234567", "--cpu", "8 cores", "--version", str(RESULTS_VERSION)]
    assert main([*words, *made]) == 0
    told = capsys.readouterr().out
    assert "digits.csv: 3 experiments, 3 new" in told
    assert "4 experiments, 1 of them in no study of the queue" in told
    rows = read_rows(tmp_path / "results" / "digits.csv")
    assert {row["hash"] for row in rows} == {job.plan.run_dir.name[-8:] for job in jobs}
    assert {(row["commit"], row["version"]) for row in rows} == {("1234567", str(RESULTS_VERSION))}
    assert all(row["machine"].startswith("8 cores") for row in rows)
    assert main([*words, *made]) == 0
    assert "3 experiments, 0 new" in capsys.readouterr().out


def test_records_of_an_older_version_are_not_taken_for_today_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_finished(jobs_in(tmp_path / "runs", "iforest_raw")[0].plan, results_version=1, recall_fpr_5=0.5)
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump([{**STEP, "axes": {"gamma_l": [0.05]}}]))
    words = [str(tmp_path / "runs"), "--queue", str(tmp_path / "queue.yaml"), "--results", str(tmp_path / "results")]
    assert main(words) == 0
    assert "1 experiment, 1 of them in no study" in capsys.readouterr().out


def test_a_folder_without_a_readable_record_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{")
    assert main([str(tmp_path), "--results", str(tmp_path / "results")]) == 1
    assert "metrics.json cannot be read" in capsys.readouterr().err
