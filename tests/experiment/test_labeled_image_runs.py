"""Image folders with given labels, from the command line to scores, and new images scored by the trained detector."""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_labels import PARTS, write_labeled
from planned import EACH_METHOD
from rich.console import Console
from stacks import alone, outcomes, together

import deepsad_pl
from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.common.metrics import auroc
from deepsad_pl.common.records import read_record
from deepsad_pl.data.labeled_images import list_labeled

CLI = Callable[..., subprocess.CompletedProcess[str]]
WORDS = ("dataset=image_folder", "dataset.image_size=16", "dataset.channels=1", "scenario=given", "logger=none")
WORDS = (*WORDS, "dataset.network.filters=[4,8]", "dataset.network.dense=[8]", "dataset.root=photos")


def scores_of(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / "scores.csv", keep_default_na=False).set_index("id")


def test_a_detector_from_labeled_folders_scores_new_images(cli: CLI, tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "photos")
    done = cli("train.py", *WORDS, "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "130 training samples: 112 unlabeled, 10 known normal, 8 known anomalies" in told
    assert "30 samples are kept out of training to calibrate the threshold" in told
    assert "test samples 31: 20 normal, 6 anomalous, 5 without truth" in told
    (run_dir,) = (tmp_path / "runs" / "image_folder" / "deep_sad").glob("given-seed_0-*")
    scores = scores_of(run_dir)
    assert scores.index.tolist() == list_labeled(root).names_of("test")
    known = scores[scores["y"] != ""]
    assert scores.loc[scores["y"] == ""].index.tolist() == [f"test/00{i}.png" for i in range(5)]
    record = read_record(run_dir, run_dir.name.rpartition("-")[2])
    assert record is not None
    assert record["auroc"] == pytest.approx(auroc(known["score"].to_numpy(), known["y"].astype(int).to_numpy()))
    # A bright square is easy to find: 1.0 was measured.
    assert record["auroc"] > 0.9
    again = cli("train.py", *WORDS, "trainer.max_epochs=3")
    assert "this run had already finished" in again.stdout

    for where, part in (("photos/test", "test"), ("train", "train")):
        done = cli("score.py", f"run={run_dir}", f"input={where}", "output=out.csv")
        assert done.returncode == 0, done.stderr
        found = pd.read_csv(tmp_path / "out.csv").set_index("path")
        names = list_labeled(root).names_of(part)
        assert sorted(found.index) == sorted(f"photos/{name}" for name in names)
        if part == "test":
            expected = scores["score"][[path.removeprefix("photos/") for path in found.index]]
            assert found["score"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)
        else:
            assert found.index.tolist() == [f"photos/{name}" for name in names]
            assert found["anomaly"].sum() >= 8

    write_labeled(tmp_path / "new", {"june": {"": 10, "anomaly": 4}}, seed=1)
    detector = deepsad_pl.load(run_dir)
    paths = sorted((tmp_path / "new" / "june").glob("*.png"))
    assert detector.score(paths).shape == (10,)
    assert detector.score(tmp_path / "new" / "june" / "anomaly").min() > detector.score(paths).max()
    # A training image gets the same score by its path.
    by_path = detector.score([tmp_path / path for path in found.index])
    assert by_path == pytest.approx(found["score"].to_numpy(), rel=1e-5)


def test_without_a_test_part_the_run_ends_with_scores_of_the_training_images(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "photos", {"train": PARTS["train"]})
    words = (*WORDS[:-1], f"dataset.root={root}", f"data_dir={tmp_path / 'data'}", "trainer.max_epochs=1")
    outcome = alone(tmp_path / "runs", *words)
    assert outcome.record["auroc"] is None and outcome.record["average_precision"] is None
    scores = scores_of(outcome.run_dir)
    assert scores.index.tolist() == list_labeled(root).names_of("train")
    assert set(scores["y"]) == {""}
    assert alone(tmp_path / "runs", *words).was_finished


def test_an_undecodable_file_name_is_written_with_escapes(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "photos", {"train": {"": 30}})
    (root / "train" / "000.png").rename(root / "train" / os.fsdecode(b"caf\xe9.png"))
    words = (*WORDS[:-1], f"dataset.root={root}", f"data_dir={tmp_path / 'data'}", "trainer.max_epochs=1")
    outcome = alone(tmp_path / "runs", *words, "threshold=none")
    assert scores_of(outcome.run_dir).index[-1] == "train/caf\\udce9.png"
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        out = tmp_path / name
        score_new(parsed([f"run={outcome.run_dir}", f"input={root}", f"output={out}"]), Console(stderr=True))
        read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(out.suffix, partial(pd.read_json, lines=True))
        assert str(root / "train" / "caf\\udce9.png") in read(out)["path"].tolist()


@pytest.mark.parametrize("method", EACH_METHOD)
def test_every_method_learns_from_labeled_folders(method: str, tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "photos", {"train": {"": 60, "normal": 6, "anomaly": 6}, "test": PARTS["test"]})
    words = (*WORDS[:-1], f"dataset.root={root}", f"data_dir={tmp_path / 'data'}", "trainer.max_epochs=1")
    outcome = alone(tmp_path / "runs", *words, f"method={method}", "threshold.alpha=0.2")
    scores = scores_of(outcome.run_dir)
    found = deepsad_pl.load(outcome.run_dir).score([root / name for name in scores.index])
    assert found == pytest.approx(scores["score"].to_numpy(), rel=1e-5)


def test_a_stack_gives_the_scores_of_single_runs(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "photos")
    words = (*WORDS[:-1], f"dataset.root={root}", f"data_dir={tmp_path / 'data'}", "trainer.max_epochs=2")
    rows = [(*words, f"seed={seed}") for seed in range(2)]
    found = outcomes(together(tmp_path / "stacked", *rows))
    for row, outcome in zip(rows, found, strict=True):
        expected = scores_of(alone(tmp_path / "alone", *row).run_dir)["score"]
        assert scores_of(outcome.run_dir)["score"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-3)


@pytest.mark.slow
def test_a_study_varies_methods_and_seeds(cli: CLI, tmp_path: Path) -> None:
    write_labeled(tmp_path / "photos")
    words = (*WORDS, "method=deep_sad,iforest_raw", "seed=0,1", "trainer.max_epochs=1")
    done = cli("sweep.py", "study=classic", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    results = pd.read_csv(tmp_path / "runs" / "studies" / "classic" / "results.csv")
    assert sorted(results["seed"]) == [0, 0, 1, 1]
    assert set(results["normal_class"]) == {"given"}
    assert results["auroc"].between(0, 1).all()


def write_digits(root: Path, part: str, images: np.ndarray) -> None:
    from PIL import Image

    (root / part).mkdir(parents=True)
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(root / part / f"{i:05}.png")


@pytest.mark.slow
def test_eights_work_as_a_folder_of_images(cli: CLI, real_data: Path, tmp_path: Path) -> None:
    from deepsad_pl.data.sources import torchvision_source

    source = torchvision_source("mnist", real_data)
    train, test = source.x_train[:, 0], source.x_test[:, 0]
    eights, others = train[source.labels_train == 8], train[source.labels_train == 3]
    fresh = test[source.labels_test == 8]
    root = tmp_path / "photos"
    write_digits(root, "train", eights[:1500])
    write_digits(root, "train/anomaly", others[:200])
    write_digits(root, "test/normal", fresh[:400])
    write_digits(root, "test/anomaly", test[source.labels_test == 3][:200])
    write_digits(root, "test/new", test[source.labels_test == 0][:200])
    words = ("dataset=image_folder", "dataset.root=photos", "dataset.image_size=28", "dataset.channels=1")
    network = ("dataset.network.filters=[8,4]", "dataset.network.dense=[32]", "scenario=given", "logger=none")
    schedule = ("dataset.lr=[1e-3,1e-4]", "dataset.epochs=[10,5]", "trainer.threads=1")
    done = cli("train.py", *words, *network, *schedule)
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs" / "image_folder" / "deep_sad").glob("given-seed_0-*")
    record = read_record(run_dir, run_dir.name.rpartition("-")[2])
    assert record is not None
    # .913 was measured, on threes, which are labeled, and zeros, which are only in the test part.
    assert record["auroc"] > 0.8
    assert record["counts"]["labeled_anomalies"] == 200 and record["counts"]["calibration"] == 300

    new = tmp_path / "new"
    write_digits(new, "eights", np.concatenate([fresh[400:], eights[1500:3000]]))
    write_digits(new, "seen", fresh[:400])
    done = cli("score.py", f"run={run_dir}", "input=new", "output=out.csv")
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "out.csv")
    seen = found[found["path"].str.startswith("new/seen")]["score"].to_numpy()
    scores = scores_of(run_dir)
    own = scores[scores.index.str.startswith("test/normal/")]["score"].to_numpy()
    assert seen == pytest.approx(own, rel=1e-5)
    alarms = found[found["path"].str.startswith("new/eights")]["anomaly"].mean()
    # .025 was measured. The mean over draws of the calibration samples is alpha = .05; with 300 samples, the standard
    # deviation is .0125.
    assert 0.005 < alarms < 0.1
