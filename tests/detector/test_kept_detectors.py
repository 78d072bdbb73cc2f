"""Which runs keep a detector, and what is in it: stacks, repeated runs, own data with named columns."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from stacks import SHORT, outcomes, together
from tiny_data import write_odds

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_scores
from deepsad_pl.data.odds import read_table
from deepsad_pl.data.sources import as_source, split_rows
from deepsad_pl.detector.detector_folder import FACTS, read_facts, write_detector
from deepsad_pl.detector.inputs import Inputs
from deepsad_pl.experiment.run import Outcome


def test_experiments_of_a_stack_keep_their_detectors(tmp_path: Path) -> None:
    cells = [("logger=none", *SHORT, f"method.eta={eta}") for eta in (1, 2)]
    data = load_digits()
    x = data.images.astype(np.uint8)[split_rows(data.target, 0)[1]]
    for outcome in outcomes(together(tmp_path, *cells)):
        assert outcome.record["trainer"]["replicas"] == 2
        found = deepsad_pl.load(outcome.run_dir).score(x)
        assert found == pytest.approx(read_scores(outcome.run_dir)[1], rel=1e-5)


def test_a_forced_run_has_no_detector_until_it_ends(
    experiment: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("method=iforest_raw", "method.trees=20")
    run_dir = experiment(*words).run_dir
    written = (run_dir / "detector" / FACTS).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("deepsad_pl.experiment.run.keep_detector", None)
        with pytest.raises(TypeError):
            experiment(*words, "force=true")
    assert not (run_dir / "detector").exists()
    assert not (run_dir / "metrics.json").exists()
    experiment(*words)
    assert (run_dir / "detector" / FACTS).read_bytes() == written


def test_a_detector_describes_its_input_without_a_pickle(experiment: Callable[..., Outcome]) -> None:
    outcome = experiment("method=ssad_hybrid", "trainer.max_epochs=1")
    folder = outcome.run_dir / "detector"
    assert {path.name for path in folder.iterdir()} == {FACTS, "module.ckpt", "model.npz", "references.npz"}
    said = json.loads((folder / FACTS).read_text())
    assert (said["dataset"], said["method"], said["hash"]) == ("digits", "ssad_hybrid", outcome.record["hash"])
    assert said["target"] == "deepsad_pl.methods.autoencoder.AutoencoderModule"
    assert said["inputs"] == {
        "shape": [1, 8, 8],
        "scale": 16.0,
        "columns": None,
        "preparation": None,
        "id_column": None,
    }


@pytest.mark.parametrize("kind", ["conformal", "quantile"])
def test_the_detector_has_the_threshold_of_its_run(
    experiment: Callable[..., Outcome], tmp_path: Path, kind: str
) -> None:
    file = write_odds(tmp_path, "cardio", rows=300, outliers=60)
    words = ("dataset=cardio", f"data_dir={tmp_path}", f"threshold={kind}", "trainer.max_epochs=2")
    outcome = experiment(*words, "method.batch_size=32", "pretrain.batch_size=32")
    x, y = read_table(file)
    rows = x[split_rows(y, 0)[1]]
    detector = deepsad_pl.load(outcome.run_dir)
    score = read_scores(outcome.run_dir)[1]
    # The scaling leaves calibration rows out, and the detector must use the same scaling.
    assert detector.score(rows) == pytest.approx(score, rel=1e-5)
    expected = np.where(score > outcome.record["threshold"]["value"], -1, 1)
    assert (detector.predict(rows) != expected).sum() <= 1
    if kind == "conformal":
        clear = np.abs(score / outcome.record["threshold"]["value"] - 1) > 1e-5
        assert np.array_equal((detector.p_value(rows) <= 0.05)[clear], (expected == -1)[clear])


def test_named_columns_are_found_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)) * [1, 1000], columns=["speed", "load"])
    source = as_source((frame, np.arange(40) % 2), seed=0, scaling="zscore")
    facts = {"dataset": "mine", "method": "m", "hash": "0", "versions": {}, "target": None, "package": None}
    facts |= {"precision": "32-true", "threshold": None}
    write_detector(tmp_path, {}, Inputs.of_source(source), facts, source.x_train[:2])
    inputs = read_facts(tmp_path).inputs
    test = split_rows(np.arange(40) % 2, 0)[1]
    turned = frame.assign(other="x")[["other", "load", "speed"]].iloc[test]
    assert np.array_equal(inputs.from_frame(turned).x, source.x_test)
    with pytest.raises(
        DeepSADError, match=r"lacks the column 'load', which the training data had; did you mean loads\?"
    ):
        inputs.from_frame(frame.rename(columns={"load": "loads"}))
