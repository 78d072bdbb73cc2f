"""A trained detector: the input that it takes and refuses, its threshold and its folder."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from stacks import alone
from tiny_data import write_odds

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_scores
from deepsad_pl.data.odds import read_table
from deepsad_pl.data.sources import split_rows
from deepsad_pl.detector.detector_folder import FACTS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a shallow method on a table, with its data file beside the runs."""
    where = tmp_path_factory.mktemp("table")
    write_odds(where, "thyroid", rows=200, outliers=50)
    words = ("dataset=thyroid", f"data_dir={where}", "method=iforest_raw", "logger=none")
    return alone(where / "runs", *words).run_dir


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run folder."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))


@pytest.fixture(scope="module")
def rows(trained: Path) -> np.ndarray:
    return read_table(trained.parents[3] / "odds" / "thyroid.npz")[0]


def test_an_array_a_frame_and_a_file_get_the_same_scores(run_dir: Path, rows: np.ndarray, tmp_path: Path) -> None:
    detector = deepsad_pl.load(run_dir)
    frame = pd.DataFrame(rows, columns=[*"abcdef"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    expected = detector.score(rows)
    assert np.array_equal(detector.score(frame), expected)
    assert np.array_equal(detector.score(rows.tolist()), expected)
    assert detector.score(tmp_path / "new.csv") == pytest.approx(expected, rel=1e-9)
    assert detector.score(rows[:0]).shape == (0,)


def test_a_sample_gets_the_same_score_alone_and_beside_others(tmp_path: Path) -> None:
    detector = deepsad_pl.load(alone(tmp_path, "trainer.max_epochs=1", "logger=none").run_dir)
    x = load_digits().images[:50].astype(np.uint8)
    alone_each = [float(detector.score(one[None])[0]) for one in x]
    assert alone_each == pytest.approx(detector.score(x), rel=1e-4)
    assert np.array_equal(detector.to("cpu").score(x[:, None]), detector.score(x))


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.zeros((3, 5)), r"the shape \(3, 5\) .* rows of 6 numbers"),
        (np.zeros(6), r"the shape \(6,\)"),
        (np.full((2, 6), np.nan), "sample 0: column 0 is empty"),
        (np.array([[0, 0, 0, 0, 0, np.inf]]), "sample 0: column 5 holds inf"),
        (np.array([[1e300] * 6]), r"sample 0: column 0 holds 1e\+300, too far from the training rows"),
        (pd.DataFrame({"a": [1]}), r"has 1 column \(a\), but the detector scores rows of 6 numbers"),
        (
            pd.DataFrame([[*"12345", "six"]], columns=[*"abcdef"]),
            "row 0: column 'f' holds 'six', which is not a",
        ),
    ],
)
def test_input_that_cannot_be_scored_is_refused(trained: Path, x: object, told: str) -> None:
    with pytest.raises(DeepSADError, match=told):
        deepsad_pl.load(trained).score(x)  # type: ignore[arg-type]


def test_pixels_must_be_whole_numbers(tmp_path: Path) -> None:
    detector = deepsad_pl.load(alone(tmp_path, "method=iforest_raw", "logger=none").run_dir)
    with pytest.raises(DeepSADError, match="pixels must be whole numbers from 0 to 16"):
        detector.score(np.zeros((2, 8, 8)))
    with pytest.raises(DeepSADError, match="type bool, but pixels must be whole numbers from 0 to 16"):
        detector.score(np.zeros((2, 8, 8), bool))
    with pytest.raises(DeepSADError, match="values from 0 to 255, but pixels must be whole numbers from 0 to 16"):
        detector.score(np.array([[[0] * 8] * 7 + [[255] * 8]]))


def test_without_a_threshold_there_are_only_scores(trained: Path, rows: np.ndarray) -> None:
    detector = deepsad_pl.load(trained)
    for ask in (detector.p_value, detector.predict):
        with pytest.raises(DeepSADError, match="no threshold"):
            ask(rows)
    with pytest.raises(DeepSADError, match="no threshold"):
        detector.with_alpha(0.1)


def test_calibration_scores_give_p_values_and_predictions(run_dir: Path, rows: np.ndarray) -> None:
    scores = deepsad_pl.load(run_dir).score(rows)
    calibration, y = np.append(scores[:99], 9.0), np.append(np.zeros(99, int), -1)
    np.savez(run_dir / "detector" / "calibration.npz", score=calibration, y=y)
    detector = deepsad_pl.load(run_dir)
    # p-values leave out the known anomaly, which is not normal.
    expected = np.array([(1 + (scores[:99] >= s).sum()) / 100 for s in scores])
    assert detector.p_value(rows) == pytest.approx(expected)
    assert np.array_equal(detector.predict(rows), np.where(expected <= 0.05, -1, 1))
    assert np.array_equal(detector.with_alpha(0.2).predict(rows), np.where(expected <= 0.2, -1, 1))
    told = "the run's 99 calibration samples the smallest possible is 0.01; give threshold.alpha=0.01 or more, or train"
    with pytest.raises(DeepSADError, match=re.escape(f"threshold.alpha is 0.001, but with {told} again with a larger")):
        detector.with_alpha(0.001)
    for alpha in (0.0, 1.0, 7):
        with pytest.raises(DeepSADError, match="give a rate between 0 and 1"):
            detector.with_alpha(alpha)
    assert detector.threshold.alpha == 0.2
    assert detector.with_alpha(0.01).threshold_value() == scores[:99].max()


def test_a_missing_device_is_refused(tmp_path: Path) -> None:
    detector = deepsad_pl.load(alone(tmp_path, "trainer.max_epochs=1", "pretrain=none", "logger=none").run_dir)
    for device in ("nowhere", "cuda:99"):
        with pytest.raises(DeepSADError, match=f"cannot be moved to the device {device}"):
            detector.to(device)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_damaged_detector_is_refused_with_one_sentence(run_dir: Path) -> None:
    folder = run_dir / "detector"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(told: str) -> None:
        with pytest.raises(DeepSADError, match=told) as caught:
            deepsad_pl.load(run_dir)
        assert "so that it is made again" in str(caught.value)
        for name, content in whole.items():
            (folder / name).write_bytes(content)

    (folder / "model.npz").write_bytes(whole["model.npz"][:-1])
    refused("the SHA-256 of model.npz differs")
    (folder / "model.npz").unlink()
    refused("no file model.npz")
    (folder / FACTS).write_bytes(whole[FACTS][:100])
    refused("damaged")
    change(folder / FACTS, format=99)
    refused("its format is 99, but this release reads 1")
    change(folder / FACTS, inputs={"shape": [6]})
    refused("lacks 'preparation'")
    change(folder / FACTS, inputs={**json.loads(whole[FACTS])["inputs"], "preparation": {"kind": "other.Kind"}})
    refused("prepared by other.Kind")
    change(folder / FACTS, threshold={"kind": "conformal", "alpha": 0.05})
    refused("calibration.npz is missing")
    assert deepsad_pl.load(run_dir)


def test_a_run_of_an_earlier_release_gets_its_detector(
    trained: Path, run_dir: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run_dir / "detector")
    config = OmegaConf.load(run_dir / "config.yaml")
    del config["threshold"]  # which came with the detector
    OmegaConf.save(config, run_dir / "config.yaml")
    monkeypatch.setattr("deepsad_pl.experiment.run._train_and_score", None)
    test = split_rows(read_table(trained.parents[3] / "odds" / "thyroid.npz")[1], 0)[1]
    detector = deepsad_pl.load(run_dir)
    assert detector.score(rows[test]) == pytest.approx(read_scores(run_dir)[1], rel=1e-5)
    assert (run_dir / "detector" / FACTS).read_bytes() == (trained / "detector" / FACTS).read_bytes()


def test_a_damaged_run_of_an_earlier_release_is_refused_by_name(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(run_dir / "detector")
    model = run_dir / "checkpoints" / "model.npz"
    whole = model.read_bytes()
    model.write_bytes(whole[:100])
    with pytest.raises(DeepSADError, match=f"the detector of {run_dir} cannot be made .* is not a readable model"):
        deepsad_pl.load(run_dir)
    model.unlink()
    with pytest.raises(DeepSADError, match=f"the detector of {run_dir} cannot be made .*model.npz cannot be read"):
        deepsad_pl.load(run_dir)
    model.write_bytes(whole)
    (other := tmp_path / "other").mkdir()
    write_odds(other, "thyroid", rows=100)
    with pytest.raises(DeepSADError, match=f"{run_dir} cannot be used, since its data or its code have changed"):
        deepsad_pl.load(run_dir, data_dir=other)
    # Nor is the record said to be invalid.
    assert "not a valid record" not in caplog.text
    (run_dir / "metrics.json").unlink()
    with pytest.raises(DeepSADError, match="does not hold a finished run"):
        deepsad_pl.load(run_dir)
    with pytest.raises(DeepSADError, match="there is no folder"):
        deepsad_pl.load(tmp_path / "nowhere")
