"""A study whose folders are deleted while it runs ends without a traceback, and the same command completes it."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from processes import background, run_script, wait_for

STUDY = (
    *("study=labeled_anomalies", "dataset=digits", "method=deep_sad,ocsvm_raw", "study.axes.gamma_l=[0.0,0.05]"),
    *("study.normal_classes=[0]", "study.anomaly_classes=[2]", "hydra.launcher.n_jobs=1", "logger=none"),
    *("trainer=cpu", "trainer.threads=1", "trainer.checkpoint_seconds=0"),
    *("pretrain.epochs=[15]", "pretrain.lr=[1e-3]", "method.epochs=[15]", "method.lr=[1e-3]"),
)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["runs", "runs/digits", "runs/cache"])
def test_a_study_survives_that_its_folders_are_deleted(place: str, tmp_path: Path) -> None:
    folder = tmp_path / place
    with background("sweep.py", *STUDY, cwd=tmp_path) as study:
        wait_for(lambda: [*tmp_path.glob("runs/digits/*/*/checkpoints/*.ckpt")], study)
        assert folder.is_dir()
        # Without errors for files that the study removes meanwhile.
        shutil.rmtree(folder, ignore_errors=True)
        told = study.communicate(120)[0]
    assert study.returncode in (0, 1), told
    assert "Traceback" not in told
    if study.returncode:
        assert "no longer" in told
    again = run_script("sweep.py", *STUDY, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    results = pd.read_csv(tmp_path / "runs" / "studies" / "labeled_anomalies" / "results.csv")
    assert len(results) == 4
    assert results["auroc"].between(0.8, 1).all()
