"""p-values and anomalies of new data with each kind of threshold, as described in docs/thresholds.md."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tiny_data import write_odds

import deepsad_pl
from deepsad_pl import IsolationForest
from deepsad_pl.commands.score import parsed, score_new
from deepsad_pl.common.calibration_scores import read_calibration
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.odds import read_table
from deepsad_pl.experiment.run import Outcome

Experiment = Callable[..., Outcome]
LABELED = ("threshold=labeled", "threshold.share=0.5", "scenario.gamma_n=0.2")
KINDS = [("threshold=conformal",), ("threshold=quantile",), LABELED, (*LABELED, "threshold.fpr=0.2")]


def trained(experiment: Experiment, folder: Path, *words: str) -> tuple[Outcome, np.ndarray, Path]:
    """A run, the raw rows of its table and a file with them."""
    file = write_odds(folder, "cardio", rows=300, outliers=60)
    outcome = experiment("dataset=cardio", f"data_dir={folder}", "method=iforest_raw", *words)
    x = read_table(file)[0]
    pd.DataFrame(x).add_prefix("x").to_csv(folder / "new.csv", index=False)
    return outcome, x, folder / "new.csv"


def scored(outcome: Outcome, new: Path, *words: str) -> tuple[pd.DataFrame, str]:
    output = new.with_name("out.csv")
    told = score_new(parsed([f"run={outcome.run_dir}", f"input={new}", f"output={output}", *words]), Console())
    return pd.read_csv(output), told


@pytest.mark.parametrize("words", KINDS)
def test_p_values_compare_with_samples_that_are_not_known_anomalies(
    words: tuple[str, ...], experiment: Experiment, tmp_path: Path
) -> None:
    outcome, x, new = trained(experiment, tmp_path, *words)
    threshold, counts = outcome.record["threshold"], outcome.record["counts"]
    known, y = read_calibration(outcome.run_dir)
    if threshold["kind"] == "labeled":
        assert set(y.tolist()) == {-1, 1} and counts["calibration"] == len(y)
    normal = known[y != -1]
    detector = deepsad_pl.load(outcome.run_dir)
    score = detector.score(x)
    expected = np.array([(1 + sum(one >= s for one in normal)) / (1 + len(normal)) for s in score])
    anomaly = score > threshold["value"]
    assert 0 < anomaly.sum() < len(x)
    assert detector.p_value(x) == pytest.approx(expected)
    assert detector.predict(x).tolist() == np.where(anomaly, -1, 1).tolist()
    found, told = scored(outcome, new)
    assert found["p_value"].to_numpy() == pytest.approx(expected)
    assert found["anomaly"].tolist() == anomaly.astype(int).tolist()
    # Only with conformal are the anomalies those with a p-value up to alpha.
    assert (threshold["kind"] != "conformal") or anomaly.tolist() == (expected <= 0.05).tolist()
    level = " at alpha 0.05" if "alpha" in threshold else ""
    assert f", {anomaly.sum()} anomalies{level}: " in told


def test_a_quantile_accepts_another_alpha_and_a_labeled_threshold_refuses_it(
    experiment: Experiment, tmp_path: Path
) -> None:
    outcome, x, new = trained(experiment, tmp_path, "threshold=quantile")
    known, _ = read_calibration(outcome.run_dir)
    found, told = scored(outcome, new, "threshold.alpha=0.2")
    quantile = np.quantile(known, 0.8, method="inverted_cdf")
    assert found["anomaly"].tolist() == (deepsad_pl.load(outcome.run_dir).score(x) > quantile).astype(int).tolist()
    assert "at alpha 0.2" in told

    outcome, _, new = trained(experiment, tmp_path, *LABELED)
    with pytest.raises(DeepSADError, match="threshold=labeled, which has no alpha; leave it out, or repeat"):
        scored(outcome, new, "threshold.alpha=0.2")
    assert deepsad_pl.load(outcome.run_dir).threshold.alpha is None


@pytest.mark.parametrize("alpha", [0.1, np.float32(0.1), np.float64(0.1)])
def test_one_outlier_does_not_move_the_threshold_of_other_programs(alpha: float) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    detector = IsolationForest(random_state=0).fit(x).detector_.with_alpha(alpha)
    calibration = np.append(np.random.default_rng(1).normal(1, 0.1, 400), 1e6)
    detector._calibration = (calibration, np.zeros(401, np.int64))
    value = detector.threshold_value()
    assert 0 < detector.threshold_value(tolerance=1e-5) - value <= 2e-5 * value
    with pytest.raises(DeepSADError, match=r"threshold\.alpha is '0\.1'; give a rate between 0 and 1"):
        detector.with_alpha("0.1")  # type: ignore[arg-type]
