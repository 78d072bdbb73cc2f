"""Every data set config, from files of its real format to scores, for one epoch."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mvtec_tree import TEST as MVTEC_TEST
from mvtec_tree import write_mvtec
from own_tables import parts
from tiny_data import (
    IMAGES_PER_CLASS,
    expected_of_cifar10,
    write_adbench,
    write_cifar10,
    write_idx,
    write_image_folder,
    write_odds,
)
from torchvision import datasets

from deepsad_pl.commands.main import CONF
from deepsad_pl.data.odds import ODDS_FILES
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment import build
from deepsad_pl.experiment.run import Outcome

CONFIGS = sorted(path.stem for path in (Path(CONF) / "dataset").glob("*.yaml"))
ONE_EPOCH = ("trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1")

Experiment = Callable[..., Outcome]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[list[str], int]]:
    """Write the files of a data set; return the overrides that it needs and the size of its test set."""

    def files(name: str) -> tuple[list[str], int]:
        data_dir = tmp_path / "data"
        overrides = [f"dataset={name}", f"data_dir={data_dir}", *ONE_EPOCH]
        if name == "digits":
            return overrides, 719
        if name == "toy":
            return overrides, 760
        if name in ("mnist", "fmnist"):
            write_idx(data_dir, {"mnist": "MNIST", "fmnist": "FashionMNIST"}[name], train=100, test=40)
            return [*overrides, "scenario.gamma_l=0.2"], 40
        if name == "cifar10":
            for key, value in expected_of_cifar10(write_cifar10(data_dir, test=40)).items():
                monkeypatch.setattr(datasets.CIFAR10, key, value)
            return [*overrides, "scenario.gamma_l=0.2"], 40
        if name == "image_folder":
            write_image_folder(tmp_path / "images")
            image_options = [
                "dataset.image_size=[16,24]",
                "scenario.normal_class=b-side",
                "scenario.anomaly_class=zebra",
            ]
            test = sum(IMAGES_PER_CLASS["test"].values())
            return [*overrides, f"dataset.root={tmp_path / 'images'}", *image_options, "scenario.gamma_l=0.2"], test
        if name in ODDS_FILES:
            write_odds(data_dir, name, rows=60, outliers=20)
            return overrides, 24
        if name == "adbench":
            write_adbench(data_dir, "annthyroid", rows=60, outliers=20)
            return [*overrides, "dataset.table=annthyroid"], 24
        if name == "table":
            parts(60, scrap=2, good=2).to_csv(tmp_path / "parts.csv", index=False)
            columns = ["label=quality", "normal=[ok]", "anomaly=[scrap]", "truth=truth", "id=part"]
            settings = [f"dataset.{column}" for column in (f"path={tmp_path / 'parts.csv'}", *columns)]
            return [*overrides, *settings, "threshold=none"], 24
        if name == "mvtec":
            write_mvtec(tmp_path / "mvtec", "bottle")
            settings = [f"dataset.root={tmp_path / 'mvtec'}", "dataset.category=bottle", "dataset.image_size=16"]
            labeled = ["dataset.labeled_defects=[hole]", "dataset.labeled_images=4", "threshold=none"]
            return [*overrides, *settings, *labeled], sum(MVTEC_TEST.values()) - 4
        pytest.fail(f"conf/dataset/{name}.yaml is new: write its files here")

    return files


def scores_of(outcome: Outcome) -> list[dict[str, str]]:
    with (outcome.run_dir / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_config_for_every_data_set() -> None:
    assert set(CONFIGS) >= {"digits", "mnist", "fmnist", "cifar10", "toy", "image_folder", "adbench", *ODDS_FILES}


@pytest.mark.parametrize("name", CONFIGS)
def test_one_epoch_runs_on_every_data_set(
    name: str, write: Callable[[str], tuple[list[str], int]], experiment: Experiment
) -> None:
    overrides, test = write(name)
    outcome = experiment(*overrides)
    record = json.loads((outcome.run_dir / "metrics.json").read_text())
    assert 0 <= record["auroc"] <= 1
    assert 0 <= record["average_precision"] <= 1
    assert record["dataset"] == {"adbench": "adbench-annthyroid", "mvtec": "mvtec-bottle"}.get(name, name)
    assert record["counts"]["labeled_anomalies"] > 0
    assert record["counts"]["test"] == test
    rows = scores_of(outcome)
    assert sorted(int(row["index"]) for row in rows) == list(range(test))
    assert sum(int(row["y"]) for row in rows) == record["counts"]["test_anomalous"]
    assert np.isfinite([float(row["score"]) for row in rows]).all()


@pytest.mark.parametrize("name", ["digits", "thyroid"])
def test_the_autoencoder_sees_no_labeled_anomalies(
    name: str, write: Callable[[str], tuple[list[str], int]], experiment: Experiment
) -> None:
    overrides, test = write(name)
    outcome = experiment(*overrides, "method=autoencoder")
    assert outcome.record["counts"]["labeled_anomalies"] == 0
    assert len(scores_of(outcome)) == test


def test_images_may_have_one_channel(write: Callable[[str], tuple[list[str], int]], experiment: Experiment) -> None:
    overrides, test = write("image_folder")
    assert len(scores_of(experiment(*overrides, "dataset.channels=1"))) == test


def test_tables_may_be_scaled_by_minmax(write: Callable[[str], tuple[list[str], int]], experiment: Experiment) -> None:
    overrides, test = write("cardio")
    assert len(scores_of(experiment(*overrides, "dataset.scaling=minmax", "pretrain.loss=cross_entropy"))) == test


def test_ground_truth_influences_nothing_but_evaluation(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scrambled(build.AnomalyDataModule):
        def __init__(self, source: Source, *args: Any, **kwargs: Any) -> None:
            super().__init__(source, *args, **kwargs)
            self._y, self._test_y = 1 - self._y, 1 - self._test_y

    options = ("dataset=digits", "scenario.gamma_p=0.1", "scenario.gamma_n=0.1", *ONE_EPOCH)
    honest = experiment(*options)
    scores = [row["score"] for row in scores_of(honest)]
    monkeypatch.setattr(build, "AnomalyDataModule", Scrambled)
    lying = experiment(*options, "force=true")
    assert [row["score"] for row in scores_of(lying)] == scores
    assert lying.record["auroc"] == pytest.approx(1 - honest.record["auroc"])


@pytest.mark.parametrize("name", ["mnist", "fmnist", *ODDS_FILES])
def test_one_epoch_runs_on_the_real_data(name: str, real_data: Path, experiment: Experiment) -> None:
    record = experiment(f"dataset={name}", f"data_dir={real_data}", "scenario.gamma_l=0.01", *ONE_EPOCH).record
    assert 0.3 < record["auroc"] <= 1
    normals = record["counts"]["unlabeled_normals"]
    assert record["counts"]["labeled_anomalies"] == normals // 99  # .01 / (1 - .01) of them
    if name in ODDS_FILES:
        expected = ODDS_FILES[name].rows - round(0.6 * ODDS_FILES[name].rows)
        assert abs(record["counts"]["test"] - expected) <= 1
    else:
        assert record["counts"]["test"] == 10_000
