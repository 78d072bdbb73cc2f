"""Explanations of scores: complete, by the table's columns, with the planted cause ranked first."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_tables import parts
from planned import EACH_METHOD, is_shallow, slow_but
from sklearn.datasets import load_digits

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.sources import split_rows
from deepsad_pl.experiment.run import Outcome

Experiment = Callable[..., Outcome]
# At most one case in twenty may rank another cause first.
CASES, FIRST = 100, 95


def own_run(folder: Path, method: str, *words: str) -> Path:
    parts().drop(columns="truth").to_csv(folder / "parts.csv", index=False)
    labels = ["dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part"]
    settings = [f"dataset.path={folder / 'parts.csv'}", *labels, "logger=none", *words]
    return deepsad_pl.run(method, "table", settings, output_dir=folder / "runs", data_dir=folder).run_dir


@pytest.mark.parametrize("method", EACH_METHOD)
def test_columns_of_a_table_have_contributions(method: str, tmp_path: Path) -> None:
    detector = deepsad_pl.load(own_run(tmp_path, method, "trainer.max_epochs=2"))
    table = parts(30, scrap=1, good=1, seed=3)
    table.loc[:3, "machine"] = "new"
    found = detector.explain(table)
    assert isinstance(found, pd.DataFrame)
    assert list(found) == ["sensor_0", "sensor_1", "sensor_2", "sensor_3", "machine", "checked"]
    assert np.isfinite(found.to_numpy()).all()
    if not is_shallow(method):
        difference = detector.score(table) - detector.baseline_score
        assert found.sum(axis=1).to_numpy() == pytest.approx(difference, rel=1e-5, abs=1e-6)
    assert detector.explain(table[::-1])[::-1].to_numpy() == pytest.approx(found.to_numpy(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["deep_sad", "autoencoder", "ssad_raw"])
def test_a_planted_column_ranks_first(method: str, tmp_path: Path) -> None:
    detector = deepsad_pl.load(own_run(tmp_path, method))
    rng = np.random.default_rng(5)
    columns = [f"sensor_{place}" for place in range(4)]
    table = parts(2 * CASES, scrap=1, good=1, seed=7)
    table = table[table["truth"] == "ok"].head(CASES).reset_index(drop=True)
    planted = rng.integers(0, 4, CASES)
    values = table[columns].fillna(0).to_numpy(copy=True)
    values[np.arange(CASES), planted] = 8 * rng.choice([-1, 1], CASES)
    table[columns] = values
    found = detector.explain(table)
    assert isinstance(found, pd.DataFrame)
    assert (found.idxmax(axis=1) == [columns[place] for place in planted]).sum() >= FIRST


@pytest.mark.parametrize("method", slow_but(("deep_sad",), ("deep_sad", "autoencoder", "ssad_raw")))
def test_a_planted_patch_ranks_first(experiment: Experiment, method: str) -> None:
    detector = deepsad_pl.load(experiment(f"method={method}", "scenario.gamma_l=0.05").run_dir)
    data, rng = load_digits(), np.random.default_rng(0)
    test = split_rows(data.target, 0)[1]
    images = data.images.astype(np.uint8)[test][data.target[test] == 0]
    images = images[rng.choice(len(images), CASES)]
    planted = rng.integers(0, 16, CASES)
    for image, place in zip(images, planted, strict=True):
        top, left = 2 * (place // 4), 2 * (place % 4)
        image[top : top + 2, left : left + 2] = 16 - image[top : top + 2, left : left + 2]
    found = np.asarray(detector.explain(images))
    assert found.shape == (CASES, 8, 8)
    patches = found.reshape(CASES, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(CASES, 16)
    assert (patches.argmax(axis=1) == planted).sum() >= FIRST


def test_references_are_training_rows_without_labeled_anomalies(tmp_path: Path) -> None:
    run_dir = own_run(tmp_path, "deep_sad", "trainer.max_epochs=1", "threshold=none")
    table = pd.read_csv(tmp_path / "parts.csv")
    detector = deepsad_pl.load(run_dir)
    scores = detector.score(table[table["quality"] != "scrap"])
    references = np.load(run_dir / "detector" / "references.npz")["x"]
    assert len(references) == 32 and references.dtype == np.float32
    assert detector.module is not None
    import torch

    of_references = detector.module.score(torch.from_numpy(references)).double().numpy()
    assert of_references.mean() == pytest.approx(detector.baseline_score)
    for score in of_references:
        assert np.abs(scores - score).min() < 1e-5
    again = deepsad_pl.load(own_run(tmp_path, "deep_sad", "trainer.max_epochs=1", "threshold=none", "force=true"))
    assert np.array_equal(np.load(run_dir / "detector" / "references.npz")["x"], references)
    assert again.baseline_score == detector.baseline_score


def test_a_detector_of_an_earlier_release_says_how_to_get_references(tmp_path: Path) -> None:
    run_dir = own_run(tmp_path, "deep_sad", "trainer.max_epochs=1")
    path = run_dir / "detector" / "detector.json"
    content = json.loads(path.read_text())
    del content["files"]["references.npz"]
    path.write_text(json.dumps(content))
    (run_dir / "detector" / "references.npz").unlink()
    detector = deepsad_pl.load(run_dir)
    assert np.isfinite(detector.score(parts())).all()
    with pytest.raises(DeepSADError, match="from a release without explanations; remove the run's folder detector"):
        detector.explain(parts())
    for file in (run_dir / "detector").iterdir():
        if file.name != "calibration.npz":
            file.unlink()
    assert deepsad_pl.load(run_dir).explain(parts()).shape == (400, 6)


def test_a_row_that_cannot_be_scored_is_named(tmp_path: Path) -> None:
    detector = deepsad_pl.load(own_run(tmp_path, "deep_sad", "trainer.max_epochs=1"))
    table = parts(30, scrap=1, good=1).astype({"sensor_0": object})
    table.loc[3, "sensor_0"] = "oops"
    with pytest.raises(DeepSADError, match="row 3: column 'sensor_0' holds 'oops', which is not a number"):
        detector.explain(table)
