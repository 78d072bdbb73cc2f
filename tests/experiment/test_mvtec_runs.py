"""Experiments on MVTec AD's layout: identities, a sweep over categories, new images scored by the finished run."""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mvtec_tree import TEST, TRAIN, write_mvtec
from planned import plan_of, problems_of, slow_but
from rich.console import Console

import deepsad_pl
from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.experiment.plan import Plan

CLI = Callable[..., subprocess.CompletedProcess[str]]
QUICK = ("dataset.image_size=16", "threshold.alpha=0.1", "trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1")
LABELED = ("dataset.labeled_defects=[hole]", "dataset.labeled_images=4")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mvtec(tmp_path / "mvtec", "bottle", "grid")


@pytest.fixture
def planned(root: Path) -> Callable[..., Plan]:
    def plan(*overrides: str, where: Path = root) -> Plan:
        chosen = () if any(word.startswith("dataset.category=") for word in overrides) else ("dataset.category=bottle",)
        return plan_of(
            "dataset=mvtec", f"dataset.root={where}", f"data_dir={root.parent / 'data'}", *chosen, *overrides
        )

    return plan


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_labels_and_threshold_are_those_of_given_data(planned: Callable[..., Plan]) -> None:
    plan = planned()
    assert plan.identity["scenario"] == {"given": True, "seed": 0}
    assert plan.identity["threshold"] == {"kind": "conformal", "share": 0.2}
    assert planned("method=ocsvm_raw", "pretrain=none").method.arguments["selection"] == "holdout"
    assert plan.run_dir.parts[-3:-1] == ("mvtec-bottle", "deep_sad")
    assert planned("dataset.category=grid").run_dir.parts[-3] == "mvtec-grid"


def test_the_identity_depends_on_contents_and_draw_not_on_the_path(
    planned: Callable[..., Plan], root: Path, tmp_path: Path
) -> None:
    def identity(*overrides: str, where: Path = root) -> str:
        return planned(*overrides, where=where).run_dir.name

    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    assert identity() == identity(where=elsewhere) == identity("dataset.labeled_images=3")
    both = ("dataset.labeled_defects=[hole,scratch]", "dataset.labeled_images=4")
    assert identity(*both) == identity("dataset.labeled_defects=[scratch,hole]", both[1])
    others = [
        identity(),
        identity(*LABELED),
        identity(*both),
        identity(*LABELED, "dataset.labeled_images=5"),
        identity("dataset.image_size=32"),
        identity("dataset.channels=1"),
        identity("seed=1"),
    ]
    assert len({*others}) == len(others)
    shutil.rmtree(elsewhere / "bottle" / "ground_truth")
    assert identity(where=elsewhere) == identity()
    (elsewhere / "bottle" / "test" / "hole" / "000.png").unlink()
    assert identity(where=elsewhere) != identity()


def test_categories_of_equal_images_have_different_runs(planned: Callable[..., Plan], root: Path) -> None:
    shutil.rmtree(root / "grid")
    shutil.copytree(root / "bottle", root / "grid")
    one, other = planned(), planned("dataset.category=grid", "dataset.name=mvtec-bottle")
    assert one.identity["dataset"]["files"] == other.identity["dataset"]["files"]
    assert one.run_dir != other.run_dir


def test_a_scenario_that_draws_is_refused_with_the_way_out(root: Path, experiment: Callable[..., Any]) -> None:
    words = ("dataset=mvtec", f"dataset.root={root}", "dataset.category=bottle")
    (problem,) = problems_of(*words, "scenario=default")
    assert problem.startswith("dataset=mvtec has only good images in its training part")
    way_out = problem.partition("use scenario=given, or ")[2].split()
    assert way_out[0] == "dataset=image_folder"
    record = experiment(*way_out, *QUICK[:1], *QUICK[2:], f"data_dir={root.parent / 'data'}").record
    assert record["counts"]["test"] == sum(TEST.values())


def test_all_problems_are_reported_at_once(root: Path) -> None:
    found = problems_of("dataset=mvtec", f"dataset.root={root}", "dataset.category=bottel", "method.eta=-1")
    assert [problem.partition(" ")[0] for problem in found] == ["dataset.category", "method.eta"]
    found = problems_of("dataset=mvtec", f"dataset.root={root}", "dataset.category=bottle", "dataset.labeled_images=0")
    assert found == ["dataset.labeled_images is 0; it must be a whole number from 1 to 1,000,000"]


def test_a_sweep_over_categories_scores_new_images(
    cli: CLI, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("dataset=mvtec", "dataset.root=mvtec", *LABELED, *QUICK, "logger=none")
    done = cli("train.py", "-m", *words, "dataset.category=bottle,grid")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "52 training samples: 48 unlabeled, 4 known anomalies" in " ".join(done.stdout.split())
    run_dirs = {
        category: next((tmp_path / "runs" / f"mvtec-{category}").glob("*/*")) for category in ("bottle", "grid")
    }
    for run_dir in run_dirs.values():
        record = json.loads((run_dir / "metrics.json").read_text())
        assert record["dataset"] == run_dir.parts[-3]
        drawn = record["known_anomalies"]
        assert [name.rpartition("/")[0] for name in drawn] == ["test/hole"] * 4
        tested = rows(run_dir / "scores.csv")
        assert {row["id"] for row in tested}.isdisjoint(drawn)
        assert [row["y"] for row in tested] == [str(int("/good/" not in row["id"])) for row in tested]
        assert len(tested) == record["counts"]["test"] == sum(TEST.values()) - 4
        assert record["counts"]["labeled_anomalies"] == 4

    run_dir = run_dirs["bottle"]
    done = cli("score.py", f"run={run_dir}", "input=mvtec/bottle/test", "output=new.csv")
    assert done.returncode == 0, done.stderr
    new = {row["path"].removeprefix("mvtec/bottle/"): float(row["score"]) for row in rows(tmp_path / "new.csv")}
    tested = rows(run_dir / "scores.csv")
    assert len(new) == sum(TEST.values())
    assert [new[row["id"]] for row in tested] == pytest.approx([float(row["score"]) for row in tested], rel=1e-5)

    score_new(parsed([f"run={run_dir}", "input=train", "output=train.csv"]), Console(stderr=True))
    trained = rows(tmp_path / "train.csv")
    paths = [row["path"] for row in trained]
    assert len(paths) == TRAIN + 4
    drawn = json.loads((run_dir / "metrics.json").read_text())["known_anomalies"]
    assert paths[-4:] == [f"mvtec/bottle/{name}" for name in drawn]
    assert [float(row["score"]) for row in trained[-4:]] == pytest.approx([new[name] for name in drawn], rel=1e-5)

    detector = deepsad_pl.load(run_dir)
    found = detector.score([root / "bottle" / row["id"] for row in tested])
    assert found == pytest.approx([float(row["score"]) for row in tested], rel=1e-5)


@pytest.mark.parametrize("method", slow_but(("iforest_raw",), ("autoencoder", "ssad_hybrid", "iforest_raw")))
def test_other_methods_have_the_same_test_set(method: str, root: Path, tmp_path: Path) -> None:
    words = ["dataset.category=bottle", f"dataset.root={root}", *LABELED, *QUICK]
    where = {"output_dir": tmp_path / "runs", "data_dir": tmp_path / "data", "logger": "none"}
    result = deepsad_pl.run(method, "mvtec", words, **where)
    assert len(result.scores) == sum(TEST.values()) - 4
    assert len(result.record["known_anomalies"]) == 4
    assert np.isfinite(result.scores).all()


def test_a_stack_draws_by_the_seed_of_each_run(cli: CLI, root: Path, tmp_path: Path) -> None:
    words = ("-m", "hydra/launcher=stacked", "dataset=mvtec", "dataset.root=mvtec", "dataset.category=bottle")
    done = cli("train.py", *words, *LABELED, *QUICK, "logger=none", "seed=0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    drawn = [json.loads(path.read_text())["known_anomalies"] for path in (tmp_path / "runs").glob("*/*/*/metrics.json")]
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]
