"""The page of a run: written with the run or afterwards, from what the run has kept, and never at its expense."""

import base64
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from own_tables import parts
from planned import settings_of
from stacks import outcomes, together
from studies import composer
from tiny_data import write_odds

from deepsad_pl.commands.report import ReportWords, parsed, report_run
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import part_of
from deepsad_pl.experiment import run_report
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.experiment.show_outcome import show_outcome
from deepsad_pl.sweep.outcomes import finished_before

Experiment = Callable[..., Outcome]
SHORT = ("trainer.max_epochs=2", "report=true")
IMAGES = ("trainer.max_epochs=2", "scenario.gamma_p=0.05", "threshold=conformal")


def page_of(outcome: Outcome) -> str:
    return (outcome.run_dir / "report.html").read_text(encoding="utf-8")


def report_of(outcome: Outcome, **words: str) -> str:
    return report_run(ReportWords(str(outcome.run_dir), **words))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run on the digits, with pollution and a threshold."""
    output_dir = tmp_path_factory.mktemp("trained")
    settings = settings_of(f"output_dir={output_dir}", "logger=none", *IMAGES, "report=true")
    yaml = OmegaConf.to_yaml(OmegaConf.create(settings))
    return run_experiment(make_plan(settings), config=settings, config_yaml=yaml, command="a test")


@pytest.fixture
def images(trained: Outcome, tmp_path: Path) -> Outcome:
    """A copy of its folder, where the same experiment would write."""
    folder = tmp_path / "runs" / Path(*trained.run_dir.parts[-3:])
    shutil.copytree(trained.run_dir, folder)
    return replace(trained, run_dir=folder)


def test_a_run_on_images_writes_its_page(images: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of(images)
    assert len(page) < 500_000
    assert f"{images.record['auroc']:.4f}" in page
    assert len(re.findall('<img class="heat"', page)) == 24
    assert len({base64.b64decode(uri) for uri in re.findall('src="data:image/png;base64,([^"]+)', page)}) == 48
    assert "pollution" in page
    assert "Not on this page" not in page
    assert len(re.findall("epoch [12]: loss", page)) == 4
    show_outcome(images)
    assert "report.html" in capsys.readouterr().out.replace("\n", "")


def test_the_samples_of_a_page_are_the_extreme_ones(images: Outcome) -> None:
    y, score = np.loadtxt(images.run_dir / "scores.csv", delimiter=",", skiprows=1, usecols=(1, 2)).T
    shown = re.findall(r"<strong>([\d.e+-]+)</strong> · ", page_of(images))
    expected = [*np.sort(score[y == 0])[::-1][:8], *np.sort(score[y == 1])[:8]]
    assert shown[:16] == [f"{one:.4g}" for one in expected]


def test_the_command_writes_the_same_page(images: Outcome) -> None:
    files = {path: path.read_bytes() for path in images.run_dir.rglob("*") if path.is_file()}
    page = images.run_dir / "report.html"
    page.unlink()
    assert report_of(images).startswith(f"{page} (")
    after = {path: path.read_bytes() for path in images.run_dir.rglob("*") if path.is_file()}
    assert after == files


def test_a_page_leaves_the_run_as_it_is(experiment: Experiment, images: Outcome, tmp_path: Path) -> None:
    without = experiment(*IMAGES, f"output_dir={tmp_path / 'without'}")
    assert not (without.run_dir / "report.html").exists()
    assert without.run_dir.name == images.run_dir.name
    assert (without.run_dir / "scores.csv").read_bytes() == (images.run_dir / "scores.csv").read_bytes()
    records = [{**one.record, "seconds": None} for one in (without, images)]
    assert records[0] == records[1]


def test_a_run_on_a_table_shows_the_strongest_columns(experiment: Experiment, tmp_path: Path) -> None:
    write_odds(tmp_path, "cardio", rows=200, outliers=50)
    outcome = experiment("dataset=cardio", f"data_dir={tmp_path}", "method=ocsvm_raw", "report=true")
    page = page_of(outcome)
    assert page.count("strongest column</button>") == 3
    assert re.search(r"<td[^>]*>column \d+ \+[\d.e-]+</td>", page)
    assert "<img" not in page
    assert "Loss of" not in page


def test_without_the_data_the_page_has_no_samples(experiment: Experiment, tmp_path: Path) -> None:
    data = write_odds(tmp_path, "cardio", rows=200, outliers=50)
    outcome = experiment("dataset=cardio", f"data_dir={tmp_path}", "method=iforest_raw", "report=true")
    with_samples, content = page_of(outcome), data.read_bytes()
    data.write_bytes(b"damaged")
    assert "without samples: " in report_of(outcome)
    page = page_of(outcome)
    assert "Samples: " in page
    assert "strongest column" not in page
    assert "ROC curve" in page
    data.write_bytes(content)
    assert "without samples" not in report_of(outcome)
    assert page_of(outcome) == with_samples


def test_an_earlier_release_kept_no_losses_and_no_classes(images: Outcome) -> None:
    for path in (images.run_dir / "checkpoints").iterdir():
        path.unlink()
    scores = images.run_dir / "scores.csv"
    lines = [",".join(line.split(",")[:3]) for line in scores.read_text().splitlines()]
    scores.write_text("\n".join(lines) + "\n")
    record = json.loads((images.run_dir / "metrics.json").read_text())
    del record["scores"], record["sha256"]
    (images.run_dir / "metrics.json").write_text(json.dumps(record))
    report_of(images)
    page = page_of(images)
    for told in ("Losses of pretrain: ", "Losses of fit: ", "Classes: "):
        assert told in page
    assert "Loss of" not in page
    assert "AUROC by anomaly class" not in page


def test_losses_in_a_table_replace_those_of_the_checkpoints(experiment: Experiment) -> None:
    outcome = experiment(*SHORT, "logger=csv")
    page = page_of(outcome)
    for path in (outcome.run_dir / "checkpoints").iterdir():
        path.unlink()
    report_of(outcome)
    charts = [re.findall("epoch [12]: loss [^<]+", text) for text in (page, page_of(outcome))]
    assert len(charts[0]) == 4
    assert charts[0] == charts[1]


def test_a_reused_training_has_its_losses(experiment: Experiment) -> None:
    one, other = (experiment(*SHORT, f"method.eta={eta}") for eta in (1, 2))
    assert other.record["reused"].keys() == {"pretrain"}
    kept = [torch.load(run.run_dir / "checkpoints" / "pretrain.ckpt")["losses"] for run in (one, other)]
    assert len(kept[0]) == 2
    assert kept[0] == kept[1]
    assert "Trained by another run and reused" in page_of(other)


def test_a_page_that_fails_leaves_a_finished_run(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr(run_report, "run_page", fail)
    with caplog.at_level(logging.WARNING):
        outcome = experiment(*SHORT)
    (told,) = [record.getMessage() for record in caplog.records if "no page today" in record.getMessage()]
    assert told.endswith(f"python report.py run={outcome.run_dir} writes it")
    assert (outcome.run_dir / "metrics.json").exists()
    assert not (outcome.run_dir / "report.html").exists()
    monkeypatch.undo()
    assert experiment(*SHORT).was_finished
    assert (outcome.run_dir / "report.html").exists()


def test_a_single_run_that_was_killed_while_it_wrote_its_page_writes_it_when_repeated(
    images: Outcome, tmp_path: Path
) -> None:
    page = images.run_dir / "report.html"
    page.unlink()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    prefix = str(part_of(page)["prefix"]).replace(str(os.getpid()), str(ended.pid))
    part = page.with_name(f"{prefix}abcdefgh.part")
    part.write_text("<html>")
    settings = settings_of(f"output_dir={tmp_path / 'runs'}", "logger=none", *IMAGES)
    plan = make_plan(settings)
    assert run_experiment(plan, config=settings, config_yaml="", command="a test").was_finished
    assert not page.exists()
    assert run_experiment(plan, config=settings, config_yaml="", command="a test", single=True).was_finished
    assert page.exists()
    assert not part.exists()


def test_an_outdated_page_is_removed(experiment: Experiment, images: Outcome) -> None:
    experiment(*IMAGES)
    assert (images.run_dir / "report.html").exists()
    again = experiment(*IMAGES, "threshold.alpha=0.2")
    assert again.was_finished
    assert not (images.run_dir / "report.html").exists()
    report_of(images)
    assert "alpha 0.2" in page_of(images)


def test_a_folder_without_a_finished_run_is_an_error(tmp_path: Path, images: Outcome) -> None:
    with pytest.raises(DeepSADError, match="there is no folder"):
        parsed([f"run={tmp_path / 'nowhere'}"])
    with pytest.raises(DeepSADError, match="run is not set"):
        parsed([])
    (images.run_dir / "scores.csv").write_text("damaged")
    with pytest.raises(DeepSADError, match=r"scores\.csv is damaged"):
        report_of(images)
    (images.run_dir / "metrics.json").write_text("{}")
    with pytest.raises(DeepSADError, match=r"has no valid metrics\.json"):
        report_of(images)


def test_the_truth_of_an_own_table_need_not_be_known(experiment: Experiment, tmp_path: Path) -> None:
    parts().drop(columns="truth").to_csv(tmp_path / "parts.csv", index=False)
    labels = ("dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part")
    outcome = experiment("dataset=table", f"dataset.path={tmp_path / 'parts.csv'}", *labels, *SHORT)
    page = page_of(outcome)
    assert outcome.record["threshold"]["kind"] == "conformal"
    assert "The labels came with the data." in page
    assert "Scores by class" in page
    assert re.search(r"<td[^>]*>P\d{5}</td>", page)
    assert re.search(r"<td[^>]*>sensor_\d \+[\d.e-]+</td>", page)


def test_experiments_of_a_sweep_have_pages_on_demand(tmp_path: Path) -> None:
    pages = []
    for report in ("null", "true", "null"):
        cells = [("logger=none", "trainer.max_epochs=2", f"report={report}", f"seed={seed}") for seed in (0, 1, 2)]
        if not pages:
            # The third one is trained with the pages of the others.
            cells.pop()
        found = outcomes(together(tmp_path, *cells))
        pages.append([(one.run_dir / "report.html").exists() for one in found])
        assert [one.was_finished for one in found[:2]] == [len(pages) > 1] * 2
        assert {one.record["trainer"]["replicas"] for one in found[:2]} == {2}
    assert pages == [[False] * 2, [True] * 3, [True] * 3]


def test_a_stacked_sweep_is_launched_for_its_pages(tmp_path: Path) -> None:
    words = ["logger=none", "trainer.max_epochs=1", f"output_dir={tmp_path}"]
    together(tmp_path, words)
    assert finished_before(composer(), [words]) is not None
    assert finished_before(composer(), [[*words, "report=true"]]) is None
    together(tmp_path, [*words, "report=true"])
    assert finished_before(composer(), [[*words, "report=true"]]) is not None
