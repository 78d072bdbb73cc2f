"""For every method, the detector of a finished run gives raw input the scores of the run's test set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planned import EACH_METHOD
from sklearn.datasets import load_digits
from tiny_data import write_odds

import deepsad_pl
from deepsad_pl.common.records import read_scores
from deepsad_pl.data.odds import read_table
from deepsad_pl.data.sources import split_rows
from deepsad_pl.experiment.run import Outcome

Experiment = Callable[..., Outcome]
SHORT = "trainer.max_epochs=2"


@pytest.mark.parametrize("method", EACH_METHOD)
def test_raw_digits_get_the_scores_of_the_run(experiment: Experiment, method: str) -> None:
    outcome = experiment(f"method={method}", SHORT)
    data = load_digits()
    x, test = data.images.astype(np.uint8), split_rows(data.target, 0)[1]
    found = deepsad_pl.load(outcome.run_dir).score(x[test])
    assert found.dtype == np.float64
    assert found == pytest.approx(read_scores(outcome.run_dir)[1], rel=1e-5, abs=0)


@pytest.mark.parametrize("method", EACH_METHOD)
def test_raw_rows_get_the_scores_of_the_run(experiment: Experiment, tmp_path: Path, method: str) -> None:
    file = write_odds(tmp_path, "cardio", rows=200, outliers=50)
    words = ("dataset=cardio", f"data_dir={tmp_path}", f"method={method}", SHORT, "scenario.gamma_l=0.1")
    outcome = experiment(*words)
    x, y = read_table(file)
    # In units other than those of the network's input.
    found = deepsad_pl.load(outcome.run_dir).score(x[split_rows(y, 0)[1]])
    assert found == pytest.approx(read_scores(outcome.run_dir)[1], rel=1e-5, abs=0)
