"""The story of docs/labeling.md: a table with few labels, a detector, its reasons, an export, ten more labels."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_tables import parts
from processes import ROOT

from deepsad_pl.detector.export_file import onnx_scorer

CLI = Callable[..., subprocess.CompletedProcess[str]]
PAGE = (ROOT / "docs" / "labeling.md").read_text(encoding="utf-8")
# Settings in addition to those of the page.
MORE = ("dataset.truth=truth", "trainer.max_epochs=20", "logger=none", "trainer.threads=1")


def command_of_page(number: int, run: Path | None = None) -> list[str]:
    """The script and the arguments of one of the page's commands."""
    line = re.findall(r"^ {4}python (.*)$", PAGE, re.MULTILINE)[number]
    return [word.replace("$RUN", str(run)) for word in shlex.split(line)]


def ran(cli: CLI, script: str, *words: str) -> str:
    done = cli(script, *words)
    assert done.returncode == 0, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def records(where: Path) -> dict[Path, dict[str, Any]]:
    return {path.parent: json.loads(path.read_text()) for path in where.rglob("metrics.json")}


def require_reasons(cli: CLI, run: Path, frame: pd.DataFrame, folder: Path) -> None:
    """The first reason for the score of a bad part is one of the three sensors that are wrong."""
    ran(cli, "score.py", f"run={run}", "input=parts.csv", "output=why.csv", "id=part", "explain=true")
    found = pd.read_csv(folder / "why.csv", dtype={"reason_1": str})
    reason = found["reason_1"][frame["truth"] == "scrap"].str.partition(" ")[0]
    assert reason.isin(["sensor_0", "sensor_1", "sensor_2"]).mean() > 0.9


def require_export(cli: CLI, run: Path, frame: pd.DataFrame, folder: Path) -> None:
    """The exported file gives the same scores for raw numbers as ``score.py``."""
    ran(cli, "export.py", f"run={run}", "format=onnx", "output=parts.onnx")
    categories = pd.Categorical(frame["machine"], ["A", "B", "C"]).codes
    numbers = frame.assign(machine=categories, checked=frame["checked"].astype(float))
    columns = [*(f"sensor_{place}" for place in range(4)), "machine", "checked"]
    scores = onnx_scorer(folder / "parts.onnx")(numbers[columns].to_numpy(np.float64))
    assert scores == pytest.approx(pd.read_csv(folder / "why.csv")["score"].to_numpy(), rel=1e-5)


@pytest.mark.slow
def test_ten_labels_are_asked_for_and_fed_back(cli: CLI, tmp_path: Path) -> None:
    frame = parts(1200, scrap=3, good=3, bad_parts=60)
    # Half of the bad parts have a fault that none of the labeled parts has.
    other = frame.index[frame["truth"].eq("scrap") & frame["quality"].eq("")][::2]
    frame.loc[other, ["sensor_0", "sensor_1"]] -= 5
    frame.loc[other, "sensor_2"] += 3
    frame.to_csv(tmp_path / "parts.csv", index=False)
    ran(cli, *command_of_page(0), *MORE)
    ((first, before),) = records(tmp_path / "runs").items()

    require_reasons(cli, first, frame, tmp_path)
    require_export(cli, first, frame, tmp_path)

    said = ran(cli, *command_of_page(1, first), "query=10", "query.by=diverse")
    assert "10 of" in said and "spread over the most anomalous ones" in said
    ask = pd.read_csv(tmp_path / "ask.csv", dtype=str, keep_default_na=False)
    assert list(ask) == ["id", "score", "quality"] and len(ask) == 10
    truth = frame.set_index("part")["truth"]
    ask["quality"] = truth[ask["id"]].to_numpy()
    ask.to_csv(tmp_path / "ask.csv", index=False)

    said = ran(cli, *command_of_page(2, first), *MORE, "method.eta=1,5", "hydra/launcher=stacked", "-m")
    assert "dataset.labels: 10 labels of training rows, matched by part" in said
    found = {folder: record for folder, record in records(tmp_path / "runs").items() if folder != first}
    assert len(found) == 2
    counts, scrapped = before["counts"], int(ask["quality"].eq("scrap").sum())
    for after in found.values():
        assert after["identity"]["warm_start"] == before["hash"]
        assert after["seconds"]["pretrain"] == 0
        assert after["trainer"]["replicas"] == 2
        assert after["counts"]["labeled_anomalies"] == counts["labeled_anomalies"] + scrapped
        assert after["counts"]["test"] == counts["test"]
        assert {*after["known_anomalies"]} >= {*ask["id"][ask["quality"] == "scrap"]}
        assert after["auroc"] > before["auroc"] - 0.02, (before["auroc"], after["auroc"])

    # A second round asks about other parts.
    second = min(found)
    ran(cli, "score.py", f"run={second}", "input=train", "output=more.csv", "query=10")
    assert not {*pd.read_csv(tmp_path / "more.csv")["id"]} & {*ask["id"]}
