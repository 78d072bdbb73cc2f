"""The README's story as a user runs it: 5,000 parts with 80 marked, a detector, new parts, and decisions about them."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_tables import parts
from processes import ROOT, run_script
from scipy.stats import betabinom


def readme_command(script: str) -> list[str]:
    """The arguments of the story's only command with this script."""
    section = (ROOT / "README.md").read_text().partition("## Use it on your own data")[2].partition("\n## ")[0]
    (line,) = re.findall(rf"^python {re.escape(script)} (.*)$", section, re.MULTILINE)
    return shlex.split(line)


def ran(script: str, *words: str, cwd: Path) -> str:
    finished = run_script(script, *words, cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


# One thread, since networks this small do not gain from a second one.
@pytest.mark.parametrize(
    ("words", "share"),
    [(["trainer.max_epochs=10"], 0.75), pytest.param([], 0.9, marks=pytest.mark.slow)],
    ids=["short", "whole schedule"],
)
def test_marked_parts_train_a_detector_for_new_parts(words: list[str], share: float, tmp_path: Path) -> None:
    parts(5000, scrap=30, good=50, bad_parts=150).drop(columns="truth").to_csv(tmp_path / "parts.csv", index=False)
    new = parts(3000, seed=1, bad_parts=90)
    new.drop(columns=["quality", "truth"]).to_csv(tmp_path / "new.csv", index=False)
    said = ran("train.py", *readme_command("train.py"), *words, "logger=none", "trainer.threads=1", cwd=tmp_path)
    # A fifth of all parts except the 30 scrapped ones calibrates the threshold.
    assert "4006 training samples" in said and "30 known anomalies" in said and "994 samples are kept out" in said
    (run_dir,) = (tmp_path / "runs" / "table" / "deep_sad").iterdir()

    score_words = [word.replace("$RUN", str(run_dir)) for word in readme_command("score.py")]
    bad = new["truth"].eq("scrap").to_numpy()
    for extra, alpha in (([], 0.05), (["threshold.alpha=0.01"], 0.01)):
        said = ran("score.py", *score_words, *extra, cwd=tmp_path)
        found = pd.read_csv(tmp_path / "scores.csv")
        assert found["id"].tolist() == new["part"].tolist()
        assert np.array_equal(found["anomaly"] == 1, found["p_value"] <= alpha)
        assert said.startswith(f"3,000 scored, {found['anomaly'].sum()} anomalies at alpha {alpha}")
        false_alarms = int(found["anomaly"][~bad].sum())
        # The distribution of the number of false alarms if all 994 were normal; the few bad ones only lower it.
        rank = int(np.floor(alpha * 995))
        assert false_alarms <= betabinom(int((~bad).sum()), rank, 995 - rank).ppf(0.999)
        if alpha == 0.05:
            assert found["anomaly"][bad].mean() > share
