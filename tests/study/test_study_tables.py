"""A study whose axis is a setting of the data set: which of several tables to use."""

from pathlib import Path

import pytest
from processes import ROOT, run_script
from tiny_data import write_adbench

QUICK = ("trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1", "logger=none", "hydra.launcher.n_jobs=1")
STUDY = ("--config-dir", str(ROOT / "examples" / "studies" / "conf"), "study=tables", "seed=0", "data_dir=data")


@pytest.mark.slow
def test_a_study_can_have_tables_as_its_axis(tmp_path: Path) -> None:
    for name in ("cardio", "vowels"):
        write_adbench(tmp_path / "data", name, rows=200)
    narrowed = ("study.axes.table=[cardio,vowels]", "method=deep_sad,ocsvm_raw")
    done = run_script("sweep.py", *STUDY, *narrowed, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "runs" / "studies" / "tables" / "table.csv").read_text()
    assert {line.split(",")[0] for line in table.splitlines()[1:]} == {"adbench-cardio", "adbench-vowels"}
    for name in ("cardio", "vowels"):
        folders = (tmp_path / "runs" / f"adbench-{name}").iterdir()
        assert {folder.name for folder in folders} == {"deep_sad", "ocsvm_raw"}


def test_a_wrong_table_is_reported_before_any_work(tmp_path: Path) -> None:
    write_adbench(tmp_path / "data", "cardio", rows=200)
    done = run_script("sweep.py", *STUDY, "study.axes.table=[cardio,vowel]", *QUICK, cwd=tmp_path)
    assert done.returncode != 0
    assert "dataset.table is 'vowel', which is not a table of ADBench; did you mean vowels?" in done.stderr
    assert not (tmp_path / "runs" / "adbench-cardio").exists()


def test_a_study_without_that_axis_uses_one_table(tmp_path: Path) -> None:
    write_adbench(tmp_path / "data", "vowels", rows=200)
    words = ("study=classic", "dataset=adbench", "dataset.table=vowels", "method=iforest_raw", "seed=0,1")
    done = run_script("sweep.py", *words, "data_dir=data", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([*(tmp_path / "runs" / "adbench-vowels" / "iforest_raw").glob("*/metrics.json")]) == 2
