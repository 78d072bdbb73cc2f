"""The tutorials run from top to bottom: their Python blocks and their commands, in turn, with few epochs."""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from processes import ROOT, run_script

TUTORIALS = ROOT / "docs" / "tutorials"
FEW = {
    "train.py": ("trainer.max_epochs=2", "trainer.threads=1", "logger=none"),
    "sweep.py": ("trainer.max_epochs=2", "trainer.threads=1", "logger=none"),
    "score.py": (),
}


def run_command(line: str, folder: Path, variables: dict[str, str], env: Mapping[str, str]) -> None:
    """Run a line of a tutorial: a setting of a variable, or a command of ours, which may mention the variables."""
    if match := re.fullmatch(r"export (\w+)=(\S+)", line):
        variables[match[1]] = ":".join(str(ROOT / part) for part in match[2].split(":"))
        return
    if match := re.fullmatch(r"(\w+)=\$\(ls -d(t?) (\S+)( \| head -1)?\)", line):
        found = sorted(folder.glob(match[3]), key=lambda path: path.stat().st_mtime)
        assert found and (match[2] or len(found) == 1), line
        variables[match[1]] = str(found[-1].relative_to(folder))
        return
    python, script, *words = shlex.split(line)
    assert python == "python" and script in FEW, line
    words = [re.sub(r"\$(\w+)", lambda name: variables[name[1]], word) for word in words]
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
    slurm = ["dry_run=true"] if "hydra/launcher=slurm" in words else []
    done = run_script(script, *words, *FEW[script], *slurm, cwd=folder, env={**env, **variables})
    assert done.returncode == 0, line + done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_table", "own_images", "own_method", "cluster", "paper"])
def test_a_tutorial_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|bash)\n(.*?)```", page, re.DOTALL)
    assert blocks
    namespace: dict[str, Any] = {}
    variables: dict[str, str] = {}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, name, "exec"), namespace)
        else:
            for line in text.splitlines():
                run_command(line, tmp_path, variables, os.environ)
    LEFT[name](tmp_path, namespace)


def left_by_own_table(folder: Path, namespace: Mapping[str, Any]) -> None:
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores) == 1000 and set(scores["anomaly"]) == {0, 1}
    assert scores["anomaly"].eq(1).sum() >= pd.read_csv(folder / "strict.csv")["anomaly"].eq(1).sum()
    assert len(pd.read_csv(folder / "ask.csv")["quality"].dropna()) == 10
    assert pd.read_csv(folder / "why.csv")["reason_1"].notna().all()
    assert len(pd.read_csv(folder / "again.csv")) == 1000


def left_by_own_images(folder: Path, namespace: Mapping[str, Any]) -> None:
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores) == 9 and all(Path(path).exists() for path in scores["heat_map"])


def left_by_own_method(folder: Path, namespace: Mapping[str, Any]) -> None:
    runs = folder / "runs"
    assert {"robust_sad", "deviation", "deep_sad"} <= {path.name for path in (runs / "digits").iterdir()}
    assert "Robust SAD" in (runs / "studies" / "pollution" / "table.md").read_text(encoding="utf-8")


def left_by_cluster(folder: Path, namespace: Mapping[str, Any]) -> None:
    assert (folder / "runs" / "studies" / "pollution" / "table.md").exists()
    assert len([*(folder / "runs" / "digits" / "deep_sad").iterdir()]) == 10


def left_by_paper(folder: Path, namespace: Mapping[str, Any]) -> None:
    study = folder / "runs" / "studies" / "labeled_anomalies"
    assert all((study / name).exists() for name in ("table.md", "known_novel.md", "figure.svg", "table.tex"))
    assert set(pd.read_csv(study / "results.csv")["column"]) >= {"deep_sad", "classifier", "knn_ratio_raw"}


LEFT: Mapping[str, Callable[[Path, Mapping[str, Any]], None]] = {
    "own_table": left_by_own_table,
    "own_images": left_by_own_images,
    "own_method": left_by_own_method,
    "cluster": left_by_cluster,
    "paper": left_by_paper,
}


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(TUTORIALS / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "ipywidgets" not in str(notebook)
    auroc = re.search(r"AUROC (\d\.\d+)", shown)
    assert auroc is not None and float(auroc[1]) > 0.8
    assert len([*(tmp_path / "runs" / "digits").iterdir()]) == 5


def test_the_notebook_is_stored_with_its_outputs() -> None:
    notebook = nbformat.read(TUTORIALS / "quickstart.ipynb", as_version=4)
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in str(output)]
    assert len(pictures) == 2
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
