"""An estimator's scores are those of the command with the same settings, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import own_tables
import pandas as pd
import pytest
from planned import is_shallow, settings_of
from public_estimators import BY_METHOD
from sklearn.base import clone

from deepsad_pl import DeepSAD, TabICL, list_methods
from deepsad_pl.common.records import read_scores
from deepsad_pl.estimators.fit_detector import composer, rows_words


def test_every_method_has_an_estimator() -> None:
    assert {*BY_METHOD, TabICL()._method()} == {*list_methods()}


@pytest.mark.parametrize("method", BY_METHOD)
def test_the_defaults_are_those_of_the_method(method: str) -> None:
    estimator = BY_METHOD[method]
    words = [*rows_words(), *estimator._words(estimator.get_params(), are_rows=True)]
    chosen = ("dataset=table", "dataset.path=in_memory", f"method={method}", "threshold=quantile", "logger=none")
    # A fit of scikit-learn selects nothing, and the selection of SSAD takes 50 fits.
    fast = ("method.selection=none",) if method.startswith("ssad_") else ()
    assert composer().settings(words) == settings_of(*chosen, *fast)


@pytest.mark.parametrize(
    "method",
    # The selection of SSAD takes 50 fits.
    [pytest.param(method, marks=pytest.mark.slow) if method.startswith("ssad_") else method for method in BY_METHOD],
)
def test_a_table_is_scored_as_by_the_command(method: str, tmp_path: Path, experiment: Callable[..., Any]) -> None:
    own_tables.parts().to_csv(tmp_path / "parts.csv", index=False)
    table = pd.read_csv(tmp_path / "parts.csv")
    run = experiment(
        *("dataset=table", f"dataset.path={tmp_path / 'parts.csv'}", "dataset.label=quality", "dataset.normal=[ok]"),
        *("dataset.anomaly=[scrap]", "dataset.drop=[truth]", "dataset.id=part", f"method={method}"),
        *("threshold=quantile", "seed=3", "trainer.max_epochs=2", "trainer.threads=1", "threshold.alpha=0.1"),
    )
    y = table["quality"].map({"ok": 1, "scrap": -1}).fillna(0)
    x = table.drop(columns=["part", "quality", "truth"])
    settings = {"max_epochs": 2, "random_state": 3, "alpha": 0.1, "overrides": ["trainer.threads=1"]}
    settings |= {"selection": "holdout"} if method.startswith("ssad_") else {}
    if "max_epochs" not in BY_METHOD[method].get_params():
        # Nothing is trained for epochs.
        del settings["max_epochs"]
    estimator = clone(BY_METHOD[method]).set_params(**settings)
    found = -estimator.fit(x, y).score_samples(x)
    scores = read_scores(run.run_dir)[1]
    # The scores of a network are written as the shortest decimals of float32.
    kind = np.float64 if is_shallow(method) else np.float32
    assert np.array_equal(found, found.astype(kind))
    assert np.array_equal(found.astype(kind), scores.astype(kind))
    assert estimator.threshold_ == run.record["threshold"]["value"]
    assert [*estimator.feature_names_in_] == [*x]


def test_an_array_is_scored_as_by_the_command(tmp_path: Path, experiment: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(333, 11)) * 10.0 ** rng.integers(-3, 4, 11)
    x[5, 3] = np.nan
    y = rng.choice([-1, 0, 1], 333, p=[0.05, 0.9, 0.05])
    np.savez(tmp_path / "rows.npz", X=x, y=y)
    run = experiment(
        *("dataset=table", f"dataset.path={tmp_path / 'rows.npz'}", "dataset.label=y", "method.eta=2"),
        *(
            "method.lr=[1e-3]",
            "method.epochs=[3]",
            "pretrain.lr=[1e-3,1e-4]",
            "pretrain.epochs=[1,1]",
            "trainer.threads=1",
        ),
    )
    estimator = DeepSAD(
        **{"eta": 2, "lr": 1e-3, "epochs": 3, "pretrain_epochs": (1, 1), "threshold": "conformal"},
        overrides=["trainer.threads=1"],
    )
    found = -estimator.fit(x, y).score_samples(x)
    assert np.array_equal(found.astype(np.float32), read_scores(run.run_dir)[1].astype(np.float32))
    assert estimator.threshold_ == run.record["threshold"]["value"]
